"""Ranking metrics of many users at once: mask, select the best K, and score the list, row by row.

A row is one user. The lists of relevant and of seen films come as CSR arrays with ascending codes.
No row is sorted: the list comes out of a heap that most scores only touch with one comparison, and
the rank of a relevant film is a count of the scores above it.

The functions release Python's lock and are cached; threads share the work by taking ranges of rows.
"""

import numpy as np
from numba import njit

from .neighbors import _finish, _offer

# Columns of `out`, in this order.
NAMES = (
    "precision",
    "recall",
    "hit_rate",
    "average_precision",
    "reciprocal_rank",
    "ndcg",
    "graded_ndcg",
    "full_average_precision",
    "full_reciprocal_rank",
)


@njit(nogil=True, cache=True)
def rank_rows(
    first, stop, offset, scores, seen_indptr, seen_indices, indptr, indices, gains, discounts, full,
    lists, out, ranks,
):  # fmt: skip
    """Rank the films of rows first ... stop - 1, and score the ranking.

    Parameters
    ----------
    offset : int
        Row of the CSR arrays, and of the outputs, that belongs to row 0 of `scores`.
    scores : ndarray of float, shape (B, n)
        NaN and -inf are never listed.
    seen_indptr, seen_indices : ndarray of int
        Films that may not be listed.
    indptr, indices, gains : ndarray
        Relevant films with their gains, above 0.
    discounts : ndarray of float64, shape (K,)
        1 / log2(1 + rank).
    full : bool
        Also compute the rank of every relevant film, and the metrics without a cut-off.
    lists : ndarray of int32, shape (m, K)
        Codes, best first, the smaller code first on a tie; -1 where nothing is left to list.
    out : ndarray of float64, shape (m, len(NAMES))
        NaN for a row without relevant films.
    ranks : ndarray of int32, aligned with `indices`
        From 1; 0 for a film that may not be listed.

    Notes
    -----
    n comparisons a row for the list; n r more for the ranks of r relevant films, several in one vector
    instruction. Scratch memory: n scores and n gains.
    """
    n = scores.shape[1]
    k = lists.shape[1]
    minus = scores.dtype.type(-np.inf)
    row = np.empty(n, scores.dtype)
    gain_of = np.zeros(n)
    values = np.empty(k, scores.dtype)
    codes = np.empty(k, np.int32)
    for b in range(first, stop):
        u = offset + b
        for i in range(n):
            row[i] = scores[b, i]
        for s in range(seen_indptr[u], seen_indptr[u + 1]):
            row[seen_indices[s]] = minus
        size = _select(row, minus, values, codes)
        lists[u] = codes
        start, end = indptr[u], indptr[u + 1]
        if start == end:
            out[u] = np.nan
            continue
        for s in range(start, end):
            gain_of[indices[s]] = gains[s]
        _score_list(codes[:size], gain_of, gains[start:end], discounts, out[u])
        for s in range(start, end):
            gain_of[indices[s]] = 0.0
        if full:
            _rank_relevant(row, minus, indices[start:end], ranks[start:end])
            _score_ranks(ranks[start:end], out[u])


@njit(nogil=True, cache=True)
def score_lists(lists, n, indptr, indices, gains, discounts, out):
    """The metrics at K of ready-made lists; arrays as in `rank_rows`, `out` without the last two columns."""
    gain_of = np.zeros(n)
    for u in range(len(lists)):
        start, end = indptr[u], indptr[u + 1]
        if start == end:
            out[u] = np.nan
            continue
        for s in range(start, end):
            gain_of[indices[s]] = gains[s]
        size = 0
        while size < lists.shape[1] and lists[u, size] >= 0:
            size += 1
        _score_list(lists[u, :size], gain_of, gains[start:end], discounts, out[u])
        for s in range(start, end):
            gain_of[indices[s]] = 0.0


@njit(nogil=True, cache=True)
def _select(row, minus, values, codes):
    """The K best scores of a row, best first; returns how many there are."""
    k, n = len(values), len(row)
    size, at = 0, 0
    while at < n and size < k:
        if row[at] > minus:  # false for NaN, too
            size = _offer(values, codes, size, row[at], np.int32(at))
        at += 1
    if size == k:
        bar = values[0]
        for i in range(at, n):
            # A later film has the larger code, so it must be better, not just as good.
            if row[i] > bar:
                _offer(values, codes, size, row[i], np.int32(i))
                bar = values[0]
    _finish(values, codes, size)
    return size


@njit(nogil=True, cache=True)
def _score_list(codes, gain_of, gains, discounts, out):
    k, n_relevant = len(discounts), len(gains)
    hits, first, precisions, binary, graded = 0, 0, 0.0, 0.0, 0.0
    for at in range(len(codes)):
        gain = gain_of[codes[at]]
        if gain > 0:
            hits += 1
            if hits == 1:
                first = at + 1
            precisions += hits / (at + 1)
            binary += discounts[at]
            graded += gain * discounts[at]
    best = np.sort(gains)[::-1]
    ideal, graded_ideal = 0.0, 0.0
    for at in range(min(k, n_relevant)):
        ideal += discounts[at]
        graded_ideal += best[at] * discounts[at]
    out[0] = hits / k
    out[1] = hits / n_relevant
    out[2] = 1.0 if hits else 0.0
    out[3] = precisions / n_relevant
    out[4] = 1.0 / first if first else 0.0
    out[5] = binary / ideal
    out[6] = graded / graded_ideal


@njit(nogil=True, cache=True)
def _rank_relevant(row, minus, relevant, ranks):
    """1 + the number of films ahead of each relevant one: one vectorized count for each."""
    for s in range(len(relevant)):
        i = relevant[s]
        score = row[i]
        if score > minus:
            ranks[s] = 1 + _count(row[:i], score, True) + _count(row[i + 1 :], score, False)
        else:
            ranks[s] = 0


@njit(nogil=True, cache=True)
def _count(row, score, ties):
    count = np.int32(0)
    if ties:  # of equal scores, the smaller code is ahead
        for i in range(len(row)):
            count += np.int32(row[i] >= score)
    else:
        for i in range(len(row)):
            count += np.int32(row[i] > score)
    return count


@njit(nogil=True, cache=True)
def _score_ranks(ranks, out):
    ordered = np.sort(ranks)
    precisions, hits, first = 0.0, 0, 0
    for rank in ordered:
        if rank > 0:
            hits += 1
            if hits == 1:
                first = rank
            precisions += hits / rank
    out[7] = precisions / len(ranks)
    out[8] = 1.0 / first if first else 0.0


@njit(nogil=True, cache=True)
def list_distances(lists, features, out):
    """Mean of 1 - x . y over the pairs of each list; rows of `features` have length 1 or 0.

    NaN for a list of fewer than two films. O(K d) a list: the sum of x . y over the pairs follows
    from the length of the sum vector.
    """
    d = features.shape[1]
    total = np.empty(d)
    for u in range(len(lists)):
        total[:] = 0.0
        own, count = 0.0, 0
        for at in range(lists.shape[1]):
            i = lists[u, at]
            if i < 0:
                continue
            count += 1
            for f in range(d):
                total[f] += features[i, f]
                own += features[i, f] * features[i, f]
        if count < 2:
            out[u] = np.nan
            continue
        pairs = 0.0
        for f in range(d):
            pairs += total[f] * total[f]
        out[u] = 1.0 - (pairs - own) / (count * (count - 1))
