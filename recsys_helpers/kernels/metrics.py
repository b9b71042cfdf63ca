"""Ranking metrics of many users at once: mask, select the best K, and score the list, row by row.

A row is one user. The lists of relevant and of seen films come as CSR arrays with ascending codes.
No row is sorted: the list comes out of a heap that most scores only touch with one comparison, and
the rank of a relevant film is a count of the scores above it.

Equal scores are put in an order of the row's own: each film has a place number, a hash of seed, row
and film above the film's code, and the smaller one comes first. Without hashing it is the code alone.

The functions release Python's lock and are cached; threads share the work by taking ranges of rows.
"""

import numpy as np
from numba import types

from .compiling import njit
from .hashing import STEP, mixed
from .heap import finish, offer

AT_K = 8  # metrics of a list, in the order of `_score_list`
WHOLE = 2  # metrics without a cut-off, in the order of `_score_ranks`
_CODE = np.int64(0xFFFFFFFF)


@njit
def rank_rows(
    first, stop, offset, scores, numbers, seed, hashed, seen_indptr, seen_indices, indptr, indices, gains,
    discounts, cutoffs, full, lists, out, whole, ranks,
):  # fmt: skip
    """Rank the films of rows first ... stop - 1, and score the ranking.

    Parameters
    ----------
    offset : int
        Row of the CSR arrays, and of the outputs, that belongs to row 0 of `scores`.
    scores : ndarray of float, shape (B, n)
        NaN and -inf are never listed.
    numbers : ndarray of int64, shape (m,)
        What tells a row from others when ties are broken.
    seed : uint64
        Of the order of equal scores.
    hashed : bool
        Whether that order is drawn; otherwise the smaller code comes first.
    seen_indptr, seen_indices : ndarray of int
        Films that may not be listed.
    indptr, indices, gains : ndarray
        Relevant films with their gains, above 0.
    discounts : ndarray of float64, shape (K,)
        1 / log2(1 + rank).
    cutoffs : ndarray of int64, shape (C,)
        Lengths of lists to score, K the largest.
    full : bool
        Also compute the rank of every relevant film, and the metrics without a cut-off.
    lists : ndarray of int32, shape (m, K)
        Codes, best first; -1 where nothing is left to list.
    out : ndarray of float64, shape (m, C, AT_K)
        NaN for a row without relevant films.
    whole : ndarray of float64, shape (m, WHOLE)
        The same.
    ranks : ndarray of int32, aligned with `indices`
        From 1; 0 for a film that may not be listed.

    Notes
    -----
    n comparisons a row for the list; 2 n r more for the ranks of r relevant films, several in one vector
    instruction. Scratch memory: n scores, n gains and n place numbers.
    """
    n = scores.shape[1]
    k = lists.shape[1]
    minus = scores.dtype.type(-np.inf)
    row = np.empty(n, scores.dtype)
    gain_of = np.zeros(n)
    places = np.empty(n, np.int64)
    values = np.empty(k, scores.dtype)
    best = np.empty(k, np.int64)
    for b in range(first, stop):
        u = offset + b
        for i in range(n):
            row[i] = scores[b, i]
        for s in range(seen_indptr[u], seen_indptr[u + 1]):
            row[seen_indices[s]] = minus
        state = mixed(seed + np.uint64(numbers[u]) * STEP)
        size = _select(row, minus, state, hashed, values, best)
        for at in range(k):
            lists[u, at] = best[at] & _CODE if at < size else -1
        start, end = indptr[u], indptr[u + 1]
        if start == end:
            out[u] = np.nan
            whole[u] = np.nan
            continue
        _score_cutoffs(
            lists[u, :size], indices[start:end], gains[start:end], gain_of, discounts, cutoffs, out[u]
        )
        if full:
            _rank_relevant(row, minus, state, hashed, places, indices[start:end], ranks[start:end])
            _score_ranks(ranks[start:end], whole[u])


@njit
def score_lists(lists, n, indptr, indices, gains, discounts, cutoffs, out):
    """The metrics at each cut-off of ready-made lists; arrays as in `rank_rows`."""
    gain_of = np.zeros(n)
    for u in range(len(lists)):
        start, end = indptr[u], indptr[u + 1]
        if start == end:
            out[u] = np.nan
            continue
        size = 0
        while size < lists.shape[1] and lists[u, size] >= 0:
            size += 1
        _score_cutoffs(
            lists[u, :size], indices[start:end], gains[start:end], gain_of, discounts, cutoffs, out[u]
        )


@njit(inline="always")
def _place(state, hashed, code):
    """The place number of a film: a hash of 31 bits, if there is one, above the code."""
    if not hashed:
        return np.int64(code)
    z = mixed(state + np.uint64(code) * STEP)
    return np.int64((z >> np.uint64(33)) << np.uint64(32)) | np.int64(code)


@njit
def _select(row, minus, state, hashed, values, places):
    """The K best scores of a row, best first, by place number; returns how many there are."""
    k, n = len(values), len(row)
    size, at = 0, 0
    while at < n and size < k:
        if row[at] > minus:  # false for NaN, too
            size = offer(values, places, size, row[at], _place(state, hashed, at))
        at += 1
    if size == k:
        bar = values[0]
        for i in range(at, n):
            # Without hashing, a later film that is just as good has the larger code.
            if row[i] > bar or (hashed and row[i] == bar):
                offer(values, places, size, row[i], _place(state, hashed, i))
                bar = values[0]
    finish(values, places, size)
    return size


@njit
def _score_cutoffs(codes, relevant, gains, gain_of, discounts, cutoffs, out):
    """The metrics of a list at each cut-off; `gain_of` comes and is left all zero."""
    for s in range(len(relevant)):
        gain_of[relevant[s]] = gains[s]
    best = np.sort(gains)[::-1]
    for c in range(len(cutoffs)):
        k = cutoffs[c]
        _score_list(codes[: min(k, len(codes))], gain_of, best, discounts[:k], out[c])
    for s in range(len(relevant)):
        gain_of[relevant[s]] = 0.0


@njit
def _score_list(codes, gain_of, best, discounts, out):
    k, n_relevant = len(discounts), len(best)
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
    ideal, graded_ideal = 0.0, 0.0
    for at in range(min(k, n_relevant)):
        ideal += discounts[at]
        graded_ideal += best[at] * discounts[at]
    out[0] = hits / k
    out[1] = hits / n_relevant
    out[2] = hits / min(k, n_relevant)
    out[3] = 1.0 if hits else 0.0
    out[4] = precisions / n_relevant
    out[5] = 1.0 / first if first else 0.0
    out[6] = binary / ideal
    out[7] = graded / graded_ideal


@njit
def _rank_relevant(row, minus, state, hashed, places, relevant, ranks):
    """1 + the number of films ahead of each relevant one: one vectorized count for each.

    Place numbers are written down for the whole row once a film has equals.
    """
    written = False
    for s in range(len(relevant)):
        i = relevant[s]
        score = row[i]
        if not score > minus:
            ranks[s] = 0
            continue
        above, equal = _count(row, score)
        if equal > 1:
            if not written:
                for j in range(len(row)):
                    places[j] = _place(state, hashed, j)
                written = True
            above += _count_ties(row, score, places, places[i])
        ranks[s] = 1 + above


# Sums of 32 bits fill a vector with as many counts as scores; Numba would make them 64 of its own accord.
@njit(locals={"above": types.int32, "equal": types.int32})
def _count(row, score):
    above = np.int32(0)
    equal = np.int32(0)
    for i in range(len(row)):
        above += np.int32(row[i] > score)
        equal += np.int32(row[i] == score)
    return above, equal


@njit(locals={"count": types.int32})
def _count_ties(row, score, places, own):
    count = np.int32(0)
    for i in range(len(row)):
        count += np.int32((row[i] == score) & (places[i] < own))
    return count


@njit
def _score_ranks(ranks, out):
    ordered = np.sort(ranks)
    precisions, hits, first = 0.0, 0, 0
    for rank in ordered:
        if rank > 0:
            hits += 1
            if hits == 1:
                first = rank
            precisions += hits / rank
    out[0] = precisions / len(ranks)
    out[1] = 1.0 / first if first else 0.0


@njit
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
