"""How good a model is: rating errors, one ranked list by its definition, and what the lists are like.

`precision`, `recall`, `hit_rate`, `average_precision`, `reciprocal_rank` and `ndcg` score one list.
`rank_scores`, which lives in `ranking`, does it for all users at once in compiled code, with all films
as candidates; it can be asked for here as well.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Set

import numpy as np
import pandas as pd
from scipy.sparse import issparse

from .._lazy import lazily
from ..checks import check_positive_int
from ..kernels import metrics as kernels

TARGETS = ("rmse", "ndcg")

# Measures of many users at once and their spread, found when asked for: their modules build on this one.
__getattr__ = lazily(
    __package__,
    globals(),
    {
        "Interval": "statistics",
        "Ranking": "ranking",
        "precision_recall_curve": "ranking",
        "rank_scores": "ranking",
        "rmse_interval": "statistics",
        "score_lists": "ranking",
    },
    {},
)[0]

# ---- rating errors ------------------------------------------------------------------


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


def errors_by_group(y_true, y_pred, groups):
    """Rating errors of each user, each band of popularity, or any other group.

    Parameters
    ----------
    y_true, y_pred : array-like of float, shape (N,)
        Ratings and their predictions, in stars.
    groups : array-like, shape (N,)
        What each rating belongs to, for example ``test.user_codes``, or
        ``popularity_bands(train.item_counts)[test.item_codes]``.

    Returns
    -------
    DataFrame
        One row a group that has ratings, in the order of the groups: ratings (their number),
        rmse, mae, and bias, the mean of prediction minus rating.

    Raises
    ------
    ValueError
        As `mse`, and if groups has another length or a missing value.
    """
    error = _errors(y_true, y_pred)
    groups = _groups(groups, len(error))
    frame = pd.DataFrame({"group": groups, "square": error**2, "size": np.abs(error), "bias": -error})
    by = frame.groupby("group", observed=True, sort=True)
    means = by.mean()
    return pd.DataFrame(
        {
            "ratings": by.size(),
            "rmse": np.sqrt(means["square"]),
            "mae": means["size"],
            "bias": means["bias"],
        }
    )


def popularity_bands(counts, edges=(1, 3, 10, 30, 100)):
    """Sort items (or users) into bands by their number of training ratings.

    Parameters
    ----------
    counts : array-like of int, shape (n,)
    edges : sequence of int
        Ascending, above 0: the smallest count of each band but the first, which starts at 0.

    Returns
    -------
    pandas.Categorical, shape (n,)
        Ordered labels such as "3-9" and "100+".

    Raises
    ------
    ValueError
        If the edges do not ascend from above 0, or a count is negative or not finite.
    """
    counts = np.asarray(counts)
    if counts.size and not (np.isfinite(counts).all() and counts.min() >= 0):
        raise ValueError("counts: expected finite numbers, none negative")
    edges = np.asarray(edges)
    if edges.ndim != 1 or len(edges) == 0 or edges[0] <= 0 or (np.diff(edges) <= 0).any():
        raise ValueError(f"edges: got {edges.tolist()}; expected ascending numbers above 0")
    starts = [0, *edges.tolist()]
    names = [f"{a}" if b - a == 1 else f"{a}-{b - 1}" for a, b in zip(starts, starts[1:], strict=False)]
    return pd.Categorical.from_codes(
        np.searchsorted(edges, counts, side="right"), [*names, f"{starts[-1]}+"], ordered=True
    )


def calibration(y_true, y_pred, n_bins=10):
    r"""Are films predicted at 4 stars rated 4 stars on average?

    The pairs are sorted by prediction and cut into bins of equal size (equal predictions keep
    their order, so a bin can begin among them). For each bin :math:`B`, the mean prediction is compared
    with the mean rating, as a reliability diagram does for probabilities (Niculescu-Mizil and
    Caruana 2005).

    Parameters
    ----------
    y_true, y_pred : array-like of float, shape (N,)
        Ratings and their predictions, in stars.
    n_bins : int
        At most N.

    Returns
    -------
    DataFrame
        One row a bin: ratings, predicted, observed and gap (predicted minus observed). Its ``attrs``
        hold error, :math:`\sum_B \frac{|B|}{N} |gap_B|`, in stars, and slope, that of the
        least-squares line of rating on prediction: below 1 where predictions are spread too widely,
        NaN where all are equal.

    Raises
    ------
    ValueError
        As `mse`, and if there are more bins than ratings.
    """
    _errors(y_true, y_pred)
    true, pred = np.asarray(y_true, dtype=np.float64), np.asarray(y_pred, dtype=np.float64)
    if check_positive_int("n_bins", n_bins) > len(true):
        raise ValueError(f"n_bins: got {n_bins}; expected at most {len(true)}, the number of ratings")
    bins = np.array_split(np.argsort(pred, kind="stable"), n_bins)
    table = pd.DataFrame(
        {
            "ratings": [len(b) for b in bins],
            "predicted": [pred[b].mean() for b in bins],
            "observed": [true[b].mean() for b in bins],
        }
    )
    table["gap"] = table["predicted"] - table["observed"]
    table.attrs["error"] = float(table["ratings"] @ table["gap"].abs() / len(true))
    table.attrs["slope"] = np.nan
    if pred.min() < pred.max():  # the mean of equal numbers can differ from them in the last bit
        spread = pred - pred.mean()
        table.attrs["slope"] = float(spread @ true / (spread @ spread))
    return table


# ---- one list ---------------------------------------------------------------------------
# The definitions. `rank_scores` computes the same for all users.


def precision(recommended, relevant, k=10):
    r"""Share of the list that is relevant, :math:`\frac{1}{K} |L_K \cap R|`.

    Source: Herlocker, Konstan, Terveen and Riedl (2004), Evaluating collaborative filtering
    recommender systems, ACM TOIS 22(1).

    Parameters
    ----------
    recommended : sequence of ids, or table
        The list L, best first, without repetitions; its first k places count. The order of
        equal scores is the caller's. Of a table, as ``model.recommend(user)`` gives it, the column
        of ids is taken: the only one beside title and score.
    relevant : collection of ids, or such a table
        The set R of films the user liked in the test data.
    k : int
        K, the length of the list.

    Returns
    -------
    float
        From 0 to 1. An empty list, or places that are missing from it, count as misses. With
        fewer than K relevant films, 1 is out of reach. NaN for a user without relevant films,
        who is left out of means.

    Raises
    ------
    ValueError
        If a film is listed twice, an id is missing, a gain is not above 0, or k is not a positive integer.
    TypeError
        If what came is no list of ids, or one of the two holds text and the other numbers.
    """
    hits, gains = _hits(recommended, relevant, k)
    return hits.sum() / k if gains else np.nan


def recall(recommended, relevant, k=10):
    r"""Share of the relevant films that the list holds, :math:`|L_K \cap R| \,/\, |R|`.

    With more than K relevant films, 1 is out of reach; `capped_recall` is the form without that.
    The rest is as in `precision`, source included.
    """
    hits, gains = _hits(recommended, relevant, k)
    return hits.sum() / len(gains) if gains else np.nan


def capped_recall(recommended, relevant, k=10):
    r"""Share of what a list of K could hold, :math:`|L_K \cap R| \,/\, \min(K, |R|)`.

    1 is within reach of everybody. For users with at most K relevant films it is `recall`, for the
    others `precision`; articles call it recall, too (Liang, Krishnan, Hoffman and Jebara 2018,
    Variational autoencoders for collaborative filtering, WWW). The rest is as in `precision`.
    """
    hits, gains = _hits(recommended, relevant, k)
    return hits.sum() / min(k, len(gains)) if gains else np.nan


def hit_rate(recommended, relevant, k=10):
    """1 if the list holds any relevant film, else 0; the rest is as in `precision`.

    Source: Deshpande and Karypis (2004), Item-based top-N recommendation algorithms, ACM TOIS 22(1).
    """
    hits, gains = _hits(recommended, relevant, k)
    return float(hits.any()) if gains else np.nan


def average_precision(recommended, relevant, k=10):
    r"""Mean over the relevant films of the precision at the place where each is found.

    .. math:: \frac{1}{|R|} \sum_{j \le K,\; L_j \in R} \frac{|L_j \cap R|}{j}

    with :math:`L_j` in the numerator the first j films. A relevant film below place K adds nothing.
    With K the number of all films it is the area under the precision-recall curve of the user
    (Buckley and Voorhees 2000, Evaluating evaluation measure stability, SIGIR). Some libraries
    divide by :math:`\min(K, |R|)` instead; this is the form of trec_eval. Arguments and special
    cases as in `precision`; with more than K relevant films, 1 is out of reach.
    """
    hits, gains = _hits(recommended, relevant, k)
    return hits @ _precision_at_each(hits) / len(gains) if gains else np.nan


def reciprocal_rank(recommended, relevant, k=10):
    """1 / the place of the first relevant film, 0 if none is among the first K.

    Source: Voorhees (1999), The TREC-8 question answering track report. Arguments and special cases
    as in `precision`.
    """
    hits, gains = _hits(recommended, relevant, k)
    if not gains:
        return np.nan
    return 1.0 / (1 + int(np.argmax(hits))) if hits.any() else 0.0


def ndcg(recommended, relevant, k=10):
    r"""Discounted gain of the list, as a share of the best possible.

    .. math::

        \frac{\sum_{j \le K} g(L_j) / \log_2(1 + j)}{\sum_{j \le \min(K, |R|)} g_{(j)} / \log_2(1 + j)}

    with :math:`g_{(j)}` the gains from large to small (Järvelin and Kekäläinen 2002, Cumulated
    gain-based evaluation of IR techniques, ACM TOIS 20(4); the discount as in later use).

    Parameters
    ----------
    recommended : sequence of ids, or table
        As in `precision`.
    relevant : collection of ids, or dict of id to float
        A set gives the binary form, every gain 1. A dict gives the gain of each film, above 0, and
        so the graded form, in which it matters which of the liked films comes first.
    k : int
        K.

    Returns
    -------
    float
        From 0 to 1, and 1 is within reach of everybody, since the best possible list is cut at
        min(K, \|R\|). An empty list gets 0, a user without relevant films NaN.

    Raises
    ------
    ValueError
        As `precision`.
    """
    hits, gains = _hits(recommended, relevant, k)
    if not gains:
        return np.nan
    top = _ids(recommended, "recommended")[:k]
    found = np.array([gains.get(item, 0.0) for item in top])
    best = np.sort(list(gains.values()))[::-1][:k]
    discount = 1 / np.log2(np.arange(2, k + 2))
    return found @ discount[: len(found)] / (best @ discount[: len(best)])


def _hits(recommended, relevant, k):
    """Whether each of the first k places is a hit, and the gain of each relevant film."""
    check_positive_int("k", k)
    listed = _ids(recommended, "recommended")
    gains = (
        dict(relevant) if isinstance(relevant, Mapping) else dict.fromkeys(_ids(relevant, "relevant"), 1.0)
    )
    top = listed[:k]
    if len(set(top)) < len(top):
        raise ValueError("recommended: got a film twice; expected every film at most once")
    bad = [item for item, gain in gains.items() if not 0 < gain < np.inf]
    if bad:
        raise ValueError(f"relevant: got a gain of {gains[bad[0]]} for {bad[0]}; expected a number above 0")
    kinds = [{isinstance(item, str) for item in ids} for ids in (listed, gains)]
    if all(len(kind) == 1 for kind in kinds) and kinds[0] != kinds[1]:
        raise TypeError(
            f"recommended and relevant: got ids such as {listed[0]!r} and {next(iter(gains))!r}; expected "
            "one kind in both, since text and numbers never meet"
        )
    return np.array([item in gains for item in top], dtype=float), gains


def _ids(things, name):
    """The ids in what a caller gave: a list, an array, a set, a Series, or a table with one such column."""
    if isinstance(things, pd.DataFrame):
        columns = [column for column in things.columns if column not in ("title", "score")]
        if len(columns) != 1:
            raise TypeError(
                f"{name}: got a table with the columns {list(things.columns)}; expected ids, or a table with "
                "one column beside title and score: pass the column of item ids, of one user"
            )
        things = things[columns[0]]
    unordered = name == "recommended" and isinstance(things, Set)
    wrong = unordered or isinstance(things, str | bytes | Mapping) or not isinstance(things, Iterable)
    if wrong or getattr(things, "ndim", 1) != 1:
        expected = "a sequence of ids, best first" if name == "recommended" else "a collection of ids"
        raise TypeError(f"{name}: got {type(things).__name__}; expected {expected}")
    ids = things.tolist() if hasattr(things, "tolist") else list(things)
    for place, item in enumerate(ids, 1):
        if not isinstance(item, Hashable) or item is None or item is pd.NA or item != item:
            raise ValueError(f"{name}: got {item!r} at place {place}; expected the id of a film")
    return ids


def _precision_at_each(hits):
    return np.cumsum(hits) / np.arange(1, len(hits) + 1)


# ---- what the lists are like -----------------------------------------------------------------


def exposure(lists, n_items):
    """How many lists each film is in.

    Parameters
    ----------
    lists : ndarray of int, shape (U, K)
        Item codes; negative ones are empty places.
    n_items : int
        n.

    Returns
    -------
    ndarray of int64, shape (n,)
        `gini` of it is the Gini index of exposure: 0 when all films are shown alike, towards 1 when a
        few take all places (Fleder and Hosanagar 2009, Blockbuster culture's next rise or fall,
        Management Science 55(5)).

    Raises
    ------
    ValueError
        If the lists are not whole numbers in two dimensions, or hold a code from n on.
    """
    codes = _lists(lists, check_positive_int("n_items", n_items)).ravel()
    return np.bincount(codes[codes >= 0], minlength=n_items)


def coverage(lists, n_items):
    """Share of the n films that are in at least one list (Herlocker et al. 2004); 0 for no lists.

    Arguments as in `exposure`.
    """
    return float(np.count_nonzero(exposure(lists, n_items)) / n_items)


def novelty(lists, counts, n_users):
    r"""Mean surprise of the films of each list, :math:`\frac{1}{|L|} \sum_{i \in L} -\log_2 (c_i / m)`.

    In bits: 0 for a film everybody has rated, 1 more for each halving of its raters (Zhou et al. 2010,
    Solving the apparent diversity-accuracy dilemma, PNAS 107(10); Vargas and Castells 2011).

    Parameters
    ----------
    lists : ndarray of int, shape (U, K)
        Item codes; negative ones are empty places and do not count.
    counts : array-like of int, shape (n,)
        Training ratings of each film. One without any counts as rated once, or it would be infinitely new.
    n_users : int
        m.

    Returns
    -------
    ndarray of float64, shape (U,)
        NaN for an empty list.

    Raises
    ------
    ValueError
        As `exposure`, and if a count is not between 0 and m.
    """
    counts = np.asarray(counts)
    lists = _lists(lists, len(counts))
    check_positive_int("n_users", n_users)
    if not ((counts >= 0) & (counts <= n_users)).all():
        raise ValueError(f"counts: expected numbers from 0 to n_users, which is {n_users}")
    surprise = -np.log2(np.maximum(counts, 1) / n_users)
    listed = lists >= 0
    length = listed.sum(axis=1)
    total = np.where(listed, surprise[lists], 0.0).sum(axis=1)
    return np.divide(total, length, out=np.full(len(lists), np.nan), where=length > 0)


def intra_list_diversity(lists, features):
    r"""Mean distance of the pairs of films in each list, :math:`1 - \cos(x_i, x_j)`.

    (Ziegler et al. 2005, Improving recommendation lists through topic diversification, WWW; Smyth and
    McClave 2001.)

    Parameters
    ----------
    lists : ndarray of int, shape (U, K)
        Item codes; negative ones are empty places.
    features : array-like of float, or sparse matrix, shape (n, d)
        What makes films alike: genres as 0 and 1, or item factors. A film without any feature
        (a row of zeros) is at distance 1 from all others.

    Returns
    -------
    ndarray of float64, shape (U,)
        0 when all films of the list point the same way; NaN for a list of fewer than two.

    Raises
    ------
    ValueError
        As `exposure`, and if the features are not finite numbers in two dimensions.
    """
    dense = np.array(features.toarray() if issparse(features) else features, dtype=np.float64)
    if dense.ndim != 2 or not np.isfinite(dense).all():
        raise ValueError("features: expected finite numbers in two dimensions, one row for each item")
    length = np.linalg.norm(dense, axis=1, keepdims=True)
    np.divide(dense, length, out=dense, where=length > 0)
    lists = _lists(lists, len(dense))
    out = np.empty(len(lists))
    kernels.list_distances(lists, dense, out)
    return out


def _lists(lists, n):
    """Item codes below n in two dimensions, negative ones for empty places."""
    found = np.asarray(lists)
    if found.size == 0:
        found = np.empty(found.shape if found.ndim == 2 else (0, 0), np.int32)
    if found.ndim != 2 or found.dtype.kind not in "iu":
        raise ValueError(
            f"lists: got {found.dtype} values in {found.ndim} dimension(s); expected whole numbers in two, "
            "one row a list"
        )
    if found.size and found.max() >= n:
        raise ValueError(f"lists: got item code {found.max()}; expected codes below {n}")
    return np.ascontiguousarray(np.maximum(found, -1), dtype=np.int32)


def _groups(groups, n):
    if np.ndim(groups) != 1 or len(groups) != n:
        raise ValueError(f"groups: got shape {np.shape(groups)}; expected ({n},), one for each rating")
    if pd.isna(groups).any():
        raise ValueError("groups: got a missing value; expected a group for every rating")
    return groups


def _errors(y_true, y_pred):
    true, pred = _numbers(y_true, "y_true"), _numbers(y_pred, "y_pred")
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


def _numbers(things, name):
    try:
        return np.asarray(things, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"{name}: got {type(things).__name__}; expected numbers, such as test.values or "
            "model.predict(test)"
        ) from None
