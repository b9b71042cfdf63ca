"""Rankings of all films for many users at once: lists, ranks, and their metrics."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_array, issparse
from sklearn.utils.validation import check_is_fitted

from ..checks import check_positive_int
from ..data.ratings import Ratings
from ..kernels import metrics as kernels
from ..kernels import spans
from . import metrics
from .metrics import _lists

# Columns of a `Ranking`: what the kernels write for each list, and once for the whole order.
AT_K = (
    "precision", "recall", "capped_recall", "hit_rate", "average_precision", "reciprocal_rank", "ndcg",
    "graded_ndcg",
)  # fmt: skip
WHOLE = ("full_average_precision", "full_reciprocal_rank")

_BLOCK_SCORES = 1_000_000  # scores that are looked at together: 8 MB in float64
_BLOCK_ROWS = 64  # rows that a thread takes at a time


class Ranking(NamedTuple):
    """What `rank_scores` found, for U users.

    Attributes
    ----------
    values : DataFrame
        One row a user (index: the row of the scores), one column a metric: precision, recall,
        capped_recall, hit_rate, average_precision, reciprocal_rank, ndcg and graded_ndcg at K, for
        several K each with its own as in "ndcg@10"; and, unless ``full=False``, full_average_precision
        and full_reciprocal_rank, which have no cut-off. NaN for a user without relevant films.
    lists : ndarray of int32, shape (U, K)
        The recommended item codes, best first; -1 in empty places. K is the largest of several.
    ranks : scipy.sparse.csr_array of int32, shape (U, n), or None
        The rank of each relevant film, from 1; an explicit 0 where it can never be listed.
    """

    values: pd.DataFrame
    lists: np.ndarray
    ranks: csr_array | None

    def means(self):
        """The mean of each metric over the users who have relevant films, as a Series."""
        return self.values.mean()


def rank_scores(scores, relevant, seen=None, *, k=10, users=None, full=True, seed=0, n_threads=None):
    """Rank all films for each user by score, and compute all ranking metrics.

    The candidates of a user are all n films but those in `seen`: never a sample of them, since
    metrics on sampled candidates order models differently (Krichene and Rendle 2020, On sampled
    metrics for item recommendation, KDD). Equal scores are put in an order drawn for each user, so that
    a model which cannot tell films apart is judged as one that lists them at random, and not by the
    order in which films happen to be numbered. A film whose score is NaN or -inf is never listed. The
    metrics are those of `precision`, `recall`, `capped_recall`, `hit_rate`, `average_precision`,
    `reciprocal_rank` and `ndcg`, which say what special cases get.

    Parameters
    ----------
    scores : ndarray of float, shape (m, n), or callable
        The score of each film for each user. A callable takes an array of row numbers, and returns
        the scores of these rows: it is asked for a block of users at a time, so that memory does not
        grow with m x n.
    relevant : sparse matrix, shape (m, n)
        What the users liked in the test data: an entry above 0 is the gain of a relevant film, for
        graded_ndcg; the other metrics only ask whether there is an entry.
    seen : sparse matrix, shape (m, n), optional
        Entries, of any value, are films that must not be listed: the training ratings. A film that is
        relevant and seen can never be found, and counts as missed.
    k : int, or sequence of int
        K, the length of the lists, or several lengths to score in one pass.
    users : array-like of int, optional
        Rows to rank; by default those with a relevant film.
    full : bool
        Also find the rank of every relevant film, and the metrics without a cut-off.
    seed : int or None
        Of the order of equal scores: a hash of seed, row and film, the same whatever rows are asked for
        with it. None: the smaller code first, as `recommend` lists them.
    n_threads : int, optional
        By default one for each processor. The result does not depend on it.

    Returns
    -------
    Ranking

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit together, an entry of relevant is not above 0, or a row is out of range.

    Notes
    -----
    About 2 n operations for each user, and 2 n r comparisons more with ``full`` for r relevant films, done
    in vectors. Memory: a block of about a million scores, and 4 K + 80 bytes a user for each K.
    """
    relevant = _relevant(relevant)
    m, n = relevant.shape
    seen = csr_array((m, n)) if seen is None else _csr(seen, "seen")
    if seen.shape != (m, n):
        raise ValueError(f"seen: got shape {seen.shape}; expected {(m, n)}, that of relevant")
    if not callable(scores):
        scores = np.asarray(scores)
        if scores.shape != (m, n):
            raise ValueError(f"scores: got shape {scores.shape}; expected {(m, n)}, that of relevant")
    cutoffs = check_cutoffs(k)
    threads = spans.threads(None if n_threads is None else check_positive_int("n_threads", n_threads))
    ties = np.uint64(0 if seed is None else check_positive_int("seed", seed, minimum=0) % 2**64)
    users = np.flatnonzero(np.diff(relevant.indptr)) if users is None else _rows(users, m)
    if len(users) < m or (np.diff(users) != 1).any():
        relevant, seen = relevant[users], seen[users]
    gains = relevant.data.astype(np.float64)
    csr = [seen.indptr, seen.indices, relevant.indptr, relevant.indices, gains]
    longest = int(cutoffs.max())
    lists = np.empty((len(users), longest), np.int32)
    out = np.empty((len(users), len(cutoffs), kernels.AT_K))
    whole = np.full((len(users), kernels.WHOLE), np.nan)
    ranks = np.zeros(len(gains), np.int32)
    given = [*csr, _discounts(longest), cutoffs, bool(full), lists, out, whole, ranks]
    block = max(1, _BLOCK_SCORES // max(n, 1))
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(users), block):
            rows = users[start : start + block]
            part = _block_of(scores, rows, n)
            jobs = [
                pool.submit(
                    kernels.rank_rows, cut, min(cut + _BLOCK_ROWS, len(rows)), start, part, users, ties,
                    seed is not None, *given,
                )
                for cut in range(0, len(rows), _BLOCK_ROWS)
            ]  # fmt: skip
            for job in jobs:
                job.result()
    values = _columns(out, k, cutoffs, pd.Index(users, name="user"))
    if not full:
        return Ranking(values, lists, None)
    values[list(WHOLE)] = whole
    return Ranking(values, lists, csr_array((ranks, relevant.indices, relevant.indptr), relevant.shape))


def check_cutoffs(k):
    """The lengths of lists to score, as an array: one, or several of which none comes twice."""
    if np.ndim(k) == 0:
        return np.array([check_positive_int("k", k)], dtype=np.int64)
    cutoffs = [check_positive_int("k", one) for one in k]
    if np.ndim(k) != 1 or not cutoffs or len(set(cutoffs)) < len(cutoffs):
        raise ValueError(f"k: got {k!r}; expected a whole number, or several, each once")
    return np.array(cutoffs, dtype=np.int64)


def _columns(out, k, cutoffs, index):
    names = AT_K if np.ndim(k) == 0 else [f"{name}@{cut}" for cut in cutoffs for name in AT_K]
    return pd.DataFrame(out.reshape(len(out), len(names)), columns=list(names), index=index)


def _discounts(k):
    return 1 / np.log2(np.arange(2, k + 2))


def _rows(users, m):
    users = np.asarray(users)
    if users.ndim != 1 or (len(users) and (users.dtype.kind not in "iu")):
        raise ValueError(f"users: got {users.dtype} values; expected row numbers in one dimension")
    users = users.astype(np.int64)
    if len(users) and not 0 <= users.min() <= users.max() < m:
        raise ValueError(f"users: got {users.min()} to {users.max()}; expected rows from 0 to {m - 1}")
    return users


def _block_of(scores, rows, n):
    if callable(scores):
        part = np.asarray(scores(rows))
        if part.shape != (len(rows), n):
            raise ValueError(f"scores: the callable gave shape {part.shape}; expected {(len(rows), n)}")
    elif (np.diff(rows) == 1).all():  # no copy
        part = scores[rows[0] : rows[-1] + 1]
    else:
        part = scores[rows]
    if part.dtype.kind not in "fiub":
        raise TypeError(f"scores: got {part.dtype} values; expected real numbers")
    if part.dtype not in (np.float32, np.float64):
        part = part.astype(np.float64)
    return np.ascontiguousarray(part)


def score_lists(lists, relevant, k=None):
    """The metrics at K of lists that are there already, whoever made them.

    Parameters
    ----------
    lists : array-like of int, shape (U, K)
        Item codes, best first, no film twice in a list; negative codes after the last film.
    relevant : sparse matrix, shape (U, n)
        Gains of the relevant films, as in `rank_scores`.
    k : int, or sequence of int, optional
        The first so many places count; by default all. More than there are: the others are misses.

    Returns
    -------
    DataFrame
        One row a list; the metrics at K of a `Ranking`. NaN for a user without relevant films.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit together, a list has a film twice, a film after an empty place or a code from
        n on, or a gain is not above 0.

    Notes
    -----
    O(K log K) a list.
    """
    relevant = _relevant(relevant)
    n = relevant.shape[1]
    lists = _lists(lists, n)
    if len(lists) != relevant.shape[0] or lists.shape[1] == 0:
        raise ValueError(f"lists: got shape {lists.shape}; expected ({relevant.shape[0]}, K)")
    if ((lists[:, :-1] < 0) & (lists[:, 1:] >= 0)).any():
        raise ValueError("lists: got a film after an empty place; expected negative codes at the end only")
    ordered = np.sort(lists, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise ValueError("lists: got a film twice in one list; expected every film at most once")
    k = lists.shape[1] if k is None else k
    cutoffs = check_cutoffs(k)
    out = np.empty((len(lists), len(cutoffs), kernels.AT_K))
    gains = relevant.data.astype(np.float64)
    discounts = _discounts(cutoffs.max())
    kernels.score_lists(lists, n, relevant.indptr, relevant.indices, gains, discounts, cutoffs, out)
    return _columns(out, k, cutoffs, None)


def _relevant(matrix):
    matrix = _csr(matrix, "relevant")
    if len(matrix.data) and not (matrix.data.min() > 0 and matrix.data.max() < np.inf):
        raise ValueError("relevant: got an entry that is not a finite number above 0; expected gains above 0")
    return matrix


def _csr(matrix, name):
    if not issparse(matrix):
        raise TypeError(f"{name}: got {type(matrix).__name__}; expected a SciPy sparse matrix")
    matrix = csr_array(matrix)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    return matrix


def precision_recall_curve(ranks, lengths=None):
    r"""Precision and recall of lists of every length, averaged over users.

    .. math::

        P(N) = \frac{1}{U} \sum_u \frac{h_u(N)}{N}, \qquad R(N) = \frac{1}{U} \sum_u \frac{h_u(N)}{|R_u|}

    with :math:`h_u(N)` the relevant films among the first N of user u (Herlocker et al. 2004).

    Parameters
    ----------
    ranks : scipy.sparse.csr_array of int
        Of a `Ranking`. Users without relevant films are left out.
    lengths : sequence of int, optional
        The N to report, above 0; by default 1 … n.

    Returns
    -------
    DataFrame
        Index N; columns precision and recall. ``attrs["area"]`` is the mean over users of the area
        under each one's own curve, summed in steps: the full average precision.

    Raises
    ------
    ValueError
        If no user has a relevant film, or a length is not a whole number above 0.
    """
    if not issparse(ranks):
        raise TypeError(f"ranks: got {type(ranks).__name__}; expected the ranks of a Ranking")
    counts = np.diff(ranks.indptr)
    users = np.repeat(np.arange(len(counts)), counts)
    if len(users) == 0:
        raise ValueError("ranks: got no relevant film; expected at least one")
    n = ranks.shape[1]
    lengths = np.arange(1, n + 1) if lengths is None else np.asarray(lengths)
    if lengths.ndim != 1 or lengths.size == 0 or lengths.dtype.kind not in "iu" or lengths.min() < 1:
        raise ValueError(f"lengths: got {lengths.tolist()}; expected whole numbers above 0")
    found = ranks.data > 0
    at, owner = ranks.data[found], users[found]
    n_users = np.count_nonzero(counts)
    hits = np.cumsum(np.bincount(at, minlength=n + 1))
    recalled = np.cumsum(np.bincount(at, 1 / counts[owner], minlength=n + 1))
    stop = np.minimum(lengths, n)
    order = np.lexsort((at, owner))
    at, owner = at[order], owner[order]
    nth = np.arange(len(at)) - np.searchsorted(owner, owner) + 1
    curve = pd.DataFrame(
        {"precision": hits[stop] / lengths / n_users, "recall": recalled[stop] / n_users},
        index=pd.Index(lengths, name="length"),
    )
    curve.attrs["area"] = float(np.sum(nth / at / counts[owner]) / n_users)
    return curve


# ---- rankings of a model ---------------------------------------------------------------------------------


def relevance(test, threshold=4.0):
    """What the users liked, as `metrics.rank_scores` wants it.

    Parameters
    ----------
    test : Ratings
    threshold : float
        A film rated at least this is relevant. Ratings are kept in single precision, and so is the
        threshold: 4.1 stars reach a threshold of 4.1, whatever type of number that is.

    Returns
    -------
    scipy.sparse.csr_array of float64, shape (m, n)
        The gain of each relevant film: 1 at the threshold and 1 more for each star above it.

    Raises
    ------
    ValueError
        If no rating reaches the threshold.
    """
    if not isinstance(test, Ratings):
        raise TypeError(f"test: got {type(test).__name__}; expected a Ratings")
    level = np.float32(number_of_stars(threshold))
    liked = test.values >= level
    if not liked.any():
        raise ValueError(f"threshold: got {threshold}, which no test rating reaches; expected a lower one")
    by_user = test[liked].by_user
    gains = 1.0 + by_user.data.astype(np.float64) - np.float64(level)
    return csr_array((gains, by_user.indices, by_user.indptr), shape=by_user.shape)


def number_of_stars(threshold):
    """A threshold as a Python number, from a number or an array without dimensions."""
    value = np.asarray(threshold)
    if value.ndim or value.dtype.kind not in "iuf" or np.isnan(value):
        raise TypeError(f"threshold: got {threshold!r}; expected a number of stars")
    return float(value)


def rank_model(model, train, test, *, k=10, threshold=4.0, users=None, seed=0):
    """Rank all films for every user who liked some in the test part, and score the rankings.

    Candidates are all films of the data that the user has not rated in `train`, films without any
    training rating included. A user without training ratings gets what the model gives to nobody in
    particular, and counts like anybody else.

    Parameters
    ----------
    model : Recommender
        Fitted on `train`.
    train, test : Ratings
        Two parts of one data set (they share ids), as the functions of `splits` give them.
    k : int, or sequence of int
        Length of the lists, or several to score in one pass.
    threshold : float
        Films with a test rating of at least this are relevant; see `relevance`.
    users : array-like of ids, optional
        Whom to rank for; by default all with a relevant film.
    seed : int or None
        Of the order of equal scores; see `rank_scores`.

    Returns
    -------
    metrics.Ranking
        With the users' ids as index of the values.

    Raises
    ------
    ValueError
        If the parts do not share ids, or the model was fitted on data with other ids.

    See Also
    --------
    list_summary : coverage, novelty, diversity and exposure of the lists.
    rank_newcomers : lists for people whom the model has not seen.
    """
    check_is_fitted(model, "train_")
    for name, part in (("test", test), ("train", train)):
        _check_part(name, part, model.train_)
    relevant = relevance(test, threshold)
    codes = np.flatnonzero(np.diff(relevant.indptr)) if users is None else _user_codes(train, users)
    found = rank_scores(
        lambda rows: _score_users(model, rows), relevant, train.by_user, k=k, users=codes, seed=seed
    )
    found.values.index = pd.Index(train.user_ids[codes], name=train.user_name)
    return found


def rank_newcomers(model, known, test, *, k=10, threshold=4.0, seed=0):
    """Rank all films for people whom the model has not seen, from a part of what they rated.

    Each person is folded in with the ratings in `known`, and the lists are judged by those in `test`:
    the strong generalization of Marlin (2004, Collaborative filtering: a machine learning perspective),
    as Liang et al. (2018) use it. Weak generalization, `rank_model`, asks for more of people who took part
    in the training.

    Parameters
    ----------
    model : Recommender
        Fitted on the training part of `strong_generalization`; must be able to `fold_in`.
    known, test : Ratings
        What each person tells, and what the lists are judged by.
    k, threshold, seed
        As in `rank_model`.

    Returns
    -------
    metrics.Ranking
        With the users' ids as index of the values. People without a relevant film, or of whose ratings
        the model knows no film, have no row.

    Raises
    ------
    ValueError
        If the parts do not share the model's ids, or the model was trained on one of these people.
    NotImplementedError
        If the model cannot fold people in; the message says why.
    """
    check_is_fitted(model, "train_")
    for name, part in (("test", test), ("known", known)):
        _check_part(name, part, model.train_)
    relevant = relevance(test, threshold)
    familiar = model.train_.item_counts > 0
    able = np.bincount(known.user_codes, familiar[known.item_codes], minlength=known.n_users) > 0
    codes = np.flatnonzero((np.diff(relevant.indptr) > 0) & able)
    trained = codes[model.train_.user_counts[codes] > 0]
    if len(trained):
        raise ValueError(
            f"known: the model was trained on user {known.user_ids[trained[0]]}; expected people it has not "
            "seen, as strong_generalization sets them aside"
        )

    def scores(rows):
        return np.array([_score_newcomer(model, known, row) for row in rows])

    found = rank_scores(scores, relevant, known.by_user, k=k, users=codes, seed=seed)
    found.values.index = pd.Index(known.user_ids[codes], name=known.user_name)
    return found


def _score_users(model, codes):
    return model.score_items(model.train_.user_ids[codes])


def _score_newcomer(model, known, row):
    own = known.by_user[[row]]
    rated = dict(zip(known.item_ids[own.indices].tolist(), own.data.tolist(), strict=True))
    return model.fold_in(rated).score_items()


def _check_part(name, part, whole):
    if not isinstance(part, Ratings):
        raise TypeError(f"{name}: got {type(part).__name__}; expected a Ratings")
    for ids in ("user_ids", "item_ids"):
        own, others = getattr(part, ids), getattr(whole, ids)
        if own is not others and not np.array_equal(own, others):
            raise ValueError(
                f"{name}: its users or films are not those the model was fitted on; expected parts of one "
                "data set, as the functions of splits make them"
            )


def _user_codes(ratings, users):
    codes = ratings.encode_users(users)
    if (codes < 0).any():
        raise ValueError(f"users: got {np.asarray(users)[codes < 0][0]}; expected ids of the data set")
    return codes


def list_summary(ranking, train):
    """What the recommended lists are like, beside how well they hit.

    Parameters
    ----------
    ranking : metrics.Ranking
    train : Ratings
        The training part.

    Returns
    -------
    Series
        coverage, exposure_gini, novelty (bits) and, where films have genres, diversity (of
        genres); see the functions of `metrics`. NaN, but for coverage, if all lists are empty.
    """
    shown = metrics.exposure(ranking.lists, train.n_items)
    found = {
        "coverage": metrics.coverage(ranking.lists, train.n_items),
        "exposure_gini": metrics.gini(shown) if shown.any() else np.nan,
        "novelty": _mean(metrics.novelty(ranking.lists, train.item_counts, train.n_users)),
    }
    if train.movies is not None and "genres" in train.movies.columns:
        found["diversity"] = _mean(metrics.intra_list_diversity(ranking.lists, _genres(train)))
    return pd.Series(found)


def _mean(values):
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else np.nan


def _genres(ratings):
    from ..data.items import genre_shares

    return genre_shares(ratings)[1]
