"""Convex matrix completion with a certificate, at any size."""

from __future__ import annotations

import numbers
import time
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from sklearn.base import clone

from ..checks import (
    check_non_negative,
    check_positive,
    check_positive_int,
    either,
    flag,
    number,
    optional,
    seed,
    whole,
)  # fmt: skip
from ..kernels.factors import score_pairs
from .automatic import MOST_FACTORS, settled, warn_if_behind
from .conic import check_entries, check_weights, marginal_weights
from .documented import documented
from .factors import FactorModel, _read_only, _solve
from .nuclear import Certificate, Completion, Problem, only_biases, solve

__all__ = ["Certificate", "Completion", "NuclearNormCompletion", "Path", "complete", "marginal_weights"]


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
        Default: all processors.
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
    what they found by more than a known factor with a chance that is chosen: 1e-8 for all looks at the bound
    of one certificate together. The norm of the whole follows from the two and from the norm of the coupling
    between them, all in float64.

    Memory: both orientations of the ratings, and at most about six pairs of factors in float64.
    """
    values, rows, cols, shape = check_entries(values, rows, cols, shape)
    _check_solver_arguments(lam, bias_reg, max_rank, tol, max_iter, n_threads)
    if weights is not None:
        weights = check_weights(weights, shape)
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
    problem = Problem(matrix, float(lam), weights, bias_reg, mean, n_threads)
    return solve(problem, tol, max_iter, max_rank, start, random_state, verbose, "complete")


# ---- the model --------------------------------------------------------------------


def _power(name, value):
    """A check for True, False or a power."""
    if not isinstance(value, numbers.Real) or not 0 <= value <= 1:
        raise ValueError(f"{name}: got {value!r}; expected True, False or a power from 0 to 1")


@documented
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
    reg : float or "auto"
        :math:`\lambda`, above 0. "auto": as `BiasedALS` chooses it, which has the same objective.
    bias_reg : float or "auto"
        :math:`\lambda_b`, above 0. "auto": chosen with `reg`; 3 next to a `reg` that is given.
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
    {n_threads}
    {random_state}
    {verbose}

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
    reg_, bias_reg_ : float
        What the fit took.
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

    {fallback}

    References
    ----------
    R. Mazumder, T. Hastie and R. Tibshirani (2010). Spectral Regularization Algorithms for Learning Large
    Incomplete Matrices. Journal of Machine Learning Research 11, 2287-2322.
    """

    _parameters = {
        "reg": either("auto", number(above=0)),
        "bias_reg": either("auto", number(above=0)),
        "joint": flag,
        "weighted": _power,
        "fix_mean": flag,
        "max_rank": optional(whole()),
        "tol": number(),
        "max_iter": whole(),
        "n_threads": optional(whole()),
        "random_state": seed,
        "verbose": flag,
    }

    def __init__(
        self,
        reg="auto",
        *,
        bias_reg="auto",
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
        ratings = self._check_ratings(ratings)
        lambdas = np.asarray(lambdas, dtype=np.float64)
        if lambdas.ndim != 1 or len(lambdas) == 0:
            raise ValueError(
                f"lambdas: got shape {lambdas.shape}; expected one dimension and at least one value"
            )
        for value in lambdas:
            check_positive("lambdas", float(value))
        models, rows, last = [], [], None
        for value in np.sort(lambdas)[::-1]:
            model = clone(self).set_params(reg=float(value))
            began = time.perf_counter()
            model.fit(ratings, validation, last=last, stacklevel=5)
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

    def _fit(self, ratings, validation, *, last=None, stacklevel=4):
        self._settle(ratings)
        matrix = ratings.by_user
        fixed = float(ratings.values.mean(dtype=np.float64)) if self.fix_mean else None
        weights = None
        if self.weighted:
            weights = marginal_weights(
                ratings.user_codes, ratings.item_codes, ratings.shape, float(self.weighted)
            )
        before = 0.0, np.zeros(ratings.n_users), np.zeros(ratings.n_items)
        if not self.joint:
            biases = Problem(matrix, self.reg_, None, self.bias_reg_, fixed, self.n_threads)
            before = only_biases(biases)
            u = np.repeat(np.arange(ratings.n_users), np.diff(matrix.indptr))
            left_over = matrix.data - before[0] - before[1][u] - before[2][matrix.indices]
            matrix = csr_array((left_over, matrix.indices, matrix.indptr), shape=matrix.shape)
        problem = Problem(
            matrix, self.reg_, weights, self.bias_reg_ if self.joint else None, fixed if self.joint else None,
            self.n_threads,
        )  # fmt: skip
        pairs = None if validation is None else self._pair_codes(validation)

        def monitor(u, v, mean, b, c):
            out = np.empty(len(validation))
            _score(*pairs, mean + before[0], u, b + before[1], v, c + before[2], out)
            return float(np.sqrt(np.mean((out - validation.values) ** 2)))

        start = None if last is None else last._result
        result = solve(
            problem, self.tol, self.max_iter, self.max_rank, start, self.random_state, self.verbose,
            type(self).__name__, None if validation is None else monitor, stacklevel=stacklevel + 1,
        )  # fmt: skip
        self._result = result
        self.user_factors_, self.item_factors_ = result.user_factors, result.item_factors
        self.singular_values_, self.rank_ = result.singular_values, result.rank
        self.mean_ = result.mean + before[0]
        self.user_bias_, self.item_bias_ = result.user_bias + before[1], result.item_bias + before[2]
        self.certificate_ = result.certificate
        self.primal_, self.dual_, self.gap_ = result.certificate
        self.history_, self.converged_ = result.history, result.converged
        if validation is None:
            self.history_ = self.history_.assign(validation_rmse=np.nan)
        self.n_iter_ = int(self.history_["steps"].iloc[-1])
        # What a new row is fitted with: its weight follows from its own number of ratings.
        self._mean_count = ratings.user_counts.mean()

    def _settle(self, ratings):
        """The penalties: as given, or found from the ratings."""
        heavy = self.reg == "auto" and float(self.weighted) > 0.5
        penalty = settled(
            ratings, MOST_FACTORS, self.reg, "auto" if heavy else self.bias_reg, weighted=heavy,
            n_threads=self.n_threads,
        )  # fmt: skip
        warn_if_behind(self, penalty)
        self.reg_, self.bias_reg_ = penalty.reg, penalty.bias_reg
        if heavy:
            # The weights here are 1 for an ordinary row; those of ALS are numbers of ratings.
            ordinary = len(ratings) / np.sqrt(ratings.n_users * ratings.n_items)
            self.reg_ *= ordinary
            self.bias_reg_ = self.bias_reg_ * ordinary if self.bias_reg == "auto" else float(self.bias_reg)

    # ---- newcomers ----------------------------------------------------------------

    def _solve_row(self, codes, values):
        """One ridge regression with the penalty of the problem in factors.

        At the optimum each training row solves its own such regression, so the ratings of a training
        user give that user's row, as exactly as the gap is closed.
        """
        x, target, penalty = self._row(codes, values)
        solution = _solve(x.T @ x + np.diag(penalty), x.T @ target, len(codes))
        k = self.rank_
        return solution[:k], float(solution[k]) if self.joint else self._row_bias(codes, values)

    def _row_bias(self, codes, values):
        """Bias of a row when biases come first."""
        return float(np.sum(values - self.mean_ - self.item_bias_[codes]) / (len(codes) + self.bias_reg_))

    def _row(self, codes, values):
        """Regressors, target and penalty of one row; the last column is the bias where it is joint."""
        weight = (max(len(codes), 1) / self._mean_count) ** float(self.weighted) if self.weighted else 1.0
        x = self.item_factors_[codes]
        target = values.astype(np.float64) - self.mean_ - self.item_bias_[codes]
        penalty = np.full(self.rank_, self.reg_ * weight)
        if self.joint:
            return np.column_stack([x, np.ones(len(codes))]), target, np.append(penalty, self.bias_reg_)
        return x, target - self._row_bias(codes, values), penalty

    def _explain(self, codes, values, item, *, user=None, newcomer=None):
        x, target, penalty = self._row(codes, values)
        own = self.item_factors_[item]
        if self.joint:
            own = np.append(own, 1.0)
        weight = x @ _solve(x.T @ x + np.diag(penalty), own, len(codes))
        return self._ridge_reasons(codes, values, item, target, weight, user, newcomer)


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


# ---- checks -----------------------------------------------------------------------


def _check_solver_arguments(lam, bias_reg, max_rank, tol, max_iter, n_threads, lam_name="lam"):
    check_positive(lam_name, lam)
    if bias_reg is not None:
        check_positive("bias_reg", bias_reg)
    for name, value in (("max_rank", max_rank), ("n_threads", n_threads)):
        if value is not None:
            check_positive_int(name, value)
    check_non_negative("tol", tol)
    check_positive_int("max_iter", max_iter)
