"""Epochs of stochastic gradient descent for factor models: one rating, one small step.

For a rating r of item i by user u with error e, the step of length s on
``e^2 + reg (|p_u|^2 + |q_i|^2) + bias_reg (b_u^2 + b_i^2)`` is (Funk 2006)

    b_u += s (e - bias_reg b_u)        p_u += s (e q_i - reg p_u)
    b_i += s (e - bias_reg b_i)        q_i += s (e p_u - reg q_i)

all with the old values on the right. Each step needs what the steps before it left behind,
so one epoch is one thread of work, in the order in which the ratings come.

A rating costs one pass over two short rows to get e and one to move them. Loops over a k
that is known only at run time are slow in exactly such short pieces: the compiler guards
them against overlapping rows and finishes them number by number. So rows are padded with
zeros to whole vectors, which the steps leave zero, and the two passes are written as vector
instructions.

SVD++ (Koren 2008) adds to p_u the sum of the vectors y_j of all items j that the user has
touched, z_u = |N(u)|^-1/2 sum_j y_j. Taken literally, a rating moves all these y_j, and the
next one adds them all up again. But each of a user's ratings moves the y_j in the same way,

    y_j <- (1 - s reg) y_j + s e |N(u)|^-1/2 q_i ,

so the sum itself moves by ``z <- (1 - s reg) z + s e q_i``, which is the step of p_u. While
the ratings of one user are visited, only x = p_u + z_u has to be carried along. With a user's
n ratings done, (x_n - (1 - s reg)^n x_0) / 2 is what they have added to p_u, and to z_u, and
each y_j gets its share in one go. In exact arithmetic this is the literal algorithm; the work
falls from the sum of squared numbers of ratings to the number of ratings.
"""

import numpy as np

from .compiling import njit
from .vectors import dot, prefetch, scale_add, step_both

# How many ratings early the rows of factors are asked for.
AHEAD = 6


@njit
def sgd_epoch(
    users, items, values, mean, user_factors, user_bias, item_factors, item_bias, rate, reg, bias_reg, lanes
):  # fmt: skip
    """Visit the ratings in the given order, one step each; changes factors and biases.

    Parameters
    ----------
    users, items : ndarray of int32, shape (nnz,)
    values : ndarray of float32, shape (nnz,)
    mean : float
    user_factors, item_factors : ndarray, shape (m, ld) and (n, ld)
        C-contiguous, ld a multiple of `lanes`, zeros beyond the rank.
    user_bias, item_bias : ndarray, shape (m,) and (n,)
    rate, reg, bias_reg : float
        s, reg and bias_reg above; like `mean` of the type of the factors.
    lanes : int
        Numbers in one vector.

    Returns
    -------
    float
        Sum of e^2, each as it was just before its own step.
    """
    ld = user_factors.shape[1]
    n_vectors, one = ld // lanes, user_bias.dtype.type(1)
    keep, keep_bias = one - rate * reg, one - rate * bias_reg
    last, total = len(values) - 1, 0.0
    for t in range(len(values)):
        soon = min(t + AHEAD, last)
        prefetch(user_factors, np.int64(users[soon]) * ld, ld)
        prefetch(item_factors, np.int64(items[soon]) * ld, ld)
        u, i = np.int64(np.uint32(users[t])), np.int64(np.uint32(items[t]))
        error = values[t] - mean - user_bias[u] - item_bias[i]
        error -= dot(user_factors, u * ld, item_factors, i * ld, n_vectors)
        step = rate * error
        user_bias[u] = keep_bias * user_bias[u] + step
        item_bias[i] = keep_bias * item_bias[i] + step
        step_both(user_factors, u * ld, item_factors, i * ld, n_vectors, keep, step, step)
        total += np.float64(error) * np.float64(error)
    return total


@njit
def squared_error(users, items, values, mean, user_factors, user_bias, item_factors, item_bias, lanes):
    """Sum of squared errors, in float64; arguments as in `sgd_epoch`."""
    ld = user_factors.shape[1]
    last, total = len(values) - 1, 0.0
    for t in range(len(values)):
        soon = min(t + AHEAD, last)
        prefetch(user_factors, np.int64(users[soon]) * ld, ld)
        prefetch(item_factors, np.int64(items[soon]) * ld, ld)
        u, i = np.int64(users[t]), np.int64(items[t])
        error = np.float64(values[t]) - mean - user_bias[u] - item_bias[i]
        error -= dot(user_factors, u * ld, item_factors, i * ld, ld // lanes)
        total += error * error
    return total


@njit
def svdpp_epoch(
    rows, indptr, items, values, seen_indptr, seen, mean, user_factors, user_bias, item_factors, item_bias,
    implicit, rate, reg, bias_reg, lanes, work,
):  # fmt: skip
    """Visit the ratings user by user; changes factors, biases and the implicit factors.

    Parameters
    ----------
    rows : ndarray of int, shape (m,)
        Users in the order of the visits.
    indptr, items, values : ndarray
        Their ratings: those of ``rows[t]`` from ``indptr[t]`` to ``indptr[t + 1]``.
    seen_indptr, seen : ndarray of int
        N(u), CSR by user code.
    implicit : ndarray, shape (n, ld)
        One row y_j for each item.
    work : ndarray, shape (2, ld)
        Scratch.

    The others are those of `sgd_epoch`. Returns the sum of e^2, each as it was just before its
    own step.
    """
    ld = user_factors.shape[1]
    n_vectors, zero, one = ld // lanes, user_bias.dtype.type(0), user_bias.dtype.type(1)
    keep, keep_bias = one - rate * reg, one - rate * bias_reg
    total = 0.0
    for row in range(len(rows)):
        first, stop = indptr[row], indptr[row + 1]
        if first == stop:
            continue
        u = np.int64(rows[row])
        start, end = seen_indptr[u], seen_indptr[u + 1]
        norm = one / np.sqrt(user_bias.dtype.type(max(end - start, 1)))
        # x = p_u + z_u in the first row of the scratch, and what it was in the second.
        scale_add(work, 0, user_factors, u * ld, n_vectors, zero, one)
        for t in range(start, end):
            prefetch(implicit, np.int64(seen[min(t + AHEAD, end - 1)]) * ld, ld)
            scale_add(work, 0, implicit, np.int64(seen[t]) * ld, n_vectors, one, norm)
        scale_add(work, ld, work, 0, n_vectors, zero, one)
        parts = one + one if start < end else one
        bias = user_bias[u]
        for t in range(first, stop):
            prefetch(item_factors, np.int64(items[min(t + AHEAD, stop - 1)]) * ld, ld)
            i = np.int64(np.uint32(items[t]))
            error = values[t] - mean - bias - item_bias[i] - dot(work, 0, item_factors, i * ld, n_vectors)
            step = rate * error
            bias = keep_bias * bias + step
            item_bias[i] = keep_bias * item_bias[i] + step
            step_both(work, 0, item_factors, i * ld, n_vectors, keep, parts * step, step)
            total += np.float64(error) * np.float64(error)
        user_bias[u] = bias
        # Each part's share of what the ratings have added.
        shrunk = user_bias.dtype.type(keep ** (stop - first))
        scale_add(work, 0, work, ld, n_vectors, one / parts, -shrunk / parts)
        scale_add(user_factors, u * ld, work, 0, n_vectors, shrunk, one)
        for t in range(start, end):
            prefetch(implicit, np.int64(seen[min(t + AHEAD, end - 1)]) * ld, ld)
            scale_add(implicit, np.int64(seen[t]) * ld, work, 0, n_vectors, shrunk, norm)
    return total
