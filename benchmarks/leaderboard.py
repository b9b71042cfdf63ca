"""Every model of the book on the same splits, tuned with equal effort: the table of chapter 6.

    make leaderboard                 # the embedded data
    make leaderboard DATA=100k       # after a download: the official folds u1 … u5, and five random ones
    make leaderboard DATA=1m         # 90/10, and five random folds: ten times the data, a night's work

or python benchmarks/leaderboard.py --data latest-small; add --models "biases;ALS" for some of them only.

One rule of tuning serves all models. Each has a grid of SETTINGS settings with the package's defaults in its
middle. They are tried inside every training part, which is cut again in the way of its protocol (a random
fifth, or the latest fifth in time). Then the grid is moved so that the winner lies in its middle
(`evaluation.moved_grid`), and tried again, until a round brings nothing better, or there were ROUNDS. So a
winner is not left at the edge of what was tried. The best of all is fitted on the whole training part. No
test rating takes part. PureSVD, whose scores are not stars, chooses by NDCG at 10, all others by RMSE.
The global mean has nothing to choose.

Two worker processes run side by side, each with one thread; fit seconds are those of one thread. Results
are kept in benchmarks/tmp as they come, in a file for the present state of the package's code, and a
rerun after an interruption continues there. In the end they are summed up in
benchmarks/results/leaderboard-DATA.json. For 100k and 1m, published figures are printed beside ours.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import pandas as pd  # noqa: E402

from recsys_helpers import (  # noqa: E402
    NMF,
    BiasedALS,
    BiasModel,
    FunkSVD,
    GlobalMean,
    GradientMF,
    ImputedSVD,
    ItemKNN,
    NuclearNormCompletion,
    Popularity,
    PureSVD,
    SVDpp,
    UserKNN,
    __version__,
    evaluation,
    load_movielens,
    splits,
)
from recsys_helpers.data import load_100k_folds  # noqa: E402

SETTINGS = 8  # for each model, in each round
ROUNDS = 4  # at most
PROTOCOLS = {
    "latest-small": ("random", "5-fold", "temporal"),
    "100k": ("u1-u5", "5-fold", "temporal"),
    "1m": ("90/10", "5-fold"),
}
KEPT = (
    "rmse", "mae", "precision", "recall", "hit_rate", "average_precision", "reciprocal_rank", "ndcg",
    "graded_ndcg", "full_average_precision", "coverage", "exposure_gini", "novelty", "diversity",
    "calibration_error", "calibration_slope", "fit_seconds", "fit_cpu_seconds", "predict_seconds",
    "rank_seconds", "search_seconds", "peak_mb", "model_mb", "job_seconds", "job_cpu_seconds",
)  # fmt: skip


def around(center, n, step):
    """An axis of n values, each `step` times the one before, with the center in its middle."""
    values = [center * step ** (j - (n - 1) / 2) for j in range(n)]
    return [round(v) if isinstance(center, int) else float(f"{v:.3g}") for v in values]


QUIET = {"verbose": False}
L2 = {"reg": around(10.0, 4, 1.5), "bias_reg": around(3.0, 2, 2)}  # sums of squares, as ALS has them
# Name: (model, axes of the first grid).
MODELS = {
    "global mean": (GlobalMean(), None),
    "biases": (BiasModel(), {"user_damping": around(5.0, 4, 2), "item_damping": around(5.0, 2, 2)}),
    "popularity": (Popularity(), {"damping": around(5.0, 8, 2)}),
    "user neighbors": (
        UserKNN(**QUIET),
        {
            "similarity": ["cosine", "centered_cosine"],
            "shrink": [0.0, 20.0],
            "n_neighbors": around(40, 2, 2),
        },
    ),
    "item neighbors": (
        ItemKNN(**QUIET),
        {
            "similarity": ["cosine", "adjusted_cosine"],
            "shrink": [0.0, 20.0],
            "n_neighbors": around(40, 2, 2),
        },
    ),
    "imputed SVD": (ImputedSVD(), {"n_factors": around(10, 8, 1.4)}),
    "PureSVD": (PureSVD(), {"n_factors": around(50, 8, 1.4)}),
    "FunkSVD": (
        FunkSVD(**QUIET),
        {"n_factors": around(64, 2, 4), "reg": around(0.08, 2, 2), "n_epochs": around(40, 2, 2)},
    ),
    "SVD++": (
        SVDpp(**QUIET),
        {"n_factors": around(64, 2, 4), "reg": around(0.05, 2, 2), "n_epochs": around(65, 2, 2)},
    ),
    "NMF": (NMF(**QUIET), {"n_factors": around(16, 2, 2), "reg": around(0.15, 4, 1.5)}),
    "ALS": (BiasedALS(n_sweeps=15, **QUIET), L2),
    # Weighted by numbers of ratings, the penalties have another unit: the middle is what chapter 4 found.
    "ALS, weighted": (
        BiasedALS(weighted=True, n_sweeps=15, **QUIET),
        {"reg": around(0.15, 4, 1.5), "bias_reg": around(0.15, 2, 2)},
    ),
    "ALS, genres": (BiasedALS(genres=True, n_sweeps=15, **QUIET), L2),
    "Adam": (GradientMF(**QUIET), L2),
    "nuclear norm": (NuclearNormCompletion(**QUIET), L2 | {"reg": around(12.0, 4, 1.5)}),
}
RANKERS = ("PureSVD",)


def contestants(protocol):
    """The models of a protocol, each of which searches inside whatever it is fitted on."""
    inner = "temporal" if protocol == "temporal" else "random"
    out = {}
    for name, (model, axes) in MODELS.items():
        if axes is None:
            out[name] = model
            continue
        target = "ndcg" if name in RANKERS else "rmse"
        out[name] = evaluation.Tuned(model, axes, target=target, inner=inner, rounds=ROUNDS)
    return out


def parts_of(data, protocol, ratings):
    if protocol == "u1-u5":
        return list(load_100k_folds())
    if protocol == "90/10":
        return [splits.random_holdout(ratings, 0.1, seed=0)]
    return evaluation.protocol_splits(ratings, protocol, seed=0)


# ---- what is kept ---------------------------------------------------------------------------


def summary(found, protocol):
    """Means over the folds with bootstrap errors, differences from the best, and the single folds."""
    wide = found.table.pivot_table(index="model", columns="metric", values="value", sort=False)
    errors, differences = {"rmse": {}, "ndcg": {}}, []
    for metric in ("rmse", "ndcg"):
        able = [name for name in wide.index if metric == "ndcg" or name not in RANKERS]
        if not able:
            continue
        leader = wide.loc[able, metric].idxmin() if metric == "rmse" else wide[metric].idxmax()
        users = found.users[found.users["model"].isin(able)]
        table = evaluation.paired_differences(users, leader, metric=metric)
        errors[metric] = table["value_se"]
        for model, row in table.iterrows():
            figures = {key: plain(row[key]) for key in ("difference", "se", "low", "high", "p", "p_holm")}
            differences.append(
                {"protocol": protocol, "metric": metric, "model": model, "leader": leader} | figures
            )
    rows, folds = [], []
    for model in wide.index:
        row = {"protocol": protocol, "model": model}
        row |= {name: plain(wide.loc[model].get(name)) for name in KEPT}
        row["rmse_se"], row["ndcg_se"] = (plain(errors[m].get(model)) for m in ("rmse", "ndcg"))
        if model in RANKERS:  # its scores are not stars
            row |= dict.fromkeys(("rmse", "mae", "calibration_error", "calibration_slope"))
        rows.append(row)
    chosen = {(c.model, c.fold): c for c in found.chosen.itertuples()}
    for (model, fold), part in found.table.groupby(["model", "fold"], sort=False):
        values = part.set_index("metric")["value"]
        search = chosen.get((model, fold))
        folds.append(
            {"protocol": protocol, "model": model, "fold": int(fold)}
            | {name: search and getattr(search, name) for name in ("settings", "edges", "trials")}
            | {name: plain(values[name], 9) for name in ("rmse", "ndcg", "fit_seconds")}
        )
    return rows, differences, folds


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


def code_digest():
    """Of all that the package computes with: results of other code are not taken over."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "recsys_helpers").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


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
    parser.add_argument("--data", default="latest-small", choices=list(PROTOCOLS))
    parser.add_argument("--jobs", type=int, default=2, help="worker processes; default 2")
    parser.add_argument("--models", help="some of them, separated by ';'; printed, and kept only with --out")
    parser.add_argument("--out", type=Path, help="another file for the results")
    options = parser.parse_args(words)
    options.names = options.models.split(";") if options.models else list(MODELS)
    unknown = [name for name in options.names if name not in MODELS]
    if unknown:
        parser.error(f"models: got {unknown}; expected some of {list(MODELS)}")
    return options


def main(words=None):
    options = arguments(words)
    started, before = time.perf_counter(), machine()
    ratings = load_movielens(options.data)
    folder = options.out.parent if options.out else ROOT / "benchmarks" / "tmp"
    store = folder / f"leaderboard-{options.data}-{code_digest()}.jsonl"
    held = store.read_bytes().count(b"\n") if store.exists() else 0
    rows, differences, folds = [], [], []
    for protocol in PROTOCOLS[options.data]:
        models = {name: model for name, model in contestants(protocol).items() if name in options.names}
        found = evaluation.compare(
            models, ratings, parts_of(options.data, protocol, ratings), name=protocol, path=store,
            n_jobs=options.jobs,
        )  # fmt: skip
        for kept, new in zip((rows, differences, folds), summary(found, protocol), strict=True):
            kept += new
        if protocol == "u1-u5":  # most articles report on the first fold only
            rows += summary(first_fold(found), "u1")[0]
    jobs = pd.DataFrame(rows).set_index(["protocol", "model"])
    per_protocol = pd.DataFrame(folds).groupby(["protocol", "model"]).size()
    result = {
        "command": f"make leaderboard DATA={options.data}",
        "data": ratings.name,
        "ratings": len(ratings),
        "users": ratings.n_users,
        "films": ratings.n_items,
        "settings": SETTINGS,
        "rounds": ROUNDS,
        "workers": options.jobs,
        "wall_seconds": round(time.perf_counter() - started, 1),
        "taken_over": held,
        "job_seconds": round(float((jobs["job_seconds"] * per_protocol).sum()), 1),
        "job_cpu_seconds": round(float((jobs["job_cpu_seconds"] * per_protocol).sum()), 1),
        "machine": before,
        "grids": {name: MODELS[name][1] for name in options.names},
        "rows": rows,
        "differences": differences,
        "folds": folds,
        "beside": beside_published(options.data, rows),
    }
    show = ["rmse", "rmse_se", "ndcg", "ndcg_se", "coverage", "fit_cpu_seconds", "peak_mb", "job_cpu_seconds"]
    print(jobs[show].round(4).to_string())
    if result["beside"]:
        print("Published figures, and ours under the same protocol:")
        print(pd.DataFrame(result["beside"]).round(4).to_string(index=False))
    print({key: result[key] for key in ("wall_seconds", "job_seconds", "job_cpu_seconds", "taken_over")})
    if options.models and not options.out:
        print("Not kept: not all models took part.")
        return
    target = options.out or ROOT / "benchmarks" / "results" / f"leaderboard-{options.data}.json"
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(f"Written: {target}")


if __name__ == "__main__":
    main()
