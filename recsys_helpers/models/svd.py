"""The three models called SVD: of a filled matrix, for rankings, and by stochastic gradient descent."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from ..checks import choice, either, flag, number, optional, seed, whole
from ..kernels.svd import sgd_epoch, squared_error, svdpp_epoch
from ..kernels.vectors import lanes, padded
from ..linalg import SparsePlusLowRank, truncated_svd
from .automatic import chosen_penalty, unit, warn_if_behind
from .baselines import BiasModel
from .documented import documented
from .factors import FactorModel, _squares
from .training import Loop


@documented
class ImputedSVD(FactorModel):
    r"""Fill the unknown cells, then take the best approximation of rank k.

    The filled matrix F holds the ratings where they are known and a guess elsewhere: a number for
    each pair, :math:`f_{ui} = \mu + b_u + b_i`, or part of it. A truncated singular value
    decomposition gives the matrix of rank k that is nearest to the given one in the sum of squares
    over *all* cells, the filled ones included (Eckart and Young 1936).

    With ``center=True`` the fill is taken off first, so that a filled cell is zero, and added to the
    prediction: :math:`\hat r_{ui} = f_{ui} + p_u \cdot q_i`, where P Q' is the best approximation of
    the ratings' deviations. With ``center=False`` it is the filled matrix itself that is
    approximated, and :math:`\hat r_{ui} = p_u \cdot q_i`.

    Parameters
    ----------
    n_factors : int
        Rank k, at most the smaller of m and n.
    fill : {"baseline", "user", "item", "mean", "zero"}
        The guess: biases and mean, the damped mean of the user or of the film, the global mean,
        or zero stars.
    center : bool
        See above.
    damping : float
        Of the biases or means, counted in ratings (see `BiasModel`); not below 0.
    tol : float
        The search for singular vectors stops when a step changes none of the k largest squared
        singular values by more than this share of it.
    {dtype}
    {n_threads}
    random_state : int or numpy.random.Generator
        Of the block of vectors that the search starts from. The same integer gives the same model to
        the last bit, whatever the threads.

    Attributes
    ----------
    singular_values_ : ndarray of float64, shape (k,)
        Descending.
    user_factors_ : ndarray, shape (m, k)
        Left singular vectors times the singular values.
    item_factors_ : ndarray, shape (n, k)
        Right singular vectors; in each, the entry of largest size is positive.
    mean_, user_bias_, item_bias_ : float, ndarray of shape (m,) and (n,)
        Of the fill; zero where it has no such part.
    n_steps_ : int
        Steps of the search.

    Notes
    -----
    F is never formed: it is a sparse matrix, the known cells' deviations from the fill, plus a matrix
    of rank 2, the fill. Products with it cost O(nnz + m + n) a vector. The search is a block
    Lanczos iteration (Golub, Luk and Overton 1981) with full orthogonalization: some tens of
    products of the sparse matrix with a thin block.

    An unknown user or film gets the fill.
    """

    _parameters = {
        "n_factors": whole(),
        "fill": choice("baseline", "user", "item", "mean", "zero"),
        "center": flag,
        "damping": number(),
        "tol": number(),
        "dtype": choice("float32", "float64"),
        "n_threads": optional(whole()),
        "random_state": seed,
    }

    def __init__(
        self,
        n_factors=10,
        fill="baseline",
        *,
        center=True,
        damping=5.0,
        tol=1e-6,
        dtype="float32",
        n_threads=None,
        random_state=0,
    ):
        self.n_factors = n_factors
        self.fill = fill
        self.center = center
        self.damping = damping
        self.tol = tol
        self.dtype = dtype
        self.n_threads = n_threads
        self.random_state = random_state

    def _fit(self, ratings, validation):
        if self.n_factors > min(ratings.shape):
            raise ValueError(
                f"n_factors: got {self.n_factors}; expected at most {min(ratings.shape)}, the smaller of the "
                "numbers of users and of films"
            )
        self._fit_fill(ratings)
        sides = None
        if not self.center and self.fill != "zero":
            sides = (
                np.column_stack([self.mean_ + self.user_bias_, np.ones(ratings.n_users)]),
                np.column_stack([np.ones(ratings.n_items), self.item_bias_]),
            )
        rows, columns = (self._deviations(ratings, side) for side in ("user", "item"))
        u, s, v, self.n_steps_ = truncated_svd(
            SparsePlusLowRank(rows, columns, sides, dtype=self.dtype, n_threads=self.n_threads),
            self.n_factors, tol=self.tol, random_state=self.random_state,
        )  # fmt: skip
        self.singular_values_ = s
        self.user_factors_, self.item_factors_ = u * s.astype(u.dtype), v

    def _fit_fill(self, ratings):
        """Mean and biases of the fill."""
        self.mean_ = float(ratings.values.mean(dtype=np.float64)) if self.fill != "zero" else 0.0
        self.user_bias_, self.item_bias_ = np.zeros(ratings.n_users), np.zeros(ratings.n_items)
        if self.fill == "baseline":
            model = BiasModel(self.damping, self.damping).fit(ratings)
            self.user_bias_, self.item_bias_ = model.user_bias_, model.item_bias_
        elif self.fill in ("user", "item"):
            codes = getattr(ratings, f"{self.fill}_codes")
            bias = getattr(self, f"{self.fill}_bias_")
            total = np.bincount(codes, ratings.values.astype(np.float64) - self.mean_, minlength=len(bias))
            weight = np.bincount(codes, minlength=len(bias)) + self.damping
            bias[:] = total / np.maximum(weight, np.finfo(float).tiny)

    def _deviations(self, ratings, side):
        """The ratings minus the fill, CSR by users or by items."""
        matrix = ratings.by_user if side == "user" else ratings.by_item
        own, other = (self.user_bias_, self.item_bias_)[:: 1 if side == "user" else -1]
        data = matrix.data.astype(self.dtype)
        if self.fill != "zero":
            data -= np.repeat((self.mean_ + own).astype(self.dtype), np.diff(matrix.indptr))
            data -= other.astype(self.dtype)[matrix.indices]
        return csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)

    def _predict_codes(self, users, items):
        if self.center:
            return super()._predict_codes(users, items)
        return self._products_or_biases(users, items, (users >= 0) & (items >= 0))

    def _scores(self, factors, bias):
        return super()._scores(factors, bias) if self.center else self._products(factors)

    def _score_nobody(self):
        """The mean of all users' scores: what is good for most, where no fill ranks the items."""
        if self.center:
            return super()._score_nobody()
        return self._products(self.user_factors_.mean(axis=0, dtype=np.float64)[None])[0]

    def _new_row(self, codes, values):
        """Bias of a newcomer and what the ratings differ from the fill."""
        rest = values.astype(np.float64) - self.mean_ - self.item_bias_[codes]
        bias = 0.0
        if self.fill in ("baseline", "user"):
            bias = float(rest.sum() / (len(rest) + self.damping))
        return bias, rest - bias

    def _solve_row(self, codes, values):
        """The newcomer's filled row, projected on the right singular vectors."""
        bias, rest = self._new_row(codes, values)
        factors = rest @ self.item_factors_[codes].astype(np.float64)
        if not self.center:
            factors += (self.mean_ + bias + self.item_bias_) @ self.item_factors_.astype(np.float64)
        return factors, bias

    def _explain(self, codes, values, item, *, user=None, newcomer=None):
        _, rest = self._new_row(codes, values)
        weight = self.item_factors_[codes].astype(np.float64) @ self.item_factors_[item]
        return self._ridge_reasons(codes, values, item, rest, weight, user, newcomer)


class PureSVD(ImputedSVD):
    r"""Rank films by the truncated SVD of the ratings with zeros for unknown (Cremonesi et al. 2010).

    A missing rating counts as a rating of zero. That is wrong as a statement about taste, and useful
    for rankings: the scores say which films a user is likely to rate at all, and highly. They are
    not ratings, and most of them lie near zero.

    `predict` gives the score :math:`p_u \cdot q_i` of each pair, so errors in stars make no sense here;
    `recommend` ranks by it. An unknown user or film scores zero. With a newcomer's ratings r,
    `fold_in` gives the scores r Q Q'.

    Parameters
    ----------
    n_factors, tol, dtype, n_threads, random_state
        As in `ImputedSVD`.

    Attributes
    ----------
    singular_values_, user_factors_, item_factors_, n_steps_
        As in `ImputedSVD`.
    """

    fill, center, damping = "zero", False, 0.0
    _parameters = {
        name: check for name, check in ImputedSVD._parameters.items()
        if name not in ("fill", "center", "damping")
    }  # fmt: skip

    def __init__(self, n_factors=50, *, tol=1e-6, dtype="float32", n_threads=None, random_state=0):
        self.n_factors = n_factors
        self.tol = tol
        self.dtype = dtype
        self.n_threads = n_threads
        self.random_state = random_state


@documented
class FunkSVD(FactorModel):
    r"""Biases and taste, :math:`\mu + b_u + b_i + p_u \cdot q_i`, by stochastic gradient descent.

    The model (Koren, Bell and Volinsky 2009) minimizes, with the global mean fixed,

    .. math::

        \sum_{(u,i)\in\Omega}\Bigl((r_{ui}-\hat r_{ui})^2
        + \lambda\,(|p_u|^2 + |q_i|^2) + \lambda_b\,(b_u^2 + b_i^2)\Bigr)

    Each rating carries its own penalty, so a user with n ratings is penalized n times: the
    objective of `BiasedALS` with ``weighted=True``. One epoch visits every rating once and moves
    the four quantities that predict it against the gradient (Funk 2006), a step of

    .. math::

        b_u \mathrel{+}= s\,(e - \lambda_b b_u),\quad
        p_u \mathrel{+}= s\,(e\,q_i - \lambda p_u),\quad\text{and likewise for } b_i, q_i,

    with the error e and the learning rate s: half the gradient's length, as is usual.

    Parameters
    ----------
    n_factors : int
        Rank k; 0 fits biases only.
    reg, bias_reg : float or "auto"
        :math:`\lambda` and :math:`\lambda_b`, not below 0. "auto": 0.08 (`SVDpp`: 0.05) on a scale as wide
        as half a star to five, in proportion on others; and 0.05, which has no unit. Where a slice of the
        training ratings shows no taste beyond biases, 1, which no factor survives, and up to 0.2.
    learning_rate : float
        s in the first epoch, above 0, for ratings on a scale as wide as half a star to five; ratings on
        another are brought to that width for the fit.
    decay : float
        s is multiplied by it after every epoch; above 0, at most 1.
    n_epochs : int
        Upper bound on epochs.
    {patience}
    order : {"shuffled", "user"}
        Visit the ratings in one random order, or user by user, the users in random order.
        The order is drawn once, from `random_state`, and is the same in all epochs.
    init_scale : float
        Standard deviation of the random factors that the first epoch starts from, in the same unit.
    track_objective : bool
        Fill the columns objective and train_rmse of `history_`: one more pass over the
        ratings after each epoch.
    {dtype}
    random_state : int or numpy.random.Generator
        The same integer gives the same model to the last bit. One thread does the work.
    {verbose}

    Attributes
    ----------
    mean_ : float
        Global mean, in stars.
    user_factors_, item_factors_ : ndarray, shape (m, k) and (n, k)
        p and q; the random start where there is no training rating is set to zero.
    user_bias_, item_bias_ : ndarray, shape (m,) and (n,)
        Zero where there is no training rating.
    reg_, bias_reg_ : float
        What the fit took.
    history_ : DataFrame
        One row an epoch: objective and train_rmse (NaN unless tracked), online_rmse (each
        error as it was just before its own step), validation_rmse (NaN without), learning_rate,
        seconds.
    {best_epoch}

    Notes
    -----
    An epoch costs about 6 nnz k operations. Memory: the factors, and 12 bytes a rating for the
    order of the visits.

    A newcomer (`fold_in`) gets the least-squares factors for the films as they are, under the
    same objective. An unknown user or film has no bias and no factors: the prediction falls back
    to what is known of the other.
    """

    # Found on the embedded data by cross-validation inside training.
    _usual_reg, _usual_bias_reg, _most_bias_reg = 0.08, 0.05, 0.2
    _parameters = {
        "n_factors": whole(0),
        "reg": either("auto", number()),
        "bias_reg": either("auto", number()),
        "learning_rate": number(above=0, at_most=1),
        "decay": number(above=0, at_most=1),
        "n_epochs": whole(),
        "patience": whole(),
        "order": choice("shuffled", "user"),
        "init_scale": number(),
        "track_objective": flag,
        "dtype": choice("float32", "float64"),
        "random_state": seed,
        "verbose": flag,
    }

    def __init__(
        self,
        n_factors=64,
        reg="auto",
        *,
        bias_reg="auto",
        learning_rate=0.02,
        decay=0.97,
        n_epochs=40,
        patience=3,
        order="shuffled",
        init_scale=0.03,
        track_objective=False,
        dtype="float32",
        random_state=0,
        verbose=True,
    ):
        self.n_factors = n_factors
        self.reg = reg
        self.bias_reg = bias_reg
        self.learning_rate = learning_rate
        self.decay = decay
        self.n_epochs = n_epochs
        self.patience = patience
        self.order = order
        self.init_scale = init_scale
        self.track_objective = track_objective
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def _fit(self, ratings, validation, *, start=None, checkpoint=None):
        self._settle(ratings)
        if self.learning_rate * max(self.reg_ / self._unit, self.bias_reg_) > 1:
            raise ValueError(
                f"learning_rate: got {self.learning_rate!r}; expected at most 1 / reg and 1 / bias_reg, or a "
                "step goes past its goal"
            )
        rng = np.random.default_rng(self.random_state)
        self.mean_ = float(ratings.values.mean(dtype=np.float64))
        state = self._start(ratings, rng, start)
        *order, values = self._visits(ratings, rng)
        visits = *order, values / np.float32(self._unit)

        def put(arrays):
            for at, array in enumerate(arrays.values()):
                state[at][...] = array
            self._publish(ratings, state)

        loop = Loop(
            self, "epoch", self.n_epochs, get=lambda: {f"part{at}": x for at, x in enumerate(state)}, put=put,
            publish=lambda: self._publish(ratings, state), validation=validation, checkpoint=checkpoint,
            advice="pass a smaller learning_rate",
        )  # fmt: skip
        with loop:
            for epoch in loop:
                rate = self.learning_rate * self.decay ** (epoch - 1)
                online = self._unit * np.sqrt(self._epoch(visits, state, rate) / len(ratings))
                objective, train_rmse = None, np.nan
                if self.track_objective:
                    squared, objective = self._objective(ratings, state)
                    train_rmse = np.sqrt(squared / len(ratings))
                loop.report(
                    objective=objective, train_rmse=train_rmse, online_rmse=online, learning_rate=rate
                )

    def _settle(self, ratings):
        """The unit of the fit, and penalties: as given, or found from the ratings."""
        self._unit = unit(ratings)
        reg, bias_reg = self._usual_reg * self._unit, self._usual_bias_reg
        if self.reg == "auto" and self.n_factors:
            penalty = chosen_penalty(ratings, self.n_factors, weighted=True)
            warn_if_behind(self, penalty)
            if not penalty.taste:
                reg, bias_reg = self._unit, min(penalty.bias_reg, self._most_bias_reg)
        self.reg_ = reg if self.reg == "auto" else float(self.reg)
        self.bias_reg_ = bias_reg if self.bias_reg == "auto" else float(self.bias_reg)

    def _start(self, ratings, rng, start):
        """Padded factors and biases of users and of films, in the unit of the fit."""
        state = []
        for side, (name, size) in enumerate((("user", ratings.n_users), ("item", ratings.n_items))):
            if start is None:
                factors = rng.standard_normal((size, self.n_factors), dtype=self.dtype)
                factors *= np.dtype(self.dtype).type(self.init_scale)
            else:
                factors = self._checked_start(name, start[side], size) / np.sqrt(self._unit)
            state += [padded(factors, self.dtype), np.zeros(size, self.dtype)]
        return state

    def _checked_start(self, name, factors, size):
        factors = np.asarray(factors)
        if factors.shape != (size, self.n_factors) or not np.isfinite(factors).all():
            raise ValueError(
                f"start: got {name} factors of shape {factors.shape}; expected finite numbers of "
                f"shape {(size, self.n_factors)}"
            )
        return factors

    def _visits(self, ratings, rng):
        """Users, films and ratings in the order of the visits."""
        if self.order == "shuffled":
            order = rng.permutation(len(ratings)).astype(np.int32 if len(ratings) < 2**31 else np.int64)
            return tuple(np.take(a, order) for a in (ratings.user_codes, ratings.item_codes, ratings.values))
        rows, indptr, items, values = _by_shuffled_user(ratings.by_user, rng)
        return np.repeat(rows, np.diff(indptr)), items, values

    def _epoch(self, visits, state, rate):
        number = np.dtype(self.dtype).type
        return sgd_epoch(
            *visits, number(self.mean_ / self._unit), *state, number(rate), number(self.reg_ / self._unit),
            number(self.bias_reg_), lanes(self.dtype),
        )  # fmt: skip

    def _objective(self, ratings, state):
        """Sum of squared errors and the objective, in float64."""
        return self._in_stars(ratings, state, self._penalty(ratings, state))

    def _in_stars(self, ratings, state, penalty):
        values = ratings.values / np.float32(self._unit)
        squared = squared_error(
            ratings.user_codes, ratings.item_codes, values, self.mean_ / self._unit, *state, lanes(self.dtype)
        )
        return squared * self._unit**2, float(squared + penalty) * self._unit**2

    def _penalty(self, ratings, state):
        total = 0.0
        for counts, factors, bias in (
            (ratings.user_counts, *state[:2]),
            (ratings.item_counts, *state[2:]),
        ):
            total += self.reg_ / self._unit * np.sum(counts * _squares(factors))
            total += self.bias_reg_ * np.sum(counts * bias.astype(np.float64) ** 2)
        return total

    def _publish(self, ratings, state):
        """Set the fitted attributes from the working arrays, in stars."""
        k, number = self.n_factors, np.dtype(self.dtype).type
        root, whole = number(np.sqrt(self._unit)), number(self._unit)
        self.user_factors_, self.user_bias_ = root * state[0][:, :k], whole * state[1]
        self.item_factors_, self.item_bias_ = root * state[2][:, :k], whole * state[3]
        self.user_factors_[ratings.user_counts == 0] = 0
        self.item_factors_[ratings.item_counts == 0] = 0

    def _penalties(self, n):
        return n * np.append(np.full(self.n_factors, self.reg_), self.bias_reg_)


class SVDpp(FunkSVD):
    r"""FunkSVD that also learns from which films a user has rated (Koren 2008).

    A user's taste is p_u plus a sum over the films N(u) that the user has touched,

    .. math::

        \hat r_{ui} = \mu + b_u + b_i
        + q_i \cdot \Bigl(p_u + |N(u)|^{-1/2} \sum_{j\in N(u)} y_j\Bigr),

    with a second vector y for each film. The objective is that of `FunkSVD`, with the term
    :math:`\lambda \sum_{j\in N(u)} |y_j|^2` added to each rating's penalty.

    Parameters
    ----------
    n_factors, reg, bias_reg, learning_rate, decay, n_epochs, patience
        As in `FunkSVD`.
    init_scale, track_objective, dtype, random_state, verbose
        As in `FunkSVD`. All y start at zero.

    Attributes
    ----------
    mean_, item_factors_, user_bias_, item_bias_, history_, best_epoch_
        As in `FunkSVD`.
    user_factors_ : ndarray, shape (m, k)
        p_u and the sum over N(u), together.
    own_factors_ : ndarray, shape (m, k)
        p_u alone.
    implicit_factors_ : ndarray, shape (n, k)
        y_j; zero for a film that nobody has touched.

    Notes
    -----
    Ratings are visited user by user. Taken literally, each rating of a user moves the y of all
    the user's films. Here the user's sum is carried along from rating to rating, and the y are
    moved once, after the user's last rating (see `kernels.svd`). Both give the same numbers, but
    for rounding: the ratings of one user move all these y in the same direction, and no other
    user looks at them in between. An epoch costs about 10 nnz k operations in place of one term
    for each pair of ratings of the same user.

    N(u) has to be known when predicting. By default it is the films in the user's training
    ratings; it must never contain the films of test pairs, see `fit`.

    A newcomer's N(u) is the films that the newcomer rates.
    """

    order = "user"
    _usual_reg = 0.05
    _parameters = {name: check for name, check in FunkSVD._parameters.items() if name != "order"}

    def __init__(
        self,
        n_factors=64,
        reg="auto",
        *,
        bias_reg="auto",
        learning_rate=0.01,
        decay=0.97,
        n_epochs=65,
        patience=3,
        init_scale=0.03,
        track_objective=False,
        dtype="float32",
        random_state=0,
        verbose=True,
    ):
        self.n_factors = n_factors
        self.reg = reg
        self.bias_reg = bias_reg
        self.learning_rate = learning_rate
        self.decay = decay
        self.n_epochs = n_epochs
        self.patience = patience
        self.init_scale = init_scale
        self.track_objective = track_objective
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def _fit(self, ratings, validation, *, start=None, implicit=None, checkpoint=None):
        seen = ratings if implicit is None else self._check_ratings(implicit, "implicit")
        if not (
            np.array_equal(seen.user_ids, ratings.user_ids)
            and np.array_equal(seen.item_ids, ratings.item_ids)
        ):
            raise ValueError(
                "implicit: got other user or movie ids than ratings has; expected parts of one Ratings, "
                "such as whole[mask]"
            )
        self._seen = seen.by_user
        super()._fit(ratings, validation, start=start, checkpoint=checkpoint)

    def _start(self, ratings, rng, start):
        state = super()._start(ratings, rng, start)
        implicit = np.zeros((ratings.n_items, self.n_factors), self.dtype)
        if start is not None and len(start) > 2:
            implicit = self._checked_start("implicit", start[2], ratings.n_items) / np.sqrt(self._unit)
        return [*state, padded(implicit, self.dtype)]

    def _visits(self, ratings, rng):
        return _by_shuffled_user(ratings.by_user, rng)

    def _epoch(self, visits, state, rate):
        number = np.dtype(self.dtype).type
        work = padded(np.zeros((2, self.n_factors)), self.dtype)
        return svdpp_epoch(
            *visits, self._seen.indptr, self._seen.indices, number(self.mean_ / self._unit), *state,
            number(rate), number(self.reg_ / self._unit), number(self.bias_reg_), lanes(self.dtype), work,
        )  # fmt: skip

    def _implicit_sum(self, implicit):
        """|N(u)|^-1/2 times the sum of y_j over N(u), for all users."""
        indptr, indices = self._seen.indptr, self._seen.indices
        counts = np.diff(indptr)
        shares = np.repeat(1 / np.sqrt(np.maximum(counts, 1)), counts).astype(implicit.dtype)
        return csr_array((shares, indices, indptr), shape=self._seen.shape) @ implicit

    def _objective(self, ratings, state):
        p, user_bias, q, item_bias, implicit = state
        x = padded(p + self._implicit_sum(implicit), self.dtype)
        touched = csr_array(
            (np.ones(self._seen.nnz), self._seen.indices, self._seen.indptr), self._seen.shape
        )
        penalty = self._penalty(ratings, state[:4])
        penalty += self.reg_ / self._unit * np.sum((touched.T @ ratings.user_counts) * _squares(implicit))
        return self._in_stars(ratings, (x, user_bias, q, item_bias), penalty)

    def _publish(self, ratings, state):
        super()._publish(ratings, state[:4])
        self.own_factors_ = self.user_factors_
        root = np.dtype(self.dtype).type(np.sqrt(self._unit))
        self.implicit_factors_ = root * state[4][:, : self.n_factors]
        self.user_factors_ = self.own_factors_ + self._implicit_sum(self.implicit_factors_)

    def _prior_row(self, codes):
        return self.implicit_factors_[codes].sum(axis=0, dtype=np.float64) / np.sqrt(len(codes))


def _by_shuffled_user(matrix, rng):
    """Users in random order, row pointers, and their films and ratings."""
    rows = rng.permutation(matrix.shape[0]).astype(np.int32)
    lengths = np.diff(matrix.indptr)[rows]
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    source = np.repeat(matrix.indptr[rows] - indptr[:-1], lengths) + np.arange(indptr[-1])
    return rows, indptr, np.take(matrix.indices, source), np.take(matrix.data, source)
