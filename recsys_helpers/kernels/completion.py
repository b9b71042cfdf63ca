"""Products of a low-rank matrix and of its sparse residual, over the observed entries only.

A low-rank matrix X = U V' of shape (m, n) is held as two thin factors, and what is wanted of it are its
values on the observed entries and the products of a sparse matrix with thin ones. All are passes
over the ratings, one row of the factors fetched for each; nothing of shape (m, n) is ever formed.

The ratings lie in CSR form. The same kernels serve the other orientation: the arrays of the CSC form, and
`order`, the position of each of its entries in CSR order, so that values are kept once.

Every function works on a span of rows and releases the lock, so that spans run side by side. A row is
summed in a fixed order by one thread: the result does not depend on the number of threads. The inner
loops, over the k columns of contiguous factors, are what LLVM turns into vector code.
"""

import numpy as np
from numba import njit

# Sums may be reordered into vectors; NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "nsz"}


@njit(inline="always")
def _dot(a, b, k):
    total = a.dtype.type(0)
    for j in range(k):
        total += a[j] * b[j]
    return total


@njit(cache=True, nogil=True, fastmath=FAST)
def sampled(first, stop, indptr, indices, u, v, out):
    """out[t] = u[row] . v[column] for the entries of rows first...stop: 2 nnz k operations."""
    k = u.shape[1]
    for row in range(first, stop):
        a = u[row]
        for t in range(indptr[row], indptr[row + 1]):
            out[t] = _dot(a, v[indices[t]], k)


@njit(cache=True, nogil=True, fastmath=FAST)
def times(first, stop, indptr, indices, order, values, v, out):
    """out[row] = sum of values times v[column]: sparse times thin, 2 nnz k operations."""
    k = v.shape[1]
    for row in range(first, stop):
        total = out[row]
        total[:] = 0
        for t in range(indptr[row], indptr[row + 1]):
            b = v[indices[t]]
            e = values[order[t]]
            for j in range(k):
                total[j] += e * b[j]


@njit(cache=True, nogil=True, fastmath=FAST)
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


@njit(cache=True, nogil=True, fastmath=FAST)
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


@njit(cache=True, nogil=True, fastmath=FAST)
def step_residual(e, a, b, s):
    """e -= s a + s^2 b, in place."""
    for t in range(len(e)):
        e[t] -= s * (a[t] + s * b[t])


@njit(cache=True, nogil=True, fastmath=FAST)
def squares(first, stop, indptr, indices, v, out):
    """out[row] = sum over the row's entries of the squares of v[column], element by element."""
    k = v.shape[1]
    for row in range(first, stop):
        total = out[row]
        total[:] = 0
        for t in range(indptr[row], indptr[row + 1]):
            b = v[indices[t]]
            for j in range(k):
                total[j] += b[j] * b[j]
