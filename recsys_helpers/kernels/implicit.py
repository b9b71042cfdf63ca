"""Alternating least squares over all cells of a table of likes and holes.

One row of implicit ALS (Hu, Koren and Volinsky 2008) minimizes, over its observed items j
with the weights v_j and over all items i,

    sum_j [(w + v_j) (1 - p . q_j)^2 - w (p . q_j)^2] + w sum_i (p . q_i)^2 + reg |p|^2

The sum over all items is p' (w Q'Q) p. The factors come here turned into the basis in which Q'Q is
diagonal: then it is a penalty of its own for each factor, the `spectrum`, and a row is a ridge regression
on its n observed items alone, with the rows sqrt(v_j) q_j and the targets (w + v_j) / sqrt(v_j). So the
pieces of `als` serve, and nothing of the size k x k has to be added, or multiplied with, for a row:

primal    n k^2 + k^3/3 multiply-adds
dual      n x n, for n well below k
cg        a few steps of conjugate gradients, 2 n k multiply-adds each
subspace  a block of b factors after the other, n k b + k b^2 multiply-adds (Rendle et al. 2021)
"""

import numpy as np

from .compiling import REORDER, njit
from .normal import (
    AHEAD,
    CG_BLOCK,
    CG_RANK,
    DUAL_SHARE,
    GRAM_BLOCK,
    add_lines,
    aligned,
    factor_solve,
    gram,
    parts,
    product,
    sum_of_squares,
)  # fmt: skip
from .vectors import (
    ADD,
    MR,
    STORE,
    VECTOR_BYTES,
    copy,
    errors,
    line1,
    prefetch,
    transpose,
)

# What `solve_implicit` does with a row.
EXACT, CONJUGATE, SUBSPACE = 0, 1, 2


# ---- one row of least squares -------------------------------------------------------------


@njit
def _gather(s, o, start, stop, indices, weights, unobserved, factors):
    """Copy the weighted factors and targets of the observed items start...stop into scratch."""
    kq, k = o.kq, factors.shape[1]
    w = VECTOR_BYTES // s.itemsize
    vectors = k // w
    one = s.dtype.type(1)
    for at in range(start, stop):
        i, t = np.int64(indices[at]), at - start
        if at + AHEAD < len(indices):
            prefetch(factors, np.int64(indices[at + AHEAD]) * k, k)
        copy(factors, i * k, s, o.x + t * kq, vectors)
        for j in range(vectors * w, k):
            s[o.x + t * kq + j] = factors[i, j]
        target = unobserved + one
        if len(weights):
            root = np.sqrt(weights[at])
            target = (unobserved + weights[at]) / root
            for j in range(o.x + t * kq, o.x + (t + 1) * kq):
                s[j] *= root
        s[o.target + t] = target
        s[o.pair + 2 * t] = one
        s[o.pair + 2 * t + 1] = target


@njit
def _primal(s, o, start, stop, indices, weights, unobserved, factors, spectrum, reg):
    """Normal equations of one row; the factors are in part solution."""
    kq, ld, m, k = o.kq, o.ld, o.m, factors.shape[1]
    if stop - start > o.size:
        s[o.comp : o.multipliers] = 0
    mode = STORE
    for first in range(start, stop, o.size):
        count = min(o.size, stop - first)
        _gather(s, o, first, first + count, indices, weights, unobserved, factors)
        gram(s, o, count, mode)
        mode = ADD
    s[m : m + ld] = 0
    last = m + (kq + 1) * ld
    for i in range(kq):
        row = m + (1 + i) * ld
        s[row + kq : row + ld] = 0
        s[row + i] += spectrum[i] + reg if i < k else s.dtype.type(1)
        s[row + kq] = s[last + i]
    return factor_solve(s, o, kq)


@njit
def _dual(s, o, start, stop, indices, weights, unobserved, factors, spectrum, reg):
    """The solution of `_primal` from an n x n system, for n up to kq.

    With D the diagonal of spectrum + reg and Z the gathered rows times D^-1/2, the factors are
    D^-1/2 Z' y, where (Z Z' + I) y = targets (Golub and Van Loan 2013, section 2.1.4).
    """
    w = VECTOR_BYTES // s.itemsize
    kq, k, m, n = o.kq, factors.shape[1], o.m, stop - start
    nq = (n + w - 1) // w * w
    ld = nq + w
    _gather(s, o, start, stop, indices, weights, unobserved, factors)
    one = s.dtype.type(1)
    roots = o.solution
    for j in range(kq):
        s[roots + j] = one / np.sqrt(spectrum[j] + reg) if j < k else s.dtype.type(0)
    for t in range(n):
        for j in range(kq):
            s[o.x + t * kq + j] *= s[roots + j]
    s[o.x + n * kq : o.x + nq * kq] = 0
    for t in range(0, nq, w):
        for j in range(0, kq, w):
            transpose(s, o.x + t * kq + j, kq, o.comp + j * nq + t, nq)
    for i in range(0, nq, MR):
        j = i // w * w
        at = m + (1 + i) * ld + j
        product(s, o.comp + i, nq, o.comp + j, nq, kq, at, ld, 0, STORE, (nq - j) // w)
    s[m : m + ld] = 0
    for t in range(nq):
        row = m + (1 + t) * ld
        s[row + t] += one
        s[row + nq : row + ld] = 0
        s[row + nq] = s[o.target + t] if t < n else 0
    ok = factor_solve(s, o, nq)
    for t in range(n):
        s[o.error + t] = s[o.solution + t]
    add_lines(s, o, o.error, n, o.solution, STORE)
    for j in range(k):
        s[o.solution + j] /= np.sqrt(spectrum[j] + reg)
    return ok


@njit
def _residual(s, o, v, start, stop, indices, weights, unobserved, factors, with_target):
    """X' (target - X v), or -X' X v without target, in part m; rows that fit were gathered before."""
    w = VECTOR_BYTES // s.itemsize
    kq = o.kq
    s[o.m : o.m + kq] = 0
    s[o.comp : o.comp + kq] = 0
    zero = s.dtype.type(0)
    for first in range(start, stop, o.size):
        count = min(o.size, stop - first)
        if stop - start > o.size:
            _gather(s, o, first, first + count, indices, weights, unobserved, factors)
        target = o.target if with_target else o.zeros
        errors(s, o.x, kq, (count + w - 1) // w, kq // w, v, zero, target, o.error)
        add_lines(s, o, o.error, count, o.m, ADD)


@njit(fastmath=REORDER)
def _conjugate_gradients(
    s, o, start, stop, indices, weights, unobserved, factors, spectrum, reg, squares, warm, steps
):
    """A few preconditioned steps from `warm` (Shewchuk 1994, section B3).

    The preconditioner is the diagonal of the system but for one thing: the sum of squares of a factor
    over the row's items is taken from its mean over all items.
    """
    kq, k, ld = o.kq, factors.shape[1], o.ld
    x, r, d, inverse = o.solution, o.m + ld, o.m + 2 * ld, o.m + 3 * ld
    total = s.dtype.type(stop - start)
    if len(weights):
        total = s.dtype.type(0)
        for at in range(start, stop):
            total += weights[at]
    s[x : x + ld] = 0
    s[inverse : inverse + ld] = 0
    for j in range(k):
        s[x + j] = warm[j]
        s[inverse + j] = 1 / (total * squares[j] + spectrum[j] + reg)
    if stop - start <= o.size:
        _gather(s, o, start, stop, indices, weights, unobserved, factors)
    _residual(s, o, x, start, stop, indices, weights, unobserved, factors, True)
    s[r : r + kq] = 0
    size = s.dtype.type(0)
    s[d : d + kq] = 0
    for j in range(k):
        s[r + j] = s[o.m + j] - (spectrum[j] + reg) * s[x + j]
        s[d + j] = s[r + j] * s[inverse + j]
        size += s[r + j] * s[d + j]
    for _ in range(steps):
        _residual(s, o, d, start, stop, indices, weights, unobserved, factors, False)
        curve = s.dtype.type(0)
        for j in range(k):
            s[o.m + j] = (spectrum[j] + reg) * s[d + j] - s[o.m + j]
            curve += s[o.m + j] * s[d + j]
        if not (curve > 0 and size > 0):
            break
        step = size / curve
        new = s.dtype.type(0)
        for j in range(k):
            s[x + j] += step * s[d + j]
            s[r + j] -= step * s[o.m + j]
            new += s[r + j] * s[r + j] * s[inverse + j]
        ratio = new / size
        for j in range(k):
            s[d + j] = s[r + j] * s[inverse + j] + ratio * s[d + j]
        size = new
    return 1


@njit
def _block_product(s, o, at, b, count, mode):
    """Upper triangle of the Gram matrix of columns at...at+b of the gathered rows, into part m."""
    w = VECTOR_BYTES // s.itemsize
    ld = b + w
    for i in range(0, b, MR):
        j = i // w * w
        c = (1 + i) * ld + j
        product(s, o.x + at + i, o.kq, o.x + at + j, o.kq, count, o.m + c, ld, o.comp + c, mode, (b - j) // w)


@njit
def _subspace(s, o, start, stop, indices, weights, unobserved, factors, spectrum, reg, warm, block):
    """One pass over blocks of factors from `warm`: each block is solved exactly, the others held.

    The targets are kept less what is predicted, so that a block costs its own columns only.
    """
    kq, k = o.kq, factors.shape[1]
    w = VECTOR_BYTES // s.itemsize
    x = o.solution
    groups = (stop - start + w - 1) // w
    _gather(s, o, start, stop, indices, weights, unobserved, factors)
    p = o.x + o.size * kq - kq  # the last gathered row is spare: see `solve_implicit`
    s[p : p + kq] = 0
    for j in range(k):
        s[p + j] = warm[j]
    errors(s, o.x, kq, groups, kq // w, p, s.dtype.type(0), o.target, o.error)
    ok = 1
    for at in range(0, kq, block):
        b = min(block, kq - at)
        ld = b + w
        _block_product(s, o, at, b, stop - start, STORE)
        s[o.m : o.m + ld] = 0
        for i in range(b):
            row = o.m + (1 + i) * ld
            s[row + b : row + ld] = 0
            f = at + i
            if f < k:
                s[row + i] += spectrum[f] + reg
                s[row + b] = -(spectrum[f] + reg) * s[p + f]
            else:
                s[row + i] += s.dtype.type(1)
        _add_block_errors(s, o, at, b, stop - start)
        ok &= factor_solve(s, o, b)
        for i in range(b):
            s[p + at + i] += s[x + i]
        errors(s, o.x + at, kq, groups, b // w, x, s.dtype.type(0), o.error, o.error)
    for j in range(kq):
        s[x + j] = s[p + j]
    return ok


@njit
def _add_block_errors(s, o, at, b, count):
    """Add the gathered columns' products with the errors to the right-hand side."""
    w = VECTOR_BYTES // s.itemsize
    if count % 2:
        s[o.error + count] = 0
        count += 1
    for j in range(0, b, w):
        line1(s, o.error, 1, o.x + at + j, o.kq, count, o.scale + j, 0, 0, STORE)
    for i in range(b):
        s[o.m + (1 + i) * (b + w) + b] += s[o.scale + i]


@njit
def _row_errors(s, o, start, stop, indices, weights, unobserved, factors):
    """Sum of squared differences between targets and predictions of one row, in float64."""
    w = VECTOR_BYTES // s.itemsize
    total = 0.0
    for first in range(start, stop, o.size):
        count = min(o.size, stop - first)
        _gather(s, o, first, first + count, indices, weights, unobserved, factors)
        groups = (count + w - 1) // w
        errors(s, o.x, o.kq, groups, o.kq // w, o.solution, s.dtype.type(0), o.target, o.error)
        total += sum_of_squares(s, o.error, count)
    return total


@njit
def solve_implicit(
    first, stop, indptr, indices, weights, unobserved, factors, spectrum, squares, reg, method, steps, loss,
    out,
):  # fmt: skip
    """Solve for the factors of rows first...stop, the other side held.

    Parameters
    ----------
    first, stop : int
        The rows of this call. Rows are independent: calls may run side by side.
    indptr, indices : ndarray, shape (rows + 1,), (nnz,)
        The observed items of each row in CSR form, int32 or int64, int32.
    weights : ndarray of float, shape (nnz,) or (0,)
        v above; empty where all are 1. Above 0.
    unobserved : float
        w above, of the type of `out`; not below 0.
    factors : ndarray of float, shape (columns, k)
        The other side, C-contiguous, in the basis in which its Gram matrix is diagonal.
    spectrum : ndarray of float, shape (k,)
        That diagonal times w.
    squares : ndarray of float, shape (k,)
        Mean square of each column of `factors`, for the preconditioner.
    reg : ndarray of float, shape (rows,)
        Penalty of each row.
    method : {EXACT, CONJUGATE, SUBSPACE}
        Rows of more than some thousand items are solved exactly by CONJUGATE up to rank 128, and by SUBSPACE
        always.
    steps : int
        Of conjugate gradients, or factors in a block of the subspace method.
    loss : bool
        Sum the squared errors after the solve.
    out : ndarray, shape (rows, k)
        Written in place, C-contiguous; the last two methods start from it.

    Returns
    -------
    failed : int
        Rows whose system was not positive definite; they keep what they had.
    total : float
        Sum of squared differences between targets and predictions, 0 unless asked for.

    Notes
    -----
    Scratch: O(k^2) numbers for the call, and one megabyte for the last two methods.
    """
    k = factors.shape[1]
    o = parts(k, VECTOR_BYTES // out.itemsize, GRAM_BLOCK if method == EXACT else CG_BLOCK)
    s = aligned(o.end, out)
    failed = 0
    total = 0.0
    for row in range(first, stop):
        a, b = np.int64(indptr[row]), np.int64(indptr[row + 1])
        n = b - a
        if n == 0:
            out[row] = 0
            continue
        if method == CONJUGATE and (n <= o.size or k > CG_RANK):
            ok = _conjugate_gradients(
                s, o, a, b, indices, weights, unobserved, factors, spectrum, reg[row], squares, out[row],
                steps,
            )  # fmt: skip
        elif method == SUBSPACE and n < o.size:
            ok = _subspace(
                s, o, a, b, indices, weights, unobserved, factors, spectrum, reg[row], out[row], steps
            )
        elif DUAL_SHARE * n <= k and reg[row] > 0:
            ok = _dual(s, o, a, b, indices, weights, unobserved, factors, spectrum, reg[row])
        else:
            ok = _primal(s, o, a, b, indices, weights, unobserved, factors, spectrum, reg[row])
        if not ok:
            failed += 1
            continue
        for j in range(k):
            out[row, j] = s[o.solution + j]
        if loss:
            total += _row_errors(s, o, a, b, indices, weights, unobserved, factors)
    return failed, total
