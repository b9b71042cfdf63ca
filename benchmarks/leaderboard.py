"""Every model of the book on the same splits, tuned with equal effort: the table of chapter 6.

    make leaderboard                 # the embedded data
    make leaderboard DATA=100k       # after a download: the official folds u1 … u5, and five random ones
    make leaderboard DATA=1m         # 90/10, and five random folds

or python benchmarks/leaderboard.py --data latest-small. Each model has SETTINGS settings, given below.
They are tried inside every training part, which is cut again in the way of its protocol (a random fifth,
or the latest fifth in time), and the best is fitted on the whole part. No test rating takes part. PureSVD,
whose scores are not stars, chooses by NDCG at 10, all others by RMSE. The global mean has nothing to choose.

Two worker processes run side by side, each with one thread; fit seconds are those of one thread. Results
are kept in benchmarks/tmp as they come, in a file for the present state of the package's code, and a
rerun after an interruption continues there. In the end they are summed up in
benchmarks/results/leaderboard-DATA.json.
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
from itertools import product
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
    datasets,
    evaluation,
    load_movielens,
    splits,
)

SETTINGS = 8  # for each model
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


def grid(**axes):
    """All combinations of the values, as a list of settings."""
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


QUIET = {"verbose": False}
# Name: (model, settings). The values lie around those which the chapters found for a training part.
MODELS = {
    "global mean": (GlobalMean(), None),
    "biases": (BiasModel(), grid(user_damping=[1.0, 2.0, 4.0, 8.0], item_damping=[1.0, 4.0])),
    "popularity": (Popularity(), grid(damping=[0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0])),
    "user neighbors": (
        UserKNN(**QUIET),
        grid(similarity=["centered_cosine", "pearson_baseline"], shrink=[0.0, 50.0], n_neighbors=[30, 60]),
    ),
    "item neighbors": (
        ItemKNN(**QUIET),
        grid(similarity=["cosine", "adjusted_cosine"], shrink=[0.0, 20.0], n_neighbors=[20, 40]),
    ),
    "imputed SVD": (ImputedSVD(), grid(n_factors=[4, 8, 12, 16, 24, 32, 48, 64])),
    "PureSVD": (PureSVD(), grid(n_factors=[4, 8, 12, 16, 24, 32, 48, 80])),
    "FunkSVD": (FunkSVD(**QUIET), grid(n_factors=[32, 128], reg=[0.08, 0.12], n_epochs=[30, 60])),
    "SVD++": (SVDpp(**QUIET), grid(n_factors=[32, 128], reg=[0.05, 0.08], n_epochs=[30, 60])),
    "NMF": (NMF(**QUIET), grid(n_factors=[8, 16], reg=[0.1, 0.15, 0.2, 0.3])),
    "ALS": (BiasedALS(32, n_sweeps=15, **QUIET), grid(reg=[6.0, 9.0, 12.0, 16.0], bias_reg=[2.0, 4.0])),
    "ALS, weighted": (
        BiasedALS(32, weighted=True, n_sweeps=15, **QUIET),
        grid(reg=[0.1, 0.15, 0.2, 0.3], bias_reg=[0.1, 0.2]),
    ),
    "ALS, genres": (
        BiasedALS(32, genres=True, n_sweeps=15, **QUIET),
        grid(reg=[6.0, 9.0, 12.0, 16.0], bias_reg=[2.0, 4.0]),
    ),
    "Adam": (GradientMF(32, **QUIET), grid(reg=[6.0, 9.0, 12.0, 16.0], bias_reg=[2.0, 4.0])),
    "nuclear norm": (NuclearNormCompletion(**QUIET), grid(reg=[7.0, 9.0, 12.0, 16.0], bias_reg=[2.0, 4.0])),
}
RANKERS = ("PureSVD",)


def contestants(protocol):
    """The models of a protocol, each of which searches inside whatever it is fitted on."""
    inner = "temporal" if protocol == "temporal" else "random"
    out = {}
    for name, (model, settings) in MODELS.items():
        if settings is None:
            out[name] = model
            continue
        assert len(settings) == SETTINGS, f"{name} has {len(settings)} settings"
        target = "ndcg" if name in RANKERS else "rmse"
        out[name] = evaluation.Tuned(model, settings, target=target, inner=inner)
    return out


def parts_of(data, protocol, ratings):
    if protocol == "u1-u5":
        return list(datasets.load_100k_folds())
    if protocol == "90/10":
        return [splits.random_holdout(ratings, 0.1, seed=0)]
    return evaluation.protocol_splits(ratings, protocol, seed=0)


# ---- what is kept ---------------------------------------------------------------------------


def summary(found, protocol):
    """Means over the folds with bootstrap errors, differences from the best, and the single folds."""
    wide = found.table.pivot_table(index="model", columns="metric", values="value", sort=False)
    errors, differences = {}, []
    for metric in ("rmse", "ndcg"):
        users = found.users
        if metric == "rmse":
            users = users[~users["model"].isin(RANKERS)]
        better = wide[metric].drop(list(RANKERS), errors="ignore").idxmin() if metric == "rmse" else None
        leader = better or wide[metric].idxmax()
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
    chosen = {(c.model, c.fold): c.settings for c in found.chosen.itertuples()}
    for (model, fold), part in found.table.groupby(["model", "fold"], sort=False):
        values = part.set_index("metric")["value"]
        folds.append(
            {"protocol": protocol, "model": model, "fold": int(fold), "chosen": chosen.get((model, fold))}
            | {name: plain(values[name], 9) for name in ("rmse", "ndcg", "fit_seconds")}
        )
    return rows, differences, folds


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


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="latest-small", choices=list(PROTOCOLS))
    parser.add_argument("--jobs", type=int, default=2, help="worker processes; default 2")
    parser.add_argument("--models", help="some of them, separated by ';', printed and not kept")
    options = parser.parse_args()
    names = options.models.split(";") if options.models else list(MODELS)
    unknown = set(names) - set(MODELS)
    if unknown:
        parser.error(f"models: got {sorted(unknown)}; expected some of {list(MODELS)}")
    started, before = time.perf_counter(), machine()
    ratings = load_movielens(options.data)
    store = ROOT / "benchmarks" / "tmp" / f"leaderboard-{options.data}-{code_digest()}.jsonl"
    held = sum(1 for _ in open(store, "rb")) if store.exists() else 0
    rows, differences, folds = [], [], []
    for protocol in PROTOCOLS[options.data]:
        models = {name: model for name, model in contestants(protocol).items() if name in names}
        found = evaluation.compare(
            models, ratings, parts_of(options.data, protocol, ratings), name=protocol, path=store,
            n_jobs=options.jobs,
        )  # fmt: skip
        for kept, new in zip((rows, differences, folds), summary(found, protocol), strict=True):
            kept += new
    jobs = pd.DataFrame(rows).set_index(["protocol", "model"])
    per_protocol = pd.DataFrame(folds).groupby(["protocol", "model"]).size()
    result = {
        "command": f"make leaderboard DATA={options.data}",
        "data": ratings.name,
        "ratings": len(ratings),
        "users": ratings.n_users,
        "films": ratings.n_items,
        "settings": SETTINGS,
        "workers": options.jobs,
        "wall_seconds": round(time.perf_counter() - started, 1),
        "taken_over": held,
        "job_seconds": round(float((jobs["job_seconds"] * per_protocol).sum()), 1),
        "job_cpu_seconds": round(float((jobs["job_cpu_seconds"] * per_protocol).sum()), 1),
        "machine": before,
        "grids": {name: MODELS[name][1] for name in names},
        "rows": rows,
        "differences": differences,
        "folds": folds,
    }
    show = ["rmse", "rmse_se", "ndcg", "ndcg_se", "coverage", "fit_cpu_seconds", "peak_mb", "job_cpu_seconds"]
    print(jobs[show].round(4).to_string())
    print({key: result[key] for key in ("wall_seconds", "job_seconds", "job_cpu_seconds", "taken_over")})
    if options.models:
        print("Not kept: not all models took part.")
        return
    target = ROOT / "benchmarks" / "results" / f"leaderboard-{options.data}.json"
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(f"Written: {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
