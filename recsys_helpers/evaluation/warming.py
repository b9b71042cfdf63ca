"""Compile before it is needed: what the kernels are given by every model, once, on a small table.

A kernel is compiled at its first call, which takes seconds to half a minute a model, and is then kept on disk
(see `kernels.compiling`). Whoever starts a lesson, an image or a server pays that beforehand.
"""

from __future__ import annotations

import inspect
import time
import warnings

import numpy as np

from .. import models
from ..data import synthetic_ratings
from ..data.ratings import Ratings
from ..data.splits import random_holdout
from ..models.base import Recommender
from .ranking import rank_model

# Settings that lead to other compiled code than a model's defaults do.
_OTHERWISE = {
    "BiasedALS": ({"solver": "cg"}, {"weighted": True}),
    "ImplicitALS": ({"solver": "cholesky"}, {"solver": "cg"}, {"solver": "subspace"}),
}


def warm(names=None, report=None):
    """Use every model once on a small table, so that later processes find compiled code.

    Parameters
    ----------
    names : sequence of str, optional
        Classes of `recsys_helpers.models`; by default all that are there and installed.
    report : callable, optional
        Told ``(name, seconds)`` after each model.

    Notes
    -----
    Minutes where nothing is compiled yet, seconds where all is.
    """
    ratings = _small_table()
    synthetic_ratings(30, 20, 200, seed=0)
    for name in learners() if names is None else names:
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for options in ({}, *_OTHERWISE.get(name, ())):
                try:
                    _use(getattr(models, name)(**options), ratings)
                except ImportError:  # what the model needs is an extra that is not installed
                    break
        if report is not None:
            report(name, time.perf_counter() - began)


def learners():
    """Names of the models that can be made without an argument."""
    found = (name for name in models.__all__ if inspect.isclass(getattr(models, name)))
    return sorted(n for n in found if issubclass(getattr(models, n), Recommender) and n != "Recommender")


def _use(model, ratings):
    """Fit and every verb the model has."""
    if "verbose" in model.get_params():
        model.set_params(verbose=False)
    model.fit(ratings)
    model.predict(ratings)
    user, item = ratings.user_ids[0], ratings.item_ids[0]
    rank_model(model, *random_holdout(ratings, seed=0)[:2])
    model.recommend([user, ratings.user_ids[1]])
    told = {item: float(ratings.scale[1]), ratings.item_ids[1]: float(ratings.scale[0])}
    for verb, arguments in (("fold_in", (told,)), ("similar_items", (item,)), ("explain", (user, item))):
        if model.verbs()[verb] is True:
            getattr(model, verb)(*arguments)


def _small_table():
    """Some hundred ratings with a taste in them."""
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((60, 50)) < 0.3)
    stars = 3 + np.sign((users % 2 - 0.5) * (items % 2 - 0.5)) + rng.integers(-1, 2, len(users)) / 2
    times = np.arange(len(users), dtype=np.int64) + 1_000_000_000
    ids = np.arange(60), np.arange(50)
    return Ratings(users, items, stars.astype(np.float32), times, *ids, scale=(0.5, 5))
