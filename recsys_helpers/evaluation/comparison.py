"""Models side by side: protocols, tuning without leaks, comparisons that survive a power cut."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import json
import numbers
import os
import pickle
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import ParameterGrid
from tqdm import tqdm

from .. import __version__
from ..checks import check_choice, check_positive_int
from ..data import splits
from ..data.ratings import Ratings
from ..models.base import Recommender
from . import metrics
from .metrics import rmse_interval

PROTOCOLS = ("random", "5-fold", "temporal")
TARGETS = ("rmse", "ndcg")
_FORMAT = 2
_LINE = b'{"key": "'  # how every line of a file of results begins


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


# ---- rankings of a model --------------------------------------------------------------


def relevance(test, threshold=4.0):
    """What the users liked, as `metrics.rank_scores` wants it.

    Parameters
    ----------
    test : Ratings
    threshold : float
        A film rated at least this is relevant.

    Returns
    -------
    scipy.sparse.csr_array of float64, shape (m, n)
        The gain of each relevant film: 1 at the threshold and 1 more for each star above it.

    Raises
    ------
    ValueError
        If no rating reaches the threshold.
    """
    if not isinstance(test, Ratings):
        raise TypeError(f"test: got {type(test).__name__}; expected a Ratings")
    if not isinstance(threshold, numbers.Real):
        raise TypeError(f"threshold: got {threshold!r}; expected a number of stars")
    liked = test.values >= threshold
    if not liked.any():
        raise ValueError(f"threshold: got {threshold!r}, which no test rating reaches; expected a lower one")
    by_user = test[liked].by_user
    gains = 1.0 + by_user.data.astype(np.float64) - threshold
    return csr_array((gains, by_user.indices, by_user.indptr), shape=by_user.shape)


def rank_model(model, train, test, *, k=10, threshold=4.0, users=None):
    """Rank all films for every user who liked some in the test part, and score the rankings.

    Candidates are all films of the data that the user has not rated in `train`, films without any
    training rating included. A user without training ratings gets what the model gives to nobody in
    particular, and counts like anybody else.

    Parameters
    ----------
    model : Recommender
        Fitted on `train`.
    train, test : Ratings
        Two parts of one data set (they share ids), as the functions of `splits` give them.
    k : int
        Length of the lists.
    threshold : float
        Films with a test rating of at least this are relevant; see `relevance`.
    users : array-like of int, optional
        userIds to rank for; by default all with a relevant film.

    Returns
    -------
    metrics.Ranking
        With the userIds as index of the values.

    Raises
    ------
    ValueError
        If the parts do not share ids, or the model was fitted on data with other ids.

    See Also
    --------
    list_summary : coverage, novelty, diversity and exposure of the lists.
    """
    model._check_fitted()
    for name, part in (("test", test), ("train", train)):
        if not isinstance(part, Ratings):
            raise TypeError(f"{name}: got {type(part).__name__}; expected a Ratings")
        if not (
            np.array_equal(part.user_ids, model.train_.user_ids)
            and np.array_equal(part.item_ids, model.train_.item_ids)
        ):
            raise ValueError(
                f"{name}: its users or films are not those the model was fitted on; expected parts of one "
                "data set, as the functions of splits make them"
            )
    relevant = relevance(test, threshold)
    if users is None:
        codes = np.flatnonzero(np.diff(relevant.indptr))
    else:
        codes = train.encode_users(users)
        if (codes < 0).any():
            raise ValueError(
                f"users: got {np.asarray(users)[codes < 0][0]}; expected userIds of the data set"
            )
    found = metrics.rank_scores(model._score_block, relevant, train.by_user, k=k, users=codes)
    found.values.index = pd.Index(train.user_ids[codes], name="userId")
    return found


def list_summary(ranking, train):
    """What the recommended lists are like, beside how well they hit.

    Parameters
    ----------
    ranking : metrics.Ranking
    train : Ratings
        The training part.

    Returns
    -------
    Series
        coverage, exposure_gini, novelty (bits) and, where films have genres, diversity (of
        genres); see the functions of `metrics`. NaN, but for coverage, if all lists are empty.
    """
    shown = metrics.exposure(ranking.lists, train.n_items)
    found = {
        "coverage": metrics.coverage(ranking.lists, train.n_items),
        "exposure_gini": metrics.gini(shown) if shown.any() else np.nan,
        "novelty": _mean(metrics.novelty(ranking.lists, train.item_counts, train.n_users)),
    }
    if train.movies is not None and "genres" in train.movies.columns:
        found["diversity"] = _mean(metrics.intra_list_diversity(ranking.lists, _genres(train)))
    return pd.Series(found)


def _mean(values):
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else np.nan


def _genres(ratings):
    from ..models.als import genre_shares

    return genre_shares(ratings)[1]


# ---- protocols ----------------------------------------------------------------------------


def protocol_splits(ratings, protocol="5-fold", *, seed=0):
    """The train and test parts of a protocol.

    Parameters
    ----------
    ratings : Ratings
    protocol : {"random", "5-fold", "temporal"}, or sequence of (train, test)
        One random 80/20 split; five folds, each the test part once; training on the first 80 % of
        the ratings in time and testing on the rest. Or ready-made parts, for example
        ``datasets.load_100k_folds()``.
    seed : int
        Of the random ones.

    Returns
    -------
    list of Split

    Raises
    ------
    ValueError, TypeError
        If a part that was given is no `Ratings` or is empty, if the parts of a pair do not share ids, or if
        a user's rating of a film is in both of them.
    """
    if not isinstance(ratings, Ratings):
        raise TypeError(f"ratings: got {type(ratings).__name__}; expected a Ratings")
    if not isinstance(protocol, str):
        return _given_parts(protocol)
    check_choice("protocol", protocol, PROTOCOLS)
    if protocol == "random":
        return [splits.random_holdout(ratings, 0.2, seed=seed)]
    if protocol == "5-fold":
        return splits.k_fold(ratings, 5, seed=seed)
    return [splits.temporal(ratings, 0.2)]


def _given_parts(protocol):
    try:
        parts = [splits.Split(*pair) for pair in protocol]
    except TypeError:
        raise TypeError(
            f"protocol: got {type(protocol).__name__}; expected one of {', '.join(map(repr, PROTOCOLS))}, or "
            "pairs (train, test)"
        ) from None
    if not parts:
        raise ValueError("protocol: got no parts; expected at least one pair (train, test)")
    for number, (train, test) in enumerate(parts):
        where = f"protocol: part {number}"
        for part in (train, test):
            if not isinstance(part, Ratings):
                raise TypeError(f"{where} holds a {type(part).__name__}; expected a pair of Ratings")
            if len(part) == 0:
                raise ValueError(f"{where} has no ratings in train or in test; expected some in both")
        if not (
            np.array_equal(train.user_ids, test.user_ids) and np.array_equal(train.item_ids, test.item_ids)
        ):
            raise ValueError(
                f"{where}: train and test have other users or films; expected parts of one data set, as the "
                "functions of splits make them"
            )
        pairs = [p.user_codes.astype(np.int64) * p.n_items + p.item_codes for p in (train, test)]
        both = np.intersect1d(*pairs)
        if len(both):
            user, item = divmod(int(both[0]), train.n_items)
            raise ValueError(
                f"{where}: {len(both)} pairs are in train and in test, for example user "
                f"{train.user_ids[user]} and film {train.item_ids[item]}; expected none, or the model has "
                "seen what it is asked"
            )
    return parts


# ---- tuning ---------------------------------------------------------------------------------


def grid_search(
    model, settings, ratings, *, protocol="random", target="rmse", k=10, threshold=4.0, rounds=1, seed=0
):  # fmt: skip
    """Try settings inside `ratings`, which must be a training part.

    Parameters
    ----------
    model : Recommender
        Unfitted.
    settings : list of dict, or dict of lists
        Parameters to set; a dict of lists stands for all combinations.
    ratings : Ratings
        Cut again by `protocol`, so that each setting is scored on ratings it has not seen.
    protocol
        As in `protocol_splits`.
    target : {"rmse", "ndcg"}
        What to make small, or, for NDCG at k, large.
    k, threshold
        For "ndcg", as in `rank_model`.
    rounds : int
        At most so many. From the second round on the same grid, a dict of lists, is tried again, moved so
        that the best setting so far lies in its middle (`moved_grid`). A round that brings nothing
        better is the last: then the best has worse ones on every side. A setting that a fit refuses
        with a ValueError scores NaN there, as a moved grid may leave the range of a parameter; in the
        first round it is an error.
    seed : int
        Of the protocol.

    Returns
    -------
    DataFrame
        One row a setting, in the order of trial: its parameters, round (from 1), score (mean over the
        splits) and seconds. ``attrs["best"]`` is the best setting, the first on a tie, and
        ``attrs["edges"]`` names the numbers in it than which nothing smaller, or nothing larger, was
        tried: there a wider search might find better. Zero, below which most of them cannot go, is no
        edge.

    Raises
    ------
    ValueError, TypeError
        Before the first fit, if a setting names a parameter that the model has not. What a fit raises
        says which setting it was.

    Notes
    -----
    The best score is no estimate of the error on new data: it is the best of many, and so too good. For
    that put the model into a `Tuned`, which repeats the search inside every training part.
    """
    check_choice("target", target, TARGETS)
    check_positive_int("rounds", rounds)
    if not isinstance(model, Recommender):
        raise TypeError(f"model: got {type(model).__name__}; expected a Recommender")
    if rounds > 1 and not isinstance(settings, dict):
        raise TypeError(
            f"settings: got a {type(settings).__name__} for {rounds} rounds; expected a dict of lists"
        )
    for setting in _settings(settings):
        clone(model).set_params(**setting)
    parts = protocol_splits(ratings, protocol, seed=seed)
    tried, rows = [], []
    for number in range(1, rounds + 1):
        if number > 1:
            best = _best(rows, target)
            if rows[best]["round"] < number - 1:
                break
            settings = moved_grid(settings, tried[best])
        for setting in _settings(settings):
            start = time.perf_counter()
            candidate = clone(model).set_params(**setting)
            try:
                scores = [_target(clone(candidate).fit(p.train), p, target, k, threshold) for p in parts]
            except Exception as error:
                if number == 1 or not isinstance(error, ValueError):
                    error.add_note(f"while trying {setting}")
                    raise
                scores = [np.nan]  # the grid was moved out of the range of a parameter
            seconds = time.perf_counter() - start
            tried.append(setting)
            rows.append(setting | {"round": number, "score": float(np.mean(scores)), "seconds": seconds})
    table = pd.DataFrame(rows)
    best = tried[_best(rows, target)]
    table.attrs |= {"best": best, "edges": [name for name in best if _on_edge(name, best, tried)]}
    return table


def _on_edge(name, best, tried):
    values = {setting[name] for setting in tried if name in setting}
    if len(values) < 2 or best[name] == 0 or not all(map(_is_number, values)):
        return False
    return best[name] in (min(values), max(values))


def _is_number(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def moved_grid(settings, center):
    """The grid moved along each axis of numbers until `center` lies in its middle.

    An axis of numbers above 0 is moved by a factor, and its middle is the geometric mean of its ends;
    one that begins at 0 or below, by a difference, and nothing goes below its lowest value. Whole numbers
    stay whole: they are rounded, and one that the old axis has already gives way to the next that is
    free. Other values, and axes of one value, stay.

    With an even number of values in even steps, `center` falls halfway between two of them: on each
    side come half a step, one step and a half, and so on. So the old best is passed by finer and by
    farther values, wherever it lay.

    Parameters
    ----------
    settings : dict of lists
        The axes.
    center : dict
        One of their combinations.

    Returns
    -------
    dict of lists

    Examples
    --------
    >>> moved_grid({"reg": [1.0, 4.0], "n_factors": [16, 64]}, {"reg": 4.0, "n_factors": 64})
    {'reg': [2.0, 8.0], 'n_factors': [32, 128]}
    """
    return {name: _moved_axis(list(values), center[name]) for name, values in settings.items()}


def _moved_axis(values, center):
    if len(values) < 2 or not all(map(_is_number, values)):
        return values
    low, high = min(values), max(values)
    if low > 0:
        moved = [v * (center / np.sqrt(low * high)) for v in values]
    else:
        moved = [max(v + center - (low + high) / 2, low) for v in values]
    if not all(isinstance(v, numbers.Integral) for v in values):
        return [float(v) for v in moved]
    out = []
    for value in moved:
        value = max(round(value), min(low, 1))
        while value in values or value in out:
            value += 1
        out.append(value)
    return out


def _best(rows, target):
    scores = [row["score"] for row in rows]
    return int(np.nanargmin(scores) if target == "rmse" else np.nanargmax(scores))


def _target(model, part, target, k, threshold):
    if target == "rmse":
        return metrics.rmse(part.test.values, model.predict(part.test))
    return rank_model(model, *part, k=k, threshold=threshold).means()["ndcg"]


def _settings(settings):
    if isinstance(settings, dict):
        settings = list(ParameterGrid(settings))
    settings = list(settings)
    if not settings or not all(isinstance(setting, dict) for setting in settings):
        raise ValueError("settings: expected at least one dict of parameters, or a dict of lists of values")
    return settings


class Tuned(Recommender):
    """A model that chooses its own settings inside whatever it is fitted on.

    `fit` splits its training ratings, tries every setting there, and fits the best one on all of
    them. Put into `cross_validate` or `compare` it makes the search nested: each fold has its own,
    and no test rating takes part in any (Cawley and Talbot 2010, On over-fitting in model selection,
    JMLR 11).

    Parameters
    ----------
    model : Recommender
        Unfitted.
    settings : list of dict, or dict of lists
        As in `grid_search`.
    target : {"rmse", "ndcg"}
        What is chosen by.
    inner : {"random", "5-fold", "temporal"}
        How the training part is cut again.
    rounds : int
        As in `grid_search`.
    seed : int
        Of that cut.

    Attributes
    ----------
    best_params_ : dict
        The chosen setting.
    search_ : DataFrame
        What `grid_search` found.
    model_ : Recommender
        The best model, fitted on all training ratings.
    """

    def __init__(self, model, settings, *, target="rmse", inner="random", rounds=1, seed=0):
        self.model = model
        self.settings = settings
        self.target = target
        self.inner = inner
        self.rounds = rounds
        self.seed = seed

    def search(self, ratings):
        """Find the best setting without the last fit; returns the unfitted model that has it."""
        self.search_ = grid_search(
            self.model, self.settings, ratings, protocol=self.inner, target=self.target,
            rounds=self.rounds, seed=self.seed,
        )  # fmt: skip
        self.best_params_ = self.search_.attrs["best"]
        return clone(self.model).set_params(**self.best_params_)

    def _fit(self, ratings, validation):
        self.model_ = self.search(ratings).fit(ratings)

    def _predict_codes(self, users, items):
        return self.model_._predict_codes(users, items)

    def _score_codes(self, user):
        return self.model_._score_codes(user)

    def _score_block(self, users):
        return self.model_._score_block(users)


# ---- one model on one split -------------------------------------------------------------------


def _run(model, train, test, k, threshold):
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
    memory = _PeakMemory()
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
    users = pd.DataFrame(
        {
            "userId": test.user_ids[codes],
            "ratings": np.bincount(test.user_codes)[codes],
            "squared_error": np.bincount(test.user_codes, error * error)[codes],
            "train_ratings": train.user_counts[codes],
        }
    )
    users["ndcg"] = ranking.values["ndcg"].reindex(users["userId"]).to_numpy()
    figures["job_seconds"] = time.perf_counter() - began[0]
    figures["job_cpu_seconds"] = time.process_time() - began[1]
    return figures, users, chosen


_warm = set()


def _warm_up(model, train):
    """Fit on a small part first, so that what is compiled at the first call is not timed."""
    choices = {name: value for name, value in model.get_params().items() if isinstance(value, str | bool)}
    key = (type(model), json.dumps(choices, sort_keys=True))
    if key in _warm:
        return
    busiest = np.argsort(-train.user_counts, kind="stable")[:100]
    most_rated = np.argsort(-train.item_counts, kind="stable")[:200]
    small = np.isin(train.user_codes, busiest) & np.isin(train.item_codes, most_rated)
    sample = Ratings.from_frame(train[small].to_frame(), scale=train.scale, movies=train.movies)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            clone(model).fit(sample).predict(sample)
        except ValueError:  # settings that want more data than that, such as a high rank
            clone(model).fit(train).predict(train[:10])
    _warm.add(key)


class _PeakMemory:
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


# ---- many models on many splits ------------------------------------------------------------------


class Comparison(NamedTuple):
    """What `compare` found.

    Attributes
    ----------
    table : DataFrame
        Long: model, protocol, fold, metric, value.
    users : DataFrame
        Long: model, protocol, fold, userId, ratings (in test), squared_error (their sum), train_ratings
        and ndcg (NaN without a relevant film).
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
        parameters, package version, ratings and tables in both parts, k and threshold; after a change in
        a model's code delete the file. While one process writes to it, another is refused (not on Windows).
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
    name = name or (protocol if isinstance(protocol, str) else "custom")
    prints = [(_fingerprint(part.train), _fingerprint(part.test)) for part in parts]
    wanted = [
        (fold, label, _key(model, prints[fold], k, threshold))
        for fold in range(len(parts))
        for label, model in models.items()
    ]
    with _Results(path) as store:
        missing = {key: (fold, label) for fold, label, key in wanted if key not in store.found}
        failed = []
        jobs = (
            delayed(_job)(key, models[label], label, *parts[fold], k, float(threshold))
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
        figures, users, chosen = _run(model, train, test, k, threshold)
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
    return key, json.loads(json.dumps(_plain(record)))  # as it will be read from the file


def _plain(value):
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


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


class _Results:
    """A file of JSON lines, one result each; without a path, only in memory."""

    def __init__(self, path):
        self.path = None if path is None else Path(path)
        self.found = {}
        self.file = None

    def __enter__(self):
        if self.path is None:
            return self
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(self.path, "a+b")
        try:
            self._lock()
            self._read()
        except BaseException:
            self.file.close()
            raise
        return self

    def __exit__(self, *caught):
        if self.file is not None:
            self.file.close()

    def _lock(self):
        """Held until the file is closed or the process ends, however it ends."""
        with contextlib.suppress(ImportError, OSError):  # not on every system, nor on every file system
            import fcntl

            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeError(
                    f"{self.path}: another process is writing to it; wait for its end, or pass another path"
                ) from None

    def _read(self):
        self.file.seek(0)
        *lines, rest = self.file.read().split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                self.found[record["key"]] = record
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{self.path}: line {number} is damaged ({error}); delete that line, or the file, and "
                    "run again"
                ) from None
        if rest:  # what a kill or a power cut left of the last line
            written = rest.rstrip(b"\0")
            if not (written.startswith(_LINE) or _LINE.startswith(written)):
                raise ValueError(
                    f"{self.path}: its end is no result; expected a file that compare has written"
                )
            self.file.truncate(self.file.seek(0, os.SEEK_END) - len(rest))

    def add(self, key, record):
        self.found[key] = record
        if self.file is not None:
            self.file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
            self.file.flush()
            os.fsync(self.file.fileno())


def _fingerprint(ratings):
    """A digest of all that a model can learn from, or be scored on."""
    digest = hashlib.sha256()
    arrays = [ratings.user_ids, ratings.item_ids, ratings.user_codes, ratings.item_codes, ratings.values]
    if ratings.timestamps is not None:
        arrays.append(ratings.timestamps)
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    digest.update(str(ratings.scale).encode())
    for table in (ratings.movies, ratings.users):
        digest.update(b"none" if table is None else table.to_csv(index=False).encode())
    return digest.hexdigest()


def _key(model, prints, k, threshold):
    parts = [_FORMAT, __version__, _describe(model), prints, int(k), float(threshold)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _describe(value, name="model"):
    """A model's class and parameters, models inside it included, in a form that can be compared."""
    if isinstance(value, BaseEstimator):
        parameters = {
            n: _describe(v, n) for n, v in value.get_params(deep=False).items() if n not in ("verbose",)
        }
        return [type(value).__module__, type(value).__qualname__, parameters]
    if isinstance(value, dict):
        return {str(n): _describe(v, n) for n, v in value.items()}
    if isinstance(value, list | tuple):
        return [_describe(v, name) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"{name}: got {type(value).__name__}; expected numbers, text, lists, dicts or models, which can be "
        "told apart in a file of results"
    )


# ---- what a difference is worth ----------------------------------------------------------------------


def paired_differences(users, baseline, *, metric="rmse", n_boot=2000, seed=0):
    r"""How much each model differs from one of them, with the same users in both.

    Users are drawn with replacement, each with everything he or she did in all folds, and the same
    draw serves all models: what is hard for every model cancels. In each draw the difference is
    divided by its own standard error. The interval and p-value come from the quantiles of the size of
    this ratio (the symmetric bootstrap-t; Efron and Tibshirani 1993, An introduction to the bootstrap,
    section 12.5), which holds its level better than quantiles of the differences where a few users
    have most of the ratings.

    Parameters
    ----------
    users : DataFrame
        `Comparison.users`, of one protocol.
    baseline : str
        The model to compare with.
    metric : {"rmse", "ndcg"}
        The root of the mean squared error over all test ratings, or the mean NDCG over users and folds.
    n_boot : int
        Number of bootstrap samples.
    seed : int or numpy.random.Generator

    Returns
    -------
    DataFrame
        One row a model: value and its standard error value_se; difference (model minus baseline), its
        standard error se, its 95 % interval low … high; p, the two-sided bootstrap p-value of no
        difference, which cannot be below 1 / (n_boot + 1), and p_holm, the same after `holm` over all
        models.

    Raises
    ------
    ValueError, TypeError
        If the baseline is not there, the models were not tested on the same users and ratings, or fewer than
        two users have anything to measure.

    Notes
    -----
    A baseline that was picked as the best of these very results is a little too good, and so are its
    differences. O(n_boot x users x models).
    """
    if not isinstance(users, pd.DataFrame):
        raise TypeError(f"users: got {type(users).__name__}; expected the users of a Comparison, a DataFrame")
    check_choice("metric", metric, TARGETS)
    check_positive_int("n_boot", n_boot, minimum=2)
    names = list(dict.fromkeys(users["model"]))
    check_choice("baseline", baseline, names)
    if users["protocol"].nunique() != 1:
        raise ValueError(
            f"users: got protocols {list(users['protocol'].unique())}; expected one, select it first"
        )
    if metric == "rmse":
        frame = users.assign(total=users["squared_error"], count=users["ratings"])
    else:
        frame = users.assign(total=users["ndcg"].fillna(0.0), count=users["ndcg"].notna().astype(int))
    sums = frame.groupby(["userId", "model"])[["total", "count"]].sum().unstack("model")
    total, count = sums["total"][names].to_numpy(), sums["count"][names].to_numpy()
    if np.isnan(count).any() or (count != count[:, :1]).any():
        raise ValueError("users: the models were tested on different ratings; expected the same for all")
    counted = count[:, 0] > 0  # without a relevant film a user has no NDCG in any model
    total, count = total[counted], count[counted, 0].astype(float)
    n, at = len(count), names.index(baseline)
    if n < 2:
        raise ValueError(f"users: got {n} with a value of {metric}; expected at least two")
    value, error = _values_and_errors(np.ones(n), total, count, metric)
    difference = value - value[at]
    difference_se = np.linalg.norm(error - error[:, [at]], axis=0)
    rng = np.random.default_rng(seed)
    samples, ratios = np.empty((n_boot, len(names))), np.empty((n_boot, len(names)))
    for b in range(n_boot):
        times = np.bincount(rng.integers(n, size=n), minlength=n).astype(float)
        samples[b], error = _values_and_errors(times, total, count, metric)
        se = np.sqrt(times @ (error - error[:, [at]]) ** 2)
        ratios[b] = _ratio(np.abs(samples[b] - samples[b, at] - difference), se)
    widest = np.quantile(ratios, 0.95, axis=0, method="higher")  # may be infinite: nothing between two
    reach = np.multiply(widest, difference_se, out=np.zeros(len(names)), where=difference_se > 0)
    beyond = (ratios >= _ratio(np.abs(difference), difference_se)).sum(axis=0)
    table = pd.DataFrame(
        {
            "value": value,
            "value_se": samples.std(axis=0, ddof=1),
            "difference": difference,
            "se": (samples - samples[:, [at]]).std(axis=0, ddof=1),
            "low": difference - reach,
            "high": difference + reach,
            "p": (1 + beyond) / (n_boot + 1),
        },
        index=pd.Index(names, name="model"),
    )
    others = table.index != baseline
    table.loc[~others, "p"] = np.nan
    table["p_holm"] = np.nan
    table.loc[others, "p_holm"] = holm(table.loc[others, "p"])
    return table


def _values_and_errors(times, total, count, metric):
    """The value of each model when user u counts times[u], and what one user more of each kind adds to it."""
    n = times @ count
    value = times @ total / n
    error = (total - value * count[:, None]) / n
    if metric == "rmse":  # the root: its derivative is 1 / (2 root)
        value = np.sqrt(value)
        error /= np.where(value > 0, 2 * value, 1.0)
    return value, error


def _ratio(size, se):
    """size / se, where two models that never differ give 0, and a difference without spread infinity."""
    return np.divide(size, se, out=np.where(size > 0, np.inf, 0.0), where=se > 0)


def holm(p_values):
    """Adjust p-values for the number of comparisons, by Holm's step-down method.

    With the adjusted values compared to 0.05, the chance that any true null hypothesis is rejected is at
    most 5 %, however the tests depend on one another (Holm 1979, A simple sequentially rejective
    multiple test procedure, Scandinavian Journal of Statistics 6).

    Parameters
    ----------
    p_values : array-like of float, shape (N,)
        From 0 to 1.

    Returns
    -------
    ndarray of float64, shape (N,)
        The i-th smallest becomes the largest of (N - j + 1) p over j up to i, at most 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p_values: expected numbers from 0 to 1 in one dimension")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.minimum(1.0, p[order] * np.arange(len(p), 0, -1)))
    out = np.empty(len(p))
    out[order] = stepped
    return out


def pareto_front(costs, errors):
    """Which models nothing beats: none has both a lower cost and a lower error.

    Parameters
    ----------
    costs, errors : array-like of float, shape (N,)
        Small is good in both.

    Returns
    -------
    ndarray of bool, shape (N,)
        False where another model is at least as good in both and better in one.

    Raises
    ------
    ValueError
        If they differ in length or hold NaN.
    """
    c, e = np.asarray(costs, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    if c.ndim != 1 or c.shape != e.shape or np.isnan(c).any() or np.isnan(e).any():
        raise ValueError(
            f"costs and errors: got shapes {c.shape} and {e.shape}; expected two sequences of the same "
            "length without NaN"
        )
    as_good = (c[:, None] <= c) & (e[:, None] <= e)
    better = (c[:, None] < c) | (e[:, None] < e)
    return ~(as_good & better).any(axis=0)
