"""Settings chosen inside the training part: grids that follow their best, and models that tune themselves."""

from __future__ import annotations

import numbers
import time

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid

from ..checks import check_choice, check_positive_int
from ..models.base import Recommender
from .metrics import TARGETS, rmse
from .protocols import protocol_splits
from .ranking import rank_model


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
    known = list(model.get_params())
    for name in {name for setting in _settings(settings) for name in setting}:
        check_choice(f"settings of {type(model).__name__}", name, known)
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
        return rmse(part.test.values, model.predict(part.test))
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
    k, threshold
        For "ndcg", as in `rank_model`.

    Attributes
    ----------
    best_params_ : dict
        The chosen setting.
    search_ : DataFrame
        What `grid_search` found.
    model_ : Recommender
        The best model, fitted on all training ratings.
    """

    def __init__(
        self, model, settings, *, target="rmse", inner="random", rounds=1, seed=0, k=10, threshold=4.0
    ):  # fmt: skip
        self.model = model
        self.settings = settings
        self.target = target
        self.inner = inner
        self.rounds = rounds
        self.seed = seed
        self.k = k
        self.threshold = threshold

    def search(self, ratings):
        """Find the best setting without the last fit; returns the unfitted model that has it."""
        self.search_ = grid_search(
            self.model, self.settings, ratings, protocol=self.inner, target=self.target,
            rounds=self.rounds, seed=self.seed, k=self.k, threshold=self.threshold,
        )  # fmt: skip
        self.best_params_ = self.search_.attrs["best"]
        return clone(self.model).set_params(**self.best_params_)

    def _fit(self, ratings, validation):
        self.model_ = self.search(ratings).fit(ratings)

    # Everything else is said by the chosen model.

    def _chosen(self):
        self._check_fitted()
        return self.model_

    def predict(self, ratings):
        """As the chosen model does."""
        return self._chosen().predict(ratings)

    def score_items(self, users=None):
        """As the chosen model does."""
        return self._chosen().score_items(users)

    def recommend(self, *args, **options):
        """As the chosen model does."""
        return self._chosen().recommend(*args, **options)

    def similar_items(self, *args, **options):
        """As the chosen model does."""
        return self._chosen().similar_items(*args, **options)

    def explain(self, user, item):
        """As the chosen model does."""
        return self._chosen().explain(user, item)

    def fold_in(self, ratings):
        """As the chosen model does."""
        return self._chosen().fold_in(ratings)

    def save(self, path):
        """Write the chosen model; what is read back is that model, without the search."""
        self._chosen().save(path)

    def verbs(self):
        """Which verbs the model has that tunes itself here."""
        return self.model.verbs()
