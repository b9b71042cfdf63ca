"""Coordinate descent for a non-negative factorization of the observed cells.

Given the factors h_j of the n films in a row, the row's factors w >= 0 are to make

    sum_j (r_j - w . h_j)^2 + reg n |w|^2

small. In one coordinate w_f this is a parabola, whose lowest point with w_f >= 0 is

    w_f <- max(0, w_f + (sum_j e_j h_jf - reg n w_f) / (sum_j h_jf^2 + reg n)),   e = r - H w

(HALS, Cichocki and Phan 2009; with gaps in the table Yu, Hsieh, Si and Dhillon 2012). The errors e
are carried along, so a visit of all coordinates costs 4 n k operations, and no visit can raise the
sum. Rows are independent of one another.
"""

import numpy as np

from .compiling import REORDER, njit


@njit(fastmath=REORDER)
def descend_rows(first, stop, indptr, indices, values, factors, reg, out):
    """Visit each coordinate of rows first to stop once; changes `out`.

    Parameters
    ----------
    first, stop : int
        Span of rows.
    indptr, indices, values : ndarray
        Ratings of the rows, CSR.
    factors : ndarray, shape (columns, k)
        Of the other side, not below 0.
    reg : float
        Of the type of the factors.
    out : ndarray, shape (rows, k)
        Not below 0. A row without ratings becomes 0.

    Returns
    -------
    float
        Sum of squared errors after the visits.
    """
    k = factors.shape[1]
    most = 0
    for row in range(first, stop):
        most = max(most, indptr[row + 1] - indptr[row])
    # The row's films one coordinate after the other: each visit reads one line of numbers.
    h = np.empty((k, most), factors.dtype)
    error = np.empty(most, factors.dtype)
    total = 0.0
    for row in range(first, stop):
        start = indptr[row]
        n = indptr[row + 1] - start
        if n == 0:
            out[row, :] = 0
            continue
        for j in range(n):
            error[j] = values[start + j]
            at = indices[start + j]
            for f in range(k):
                h[f, j] = factors[at, f]
        for f in range(k):
            w, line = out[row, f], h[f]
            if w != 0:
                for j in range(n):
                    error[j] -= w * line[j]
        penalty = reg * factors.dtype.type(n)
        for f in range(k):
            w, line = out[row, f], h[f]
            pull, square = -penalty * w, penalty
            for j in range(n):
                pull += error[j] * line[j]
                square += line[j] * line[j]
            if square > 0:
                new = max(w + pull / square, factors.dtype.type(0))
                if new != w:
                    for j in range(n):
                        error[j] -= (new - w) * line[j]
                    out[row, f] = new
        for j in range(n):
            total += np.float64(error[j]) * np.float64(error[j])
    return total
