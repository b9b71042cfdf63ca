"""Every model of the book on the same splits, tuned with equal effort: the tables of chapter 6.

    make leaderboard                       # the embedded data
    make leaderboard DATA=100k             # after a download: the official folds u1 … u5, and five at random
    make leaderboard DATA=1m               # 90/10, and five random folds: ten times the data, a night's work
    make leaderboard DATA=path/to/file.csv # your own table, or a folder with an unpacked MovieLens set
    make leaderboard DATA=20m-strong       # lists for people unseen, in Liang's split: benchmarks/strong.py

or python benchmarks/leaderboard.py --data latest-small; add --models "biases;ALS" for some of them only.

Models, first grids and the rule of tuning are those of `recsys_helpers.evaluation.contestants`; a model that
is entered there takes part here. Each protocol gets two tables. For "stars" each model searches inside every
training part for its least RMSE; for "lists" each one, the models of ratings included, for its best NDCG.
No test rating takes part in a search. Models whose scores are no ratings are in "lists" only. A table
without times has no temporal protocol.

Two worker processes run side by side, each with one thread; fit seconds are those of one thread. Results
are kept in benchmarks/tmp as they come, in a file for these ratings and the present code of the package,
and a rerun after an interruption continues there. In the end they are summed up in
benchmarks/results/leaderboard-DATA.json; those of your own table, in benchmarks/tmp. For 100k and 1m,
published figures are printed beside ours.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from recsys_helpers import __version__, evaluation, splits  # noqa: E402
from recsys_helpers.data import DataError, DownloadError, load_100k_folds, open_ratings  # noqa: E402
from recsys_helpers.data.editions import EDITIONS  # noqa: E402
from recsys_helpers.evaluation.contestants import (  # noqa: E402
    RANKERS,
    ROUNDS,
    SETTINGS,
    contest,
    contestants,
)
from recsys_helpers.evaluation.results import code_digest, fingerprint  # noqa: E402
from recsys_helpers.models.positive import liked_from  # noqa: E402

TABLES = {"stars": "rmse", "lists": "ndcg"}  # what each is tuned for, and ranked by
PROTOCOLS = {"100k": ("u1-u5", "5-fold", "temporal"), "1m": ("90/10", "5-fold")}  # as articles have them
OTHERWISE = ("random", "5-fold", "temporal")
KEPT = (
    "rmse", "mae", "precision", "recall", "hit_rate", "average_precision", "reciprocal_rank", "ndcg",
    "graded_ndcg", "full_average_precision", "coverage", "exposure_gini", "novelty", "diversity",
    "calibration_error", "calibration_slope", "fit_seconds", "fit_cpu_seconds", "predict_seconds",
    "rank_seconds", "search_seconds", "peak_mb", "model_mb", "job_seconds", "job_cpu_seconds",
)  # fmt: skip
KEPT_OF_FOLDS = ("rmse", "ndcg", "fit_seconds", "job_cpu_seconds")
STARS = ("rmse", "mae", "calibration_error", "calibration_slope")


# ---- what takes part ------------------------------------------------------------------------


def label_of(data, ratings):
    """What the results are filed under: an edition's name, or that of the reader's own file."""
    edition = ratings.name.removeprefix("ml-")
    if edition in PROTOCOLS or not Path(data).expanduser().exists():
        return edition
    return re.sub(r"[^\w.-]+", "-", Path(data).expanduser().resolve().stem)


def protocols_of(label, ratings):
    """The protocols for these ratings; the temporal one wants times."""
    named = PROTOCOLS.get(label, OTHERWISE)
    if ratings.timestamps is not None or "temporal" not in named:
        return named
    print("These ratings have no times: the temporal protocol is left out.")
    return tuple(name for name in named if name != "temporal")


def parts_of(data, protocol, ratings):
    """A name that `contest` knows, or ready-made parts."""
    if protocol == "u1-u5":
        return list(load_100k_folds(data if Path(data).expanduser().exists() else None))
    if protocol == "90/10":
        return [splits.random_holdout(ratings, 0.1, seed=0)]
    return protocol


# ---- what is kept ---------------------------------------------------------------------------


def summary(found, table, protocol, who="userId"):
    """Means over the folds, differences from the leader by users (in column `who`), and the single folds."""
    place = {"table": table, "protocol": protocol}
    wide = found.table.pivot_table(index="model", columns="metric", values="value", sort=False)
    rows, folds, differences = [], [], []
    for model in wide.index:
        row = {"model": model} | {name: plain(wide.loc[model].get(name)) for name in KEPT}
        rows.append(place | row | _no_stars(model, STARS))
    chosen = {(c.model, c.fold): c for c in found.chosen.itertuples()}
    for (model, fold), part in found.table.groupby(["model", "fold"], sort=False):
        values = part.set_index("metric")["value"]
        search = chosen.get((model, fold))
        choice = {name: search and getattr(search, name) for name in ("settings", "edges", "trials")}
        figures = {
            name: plain(values[name], 9) for name in ("rmse", "ndcg", "fit_seconds", "job_cpu_seconds")
        }
        row = {"model": model, "fold": int(fold)} | choice | figures
        folds.append(place | row | _no_stars(model, ("rmse",)))
    for people, users in groups_of(found.users, TABLES[table], who).items():
        differences += [place | {"people": people} | row for row in differences_of(users, TABLES[table], who)]
    return rows, differences, folds


def _no_stars(model, names):
    return dict.fromkeys(names) if model in RANKERS else {}


def groups_of(users, metric, who):
    """All users; with and without a training rating; and lists with one fallback for those without.

    What a model lists for somebody unknown is no merit of what it has learned. With the fallback all models
    list for these people what popularity lists.
    """
    cold = users["train_ratings"] == 0
    out = {"all": users, "warm": users[~cold], "cold": users[cold]}
    if metric == "ndcg" and "popularity" in set(users["model"]):
        popular = users[users["model"] == "popularity"].set_index(["fold", who])["ndcg"]
        lent = popular.reindex(pd.MultiIndex.from_frame(users[["fold", who]])).to_numpy()
        out["fallback"] = users.assign(ndcg=users["ndcg"].where(~cold, lent))
    value = {"rmse": "squared_error", "ndcg": "ndcg"}[metric]
    able = {name: part.loc[part[value].notna(), who].nunique() > 1 for name, part in out.items()}
    split = able["warm"] and able["cold"]
    return {name: part for name, part in out.items() if able[name] and (name == "all" or split)}


def differences_of(users, metric, who):
    """Each model's value with its standard error, and its difference from the best, users resampled."""
    if metric == "rmse":
        sums = users.groupby("model", sort=False)[["squared_error", "ratings"]].sum()
        leader = (sums["squared_error"] / sums["ratings"]).idxmin()
    else:
        leader = users.groupby("model", sort=False)["ndcg"].mean().idxmax()
    table = evaluation.paired_differences(users, leader, metric=metric)
    common = {"metric": metric, "users": users[who].nunique(), "leader": leader}
    return [
        {"model": model} | common | {name: plain(value) for name, value in row.items()}
        for model, row in table.iterrows()
    ]


def first_fold(found):
    """The comparison on the first split alone, such as u1."""
    return found._replace(**{name: table[table["fold"] == 0] for name, table in found._asdict().items()})


def beside_published(data, rows):
    """Published figures with our nearest model, or our best, under the same protocol."""
    board = pd.DataFrame(rows).query("table == 'stars'").set_index(["protocol", "model"])["rmse"]
    published = pd.read_csv(ROOT / "benchmarks" / "literature.csv", dtype={"data": str})
    out = []
    for line in published[published["data"] == data].itertuples():
        if line.protocol not in board.index:
            continue
        ours = board.loc[line.protocol]
        name = ours.idxmin() if line.ours == "best" else line.ours
        if name in ours.index:
            figures = {"ours": name, "our_rmse": ours[name]}
            out.append({"protocol": line.protocol, "model": line.model, "rmse": line.rmse} | figures)
    return out


def plain(value, digits=6):
    """A number that JSON has; a difference without any spread has an infinite ratio, and no interval."""
    return None if value is None or not np.isfinite(value) else float(f"{float(value):.{digits}g}")


def machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    load = [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None
    versions = {"recsys_helpers": __version__}
    for name in ("numpy", "scipy", "pandas", "numba", "scikit-learn", "jax", "optax"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # JAX is an extra
            versions[name] = None
    return {
        "date": time.strftime("%Y-%m-%d"), "cpu": cpu, "cores": os.cpu_count(), "load_average": load,
        "system": platform.platform(), "python": platform.python_version(), "versions": versions,
    }  # fmt: skip


def commit():
    """Of this repository; None without git."""
    words = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


# ---- the command ------------------------------------------------------------------------------


def arguments(words=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="latest-small", help="an edition's name, or a file or folder")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes; default 2")
    parser.add_argument("--models", help="some of them, separated by ';'; printed, and kept only with --out")
    parser.add_argument("--out", type=Path, help="another file for the results")
    options = parser.parse_args(words)
    try:
        options.ratings = open_ratings(options.data)
    except (DataError, DownloadError, ValueError, OSError) as error:
        parser.error(f"--data: {error}; or one of the editions {', '.join(EDITIONS)}")
    known = contestants(options.ratings)
    options.names = options.models.split(";") if options.models else list(known)
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"--models: got {unknown}; expected some of {list(known)}")
    return options


def run(options, label, store):
    """All tables of all protocols: rows, differences and folds."""
    ratings, kept = options.ratings, ([], [], [])
    common = {"n_jobs": options.jobs, "rounds": ROUNDS, "threshold": liked_from(ratings), "path": store}
    for protocol in protocols_of(label, ratings):
        parts = parts_of(options.data, protocol, ratings)
        for table, target in TABLES.items():
            names = [name for name in options.names if target == "ndcg" or name not in RANKERS]
            if not names:
                continue
            found = contest(ratings, parts, target=target, names=names, name=protocol, **common)
            for list_, new in zip(kept, summary(found, table, protocol, ratings.user_name), strict=True):
                list_ += new
            if protocol == "u1-u5":  # most articles report on the first fold only
                kept[0].extend(summary(first_fold(found), table, "u1", ratings.user_name)[0])
    return kept


def main(words=None):
    options = arguments(words)
    started, before = time.perf_counter(), machine() | {"commit": commit()}
    ratings = options.ratings
    label = label_of(options.data, ratings)
    known = label in EDITIONS and not (options.models and options.out is None)
    tmp = ROOT / "benchmarks" / "tmp"
    target = options.out or (ROOT / "benchmarks" / "results" if known else tmp) / f"leaderboard-{label}.json"
    folder = options.out.parent if options.out else tmp
    store = folder / f"leaderboard-{label}-{fingerprint(ratings)[:6]}-{code_digest()[:10]}.jsonl"
    held = store.read_bytes().count(b"\n") if store.exists() else 0
    rows, differences, folds = run(options, label, store)
    result = {
        "command": f"make leaderboard DATA={options.data}",
        "data": ratings.name,
        "ratings": len(ratings),
        "users": ratings.n_users,
        "films": ratings.n_items,
        "liked_from": liked_from(ratings),
        "settings": SETTINGS,
        "rounds": ROUNDS,
        "workers": options.jobs,
        "wall_seconds": round(time.perf_counter() - started, 1),
        "taken_over": held,
        "job_cpu_seconds": round(sum(row["job_cpu_seconds"] for row in folds), 1),
        "machine": before,
        "grids": {name: contestants(ratings)[name][1] for name in options.names},
        "rows": rows,
        "differences": differences,
        "folds": folds,
        "beside": beside_published(label, rows),
    }
    show(result)
    if options.models and not options.out:
        print("Not kept: not all models took part.")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    print(f"Written: {target}")


def show(result):
    """The tables in the order of their places, and the published figures."""
    board = pd.DataFrame(result["rows"])
    columns = ["model", "rmse", "ndcg", "coverage", "fit_cpu_seconds", "peak_mb", "job_cpu_seconds"]
    for (protocol, table), part in board.groupby(["protocol", "table"], sort=False):
        by = TABLES[table]
        part = part.sort_values(by, ascending=by == "rmse")
        print(f"\n{result['data']}, {protocol}: {table}, each model tuned for {by.upper()}")
        print(part[columns].round(4).to_string(index=False))
    if result["beside"]:
        print("\nPublished figures, and ours under the same protocol:")
        print(pd.DataFrame(result["beside"]).round(4).to_string(index=False))
    print({key: result[key] for key in ("wall_seconds", "job_cpu_seconds", "taken_over")})


if __name__ == "__main__":
    main()
