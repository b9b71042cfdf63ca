"""Models without taste: what any recommender has to beat."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..checks import number, optional, whole
from ..kernels.baselines import solve_biases
from .base import Recommender
from .training import outside

SECONDS_A_DAY = 86_400
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


class Biases(NamedTuple):
    """What `ratings_biases` finds.

    Attributes
    ----------
    mean : float
    user_bias, item_bias : ndarray of float64
    steps : int
        Passes over the ratings.
    change : float
        What another alternating sweep would change the biases of the shorter side by, at most.
    """

    mean: float
    user_bias: np.ndarray
    item_bias: np.ndarray
    steps: int
    change: float


def ratings_biases(ratings, user_penalty, item_penalty, *, mean=None, tol=None, max_steps=500):
    r"""Mean and biases with the least squared error plus penalties.

    .. math::

        \sum_{(u,i)\in\Omega}(r_{ui}-\mu-b_u-b_i)^2 + \sum_u d_u b_u^2 + \sum_i d_i b_i^2

    Parameters
    ----------
    ratings : Ratings
    user_penalty, item_penalty : float or ndarray, shape (m,) and (n,)
        d, not below 0: one for all, or one each.
    mean : float, optional
        Hold the mean at this value. It is free, and not penalized, by default.
    tol : float, optional
        See `Biases.change`; by default 1e-10 standard deviations of the ratings.
    max_steps : int
        Upper bound on passes.

    Returns
    -------
    Biases
    """
    if tol is None:
        tol = 1e-10 * float(ratings.values.std(dtype=np.float64))
    free = mean is None
    start = float(ratings.values.mean(dtype=np.float64)) if free else float(mean)
    penalties = [
        np.broadcast_to(np.asarray(penalty, np.float64), size).copy()
        for penalty, size in ((user_penalty, ratings.n_users), (item_penalty, ratings.n_items))
    ]
    by_user = ratings.n_users >= ratings.n_items
    matrix = ratings.by_user if by_user else ratings.by_item
    if not by_user:
        penalties.reverse()
    mean, *biases, steps, change = solve_biases(
        matrix.indptr, matrix.indices, matrix.data, matrix.shape[1], start, free, *penalties, float(tol),
        int(max_steps),
    )  # fmt: skip
    if not by_user:
        biases.reverse()
    return Biases(mean, *biases, steps, change)


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
        The steps stop when another alternating sweep, which solves the biases of one side with those
        of the other held, would change none of the shorter side by more than this many standard
        deviations of the ratings.
    max_sweeps : int
        Upper bound on passes over the ratings; reaching it warns.

    Attributes
    ----------
    mean_ : float
        Global mean.
    user_bias_, item_bias_ : ndarray of float64, shape (m,) and (n,)
        In stars; 0 for users and items without training ratings.
    n_sweeps_ : int
        Passes taken.

    Notes
    -----
    For given item biases each user bias is a damped mean, so it can be eliminated (items where there
    are more of them); conjugate gradients solve what is left, see `kernels.baselines`. O(nnz) a pass,
    and about ten passes. The objective is strictly convex for positive damping and has one minimum.
    Without any damping a constant can move from users to items in each connected part of the table;
    then the mean of the biases of the shorter side, weighted by numbers of ratings, is 0 in each part.
    An unknown user or item has bias 0. Ratings a r + b in place of r give predictions a p + b.
    """

    _parameters = {
        "user_damping": number(), "item_damping": number(), "tol": number(), "max_sweeps": whole()
    }  # fmt: skip
    _without = {"similar_items": NOT_ALIKE}

    def __init__(self, user_damping=5.0, item_damping=5.0, *, tol=1e-8, max_sweeps=500):
        self.user_damping = user_damping
        self.item_damping = item_damping
        self.tol = tol
        self.max_sweeps = max_sweeps

    def _fit(self, ratings, validation):
        self.mean_ = float(ratings.values.mean(dtype=np.float64))
        tol = self.tol * float(ratings.values.std(dtype=np.float64))
        found = ratings_biases(
            ratings, self.user_damping, self.item_damping, mean=self.mean_, tol=tol, max_steps=self.max_sweeps
        )
        self.user_bias_, self.item_bias_, self.n_sweeps_ = found.user_bias, found.item_bias, found.steps
        if found.steps == self.max_sweeps and found.change > tol:
            warnings.warn(
                f"BiasModel stopped after max_sweeps={self.max_sweeps}, when another sweep would still "
                f"change biases by {found.change:.1e} stars, more than tol={self.tol:.1e} allows; raise "
                "max_sweeps or the damping",
                ConvergenceWarning,
                stacklevel=outside(),
            )

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
    half_life : float, optional
        In days, above 0: a rating that is so much older than the last one of all counts half in the list, and
        so on. None: all count 1, and times are not needed.

    Attributes
    ----------
    counts_ : ndarray, shape (n,)
        Ratings per item: whole numbers, or with `half_life` sums of their weights.
    mean_ : float
        Global mean.
    item_mean_ : ndarray of float64, shape (n,)
        Damped item means.
    """

    _parameters = {"damping": number(), "half_life": optional(number(above=0))}
    _without = {"similar_items": NOT_ALIKE}

    def __init__(self, damping=5.0, *, half_life=None):
        self.damping = damping
        self.half_life = half_life

    def _fit(self, ratings, validation):
        damping = self.damping
        self.counts_ = ratings.item_counts if self.half_life is None else self._recent(ratings)
        self.mean_ = float(ratings.values.mean(dtype=np.float64))
        total = np.bincount(
            ratings.item_codes, ratings.values.astype(np.float64) - self.mean_, minlength=ratings.n_items
        )
        weight = np.maximum(ratings.item_counts + damping, np.finfo(float).tiny)
        self.item_mean_ = self.mean_ + total / weight

    def _recent(self, ratings):
        if ratings.timestamps is None:
            raise ValueError(
                f"half_life: got {self.half_life!r} for ratings without times; expected None, or times"
            )
        age = (ratings.timestamps.max() - ratings.timestamps) / SECONDS_A_DAY
        return np.bincount(ratings.item_codes, 0.5 ** (age / self.half_life), minlength=ratings.n_items)

    def _predict_codes(self, users, items):
        return np.where(items >= 0, self.item_mean_[items], self.mean_)

    def _score_block(self, users):
        return np.tile(self._score_nobody(), (len(users), 1))

    def _score_nobody(self):
        return self.counts_.astype(np.float64)

    def _fold_in(self, codes, values):
        return {}

    def _newcomer_scores(self, newcomer):
        return self.counts_.astype(np.float64)

    def _newcomer_predictions(self, newcomer):
        return self.item_mean_

    def _explain(self, codes, values, item, *, user=None, newcomer=None):
        return self._reasons(codes, values, np.zeros(len(codes)), self.item_mean_[item])
