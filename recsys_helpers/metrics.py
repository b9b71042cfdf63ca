"""Rating errors, and how far to trust them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .base import check_positive_int


def mse(y_true, y_pred):
    r"""Mean squared error, :math:`\frac{1}{N}\sum (r - \hat r)^2`.

    Parameters
    ----------
    y_true, y_pred : array-like of float, shape (N,)
        Ratings and their predictions, in stars.

    Returns
    -------
    float
        In squared stars.

    Raises
    ------
    ValueError
        If the two differ in length, are empty or hold a value that is not finite.
    """
    error = _errors(y_true, y_pred)
    return float(np.mean(error * error))


def rmse(y_true, y_pred):
    """Root mean squared error, in stars; see `mse` for arguments and errors.

    Large errors weigh more than in `mae`: it is never below it, and equal to it
    only when every error has the same size.
    """
    return float(np.sqrt(mse(y_true, y_pred)))


def mae(y_true, y_pred):
    r"""Mean absolute error, :math:`\frac{1}{N}\sum |r - \hat r|`, in stars.

    Arguments and errors as in `mse`.
    """
    return float(np.mean(np.abs(_errors(y_true, y_pred))))


class Interval(NamedTuple):
    """A figure with its spread: value, standard error, and a 95 % interval."""

    value: float
    se: float
    low: float
    high: float

    def __str__(self):
        return f"{self.value:.4f} ± {self.se:.4f}"


def rmse_interval(y_true, y_pred, groups, *, n_boot=1000, seed=0):
    """RMSE with a bootstrap interval that treats whole users as the sample.

    The ratings of one user share that user's taste and habits, so they are not
    independent draws; resampling single ratings would make the spread too small.
    Users are drawn with replacement, each with all of his or her ratings
    (the cluster bootstrap; Davison and Hinkley 1997, section 3.8).

    Parameters
    ----------
    y_true, y_pred : array-like of float, shape (N,)
        Ratings and their predictions, in stars.
    groups : array-like of int, shape (N,)
        The user of each rating, by id or code.
    n_boot : int
        Number of bootstrap samples.
    seed : int or numpy.random.Generator
        Source of randomness.

    Returns
    -------
    Interval
        value (the RMSE itself), se (standard deviation over the samples), low and
        high (their 2.5 and 97.5 % quantiles).

    Raises
    ------
    ValueError
        As `mse`, and if groups has another length.

    Notes
    -----
    O(N + n_boot x users): errors are summed once per user.
    """
    error = _errors(y_true, y_pred)
    groups = np.asarray(groups)
    if groups.shape != error.shape:
        raise ValueError(f"groups: got shape {groups.shape}; expected {error.shape}, one user per rating")
    check_positive_int("n_boot", n_boot, minimum=2)
    _, code = np.unique(groups, return_inverse=True)
    total = np.bincount(code, weights=error * error)
    count = np.bincount(code)
    rng = np.random.default_rng(seed)
    n_groups = len(count)
    samples = np.empty(n_boot)
    for b in range(n_boot):
        times = np.bincount(rng.integers(n_groups, size=n_groups), minlength=n_groups)
        samples[b] = np.sqrt(times @ total / (times @ count))
    low, high = np.quantile(samples, [0.025, 0.975])
    value = np.sqrt(total.sum() / count.sum())
    return Interval(float(value), float(samples.std(ddof=1)), float(low), float(high))


def gini(counts):
    r"""Gini coefficient of non-negative counts: 0 when all are equal, towards 1 when one has all.

    With the counts sorted from small to large,
    :math:`G = \frac{2\sum_j j\,c_{(j)}}{N\sum_j c_{(j)}} - \frac{N+1}{N}`,
    twice the area between the Lorenz curve and the diagonal (Gini 1912).

    Parameters
    ----------
    counts : array-like of float, shape (N,)
        For example the number of ratings of each film.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If empty, all zero, or any count is negative or not finite.
    """
    c = np.sort(np.asarray(counts, dtype=np.float64).ravel())
    if c.size == 0 or not np.isfinite(c).all() or c[0] < 0 or c[-1] == 0:
        raise ValueError("counts: expected at least one finite count, none negative, not all zero")
    rank = np.arange(1, c.size + 1)
    return float(2 * (rank @ c) / (c.size * c.sum()) - (c.size + 1) / c.size)


def _errors(y_true, y_pred):
    true = np.asarray(y_true, dtype=np.float64)
    pred = np.asarray(y_pred, dtype=np.float64)
    if true.shape != pred.shape or true.ndim != 1:
        raise ValueError(
            f"y_true and y_pred: got shapes {true.shape} and {pred.shape}; "
            "expected two one-dimensional arrays of the same length"
        )
    if true.size == 0:
        raise ValueError("y_true: got no ratings; the error of nothing is not defined")
    error = true - pred
    if not np.isfinite(error).all():
        at = int(np.argmin(np.isfinite(error)))
        raise ValueError(
            f"y_true or y_pred: row {at} holds {true[at]} and {pred[at]}; expected finite numbers"
        )
    return error
