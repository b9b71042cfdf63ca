"""What models with a vector for each user and each item have in common."""

from __future__ import annotations

import numpy as np

from ..kernels.factors import score_pairs
from .base import Recommender


class FactorModel(Recommender):
    r"""Base of models that predict :math:`\mu + b_u + b_i + p_u \cdot q_i`.

    A subclass sets ``mean_``, ``user_factors_``, ``item_factors_``, ``user_bias_`` and
    ``item_bias_`` in `_fit`. An unknown user or item, with a code of -1, has no bias and no
    factors: the prediction falls back to what is known of the other.

    Scores are predictions, `similar_items` compares the directions of factors (cosine), and a
    newcomer's row (`fold_in`) is a ridge regression on the items' factors, in closed form and
    O(l k^2 + k^3) for l ratings. For it the subclass implements ``_penalties(n)``: the
    penalties, with n ratings, of the k factors and the bias. A model whose rows come about in
    another way overrides ``_solve_row`` and ``_explain``.

    The rows of that regression are linear in the ratings, ``x = A^-1 sum_j x_j t_j`` with
    x_j = (q_j, 1) and t_j the rating's deviation from mean + b_j. So the prediction for item i is
    mean + b_i plus one term ``(x_i' A^-1 x_j) t_j`` for each rating (Hu, Koren and Volinsky
    2008, section 5, there for implicit feedback): `explain` shows deviation t_j, weight and
    contribution. What a user's own row, learned in another way, differs from the regression goes
    to the baseline.
    """

    def _predict_codes(self, users, items):
        out = np.empty(len(users))
        score_pairs(
            _read_only(users), _read_only(items), self.mean_, self.user_factors_, self.user_bias_,
            self.item_factors_, self.item_bias_, out,
        )  # fmt: skip
        return out

    def _products_or_biases(self, users, items, known):
        """Bare products p_u . q_i for the pairs that are known, mean + b_u + b_i for the others."""
        out = self.mean_ + np.where(users >= 0, self.user_bias_[users], 0.0)
        out += np.where(items >= 0, self.item_bias_[items], 0.0)
        products = np.empty(int(known.sum()))
        score_pairs(
            _read_only(users[known]), _read_only(items[known]), 0.0,
            self.user_factors_, np.zeros_like(self.user_bias_),
            self.item_factors_, np.zeros_like(self.item_bias_), products,
        )  # fmt: skip
        out[known] = products
        return out

    def _score_block(self, users):
        return self._scores(self.user_factors_[users], self.user_bias_[users])

    def _score_nobody(self):
        return self.mean_ + self.item_bias_.astype(np.float64)

    def _scores(self, factors, bias):
        """Scores of all items for rows of factors, shape (l, n), float64: one matrix product."""
        out = self._products(factors)
        out += self.item_bias_
        out += (self.mean_ + np.asarray(bias, dtype=np.float64))[:, None]
        return out

    def _products(self, factors):
        rows = factors.astype(self.item_factors_.dtype, copy=False)
        return (rows @ self.item_factors_.T).astype(np.float64)

    def _similarities(self, item):
        if self.item_factors_.shape[1] == 0:
            raise ValueError("n_factors: got 0; expected at least 1, as biases alone have no direction")
        return directions(self.item_factors_, item, self.train_)

    # ---- newcomers ----------------------------------------------------------------

    def _fold_in(self, codes, values):
        factors, bias = self._solve_row(codes, values)
        return {"factors": factors, "bias": bias}

    def _newcomer_scores(self, newcomer):
        return self._scores(newcomer.factors[None], np.array([newcomer.bias]))[0]

    def _penalties(self, n):
        raise NotImplementedError

    def _prior_row(self, codes):
        """What a row's factors are before its ratings have a say."""
        return np.zeros(self.item_factors_.shape[1])

    def _row_system(self, codes, values):
        """Design matrix, target and normal matrix of one row's ridge regression, in float64."""
        q = self.item_factors_[codes].astype(np.float64)
        x = np.column_stack([q, np.ones(len(codes))])
        target = values.astype(np.float64) - self.mean_ - self.item_bias_[codes] - q @ self._prior_row(codes)
        return x, target, x.T @ x + np.diag(self._penalties(len(codes)))

    def _solve_row(self, codes, values):
        """Factors and bias of a new row of ratings."""
        x, target, system = self._row_system(codes, values)
        solution = _solve(system, x.T @ target, len(codes))
        return self._prior_row(codes) + solution[:-1], float(solution[-1])

    def _explain(self, codes, values, item, *, user=None, newcomer=None):
        x, target, system = self._row_system(codes, values)
        own = np.append(self.item_factors_[item].astype(np.float64), 1.0)
        weight = x @ _solve(system, own, len(codes))
        return self._ridge_reasons(codes, values, item, target, weight, user, newcomer)

    def _ridge_reasons(self, codes, values, item, target, weight, user, newcomer):
        """The table of `explain`; its baseline is what the contributions leave of the prediction."""
        prediction = self._prediction_of(item, user, newcomer)
        parts = weight * target
        return self._reasons(codes, values, parts, prediction - parts.sum(), deviation=target, weight=weight)


def directions(factors, item, train):
    """Cosines of every item's factors with those of one; NaN for items whose factors are zero."""
    length = np.sqrt(_squares(factors))
    if length[item] == 0:
        raise ValueError(
            f"item: got {train.item_ids[item]!r}, which has nothing to compare by: its factors are zero"
        )
    own = factors[item].astype(np.float64)
    length[length == 0] = np.nan
    return factors @ own / (length * np.linalg.norm(own))


def _solve(system, right, n_ratings):
    """Solve one row's normal equations, or say why they have no one solution."""
    try:
        solution = np.linalg.solve(system, right)
        # LAPACK gives numbers for matrices that are singular but for rounding, too.
        rest = np.abs(system @ solution - right).max(initial=0.0)
        good = np.isfinite(solution).all() and rest <= 1e-6 * max(1.0, np.abs(right).max(initial=0.0))
    except np.linalg.LinAlgError:
        good = False
    if not good:
        raise ValueError(
            f"ratings: got {n_ratings}, too few to tell factors apart without regularization; "
            "fit the model with reg and bias_reg above 0"
        )
    return solution


def _read_only(array):
    view = array.view()
    view.flags.writeable = False
    return view


def _squares(rows):
    """Squared length of each row, in float64."""
    return np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
