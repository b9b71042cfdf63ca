"""One model on one split: everything that is measured of it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone

from ..data.ratings import Ratings
from . import metrics
from .ranking import list_summary, rank_model
from .tuning import Tuned

_warm = set()


def model_bytes(model):
    """Bytes of the arrays a fitted model has learned, its training ratings left out.

    Counts the NumPy arrays and sparse matrices among the fitted attributes (names that end in ``_``),
    those in lists and dicts and those of models inside it included, each array once.
    """
    return _array_bytes(model, set())


def _array_bytes(thing, counted):
    if isinstance(thing, BaseEstimator):
        fitted = [value for name, value in vars(thing).items() if name.endswith("_") and name != "train_"]
        return sum(_array_bytes(value, counted) for value in fitted)
    if isinstance(thing, dict):
        return sum(_array_bytes(value, counted) for value in thing.values())
    if isinstance(thing, list | tuple):
        return sum(_array_bytes(value, counted) for value in thing)
    if hasattr(thing, "indptr"):
        return sum(_array_bytes(part, counted) for part in (thing.data, thing.indices, thing.indptr))
    if not isinstance(thing, np.ndarray) or id(thing) in counted:
        return 0
    counted.add(id(thing))
    return thing.nbytes


def measure(model, train, test, k, threshold):
    """Fit, predict and rank once; returns figures, figures of each user, and the chosen settings."""
    figures, chosen = {}, None
    began = time.perf_counter(), time.process_time()
    if isinstance(model, Tuned):
        start = time.perf_counter()
        tuned = clone(model)
        model = tuned.search(train)
        search = tuned.search_
        chosen = {"settings": tuned.best_params_, "edges": search.attrs["edges"], "trials": len(search)}
        figures["search_seconds"] = time.perf_counter() - start
    _warm_up(model, train)
    model = clone(model)
    memory = PeakMemory()
    start, cpu = time.perf_counter(), time.process_time()
    model.fit(train)
    figures["fit_seconds"] = time.perf_counter() - start
    figures["fit_cpu_seconds"] = time.process_time() - cpu
    start = time.perf_counter()
    predicted = model.predict(test)
    figures["predict_seconds"] = time.perf_counter() - start
    figures["peak_mb"] = memory.megabytes()
    figures["model_mb"] = model_bytes(model) / 1e6
    error = predicted - test.values
    figures["rmse"] = metrics.rmse(test.values, predicted)
    figures["mae"] = metrics.mae(test.values, predicted)
    table = metrics.calibration(test.values, predicted, min(10, len(test)))
    figures["calibration_error"] = table.attrs["error"]
    figures["calibration_slope"] = table.attrs["slope"]
    start = time.perf_counter()
    ranking = rank_model(model, train, test, k=k, threshold=threshold)
    figures["rank_seconds"] = time.perf_counter() - start
    figures |= ranking.means().to_dict() | list_summary(ranking, train).to_dict()
    codes = np.unique(test.user_codes)
    who = test.user_name
    users = pd.DataFrame(
        {
            who: test.user_ids[codes],
            "ratings": np.bincount(test.user_codes)[codes],
            "squared_error": np.bincount(test.user_codes, error * error)[codes],
            "train_ratings": train.user_counts[codes],
        }
    )
    users["ndcg"] = ranking.values["ndcg"].reindex(users[who]).to_numpy()
    figures["job_seconds"] = time.perf_counter() - began[0]
    figures["job_cpu_seconds"] = time.process_time() - began[1]
    return figures, users, chosen


def _warm_up(model, train):
    """Fit on a small part first, so that what is compiled at the first call is not timed."""
    choices = {name: value for name, value in model.get_params().items() if isinstance(value, str | bool)}
    key = (type(model), json.dumps(choices, sort_keys=True))
    if key in _warm:
        return
    sample = _busy_corner(train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            clone(model).fit(sample).predict(sample)
        except ValueError:  # settings that want more data than that, such as a high rank
            clone(model).fit(train).predict(train[:10])
    _warm.add(key)


def _busy_corner(train):
    """What the hundred busiest users have rated of the films that most of them have, never nothing."""
    busiest = np.argsort(-train.user_counts, kind="stable")[:100]
    theirs = train[np.isin(train.user_codes, busiest)]
    shared = np.argsort(-theirs.item_counts, kind="stable")[:200]
    part = theirs[np.isin(theirs.item_codes, shared)]
    users, user_codes = np.unique(part.user_codes, return_inverse=True)
    items, item_codes = np.unique(part.item_codes, return_inverse=True)
    return Ratings(
        user_codes, item_codes, part.values, part.timestamps, train.user_ids[users], train.item_ids[items],
        scale=train.scale, movies=train.movies, users=train.users, user_name=train.user_name,
        item_name=train.item_name,
    )  # fmt: skip


class PeakMemory:
    """Peak resident memory above the level at the start; Linux only, NaN elsewhere.

    The kernel's high-water mark of the process is set back first, and freed memory handed back to it,
    so that what an earlier model took does not count.
    """

    def __init__(self):
        gc.collect(1)  # a full collection would walk over all that Numba has loaded
        self.before = np.nan
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
            self.before = self._status("VmRSS")

    def megabytes(self):
        return np.nan if np.isnan(self.before) else max(0.0, self._status("VmHWM") - self.before)

    @staticmethod
    def _status(key):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024 / 1e6
        return np.nan
