"""What a Gibbs sampler of factors needs beside the draws of rows, which `als` makes.

Coefficients   the linear map from features to the means of rows, one feature after the other
Averages       mean and spread of a prediction over the draws that were kept
"""

import numpy as np

from .compiling import REORDER, njit


@njit(fastmath=REORDER)
def draw_coefficients(first, stop, indptr, rows, shares, roots, penalty, noise, coefficients, residual):
    """Draw the coefficients of one feature after the other, in columns first...stop.

    With F the features and B the coefficients, row r is normal around F_r B with precision w_r in every
    column. Then the coefficient of feature j is normal around what the others leave for it, with precision
    ``sum_r w_r F_rj^2 + penalty_j``: a Gibbs step by coordinates. Columns are independent: calls may run
    side by side.

    Parameters
    ----------
    first, stop : int
        The columns of this call.
    indptr, rows, shares : ndarray, shape (f + 1,), (nnz,), (nnz,)
        F by features (CSC).
    roots : ndarray, shape (rows,)
        Square roots of w.
    penalty : ndarray, shape (f,)
        Precision of the prior of each feature's coefficients, whose mean is zero.
    noise : ndarray, shape (f, columns)
        Standard normal numbers.
    coefficients, residual : ndarray, shape (f, columns) and (rows, columns)
        B, and what it leaves of the rows, times `roots`; both are written in place.

    Notes
    -----
    4 nnz (stop - first) operations.
    """
    width = stop - first
    sums = np.zeros(width, residual.dtype)
    for j in range(len(penalty)):
        sums[:] = 0
        square = residual.dtype.type(0)
        for t in range(indptr[j], indptr[j + 1]):
            share, row = shares[t] * roots[rows[t]], residual[rows[t]]
            square += share * share
            for c in range(width):
                sums[c] += share * row[first + c]
        precision = square + penalty[j]
        for c in range(width):
            old = coefficients[j, first + c]
            drawn = (sums[c] + square * old) / precision + noise[j, first + c] / np.sqrt(precision)
            coefficients[j, first + c] = drawn
            sums[c] = drawn - old
        for t in range(indptr[j], indptr[j + 1]):
            share, row = shares[t] * roots[rows[t]], residual[rows[t]]
            for c in range(width):
                row[first + c] -= share * sums[c]


@njit(fastmath=REORDER)
def average_pairs(first, stop, users, items, user_factors, user_bias, item_factors, item_bias, out, square):
    """Mean and variance over the draws of the predictions for pairs first...stop.

    Parameters
    ----------
    first, stop : int
        The pairs of this call.
    users, items : ndarray of int32, shape (pairs,)
        Codes; -1 stands for the last row.
    user_factors, user_bias : ndarray, shape (draws, m + 1, k) and (draws, m + 1)
    item_factors, item_bias : ndarray, shape (draws, n + 1, k) and (draws, n + 1)
    out, square : ndarray of float64, shape (pairs,)
        Written in place: mean, and variance (that of the draws themselves, divided by their number).

    Notes
    -----
    2 k operations for each draw and pair.
    """
    draws, m, k = user_factors.shape
    n = item_factors.shape[1]
    for t in range(first, stop):
        u = users[t] if users[t] >= 0 else m - 1
        i = items[t] if items[t] >= 0 else n - 1
        total, squares = 0.0, 0.0
        for d in range(draws):
            row, column = user_factors[d, u], item_factors[d, i]
            value = user_factors.dtype.type(0)
            for j in range(k):
                value += row[j] * column[j]
            value += user_bias[d, u] + item_bias[d, i]
            total += value
            squares += np.float64(value) * value
        total /= draws
        out[t] = total
        square[t] = max(squares / draws - total * total, 0.0)
