"""Products of a low-rank matrix and of its sparse residual, over the observed entries only.

A low-rank matrix X = U V' of shape (m, n) is held as two thin factors, and what is wanted of it are its
values on the observed entries and the products of a sparse matrix with thin ones. All are passes
over the ratings, one row of the factors fetched for each; nothing of shape (m, n) is ever formed.

The ratings lie in CSR form. Products of the sparse matrix with thin ones are those of `products`.

These passes work on a span of rows and release the lock, so that spans run side by side. A row is summed
in a fixed order by one thread: the result does not depend on the number of threads. The inner loops, over
the k columns of contiguous factors, are what LLVM turns into vector code.
"""

import numpy as np

from .compiling import REORDER, njit


@njit(inline="always")
def _dot(a, b, k):
    total = a.dtype.type(0)
    for j in range(k):
        total += a[j] * b[j]
    return total


@njit(fastmath=REORDER)
def sampled(first, stop, indptr, indices, u, v, out):
    """out[t] = u[row] . v[column] for the entries of rows first...stop: 2 nnz k operations."""
    k = u.shape[1]
    for row in range(first, stop):
        a = u[row]
        for t in range(indptr[row], indptr[row + 1]):
            out[t] = _dot(a, v[indices[t]], k)


@njit(fastmath=REORDER)
def line(first, stop, indptr, indices, u, du, v, dv, shift, out, out2):
    """Values of (u + s du)(v + s dv)' + s shift along a line: its terms in s and in s squared.

    ``out = du . v + u . dv + shift`` and ``out2 = du . dv``, 6 nnz k operations.
    """
    k = u.shape[1]
    zero = u.dtype.type(0)
    for row in range(first, stop):
        a, da = u[row], du[row]
        for t in range(indptr[row], indptr[row + 1]):
            b, db = v[indices[t]], dv[indices[t]]
            slope = bend = zero
            for j in range(k):
                slope += da[j] * b[j] + a[j] * db[j]
                bend += da[j] * db[j]
            out[t] = slope + shift
            out2[t] = bend


@njit(fastmath=REORDER)
def line_sums(e, a, b):
    """Inner products ee, ea, eb, aa, ab, bb of three arrays, summed in float64."""
    ee = ea = eb = aa = ab = bb = 0.0
    for t in range(len(e)):
        x, y, z = np.float64(e[t]), np.float64(a[t]), np.float64(b[t])
        ee += x * x
        ea += x * y
        eb += x * z
        aa += y * y
        ab += y * z
        bb += z * z
    return ee, ea, eb, aa, ab, bb


@njit(fastmath=REORDER)
def step_residual(e, a, b, s):
    """e -= s a + s^2 b, in place."""
    for t in range(len(e)):
        e[t] -= s * (a[t] + s * b[t])


# ---- conjugate gradients ------------------------------------------------------------
# One pass over the arrays for what NumPy would do in several, with arrays of its own. Sums are in float64.


@njit(fastmath=REORDER)
def gradient(part, x, penalties, weights, k):
    """part = penalties * x - part; the penalties of the first k columns times the weight of the row."""
    for row in range(len(x)):
        for j in range(k):
            part[row, j] = weights[row] * penalties[j] * x[row, j] - part[row, j]
        for j in range(k, x.shape[1]):
            part[row, j] = penalties[j] * x[row, j] - part[row, j]


@njit(fastmath=REORDER)
def ridge_products(x, d, penalties, weights, k):
    """Inner products of penalties * d with x and with d."""
    cross = square = 0.0
    for row in range(len(x)):
        for j in range(k):
            ridge = np.float64(weights[row] * penalties[j] * d[row, j])
            cross += ridge * x[row, j]
            square += ridge * d[row, j]
        for j in range(k, x.shape[1]):
            ridge = np.float64(penalties[j] * d[row, j])
            cross += ridge * x[row, j]
            square += ridge * d[row, j]
    return cross, square


@njit(fastmath=REORDER)
def preconditioned(g, old, inverse):
    """Inner products of inverse * g with g and with old."""
    new = cross = 0.0
    for row in range(len(g)):
        for j in range(g.shape[1]):
            z = np.float64(inverse[row, j] * g[row, j])
            new += z * g[row, j]
            cross += z * old[row, j]
    return new, cross


@njit(fastmath=REORDER)
def turn(direction, ratio, inverse, g):
    """direction = ratio * direction - inverse * g, and its inner product with g."""
    along = 0.0
    for row in range(len(g)):
        for j in range(g.shape[1]):
            d = ratio * direction[row, j] - inverse[row, j] * g[row, j]
            direction[row, j] = d
            along += np.float64(d) * g[row, j]
    return along


@njit(fastmath=REORDER)
def advance(x, length, direction):
    """x += length * direction, in place."""
    for row in range(len(x)):
        for j in range(x.shape[1]):
            x[row, j] += length * direction[row, j]
