"""Convex matrix completion with a certificate: small problems in CVXPY, large ones in factors."""

from __future__ import annotations

import numbers
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numba
import numpy as np
import pandas as pd
from scipy.linalg import eigh, eigh_tridiagonal, eigvalsh_tridiagonal
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from .base import check_non_negative, check_positive_int
from .factors import FactorModel, NewUser, _read_only
from .kernels import completion as kernels
from .kernels.als import score_pairs
from .ratings import check_choice

FORMS = ("regularized", "equality", "weighted")
CONE_SOLVERS = ("CLARABEL", "SCS")
# Multiply-adds in one piece of work for a thread; fixed, so that sums do not depend on the threads.
CHUNK_WORK = 4e6
# Chance that the upper bound on a spectral norm does not hold.
FAILURE = 1e-10
# Lanczos steps that the bound may take: at first, and after its leading vectors were set apart.
LANCZOS_STEPS = 120, 300
# New directions that are offered to the factors: those of squares of singular values above this share of
# lambda's, as together with the factors they may exceed it; and at most how many.
NEAR, NEW_DIRECTIONS = 0.98, 32
# Most conjugate gradient steps between two certificates, and the least factor by which the gradient falls.
INNER_STEPS = 12
LEAST_REDUCTION = 0.1
# Proximal steps after them.
PROXIMAL_STEPS = 2
# How much larger than necessary the bound of a spectral norm may make the gap, close to the end and far off.
SLACK, FAR_SLACK = 0.1, 0.5
# From this relative gap on the steps are taken in float64.
SINGLE_UNTIL = 1e-5


class Certificate(NamedTuple):
    """What is known about the distance to the optimum.

    Attributes
    ----------
    primal : float
        Objective at the result, an upper bound on the optimum.
    dual : float
        Value of a dual feasible point, a lower bound on it.
    gap : float
        (primal - dual) / primal: the result's objective exceeds the optimum by at most this share of itself.
    """

    primal: float
    dual: float
    gap: float


class Completion(NamedTuple):
    """Result of `complete`: X = user_factors item_factors' + mean + biases, never formed.

    Attributes
    ----------
    user_factors, item_factors : ndarray, shape (m, k) and (n, k)
        Balanced: their columns are orthogonal, of squared length `singular_values` (after multiplication
        by the weights, where there are any).
    singular_values : ndarray, shape (k,)
        Of the low-rank part, largest first.
    mean : float
    user_bias, item_bias : ndarray, shape (m,) and (n,)
        Zero without biases.
    certificate : Certificate
    history : DataFrame
        One row a certificate: seconds (since the start), primal, dual, gap, rank, steps.
    converged : bool
        Whether the wanted gap was reached.
    """

    user_factors: np.ndarray
    item_factors: np.ndarray
    singular_values: np.ndarray
    mean: float
    user_bias: np.ndarray
    item_bias: np.ndarray
    certificate: Certificate
    history: pd.DataFrame
    converged: bool

    @property
    def rank(self):
        """Rank of the low-rank part."""
        return len(self.singular_values)

    def dense(self):
        """The completed matrix, shape (m, n): for small ones."""
        low_rank = self.user_factors @ self.item_factors.T
        return low_rank + self.mean + self.user_bias[:, None] + self.item_bias


class CvxpyResult(NamedTuple):
    """Result of `nuclear_norm_cvxpy`.

    Attributes
    ----------
    X : ndarray, shape (m, n)
        The low-rank part; with `bias_reg` the mean and the biases are beside it.
    primal : float
        Objective, computed from X and not taken from the solver.
    status : str
        "optimal"; anything else is an error.
    solver : str
    seconds : float
        Of the solver and of CVXPY's translation for it.
    accuracy : float
        The tolerance that the solver was asked for.
    mean, user_bias, item_bias : float and ndarray
        Zero without `bias_reg`.
    """

    X: np.ndarray
    primal: float
    status: str
    solver: str
    seconds: float
    accuracy: float
    mean: float
    user_bias: np.ndarray
    item_bias: np.ndarray


# ---- small matrices: CVXPY -----------------------------------------------------


def nuclear_norm_cvxpy(
    values,
    rows,
    cols,
    shape,
    lam=None,
    form="regularized",
    *,
    weights=None,
    bias_reg=None,
    box=None,
    solver="CLARABEL",
    accuracy=1e-9,
    max_iter=None,
):
    r"""Solve a nuclear-norm completion problem with a general conic solver, for small matrices.

    =============  ==================================================================================
    form           problem
    =============  ==================================================================================
    regularized    :math:`\min_X \frac12 |P_\Omega(X - Y)|^2 + \lambda |X|_*`
    weighted       the same with :math:`\lambda |D_p^{1/2} X D_q^{1/2}|_*`, p and q in `weights`
                   (Srebro and Salakhutdinov 2010)
    equality       :math:`\min_X |X|_*` subject to :math:`P_\Omega(X) = P_\Omega(Y)`
                   (Candes and Recht 2009)
    =============  ==================================================================================

    Parameters
    ----------
    values : array-like of float, shape (nnz,)
        The observed entries of Y.
    rows, cols : array-like of int, shape (nnz,)
        Where they are; no pair twice.
    shape : tuple of int
        (m, n).
    lam : float
        :math:`\lambda`, not below 0; not used by the form "equality".
    form : {"regularized", "equality", "weighted"}
    weights : pair of array-like, shape (m,) and (n,), optional
        p and q, above 0, for the form "weighted"; `marginal_weights` of the observed entries by default.
    bias_reg : float, optional
        Not for "equality": add a mean and biases to X, as `complete` does.
    box : tuple of float, optional
        Bounds (lowest, highest) on every entry of X (with its biases).
    solver : {"CLARABEL", "SCS"}
        An interior-point method, exact and slow, or a first-order method for somewhat larger ones.
    accuracy : float
        Tolerance that the solver is asked for.
    max_iter : int, optional
        Upper bound on iterations; 100,000 for SCS by default.

    Returns
    -------
    CvxpyResult

    Raises
    ------
    ValueError
        On bad arguments.
    RuntimeError
        Where the solver's status is not "optimal", an inaccurate solution included.

    Notes
    -----
    The nuclear norm becomes a semidefinite constraint on a symmetric matrix of size m + n (Fazel, Hindi
    and Boyd 2001). An interior-point step factors a matrix of size of order (m + n)^2, O((m + n)^6)
    operations; SCS takes an eigendecomposition, O((m + n)^3), a step.
    """
    import cvxpy as cp

    values, rows, cols, shape = _check_entries(values, rows, cols, shape)
    check_choice("form", form, FORMS)
    check_choice("solver", solver, CONE_SOLVERS)
    if form != "equality":
        if lam is None:
            raise ValueError(f"lam: got None; expected a number not below 0 for form={form!r}")
        check_non_negative("lam", lam)
    if bias_reg is not None:
        if form == "equality":
            raise ValueError("bias_reg: got a number with form='equality'; expected None")
        _check_positive("bias_reg", bias_reg)
    if weights is not None and form != "weighted":
        raise ValueError(f"weights: got arrays with form={form!r}; expected None, or form='weighted'")
    if not (isinstance(accuracy, numbers.Real) and 0 < accuracy < 1):
        raise ValueError(f"accuracy: got {accuracy!r}; expected a number between 0 and 1")
    if max_iter is not None:
        check_positive_int("max_iter", max_iter)
    box = None if box is None else _check_box(box, values, form)
    m, n = shape
    p, q = np.ones(m), np.ones(n)
    if form == "weighted":
        p, q = marginal_weights(rows, cols, shape) if weights is None else _check_weights(weights, shape)
    x = cp.Variable(shape)
    whole, extra = x, 0
    if bias_reg is not None:
        mean, b, c = cp.Variable(), cp.Variable((m, 1)), cp.Variable((1, n))
        whole = x + mean + b @ np.ones((1, n)) + np.ones((m, 1)) @ c
        extra = bias_reg / 2 * (cp.sum_squares(b) + cp.sum_squares(c))
    observed = whole[rows, cols]
    constraints = [] if box is None else [whole >= box[0], whole <= box[1]]
    norm = cp.normNuc(cp.multiply(np.sqrt(np.outer(p, q)), x) if form == "weighted" else x)
    if form == "equality":
        objective = norm
        constraints.append(observed == values)
    else:
        objective = cp.sum_squares(observed - values) / 2 + lam * norm + extra
    if solver == "CLARABEL":
        options = {"tol_gap_abs": accuracy, "tol_gap_rel": accuracy, "tol_feas": accuracy}
        if max_iter is not None:
            options["max_iter"] = max_iter
    else:
        options = {"eps_abs": accuracy, "eps_rel": accuracy, "max_iters": max_iter or 100_000}
    problem = cp.Problem(cp.Minimize(objective), constraints)
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            # CVXPY warns of an inaccurate solution; here that is an error, below.
            warnings.filterwarnings("ignore", "Solution may be inaccurate")
            problem.solve(solver=solver, **options)
        status = problem.status
    except cp.SolverError as error:
        status = f"failed ({error})"
    seconds = time.perf_counter() - start
    if status != cp.OPTIMAL:
        raise RuntimeError(
            f"{solver}: got status {status!r} after {seconds:.1f} s; expected 'optimal'. Allow a larger "
            "accuracy or max_iter, take the other solver or a smaller matrix"
        )
    found = np.array(x.value)
    mean, b, c = (
        (0.0, np.zeros(m), np.zeros(n))
        if bias_reg is None
        else (float(mean.value), np.array(b.value).ravel(), np.array(c.value).ravel())
    )
    primal = np.linalg.norm(np.sqrt(p)[:, None] * found * np.sqrt(q), "nuc")
    if form != "equality":
        error = (found + mean + b[:, None] + c)[rows, cols] - values
        primal = error @ error / 2 + lam * primal + (bias_reg or 0.0) / 2 * (b @ b + c @ c)
    return CvxpyResult(found, float(primal), status, solver, seconds, accuracy, mean, b, c)


def marginal_weights(rows, cols, shape, power=1.0):
    r"""Row and column weights of the weighted nuclear norm: how often each is observed.

    :math:`p_u = (n_u / \bar n)^\alpha` with :math:`n_u` the row's number of observed entries and
    :math:`\bar n` the mean of them, and q likewise for columns; a row without any counts as one with one.
    Srebro and Salakhutdinov (2010) take the power 1 and, as a softer form, powers below it.

    Parameters
    ----------
    rows, cols : array-like of int, shape (nnz,)
    shape : tuple of int
    power : float
        :math:`\alpha`, from 0 (no weights) to 1.

    Returns
    -------
    p, q : ndarray, shape (m,) and (n,)
    """
    if isinstance(power, bool) or not isinstance(power, numbers.Real) or not 0 <= power <= 1:
        raise ValueError(f"power: got {power!r}; expected a number from 0 to 1")
    out = []
    for codes, size in ((rows, shape[0]), (cols, shape[1])):
        counts = np.bincount(codes, minlength=size)
        out.append((np.maximum(counts, 1) / counts.mean()) ** power)
    return tuple(out)


# ---- large matrices: factors -----------------------------------------------------


def complete(
    values,
    rows,
    cols,
    shape,
    lam,
    *,
    weights=None,
    bias_reg=None,
    mean=None,
    max_rank=None,
    tol=1e-4,
    max_iter=1000,
    start=None,
    n_threads=None,
    random_state=0,
    verbose=False,
):
    r"""Solve the regularized nuclear-norm problem at any size, with a certificate.

    .. math::

        \min_{X,\mu,b,c}\; F = \frac12 \sum_{(u,i)\in\Omega} (y_{ui} - \mu - b_u - c_i - X_{ui})^2
        + \lambda |D_p^{1/2} X D_q^{1/2}|_* + \frac{\beta}{2} (|b|^2 + |c|^2)

    This is convex. Without `bias_reg` there are no biases and no mean; without `weights`, p and q are 1.

    Parameters
    ----------
    values, rows, cols, shape
        The observed entries of Y, as in `nuclear_norm_cvxpy`.
    lam : float
        :math:`\lambda`, above 0.
    weights : pair of array-like, shape (m,) and (n,), optional
        p and q, above 0.
    bias_reg : float, optional
        :math:`\beta`, above 0: optimize a mean and biases in the same problem.
    mean : float, optional
        With `bias_reg`: hold the mean at this value. It is free, and not penalized, by default.
    max_rank : int, optional
        Most columns of the factors. Where the optimum has a higher rank, the gap stays open.
    tol : float
        Stop at this certified relative gap.
    max_iter : int
        Upper bound on conjugate gradient steps.
    start : Completion, optional
        Result of a similar problem to start from; its shape must agree.
    n_threads : int, optional
        Default: Numba's number of threads.
    random_state : int or numpy.random.Generator
        Of the start vectors of singular-value iterations.
    verbose : bool
        Show progress on runs of more than two seconds.

    Returns
    -------
    Completion

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        Where `max_iter` steps did not reach `tol`; it tells the gap that they did reach.

    Notes
    -----
    **Steps.** By :math:`|X|_* = \min_{X = UV^\top} \frac12(|U|^2 + |V|^2)` (Srebro, Rennie and Jaakkola 2004)
    the problem is, at sufficient rank, the same as one in thin factors, with the ridge penalty of ALS (Burer
    and Monteiro 2003; Mazumder, Hastie and Tibshirani 2010). Factors, mean and biases move together, by
    preconditioned conjugate gradients (Polak and Ribiere). Along a direction the objective is a polynomial of
    degree four, so each step takes its exact minimum, for one pass over the ratings. The preconditioner is
    the diagonal of the Hessian in balanced coordinates, in which the columns of U and of V are orthogonal
    with squared lengths equal to the singular values of X. Every few steps the factors are balanced again, a
    soft-threshold of singular values in the span of the factors and of the residual's leading singular
    vectors adds directions or drops them, and the gap is computed. A step costs about 10 nnz k operations.

    **Certificate.** Give the residual :math:`e` a name and its definition a multiplier :math:`\theta`, one
    number for each rating:

    .. math::

        \min_{e,X,\mu,b,c}\max_\theta\; \tfrac12|e|^2 + \lambda|D_p^{1/2} X D_q^{1/2}|_*
        + \tfrac\beta2(|b|^2+|c|^2) + \langle\theta,\, y-\mu-b_u-c_i-X-e\rangle .

    Minimized over e, it leaves :math:`-\frac12|\theta|^2`. The mean, free and without penalty, leaves
    :math:`-\infty` unless :math:`\sum\theta = 0`. The biases leave
    :math:`-\frac1{2\beta}(|\theta 1|^2 + |\theta^\top 1|^2)`, the row and column sums of
    :math:`\theta` as a sparse matrix. X leaves 0 if the spectral norm
    :math:`\sigma(D_p^{-1/2}\theta D_q^{-1/2})\le\lambda`, the ball dual to the nuclear norm, and
    :math:`-\infty` otherwise. So the dual problem is

    .. math::

        \max_\theta\; \langle\theta, y\rangle - \tfrac12|\theta|^2
        - \tfrac1{2\beta}\bigl(|\theta 1|^2 + |\theta^\top 1|^2\bigr)
        \quad\text{subject to}\quad \sigma(D_p^{-1/2}\theta D_q^{-1/2})\le\lambda,\; \textstyle\sum\theta=0 ,

    and every feasible :math:`\theta` gives a lower bound on the optimum; at the optimum it is the residual.
    Here :math:`\theta = s e`: the residual, with the mean set to its best value so that it sums to 0, scaled
    by the :math:`s \in [0, \lambda/\sigma]` that makes the bound highest, a quadratic in s.

    **Spectral norm.** :math:`\sigma` has to be bounded from above. The space is split into the span of the
    factors and of some leading singular vectors, in which the norm is computed, and the rest. In the rest
    Lanczos iterations start from a random vector; by Kuczynski and Wozniakowski (1992) the norm exceeds
    what they found by more than a known factor with a chance of at most 1e-10. The norm of the whole
    follows from the two and from the norm of the coupling between them, all in float64.

    Memory: both orientations of the ratings, the factors and five more arrays like them.
    """
    values, rows, cols, shape = _check_entries(values, rows, cols, shape)
    _check_solver_arguments(lam, bias_reg, max_rank, tol, max_iter, n_threads)
    if weights is not None:
        weights = _check_weights(weights, shape)
    if mean is not None:
        if bias_reg is None:
            raise ValueError(f"mean: got {mean!r} without bias_reg; expected None, or bias_reg as well")
        if isinstance(mean, bool) or not isinstance(mean, numbers.Real) or not np.isfinite(mean):
            raise ValueError(f"mean: got {mean!r}; expected a finite number")
    if start is not None and (len(start.user_factors) != shape[0] or len(start.item_factors) != shape[1]):
        got = (len(start.user_factors), len(start.item_factors))
        raise ValueError(f"start: got a result of shape {got}; expected {shape}")
    order = np.lexsort((cols, rows))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=shape[0]))])
    matrix = csr_array((values[order], cols[order], indptr.astype(np.int32)), shape=shape)
    problem = _Problem(matrix, float(lam), weights, bias_reg, mean, n_threads)
    return _solve(problem, tol, max_iter, max_rank, start, random_state, verbose, "complete")


class _Problem:
    """The data of one problem in both orientations, and the passes over them.

    Factors carry the biases as columns: a has (factors, b, 1) and b has (factors, 1, c), so that
    a . b is the whole prediction but for the mean. Columns of zeros pad them to whole cache lines.
    """

    def __init__(self, matrix, lam, weights, bias_reg, mean, n_threads):
        self.shape = matrix.shape
        self.lam, self.bias_reg = lam, bias_reg
        self.free_mean = bias_reg is not None and mean is None
        self.fixed_mean = 0.0 if bias_reg is None or mean is None else float(mean)
        m, n = matrix.shape
        nnz = matrix.nnz
        self.indptr, self.indices = np.array(matrix.indptr, np.int32), np.array(matrix.indices, np.int32)
        self.y = np.asarray(matrix.data, np.float64) - self.fixed_mean
        self.straight = np.arange(nnz, dtype=np.int32)
        turned = csr_array((self.straight, self.indices, self.indptr), shape=matrix.shape).tocsc()
        self.t_indptr, self.t_indices, self.turn = (
            np.asarray(x, np.int32) for x in (turned.indptr, turned.indices, turned.data)
        )
        self.weighted = weights is not None
        self.p, self.q = (np.ones(m), np.ones(n)) if weights is None else weights
        # The entries of D_p^-1/2 E D_q^-1/2 are those of E times this.
        self.spread = None
        if self.weighted:
            rows = np.repeat(np.arange(m), np.diff(self.indptr))
            self.spread = 1 / np.sqrt(self.p[rows] * self.q[self.indices])
        self.n_threads = n_threads or numba.get_num_threads()
        self.pool = None
        self.extra = 0 if bias_reg is None else 2

    # -- passes over the ratings

    def _run(self, kernel, by_column, k, *arguments):
        indptr, indices = (self.t_indptr, self.t_indices) if by_column else (self.indptr, self.indices)
        pieces = int(np.clip(len(self.y) * k / CHUNK_WORK, 1, 64))
        if pieces == 1 or self.n_threads == 1:
            kernel(0, len(indptr) - 1, indptr, indices, *arguments)
            return
        if self.pool is None:
            self.pool = ThreadPoolExecutor(self.n_threads)
        cuts = np.unique(np.searchsorted(indptr, indptr[-1] * np.arange(pieces + 1.0) / pieces))
        cuts[-1] = len(indptr) - 1
        list(self.pool.map(lambda i, j: kernel(i, j, indptr, indices, *arguments), cuts[:-1], cuts[1:]))

    def close(self):
        if self.pool is not None:
            self.pool.shutdown()
            self.pool = None

    def sampled(self, a, b):
        out = np.empty(len(self.y), a.dtype)
        self._run(kernels.sampled, False, a.shape[1], a, b, out)
        return out

    def times(self, e, b):
        out = np.empty((self.shape[0], b.shape[1]), b.dtype)
        self._run(kernels.times, False, b.shape[1], self.straight, e, b, out)
        return out

    def times_transposed(self, e, a):
        out = np.empty((self.shape[1], a.shape[1]), a.dtype)
        self._run(kernels.times, True, a.shape[1], self.turn, e, a, out)
        return out

    # -- the objective in factors

    def extend(self, u, v, b, c, dtype):
        """Factors and biases as padded arrays a, b."""
        k = u.shape[1]
        width = -(-max(k + self.extra, 1) // 16) * 16
        left, right = (np.zeros((size, width), dtype) for size in self.shape)
        left[:, :k], right[:, :k] = u, v
        if self.extra:
            left[:, k], left[:, k + 1] = b, 1
            right[:, k], right[:, k + 1] = 1, c
        return left, right

    def ridge(self, k, width):
        """Penalties of the columns of a and of b; NaN marks columns that are held."""
        left, right = np.zeros(width), np.zeros(width)
        left[:k] = right[:k] = self.lam
        if self.extra:
            left[k] = right[k + 1] = self.bias_reg
            left[k + 1] = right[k] = np.nan
        return left, right

    def residual(self, a, b, mean):
        e = self.y - self.sampled(a, b)
        e -= mean
        return e


class _Descent:
    """Conjugate gradients on factors, mean and biases together."""

    def __init__(self, problem, u, v, mean, b, c, dtype):
        self.problem, self.k = problem, u.shape[1]
        self.a, self.b = problem.extend(u, v, b, c, dtype)
        self.mean = mean
        self.e = problem.residual(self.a, self.b, mean).astype(dtype)
        width = self.a.shape[1]
        self.ridges = []
        for ridge, weight, own in zip(
            problem.ridge(self.k, width), (problem.p, problem.q), (u, v), strict=True
        ):
            ridge = (
                np.tile(ridge, (len(own), 1)).astype(dtype) if problem.weighted else ridge[None].astype(dtype)
            )
            if problem.weighted:
                ridge[:, : self.k] *= weight[:, None].astype(dtype)
            self.ridges.append(ridge)
        self.held = [np.isnan(ridge[0]) for ridge in self.ridges]
        for ridge in self.ridges:
            ridge[np.isnan(ridge)] = 0

    def _gradient(self):
        p = self.problem
        g = [-p.times(self.e, self.b), -p.times_transposed(self.e, self.a)]
        for part, x, ridge, held in zip(g, (self.a, self.b), self.ridges, self.held, strict=True):
            part += ridge * x
            part[:, held] = 0
        slope = -float(self.e.sum(dtype=np.float64)) if p.free_mean else 0.0
        return g, slope

    def _inverse_diagonal(self):
        p = self.problem
        out = [np.empty_like(self.a), np.empty_like(self.b)]
        p._run(kernels.squares, False, self.a.shape[1], self.b, out[0])
        p._run(kernels.squares, True, self.a.shape[1], self.a, out[1])
        for part, ridge, held in zip(out, self.ridges, self.held, strict=True):
            part += ridge
            part[part == 0] = 1
            np.reciprocal(part, out=part)
            part[:, held] = 0
        return out

    def run(self, steps, reduction=0.0):
        """Take up to `steps` steps; stop when the gradient has fallen by the factor `reduction`."""
        inverse, inverse_mean = self._inverse_diagonal(), 1 / len(self.e)
        slope_of, bend_of = np.empty_like(self.e), np.empty_like(self.e)
        direction, direction_mean = None, 0.0
        size = first = old = None
        old_mean = 0.0
        g, g_mean = self._gradient()
        taken = 0
        for _ in range(steps):
            z = [part * weight for part, weight in zip(g, inverse, strict=True)]
            z_mean = g_mean * inverse_mean
            new = _inner(g, z) + g_mean * z_mean
            if first is None:
                first = new
            if not new > reduction**2 * first or new <= 0:
                break
            if direction is None:
                direction = [-part for part in z]
                direction_mean = -z_mean
            else:
                ratio = max(0.0, (new - _inner(old, z) - old_mean * z_mean) / size)
                for part, step in zip(direction, z, strict=True):
                    part *= part.dtype.type(ratio)
                    part -= step
                direction_mean = ratio * direction_mean - z_mean
                if _inner(direction, g) + direction_mean * g_mean >= 0:
                    direction = [-part for part in z]
                    direction_mean = -z_mean
            size = new
            length = self._search(direction, direction_mean, slope_of, bend_of)
            if length is None:
                break
            taken += 1
            number = self.e.dtype.type
            self.a += number(length) * direction[0]
            self.b += number(length) * direction[1]
            self.mean += length * direction_mean
            kernels.step_residual(self.e, slope_of, bend_of, number(length))
            old, old_mean = g, g_mean
            g, g_mean = self._gradient()
        return taken

    def _search(self, direction, direction_mean, slope_of, bend_of):
        """The length of the step to the minimum along a line, where the objective is a quartic."""
        p = self.problem
        p._run(
            kernels.line, False, self.a.shape[1], self.a, direction[0], self.b, direction[1],
            self.e.dtype.type(direction_mean), slope_of, bend_of,
        )  # fmt: skip
        _, ea, eb, aa, ab, bb = kernels.line_sums(self.e, slope_of, bend_of)
        cross = square = 0.0
        for x, d, ridge in zip((self.a, self.b), direction, self.ridges, strict=True):
            weighted = d * ridge
            cross += float(np.vdot(weighted, x))
            square += float(np.vdot(weighted, d))
        return _lowest(np.array([-ea + cross, aa / 2 - eb + square / 2, ab, bb / 2]))

    def factors(self):
        k = self.k
        u, v = self.a[:, :k].astype(np.float64), self.b[:, :k].astype(np.float64)
        if not self.problem.extra:
            return u, v, np.zeros(len(u)), np.zeros(len(v))
        return u, v, self.a[:, k].astype(np.float64), self.b[:, k + 1].astype(np.float64)


def _inner(x, y):
    return sum(float(np.vdot(a, b)) for a, b in zip(x, y, strict=True))


def _lowest(c):
    """Position of the lowest point of c1 t + c2 t^2 + c3 t^3 + c4 t^4 for t > 0, with c1 < 0; or None."""
    if not (np.isfinite(c).all() and c[0] < 0):
        return None
    unit = -c[0] / (2 * c[1]) if c[1] > 0 else 1.0
    scaled = c * unit ** np.arange(1, 5)
    slope = (scaled * np.arange(1, 5))[::-1]
    significant = np.abs(slope) > 1e-13 * np.abs(slope).max()
    roots = np.roots(slope[int(np.argmax(significant)) :])
    roots = roots.real[(np.abs(roots.imag) < 1e-8 * np.abs(roots)) & (roots.real > 0)]
    if len(roots) == 0:
        return None
    value = np.polyval(np.append(scaled[::-1], 0.0), roots)
    return float(unit * roots[np.argmin(value)])


class _Spectrum:
    """Upper and lower bounds of the residual's spectral norm, and its leading directions.

    Works with the Gram matrix of the sparse residual on its smaller side, of size N, never formed.
    """

    def __init__(self, problem, rng):
        self.problem, self.rng = problem, rng
        self.turned = problem.shape[1] > problem.shape[0]
        self.size = min(problem.shape)
        # Vectors are zero where a row has no ratings.
        self.rated = np.diff(problem.indptr if self.turned else problem.t_indptr)[:, None] > 0

    def _block(self, e, x):
        """(E'E) x for a thin x, and E x."""
        p = self.problem
        out, back = (p.times_transposed, p.times) if self.turned else (p.times, p.times_transposed)
        image = out(e, np.ascontiguousarray(x))
        return back(e, image), image

    def leading(self, e, threshold, max_rank):
        """Singular triplets of E above a threshold, by randomized subspace iteration."""
        single, q = e.astype(np.float32), np.zeros((self.size, 0), np.float32)
        largest = min(self.size, max_rank)
        width = min(64, largest)
        while True:
            # One iteration finds the largest well and the others too small: leave ample room.
            more = self.rated * self.rng.standard_normal((self.size, width - q.shape[1]))
            q = np.linalg.qr(self._block(single, np.hstack([q, more.astype(np.float32)]))[0])[0]
            gram, image = self._block(single, q)
            above = np.sum(eigh(image.T @ image, eigvals_only=True) > threshold**2)
            if above <= 0.75 * width or width == largest:
                break
            width = min(2 * width, largest)
        q = np.linalg.qr(self._block(single, np.linalg.qr(gram)[0])[0])[0]
        # Orthonormal to the last digit, as the certificate takes the singular values at their word.
        q = np.linalg.qr(q.astype(np.float64))[0]
        w, s, zt = np.linalg.svd(self._block(e, q)[1], full_matrices=False)
        keep = s > threshold
        left, right = w[:, keep], (q @ zt.T)[:, keep]
        return (right, s[keep], left) if self.turned else (left, s[keep], right)

    def bounds(self, e, basis, tol, certify):
        """Bounds (low, high) of sigma(E), and directions beside `basis` to offer to the factors.

        `basis`, orthonormal of shape (N, r), spans the factors on the smaller side, and `certify` tells the
        certificate that follows from a bound. Lanczos iterations go on until its gap is at most tol, or until
        more of them could not make it much smaller. Where the norm outside the basis comes close to lambda,
        the leading vectors found there are set apart, and what remains is bounded again.
        """
        floor = self.problem.lam
        matrix = csr_array((e, self.problem.indices, self.problem.indptr), shape=self.problem.shape)
        if self.turned:
            matrix = matrix.T

        def enough(high, least):
            reached, possible = certify(high).gap, certify(least).gap
            return reached <= max(tol, possible * (1 + (SLACK if possible <= 4 * tol else FAR_SLACK)))

        span, new, high = basis, None, np.inf
        for steps in LANCZOS_STEPS:
            head = coupling = 0.0
            if span.shape[1]:
                coupled, image = self._block(e, span)
                head = _top_eigenvalue(image.T @ image)
                beside = coupled - span @ (span.T @ coupled)
                coupling = np.sqrt(_top_eigenvalue(beside.T @ beside))
            bound, least, values, vectors, last = self._lanczos(matrix, span, head, coupling, enough, steps)
            high = min(high, bound)
            if new is None:
                low = np.sqrt(max(head, values[0]))
                new = vectors[:, : min(int(np.sum(values > NEAR * floor**2)), NEW_DIRECTIONS)]
            if enough(high, least):
                break
            # A vector set apart lowers what remains; one that has not converged adds to the coupling.
            apart = [
                _two_by_two(
                    max(head, values[0]), np.hypot(coupling, np.linalg.norm(last[:count])), values[count]
                )
                for count in range(len(values) // 2)
            ]
            count = int(np.argmin(apart)) if apart else 0
            if count == 0:
                continue
            span = np.hstack([basis, _orthonormal(vectors[:, :count], basis)])
        return low, high, new

    def _lanczos(self, matrix, span, head, coupling, enough, steps):
        """Bound the norm of E from outside the span, where its Gram matrix has the norm `head`.

        Returns the bound on the whole norm, what it would be if the Ritz values were exact, Ritz values
        (squares of singular values) and vectors outside the span, best first, and their residuals' norms.
        """
        room = int(self.rated.sum()) - span.shape[1]
        if room <= 0:
            least = np.sqrt(_two_by_two(head, coupling, 0.0))
            return least, least, np.zeros(1), np.zeros((self.size, 1)), np.zeros(1)
        steps = min(steps, room)
        log_chance = np.log(1.648 * np.sqrt(room) / FAILURE)
        back = matrix.T
        x = self.rated[:, 0] * self.rng.standard_normal(self.size)
        x -= span @ (span.T @ x)
        x /= np.linalg.norm(x)
        found, alphas, betas = np.empty((steps, self.size)), [], []
        for j in range(steps):
            found[j] = x
            y = back @ (matrix @ x)
            alphas.append(float(x @ y))
            before = np.linalg.norm(y)
            for _ in range(2):
                y -= span @ (span.T @ y)
                y -= found[: j + 1].T @ (found[: j + 1] @ y)
                beta = float(np.linalg.norm(y))
                if beta > 0.1 * before:  # otherwise what is left has lost digits, and is cleaned again
                    break
            # A space without a way out, or all there is, holds no more than what was found.
            exhausted = j + 1 == room or beta <= 1e-14 * max(head, alphas[0])
            share = 0.0 if exhausted else (log_chance / (2 * j + 1)) ** 2
            if exhausted or j + 1 == steps or (share < 0.5 and (j + 1) % 10 == 0):
                top = _tridiagonal_top(alphas, betas)
                least = np.sqrt(_two_by_two(head, coupling, top))
                high = np.sqrt(_two_by_two(head, coupling, top / (1 - share))) if share < 1 else np.inf
                if exhausted or j + 1 == steps or enough(high, least):
                    break
            betas.append(beta)
            x = y / beta
        values, w = eigh_tridiagonal(alphas, betas) if j else (np.array(alphas), np.ones((1, 1)))
        order = slice(None, None, -1)
        return high, least, values[order], found[: j + 1].T @ w[:, order], beta * np.abs(w[-1, order])


def _tridiagonal_top(diagonal, beside):
    if len(diagonal) == 1:
        return max(diagonal[0], 0.0)
    at = (len(diagonal) - 1,) * 2
    return max(float(eigvalsh_tridiagonal(diagonal, beside, select="i", select_range=at)[0]), 0.0)


def _top_eigenvalue(gram):
    last = len(gram) - 1
    return max(float(eigh(gram, eigvals_only=True, subset_by_index=(last, last))[0]), 0.0)


def _two_by_two(x, coupling, y):
    """Largest eigenvalue of the symmetric matrix with diagonal x, y and `coupling` beside it."""
    return (x + y) / 2 + np.hypot((x - y) / 2, coupling)


def _orthonormal(x, basis):
    """Orthonormal columns that span x less its part in the basis."""
    for _ in range(2):
        x = np.linalg.qr(x - basis @ (basis.T @ x))[0]
    return x


def _solve(problem, tol, max_iter, max_rank, start, random_state, verbose, label, monitor=None, stacklevel=3):
    began = time.perf_counter()
    with threadpool_limits(1, user_api="blas"):
        # One thread: what BLAS sums depends on how many it has, and the matrices are thin.
        try:
            result, history = _descend(
                problem, tol, max_iter, max_rank, start, random_state, verbose, label, monitor, began
            )
        finally:
            problem.close()
    if not result.converged:
        warnings.warn(
            f"{label}: got a relative gap of {result.certificate.gap:.2g} after {history[-1]['steps']} "
            f"steps; expected at most tol={tol:g}. Allow a larger max_iter"
            + ("" if max_rank is None else ", or a larger max_rank"),
            ConvergenceWarning,
            stacklevel=stacklevel,
        )
    return result


def _descend(problem, tol, max_iter, max_rank, start, random_state, verbose, label, monitor, began):
    m, n = problem.shape
    lam, largest = problem.lam, min(m, n) if max_rank is None else min(m, n, max_rank)
    spectrum = _Spectrum(problem, np.random.default_rng(random_state))
    if start is None:
        mean, b, c = 0.0, np.zeros(m), np.zeros(n)
        if problem.extra:
            mean, b, c = _only_biases(problem, 1e-6)
            mean -= problem.fixed_mean
        e = problem.y - mean - _biases(problem, b, c)
        left, s, right = spectrum.leading(_spread(problem, e), lam, largest)
        x = left, np.maximum(s - lam, 0.1 * lam), right
    else:
        x = _balance(problem, start.user_factors, start.item_factors)
        mean, b, c = 0.0, np.zeros(m), np.zeros(n)
        if problem.extra:
            mean, b, c = start.mean - problem.fixed_mean, start.user_bias, start.item_bias
            mean = mean if problem.free_mean else 0.0
    history, steps, dtype, stuck = [], 0, np.dtype(np.float32), 0
    with tqdm(desc=label, delay=2, leave=False, disable=not verbose, unit=" steps") as bar:
        while True:
            e, mean = _residual(problem, x, mean, b, c)
            basis = x[0] if spectrum.turned else x[2]
            certify = _certifier(problem, e, x[1], b, c)
            _, high, new = spectrum.bounds(_spread(problem, e), basis, tol, certify)
            certificate = certify(high)
            row = {"seconds": time.perf_counter() - began, **certificate._asdict()}
            history.append(row | {"rank": len(x[1]), "steps": steps})
            if monitor is not None:
                state = (*_factors(problem, x), mean + problem.fixed_mean, b, c)
                history[-1]["validation_rmse"] = monitor(*state)
            bar.set_postfix(gap=f"{certificate.gap:.1e}", rank=len(x[1]))
            if certificate.gap <= tol or steps >= max_iter or stuck > 1:
                break
            if certificate.gap <= SINGLE_UNTIL or stuck:
                dtype = np.dtype(np.float64)
            if new.shape[1] or not steps:
                x = _adapt(problem, e, x, _extended(problem, spectrum, e, x, new, largest), mean, b, c)
            descent = _Descent(problem, *_factors(problem, x), mean, b, c, dtype)
            # The gap falls about as the gradient does.
            reduction = np.clip(tol / certificate.gap / 2, LEAST_REDUCTION, 0.5)
            taken = descent.run(min(INNER_STEPS, max_iter - steps), reduction)
            mean, (u, v, b, c) = descent.mean, descent.factors()
            x = _balance(problem, u, v)
            # In factors a small singular value moves slowly; a step in X itself moves it at full speed.
            for _ in range(PROXIMAL_STEPS):
                e, mean = _residual(problem, x, mean, b, c)
                x = _adapt(problem, e, x, x, mean, b, c)
            steps += max(taken, 1)
            stuck = 0 if taken else stuck + 1
            bar.update(taken)
    u, v = _factors(problem, x)
    result = Completion(
        u,
        v,
        x[1],
        mean + problem.fixed_mean,
        b,
        c,
        certificate,
        pd.DataFrame(history),
        certificate.gap <= tol,
    )
    return result, history


def _biases(problem, b, c):
    return np.repeat(b, np.diff(problem.indptr)) + c[problem.indices]


def _spread(problem, e):
    return e if problem.spread is None else e * problem.spread


def _balance(problem, u, v):
    """Singular value decomposition (left, s, right) of the weighted u v', zeros dropped; O((m + n) k^2)."""
    left, right = np.sqrt(problem.p)[:, None] * u, np.sqrt(problem.q)[:, None] * v
    if u.shape[1] == 0:
        return left, np.zeros(0), right
    (left, ru), (right, rv) = np.linalg.qr(left), np.linalg.qr(right)
    w, s, zt = np.linalg.svd(ru @ rv.T)
    keep = s > 1e-14 * s[0]
    return left @ w[:, keep], s[keep], right @ zt[keep].T


def _factors(problem, x):
    """Balanced factors u, v of the decomposition x = (left, s, right)."""
    left, s, right = x
    length = np.sqrt(s)
    return left * length / np.sqrt(problem.p)[:, None], right * length / np.sqrt(problem.q)[:, None]


def _residual(problem, x, mean, b, c):
    """Residual in float64, and the mean, which is set to its best value where it is free."""
    e = problem.residual(*problem.extend(*_factors(problem, x), b, c, np.float64), mean)
    if problem.free_mean:
        shift = e.mean()
        mean += shift
        e -= shift
    return e, mean


def _certifier(problem, e, s, b, c):
    """The certificate as a function of an upper bound of the spectral norm; see `complete`."""
    penalty = problem.lam * s.sum()
    theta_square = square = float(e @ e)
    y = problem.y
    if problem.extra:
        penalty += problem.bias_reg / 2 * (b @ b + c @ c)
        sums = (
            np.bincount(np.repeat(np.arange(len(b)), np.diff(problem.indptr)), e, minlength=len(b)),
            np.bincount(problem.indices, e, minlength=len(c)),
        )
        theta_square += sum(x @ x for x in sums) / problem.bias_reg
        if problem.free_mean:
            y = y - y.mean()
    primal = float(square / 2 + penalty)
    product = float(e @ y)

    def certificate(sigma):
        scale = 0.0
        if theta_square > 0:
            scale = min(max(product / theta_square, 0.0), problem.lam / sigma if sigma > 0 else np.inf)
        dual = float(scale * product - scale**2 / 2 * theta_square)
        return Certificate(primal, dual, max(primal - dual, 0.0) / primal if primal > 0 else 0.0)

    return certificate


def _extended(problem, spectrum, e, x, new, largest):
    """x with new directions of the smaller side, and their images, at singular value 0."""
    left, s, right = x
    new = np.ascontiguousarray(new[:, : max(largest - len(s), 0)])
    if new.shape[1] == 0:
        return x
    spread = _spread(problem, e)
    if spectrum.turned:
        right = np.hstack([right, _orthonormal(problem.times_transposed(spread, new), right)])
        left = np.hstack([left, new])
    else:
        left = np.hstack([left, _orthonormal(problem.times(spread, new), left)])
        right = np.hstack([right, new])
    return left, np.append(s, np.zeros(new.shape[1])), right


def _adapt(problem, e, before, x, mean, b, c):
    """One proximal step on the span of x, which is `before` or more: the rank rises or falls.

    X + t E is soft-thresholded at t lambda. Without weights t = 1 never raises the objective; with them t is
    lowered until it does not.
    """
    left, s, right = x
    if len(s) == 0:
        return x
    spread = _spread(problem, e)
    core = left.T @ problem.times(spread, np.ascontiguousarray(right))
    if not problem.weighted:
        return _threshold(x, core, problem.lam, 1.0)
    # Columns that a penalty of lambda pushes out, judged by the slope and the curvature along each.
    curve = np.sum(left**2 * problem.times(problem.spread**2, np.ascontiguousarray(right**2)), axis=0)
    kept = ~((s > 0) & (s * curve / 2 < problem.lam - np.diag(core)))
    part, core = (left[:, kept], s[kept], right[:, kept]), core[np.ix_(kept, kept)]
    objective = e @ e / 2 + problem.lam * s.sum()
    for step in (1.0, 0.25, 0.06, 0.015, 0.0):
        moved = _threshold(part, core, problem.lam, step)
        error, _ = _residual(problem, moved, mean, b, c)
        if error @ error / 2 + problem.lam * moved[1].sum() <= objective:
            return moved
    return before


def _threshold(x, core, lam, step):
    """left (diag(s) + step core) right', its singular values soft-thresholded at step lam."""
    left, s, right = x
    w, values, zt = np.linalg.svd(np.diag(s) + step * core)
    values = values - step * lam
    keep = values > 0
    return left @ w[:, keep], values[keep], right @ zt[keep].T


# ---- the model --------------------------------------------------------------------


class NuclearNormCompletion(FactorModel):
    r"""Convex completion of the rating matrix: biases plus a matrix of small nuclear norm.

    Minimizes

    .. math::

        \frac12 \sum_{(u,i)\in\Omega} (r_{ui} - \mu - b_u - b_i - X_{ui})^2
        + \lambda |D_p^{1/2} X D_q^{1/2}|_* + \frac{\lambda_b}{2} \Bigl(\sum_u b_u^2 + \sum_i b_i^2\Bigr)

    over the mean, the biases and X together. This is convex: there is one optimum, and `certificate_` says
    how far from it the result can be at most. :math:`\lambda` sets the rank, which nobody has to choose.
    With ``fix_mean=True`` and at sufficient rank it is half the objective of `BiasedALS` with the same
    `reg` and `bias_reg`.

    Parameters
    ----------
    reg : float
        :math:`\lambda`, above 0.
    bias_reg : float
        :math:`\lambda_b`, above 0.
    joint : bool
        False: fit mean and biases first, without X, and complete what they leave.
    weighted : bool or float
        Weights p and q by how often a user and a film occur (`marginal_weights`), to this power: False or 0
        for none, True or 1 for those of Srebro and Salakhutdinov (2010).
    fix_mean : bool
        Hold the mean at the mean of the training ratings.
    max_rank : int, optional
        Most columns of the factors; a bound below the optimum's rank leaves the gap open.
    tol : float
        Stop at this certified relative gap.
    max_iter : int
        Upper bound on conjugate gradient steps.
    n_threads : int, optional
        Default: Numba's number of threads.
    random_state : int or numpy.random.Generator
        The same integer gives the same model to the last bit, whatever the threads.
    verbose : bool
        Show progress on fits of more than two seconds.

    Attributes
    ----------
    user_factors_, item_factors_ : ndarray, shape (m, k) and (n, k)
        X as a product, balanced.
    singular_values_ : ndarray, shape (k,)
        Of X (with weights, of the weighted matrix), largest first.
    rank_ : int
        Rank k of X.
    mean_ : float
    user_bias_, item_bias_ : ndarray, shape (m,) and (n,)
    certificate_ : Certificate
        Primal and dual value and relative gap; `primal_`, `dual_` and `gap_` are the same. With
        ``joint=False`` they are those of the second problem.
    converged_ : bool
    n_iter_ : int
        Conjugate gradient steps.
    history_ : DataFrame
        One row a certificate: seconds, primal, dual, gap, rank, steps, validation_rmse (NaN without).

    Notes
    -----
    Steps, derivation of the dual, cost and memory: `complete`.

    An unknown user or film, with a code of -1, has no bias and no factors: the prediction falls back to
    what is known of the other.

    References
    ----------
    R. Mazumder, T. Hastie and R. Tibshirani (2010). Spectral Regularization Algorithms for Learning Large
    Incomplete Matrices. Journal of Machine Learning Research 11, 2287-2322.
    """

    def __init__(
        self,
        reg=12.0,
        *,
        bias_reg=3.0,
        joint=True,
        weighted=False,
        fix_mean=False,
        max_rank=None,
        tol=1e-4,
        max_iter=1000,
        n_threads=None,
        random_state=0,
        verbose=True,
    ):
        self.reg = reg
        self.bias_reg = bias_reg
        self.joint = joint
        self.weighted = weighted
        self.fix_mean = fix_mean
        self.max_rank = max_rank
        self.tol = tol
        self.max_iter = max_iter
        self.n_threads = n_threads
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, ratings, validation=None):
        """Fit to ratings.

        Parameters
        ----------
        ratings : Ratings
        validation : Ratings, optional
            Held-out ratings, whose RMSE goes to `history_`. Never the test part.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter is out of its range.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            If `max_iter` steps did not reach a gap of `tol`.
        """
        return self._fit(ratings, validation, None)

    def path(self, ratings, lambdas, validation=None):
        r"""Fit for many values of :math:`\lambda`, largest first, each from the result before.

        Parameters
        ----------
        ratings : Ratings
        lambdas : array-like of float
            Values for `reg`, above 0, in any order.
        validation : Ratings, optional
            Held-out ratings. Never the test part.

        Returns
        -------
        Path
            ``table, models``: one row and one fitted model for each value, in falling order.
        """
        self._check_ratings(ratings)
        lambdas = np.asarray(lambdas, dtype=np.float64)
        if lambdas.ndim != 1 or len(lambdas) == 0:
            raise ValueError(
                f"lambdas: got shape {lambdas.shape}; expected one dimension and at least one value"
            )
        for value in lambdas:
            _check_positive("lambdas", float(value))
        models, rows, last = [], [], None
        for value in np.sort(lambdas)[::-1]:
            model = clone(self).set_params(reg=float(value))
            began = time.perf_counter()
            model._fit(ratings, validation, last, stacklevel=4)
            seconds = time.perf_counter() - began
            last = model
            models.append(model)
            error = model.predict(ratings) - ratings.values
            rows.append(
                {
                    "lambda": float(value),
                    "rank": model.rank_,
                    "nuclear_norm": float(model.singular_values_.sum()),
                    **model.certificate_._asdict(),
                    "train_rmse": float(np.sqrt(np.mean(error * error))),
                    "validation_rmse": model.history_["validation_rmse"].iloc[-1],
                    "steps": model.n_iter_,
                    "seconds": seconds,
                }
            )
        return Path(pd.DataFrame(rows).set_index("lambda"), models)

    def _fit(self, ratings, validation, last, stacklevel=3):
        self._check_ratings(ratings)
        self._check_parameters()
        if validation is not None:
            self._check_ratings(validation, "validation")
        self._remember(ratings)
        matrix = ratings.by_user
        fixed = float(ratings.values.mean(dtype=np.float64)) if self.fix_mean else None
        weights = None
        if self.weighted:
            weights = marginal_weights(
                ratings.user_codes, ratings.item_codes, ratings.shape, float(self.weighted)
            )
        before = 0.0, np.zeros(ratings.n_users), np.zeros(ratings.n_items)
        if not self.joint:
            biases = _Problem(matrix, self.reg, None, self.bias_reg, fixed, self.n_threads)
            before = _only_biases(biases)
            u = np.repeat(np.arange(ratings.n_users), np.diff(matrix.indptr))
            left_over = matrix.data - before[0] - before[1][u] - before[2][matrix.indices]
            matrix = csr_array((left_over, matrix.indices, matrix.indptr), shape=matrix.shape)
        problem = _Problem(
            matrix, self.reg, weights, self.bias_reg if self.joint else None, fixed if self.joint else None,
            self.n_threads,
        )  # fmt: skip
        check = None if validation is None else (self._pair_codes(validation), validation.values)

        def monitor(u, v, mean, b, c):
            if check is None:
                return np.nan
            out = np.empty(len(check[1]))
            state = (mean + before[0], u, b + before[1], v, c + before[2])
            _score(*check[0], *state, out)
            return float(np.sqrt(np.mean((out - check[1]) ** 2)))

        start = None if last is None else last._result
        result = _solve(
            problem, self.tol, self.max_iter, self.max_rank, start, self.random_state, self.verbose,
            type(self).__name__, monitor, stacklevel=stacklevel + 1,
        )  # fmt: skip
        self._result = result
        self.user_factors_, self.item_factors_ = result.user_factors, result.item_factors
        self.singular_values_, self.rank_ = result.singular_values, result.rank
        self.mean_ = result.mean + before[0]
        self.user_bias_, self.item_bias_ = result.user_bias + before[1], result.item_bias + before[2]
        self.certificate_ = result.certificate
        self.primal_, self.dual_, self.gap_ = result.certificate
        self.history_, self.converged_ = result.history, result.converged
        self.n_iter_ = int(self.history_["steps"].iloc[-1])
        # What a new row is fitted with: its weight follows from its own number of ratings.
        self._mean_count = ratings.user_counts.mean()
        return self

    def _check_parameters(self):
        _check_solver_arguments(
            self.reg, self.bias_reg, self.max_rank, self.tol, self.max_iter, self.n_threads, "reg"
        )
        _check_positive("bias_reg", self.bias_reg)
        for name in ("joint", "fix_mean"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise ValueError(f"{name}: got {getattr(self, name)!r}; expected True or False")
        if not isinstance(self.weighted, numbers.Real) or not 0 <= self.weighted <= 1:
            raise ValueError(f"weighted: got {self.weighted!r}; expected True, False or a power from 0 to 1")

    # ---- predicting -------------------------------------------------------------

    def fold_in(self, ratings):
        """Find the row of a person who was not in training, films and mean held.

        Parameters
        ----------
        ratings : dict of int to float, or DataFrame
            Rating by movieId, or a table with the columns movieId and rating. Films that were not in
            training say nothing and are listed in `NewUser.ignored`.

        Returns
        -------
        NewUser
            With recommendations, predictions and explanations.

        Raises
        ------
        ValueError
            On a film rated twice, a rating outside the scale, or no known film at all.

        Notes
        -----
        One ridge regression on the films' factors, with the penalty of the problem in factors, in
        O(l k^2 + k^3) for l ratings. At the optimum each training row solves its own such regression, so
        the ratings of a training user give that user's row, as exactly as the gap is closed.
        """
        codes, values, ignored = self._newcomer(ratings)
        x, target, penalty = self._row(codes, values)
        solution = np.linalg.solve(x.T @ x + np.diag(penalty), x.T @ target)
        k, bias = self.rank_, 0.0
        if self.joint:
            bias = solution[k]
        else:
            bias = self._row_bias(codes, values)
        return NewUser(self, codes, values, solution[:k], float(bias), ignored)

    def _row_bias(self, codes, values):
        """Bias of a row when biases come first."""
        return float(np.sum(values - self.mean_ - self.item_bias_[codes]) / (len(codes) + self.bias_reg))

    def _row(self, codes, values):
        """Regressors, target and penalty of one row; the last column is the bias where it is joint."""
        weight = (max(len(codes), 1) / self._mean_count) ** float(self.weighted) if self.weighted else 1.0
        x = self.item_factors_[codes]
        target = values.astype(np.float64) - self.mean_ - self.item_bias_[codes]
        penalty = np.full(self.rank_, self.reg * weight)
        if self.joint:
            return np.column_stack([x, np.ones(len(codes))]), target, np.append(penalty, self.bias_reg)
        return x, target - self._row_bias(codes, values), penalty

    def _explain(self, codes, values, item):
        x, target, penalty = self._row(codes, values)
        own, baseline = self.item_factors_[item], self.mean_ + float(self.item_bias_[item])
        if self.joint:
            own = np.append(own, 1.0)
        else:
            baseline += self._row_bias(codes, values)
        weight = x @ np.linalg.solve(x.T @ x + np.diag(penalty), own)
        return self._contributions(codes, values, target, weight, baseline)


class Path(NamedTuple):
    """Result of `NuclearNormCompletion.path`.

    Attributes
    ----------
    table : DataFrame
        By lambda, falling: rank, nuclear_norm, primal, dual, gap, train_rmse, validation_rmse (NaN without
        validation ratings), steps and seconds.
    models : list of NuclearNormCompletion
    """

    table: pd.DataFrame
    models: list


def _score(users, items, mean, user_factors, user_bias, item_factors, item_bias, out):
    arrays = (users, items, user_factors, user_bias, item_factors, item_bias)
    users, items, user_factors, user_bias, item_factors, item_bias = (_read_only(x) for x in arrays)
    score_pairs(users, items, mean, user_factors, user_bias, item_factors, item_bias, out)


def _only_biases(problem, reduction=1e-13):
    """Mean and biases alone: the problem with X = 0, a ridge regression."""
    m, n = problem.shape
    descent = _Descent(
        problem, np.zeros((m, 0)), np.zeros((n, 0)), 0.0, np.zeros(m), np.zeros(n), np.dtype(np.float64)
    )
    descent.run(500, reduction)
    _, _, b, c = descent.factors()
    return descent.mean + problem.fixed_mean, b, c


# ---- checks -----------------------------------------------------------------------


def _check_positive(name, value):
    if check_non_negative(name, value) == 0:
        raise ValueError(f"{name}: got 0; expected a number above 0")
    return float(value)


def _check_solver_arguments(lam, bias_reg, max_rank, tol, max_iter, n_threads, lam_name="lam"):
    _check_positive(lam_name, lam)
    if bias_reg is not None:
        _check_positive("bias_reg", bias_reg)
    for name, value in (("max_rank", max_rank), ("n_threads", n_threads)):
        if value is not None:
            check_positive_int(name, value)
    check_non_negative("tol", tol)
    check_positive_int("max_iter", max_iter)


def _check_entries(values, rows, cols, shape):
    try:
        m, n = (check_positive_int("shape", int(x)) for x in shape)
    except (TypeError, ValueError):
        raise ValueError(f"shape: got {shape!r}; expected a pair of whole numbers above 0") from None
    try:
        values = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"values: got {type(values).__name__}; expected numbers") from None
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"values: got shape {values.shape}; expected one dimension and at least one entry")
    if not np.isfinite(values).all():
        at = int(np.argmin(np.isfinite(values)))
        raise ValueError(f"values: got {values[at]} at position {at}; expected finite numbers")
    codes = []
    for name, x, size in (("rows", rows, m), ("cols", cols, n)):
        x = np.asarray(x)
        if x.shape != values.shape or x.dtype.kind not in "iu":
            raise ValueError(
                f"{name}: got {x.dtype} values of shape {x.shape}; expected whole numbers of shape "
                f"{values.shape}"
            )
        if x.min() < 0 or x.max() >= size:
            raise ValueError(f"{name}: got values from {x.min()} to {x.max()}; expected 0 to {size - 1}")
        codes.append(x.astype(np.int32))
    key = codes[0].astype(np.int64) * n + codes[1]
    if len(np.unique(key)) < len(key):
        raise ValueError("rows, cols: got a pair more than once; expected every entry once")
    return values, *codes, (m, n)


def _check_weights(weights, shape):
    try:
        p, q = (np.array(x, dtype=np.float64) for x in weights)
    except (TypeError, ValueError):
        raise ValueError("weights: expected a pair of arrays (p, q)") from None
    for name, x, size in (("p", p, shape[0]), ("q", q, shape[1])):
        if x.shape != (size,) or not (np.isfinite(x).all() and (x > 0).all()):
            raise ValueError(f"weights: {name}: got shape {x.shape}; expected {size} finite numbers above 0")
    return p, q


def _check_box(box, values, form):
    try:
        low, high = (float(x) for x in box)
    except (TypeError, ValueError):
        raise ValueError(f"box: got {box!r}; expected a pair (lowest, highest)") from None
    if not low < high:
        raise ValueError(f"box: got {box!r}; expected lowest below highest")
    if form == "equality" and (values.min() < low or values.max() > high):
        raise ValueError(
            f"box: got {box!r}, but observed values from {values.min():g} to {values.max():g}; with "
            "form='equality' they must lie inside"
        )
    return low, high
