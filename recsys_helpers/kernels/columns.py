"""Predictions of the neighborhood models for many columns at once, see `neighbors` for rows and columns.

A prediction walks along the K neighbors of a row, most similar first, and uses those that the column has. Two
ways share that work among columns, and both add up the same numbers in the same order as the walk does:

- Together, where 64 columns hold many rows: one walk along the neighbors serves all of them. Each row has a
  word with a bit for each column that holds it, so what no column needs costs one look.
- Turned, where they hold few: the columns' rows mark, in the graph turned around, the places where they are a
  neighbor, and only what is marked is read.
"""

import numpy as np

from .compiling import njit
from .neighbors import put, weighted_mean
from .vectors import ones, trailing_zeros

WORD = 64  # columns that are scored together
FEWEST = 4  # with fewer columns nothing is shared

# Rows of all columns of a word, as a share of the graph's rows, from which on they are scored together.
TOGETHER = 0.5
# Columns with up to this share of all rows look their rows up in the turned graph; for fuller ones the
# first neighbors of a row are found sooner by walking along it.
THIN = 0.1


@njit
def _turn(first, stop, codes):
    """Rows first ... stop - 1 of a graph, turned: where each row is somebody's neighbor.

    Returns
    -------
    starts : ndarray of int64, shape (n + 1,)
    places : ndarray of int32
        places[starts[j] : starts[j + 1]] are the bits 64 words (row - first) + p for which row j is
        neighbor number p of a row; `words` words hold the K neighbors of a row.
    """
    n, k = codes.shape
    words = (k + 63) // 64
    starts = np.zeros(n + 1, np.int64)
    for row in range(first, stop):
        for p in range(k):
            if codes[row, p] < 0:
                break
            starts[codes[row, p] + 1] += 1
    for j in range(n):
        starts[j + 1] += starts[j]
    places = np.empty(starts[n], np.int32)
    cursor = starts[:-1].copy()
    for row in range(first, stop):
        for p in range(k):
            j = codes[row, p]
            if j < 0:
                break
            places[cursor[j]] = (row - first) * words * 64 + p
            cursor[j] += 1
    return starts, places


@njit(inline="always")
def _mean_of_bits(bits, at, words, codes, values, dense, n_neighbors):
    """`weighted_mean` over the neighbors whose bits are set; clears the bits."""
    top, bottom, found = 0.0, 0.0, 0
    for w in range(words):
        word = bits[at + w]
        if word == np.uint64(0):
            continue
        bits[at + w] = np.uint64(0)
        while word != np.uint64(0) and found < n_neighbors:
            p = w * 64 + trailing_zeros(word)
            word &= word - np.uint64(1)
            top += np.float64(values[p]) * dense[codes[p]]
            bottom += np.float64(values[p])
            found += 1
    return (top / bottom if found else 0.0), found


@njit
def _lay_out(columns, column_indptr, column_indices, deviations, n):
    """Up to 64 columns side by side.

    Returns
    -------
    marks : ndarray of uint64, shape (2 n,)
        Bit c of marks[2 j] is set if columns[c] holds row j. Beside it marks[2 j + 1], where its values
        begin: what is looked up together lies together.
    side : ndarray of float32
        The values of row j, one for each bit, in the order of the bits.
    """
    marks = np.zeros(2 * n, np.uint64)
    for c in range(len(columns)):
        for t in range(column_indptr[columns[c]], column_indptr[columns[c] + 1]):
            marks[2 * column_indices[t]] |= np.uint64(1) << np.uint64(c)
    cursor = np.empty(n, np.int64)
    total = 0
    for j in range(n):
        cursor[j] = total
        marks[2 * j + 1] = total
        total += ones(marks[2 * j])
    side = np.empty(total, np.float32)
    for c in range(len(columns)):
        for t in range(column_indptr[columns[c]], column_indptr[columns[c] + 1]):
            j = column_indices[t]
            side[cursor[j]] = deviations[t]
            cursor[j] += 1
    return marks, side


@njit
def _score_together(
    first, stop, members, columns, column_indptr, column_indices, deviations, codes, values, n_neighbors,
    min_neighbors, offset, scale, on_top, out,
):  # fmt: skip
    """`score_columns` for up to 64 of the columns, whose places are `members`: one walk along each row."""
    n, k = codes.shape
    marks, side = _lay_out(columns[members], column_indptr, column_indices, deviations, n)
    top, bottom, found = np.zeros(WORD), np.zeros(WORD), np.zeros(WORD, np.int64)
    everyone = ~np.uint64(0) >> np.uint64(WORD - len(members))
    for row in range(first, stop):
        near, similarities = codes[row], values[row]
        wanting = everyone  # columns that have not found enough neighbors
        for p in range(k):
            if near[p] < 0:
                break
            j = np.uintp(2) * np.uintp(near[p])
            word = marks[j] & wanting
            weight = np.float64(similarities[p])
            while word != np.uint64(0):
                c = np.uintp(trailing_zeros(word))
                bit = word & (~word + np.uint64(1))
                word ^= bit
                place = marks[j + np.uintp(1)] + np.uint64(ones(marks[j] & (bit - np.uint64(1))))
                top[c] += weight * side[place]
                bottom[c] += weight
                found[c] += 1
                if found[c] == n_neighbors:
                    wanting ^= bit
            if wanting == np.uint64(0):
                break
        for c in range(len(members)):
            mean = top[c] / bottom[c] if found[c] else 0.0
            put(out[members[c]], row, mean, found[c], min_neighbors, offset[row], scale[row], on_top)
            top[c], bottom[c], found[c] = 0.0, 0.0, 0


@njit
def _score_apart(
    first, stop, members, columns, column_indptr, column_indices, deviations, codes, values, n_neighbors,
    min_neighbors, offset, scale, on_top, out, starts, places,
):  # fmt: skip
    """`score_columns` for columns one by one; without `places` of the turned graph, by walking only."""
    n, k = codes.shape
    words = (k + 63) // 64
    bits = np.zeros((stop - first) * words, np.uint64)
    dense = np.full(n, np.nan, np.float32)
    for b in members:
        start, end = column_indptr[columns[b]], column_indptr[columns[b] + 1]
        thin = len(places) > 0 and end - start <= THIN * n
        for t in range(start, end):
            j = column_indices[t]
            dense[j] = deviations[t]
            if thin:
                for s in range(starts[j], starts[j + 1]):
                    place = np.uint32(places[s])
                    bits[place >> np.uint32(6)] |= np.uint64(1) << np.uint64(place & np.uint32(63))
        for row in range(first, stop):
            if thin:
                at = (row - first) * words
                mean, found = _mean_of_bits(bits, at, words, codes[row], values[row], dense, n_neighbors)
            else:
                mean, found = weighted_mean(codes[row], values[row], dense, n_neighbors)
            put(out[b], row, mean, found, min_neighbors, offset[row], scale[row], on_top)
        for t in range(start, end):
            dense[column_indices[t]] = np.nan


@njit
def score_columns(
    first, stop, columns, column_indptr, column_indices, deviations, codes, values, n_neighbors,
    min_neighbors, offset, scale, on_top, out,
):  # fmt: skip
    """Predictions of rows first ... stop - 1 for several columns; the sums are those of `predict`.

    Parameters
    ----------
    first, stop : int
        Rows of the graph; calls may run side by side.
    columns : ndarray of int32, shape (B,)
        -1 for a column of which nothing is known.
    column_indptr, column_indices, deviations : ndarray
        CSR of the columns with the values z to average.
    codes, values : ndarray of int32 and float32, shape (n, K)
        The graph.
    n_neighbors, min_neighbors : int
        Neighbors to use at most and at least.
    offset, scale : ndarray of float64, shape (n,)
        A mean m becomes offset + scale m, or, `on_top`, what was in `out` + scale m.
    on_top : bool
        See there.
    out : ndarray of float64, shape (B, n)
        Holds the fallbacks, which stay where a prediction rests on too few neighbors.

    Notes
    -----
    Columns are taken in the order of their sizes, so that those which find enough neighbors early end
    their walk together. Memory: for columns together 16 bytes a row and 4 a value; else, where the graph
    is turned, K numbers of 4 bytes for each row of this call, and 12 n bytes.
    """
    n = len(codes)
    sizes = np.full(len(columns), -1, np.int64)
    for b in range(len(columns)):
        if columns[b] >= 0:
            sizes[b] = column_indptr[columns[b] + 1] - column_indptr[columns[b]]
    order = np.argsort(sizes)
    order = order[sizes[order] >= 0]
    starts, places = np.zeros(1, np.int64), np.zeros(0, np.int32)
    for at in range(0, len(order), WORD):
        members = order[at : at + WORD]
        if len(members) >= FEWEST and sizes[members].sum() >= TOGETHER * n:
            _score_together(
                first, stop, members, columns, column_indptr, column_indices, deviations, codes, values,
                n_neighbors, min_neighbors, offset, scale, on_top, out,
            )  # fmt: skip
            continue
        if len(order) >= FEWEST and len(places) == 0:
            starts, places = _turn(first, stop, codes)
        _score_apart(
            first, stop, members, columns, column_indptr, column_indices, deviations, codes, values,
            n_neighbors, min_neighbors, offset, scale, on_top, out, starts, places,
        )  # fmt: skip
