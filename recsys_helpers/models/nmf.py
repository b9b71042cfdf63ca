"""Non-negative matrix factorization of the observed ratings."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

from ..checks import choice, either, flag, number, optional, seed, whole
from ..kernels import spans
from ..kernels.nmf import descend_rows
from .automatic import unit
from .baselines import BiasModel
from .documented import documented
from .factors import FactorModel, _solve, _squares
from .training import Loop

# Multiply-adds in one piece of work for a thread. Fixed, so that sums do not depend on the threads.
CHUNK_WORK = 2e7


@documented
class NMF(FactorModel):
    r"""Ratings as sums of parts, :math:`\hat r_{ui} = p_u \cdot q_i` with no number below zero.

    The model minimizes, over non-negative factors and the observed cells only,

    .. math::

        \sum_{(u,i)\in\Omega}\Bigl((r_{ui}-p_u \cdot q_i)^2 + \lambda\,(|p_u|^2 + |q_i|^2)\Bigr) .

    Nothing can be taken away again once a part has put it there, so each factor has to stand for
    something that is present: a part (Lee and Seung 1999). There are no biases and no mean.

    Parameters
    ----------
    n_factors : int
        Number of parts k, at least 1.
    reg : float or "auto"
        :math:`\lambda`, not below 0, once for each rating. "auto": 0.15 on a scale of half a star to five,
        in proportion on others. On a table without gaps, alpha_W = alpha_H
        of scikit-learn's NMF with l1_ratio = 0.
    n_sweeps : int
        Upper bound on sweeps; each visits all films' and all users' coordinates once.
    {tol}
    {patience}
    {dtype}
    {n_threads}
    {random_state}
    {verbose}

    Attributes
    ----------
    user_factors_, item_factors_ : ndarray, shape (m, k) and (n, k)
        Not below 0; zero where there is no training rating.
    reg_ : float
        What the fit took.
    mean_, user_bias_, item_bias_ : float, ndarray of shape (m,) and (n,)
        Of a `BiasModel`, for pairs without factors only.
    {history}
    {best_sweep}

    Notes
    -----
    Coordinate descent (Cichocki and Phan 2009, Yu et al. 2012): about 16 nnz k operations a sweep,
    and the objective never rises. On a table without gaps the steps are those of scikit-learn's
    ``NMF(solver="cd")``. The objective is not convex: another `random_state` may end elsewhere.

    A user or film without training ratings has no parts, and the prediction is mean + b_u + b_i of
    a `BiasModel`, as far as they are known. A newcomer (`fold_in`) gets the non-negative
    least-squares parts under the same objective.
    """

    _parameters = {
        "n_factors": whole(),
        "reg": either("auto", number()),
        "n_sweeps": whole(),
        "tol": number(),
        "patience": whole(),
        "dtype": choice("float32", "float64"),
        "n_threads": optional(whole()),
        "random_state": seed,
        "verbose": flag,
    }

    def __init__(
        self,
        n_factors=16,
        reg="auto",
        *,
        n_sweeps=100,
        tol=1e-4,
        patience=5,
        dtype="float32",
        n_threads=None,
        random_state=0,
        verbose=True,
    ):
        self.n_factors = n_factors
        self.reg = reg
        self.n_sweeps = n_sweeps
        self.tol = tol
        self.patience = patience
        self.dtype = dtype
        self.n_threads = n_threads
        self.random_state = random_state
        self.verbose = verbose

    def _fit(self, ratings, validation, *, start=None, checkpoint=None):
        if ratings.values.min() < 0:
            raise ValueError(
                f"ratings: got {ratings.values.min()}; expected none below 0, as sums of parts cannot be"
            )
        self.reg_ = 0.15 * unit(ratings) if self.reg == "auto" else float(self.reg)
        self.fallback_ = BiasModel().fit(ratings)
        self.mean_ = self.fallback_.mean_
        self.user_bias_, self.item_bias_ = self.fallback_.user_bias_, self.fallback_.item_bias_
        self._start(ratings, start)
        loop = Loop(
            self, "sweep", self.n_sweeps, get=self._state, put=self._put, validation=validation,
            checkpoint=checkpoint,
        )  # fmt: skip
        with loop:
            for _ in loop:
                self._half_sweep(ratings.by_user, self.item_factors_, self.user_factors_)
                squared = self._half_sweep(ratings.by_item, self.user_factors_, self.item_factors_)
                penalty = np.sum(ratings.user_counts * _squares(self.user_factors_))
                penalty += np.sum(ratings.item_counts * _squares(self.item_factors_))
                loop.report(
                    objective=squared + self.reg_ * penalty, train_rmse=np.sqrt(squared / len(ratings))
                )

    def _state(self):
        return {"user_factors_": self.user_factors_, "item_factors_": self.item_factors_}

    def _put(self, state):
        self.user_factors_, self.item_factors_ = state["user_factors_"], state["item_factors_"]

    def _start(self, ratings, start):
        """Random factors whose products are about as large as the ratings, or those given."""
        rng = np.random.default_rng(self.random_state)
        scale = np.sqrt(max(self.mean_, 1e-6) / self.n_factors)
        for side, (name, size) in enumerate((("user", ratings.n_users), ("item", ratings.n_items))):
            shape = (size, self.n_factors)
            if start is None:
                factors = scale * np.abs(rng.standard_normal(shape))
            else:
                factors = np.array(start[side])
                if factors.shape != shape or not (np.isfinite(factors) & (factors >= 0)).all():
                    raise ValueError(
                        f"start: got {name} factors of shape {factors.shape}; expected finite numbers not "
                        f"below 0, of shape {shape}"
                    )
            setattr(self, f"{name}_factors_", np.ascontiguousarray(factors, dtype=self.dtype))

    def _half_sweep(self, matrix, factors, out):
        """Visit all rows of one side; returns the sum of squared errors."""
        reg = out.dtype.type(self.reg_)
        arrays = matrix.indptr, matrix.indices, matrix.data

        def visit(first, stop):
            return descend_rows(first, stop, *arrays, factors, reg, out)

        cuts = spans.cut(np.diff(matrix.indptr) * float(self.n_factors), CHUNK_WORK)
        return sum(spans.run(visit, cuts, self.n_threads))

    def _predict_codes(self, users, items):
        known = (users >= 0) & (items >= 0)
        known &= (self.train_.user_counts[users] > 0) & (self.train_.item_counts[items] > 0)
        return self._products_or_biases(users, items, known)

    def _score_block(self, users):
        scores = self._scores(self.user_factors_[users], self.user_bias_[users])
        nothing = self.train_.user_counts[users] == 0
        scores[nothing] = self.mean_ + self.item_bias_
        return scores

    def _scores(self, factors, bias):
        rated = self.train_.item_counts > 0
        beside = self.mean_ + np.asarray(bias, np.float64)[:, None] + self.item_bias_
        return np.where(rated, self._products(factors), beside)

    def _solve_row(self, codes, values):
        """Non-negative least-squares parts, and the bias that the fallback would give."""
        h = self.item_factors_[codes].astype(np.float64)
        ridge = np.sqrt(self.reg_ * len(codes)) * np.eye(self.n_factors)
        target = np.concatenate([values.astype(np.float64), np.zeros(self.n_factors)])
        return nnls(np.vstack([h, ridge]), target)[0], self.fallback_._fold_in(codes, values)["bias"]

    def _explain(self, codes, values, item, *, user=None, newcomer=None):
        """Among the parts that are present the solution is linear in the ratings."""
        present = self._solve_row(codes, values)[0] > 0
        h = self.item_factors_[codes][:, present].astype(np.float64)
        own = self.item_factors_[item, present].astype(np.float64)
        if present.any():
            system = h.T @ h + self.reg_ * len(codes) * np.eye(present.sum())
            weight = h @ _solve(system, own, len(codes))
        else:
            weight = np.zeros(len(codes))
        return self._ridge_reasons(codes, values, item, values.astype(np.float64), weight, user, newcomer)
