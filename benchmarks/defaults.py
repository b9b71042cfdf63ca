"""Every model's defaults against tuned biases, on synthetic tables from 5,000 ratings to 32 million.

    python benchmarks/defaults.py                    # up to 100,000 ratings: some minutes
    python benchmarks/defaults.py --up-to 1000000
    python benchmarks/defaults.py --up-to 32000000 --models BiasedALS --models BiasModel

One row a table and model: RMSE on a tenth of the ratings that nobody saw, how far below the biases that is,
the penalty that the fit chose, and CPU seconds, those of choosing apart. The biases are tuned on the held-out
ratings themselves, so they are better than any honest search would leave them.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from recsys_helpers.data import synthetic_ratings
from recsys_helpers.data.ratings import Ratings
from recsys_helpers.models import (
    NMF,
    BiasedALS,
    BiasModel,
    FunkSVD,
    GradientMF,
    ItemKNN,
    NuclearNormCompletion,
    SVDpp,
)
from recsys_helpers.models.automatic import chosen_penalty

QUIET = {"verbose": False}
MODELS = {
    "BiasedALS": lambda: BiasedALS(**QUIET),
    "BiasedALS-128": lambda: BiasedALS(128, **QUIET),
    "BiasedALS-weighted": lambda: BiasedALS(weighted=True, **QUIET),
    "GradientMF": lambda: GradientMF(**QUIET),
    "GradientMF-64": lambda: GradientMF(64, **QUIET),
    "FunkSVD": lambda: FunkSVD(**QUIET),
    "SVDpp": lambda: SVDpp(**QUIET),
    "NMF": lambda: NMF(**QUIET),
    "NuclearNormCompletion": lambda: NuclearNormCompletion(**QUIET),
    "ItemKNN": lambda: ItemKNN(**QUIET),
}
# Users, items, ratings, rank, noise, in whole stars.
TABLES = {
    "5k": (150, 120, 5_000, 4, 0.6, False),
    "5k, no taste": (100, 700, 5_000, 0, 0.9, False),
    "20k, whole stars": (300, 400, 20_000, 8, 0.8, True),
    "100k": (671, 2_000, 100_000, 8, 0.8, False),
    "100k, rank 30": (943, 1_682, 100_000, 30, 0.85, True),
    "1M": (6_040, 3_706, 1_000_000, 8, 0.8, False),
    "1M, rank 30": (6_040, 3_706, 1_000_000, 30, 0.85, False),
    "32M": (200_000, 80_000, 32_000_000, 8, 0.8, False),
}
TUNED = (1.0, 2.0, 3.0, 5.0, 8.0)


def rmse(model, held):
    return float(np.sqrt(np.mean((model.predict(held) - held.values) ** 2)))


def table(name):
    """(train, held out)."""
    *shape, rank, noise, whole_stars = TABLES[name]
    ratings = synthetic_ratings(*shape, seed=0, rank=rank, noise=noise)
    if whole_stars:
        frame = ratings.to_frame()
        frame["rating"] = np.clip(np.round(frame["rating"]), 1, 5)
        ratings = Ratings.from_frame(frame, scale=(1.0, 5.0))
    held = np.random.default_rng(0).random(len(ratings)) < 0.1
    return ratings[~held], ratings[held]


def measure(name, models):
    train, held = table(name)
    began = time.process_time()
    BiasModel().fit(train)
    seconds = time.process_time() - began
    biases = min(rmse(BiasModel(u, i).fit(train), held) for u in TUNED for i in TUNED)
    yield {"table": name, "model": "BiasModel, tuned", "rmse": biases, "cpu_seconds": seconds}
    for label in models:
        model = MODELS[label]()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            began = time.process_time()
            model.fit(train)
            seconds = time.process_time() - began
        error = rmse(model, held)
        row = {"table": name, "model": label, "rmse": error, "below_biases": biases - error}
        row |= {"reg": getattr(model, "reg_", None), "cpu_seconds": seconds}
        if getattr(model, "reg", None) == "auto" and label != "NMF":
            weighted = getattr(model, "weighted", isinstance(model, FunkSVD))
            began = time.process_time()
            chosen_penalty(train, getattr(model, "n_factors", 64), weighted=bool(weighted))
            row["of_it_choosing"] = time.process_time() - began
        yield row | {"said": "; ".join(str(w.message)[:70] for w in said)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--up-to", type=int, default=100_000, help="ratings of the largest table")
    parser.add_argument("--models", action="append", choices=list(MODELS), help="by default all")
    parser.add_argument("--out", type=Path, help="a JSON file for the rows")
    options = parser.parse_args()
    rows = []
    for name, (*_, size, _, _, _) in TABLES.items():
        if size > options.up_to:
            continue
        for row in measure(name, options.models or MODELS):
            rows.append(row)
            shown = (f"{k}={v:.4g}" if isinstance(v, float) else f"{v}" for k, v in row.items())
            print(*shown, flush=True)
    print(pd.DataFrame(rows).round(4).to_string(index=False))
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
