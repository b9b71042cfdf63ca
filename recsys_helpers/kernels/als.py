"""Least-squares solves of many small systems, one per user or film: the engine of ALS.

Every row of a rating matrix is one regularized regression on the factors of the
other side. With x_j = (q_j, 1) for the n ratings of the row, target
t_j = r_j - mean - b_j and prior mean (g, c), the row's factors and bias minimize

    sum_j (t_j - p . q_j - b)^2 + reg |p - g|^2 + bias_reg (b - c)^2

(Zhou et al. 2008 for the factors; the constant column solves the bias together with
them, as in Koren, Bell and Volinsky 2009). Three ways lead to the minimum:

primal   (k+1) x (k+1) normal equations, n k^2 + k^3/3 multiply-adds or so
dual     n x n, for n well below k: the same minimum by the matrix inversion lemma
cg       a few steps of conjugate gradients, 2 n k multiply-adds each

The same rows are drawn, where a spread s > 0 is given, from the normal distribution around the minimum
whose density falls with exp(-cost / (2 s^2)): the conditional posterior of a row whose noise has the
standard deviation s and whose prior has the variances s^2 / reg and s^2 / bias_reg (Salakhutdinov and
Mnih 2008, with biases). A Gibbs sampler is made of such draws.

The inner blocks are vector code of `vectors`. Rows are independent of one another and each is summed
in a fixed order: the result does not depend on how rows are dealt to threads.
"""

import numpy as np

from .compiling import REORDER, njit
from .hashing import STEP, mixed, normals
from .normal import (
    AHEAD,
    CG_BLOCK,
    CG_RANK,
    DUAL_SHARE,
    GRAM_BLOCK,
    add_lines,
    aligned,
    blur,
    factor,
    factor_solve,
    gram,
    parts,
    product,
    solve,
    sum_of_squares,
)  # fmt: skip
from .vectors import ADD, MR, STORE, VECTOR_BYTES, copy, errors, prefetch, transpose

# ---- one row ----------------------------------------------------------------


@njit
def _gather(s, o, start, stop, indices, values, mean, factors, bias):
    """Copy the factors and the targets of ratings start...stop into scratch."""
    kq, k = o.kq, factors.shape[1]
    w = VECTOR_BYTES // s.itemsize
    vectors = k // w
    total = 0.0
    for at in range(start, stop):
        i, t = np.int64(indices[at]), at - start
        if at + AHEAD < len(indices):
            prefetch(factors, np.int64(indices[at + AHEAD]) * k, k)
        copy(factors, i * k, s, o.x + t * kq, vectors)
        for j in range(vectors * w, k):
            s[o.x + t * kq + j] = factors[i, j]
        deviation = (values[at] - mean) - bias[i]
        s[o.target + t] = deviation
        s[o.pair + 2 * t] = 1
        s[o.pair + 2 * t + 1] = deviation
        total += deviation
    return total


@njit
def _primal(
    s, o, start, stop, indices, values, mean, factors, bias, reg, bias_reg, prior, prior_bias, spread, key
):
    """Normal equations of one row; returns ok and the bias, the factors are in part solution."""
    kq, ld, m, k = o.kq, o.ld, o.m, factors.shape[1]
    n = stop - start
    if n > o.size:
        s[o.comp : o.multipliers] = 0
    mode = STORE
    total = 0.0
    for first in range(start, stop, o.size):
        count = min(o.size, stop - first)
        total += _gather(s, o, first, first + count, indices, values, mean, factors, bias)
        gram(s, o, count, mode)
        mode = ADD
    # The bias is eliminated first: its row of the factor is known without any work.
    weight = n + bias_reg
    total += bias_reg * prior_bias
    root = s.dtype.type(1 / np.sqrt(weight))
    for j in range(m, m + kq):
        s[j] *= root
    s[m + kq : m + ld] = 0
    s[m + kq] = total * root
    last = m + (kq + 1) * ld
    for i in range(kq):
        row = m + (1 + i) * ld
        s[row + kq : row + ld] = 0
        if i < k:
            s[row + i] += reg
            s[row + kq] = s[last + i] + reg * prior[i]
        else:
            s[row + i] = 1
    ok = factor(s, o, kq)
    if spread > 0:
        total += np.sqrt(weight) * blur(s, o, kq, k, spread, key)
    solve(s, o, kq)
    explained = 0.0
    for j in range(kq):
        explained += s[m + j] * s[o.solution + j]
    return ok, total / weight - explained * root


@njit
def _dual(
    s, o, first, stop, indices, values, mean, factors, bias, reg, bias_reg, prior, prior_bias, spread, key
):
    """The solution of `_primal` from an n x n system, for n up to kq.

    With X the n gathered rows and t' the targets minus the prior's predictions, the
    matrix inversion lemma gives p = g + X' y and b = c + (reg / bias_reg) sum(y), where
    (X X' + reg I + reg / bias_reg) y = t' (Golub and Van Loan 2013, section 2.1.4).
    A draw puts a draw from the prior in its place, and noise on the targets (Bhattacharya,
    Chakraborty and Mallick 2016).
    """
    w = VECTOR_BYTES // s.itemsize
    kq, k, m, n = o.kq, factors.shape[1], o.m, stop - first
    nq = (n + w - 1) // w * w
    ld = nq + w
    _gather(s, o, first, stop, indices, values, mean, factors, bias)
    s[o.x + n * kq : o.x + nq * kq] = 0
    # Where the row is before its ratings have a say, and the noise on them; the pairs are not needed here.
    start, noise = o.pair, o.pair + k
    if spread > 0:
        normals(key, s, o.pair, k + n + 1)
        prior_bias += spread / np.sqrt(bias_reg) * s[noise + n]
    else:
        s[start : noise + n] = 0
    for j in range(kq):
        s[o.solution + j] = 0
    for j in range(k):
        s[start + j] = prior[j] + spread / np.sqrt(reg) * s[start + j]
        s[o.solution + j] = s[start + j]
    errors(s, o.x, kq, nq // w, kq // w, o.solution, s.dtype.type(prior_bias), o.target, o.error)
    for t in range(n):
        s[o.error + t] -= spread * s[noise + t]
    # X' in the place of comp, which a single block of ratings does not need; its
    # last row stands for the bias.
    for t in range(0, nq, w):
        for j in range(0, kq, w):
            transpose(s, o.x + t * kq + j, kq, o.comp + j * nq + t, nq)
    ratio = reg / bias_reg
    for t in range(nq):
        s[o.comp + kq * nq + t] = np.sqrt(ratio) if t < n else 0
    for i in range(0, nq, MR):
        j = i // w * w
        at = m + (1 + i) * ld + j
        product(s, o.comp + i, nq, o.comp + j, nq, kq + 1, at, ld, 0, STORE, (nq - j) // w)
    s[m : m + ld] = 0
    for t in range(nq):
        row = m + (1 + t) * ld
        s[row + t] += reg
        s[row + nq : row + ld] = 0
        s[row + nq] = s[o.error + t] if t < n else 0
    ok = factor_solve(s, o, nq)
    total = 0.0
    for t in range(n):
        s[o.error + t] = s[o.solution + t]
        total += s[o.error + t]
    add_lines(s, o, o.error, n, o.solution, STORE)
    for j in range(k):
        s[o.solution + j] += s[start + j]
    return ok, prior_bias + ratio * total


@njit
def _row_errors(s, o, start, stop, indices, values, mean, factors, bias, row_bias):
    """Sum of squared errors of one row under part solution, in float64."""
    w = VECTOR_BYTES // s.itemsize
    total = 0.0
    for first in range(start, stop, o.size):
        count = min(o.size, stop - first)
        if stop - start > o.size:
            _gather(s, o, first, first + count, indices, values, mean, factors, bias)
        groups = (count + w - 1) // w
        errors(s, o.x, o.kq, groups, o.kq // w, o.solution, s.dtype.type(row_bias), o.target, o.error)
        total += sum_of_squares(s, o.error, count)
    return total


@njit
def _residual(s, o, v, start, stop, indices, values, mean, factors, bias, with_target):
    """X' (target - X v), or -X' X v without target; v and the result hold the bias at kq.

    The result goes to part m; rows that fit into scratch were gathered before.
    """
    w = VECTOR_BYTES // s.itemsize
    kq = o.kq
    s[o.m : o.m + kq] = 0
    s[o.comp : o.comp + kq] = 0
    total = 0.0
    for first in range(start, stop, o.size):
        count = min(o.size, stop - first)
        if stop - start > o.size:
            _gather(s, o, first, first + count, indices, values, mean, factors, bias)
        groups = (count + w - 1) // w
        errors(s, o.x, kq, groups, kq // w, v, s[v + kq], o.target if with_target else o.zeros, o.error)
        for t in range(count):
            total += s[o.error + t]
        add_lines(s, o, o.error, count, o.m, ADD)
    s[o.m + kq] = total


@njit(fastmath=REORDER)
def _conjugate_gradients(
    s, o, start, stop, indices, values, mean, factors, bias, reg, bias_reg, prior, prior_bias, steps,
    squares, warm, warm_bias,
):  # fmt: skip
    """A few preconditioned steps from the present solution (Shewchuk 1994, section B3).

    The preconditioner is a diagonal: n times the mean square of each factor, plus reg;
    for the bias n + bias_reg. It puts the bias on one scale with the factors.
    """
    kq, k, ld, n = o.kq, factors.shape[1], o.ld, stop - start
    x, r, d, inverse = o.solution, o.m + ld, o.m + 2 * ld, o.m + 3 * ld
    s[x : x + ld] = 0
    s[inverse : inverse + ld] = 0
    for j in range(k):
        s[x + j] = warm[j]
        s[inverse + j] = 1 / (n * squares[j] + reg)
    s[x + kq] = warm_bias
    s[inverse + kq] = 1 / (n + bias_reg)
    if n <= o.size:
        _gather(s, o, start, stop, indices, values, mean, factors, bias)
    _residual(s, o, x, start, stop, indices, values, mean, factors, bias, True)
    s[r : r + kq] = 0
    for j in range(k):
        s[r + j] = s[o.m + j] - reg * (s[x + j] - prior[j])
    s[r + kq] = s[o.m + kq] - bias_reg * (s[x + kq] - prior_bias)
    size = s.dtype.type(0)
    for j in range(kq + 1):
        s[d + j] = s[r + j] * s[inverse + j]
        size += s[r + j] * s[d + j]
    for _ in range(steps):
        _residual(s, o, d, start, stop, indices, values, mean, factors, bias, False)
        curve = s.dtype.type(0)
        for j in range(kq):
            s[o.m + j] = reg * s[d + j] - s[o.m + j]
            curve += s[o.m + j] * s[d + j]
        s[o.m + kq] = bias_reg * s[d + kq] - s[o.m + kq]
        curve += s[o.m + kq] * s[d + kq]
        if not (curve > 0 and size > 0):
            break
        step = size / curve
        new = s.dtype.type(0)
        for j in range(kq + 1):
            s[x + j] += step * s[d + j]
            s[r + j] -= step * s[o.m + j]
            new += s[r + j] * s[r + j] * s[inverse + j]
        ratio = new / size
        for j in range(kq + 1):
            s[d + j] = s[r + j] * s[inverse + j] + ratio * s[d + j]
        size = new
    return s[x + kq]


# ---- many rows --------------------------------------------------------------


@njit
def solve_rows(
    first, stop, indptr, indices, values, mean, factors, bias, reg, bias_reg, weights,
    prior, prior_bias, steps, squares, errors, spread, key, out, out_bias,
):  # fmt: skip
    """Solve for the factors and biases of rows first...stop, the other side held.

    Parameters
    ----------
    first, stop : int
        The rows of this call. Rows are independent: calls may run side by side.
    indptr, indices, values : ndarray, shape (rows + 1,), (nnz,), (nnz,)
        The ratings in CSR form, int32 or int64, int32, float.
    mean : float
        Global mean, of the type of `out`.
    factors, bias : ndarray of float, shape (columns, k) and (columns,)
        The other side; C-contiguous.
    reg, bias_reg : float
        Regularization of factors and biases, of the type of `out`.
    weights : ndarray, shape (rows,) or (1,)
        By which both are multiplied: a row's own, or one for all.
    prior, prior_bias : ndarray, shape (rows, k) and (rows,), or (1, k) and (1,) for all
        What the regularization pulls towards; a row without ratings gets just that.
    steps : int
        0 solves exactly, otherwise the number of conjugate gradient steps, which
        start from what `out` and `out_bias` hold. Rows of more than some thousand
        ratings are solved exactly up to rank 128, as that is cheaper.
    squares : ndarray, shape (k,)
        Mean square of each column of `factors`, for the preconditioner.
    errors : bool
        Sum the squared errors after the solve.
    spread : float
        0, or the standard deviation of the noise: rows are then drawn (exactly, so `steps` is 0).
    key : int
        The random numbers of the call: a row's are the same whichever thread draws it, and in whatever order.
    out, out_bias : ndarray, shape (rows, k) and (rows,)
        Written in place, C-contiguous.

    Returns
    -------
    failed : int
        Rows whose system was not positive definite; they keep what they had.
    total : float
        Sum of squared errors, 0 unless asked for.

    Notes
    -----
    Exact: about nnz k (k + 1) + rows k^3 / 3 operations, each rating's factor row read
    once. Scratch: O(k^2) numbers for the call.
    """
    k = factors.shape[1]
    o = parts(k, VECTOR_BYTES // out.itemsize, CG_BLOCK if steps > 0 else GRAM_BLOCK)
    s = aligned(o.end, out)
    failed = 0
    total = 0.0
    for row in range(first, stop):
        a, b = np.int64(indptr[row]), np.int64(indptr[row + 1])
        n = b - a
        towards = row if len(prior) > 1 else 0
        if n == 0:
            out[row] = prior[towards]
            out_bias[row] = prior_bias[towards]
            continue
        times = weights[row if len(weights) > 1 else 0]
        row_reg, row_bias_reg = reg * times, bias_reg * times
        row_key = mixed(np.uint64(key) + np.uint64(row + 1) * STEP)
        if steps > 0 and (n <= o.size or k > CG_RANK):
            ok = 1
            solved = np.float64(_conjugate_gradients(
                s, o, a, b, indices, values, mean, factors, bias, row_reg, row_bias_reg,
                prior[towards], prior_bias[towards], steps, squares, out[row], out_bias[row],
            ))  # fmt: skip
        elif DUAL_SHARE * n <= k and row_reg > 0 and row_bias_reg > 0:
            ok, solved = _dual(
                s, o, a, b, indices, values, mean, factors, bias, row_reg, row_bias_reg,
                prior[towards], prior_bias[towards], spread, row_key,
            )  # fmt: skip
        else:
            ok, solved = _primal(
                s, o, a, b, indices, values, mean, factors, bias, row_reg, row_bias_reg,
                prior[towards], prior_bias[towards], spread, row_key,
            )  # fmt: skip
        if not ok:
            failed += 1
            continue
        out_bias[row] = solved
        for j in range(k):
            out[row, j] = s[o.solution + j]
        if errors:
            total += _row_errors(s, o, a, b, indices, values, mean, factors, bias, out_bias[row])
    return failed, total
