"""Which ratings a model learns from, and which it is tested on."""

from __future__ import annotations

import numbers
from typing import NamedTuple

import numpy as np

from ..checks import check_choice
from ..data import splits
from ..data.ratings import Ratings

PROTOCOLS = ("random", "5-fold", "temporal")


def protocol_splits(ratings, protocol="5-fold", *, seed=0):
    """The train and test parts of a protocol.

    Parameters
    ----------
    ratings : Ratings
    protocol : {"random", "5-fold", "temporal"}, (train, test), or sequence of these pairs
        One random 80/20 split; five folds, each the test part once; training on the first 80 % of
        the ratings in time and testing on the rest. Or ready-made parts: one split, as
        ``splits.random_holdout(ratings)`` gives it, or several, as ``load_100k_folds()`` does.
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
    if isinstance(protocol, tuple) and len(protocol) == 2 and all(isinstance(p, Ratings) for p in protocol):
        protocol = [protocol]
    try:
        parts = [splits.Split(*pair) for pair in protocol]
    except TypeError:
        raise TypeError(
            f"protocol: got {type(protocol).__name__}; expected one of {', '.join(map(repr, PROTOCOLS))}, a "
            "split, or pairs (train, test)"
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


class Newcomers(NamedTuple):
    """People set aside whole: a training part without them, what each tells, and what each is tested on."""

    train: Ratings
    known: Ratings
    test: Ratings


def strong_generalization(ratings, *, users=0.1, known=0.8, seed=0):
    """Set people aside, and a part of what each of them rated, to test lists for newcomers.

    The split of Liang et al. (2018, Variational autoencoders for collaborative filtering, WWW): a model
    learns from the other people, is told `known` of each newcomer's ratings, and lists films for each
    (`rank_newcomers`).

    Parameters
    ----------
    ratings : Ratings
    users : float or int
        How many people to set aside: a share between 0 and 1, or a number. Drawn among those with at
        least two ratings.
    known : float
        Share of each one's ratings, between 0 and 1, that the model is told; at least one rating goes
        to each side.
    seed : int or numpy.random.Generator

    Returns
    -------
    Newcomers
        train, known and test, which share their ids and hold every rating once.

    Raises
    ------
    ValueError
        If a share is not between 0 and 1, or nobody would be left on one side.
    """
    if not isinstance(ratings, Ratings):
        raise TypeError(f"ratings: got {type(ratings).__name__}; expected a Ratings")
    counts = ratings.user_counts
    able = np.flatnonzero(counts >= 2)
    n_users = users
    if not isinstance(users, numbers.Integral):
        n_users = round(_share("users", users) * np.count_nonzero(counts))
    if isinstance(users, bool) or not 0 < n_users <= min(len(able), np.count_nonzero(counts) - 1):
        raise ValueError(
            f"users: got {users!r}; expected a share, or a number from 1 to "
            f"{min(len(able), np.count_nonzero(counts) - 1)} of people with two ratings or more"
        )
    share = _share("known", known)
    rng = np.random.default_rng(seed)
    aside = np.zeros(ratings.n_users, dtype=bool)
    aside[rng.choice(able, n_users, replace=False)] = True
    order = rng.permutation(len(ratings))
    order = order[np.argsort(ratings.user_codes[order], kind="stable")]
    place = np.arange(len(ratings)) - np.repeat(np.cumsum(counts) - counts, counts)
    told = np.clip(np.round(share * counts), 1, np.maximum(counts - 1, 1))
    is_known = np.empty(len(ratings), dtype=bool)
    is_known[order] = place < np.repeat(told, counts)
    newcomer = aside[ratings.user_codes]
    return Newcomers(ratings[~newcomer], ratings[newcomer & is_known], ratings[newcomer & ~is_known])


def _share(name, value):
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < value < 1:
        raise ValueError(f"{name}: got {value!r}; expected a share between 0 and 1")
    return value
