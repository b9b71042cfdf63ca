"""What a difference is worth: intervals by resampled users, corrected tests, and what nothing beats."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from ..checks import check_choice, check_positive_int
from .metrics import TARGETS, _errors, _groups

_OWN_COLUMNS = ("model", "protocol", "fold", "ratings", "squared_error", "train_ratings", "ndcg")


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
        As `mse`, and if groups has another length or a missing value.

    Notes
    -----
    O(N + n_boot x users): errors are summed once per user. The interval is a little short where few users
    have most of the ratings: in simulations with numbers of ratings as unequal as MovieLens has them it
    covers the truth in 87 % of cases with 30 users, 90 % with 100, 93 % with 610.
    """
    error = _errors(y_true, y_pred)
    groups = np.asarray(_groups(groups, len(error)))
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


def paired_differences(users, baseline, *, metric="rmse", n_boot=2000, seed=0):
    r"""How much each model differs from one of them, with the same users in both.

    Users are drawn with replacement, each with everything he or she did in all folds, and the same
    draw serves all models: what is hard for every model cancels. In each draw the difference is
    divided by its own standard error. The interval and p-value come from the quantiles of the size of
    this ratio (the symmetric bootstrap-t; Efron and Tibshirani 1993, An introduction to the bootstrap,
    section 12.5), which holds its level better than quantiles of the differences where a few users
    have most of the ratings.

    With many models some interval misses the truth by chance. The wider interval low_all … high_all is
    simultaneous: it takes the 95 % quantile of the largest ratio of all models in each draw (the same
    draws), so that all of these intervals hold together in 95 % of cases, however the models depend on
    one another (the studentized maximum of Romano and Wolf 2005, Exact and approximate stepdown methods
    for multiple hypothesis testing, JASA 100).

    Parameters
    ----------
    users : DataFrame
        `Comparison.users`, of one protocol. The users' ids may be in a column of any name.
    baseline : str
        The model to compare with.
    metric : {"rmse", "ndcg"}
        The root of the mean squared error over all test ratings, or the mean NDCG over users and folds.
    n_boot : int
        Number of bootstrap samples.
    seed : int or numpy.random.Generator

    Returns
    -------
    DataFrame
        One row a model: value and its standard error value_se; difference (model minus baseline), its
        standard error se, its 95 % interval low … high, its simultaneous one low_all … high_all; p, the
        two-sided bootstrap p-value of no difference, which cannot be below 1 / (n_boot + 1), and p_holm,
        the same after `holm` over all models.

    Raises
    ------
    ValueError, TypeError
        If the baseline is not there, the column of users cannot be told, the models were not tested on the
        same users and ratings, or fewer than two users have anything to measure.

    Notes
    -----
    A baseline that was picked as the best of these very results is a little too good, and so are its
    differences. O(n_boot x users x models).
    """
    if not isinstance(users, pd.DataFrame):
        raise TypeError(f"users: got {type(users).__name__}; expected the users of a Comparison, a DataFrame")
    check_choice("metric", metric, TARGETS)
    check_positive_int("n_boot", n_boot, minimum=2)
    names = list(dict.fromkeys(users["model"]))
    check_choice("baseline", baseline, names)
    if users["protocol"].nunique() != 1:
        raise ValueError(
            f"users: got protocols {list(users['protocol'].unique())}; expected one, select it first"
        )
    if metric == "rmse":
        frame = users.assign(total=users["squared_error"], count=users["ratings"])
    else:
        frame = users.assign(total=users["ndcg"].fillna(0.0), count=users["ndcg"].notna().astype(int))
    sums = frame.groupby([_user_column(users), "model"])[["total", "count"]].sum().unstack("model")
    total, count = sums["total"][names].to_numpy(), sums["count"][names].to_numpy()
    if np.isnan(count).any() or (count != count[:, :1]).any():
        raise ValueError("users: the models were tested on different ratings; expected the same for all")
    counted = count[:, 0] > 0  # without a relevant film a user has no NDCG in any model
    total, count = total[counted], count[counted, 0].astype(float)
    n, at = len(count), names.index(baseline)
    if n < 2:
        raise ValueError(f"users: got {n} with a value of {metric}; expected at least two")
    value, error = _values_and_errors(np.ones(n), total, count, metric)
    difference = value - value[at]
    difference_se = np.linalg.norm(error - error[:, [at]], axis=0)
    rng = np.random.default_rng(seed)
    samples, ratios = np.empty((n_boot, len(names))), np.empty((n_boot, len(names)))
    for b in range(n_boot):
        times = np.bincount(rng.integers(n, size=n), minlength=n).astype(float)
        samples[b], error = _values_and_errors(times, total, count, metric)
        se = np.sqrt(times @ (error - error[:, [at]]) ** 2)
        ratios[b] = _ratio(np.abs(samples[b] - samples[b, at] - difference), se)
    widest = np.quantile(ratios, 0.95, axis=0, method="higher")  # may be infinite: nothing between two
    reach, reach_all = (
        np.multiply(times, difference_se, out=np.zeros(len(names)), where=difference_se > 0)
        for times in (widest, np.quantile(ratios.max(axis=1), 0.95, method="higher"))
    )
    beyond = (ratios >= _ratio(np.abs(difference), difference_se)).sum(axis=0)
    table = pd.DataFrame(
        {
            "value": value,
            "value_se": samples.std(axis=0, ddof=1),
            "difference": difference,
            "se": (samples - samples[:, [at]]).std(axis=0, ddof=1),
            "low": difference - reach,
            "high": difference + reach,
            "low_all": difference - reach_all,
            "high_all": difference + reach_all,
            "p": (1 + beyond) / (n_boot + 1),
        },
        index=pd.Index(names, name="model"),
    )
    others = table.index != baseline
    table.loc[~others, "p"] = np.nan
    table["p_holm"] = np.nan
    table.loc[others, "p_holm"] = holm(table.loc[others, "p"])
    return table


def _user_column(users):
    """The column that `compare` does not name itself: the users' ids, as the data calls them."""
    others = [column for column in users.columns if column not in _OWN_COLUMNS]
    if len(others) == 1:
        return others[0]
    if "userId" in others:
        return "userId"
    raise ValueError(
        f"users: got {others or 'no column'} beside the columns of a comparison; expected one column of ids"
    )


def _values_and_errors(times, total, count, metric):
    """The value of each model when user u counts times[u], and what one user more of each kind adds to it."""
    n = times @ count
    value = times @ total / n
    error = (total - value * count[:, None]) / n
    if metric == "rmse":  # the root: its derivative is 1 / (2 root)
        value = np.sqrt(value)
        error /= np.where(value > 0, 2 * value, 1.0)
    return value, error


def _ratio(size, se):
    """size / se, where two models that never differ give 0, and a difference without spread infinity."""
    return np.divide(size, se, out=np.where(size > 0, np.inf, 0.0), where=se > 0)


def holm(p_values):
    """Adjust p-values for the number of comparisons, by Holm's step-down method.

    With the adjusted values compared to 0.05, the chance that any true null hypothesis is rejected is at
    most 5 %, however the tests depend on one another (Holm 1979, A simple sequentially rejective
    multiple test procedure, Scandinavian Journal of Statistics 6).

    Parameters
    ----------
    p_values : array-like of float, shape (N,)
        From 0 to 1.

    Returns
    -------
    ndarray of float64, shape (N,)
        The i-th smallest becomes the largest of (N - j + 1) p over j up to i, at most 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p_values: expected numbers from 0 to 1 in one dimension")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(np.minimum(1.0, p[order] * np.arange(len(p), 0, -1)))
    out = np.empty(len(p))
    out[order] = stepped
    return out


def pareto_front(costs, errors):
    """Which models nothing beats: none has both a lower cost and a lower error.

    Parameters
    ----------
    costs, errors : array-like of float, shape (N,)
        Small is good in both.

    Returns
    -------
    ndarray of bool, shape (N,)
        False where another model is at least as good in both and better in one.

    Raises
    ------
    ValueError
        If they differ in length or hold NaN.
    """
    c, e = np.asarray(costs, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    if c.ndim != 1 or c.shape != e.shape or np.isnan(c).any() or np.isnan(e).any():
        raise ValueError(
            f"costs and errors: got shapes {c.shape} and {e.shape}; expected two sequences of the same "
            "length without NaN"
        )
    as_good = (c[:, None] <= c) & (e[:, None] <= e)
    better = (c[:, None] < c) | (e[:, None] < e)
    return ~(as_good & better).any(axis=0)
