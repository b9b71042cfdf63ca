"""Stochastic gradient descent on pairs of a liked item and another one."""

import numpy as np

from .compiling import njit
from .hashing import STEP, mixed
from .normal import AHEAD
from .vectors import VECTOR_BYTES, dot, dot_difference, prefetch, step_pair

UNIFORM, POPULAR = 0, 1
# The loss is only watched: it is summed on every so-manieth step, since a logarithm takes its time.
LOSS_EVERY = 16


@njit(inline="always")
def _below(number, n):
    """A whole number from 0 to n - 1 from 64 random bits (Lemire 2019, without the rejection)."""
    return np.int64(((number >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@njit(inline="always")
def _bit(user, item, mask):
    """The place of a pair in the table of bits that `marks` fills."""
    number = mixed(np.uint64(user) * STEP + np.uint64(item))
    return np.int64((number >> np.uint64(32)) & np.uint64(mask))


@njit
def mark(indptr, indices, table):
    """Set a bit for each observed pair, so that most others are told apart from them by one look.

    Parameters
    ----------
    indptr, indices : ndarray
        The observed items of each user.
    table : ndarray of uint8
        Zeros; as many as a power of two.
    """
    mask = 8 * len(table) - 1
    for user in range(len(indptr) - 1):
        for at in range(indptr[user], indptr[user + 1]):
            bit = _bit(user, indices[at], mask)
            table[bit >> 3] |= np.uint8(1 << (bit & 7))


@njit(inline="always")
def _has(indptr, indices, table, user, item):
    """Whether a user has an item; a user's items ascend."""
    bit = _bit(user, item, 8 * len(table) - 1)
    if not (table[bit >> 3] >> (bit & 7)) & 1:
        return False
    at, end = np.int64(indptr[user]), np.int64(indptr[user + 1])
    stop = end
    while at < end:
        middle = (at + end) >> 1
        if indices[middle] < item:
            at = middle + 1
        else:
            end = middle
    return at < stop and indices[at] == item


@njit(inline="always")
def _other(state, sampling, n, indptr, indices, table, user):
    """An item that the user does not have, or -1 after many tries; and the state of the numbers."""
    for _ in range(64):
        state += STEP
        number = mixed(state)
        item = np.int64(indices[_below(number, len(indices))]) if sampling == POPULAR else _below(number, n)
        if not _has(indptr, indices, table, user, item):
            return item, state
    return np.int64(-1), state


@njit
def pairwise_epoch(
    seed, steps, users, indptr, indices, table, n, sampling, trials, user_factors, item_factors, rate, reg,
    bias, out,
):  # fmt: skip
    """Steps of stochastic gradient descent on pairs of an observed item and another one, in place.

    With x = p . (q_i - q_j), a step moves the three vectors against the gradient of
    log(1 + exp(-x)) + reg / 2 (|p|^2 + |q_i|^2 + |q_j|^2) (Rendle et al. 2009).

    Parameters
    ----------
    seed : uint64
        The same gives the same pairs.
    steps : int
        Each draws an observed pair, and an item that its user does not have.
    users : ndarray of int32, shape (nnz,)
        User of each observed pair.
    indptr, indices : ndarray, shape (m + 1,), (nnz,)
        The observed items of each user, ascending.
    table : ndarray of uint8
        From `mark`.
    n : int
        Items.
    sampling : {UNIFORM, POPULAR}
        Whether the other item is drawn among all, or in proportion to its observed pairs.
    trials : int
        1: the first item drawn. More: up to so many are tried until one scores above the observed one
        less 1; the step is longer the sooner that was (Weston, Bengio and Usunier 2011).
    user_factors, item_factors : ndarray of float, shape (m, ld) and (n, ld)
        Padded with zeros to whole vectors.
    rate, reg : float
        Of the type of the factors.
    bias : int
        The column in which the users have ones, and the items their bias.
    out : ndarray of float64, shape (2,)
        Gets the number of steps in which the observed item already had the higher score, and the sum of
        log(1 + exp(-x)).

    Returns
    -------
    skipped : int
        Steps without a pair: the user has nearly all items, or no trial found one to learn from.

    Notes
    -----
    O(steps k) operations. The time goes into fetching three rows a step, so they are asked for some steps
    early.
    """
    ld = item_factors.shape[1]
    n_vectors = ld // (VECTOR_BYTES // item_factors.itemsize)
    one = item_factors.dtype.type(1)
    keep = one - rate * reg
    ranks = np.log(np.arange(1, n + 2, dtype=np.float64))
    # A step is drawn in three stages, each of which asks memory for what the next one reads.
    pairs = np.empty(3 * AHEAD, np.int64)
    waiting = np.empty((2 * AHEAD, 3), np.int64)
    state = seed
    right, loss, skipped = 0, 0.0, 0
    for turn in range(steps + 3 * AHEAD):
        step = turn - 3 * AHEAD
        if step >= 0:
            u, i, j = waiting[step % (2 * AHEAD)]
            weight = one
            if trials > 1 and j >= 0:
                j, weight, state = _violating(
                    state,
                    sampling,
                    trials,
                    n,
                    indptr,
                    indices,
                    table,
                    user_factors,
                    item_factors,
                    u,
                    i,
                    j,
                    ranks,
                )
            if j < 0:
                skipped += 1
            else:
                x = dot_difference(user_factors, u * ld, item_factors, i * ld, j * ld, n_vectors)
                right += x > 0
                slope = one / (one + np.exp(x))
                if step % LOSS_EVERY == 0:
                    loss += np.log1p(np.exp(-np.float64(abs(x)))) + max(-np.float64(x), 0.0)
                step_pair(
                    user_factors, u * ld, item_factors, i * ld, j * ld, n_vectors, keep, keep,
                    rate * slope * weight,
                )  # fmt: skip
                user_factors[u, bias] = one
        step += AHEAD
        if 0 <= step < steps:
            slot = step % (2 * AHEAD)
            u, i, j = waiting[slot]
            if _has(indptr, indices, table, u, j):
                j, state = _other(state, sampling, n, indptr, indices, table, u)
                waiting[slot, 2] = j
            prefetch(user_factors, u * ld, ld)
            prefetch(item_factors, i * ld, ld)
            prefetch(item_factors, max(j, 0) * ld, ld)
        step += AHEAD
        if 0 <= step < steps:
            slot = step % (2 * AHEAD)
            at = pairs[step % (3 * AHEAD)]
            u, i = np.int64(users[at]), np.int64(indices[at])
            state += STEP
            number = mixed(state)
            j = np.int64(indices[_below(number, len(indices))]) if sampling == POPULAR else _below(number, n)
            waiting[slot, 0], waiting[slot, 1], waiting[slot, 2] = u, i, j
            prefetch(table, _bit(u, j, 8 * len(table) - 1) >> 3, 1)
        step += AHEAD
        if step < steps:
            state += STEP
            at = _below(mixed(state), len(indices))
            pairs[step % (3 * AHEAD)] = at
            prefetch(users, at, 1)
            prefetch(indices, at, 1)
    out[0], out[1] = right, loss
    return skipped


@njit
def _violating(state, sampling, trials, n, indptr, indices, table, p, q, u, i, j, ranks):
    """The first item drawn that scores above the observed one less 1, and the step's weight; or -1."""
    ld = q.shape[1]
    n_vectors = ld // (VECTOR_BYTES // q.itemsize)
    own = dot(p, u * ld, q, i * ld, n_vectors)
    for trial in range(1, trials + 1):
        if j < 0:
            break
        if dot(p, u * ld, q, j * ld, n_vectors) > own - 1:
            # The place that the observed item probably has, from how long the search took.
            return j, q.dtype.type(ranks[max((n - 1) // trial, 1)] / ranks[n]), state
        j, state = _other(state, sampling, n, indptr, indices, table, u)
    return np.int64(-1), q.dtype.type(0), state
