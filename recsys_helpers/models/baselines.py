"""Models without taste: what any recommender has to beat."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..checks import number, whole
from .base import Recommender

NOT_ALIKE = "it knows no taste, so no two items are more alike than others"


class GlobalMean(Recommender):
    """Predict the mean training rating for everybody and everything.

    Attributes
    ----------
    mean_ : float
        The global mean, in stars.
    """

    _without = {"similar_items": NOT_ALIKE}

    def _fit(self, ratings, validation):
        self.mean_ = float(ratings.values.mean(dtype=np.float64))

    def _predict_codes(self, users, items):
        return np.full(len(users), self.mean_)

    def _fold_in(self, codes, values):
        return {}

    def _newcomer_scores(self, newcomer):
        return np.full(self.train_.n_items, self.mean_)

    def _explain(self, codes, values, item, *, user=None, newcomer=None):
        return self._reasons(codes, values, np.zeros(len(codes)), self.mean_)


class BiasModel(Recommender):
    r"""Predict :math:`\mu + b_u + b_i`: some users are generous, some films are liked.

    The biases minimize

    .. math::

        \sum_{(u,i)\in\Omega}(r_{ui}-\mu-b_u-b_i)^2
        + \delta_u\sum_u b_u^2 + \delta_i\sum_i b_i^2

    jointly, with :math:`\mu` the global mean (Koren, Bell and Volinsky 2009).
    A damping of :math:`\delta` acts as :math:`\delta` additional ratings without
    any deviation: a film with few ratings stays near the mean until they add up.

    Parameters
    ----------
    user_damping, item_damping : float
        Number of prior ratings, not below 0.
    tol : float
        The sweeps stop when no bias changes by more than this many stars.
    max_sweeps : int
        Upper bound on sweeps; reaching it warns.

    Attributes
    ----------
    mean_ : float
        Global mean.
    user_bias_, item_bias_ : ndarray of float64, shape (m,) and (n,)
        In stars; 0 for users and items without training ratings.
    n_sweeps_ : int
        Sweeps taken.

    Notes
    -----
    Each sweep solves all user biases with the item biases held, then the other
    way round: alternating least squares in its smallest form. The objective is
    strictly convex for positive damping, so the sweeps lead to its one minimum.
    O(nnz) per sweep. An unknown user or item has bias 0.
    """

    _parameters = {
        "user_damping": number(), "item_damping": number(), "tol": number(), "max_sweeps": whole()
    }  # fmt: skip
    _without = {"similar_items": NOT_ALIKE}

    def __init__(self, user_damping=5.0, item_damping=5.0, *, tol=1e-6, max_sweeps=500):
        self.user_damping = user_damping
        self.item_damping = item_damping
        self.tol = tol
        self.max_sweeps = max_sweeps

    def _fit(self, ratings, validation):
        user_damping, item_damping = self.user_damping, self.item_damping
        tol, max_sweeps = self.tol, self.max_sweeps
        users, items = ratings.user_codes, ratings.item_codes
        mean = float(ratings.values.mean(dtype=np.float64))
        deviation = ratings.values.astype(np.float64) - mean
        # A row without ratings has a sum of 0; the tiny weight only keeps 0/0 out at zero damping.
        user_weight = np.maximum(ratings.user_counts + user_damping, np.finfo(float).tiny)
        item_weight = np.maximum(ratings.item_counts + item_damping, np.finfo(float).tiny)
        user_bias = np.zeros(ratings.n_users)
        item_bias = np.zeros(ratings.n_items)
        for sweep in range(1, max_sweeps + 1):  # noqa: B007  Counted for n_sweeps_, below.
            old_user, old_item = user_bias, item_bias
            user_bias = (
                np.bincount(users, deviation - item_bias[items], minlength=len(user_bias)) / user_weight
            )
            item_bias = (
                np.bincount(items, deviation - user_bias[users], minlength=len(item_bias)) / item_weight
            )
            change = max(np.abs(user_bias - old_user).max(), np.abs(item_bias - old_item).max())
            if change <= tol:
                break
        else:
            warnings.warn(
                f"BiasModel stopped after max_sweeps={max_sweeps} with a last change of {change:.1e} "
                f"stars, above tol={tol:.1e}; raise max_sweeps or the damping",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.mean_, self.user_bias_, self.item_bias_, self.n_sweeps_ = mean, user_bias, item_bias, sweep

    def _predict_codes(self, users, items):
        user_bias = np.where(users >= 0, self.user_bias_[users], 0.0)
        item_bias = np.where(items >= 0, self.item_bias_[items], 0.0)
        return self.mean_ + user_bias + item_bias

    def _score_block(self, users):
        return self.mean_ + self.user_bias_[users][:, None] + self.item_bias_

    def _score_nobody(self):
        return self.mean_ + self.item_bias_

    def _fold_in(self, codes, values):
        deviation = values.astype(np.float64) - self.mean_ - self.item_bias_[codes]
        return {"bias": float(deviation.sum() / (len(codes) + self.user_damping))}

    def _newcomer_scores(self, newcomer):
        return self.mean_ + newcomer.bias + self.item_bias_

    def _explain(self, codes, values, item, *, user=None, newcomer=None):
        """The bias of the person is a damped mean, so each rating has its share of it."""
        deviation = values.astype(np.float64) - self.mean_ - self.item_bias_[codes]
        weight = np.full(len(codes), 1 / (len(codes) + self.user_damping))
        bias = self.user_bias_[user] if newcomer is None else newcomer.bias
        parts = weight * deviation
        baseline = self.mean_ + self.item_bias_[item] + bias - parts.sum()
        return self._reasons(codes, values, parts, baseline, deviation=deviation, weight=weight)


class Popularity(Recommender):
    r"""Recommend what most people rated; predict the damped mean of the film.

    `recommend` ranks films by their number of training ratings, the same list for
    everybody but for what they have rated already. `predict` gives
    :math:`\mu + \sum_u (r_{ui}-\mu) / (n_i + \delta)`, so that the model can stand
    in both comparisons, of rating errors and of rankings.

    Parameters
    ----------
    damping : float
        Number of prior ratings :math:`\delta` in `predict`, not below 0.

    Attributes
    ----------
    counts_ : ndarray of int64, shape (n,)
        Ratings per item.
    mean_ : float
        Global mean.
    item_mean_ : ndarray of float64, shape (n,)
        Damped item means.
    """

    _parameters = {"damping": number()}
    _without = {"similar_items": NOT_ALIKE}

    def __init__(self, damping=5.0):
        self.damping = damping

    def _fit(self, ratings, validation):
        damping = self.damping
        self.counts_ = ratings.item_counts
        self.mean_ = float(ratings.values.mean(dtype=np.float64))
        total = np.bincount(
            ratings.item_codes, ratings.values.astype(np.float64) - self.mean_, minlength=ratings.n_items
        )
        weight = np.maximum(self.counts_ + damping, np.finfo(float).tiny)
        self.item_mean_ = self.mean_ + total / weight

    def _predict_codes(self, users, items):
        return np.where(items >= 0, self.item_mean_[items], self.mean_)

    def _score_block(self, users):
        return np.tile(self.counts_.astype(np.float64), (len(users), 1))

    def _fold_in(self, codes, values):
        return {}

    def _newcomer_scores(self, newcomer):
        return self.counts_.astype(np.float64)

    def _newcomer_predictions(self, newcomer):
        return self.item_mean_

    def _explain(self, codes, values, item, *, user=None, newcomer=None):
        return self._reasons(codes, values, np.zeros(len(codes)), self.item_mean_[item])
