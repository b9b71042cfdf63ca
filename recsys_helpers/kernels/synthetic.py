"""Draw a table at random: which cells of it are filled, and with what."""

import numpy as np

from .compiling import njit
from .hashing import STEP, mixed


@njit
def _uniform(state):
    """Next number in (0, 1]; never 0, so that its logarithm is finite."""
    state[0] += STEP
    return (np.float64(mixed(state[0]) >> np.uint64(11)) + 1.0) * (1.0 / 9007199254740992.0)


@njit
def _normal(state):
    """Standard normal by Box and Muller (1958); the second of the pair is not used."""
    radius = np.sqrt(-2.0 * np.log(_uniform(state)))
    return radius * np.cos(2.0 * np.pi * _uniform(state))


@njit
def draw_items(indptr, weights, cumulative, seed, out):
    """Fill out[indptr[u]:indptr[u + 1]] with distinct item codes of user u, ascending.

    Items are drawn one after the other with probabilities in proportion to `weights`, never the same twice
    for one user. For a small share of the items repeats are redrawn; for a large one, where that would take
    long, every item gets the key -log(U) / weight and the smallest keys win: both are the same distribution
    (Efraimidis and Spirakis 2006). Afterwards an item that nobody drew takes the place of a rating, chosen
    uniformly, of an item that has more than one.
    """
    n_users, n_items = len(indptr) - 1, len(weights)
    state = np.full(1, seed, dtype=np.uint64)
    taken_by = np.full(n_items, -1, dtype=np.int32)
    keys = np.empty(n_items)
    count = np.zeros(n_items, dtype=np.int64)
    for u in range(n_users):
        start, stop = indptr[u], indptr[u + 1]
        if (stop - start) * 20 > n_items:
            for i in range(n_items):
                keys[i] = -np.log(_uniform(state)) / weights[i]
            out[start:stop] = np.argsort(keys)[: stop - start]
        else:
            at = start
            while at < stop:
                i = np.searchsorted(cumulative, _uniform(state) * cumulative[-1])
                if taken_by[i] != u:
                    taken_by[i] = u
                    out[at] = i
                    at += 1
        for at in range(start, stop):
            count[out[at]] += 1
    for i in range(n_items):
        while count[i] == 0:
            at = int(_uniform(state) * (len(out) - 1))
            if count[out[at]] > 1:
                count[out[at]] -= 1
                out[at] = i
                count[i] = 1
    for u in range(n_users):
        out[indptr[u] : indptr[u + 1]].sort()


@njit
def draw_values(
    indptr,
    items,
    mean,
    user_bias,
    item_bias,
    user_factors,
    item_factors,
    noise,
    low,
    high,
    step,
    start,
    span,
    end,
    seed,
    users,
    values,
    stamps,
):
    """Fill users, values and stamps, one entry a cell.

    A value is mean + biases + factors + noise, rounded to a multiple of `step` and kept within low and high;
    a stamp lies an exponential time of mean span[u] after start[u], and not after `end`.
    """
    state = np.full(1, seed, dtype=np.uint64)
    n_factors = user_factors.shape[1]
    for u in range(len(indptr) - 1):
        for at in range(indptr[u], indptr[u + 1]):
            i = items[at]
            x = mean + user_bias[u] + item_bias[i]
            for f in range(n_factors):
                x += user_factors[u, f] * item_factors[i, f]
            x += noise * _normal(state)
            users[at] = u
            values[at] = min(max(np.round(x / step) * step, low), high)
            stamps[at] = min(start[u] + np.int64(-np.log(_uniform(state)) * span[u]), end)
