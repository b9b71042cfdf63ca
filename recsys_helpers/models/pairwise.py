"""Factors learned from pairs: a liked item should come before one that was not."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from ..checks import choice, either, flag, number, seed, whole
from ..kernels.pairwise import LOSS_EVERY, POPULAR, UNIFORM, mark, pairwise_epoch
from ..kernels.vectors import padded
from .documented import documented
from .liked import LikedFactors
from .positive import check_threshold
from .training import Loop

# Items that each of a newcomer's is held against, drawn anew for each.
FOLD_IN_OTHERS = 100


@documented
class BPR(LikedFactors):
    r"""Factors that put what a user likes before what the user has not seen, by pairs (Rendle et al. 2009).

    Scores are :math:`s_{ui} = b_i + p_u\cdot q_i`. For a like (u, i) and an item j that u does not have, the
    loss is :math:`\log(1+e^{-(s_{ui}-s_{uj})})`: no cell has a target, only the order counts. An epoch draws
    as many likes as there are, each with one other item, and moves :math:`p_u, q_i, q_j` and both biases
    against the gradient of this loss plus :math:`\frac\lambda2(|p_u|^2+|q_i|^2+|q_j|^2+b_i^2+b_j^2)`.

    Parameters
    ----------
    n_factors : int
        Rank k.
    reg : float or "auto"
        :math:`\lambda`, not below 0. "auto": 0.01, and 0.05 with ``loss="warp"``, whose pairs say more.
    learning_rate : float
        Length of a step in the first epoch, above 0.
    decay : float
        It is multiplied by this after every epoch; above 0, at most 1.
    n_epochs : int
    negatives : {"uniform", "popular"}
        Draw j among all items, or in proportion to their likes. Then the model has to tell popular items
        apart, and popularity itself pays less.
    loss : {"bpr", "warp"}
        "warp": up to `max_trials` other items are tried, until one scores above the liked one less 1; the
        step is longer the sooner that happens, as the liked item then stands low in the list (Weston,
        Bengio and Usunier 2011).
    max_trials : int
        See there.
    threshold : float, None or "auto"
        The least rating that counts as a like, as in `ImplicitALS`.
    init_scale : float
        Length of the random rows at the start, about.
    {dtype}
    random_state : int or numpy.random.Generator
        The same integer gives the same model to the last bit. One thread does the work.
    {verbose}

    Attributes
    ----------
    user_factors_, item_factors_ : ndarray, shape (m, k) and (n, k)
    item_bias_ : ndarray, shape (n,)
    reg_ : float
    threshold_, popularity_, likes_
        As in `ImplicitALS`.
    history_ : DataFrame
        One row an epoch: objective (the mean loss of a sixteenth of its steps, each as it was just before),
        right (share of the steps whose pair already was in order), skipped (steps without a pair),
        learning_rate, seconds.
    best_epoch_ : int
        The last one.

    Notes
    -----
    O(nnz k) an epoch. Memory: factors, 8 bytes a like, and 2 to 4 bytes a like for a table of bits that tells
    most items that a user does not have from those it has.

    A newcomer's factors (`fold_in`) minimize the same loss over the newcomer's likes, each against a
    hundred other items, with the items as they are.
    """

    _without = {"explain": "its scores are no sums over the likes"}
    _parameters = {
        "n_factors": whole(),
        "reg": either("auto", number()),
        "learning_rate": number(above=0),
        "decay": number(above=0, at_most=1),
        "n_epochs": whole(),
        "negatives": choice("uniform", "popular"),
        "loss": choice("bpr", "warp"),
        "max_trials": whole(2),
        "threshold": check_threshold,
        "init_scale": number(),
        "dtype": choice("float32", "float64"),
        "random_state": seed,
        "verbose": flag,
    }

    def __init__(
        self,
        n_factors=64,
        reg="auto",
        *,
        learning_rate=0.2,
        decay=0.97,
        n_epochs=150,
        negatives="uniform",
        loss="bpr",
        max_trials=10,
        threshold="auto",
        init_scale=0.1,
        dtype="float32",
        random_state=0,
        verbose=True,
    ):
        self.n_factors = n_factors
        self.reg = reg
        self.learning_rate = learning_rate
        self.decay = decay
        self.n_epochs = n_epochs
        self.negatives = negatives
        self.loss = loss
        self.max_trials = max_trials
        self.threshold = threshold
        self.init_scale = init_scale
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def _fit(self, ratings, validation, *, checkpoint=None):
        by_user = self._likes(ratings)
        usual = 0.05 if self.loss == "warp" else 0.01
        self.reg_ = usual if self.reg == "auto" else float(self.reg)
        rng, k = np.random.default_rng(self.random_state), self.n_factors
        number = np.dtype(self.dtype).type
        state = {
            name: self._rows(rng, rows) for name, rows in zip(("users", "items"), by_user.shape, strict=True)
        }
        state["users"][:, k] = 1
        state["items"][:, k] = 0
        users = np.repeat(np.arange(by_user.shape[0], dtype=np.int32), self.likes_)
        table = np.zeros(1 << int(np.ceil(np.log2(2 * by_user.nnz + 64))), np.uint8)
        mark(by_user.indptr, by_user.indices, table)
        sampling = POPULAR if self.negatives == "popular" else UNIFORM
        trials, figures = self.max_trials if self.loss == "warp" else 1, np.zeros(2)
        loop = Loop(
            self, "epoch", self.n_epochs, get=lambda: state, put=lambda kept: _copy_into(state, kept),
            checkpoint=checkpoint, rng=rng, advice="use a smaller learning_rate or a larger reg",
        )  # fmt: skip
        with loop:
            for epoch in loop:
                rate = self.learning_rate * self.decay ** (epoch - 1)
                skipped = pairwise_epoch(
                    rng.integers(2**63, dtype=np.uint64), by_user.nnz, users, by_user.indptr, by_user.indices,
                    table, by_user.shape[1], sampling, trials, state["users"], state["items"], number(rate),
                    number(self.reg_), k, figures,
                )  # fmt: skip
                told = max(by_user.nnz - skipped, 1)
                loop.report(
                    objective=figures[1] * LOSS_EVERY / told, right=figures[0] / told, skipped=skipped,
                    learning_rate=rate,
                )  # fmt: skip
        self.user_factors_, self.item_factors_ = (state[side][:, :k].copy() for side in ("users", "items"))
        self.item_bias_ = state["items"][:, k].copy()

    def _rows(self, rng, rows):
        scale = self.init_scale / np.sqrt(self.n_factors)
        return padded(rng.standard_normal((rows, self.n_factors + 1)) * scale, self.dtype)

    def _item_part(self, items):
        return self.item_bias_[items].astype(np.float64)

    def _person(self, codes, values):
        """The factors with the least loss, the items held."""
        rng = np.random.default_rng(0)
        others = np.setdiff1d(np.arange(len(self.item_factors_)), codes)
        if len(others) == 0:
            return np.zeros(self.n_factors, self.item_factors_.dtype)
        drawn = rng.choice(others, (len(codes), min(FOLD_IN_OTHERS, len(others))))
        q, bias = self.item_factors_.astype(np.float64), self.item_bias_.astype(np.float64)
        gap = (q[codes][:, None] - q[drawn]).reshape(-1, q.shape[1])
        ahead = (bias[codes][:, None] - bias[drawn]).ravel()
        weight = 1 / drawn.shape[1]

        def loss(p):
            x = gap @ p + ahead
            wrong = 1 / (1 + np.exp(np.clip(x, -500, 500)))
            value = weight * np.logaddexp(0, -x).sum() + self.reg_ * len(codes) / 2 * p @ p
            return value, self.reg_ * len(codes) * p - weight * (gap.T @ wrong)

        found = minimize(loss, np.zeros(q.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 50})
        return found.x.astype(self.item_factors_.dtype)


def _copy_into(state, kept):
    for name, array in kept.items():
        state[name][...] = array
