"""The solver of `completion.complete`: descent in thin factors, and the bound that certifies what it found.

The problem, the steps and the certificate are derived in the notes of `complete`. `Problem` holds the ratings
and the passes over them, `Descent` the conjugate gradients, `Spectrum` the spectral norm of the residual;
`solve` takes turns between them.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from ..kernels import completion as kernels
from ..kernels import spans
from ..kernels.baselines import solve_biases
from ..kernels.products import multiply_rows
from ..kernels.vectors import in_whole_vectors, lanes
from .factors import _read_only
from .spectrum import Spectrum, orthonormal

# Multiply-adds in one piece of work for a thread; fixed, so that sums do not depend on the threads.
CHUNK_WORK = 4e6
# Most conjugate gradient steps between two certificates, and the least factor by which the gradient falls.
INNER_STEPS = 12
LEAST_REDUCTION = 0.1
# Proximal steps after them.
PROXIMAL_STEPS = 2
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


class Problem:
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
        # Read-only in both orientations: the kernels are compiled once for the two.
        self.indptr, self.indices = (
            _read_only(np.asarray(x, np.int32)) for x in (matrix.indptr, matrix.indices)
        )
        self.y = np.asarray(matrix.data, np.float64) - self.fixed_mean
        straight = np.arange(nnz, dtype=np.int32)
        turned = csr_array((straight, self.indices, self.indptr), shape=matrix.shape).tocsc()
        self.t_indptr, self.t_indices, self.turn = (
            _read_only(np.asarray(x, np.int32)) for x in (turned.indptr, turned.indices, turned.data)
        )
        self.weighted = weights is not None
        self.p, self.q = (np.ones(m), np.ones(n)) if weights is None else weights
        # The entries of D_p^-1/2 E D_q^-1/2 are those of E times this.
        self.spread = None
        if self.weighted:
            rows = np.repeat(np.arange(m), np.diff(self.indptr))
            self.spread = 1 / np.sqrt(self.p[rows] * self.q[self.indices])
        self.n_threads = spans.threads(n_threads)
        self.extra = 0 if bias_reg is None else 2

    # -- passes over the ratings

    def _run(self, kernel, by_column, k, *arguments):
        indptr, indices = (self.t_indptr, self.t_indices) if by_column else (self.indptr, self.indices)
        cuts = spans.cut(np.diff(indptr) * float(k), CHUNK_WORK, most=64)
        spans.run(lambda i, j: kernel(i, j, indptr, indices, *arguments), cuts, self.n_threads)

    def sampled(self, a, b):
        out = np.empty(len(self.y), a.dtype)
        self._run(kernels.sampled, False, a.shape[1], a, b, out)
        return out

    def times(self, e, x, out=None):
        """E x, E the sparse matrix with the values e, x thin."""
        return self._times(False, e, x, out)

    def times_transposed(self, e, x, out=None):
        """E' x."""
        return self._times(True, e[self.turn], x, out)

    def _times(self, by_column, e, x, out):
        k, x = x.shape[1], in_whole_vectors(x, x.dtype)
        if out is None:
            out = np.empty((self.shape[by_column], x.shape[1]), x.dtype)
        self._run(multiply_rows, by_column, x.shape[1], e, x, lanes(x.dtype), out)
        return out[:, :k]

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

    def ridges(self, k, width, dtype):
        """Penalties of the columns of a and of b, and which of their columns are held."""
        penalties, held = np.zeros((2, width), dtype), np.zeros((2, width), bool)
        penalties[:, :k] = self.lam
        held[:, k:] = True
        if self.extra:
            penalties[0, k] = penalties[1, k + 1] = self.bias_reg
            held[0, k] = held[1, k + 1] = False
        return penalties, held

    def residual(self, a, b, mean):
        e = self.y - self.sampled(a, b)
        e -= mean
        return e


class Descent:
    """Conjugate gradients on factors, mean and biases together.

    Five pairs of arrays: the factors, the gradient and the one before, the preconditioner and the direction.
    """

    def __init__(self, problem, u, v, mean, b, c, dtype):
        self.problem, self.k = problem, u.shape[1]
        self.x = problem.extend(u, v, b, c, dtype)
        self.mean = mean
        self.e = problem.residual(*self.x, mean).astype(dtype)
        self.width = self.x[0].shape[1]
        # The penalty of an entry is that of its column, for factors times the weight of its row.
        self.penalties, self.held = problem.ridges(self.k, self.width, dtype)
        self.weights = [weight.astype(dtype) for weight in (problem.p, problem.q)]

    def _gradient(self, out):
        p = self.problem
        p.times(self.e, self.x[1], out[0])
        p.times_transposed(self.e, self.x[0], out[1])
        for part, x, penalty, weight in zip(out, self.x, self.penalties, self.weights, strict=True):
            kernels.gradient(part, x, penalty, weight, self.k)
        return out, -float(self.e.sum(dtype=np.float64)) if p.free_mean else 0.0

    def _inverse_diagonal(self):
        # In float32, which is enough for a preconditioner.
        p, once = self.problem, np.ones(len(self.e), np.float32)
        out = []
        for times, x, penalty, held, weight in zip(
            (p.times, p.times_transposed), self.x[::-1], self.penalties, self.held, self.weights, strict=True
        ):
            x = x.astype(np.float32)
            x *= x
            part = times(once, x)
            part[:, : self.k] += penalty[: self.k] * weight[:, None] if p.weighted else penalty[: self.k]
            part[:, self.k :] += penalty[self.k :]
            part[:, held] = np.inf
            out.append(np.reciprocal(part, out=part))
        return out

    def run(self, steps, reduction=0.0):
        """Take up to `steps` steps; stop when the gradient has fallen by the factor `reduction`."""
        inverse, inverse_mean = self._inverse_diagonal(), 1 / len(self.e)
        slope_of, bend_of = np.empty_like(self.e), np.empty_like(self.e)
        # Of zeros, so that the first direction is the preconditioned gradient.
        old, direction, spare = ([np.zeros_like(x) for x in self.x] for _ in range(3))
        direction_mean = old_mean = 0.0
        size = first = None
        g, g_mean = self._gradient(spare)
        number = self.e.dtype.type

        def turn(ratio):
            """The new direction, -z + ratio times the old one, and the slope along it."""
            along = sum(
                kernels.turn(d, number(ratio), weight, part)
                for d, weight, part in zip(direction, inverse, g, strict=True)
            )
            mean = ratio * direction_mean - z_mean
            return mean, along + mean * g_mean

        taken = 0
        for _ in range(steps):
            new, cross = np.sum(
                [
                    kernels.preconditioned(part, before, weight)
                    for part, before, weight in zip(g, old, inverse, strict=True)
                ],
                axis=0,
            )
            z_mean = g_mean * inverse_mean
            new, cross = new + g_mean * z_mean, cross + old_mean * z_mean
            if first is None:
                first = size = new
            if not new > reduction**2 * first or new <= 0:
                break
            direction_mean, slope = turn(max(0.0, (new - cross) / size) if taken else 0.0)
            if slope >= 0:
                direction_mean, _ = turn(0.0)
            size = new
            length = self._search(direction, direction_mean, slope_of, bend_of)
            if length is None:
                break
            taken += 1
            for x, d in zip(self.x, direction, strict=True):
                kernels.advance(x, number(length), d)
            self.mean += length * direction_mean
            kernels.step_residual(self.e, slope_of, bend_of, number(length))
            spare, old, old_mean = old, g, g_mean
            g, g_mean = self._gradient(spare)
        return taken

    def _search(self, direction, direction_mean, slope_of, bend_of):
        """The length of the step to the minimum along a line, where the objective is a quartic."""
        (a, b), (da, db) = self.x, direction
        shift = self.e.dtype.type(direction_mean)
        self.problem._run(kernels.line, False, self.width, a, da, b, db, shift, slope_of, bend_of)
        _, ea, eb, aa, ab, bb = kernels.line_sums(self.e, slope_of, bend_of)
        cross, square = np.sum(
            [
                kernels.ridge_products(x, d, penalty, weight, self.k)
                for x, d, penalty, weight in zip(self.x, direction, self.penalties, self.weights, strict=True)
            ],
            axis=0,
        )
        return _lowest(np.array([-ea + cross, aa / 2 - eb + square / 2, ab, bb / 2]))

    def factors(self):
        k = self.k
        u, v = (x[:, :k].astype(np.float64) for x in self.x)
        if not self.problem.extra:
            return u, v, np.zeros(len(u)), np.zeros(len(v))
        return u, v, self.x[0][:, k].astype(np.float64), self.x[1][:, k + 1].astype(np.float64)


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


def solve(problem, tol, max_iter, max_rank, start, random_state, verbose, label, monitor=None, stacklevel=3):
    began = time.perf_counter()
    with threadpool_limits(1, user_api="blas"):
        # One thread: what BLAS sums depends on how many it has, and the matrices are thin.
        result = _descend(
            problem, tol, max_iter, max_rank, start, random_state, verbose, label, monitor, began
        )
    if not result.converged:
        warnings.warn(
            f"{label}: got a relative gap of {result.certificate.gap:.2g} after "
            f"{result.history['steps'].iloc[-1]} steps; expected at most tol={tol:g}. Allow a larger max_iter"
            + ("" if max_rank is None else ", or a larger max_rank"),
            ConvergenceWarning,
            stacklevel=stacklevel,
        )
    return result


def _descend(problem, tol, max_iter, max_rank, start, random_state, verbose, label, monitor, began):
    largest = min(problem.shape) if max_rank is None else min(*problem.shape, max_rank)
    spectrum = Spectrum(problem, np.random.default_rng(random_state))
    at = _first(problem, spectrum, start, largest)
    history, steps, dtype, stuck = [], 0, np.dtype(np.float32), 0
    with tqdm(desc=label, delay=2, leave=False, disable=not verbose, unit=" steps") as bar:
        while True:
            e = _residual(problem, at)
            certificate, new = _certificate(problem, spectrum, e, at, tol)
            row = {"seconds": time.perf_counter() - began, **certificate._asdict()}
            history.append(row | {"rank": len(at.x[1]), "steps": steps})
            if monitor is not None:
                state = at.mean + problem.fixed_mean, at.b, at.c
                history[-1]["validation_rmse"] = monitor(*_factors(problem, at.x), *state)
            bar.set_postfix(gap=f"{certificate.gap:.1e}", rank=len(at.x[1]))
            if certificate.gap <= tol or steps >= max_iter or stuck > 1:
                break
            if certificate.gap <= SINGLE_UNTIL or stuck:
                dtype = np.dtype(np.float64)
            if new.shape[1] or not steps:
                at.x = _adapt(problem, e, at, _extended(problem, spectrum, e, at.x, new, largest))
            del e, new  # Memory is highest in what follows.
            # The gap falls about as the gradient does.
            reduction = np.clip(tol / certificate.gap / 2, LEAST_REDUCTION, 0.5)
            taken = _move(problem, at, min(INNER_STEPS, max_iter - steps), reduction, dtype)
            steps += max(taken, 1)
            stuck = 0 if taken else stuck + 1
            bar.update(taken)
    u, v = _factors(problem, at.x)
    mean = at.mean + problem.fixed_mean
    history = pd.DataFrame(history)
    return Completion(u, v, at.x[1], mean, at.b, at.c, certificate, history, certificate.gap <= tol)


@dataclass
class _State:
    """X as a decomposition x = (left, s, right), with the mean and biases beside it.

    It is changed in place, so that nobody holds on to factors that have been left behind.
    """

    x: tuple
    mean: float
    b: np.ndarray
    c: np.ndarray


def _first(problem, spectrum, start, largest):
    """The result of a similar problem, or biases alone with the leading singular vectors of the rest."""
    m, n = problem.shape
    mean, b, c = 0.0, np.zeros(m), np.zeros(n)
    if start is not None:
        if problem.extra:
            mean = start.mean - problem.fixed_mean if problem.free_mean else 0.0
            b, c = start.user_bias, start.item_bias
        return _State(_balance(problem, start.user_factors, start.item_factors), mean, b, c)
    if problem.extra:
        mean, b, c = only_biases(problem)
        mean -= problem.fixed_mean
    e = problem.y - mean - np.repeat(b, np.diff(problem.indptr)) - c[problem.indices]
    left, s, right = spectrum.leading(_spread(problem, e), problem.lam, largest)
    at = _State((left, np.maximum(s - problem.lam, 0.1 * problem.lam), right), mean, b, c)
    if problem.weighted and len(s):
        # Where weights differ much, that can be far too much: the other offer are singular values as
        # slope and curvature along each direction give them, with the best factor for all.
        s = (s - problem.lam) / _curvature(problem, left, right)
        fit = e - _error(problem, (left, s, right), at)
        s *= (e @ fit - problem.lam * s.sum()) / (fit @ fit)
        at.x = min(at.x, (left, s, right), key=lambda x: _objective(problem, x, at))
    return at


def _certificate(problem, spectrum, e, at, tol):
    """The certificate, and directions that the factors lack."""
    certify = certifier(problem, e, at.x[1], at.b, at.c)
    basis = at.x[0] if spectrum.turned else at.x[2]
    _, high, new = spectrum.bounds(_spread(problem, e), basis, tol, certify)
    return certify(high), new


def _move(problem, at, steps, reduction, dtype):
    """Steps of conjugate gradients, then balanced factors and proximal steps; how many of the former."""
    descent = Descent(problem, *_factors(problem, at.x), at.mean, at.b, at.c, dtype)
    at.x = None
    taken = descent.run(steps, reduction)
    at.mean, (u, v, at.b, at.c) = descent.mean, descent.factors()
    del descent
    at.x = _balance(problem, u, v)
    del u, v
    # In factors a small singular value moves slowly; a step in X itself moves it at full speed.
    for _ in range(PROXIMAL_STEPS):
        at.x = _adapt(problem, _residual(problem, at), at, at.x)
    return taken


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


def _residual(problem, at):
    """Residual in float64; sets the mean to its best value where it is free."""
    e = _error(problem, at.x, at)
    if problem.free_mean:
        shift = e.mean()
        at.mean += shift
        e -= shift
    return e


def _error(problem, x, at):
    """Residual of x beside the mean and biases of a state."""
    return problem.residual(*problem.extend(*_factors(problem, x), at.b, at.c, np.float64), at.mean)


def _objective(problem, x, at):
    """The part of the objective that depends on x, with the mean at its best value where it is free."""
    e = _error(problem, x, at)
    if problem.free_mean:
        e -= e.mean()
    return e @ e / 2 + problem.lam * x[1].sum()


def certifier(problem, e, s, b, c):
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
    new = new[:, : max(largest - len(s), 0)]
    if new.shape[1] == 0:
        return x
    spread = _spread(problem, e)
    if spectrum.turned:
        right = np.hstack([right, orthonormal(problem.times_transposed(spread, new), right)])
        left = np.hstack([left, new])
    else:
        left = np.hstack([left, orthonormal(problem.times(spread, new), left)])
        right = np.hstack([right, new])
    return left, np.append(s, np.zeros(new.shape[1])), right


def _adapt(problem, e, at, x):
    """One proximal step on the span of x, which is that of `at` or more: the rank rises or falls.

    X + t E is soft-thresholded at t lambda. Without weights t = 1 never raises the objective; with them t is
    lowered until it does not.
    """
    left, s, right = x
    if len(s) == 0:
        return x
    spread = _spread(problem, e)
    core = left.T @ problem.times(spread, right)
    if not problem.weighted:
        return _threshold(x, core, problem.lam, 1.0)
    # Columns that a penalty of lambda pushes out, judged by the slope and the curvature along each.
    curve = _curvature(problem, left, right)
    kept = ~((s > 0) & (s * curve / 2 < problem.lam - np.diag(core)))
    part = left[:, kept], s[kept], right[:, kept]
    objective = e @ e / 2 + problem.lam * s.sum()
    # No entry's weight is above 1 / least, so that a step of least never raises the objective.
    least = 1 / np.max(problem.spread) ** 2
    step = min(1.0, max(least, 2 / curve[kept].max())) if kept.any() else least
    trials = [(part, core[np.ix_(kept, kept)], step)]
    while step > least:
        step = max(step / 4, least)
        trials.append((*trials[0][:2], step))
    for *span, step in [*trials, (x, core, least)]:
        moved = _threshold(*span, problem.lam, step)
        if _objective(problem, moved, at) <= objective:
            return moved
    return at.x


def _curvature(problem, left, right):
    """Second derivative of the squared error along each direction left_j right_j', with weights."""
    return np.sum(left**2 * problem.times(problem.spread**2, right**2), axis=0)


def _threshold(x, core, lam, step):
    """left (diag(s) + step core) right', its singular values soft-thresholded at step lam."""
    left, s, right = x
    w, values, zt = np.linalg.svd(np.diag(s) + step * core)
    values = values - step * lam
    keep = values > 0
    return left @ w[:, keep], values[keep], right @ zt[keep].T


def only_biases(problem):
    """Mean and biases alone: the problem with X = 0, a ridge regression."""
    m, n = problem.shape
    if m >= n:
        sides = problem.indptr, problem.indices, problem.y, n
    else:
        sides = problem.t_indptr, problem.t_indices, problem.y[problem.turn], m
    penalties = (np.full(size, float(problem.bias_reg)) for size in (max(m, n), min(m, n)))
    start, tol = (float(problem.y.mean()) if problem.free_mean else 0.0), 1e-12 * float(problem.y.std())
    mean, *biases, _, _ = solve_biases(*sides, start, problem.free_mean, *penalties, tol, 500)
    if m < n:
        biases.reverse()
    return mean + problem.fixed_mean, *biases
