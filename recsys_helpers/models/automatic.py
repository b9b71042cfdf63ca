r"""What a default needs to know is found from the ratings: their unit, and how much to regularize.

**Unit.** Learning rates and the size of random starts count in ratings of a scale as wide as half a star to
five. `unit` says how many times wider this one is.

**How much.** The factors' penalty in :math:`\sum e^2 + \lambda(|P|^2+|Q|^2)` is, at sufficient rank, that
of a nuclear norm: singular values of the residual below :math:`\lambda` are taken for noise. Noise of
standard deviation :math:`\sigma` in n ratings of m users and l items has a spectral norm of about
:math:`\sigma(\sqrt{n/m}+\sqrt{n/l})` where it is spread evenly. That gives the order of magnitude; where
users and items differ in their numbers of ratings, the best multiple is another. It is chosen on a
slice of the training ratings: alternating least squares goes along a rising path of penalties, each
started from the solution for the last, and stops when the slice has become worse. Biases alone, the end of
every such path, take part: where they are best, the penalty is so large that no factor survives it.

A penalty that is counted once a rating shrinks every bias by the same share, however many ratings there are.
Where much is noise, that loses to biases as `BiasModel` has them; the slices show it, and a warning tells.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

from .baselines import ratings_biases
from .training import outside

# From half a star to five: the scale that numbers in stars were found on.
SPAN = 4.5
# Multiples of the noise's spectral norm, in the order of the path.
MULTIPLES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
BIAS_PENALTIES = (1.0, 2.0, 3.0, 5.0, 8.0, 13.0)
HELD_OUT = 0.1
MOST_HELD_OUT = 100_000
# Of more ratings than this a sample of users takes part: the multiple is the same for all.
MOST_RATINGS = 600_000
FIRST_SWEEPS, MORE_SWEEPS = 4, 2
MOST_FACTORS = 24
# Below this many ratings several slices are held out, one after the other: one alone is mostly chance.
FEW_RATINGS, FEW_SLICES = 50_000, 3
# So many times the error of biases is worse than them, and not a matter of rounding.
BEHIND = 1.002


class WorseThanBiases(UserWarning):
    """A fitted model's own held-out ratings say that it predicts worse than biases do."""


class Penalty(NamedTuple):
    """What `chosen_penalty` finds.

    Attributes
    ----------
    reg : float
        For factors.
    bias_reg : float
        For biases, where each user and each item has the same.
    taste : bool
        Whether factors predicted the slice better than biases alone.
    noise : float
        Standard deviation of what the biases leave, held out.
    own : float
        RMSE on the slices with these penalties; NaN where none was held out.
    behind : bool
        Whether that is above `noise` by more than chance: the model is worse than `BiasModel`.
    """

    reg: float
    bias_reg: float
    taste: bool
    noise: float
    own: float = np.nan
    behind: bool = False


def unit(ratings):
    """How much wider the scale of the ratings is than one from half a star to five."""
    low, high = ratings.scale
    return (high - low) / SPAN if high > low else 1.0


def noise_norm(ratings, noise, *, weighted=False):
    """Spectral norm of noise on the cells that are rated; with weights, of what the weights leave of it.

    Parameters
    ----------
    ratings : Ratings
    noise : float
        Its standard deviation.
    weighted : bool
        Every cell divided by the square root of both its numbers of ratings.
    """
    lengths = [max(np.count_nonzero(counts), 1) for counts in (ratings.user_counts, ratings.item_counts)]
    means = np.sqrt(len(ratings) / np.array(lengths, dtype=np.float64))
    return float(noise * ((1 / means).sum() if weighted else means.sum()))


def settled(ratings, n_factors, reg, bias_reg, *, weighted=False, n_threads=None):
    """The penalties as numbers, where one or both may be "auto".

    Next to a `reg` that is given, an automatic `bias_reg` is 3, or with weights 3 for a user and an item
    with an ordinary number of ratings.
    """
    if reg != "auto":
        if bias_reg == "auto":
            bias_reg = 3.0 * _per_row(ratings, weighted)
        return Penalty(float(reg), float(bias_reg), True, np.nan)
    if n_factors == 0 and bias_reg != "auto":
        return _nothing(ratings, float(bias_reg), weighted, np.nan)
    return chosen_penalty(
        ratings, n_factors, weighted=weighted, n_threads=n_threads,
        bias_reg=None if bias_reg == "auto" else float(bias_reg),
    )  # fmt: skip


def chosen_penalty(ratings, n_factors, *, weighted=False, bias_reg=None, n_threads=None):
    """Penalties for biases and factors, chosen on slices of the training ratings.

    Parameters
    ----------
    ratings : Ratings
        The training ratings. Never the test part.
    n_factors : int
        Of the model that wants to know.
    weighted : bool
        Whether the penalties are multiplied by the numbers of ratings, as in ``BiasedALS(weighted=True)``.
    bias_reg : float, optional
        Where it is given already, in the model's own terms.
    n_threads : int, optional

    Returns
    -------
    Penalty

    Notes
    -----
    About ten sweeps of `BiasedALS` over at most 600,000 ratings, with at most 24 factors.
    """
    sample = _sample(ratings)
    n_slices = FEW_SLICES if len(sample) < FEW_RATINGS else 1
    slices = [_cut(sample, number) for number in range(n_slices)]
    if any(len(train) == 0 or len(held) == 0 for train, held in slices):
        return _nothing(ratings, 3.0 if bias_reg is None else float(bias_reg), weighted, unit(ratings))
    best, biases = _best_biases(slices, BIAS_PENALTIES)
    noise = float(np.sqrt(np.mean(biases)))
    own = biases
    if bias_reg is not None or weighted:
        per_row = _per_row(ratings, weighted)
        tried = [d * per_row for d in BIAS_PENALTIES] if bias_reg is None else [bias_reg]
        bias_reg, own = _best_biases(slices, tried, weighted=weighted)
    else:
        bias_reg = best
    nothing = _nothing(ratings, bias_reg, weighted, noise)._replace(
        own=float(np.sqrt(np.mean(own))), behind=_more_than_chance(own - biases)
    )
    if n_factors == 0 or noise == 0:
        return nothing
    errors = _path(slices, min(n_factors, MOST_FACTORS), noise, weighted, bias_reg, n_threads)
    multiple = min(errors, key=lambda c: np.mean(errors[c]))
    if not _more_than_chance(biases - errors[multiple]):
        return nothing
    reg = multiple * noise_norm(ratings, noise, weighted=weighted)
    return Penalty(reg, bias_reg, True, noise, float(np.sqrt(np.mean(errors[multiple]))))


def _more_than_chance(gain):
    """Whether a paired difference over all held-out ratings lies above zero by its standard error."""
    return bool(gain.mean() > gain.std() / np.sqrt(len(gain)))


def _per_row(ratings, weighted):
    """What makes a penalty that is counted once a row of one that is counted once a rating."""
    return float(np.sqrt(ratings.n_users * ratings.n_items) / len(ratings)) if weighted else 1.0


def _nothing(ratings, bias_reg, weighted, noise):
    """A penalty that no factor survives: twice the norm of all deviations, a bound on any singular value."""
    deviation = ratings.values.astype(np.float64) - ratings.values.mean(dtype=np.float64)
    if weighted:
        counts = ratings.user_counts[ratings.user_codes] * ratings.item_counts[ratings.item_codes]
        deviation /= np.sqrt(counts)
    reg = 2 * float(np.linalg.norm(deviation))
    return Penalty(reg if reg > 0 else unit(ratings), bias_reg, False, noise)


def _sample(ratings):
    """All ratings, or those of a random part of the users."""
    if len(ratings) <= MOST_RATINGS:
        return ratings
    share = MOST_RATINGS / len(ratings)
    return ratings[(np.random.default_rng(0).random(ratings.n_users) < share)[ratings.user_codes]]


def _cut(ratings, number):
    """(train, held out): the slices do not overlap, and are the same at every call."""
    place = np.random.default_rng(1).random(len(ratings))
    share = min(HELD_OUT, MOST_HELD_OUT / len(ratings))
    held = (place >= number * share) & (place < (number + 1) * share)
    return ratings[~held], ratings[held]


def _best_biases(slices, penalties, *, weighted=False):
    """(the best of the penalties, squared errors of every held-out rating with it), for biases alone."""
    errors = {d: _bias_errors(slices, d, weighted) for d in penalties}
    best = min(errors, key=lambda d: np.mean(errors[d]))
    return best, errors[best]


def _bias_errors(slices, penalty, weighted):
    """Squared error of every held-out rating with biases alone."""
    out = []
    for train, held in slices:
        counts = (train.user_counts, train.item_counts) if weighted else (1.0, 1.0)
        # A row that has no rating in this part keeps a penalty, so that its bias stays at zero.
        own = [penalty * np.maximum(count, 1.0) for count in counts]
        found = ratings_biases(train, *own, mean=float(train.values.mean(dtype=np.float64)))
        predicted = found.mean + found.user_bias[held.user_codes] + found.item_bias[held.item_codes]
        out.append((predicted - held.values) ** 2)
    return np.concatenate(out)


def _path(slices, n_factors, noise, weighted, bias_reg, n_threads):
    """Squared errors of every held-out rating for each multiple of the noise, until they get worse."""
    walks = [_Walk(*s, n_factors, noise, weighted, bias_reg, n_threads) for s in slices]
    errors, least = {}, np.inf
    for multiple in MULTIPLES:
        errors[multiple] = np.concatenate([walk.step(multiple) for walk in walks])
        if (now := errors[multiple].mean()) > least:
            break
        least = now
    return errors


class _Walk:
    """Alternating least squares on one training part, for one penalty after the other."""

    def __init__(self, train, held, n_factors, noise, weighted, bias_reg, n_threads):
        from .als import BiasedALS

        self.train, self.held = train, held
        self.norm = noise_norm(train, noise, weighted=weighted)
        self.model = BiasedALS(n_factors, weighted=weighted, n_threads=n_threads, verbose=False)
        self.model.reg_, self.model.bias_reg_ = self.norm, bias_reg
        self.model._start(train)
        found = ratings_biases(train, 3.0, 3.0, mean=self.model.mean_)
        self.model.user_bias_[:], self.model.item_bias_[:] = found.user_bias, found.item_bias
        self.sweeps = FIRST_SWEEPS

    def step(self, multiple):
        """Squared errors of the held-out ratings with this multiple of the noise."""
        model, k = self.model, self.model.n_factors
        nothing = np.zeros((1, k), model.dtype), np.zeros(1, model.dtype)
        model.reg_ = multiple * self.norm
        for _ in range(self.sweeps):
            model._solve_items(self.train, nothing)
            model._solve_users(self.train, nothing)
        self.sweeps = MORE_SWEEPS
        return (model._predict_codes(self.held.user_codes, self.held.item_codes) - self.held.values) ** 2


def warn_if_behind(model, penalty):
    """Warn where the slices that chose the penalties say that biases alone would do better."""
    if penalty.behind and penalty.own > BEHIND * penalty.noise:
        warnings.warn(
            f"{type(model).__name__}: biases under its penalties have an RMSE of {penalty.own:.4f} on "
            f"ratings held out of the training part, where BiasModel has {penalty.noise:.4f}, and factors do "
            "not help; take BiasModel, or BiasedALS, whose penalties count once a user and once an item",
            WorseThanBiases,
            stacklevel=outside(),
        )


def warn_if_worse(model, ratings, validation):
    """Warn where held-out ratings that the model has watched say that it is worse than biases."""
    history = getattr(model, "history_", None)
    if validation is None or not hasattr(history, "columns") or "validation_rmse" not in history:
        return
    own = history["validation_rmse"].min()
    found = ratings_biases(ratings, 5.0, 5.0, mean=float(ratings.values.mean(dtype=np.float64)))
    users, items = model._pair_codes(validation)
    predicted = found.mean + np.where(users >= 0, found.user_bias[users], 0.0)
    predicted += np.where(items >= 0, found.item_bias[items], 0.0)
    biases = float(np.sqrt(np.mean((predicted - validation.values) ** 2)))
    if own > biases:
        warnings.warn(
            f"{type(model).__name__} has an RMSE of {own:.4f} on its validation ratings, worse than the "
            f"{biases:.4f} of BiasModel; raise reg, or leave it at \"auto\", or take BiasModel",
            WorseThanBiases,
            stacklevel=outside(),
        )
