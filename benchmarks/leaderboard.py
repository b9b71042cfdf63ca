"""Every model of the book on the same splits, tuned with equal effort: the tables of chapter 6.

    make leaderboard                           # the embedded data
    make leaderboard DATA=100k                 # after a download: the official folds u1 … u5, and random ones
    make leaderboard DATA=1m                   # 90/10, and five random folds: a night's work
    make leaderboard DATA=path/to/ratings.csv  # a file of ratings, or a folder with a MovieLens set

or python benchmarks/leaderboard.py --data latest-small; add --models "biases;ALS" for some of them only.

There are two tables. In the first, stars, each model chooses its settings by RMSE; models whose scores are no
ratings have no place there. In the second, lists, every model chooses by NDCG at 10. Who takes part and the
grids are in `recsys_helpers.evaluation.contestants`: SETTINGS settings around the package's defaults, ranks
beginning at the same values in all families. They are tried inside every training part, which is cut again
in the way of its protocol (a random fifth, or the latest fifth in time). Then the grid is moved so that the
winner lies in its middle, and tried again, until a round brings nothing better, or there were ROUNDS. The
best of all is fitted on the whole training part. No test rating takes part. Where a winner still lies at the
edge of what was tried, the results say so.

Lists are compared on the first of the five folds and in time. People without any training rating get the
list of the most popular films from every model there, so that the models are not told apart by what they say
to strangers; `ndcg_warm` is about the others.

Two worker processes run side by side, each with one thread; fit seconds are those of one thread. Results
are kept in benchmarks/tmp as they come, in a file for the present state of the package's code, and a
rerun after an interruption continues there. In the end they are summed up in
benchmarks/results/leaderboard-DATA.json. For 100k and 1m, published figures are printed beside ours.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import platform
import re
import sys
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import pandas as pd  # noqa: E402

from recsys_helpers import __version__, evaluation, load_movielens, splits  # noqa: E402
from recsys_helpers.data import load_100k_folds, open_ratings  # noqa: E402
from recsys_helpers.evaluation.contestants import (  # noqa: E402
    RANK,
    RANKERS,
    ROUNDS,
    SETTINGS,
    contest,
    contestants,
)
from recsys_helpers.evaluation.results import code_digest  # noqa: E402

TABLES = {"stars": "rmse", "lists": "ndcg"}  # and what is chosen by
PROTOCOLS = {
    "latest-small": {"stars": ("5-fold", "temporal"), "lists": ("fold 1", "temporal")},
    "100k": {"stars": ("u1-u5", "5-fold", "temporal"), "lists": ("u1", "temporal")},
    "1m": {"stars": ("90/10", "5-fold"), "lists": ("90/10",)},
}
KEPT = (
    "rmse", "mae", "precision", "recall", "hit_rate", "average_precision", "reciprocal_rank", "ndcg",
    "graded_ndcg", "full_average_precision", "coverage", "exposure_gini", "novelty", "diversity",
    "calibration_error", "calibration_slope", "fit_seconds", "fit_cpu_seconds", "predict_seconds",
    "rank_seconds", "search_seconds", "peak_mb", "model_mb", "job_seconds", "job_cpu_seconds",
)  # fmt: skip
STRANGERS = "popularity"  # who speaks to people without any training rating


# ---- what is compared ---------------------------------------------------------------------


def open_data(data):
    """The ratings that DATA names, the protocols of each table, and a name for the file of results."""
    if data in PROTOCOLS:
        return load_movielens(data), PROTOCOLS[data], data
    try:
        ratings = open_ratings(data)
    except FileNotFoundError as error:
        near = difflib.get_close_matches(data, PROTOCOLS, n=1)
        raise SystemExit(f"data: {error}" + (f"; did you mean {near[0]!r}?" if near else "")) from None
    late = () if ratings.timestamps is None else ("temporal",)
    protocols = {"stars": ("5-fold", *late), "lists": ("fold 1", *late)}
    return ratings, protocols, re.sub(r"[^A-Za-z0-9]+", "-", Path(data).resolve().name.split(".")[0])


def parts_of(protocol, ratings):
    if protocol == "u1-u5":
        return list(load_100k_folds())
    if protocol == "u1":
        return list(load_100k_folds())[:1]
    if protocol == "90/10":
        return splits.random_holdout(ratings, 0.1, seed=0)
    if protocol == "fold 1":
        return evaluation.protocol_splits(ratings, "5-fold")[:1]
    return protocol


# ---- what is kept ---------------------------------------------------------------------------


def one_answer_to_strangers(users):
    """The table of users in which whoever has no training rating is told what is popular, by every model.

    Left as it is where that model took no part.
    """
    if STRANGERS not in set(users["model"]):
        return users
    who = users.columns[0]
    cold = users["train_ratings"] == 0
    popular = users[users["model"] == STRANGERS].set_index(["fold", who])["ndcg"]
    index = pd.MultiIndex.from_frame(users.loc[cold, ["fold", who]])
    users = users.copy()
    users.loc[cold, "ndcg"] = popular.reindex(index).to_numpy()
    return users


def views(found, table):
    """By name, the users behind each figure that models are compared by."""
    if table == "stars":
        return {"rmse": found.users, "ndcg": found.users}
    warm = found.users[found.users["train_ratings"] > 0]
    return {"ndcg": one_answer_to_strangers(found.users), "ndcg_own": found.users, "ndcg_warm": warm}


def summary(found, table, protocol):
    """Means over the folds with bootstrap errors, differences from the best, and the single folds."""
    place = {"table": table, "protocol": protocol}
    wide = found.table.pivot_table(index="model", columns="metric", values="value", sort=False)
    figures, differences = {}, []
    for name, users in views(found, table).items():
        metric = name if name == "rmse" else "ndcg"
        if metric == "rmse":
            leader = wide["rmse"].idxmin()
        else:
            leader = users.groupby("model", sort=False)["ndcg"].mean().idxmax()
        compared = evaluation.paired_differences(users, leader, metric=metric)
        figures[name], figures[f"{name}_se"] = compared["value"], compared["value_se"]
        keys = ("difference", "se", "low", "high", "low_all", "high_all", "p", "p_holm")
        differences += [
            place
            | {"metric": name, "model": model, "leader": leader}
            | {key: plain(row[key]) for key in keys}
            for model, row in compared.iterrows()
        ]
    rows, folds = [], []
    for model in wide.index:
        row = place | {"model": model} | {name: plain(wide.loc[model].get(name)) for name in KEPT}
        row |= {name: plain(values[model]) for name, values in figures.items() if name not in KEPT}
        if table == "lists":
            row["ndcg"] = plain(figures["ndcg"][model])
            row |= dict.fromkeys(("rmse", "mae", "calibration_error", "calibration_slope"))
        rows.append(row)
    chosen = {(c.model, c.fold): c for c in found.chosen.itertuples()}
    for (model, fold), part in found.table.groupby(["model", "fold"], sort=False):
        values = part.set_index("metric")["value"]
        search = chosen.get((model, fold))
        folds.append(
            place
            | {"model": model, "fold": int(fold)}
            | {name: search and getattr(search, name) for name in ("settings", "edges", "trials")}
            | {name: plain(values[name], 9) for name in ("rmse", "ndcg", "fit_seconds")}
        )
    return rows, differences, folds


def counts_of_people(found):
    """How many people with something to find each fold has, and how many of them have no training rating."""
    users = found.users[(found.users["model"] == found.users["model"].iloc[0]) & found.users["ndcg"].notna()]
    return {"people": len(users), "strangers": int((users["train_ratings"] == 0).sum())}


def first_fold(found):
    """The comparison on the first split alone, such as u1."""
    return found._replace(**{name: table[table["fold"] == 0] for name, table in found._asdict().items()})


def beside_published(data, rows):
    """Published figures with our nearest model, or our best, under the same protocol."""
    board = pd.DataFrame(rows).dropna(subset="rmse").set_index(["protocol", "model"])
    published = pd.read_csv(ROOT / "benchmarks" / "literature.csv", dtype={"data": str})
    out = []
    for line in published[published["data"] == data].itertuples():
        if line.protocol not in board.index:
            continue
        ours = board.loc[line.protocol]
        name = ours["rmse"].idxmin() if line.ours == "best" else line.ours
        if name in ours.index:
            figures = {"ours": name, "our_rmse": ours.loc[name, "rmse"], "our_se": ours.loc[name, "rmse_se"]}
            out.append({"protocol": line.protocol, "model": line.model, "rmse": line.rmse} | figures)
    return out


def plain(value, digits=6):
    return None if value is None or pd.isna(value) else float(f"{float(value):.{digits}g}")


def machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    load = [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None
    names = ("numpy", "scipy", "pandas", "numba", "scikit-learn", "jax", "optax")
    return {
        "date": time.strftime("%Y-%m-%d"), "cpu": cpu, "cores": os.cpu_count(), "load_average": load,
        "system": platform.platform(), "python": platform.python_version(),
        "versions": {"recsys_helpers": __version__} | {name: version(name) for name in names},
    }  # fmt: skip


def arguments(words=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="latest-small", help="an edition's name, a file, or a folder")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes; default 2")
    parser.add_argument("--models", help="some of them, separated by ';'; printed, and kept only with --out")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of each search; default {ROUNDS}")
    parser.add_argument("--out", type=Path, help="another file for the results")
    return parser, parser.parse_args(words)


def main(words=None):
    parser, options = arguments(words)
    started, before = time.perf_counter(), machine()
    ratings, protocols, label = open_data(options.data)
    grids = {name: axes for name, (_, axes) in contestants(ratings).items()}
    names = options.models.split(";") if options.models else list(grids)
    unknown = [name for name in names if name not in grids]
    if unknown:
        parser.error(f"models: got {unknown}; expected some of {list(grids)}")
    folder = options.out.parent if options.out else ROOT / "benchmarks" / "tmp"
    store = folder / f"leaderboard-{label}-{code_digest()[:10]}.jsonl"
    held = store.read_bytes().count(b"\n") if store.exists() else 0
    rows, differences, folds, people = [], [], [], []
    for table, target in TABLES.items():
        own = [name for name in names if target == "ndcg" or name not in RANKERS]
        for protocol in protocols[table] if own else ():
            found = contest(
                ratings, parts_of(protocol, ratings), target=target, names=own, rounds=options.rounds,
                name=protocol, path=store, n_jobs=options.jobs,
            )  # fmt: skip
            for kept, new in zip((rows, differences, folds), summary(found, table, protocol), strict=True):
                kept += new
            people.append({"table": table, "protocol": protocol} | counts_of_people(found))
            if protocol == "u1-u5":  # most articles report on the first fold only
                rows += summary(first_fold(found), table, "u1")[0]
    jobs = pd.DataFrame(rows).set_index(["table", "protocol", "model"])
    number = pd.DataFrame(folds).groupby(["table", "protocol", "model"]).size()
    result = {
        "command": f"make leaderboard DATA={options.data}",
        "data": ratings.name,
        "ratings": len(ratings),
        "users": ratings.n_users,
        "films": ratings.n_items,
        "settings": SETTINGS,
        "rounds": options.rounds,
        "first_rank": RANK,
        "workers": options.jobs,
        "wall_seconds": round(time.perf_counter() - started, 1),
        "taken_over": held,
        "job_seconds": round(float((jobs["job_seconds"] * number).sum()), 1),
        "job_cpu_seconds": round(float((jobs["job_cpu_seconds"] * number).sum()), 1),
        "code": code_digest(),
        "machine": before,
        "grids": {name: grids[name] for name in names},
        "people": people,
        "rows": rows,
        "differences": differences,
        "folds": folds,
        "beside": beside_published(options.data, rows),
    }
    show = ["rmse", "rmse_se", "ndcg", "ndcg_se", "coverage", "fit_cpu_seconds", "peak_mb", "job_cpu_seconds"]
    print(jobs[[column for column in show if column in jobs]].round(4).to_string())
    if result["beside"]:
        print("Published figures, and ours under the same protocol:")
        print(pd.DataFrame(result["beside"]).round(4).to_string(index=False))
    print({key: result[key] for key in ("wall_seconds", "job_seconds", "job_cpu_seconds", "taken_over")})
    if options.models and not options.out:
        print("Not kept: not all models took part.")
        return
    target = options.out or ROOT / "benchmarks" / "results" / f"leaderboard-{label}.json"
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(f"Written: {target}")


if __name__ == "__main__":
    main()
