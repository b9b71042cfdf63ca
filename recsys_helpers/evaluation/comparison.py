"""Models side by side: every model on every split, kept as it comes."""

from __future__ import annotations

import contextlib
import json
import numbers
import os
import pickle
import time
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import clone
from tqdm import tqdm

from ..checks import check_positive_int
from ..models.base import Recommender
from .measuring import measure, model_bytes
from .protocols import protocol_splits
from .ranking import number_of_stars, relevance
from .results import Results, fingerprint, plain, result_key
from .statistics import rmse_interval


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


class Comparison(NamedTuple):
    """What `compare` found.

    Attributes
    ----------
    table : DataFrame
        Long: model, protocol, fold, metric, value.
    users : DataFrame
        Long: model, protocol, fold, the users' ids, ratings (in test), squared_error (their sum),
        train_ratings and ndcg (NaN without a relevant film).
    chosen : DataFrame
        Long: model, protocol, fold, settings, the ones a `Tuned` model chose, as a dict, edges, the list of
        those at the edge of what was tried (`grid_search`), and trials, the number of settings tried.
    """

    table: pd.DataFrame
    users: pd.DataFrame
    chosen: pd.DataFrame

    def means(self):
        """Means over the folds: one row a protocol and model, one column a metric."""
        wide = self.table.pivot_table(
            index=["protocol", "model"], columns="metric", values="value", sort=False, dropna=False
        )
        return wide.dropna(how="all")


def compare(
    models, ratings, protocol="5-fold", *, path=None, n_jobs=1, k=10, threshold=4.0, seed=0, name=None,
    memory_per_job=1e9, verbose=True,
):  # fmt: skip
    """Fit every model on every split of a protocol, and measure all there is to measure.

    Parameters
    ----------
    models : dict of str to Recommender
        Unfitted models by the name to show. A `Tuned` one searches inside each training part.
    ratings : Ratings
    protocol
        As in `protocol_splits`.
    path : path-like, optional
        File to which each result is appended as soon as it is there, one JSON line each, synchronized
        to disk. A rerun, after a kill for instance, takes from it what it already holds. A line that was
        torn by the kill is dropped and computed again. A result is only taken for the same model and
        parameters, the same code of this package and of a model class of your own, the same ratings and
        tables in both parts, k and threshold. While one process writes to it, another is refused (not on
        Windows).
    n_jobs : int
        Worker processes; fewer where free memory falls short of `memory_per_job` for each. They share
        the processor's threads, so with as many workers as cores every model has one thread.
    k, threshold
        As in `rank_model`.
    seed : int
        Of the protocol.
    name : str, optional
        What to call the protocol; by default its own name, or "custom".
    memory_per_job : float
        Bytes.
    verbose : bool
        Show a progress bar.

    Returns
    -------
    Comparison
        Metrics: rmse, mae, calibration_error and calibration_slope on the test part; the means over
        users of the ranking metrics at k (`rank_model`); coverage, exposure_gini, novelty and diversity
        (`list_summary`); fit_seconds and fit_cpu_seconds of one fit, compilation excluded (a fit on a
        small sample comes first; the search of a `Tuned` is search_seconds); predict_seconds and
        rank_seconds; model_mb (`model_bytes`); and peak_mb, how far resident memory rose during fit
        and predict (NaN where the system does not say). job_seconds and job_cpu_seconds are the whole of it.

    Raises
    ------
    ValueError, TypeError
        If the models are not a dict of models, a split has no test rating that reaches the threshold, or a
        line of the file (but what a kill left of the last) is damaged.
    RuntimeError
        If another process is writing to the file.

    Notes
    -----
    If a fit fails, its error is raised, with the model's name in a note: as soon as possible without a path;
    with one, after all other results are in the file, so that a rerun has only the failed ones to do.
    """
    if not isinstance(models, dict) or not models:
        raise TypeError(f"models: got {type(models).__name__}; expected a dict of model by name")
    for label, model in models.items():
        if not isinstance(model, Recommender):
            raise TypeError(f"models: got {type(model).__name__} for {label!r}; expected a Recommender")
    check_positive_int("n_jobs", n_jobs)
    check_positive_int("k", k)
    if not (isinstance(memory_per_job, numbers.Real) and memory_per_job > 0):
        raise ValueError(f"memory_per_job: got {memory_per_job!r}; expected a number of bytes above 0")
    parts = protocol_splits(ratings, protocol, seed=seed)
    for part in parts:
        relevance(part.test, threshold)
    threshold = number_of_stars(threshold)
    name = name or (protocol if isinstance(protocol, str) else "custom")
    prints = [(fingerprint(part.train), fingerprint(part.test)) for part in parts]
    wanted = [
        (fold, label, result_key(model, prints[fold], k, threshold))
        for fold in range(len(parts))
        for label, model in models.items()
    ]
    with Results(path) as store:
        missing = {key: (fold, label) for fold, label, key in wanted if key not in store.found}
        failed = []
        jobs = (
            delayed(_job)(key, models[label], label, *parts[fold], k, threshold)
            for key, (fold, label) in missing.items()
            if path is not None or not failed  # without a file, what comes after a failure would be lost
        )
        workers = _workers(n_jobs, len(missing), memory_per_job)
        done = len(wanted) - len(missing)
        with tqdm(total=len(wanted), initial=done, desc=name, disable=not verbose) as bar:
            for key, result in Parallel(n_jobs=workers, return_as="generator_unordered")(jobs):
                if isinstance(result, Exception):
                    failed.append(result)
                    continue
                store.add(key, result)
                bar.set_postfix_str(result["model"])
                bar.update()
    if failed:
        if path is not None:
            failed[0].add_note(f"{len(failed)} of {len(wanted)} results failed; the others are in {path}")
        raise failed[0]
    return _assemble(name, wanted, store.found)


def cross_validate(model, ratings, protocol="5-fold", **options):
    """The metrics of one model on each split of a protocol.

    Parameters
    ----------
    model : Recommender
        Unfitted; a `Tuned` one for nested cross-validation.
    ratings : Ratings
    protocol
        As in `protocol_splits`.
    **options
        As in `compare`.

    Returns
    -------
    DataFrame
        One row a fold, one column a metric.
    """
    found = compare({"model": model}, ratings, protocol, **options)
    return found.table.pivot(index="fold", columns="metric", values="value").rename_axis(columns=None)


def _job(key, model, label, train, test, k, threshold):
    """One result, or the exception that came in its place."""
    try:
        figures, users, chosen = measure(model, train, test, k, threshold)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # it could not be sent from a worker to the main process
            error = RuntimeError(f"{type(error).__name__}: {error}")
        error.add_note(f"while fitting {label!r}")
        return key, error
    record = {
        "key": key,
        "model": label,
        "metrics": figures,
        "users": users.round({"squared_error": 9, "ndcg": 9}).to_dict("list"),
        "chosen": chosen,
    }
    return key, json.loads(json.dumps(plain(record)))  # as it will be read from the file


def _assemble(name, wanted, found):
    rows, users, chosen = [], [], []
    for fold, label, key in wanted:
        record, place = found[key], {"model": label, "protocol": name, "fold": fold}
        rows += [
            place | {"metric": metric, "value": np.nan if value is None else float(value)}
            for metric, value in record["metrics"].items()
        ]
        frame = pd.DataFrame(record["users"]).assign(**place)
        frame["ndcg"] = frame["ndcg"].astype(float)
        users.append(frame)
        if record["chosen"] is not None:
            chosen.append(place | record["chosen"])
    chosen = pd.DataFrame(chosen, columns=["model", "protocol", "fold", "settings", "edges", "trials"])
    return Comparison(pd.DataFrame(rows), pd.concat(users, ignore_index=True), chosen)


def _workers(n_jobs, n_missing, memory_per_job):
    workers = min(n_jobs, max(n_missing, 1))
    if workers > 1:
        with contextlib.suppress(OSError, ValueError):
            pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            workers = max(1, min(workers, int(pages // memory_per_job)))
    return workers
