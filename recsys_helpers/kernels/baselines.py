"""The bias model's equations: a mean, one number a row and one a column.

Minimized is

    sum (y - mu - b_row - c_column)^2 + sum_row d_row b_row^2 + sum_column f_column c_column^2 .

For given c and mu every b stands alone, so b is eliminated. What is left is a system in the columns (and
the mean, where that is free), with the Schur complement for a matrix: ``F - R' D^-1 R`` with the pattern R
of the observed entries, D = counts + d and F = counts + f. Conjugate gradients (Hestenes and Stiefel 1952)
solve it; R is read once a step, and the complement is never formed. The preconditioner F makes a
preconditioned residual the change that another alternating sweep would make, which is what the stopping
rule looks at.

Without penalties the solution is not unique: in every connected part of the table a constant can move
from rows to columns. Started from zero, the steps stay in the range of the matrix and find the solution
whose columns, weighted by their counts, have mean zero in each part. Rows and columns without entries
stay at zero.

All arithmetic is in float64. One pass of gathering and scattering costs about 4 operations an entry.
"""

import numpy as np

from .compiling import njit


@njit
def solve_biases(
    indptr, indices, values, n_columns, mean, free_mean, row_penalty, column_penalty, tol, max_steps
):  # fmt: skip
    """Mean, row biases and column biases of one regularized least-squares problem.

    Parameters
    ----------
    indptr, indices, values : ndarray
        The observed entries, CSR. The rows are eliminated: the longer side of the table should be rows.
    n_columns : int
    mean : float
        The mean, or where a free one starts.
    free_mean : bool
        Whether the mean is optimized with the biases; it carries no penalty.
    row_penalty, column_penalty : ndarray of float64, shape (rows,) and (n_columns,)
        d and f, not below 0.
    tol : float
        Stop when another alternating sweep would change no column, nor the mean, by more than this
        (Notes above), in units of the values.
    max_steps : int
        Upper bound on conjugate gradient steps.

    Returns
    -------
    mean : float
    row_bias, column_bias : ndarray of float64
    steps : int
    change : float
        What `tol` was held against.
    """
    m, n = len(indptr) - 1, n_columns
    row_inverse, row_sum = np.zeros(m), np.zeros(m)
    # The last place of what belongs to columns is the mean's.
    diagonal, x, r = np.zeros(n + 1), np.zeros(n + 1), np.zeros(n + 1)
    mean_weight = 0.0
    for row in range(m):
        total = 0.0
        for t in range(indptr[row], indptr[row + 1]):
            y = np.float64(values[t]) - mean
            total += y
            r[indices[t]] += y
            diagonal[indices[t]] += 1.0
        count = np.float64(indptr[row + 1] - indptr[row])
        row_sum[row] = total
        if count + row_penalty[row] > 0:
            row_inverse[row] = 1.0 / (count + row_penalty[row])
            # What of the row's weight its own bias does not take up.
            mean_weight += count * row_penalty[row] * row_inverse[row]
            r[n] += total * row_penalty[row] * row_inverse[row]
    if free_mean:
        diagonal[n] = mean_weight
    else:
        r[n] = 0.0
    inverse = np.zeros(n + 1)
    for j in range(n):
        diagonal[j] += column_penalty[j]
    for j in range(n + 1):
        if diagonal[j] > 0:
            inverse[j] = 1.0 / diagonal[j]
    for row in range(m):
        part = row_inverse[row] * row_sum[row]
        for t in range(indptr[row], indptr[row + 1]):
            r[indices[t]] -= part

    p, q = np.zeros(n + 1), np.empty(n + 1)
    old, steps, change = 1.0, 0, np.inf
    while True:
        new, change = 0.0, 0.0
        for j in range(n + 1):
            z = inverse[j] * r[j]
            new += z * r[j]
            change = max(change, abs(z))
        if change <= tol or new <= 0.0 or steps == max_steps:
            break
        ratio = new / old if steps else 0.0
        for j in range(n + 1):
            p[j] = inverse[j] * r[j] + ratio * p[j]
        _complement(indptr, indices, row_inverse, row_penalty, column_penalty, free_mean, p, q)
        curvature = 0.0
        for j in range(n + 1):
            curvature += p[j] * q[j]
        if curvature <= 0.0:  # only rounding is left of the direction
            break
        length = new / curvature
        for j in range(n + 1):
            x[j] += length * p[j]
            r[j] -= length * q[j]
        old = new
        steps += 1

    row_bias = np.empty(m)
    for row in range(m):
        total = row_sum[row]
        for t in range(indptr[row], indptr[row + 1]):
            total -= x[indices[t]] + x[n]
        row_bias[row] = row_inverse[row] * total
    return mean + x[n], row_bias, x[:n].copy(), steps, change


@njit
def _complement(indptr, indices, row_inverse, row_penalty, column_penalty, free_mean, p, q):
    """q = S p, with S the Schur complement; the last places belong to the mean."""
    n = len(p) - 1
    for j in range(n):
        q[j] = column_penalty[j] * p[j]
    q[n] = 0.0
    for row in range(len(indptr) - 1):
        first, stop = indptr[row], indptr[row + 1]
        total = (stop - first) * p[n]
        for t in range(first, stop):
            total += p[indices[t]]
        # The row's bias follows the columns; what is left of each entry goes back to them.
        own = row_inverse[row] * total
        rest = p[n] - own
        for t in range(first, stop):
            q[indices[t]] += p[indices[t]] + rest
        if free_mean:
            # total - (stop - first) own, without the difference of like numbers for small penalties
            q[n] += row_penalty[row] * own
