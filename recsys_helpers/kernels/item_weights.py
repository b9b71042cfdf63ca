"""Regressions of each item on all others: Gram matrices, one triangle of an inverse, coordinate descent."""

import numpy as np

from .compiling import njit

# Rows and columns of a square that is mirrored at a time: two of them fit the first-level cache.
TILE = 32


@njit
def gram_rows(first, stop, indptr, indices, data, item_indptr, item_indices, item_data, out):
    """Upper triangle of X'X, rows first...stop of it.

    Parameters
    ----------
    first, stop : int
        Items.
    indptr, indices, data : ndarray
        X in CSR form: the items of each user, ascending, and their values.
    item_indptr, item_indices, item_data : ndarray
        X' in CSR form: the users of each item.
    out : ndarray of float, shape (n, n)
        Rows first...stop are written from the diagonal on; what lies below it is left as it is.

    Notes
    -----
    Half of sum_u n_u^2 multiply-adds in all. Each row is summed in one place, so its bits do not depend
    on the spans.
    """
    n = out.shape[1]
    total = np.empty(n, out.dtype)
    for i in range(first, stop):
        total[i:] = 0.0
        for at in range(item_indptr[i], item_indptr[i + 1]):
            user = item_indices[at]
            value = out.dtype.type(item_data[at])
            s = indptr[user + 1] - 1
            while s >= indptr[user] and indices[s] >= i:
                total[indices[s]] += value * out.dtype.type(data[s])
                s -= 1
        for j in range(i, n):
            out[i, j] = total[j]


@njit
def weights_from_inverse(first, stop, inverse, diagonal):
    """From the upper triangle of P to the matrix -P_ij / P_jj with zeros on the diagonal, in place.

    Parameters
    ----------
    first, stop : int
        Rows of tiles. Calls for different ones may run side by side.
    inverse : ndarray of float, shape (n, n)
        P, of which what lies below the diagonal is not read.
    diagonal : ndarray of float, shape (n,)
        That of P.
    """
    n = len(inverse)
    factors = -1 / diagonal
    for tile in range(first, stop):
        top, bottom = tile * TILE, min((tile + 1) * TILE, n)
        for left in range(top, n, TILE):
            right = min(left + TILE, n)
            for i in range(top, bottom):
                for j in range(max(left, i + 1), right):
                    value = inverse[i, j]
                    inverse[i, j] = value * factors[j]
                    inverse[j, i] = value * factors[i]
        for i in range(top, bottom):
            inverse[i, i] = 0


@njit
def mirror(first, stop, matrix):
    """Copy the upper triangle of a matrix below its diagonal, for rows of tiles first...stop."""
    n = len(matrix)
    for tile in range(first, stop):
        top, bottom = tile * TILE, min((tile + 1) * TILE, n)
        for left in range(top, n, TILE):
            right = min(left + TILE, n)
            for i in range(top, bottom):
                for j in range(max(left, i + 1), right):
                    matrix[j, i] = matrix[i, j]


@njit
def descend(first, stop, gram, l1, l2, lowest, tol, bound, weights, passes):
    """Elastic-net regressions of items first...stop on all others, by coordinate descent.

    Column i minimizes ``1/2 |x_i - X w|^2 + l1 |w|_1 + l2 / 2 |w|^2`` with w_i = 0 and w >= lowest.
    The coordinates that would move most from zero are taken into a working set, which is solved by passes
    over itself alone; then all others are told, and looked at again, with half the bar.

    Parameters
    ----------
    gram : ndarray of float, shape (n, n)
        X'X, both triangles.
    l1, l2 : float
    lowest : float
        0 or -inf.
    tol : float
        No weight changes by more in the last passes.
    bound : int
        Upper bound on passes over the working set.
    weights : ndarray of float, shape (stop - first, n)
        Row i - first gets column i.
    passes : ndarray of int64, shape (stop - first,)
        How many it took; bound + 1 where it was not enough.

    Notes
    -----
    A pass over a working set of a coordinates costs at most a^2 operations; to tell the others n a, some ten
    times.
    """
    n = len(gram)
    slope, w = np.empty(n), np.empty(n)
    active, inside = np.empty(n, np.int64), np.empty(n, np.bool_)
    for i in range(first, stop):
        for j in range(n):
            slope[j] = gram[i, j]  # x_j . (x_i - X w)
        w[:] = 0.0
        size, done, bar = 0, 0, np.inf
        inside[:] = False
        while done <= bound:
            most = 0.0
            for j in range(n):
                if not inside[j] and j != i:
                    most = max(most, abs(_moved(0.0, slope[j], gram[j, j], l1, l2, lowest)))
            if most <= tol and bar <= tol:
                break
            bar = max(min(most, bar) / 2, tol)
            for j in range(n):
                if not inside[j] and j != i and abs(_moved(0.0, slope[j], gram[j, j], l1, l2, lowest)) > bar:
                    inside[j] = True
                    active[size] = j
                    size += 1
            done += _among(gram, slope, w, active[:size], l1, l2, lowest, max(bar / 4, tol), bound - done)
            # Who came back to zero makes room; it is looked at again like all others.
            kept = 0
            for a in range(size):
                j = active[a]
                inside[j] = w[j] != 0.0
                if inside[j]:
                    active[kept] = j
                    kept += 1
            size = kept
        passes[i - first] = done
        weights[i - first] = w


@njit(inline="always")
def _moved(w, slope, length, l1, l2, lowest):
    """Where a coordinate has its minimum, the others held."""
    pull = slope + length * w
    if length + l2 == 0:
        return 0.0
    if pull > l1:
        return (pull - l1) / (length + l2)
    if pull < -l1:
        return max((pull + l1) / (length + l2), lowest)
    return 0.0


@njit
def _among(gram, slope, w, active, l1, l2, lowest, tol, bound):
    """Passes over some coordinates until they rest, in a copy of their own; returns how many."""
    size = len(active)
    g, v, square = np.empty(size), np.empty(size), np.empty((size, size))
    for a in range(size):
        j = active[a]
        g[a], v[a] = slope[j], w[j]
        for b in range(size):
            square[a, b] = gram[j, active[b]]
    done = 0
    while done <= bound:
        biggest = 0.0
        for a in range(size):
            change = _moved(v[a], g[a], square[a, a], l1, l2, lowest) - v[a]
            if change != 0.0:
                v[a] += change
                for b in range(size):
                    g[b] -= square[a, b] * change
                biggest = max(biggest, abs(change))
        done += 1
        if biggest <= tol:
            break
    for a in range(size):
        j = active[a]
        change = v[a] - w[j]
        w[j] = v[a]
        if change != 0.0:
            for t in range(len(slope)):
                slope[t] -= gram[j, t] * change
    return done


@njit
def score_pairs(users, items, indptr, indices, data, weights, out):
    """out[t] = sum over the items j of user t of data_j * weights[j, item t].

    Parameters
    ----------
    users, items : ndarray of int, shape (pairs,)
        Rows of the CSR arrays, and columns of `weights`.
    indptr, indices, data : ndarray
    weights : ndarray of float, shape (n, n)
    out : ndarray of float64, shape (pairs,)
    """
    for t in range(len(users)):
        total = 0.0
        for at in range(indptr[users[t]], indptr[users[t] + 1]):
            total += np.float64(data[at]) * weights[indices[at], items[t]]
        out[t] = total
