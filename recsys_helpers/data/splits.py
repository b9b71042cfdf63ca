"""Ways to set ratings aside: every split is disjoint, complete and reproducible."""

from __future__ import annotations

import numbers
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..checks import check_positive_int
from .ratings import Ratings


class Split(NamedTuple):
    """A training part and a test part that share one id index.

    Unpacks as ``train, test = ...``.
    """

    train: Ratings
    test: Ratings

    def cold_start(self):
        """Count what the training part knows nothing about.

        Nothing is dropped from the test part; this says what is in it.

        Returns
        -------
        DataFrame
            Rows users and items; columns in_test (how many have test ratings),
            without_training (how many of those have no training rating) and
            test_ratings (how many test ratings belong to them).
        """
        rows = {}
        for name, codes, known in (
            ("users", self.test.user_codes, self.train.user_counts > 0),
            ("items", self.test.item_codes, self.train.item_counts > 0),
        ):
            present = np.unique(codes)
            rows[name] = {
                "in_test": len(present),
                "without_training": int(np.count_nonzero(~known[present])),
                "test_ratings": int(np.count_nonzero(~known[codes])),
            }
        return pd.DataFrame(rows).T


def random_holdout(ratings, test_fraction=0.2, seed=0):
    """Hold out a random share of the ratings.

    Parameters
    ----------
    ratings : Ratings
    test_fraction : float
        Between 0 and 1; the test part gets the nearest whole number of ratings.
    seed : int or numpy.random.Generator

    Returns
    -------
    Split

    Raises
    ------
    ValueError
        If either part would be empty.
    """
    n_test = _test_size(ratings, test_fraction)
    test = np.zeros(len(ratings), dtype=bool)
    test[np.random.default_rng(seed).permutation(len(ratings))[:n_test]] = True
    return _split(ratings, test)


def k_fold(ratings, n_folds=5, seed=0):
    """Cut the ratings into n_folds random parts; each is the test part once.

    Parameters
    ----------
    ratings : Ratings
    n_folds : int
        From 2 to the number of ratings. Fold sizes differ by at most one.
    seed : int or numpy.random.Generator

    Returns
    -------
    list of Split
        Every rating is in exactly one test part.
    """
    check_positive_int("n_folds", n_folds, minimum=2)
    if n_folds > len(ratings):
        raise ValueError(f"n_folds: got {n_folds}; expected at most the number of ratings, {len(ratings)}")
    fold = np.arange(len(ratings)) % n_folds
    np.random.default_rng(seed).shuffle(fold)
    return [_split(ratings, fold == f) for f in range(n_folds)]


def leave_k_out(ratings, k=1, seed=0):
    """Hold out k random ratings of every user who has more than k.

    Parameters
    ----------
    ratings : Ratings
    k : int
        A user with k ratings or fewer keeps them all in training.
    seed : int or numpy.random.Generator

    Returns
    -------
    Split

    Raises
    ------
    ValueError
        If no user has more than k ratings.
    """
    order = np.random.default_rng(seed).permutation(len(ratings))
    return _split(ratings, _last_of_each_user(ratings, order, k))


def last_k(ratings, k=1):
    """Hold out the k latest ratings of every user who has more than k.

    Equal timestamps are ordered by their position in the table. Users differ in
    when they were active, so a user's training ratings may be later than another
    user's test ratings; `temporal` has no such leak.

    Parameters
    ----------
    ratings : Ratings
        With timestamps.
    k : int
        A user with k ratings or fewer keeps them all in training.

    Returns
    -------
    Split

    Raises
    ------
    ValueError
        If there are no timestamps, or no user has more than k ratings.
    """
    order = np.argsort(_timestamps(ratings), kind="stable")
    return _split(ratings, _last_of_each_user(ratings, order, k))


def temporal(ratings, test_fraction=0.2, *, cut=None):
    """Train on the past, test on the future: one cut in time for everybody.

    Parameters
    ----------
    ratings : Ratings
        With timestamps.
    test_fraction : float
        Wanted share of test ratings. Ratings of the same second stay together,
        so the share is the nearest reachable one from below.
    cut : int, optional
        Instead of a share: the first second (UTC) of the test period.

    Returns
    -------
    Split
        Every test rating is later than every training rating. Many test users
        have no training rating at all: see `Split.cold_start`.

    Raises
    ------
    ValueError
        If there are no timestamps, or either part would be empty.
    """
    stamps = _timestamps(ratings)
    if cut is None:
        n_test = _test_size(ratings, test_fraction)
        latest_train = np.partition(stamps, len(stamps) - n_test - 1)[len(stamps) - n_test - 1]
        cut = latest_train + 1
    elif not isinstance(cut, numbers.Integral):
        raise ValueError(f"cut: got {cut!r}; expected a whole number of seconds since 1970-01-01 UTC")
    test = stamps >= cut
    if not test.any() or test.all():
        raise ValueError(
            f"cut: got {cut}, which leaves one part empty; the timestamps run from "
            f"{stamps.min()} to {stamps.max()}"
        )
    return _split(ratings, test)


def _split(ratings, test):
    return Split(ratings[~test], ratings[test])


def _test_size(ratings, test_fraction):
    if not isinstance(test_fraction, numbers.Real) or not 0 < test_fraction < 1:
        raise ValueError(f"test_fraction: got {test_fraction!r}; expected a number between 0 and 1")
    n_test = round(len(ratings) * test_fraction)
    if not 0 < n_test < len(ratings):
        raise ValueError(
            f"test_fraction: got {test_fraction}, which leaves one part of {len(ratings)} rating(s) empty"
        )
    return n_test


def _timestamps(ratings):
    if ratings.timestamps is None:
        raise ValueError("ratings: got no timestamps; a split by time needs them")
    return ratings.timestamps


def _last_of_each_user(ratings, order, k):
    """Mark the last k rows of each user in the given order, where there are more than k."""
    check_positive_int("k", k)
    users = ratings.user_codes[order]
    by_user = np.argsort(users, kind="stable")
    counts = ratings.user_counts
    ends = np.cumsum(counts)[users[by_user]]
    from_end = ends - np.arange(len(order))  # 1 for a user's last row
    chosen = (from_end <= k) & (counts[users[by_user]] > k)
    if not chosen.any():
        raise ValueError(f"k: got {k}; expected a number below the ratings of at least one user")
    test = np.zeros(len(order), dtype=bool)
    test[order[by_user[chosen]]] = True
    return test
