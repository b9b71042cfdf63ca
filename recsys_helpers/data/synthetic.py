"""Ratings drawn from a known model, as unevenly spread as MovieLens."""

from __future__ import annotations

import numpy as np

from ..checks import check_non_negative, check_positive_int
from .ratings import Ratings

_FIRST_SECOND, _LAST_SECOND = 820_454_400, 1_476_640_644  # 1996-01-01, and the last of latest-small


def synthetic_ratings(
    n_users,
    n_items,
    n_ratings,
    seed=0,
    *,
    rank=8,
    noise=0.8,
    activity_spread=1.4,
    popularity_spread=1.8,
    name="synthetic",
):
    """Ratings drawn from a known low-rank model, as unevenly spread as MovieLens.

    For a user u and an item i that u rated, with E normal noise of standard deviation `noise`,
    ``r = 3.55 + b_u + b_i + p_u . q_i + E``, rounded to half stars and clipped to 0.5 … 5. The biases are
    normal with standard deviations 0.43 and 0.45, and p_u . q_i has 0.35, whatever the rank. Which items a
    user rates does not depend on taste; in real data it does, so a model that is right here may still be
    biased there.

    Parameters
    ----------
    n_users, n_items : int
        Numbers of users m and of items n. Every one of them has at least one rating. Ids count from 1.
    n_ratings : int
        Exact number of ratings, all of distinct (user, item) pairs; from max(m, n) to m n.
    seed : int
        The same seed gives the same ratings.
    rank : int
        Length of p_u and q_i; 0 leaves biases and noise.
    noise : float
        Standard deviation of E, in stars: the least RMSE that any model can reach, but for rounding
        and clipping.
    activity_spread, popularity_spread : float
        Standard deviations of the logarithm of a user's ratings above the minimum of 20, and of an item's
        chance of being picked. 0 is uniform.
    name : str
        Name of the result.

    Returns
    -------
    Ratings
        Sorted by user and item, with timestamps; without a table of movies.

    Raises
    ------
    ValueError
        Where an argument is out of its range.

    Notes
    -----
    How like MovieLens: with the sizes of latest-small (671 users, 9,066 films, 100,004 ratings, seed 0)
    the quantiles are

    ===============  ====  ====  ====  ====  ====  =====  =====  ====
    ratings of a …   10 %  25 %  50 %  75 %  90 %   99 %    max  Gini
    ===============  ====  ====  ====  ====  ====  =====  =====  ====
    user, real         24    37    71   161   323  1,131  2,391  0.58
    user, synthetic    28    40    70   150   322  1,283  2,266  0.58
    film, real          1     1     3     9    28    123    341  0.72
    film, synthetic     1     1     3    10    27    121    525  0.71
    ===============  ====  ====  ====  ====  ====  =====  =====  ====

    Both spreads were chosen on that data set; how alike the curves are at other sizes was not compared.
    Activity takes the quantiles of its distribution, in random order, so its curve is the same for
    every seed. No user rates more than a quarter of the items while the number of ratings allows it.
    Every user has at least 20 ratings where the mean is 40 or more, at least half the mean below that.

    Cost: O(n_ratings (log n + rank)) operations in one thread, 20 bytes a rating.
    """
    from scipy.special import ndtri

    from ..kernels.synthetic import draw_items, draw_values

    check_positive_int("n_users", n_users)
    check_positive_int("n_items", n_items)
    check_positive_int("n_ratings", n_ratings)
    check_positive_int("rank", rank, minimum=0)
    check_positive_int("seed", seed, minimum=0)
    check_non_negative("noise", noise)
    check_non_negative("activity_spread", activity_spread)
    check_non_negative("popularity_spread", popularity_spread)
    if not max(n_users, n_items) <= n_ratings <= n_users * n_items:
        raise ValueError(
            f"n_ratings: got {n_ratings:,}; expected from {max(n_users, n_items):,} (one for each user and "
            f"each item) to {n_users * n_items:,} (all pairs)"
        )
    rng = np.random.default_rng(seed)
    spread = np.exp(activity_spread * ndtri((np.arange(n_users) + 0.5) / n_users))
    activity = rng.permutation(_share_out(n_ratings, spread, n_items))
    weights = np.exp(popularity_spread * ndtri((np.arange(n_items) + 0.5) / n_items))
    weights = rng.permutation(weights)
    indptr = np.concatenate([[0], np.cumsum(activity)])
    item_codes = np.empty(n_ratings, dtype=np.int32)
    draw_items(indptr, weights, np.cumsum(weights), int(rng.integers(2**62)), item_codes)

    factor_sd = 0.35**0.5 / max(rank, 1) ** 0.25
    user_codes = np.empty(n_ratings, dtype=np.int32)
    values = np.empty(n_ratings, dtype=np.float32)
    stamps = np.empty(n_ratings, dtype=np.int64)
    draw_values(
        indptr,
        item_codes,
        3.55,
        rng.normal(0, 0.43, n_users),
        rng.normal(0, 0.45, n_items),
        rng.normal(0, factor_sd, (n_users, rank)),
        rng.normal(0, factor_sd, (n_items, rank)),
        float(noise),
        0.5,  # half stars, from one half to five
        5.0,
        0.5,
        rng.integers(_FIRST_SECOND, _LAST_SECOND, n_users),
        rng.lognormal(np.log(3600), 2, n_users),  # most users rate within hours, a few over years
        _LAST_SECOND,
        int(rng.integers(2**62)),
        user_codes,
        values,
        stamps,
    )
    ids = np.arange(1, n_users + 1, dtype=np.int32), np.arange(1, n_items + 1, dtype=np.int32)
    return Ratings(user_codes, item_codes, values, stamps, *ids, name=name)


def _share_out(total, weights, most):
    """Whole numbers with the given total: an equal minimum, and the rest in proportion to the weights.

    None exceeds a quarter of `most`, or, where the total is too large for that, `most`.
    """
    mean = total / len(weights)
    low = 20 if mean >= 40 else max(1, int(mean // 2))
    low = min(low, most)
    cap = max(most // 4, low)
    if cap * len(weights) < 1.5 * total:
        cap = most
    # Water-filling: what the capped ones cannot take is shared among the others.
    free = np.ones(len(weights), dtype=bool)
    while True:
        rest = total - low * len(weights) - (cap - low) * np.count_nonzero(~free)
        extra = np.where(free, weights * (rest / weights[free].sum()) if free.any() else 0, cap - low)
        over = free & (extra > cap - low)
        if not over.any():
            break
        free &= ~over
    counts = low + np.floor(extra).astype(np.int64)
    short = total - counts.sum()
    order = np.argsort(-(extra % 1), kind="stable")
    order = order[counts[order] < cap]
    counts[order[:short]] += 1
    return counts
