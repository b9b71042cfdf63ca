"""Models side by side."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
from sklearn.base import clone

from .metrics import rmse_interval


def running_comparison(models, train, test, *, seed=0):
    """The rows that a chapter adds to the book's comparison of models.

    Parameters
    ----------
    models : dict of str to Recommender
        Unfitted models by the name to show.
    train, test : Ratings
        The split that all chapters share.
    seed : int
        Of the bootstrap behind the spread.

    Returns
    -------
    DataFrame
        One row a model: RMSE on test, ± (its standard error, users resampled,
        see `metrics.rmse_interval`), fit seconds (of a second fit, so that
        compilation is not counted) and model MB (see `model_bytes`).
    """
    rows = []
    for name, model in models.items():
        clone(model).fit(train)
        model = clone(model)
        start = time.perf_counter()
        model.fit(train)
        seconds = time.perf_counter() - start
        error = rmse_interval(test.values, model.predict(test), test.user_codes, seed=seed)
        rows.append(
            {
                "model": name,
                "RMSE": round(error.value, 4),
                "±": round(error.se, 4),
                "fit seconds": round(seconds, 3),
                "model MB": round(model_bytes(model) / 1e6, 3),
            }
        )
    return pd.DataFrame(rows).set_index("model")


def model_bytes(model):
    """Bytes of the arrays a fitted model has learned, its training ratings left out.

    Counts the NumPy arrays among the fitted attributes (names that end in ``_``);
    for a sparse matrix, its three arrays.
    """
    total = 0
    for name, value in vars(model).items():
        if not name.endswith("_") or name == "train_":
            continue
        parts = [value]
        if hasattr(value, "indptr"):
            parts = [value.data, value.indices, value.indptr]
        total += sum(part.nbytes for part in parts if isinstance(part, np.ndarray))
    return total
