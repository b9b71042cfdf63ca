"""Biased matrix factorization by automatic differentiation and gradient steps, in JAX."""

from __future__ import annotations

import time
import warnings
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..checks import choice, either, flag, number, optional, seed, whole
from .automatic import settled, unit, warn_if_behind
from .documented import documented
from .factors import FactorModel
from .training import DivergenceError, Loop, outside

# How often a fit that diverges is begun anew, each time with half the learning rate.
MAX_ATTEMPTS = 5


class Parameters(NamedTuple):
    """What is learned: one array a field, of NumPy or of JAX.

    A named tuple is a tree to JAX, so that a gradient comes back in the same form.
    """

    user_factors: Any
    user_bias: Any
    item_factors: Any
    item_bias: Any


def objective(
    parameters, users, items, values, *, mean, reg, bias_reg, user_weight=1.0, item_weight=1.0,
    rating_weight=1.0,
):  # fmt: skip
    r"""The regularized sum of squared errors that `BiasedALS` minimizes, too.

    .. math::

        \sum_j v_j\,(r_j-\mu-b_{u_j}-b_{i_j}-p_{u_j}\cdot q_{i_j})^2
        + \sum_u w_u\,(\lambda\,|p_u|^2 + \lambda_b\,b_u^2)
        + \sum_i w_i\,(\lambda\,|q_i|^2 + \lambda_b\,b_i^2)

    (Koren, Bell and Volinsky 2009, equation 5, with a penalty of their own for the biases.)
    Written with indexing and arithmetic alone: NumPy arrays give a NumPy number, and
    ``jax.grad(objective)`` gives the gradient.

    Parameters
    ----------
    parameters : Parameters
        P of shape (m, k), b_u (m,), Q (n, k) and b_i (n,).
    users, items : ndarray of int, shape (l,)
        Codes, not ids.
    values : ndarray of float, shape (l,)
        Ratings, in stars.
    mean : float
        :math:`\mu`.
    reg, bias_reg : float
        :math:`\lambda` and :math:`\lambda_b`.
    user_weight, item_weight : float or ndarray, shape (m,) and (n,)
        w: 1 for plain regularization, the numbers of ratings for weighted.
    rating_weight : float or ndarray, shape (l,)
        v. For a batch: by how many batches the ratings were divided. The penalty is
        then counted in full and the errors are scaled up to the whole, so the mean
        over the batches of an epoch is the full objective, and so with the gradient.

    Returns
    -------
    float
        O(l k + (m + n) k) operations, in the type of the arrays.
    """
    p, user_bias, q, item_bias = parameters
    error = values - mean - user_bias[users] - item_bias[items] - (p[users] * q[items]).sum(axis=1)
    value = (rating_weight * error**2).sum()
    for factors, bias, weight in ((p, user_bias, user_weight), (q, item_bias, item_weight)):
        value = value + (weight * (reg * (factors**2).sum(axis=1) + bias_reg * bias**2)).sum()
    return value


@documented
class GradientMF(FactorModel):
    r"""Biases and taste, :math:`\hat r_{ui} = \mu + b_u + b_i + p_u \cdot q_i`, by gradient steps in JAX.

    The model and the objective are those of `BiasedALS` without genres; see `objective`.
    What differs is the way down: the gradient comes from automatic differentiation
    (Baydin et al. 2018) in JAX, and optax takes the steps, by default Adam's (Kingma and
    Ba 2015). Needs ``pip install "recsys_helpers[gradient]"``.

    Parameters
    ----------
    n_factors : int
        Rank k; 0 fits biases only.
    reg, bias_reg : float or "auto"
        :math:`\lambda` of the factors and :math:`\lambda_b` of the biases, not below 0. "auto": as in
        `BiasedALS`.
    weighted : bool
        False: every user and film has the same penalty. True: in proportion to the number
        of ratings, which is what a penalty at each rating in stochastic gradient descent
        amounts to. As in `BiasedALS`.
    center : bool
        Mean normalization: take the global mean off first. False: :math:`\mu` = 0, and the
        biases, which are penalized, must find the level by themselves.
    optimizer : {"adam", "momentum", "sgd"}
        "momentum" is heavy-ball with 0.9; "sgd" steps along the gradient alone, and is plain
        gradient descent with ``batch_size=None``. Adam's decay rates are 0.9 and 0.999.
    learning_rate : float
        Length of a step, above 0, for ratings on a scale as wide as half a star to five: ratings on another
        are brought to that width for the fit. Adam's counts in units of the parameters: 0.01 moves a
        factor by about 0.01. The others multiply the gradient of the whole objective, so it
        has to be far smaller, and smaller the more ratings the busiest film has.
    schedule : {"cosine", "constant"}
        "cosine" lets the learning rate fall to 0 along half a cosine over `n_epochs`, which
        removes the noise of small batches at the end (Loshchilov and Hutter 2017).
    batch_size : int, optional
        Ratings in a step. None: all of them, one step an epoch. The ratings are shuffled
        anew each epoch and dealt to batches whose sizes differ by one at most.
    n_epochs : int
        Upper bound on passes over the ratings.
    tol : float
        Stop when `patience` epochs together lower the objective by less than this share of
        it; 0 turns this off.
    patience : int
        See `tol`. With validation ratings also: stop after this many epochs without a
        better validation RMSE, and go back to the best epoch.
    init_scale : float
        Standard deviation of the random factors at the start, above 0, in the same unit.
    dtype : {"float32", "float64"}
        Of the parameters and the arithmetic. The setting `jax_enable_x64` of the calling
        program is left as it is.
    random_state : int or numpy.random.Generator
        The same integer gives the same model to the last bit.
    {verbose}

    Attributes
    ----------
    mean_ : float
        Global mean, in stars; 0 with ``center=False``.
    user_factors_, item_factors_ : ndarray, shape (m, k) and (n, k)
    user_bias_, item_bias_ : ndarray, shape (m,) and (n,)
        All four are 0 where there is no training rating.
    history_ : DataFrame
        One row an epoch: objective, train_rmse, validation_rmse (NaN without), seconds.
        The objective is that of all training ratings, after the epoch.
    reg_, bias_reg_ : float
        What the fit took.
    learning_rate_ : float
        The one that the fit took: `learning_rate`, halved as often as the fit diverged with it.
    best_epoch_ : int
        The epoch whose parameters the model holds, counted from 1.
    compile_seconds_ : float
        Spent on compiling before the first epoch; close to 0 when a fit of the same shape
        came before in the same process. Not part of `history_`.

    Notes
    -----
    An epoch is one compiled call, a `jax.lax.scan` over the batches. It costs about
    6 nnz k operations for errors and gradients, and for each batch some 12 (m + n) k for
    Adam, because optax keeps and moves the averages of all rows, also of those that the
    batch does not mention: with small batches that part dominates. Memory: parameters,
    gradient and two averages, and the shuffled ratings.

    An unknown user or film, with a code of -1, has no bias and no factors.
    """

    _parameters = {
        "n_factors": whole(0),
        "reg": either("auto", number()),
        "bias_reg": either("auto", number()),
        "weighted": flag,
        "center": flag,
        "optimizer": choice("adam", "momentum", "sgd"),
        "learning_rate": number(above=0),
        "schedule": choice("cosine", "constant"),
        "batch_size": optional(whole()),
        "n_epochs": whole(),
        "tol": number(),
        "patience": whole(),
        "init_scale": number(above=0),
        "dtype": choice("float32", "float64"),
        "random_state": seed,
        "verbose": flag,
    }

    def __init__(
        self,
        n_factors=32,
        reg="auto",
        *,
        bias_reg="auto",
        weighted=False,
        center=True,
        optimizer="adam",
        learning_rate=0.1,
        schedule="cosine",
        batch_size=4096,
        n_epochs=20,
        tol=1e-5,
        patience=5,
        init_scale=0.1,
        dtype="float32",
        random_state=0,
        verbose=True,
    ):
        self.n_factors = n_factors
        self.reg = reg
        self.bias_reg = bias_reg
        self.weighted = weighted
        self.center = center
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.batch_size = batch_size
        self.n_epochs = n_epochs
        self.tol = tol
        self.patience = patience
        self.init_scale = init_scale
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    # ---- fitting --------------------------------------------------------------

    def _fit(self, ratings, validation, *, checkpoint=None):
        _import_jax()
        penalty = settled(ratings, self.n_factors, self.reg, self.bias_reg, weighted=self.weighted)
        warn_if_behind(self, penalty)
        self.reg_, self.bias_reg_ = penalty.reg, penalty.bias_reg
        self._unit = unit(ratings)
        rate, seed_of = self.learning_rate, self._seeds()
        for attempt in range(MAX_ATTEMPTS):
            try:
                self._descend(ratings, validation, rate, seed_of(), checkpoint)
                break
            except DivergenceError:
                if attempt == MAX_ATTEMPTS - 1:
                    raise
                rate /= 2
        if rate < self.learning_rate:
            warnings.warn(
                f"GradientMF diverged with learning_rate={self.learning_rate:g} and was fitted with "
                f"{rate:g}; pass "
                "that to save the attempts",
                ConvergenceWarning,
                stacklevel=outside(),
            )
        self.learning_rate_ = rate

    def _seeds(self):
        """Generators that all attempts start from alike."""
        if isinstance(self.random_state, np.random.Generator):
            first = int(self.random_state.integers(2**63))
            return lambda: np.random.default_rng(first)
        return lambda: np.random.default_rng(self.random_state)

    def _descend(self, ratings, validation, rate, rng, checkpoint):
        """All epochs with one learning rate."""
        jax, _ = _import_jax()
        dtype = np.dtype(self.dtype)
        n_batches = 1 if self.batch_size is None else -(-len(ratings) // self.batch_size)
        fixed = self._fixed(ratings)
        narrow = fixed | {"mean": fixed["mean"] / self._unit, "reg": fixed["reg"] / self._unit}
        narrow = {name: np.asarray(value, dtype) for name, value in narrow.items()}
        parameters = _start(ratings, self.n_factors, self.init_scale, dtype, rng)
        self._keep(parameters)
        rates = self._rates(rate, n_batches).astype(dtype)
        # Only explicit types are used inside, so the wider setting changes no float32.
        with _wide_types(jax), jax.default_device(jax.devices("cpu")[0]):
            batches = self._deal(ratings, n_batches, dtype, rng)
            start = time.perf_counter()
            epoch_of, state = _compiled(self.optimizer, *_shapes(parameters, narrow, batches))
            self.compile_seconds_ = time.perf_counter() - start
            run = [parameters, state]

            def get():
                return {f"leaf{at}": np.asarray(x) for at, x in enumerate(jax.tree.leaves(run))}

            def put(leaves):
                run[:] = jax.tree.unflatten(jax.tree.structure(run), list(leaves.values()))
                self._keep(run[0])

            before = self._measure(ratings, fixed)[0]
            loop = Loop(
                self, "epoch", self.n_epochs, get=get, put=put, validation=validation, window=self.patience,
                monotone=False, advice="pass a smaller learning_rate", checkpoint=checkpoint, rng=rng,
            )  # fmt: skip
            with loop:
                for epoch in loop:
                    if n_batches > 1 and epoch > 1:
                        batches = self._deal(ratings, n_batches, dtype, rng)
                    run[:] = epoch_of(*run, batches, rates[epoch - 1], narrow)
                    self._keep(run[0])
                    value, squared = self._measure(ratings, fixed)
                    loop.report(objective=value, train_rmse=np.sqrt(squared / len(ratings)))
        if self.history_["objective"].min() > before:
            raise DivergenceError(
                f"GradientMF ended above its start: the objective was {before:.4g} before the first "
                "epoch and "
                f"{self.history_['objective'].min():.4g} at best; pass a smaller learning_rate"
            )

    def _fixed(self, ratings):
        """What the objective needs besides the parameters."""
        self.mean_ = float(ratings.values.mean(dtype=np.float64)) if self.center else 0.0
        weights = (ratings.user_counts, ratings.item_counts) if self.weighted else (1.0, 1.0)
        return {
            "mean": self.mean_, "reg": self.reg_, "bias_reg": self.bias_reg_,
            "user_weight": np.broadcast_to(weights[0], ratings.n_users),
            "item_weight": np.broadcast_to(weights[1], ratings.n_items),
        }  # fmt: skip

    def _rates(self, rate, n_batches):
        """The learning rate of each step, shape (epochs, batches)."""
        rates = np.full((self.n_epochs, n_batches), rate)
        if self.schedule == "cosine":
            rates *= (1 + np.cos(np.pi * np.arange(rates.size) / rates.size).reshape(rates.shape)) / 2
        return rates

    def _deal(self, ratings, n_batches, dtype, rng):
        *codes, values, weight = _deal(ratings, n_batches, dtype, rng)
        return *codes, values / dtype.type(self._unit), weight

    def _keep(self, parameters):
        """Set what was learned, from the fit's unit back to that of the ratings."""
        for name, array in zip(Parameters._fields, parameters, strict=True):
            array = np.array(array)
            times = self._unit if name.endswith("bias") else np.sqrt(self._unit)
            setattr(self, f"{name}_", array * array.dtype.type(times))

    def _measure(self, ratings, fixed):
        """Objective and sum of squared errors of the parameters as they are, in float64."""
        error = self._predict_codes(ratings.user_codes, ratings.item_codes) - ratings.values
        wide = Parameters(*(getattr(self, f"{name}_").astype(np.float64) for name in Parameters._fields))
        none = np.zeros(0, np.int32)
        with np.errstate(over="ignore", invalid="ignore"):
            squared = float(error @ error)
            return squared + float(objective(wide, none, none, none, **fixed)), squared

    def _penalties(self, n):
        times = n if self.weighted else 1
        return times * np.append(np.full(self.n_factors, self.reg_), self.bias_reg_)


# ---- the compiled part ------------------------------------------------------------


def _import_jax():
    """JAX and optax, only now: nothing else in the package needs them."""
    try:
        import jax
        import optax
    except ImportError as error:
        raise ImportError(
            f"GradientMF needs JAX and optax, and {error.name} is not installed; "
            'install them with: pip install "recsys_helpers[gradient]"'
        ) from error
    return jax, optax


def _wide_types(jax):
    """A context in which float64 exists, whatever the program's own setting."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64  # its place before JAX 0.8

    return enable_x64(True)


def _start(ratings, k, scale, dtype, rng):
    """Small random factors, biases at 0; all 0 where there is no rating to learn from."""
    sides = []
    for counts in (ratings.user_counts, ratings.item_counts):
        # Drawn in float64 for both types, so that they start at the same place.
        factors = (scale * rng.standard_normal((len(counts), k))).astype(dtype)
        factors[counts == 0] = 0
        sides += [factors, np.zeros(len(counts), dtype)]
    return Parameters(*sides)


def _deal(ratings, n_batches, dtype, rng):
    """Users, items, values and rating weights, each of shape (n_batches, size).

    Sizes that do not come out even are filled up with weight 0, at most one in a batch.
    One batch needs no shuffling.
    """
    size = -(-len(ratings) // n_batches)
    order = np.zeros(n_batches * size, dtype=np.int64)
    order[: len(ratings)] = np.arange(len(ratings)) if n_batches == 1 else rng.permutation(len(ratings))
    weight = np.zeros(len(order), dtype)
    weight[: len(ratings)] = n_batches
    # Dealt like cards, so that the fill lies in the last place of the last batches.
    order, weight = (np.ascontiguousarray(x.reshape(size, n_batches).T) for x in (order, weight))
    return (
        ratings.user_codes[order], ratings.item_codes[order], ratings.values[order].astype(dtype), weight
    )  # fmt: skip


def _shapes(*trees):
    """Hashable (shape, dtype) of every array, to look up compiled code by."""
    return tuple(
        tuple((name, x.shape, x.dtype.name) for name, x in tree.items())
        if isinstance(tree, dict)
        else tuple((x.shape, x.dtype.name) for x in tree)
        for tree in trees
    )


@lru_cache(maxsize=64)
def _compiled(optimizer, parameters, fixed, batches):
    """One epoch, compiled for these shapes, and the optimizer's first state."""
    jax, optax = _import_jax()
    rule = {
        "adam": optax.scale_by_adam(), "momentum": optax.trace(decay=0.9), "sgd": optax.identity()
    }[optimizer]  # fmt: skip

    def epoch(parameters, state, batches, rates, fixed):
        def step(carry, batch):
            parameters, state = carry
            *triple, weight, rate = batch
            gradient = jax.grad(objective)(parameters, *triple, rating_weight=weight, **fixed)
            direction, state = rule.update(gradient, state)
            return (jax.tree.map(lambda x, d: x - rate * d, parameters, direction), state), None

        return jax.lax.scan(step, (parameters, state), (*batches, rates))[0]

    parameters = Parameters(*(np.zeros(*about) for about in parameters))
    batches = tuple(jax.ShapeDtypeStruct(*about) for about in batches)
    rates = jax.ShapeDtypeStruct(batches[0].shape[:1], batches[3].dtype)
    fixed = {name: jax.ShapeDtypeStruct(*about) for name, *about in fixed}
    state = rule.init(parameters)
    return jax.jit(epoch).lower(parameters, state, batches, rates, fixed).compile(), state
