"""Kernels of the neighborhood models: the K best neighbors of each row, and predictions from them.

A *row* is what gets neighbors (an item in item-based, a user in user-based filtering), a
*column* is the other side. Everything comes as two CSR matrices: the rows, and the columns
(the transpose).

How the graph is built. The similarities of one row to all others are one row of a sparse
product: walk over its columns, and over the rows in each of these columns, and add into a
dense accumulator (Gustavson 1978, "Two fast algorithms for sparse matrices", ACM TOMS 4(3)).
That is one multiply-add for each pair of ratings in a column, sum_c n_c^2 in all, and each
waits for a scattered load and a store. Two things make it several times faster:

- Rows are relabeled by popularity, so that the accumulators which are hit most lie together
  and stay in the nearest caches.
- LANES consecutive rows are handled in one pass: the accumulator holds LANES values side by
  side, and one vector instruction adds to all of them. A column which holds several of these
  rows - popular films share most of their raters - is walked once and not once per row.

Each sum runs over the columns in ascending order, so a similarity has the same bits in both
directions, and whatever the number of threads.

How everything is ranked. A prediction looks through the K neighbors of a row, most similar first,
for the few that a column has: K look-ups, of which most find nothing. All predictions of a row or of
a column share work, see `score_rows` and `columns.score_columns`.
"""

import numpy as np

from .compiling import njit
from .heap import finish, offer
from .vectors import LANES, add_lanes

TILE = 256  # columns whose lanes are laid out at a time
CHUNK = 64  # accumulators are searched and cleared in chunks that were touched

# What is accumulated for a pair of rows: 1 to 6 sums over their common columns.
DOT, DOT_COUNT, CO_COSINE, CO_PEARSON = 1, 2, 4, 6

_NO_VARIANCE = 1e-12  # share of the sum of squares; a smaller variance is rounding, the ratings were equal


# ---- before the start -----------------------------------------------------------


@njit
def count_steps(order, row_indptr, row_indices, column_indptr):
    """The work of each group of LANES rows.

    Parameters
    ----------
    order : ndarray of int32, shape (n,)
        Rows by falling number of ratings.
    row_indptr, row_indices : ndarray
        CSR of the rows.
    column_indptr : ndarray
        CSR row starts of the columns.

    Returns
    -------
    single, grouped : ndarray of int64, shape (ceil(n / LANES),)
        Multiply-adds if the group were done row by row, and steps of LANES multiply-adds done
        in one pass.
    """
    n_groups = (len(order) + LANES - 1) // LANES
    single = np.zeros(n_groups, np.int64)
    grouped = np.zeros(n_groups, np.int64)
    seen = np.full(len(column_indptr) - 1, -1, np.int32)
    for g in range(n_groups):
        for p in range(g * LANES, min((g + 1) * LANES, len(order))):
            row = order[p]
            for t in range(row_indptr[row], row_indptr[row + 1]):
                column = row_indices[t]
                length = column_indptr[column + 1] - column_indptr[column]
                single[g] += length
                if seen[column] != g:
                    seen[column] = g
                    grouped[g] += length
    return single, grouped


@njit
def relabel(indices, label, out):
    """out[t] = label[indices[t]]."""
    for t in range(len(indices)):
        out[t] = label[indices[t]]


@njit
def deviations(
    indptr, indices, values, outer_offset, inner_offset, outer_scale, inner_scale, least, out
):  # fmt: skip
    """out = (value - (outer_offset + inner_offset)) / (outer_scale inner_scale), each entry of a CSR matrix.

    The outer index is the row of the matrix, the inner one its column. What is not
    above `least` is rounding in the offsets and becomes 0, so that a constant row has no direction at
    all rather than a random one.
    """
    for outer in range(len(indptr) - 1):
        for t in range(indptr[outer], indptr[outer + 1]):
            inner = indices[t]
            deviation = values[t] - (outer_offset[outer] + inner_offset[inner])
            out[t] = deviation / (outer_scale[outer] * inner_scale[inner]) if abs(deviation) > least else 0.0


@njit
def inverse_norms(indptr, values, order):
    """1 / (Euclidean norm) of the CSR rows in the given order, 0 for a row of zeros."""
    out = np.zeros(len(order))
    for p in range(len(order)):
        total = 0.0
        for t in range(indptr[order[p]], indptr[order[p] + 1]):
            total += np.float64(values[t]) * np.float64(values[t])
        if total > 0.0:
            out[p] = 1.0 / np.sqrt(total)
    return out


# ---- similarity from the sums --------------------------------------------------


@njit(inline="always")
def _similarity(sums, at, kind, norm, shrink, min_support):
    """Similarity from the sums at sums[at], sums[at + LANES], ...; 0 where it is not defined.

    `norm` is 1 / (|x| |y|) and used by the two kinds whose norms run over all ratings.
    """
    step = np.uintp(LANES)
    dot = np.float64(sums[at])
    if kind == DOT:
        return np.float32(min(1.0, max(-1.0, dot * norm)))
    count = np.float64(sums[at + step])
    if count < min_support:
        return np.float32(0.0)
    if kind == DOT_COUNT:
        value = dot * norm
    else:
        square_x = np.float64(sums[at + np.uintp(2) * step])
        square_y = np.float64(sums[at + np.uintp(3) * step])
        if kind == CO_PEARSON:
            sum_x, sum_y = sums[at + np.uintp(4) * step], sums[at + np.uintp(5) * step]
            energy_x, energy_y = count * square_x, count * square_y
            square_x, square_y = energy_x - sum_x * sum_x, energy_y - sum_y * sum_y
            if square_x <= _NO_VARIANCE * energy_x or square_y <= _NO_VARIANCE * energy_y:
                return np.float32(0.0)
            dot = count * dot - sum_x * sum_y
        if not (square_x > 0.0 and square_y > 0.0):
            return np.float32(0.0)
        value = dot / np.sqrt(square_x * square_y)
    return np.float32(min(1.0, max(-1.0, value)) * (count / (count + shrink)))


# ---- a group of rows ----------------------------------------------------------------


@njit
def _accumulate(
    rows, kind, row_indptr, row_indices, row_values, column_indptr, labels, column_values, sums, used, tile
):
    """Add up for LANES rows at once, into sums[(label * kind + statistic) * LANES + lane].

    The columns are taken TILE at a time, in ascending order: first the rows lay out their
    values (and, where needed, a 1 and the square) in `tile`, one lane for each row; then every
    column that any of them has is walked once. `tile` comes and is left all zero.
    """
    number = sums.dtype.type
    one = number(1)
    width = np.uintp(LANES if kind == DOT else 3 * LANES)
    n_columns = len(column_indptr) - 1
    cursor = np.empty(LANES, np.int64)
    for lane in range(len(rows)):
        cursor[lane] = row_indptr[rows[lane]]
    hit = np.zeros(TILE, np.bool_)
    for first in range(0, n_columns, TILE):
        for lane in range(len(rows)):
            t, end = cursor[lane], row_indptr[rows[lane] + 1]
            while t < end and row_indices[t] < first + TILE:
                slot = np.uintp(row_indices[t] - first)
                hit[slot] = True
                x = number(row_values[t])
                at = slot * width + np.uintp(lane)
                tile[at] = x
                if kind > DOT:
                    tile[at + np.uintp(LANES)] = one
                    tile[at + np.uintp(2 * LANES)] = x * x
                t += 1
            cursor[lane] = t
        for slot in range(min(TILE, n_columns - first)):
            if not hit[slot]:
                continue
            hit[slot] = False
            x = np.uintp(slot) * width
            ones, squares = x + np.uintp(LANES), x + np.uintp(2 * LANES)
            start = np.uintp(column_indptr[first + slot])
            end = np.uintp(column_indptr[first + slot + 1])
            if kind == DOT:
                for s in range(start, end):
                    other = np.uintp(labels[s])
                    used[other // np.uintp(CHUNK)] = True
                    add_lanes(sums, other * np.uintp(LANES), tile, x, number(column_values[s]))
                tile[x : x + width] = 0
                continue
            for s in range(start, end):
                other, y = np.uintp(labels[s]), number(column_values[s])
                used[other // np.uintp(CHUNK)] = True
                at = other * np.uintp(kind * LANES)
                add_lanes(sums, at, tile, x, y)
                add_lanes(sums, at + np.uintp(LANES), tile, ones, one)
                if kind > DOT_COUNT:
                    add_lanes(sums, at + np.uintp(2 * LANES), tile, squares, one)
                    add_lanes(sums, at + np.uintp(3 * LANES), tile, ones, y * y)
                if kind > CO_COSINE:
                    add_lanes(sums, at + np.uintp(4 * LANES), tile, x, one)
                    add_lanes(sums, at + np.uintp(5 * LANES), tile, ones, y)
            tile[x : x + width] = 0


@njit
def _select(first, rows, kind, order, norms, shrink, min_support, floor, sums, used, out_codes, out_values):
    """Keep the best of the sums of each row, and set the sums back to zero."""
    n = len(order)
    size = np.zeros(LANES, np.int64)
    bar = np.full(LANES, floor, np.float32)
    # Where the norms are known before, dot / (|x| |y|) bounds the shrunken similarity from above.
    # One comparison of all lanes, rounded to the safe side, then dismisses most rows.
    bounded = kind <= DOT_COUNT
    bound = np.full(LANES, np.inf, np.float32)
    for lane in range(len(rows)):
        bound[lane] = _bound(floor, norms[first + lane])
    for chunk in range(len(used)):
        if not used[chunk]:
            continue
        used[chunk] = False
        for other in range(chunk * CHUNK, min((chunk + 1) * CHUNK, n)):
            start = np.uintp(other * kind * LANES)
            promising = not bounded
            if bounded:
                norm = np.float32(norms[other])
                for lane in range(LANES):
                    promising |= sums[start + np.uintp(lane)] * norm > bound[lane]
            if promising:
                for lane in range(len(rows)):
                    if other == first + lane:
                        continue
                    norm_product = norms[other] * norms[first + lane]
                    value = _similarity(sums, start + np.uintp(lane), kind, norm_product, shrink, min_support)
                    if value > floor and value >= bar[lane]:
                        row = rows[lane]
                        size[lane] = offer(out_values[row], out_codes[row], size[lane], value, order[other])
                        if size[lane] == out_values.shape[1]:
                            bar[lane] = out_values[row, 0]
                            bound[lane] = _bound(bar[lane], norms[first + lane])
            for at in range(np.uintp(kind * LANES)):
                sums[start + at] = 0
    for lane in range(len(rows)):
        finish(out_values[rows[lane]], out_codes[rows[lane]], size[lane])


@njit(inline="always")
def _bound(similarity, norm):
    return np.float32(similarity / norm * (1.0 - 1e-6)) if norm > 0 else np.float32(np.inf)


@njit
def graph(
    first_group, last_group, kind, order,
    row_indptr, row_indices, row_values, column_indptr, labels, column_values,
    norms, shrink, min_support, floor, zero, out_codes, out_values,
):  # fmt: skip
    """Fill in the K best neighbors of the rows in groups first_group ... last_group - 1.

    Parameters
    ----------
    first_group, last_group : int
        The groups of this call; groups are independent, and calls may run side by side.
    kind : int
        Number of sums: DOT, DOT_COUNT, CO_COSINE or CO_PEARSON.
    order : ndarray of int32, shape (n,)
        Row code of each label: rows by falling number of ratings.
    row_indptr, row_indices, row_values : ndarray
        CSR of the rows; column codes ascending in each.
    column_indptr, labels, column_values : ndarray
        CSR of the columns, with row labels in place of row codes.
    norms : ndarray of float64, shape (n,)
        1 / |x| for each label, 0 for a row of zeros.
    shrink, min_support, floor : float64, int64, float32
        Similarities are multiplied by count / (count + shrink), are 0 below min_support common
        columns, and are kept only above floor (not below 0).
    zero : scalar
        0 of the type to add up in.
    out_codes, out_values : ndarray of int32 and float32, shape (n, K)
        Neighbors, best first, the smaller code first on a tie; unused places -1 and 0.

    Notes
    -----
    Memory: kind x LANES numbers a row; no copy of the ratings.
    """
    n = len(order)
    sums = np.full(n * kind * LANES, zero)
    tile = np.full(TILE * 3 * LANES, zero)
    used = np.zeros((n + CHUNK - 1) // CHUNK, np.bool_)
    for g in range(first_group, last_group):
        first = g * LANES
        rows = order[first : min(first + LANES, n)]
        _accumulate(
            rows, kind, row_indptr, row_indices, row_values, column_indptr, labels, column_values,
            sums, used, tile,
        )  # fmt: skip
        _select(
            first, rows, kind, order, norms, shrink, min_support, floor, sums, used, out_codes, out_values
        )


@njit
def graph_of_one(
    own, own_values, kind, order, column_indptr, column_indices, column_values, norms, shrink, min_support,
    floor, zero, out_codes, out_values,
):  # fmt: skip
    """The K best neighbors, among the rows of a graph, of one row that is not in it.

    Parameters
    ----------
    own, own_values : ndarray of int32 and float, shape (l,)
        The columns that the row has, ascending, and its values there.
    order : ndarray of int32, shape (n,)
        0, 1, ..., n - 1: rows are not relabeled here.
    norms : ndarray of float64, shape (n + 1,)
        As in `graph`; the last is that of the row.
    out_codes, out_values : ndarray, shape (1, K)

    The others are those of `graph`. One pass over the columns of the row.
    """
    n = len(order)
    indptr = np.array([0, len(own)])
    rows = np.zeros(1, np.int32)
    sums = np.full(n * kind * LANES, zero)
    used = np.zeros((n + CHUNK - 1) // CHUNK, np.bool_)
    tile = np.full(TILE * 3 * LANES, zero)
    _accumulate(
        rows, kind, indptr, own, own_values, column_indptr, column_indices, column_values, sums, used, tile
    )
    _select(n, rows, kind, order, norms, shrink, min_support, floor, sums, used, out_codes, out_values)


# ---- predictions ------------------------------------------------------------------


@njit(inline="always")
def weighted_mean(codes, values, dense, n_neighbors):
    """Mean of the neighbors' deviations in the column, weighted by similarity, and how many they are."""
    top, bottom, found = 0.0, 0.0, 0
    for at in range(len(codes)):
        other = codes[at]
        if other < 0 or found == n_neighbors:
            break
        z = dense[other]
        if not np.isnan(z):
            top += np.float64(values[at]) * z
            bottom += np.float64(values[at])
            found += 1
    return (top / bottom if found else 0.0), found


@njit
def predict(
    first, stop, columns, starts, pairs, rows, column_indptr, column_indices, deviations,
    codes, values, n_neighbors, out, out_used,
):  # fmt: skip
    r"""Weighted mean deviation of the nearest neighbors of a row among the rows of a column.

    .. math:: \frac{\sum_{j \in N} s_{ij} z_{jc}}{\sum_{j \in N} s_{ij}}

    Parameters
    ----------
    first, stop : int
        The blocks of this call; calls may run side by side.
    columns, starts : ndarray of int, shape (n_blocks,) and (n_blocks + 1,)
        The pairs of column columns[b] are pairs[starts[b] : starts[b + 1]].
    pairs : ndarray of int, shape (n_pairs,)
        Positions in `rows` and `out`, ordered by column.
    rows : ndarray of int32, shape (n_pairs,)
        Row of each pair.
    column_indptr, column_indices, deviations : ndarray
        CSR of the columns with the values z to average.
    codes, values : ndarray of int32 and float32, shape (n, K)
        The graph.
    n_neighbors : int
        Neighbors to use at most.
    out, out_used : ndarray of float64 and int32, shape (n_pairs,)
        The means (0 where no neighbor is in the column) and the numbers of neighbors used.

    Notes
    -----
    At most K look-ups a pair, after laying out each column once. Memory: n float32.
    """
    dense = np.full(len(codes), np.nan, np.float32)
    for b in range(first, stop):
        start, end = column_indptr[columns[b]], column_indptr[columns[b] + 1]
        for t in range(start, end):
            dense[column_indices[t]] = deviations[t]
        for p in range(starts[b], starts[b + 1]):
            row = rows[pairs[p]]
            out[pairs[p]], out_used[pairs[p]] = weighted_mean(codes[row], values[row], dense, n_neighbors)
        for t in range(start, end):
            dense[column_indices[t]] = np.nan


@njit(inline="always")
def put(out, at, mean, found, min_neighbors, offset, scale, on_top):
    """out[at] becomes offset, or what it was, plus scale * mean; with too few neighbors it stays."""
    if found > 0 and found >= min_neighbors:
        out[at] = (out[at] if on_top else offset) + scale * mean


@njit
def score_rows(
    first, stop, near, similarities, row_indptr, row_indices, deviations, n_neighbors, min_neighbors,
    offset, scale, on_top, out,
):  # fmt: skip
    """Predictions of several rows for all columns; the sums are those of `predict`.

    Parameters
    ----------
    first, stop : int
        Which of the rows; calls may run side by side.
    near, similarities : ndarray of int32 and float32, shape (B, K)
        The neighbors of each of the rows, as in a graph; -1 in unused places.
    row_indptr, row_indices, deviations : ndarray
        CSR of all rows with the values z to average.
    offset, scale : ndarray of float64, shape (B,)
        As in `score_columns`.
    out : ndarray of float64, shape (B, columns)
        Holds the fallbacks.

    The others are those of `score_columns`.

    Notes
    -----
    Each neighbor adds all its columns in one go, most similar first, until a column has enough: work
    in proportion to the number of the neighbors' ratings. Memory: 20 bytes a column.
    """
    n_columns = out.shape[1]
    top, bottom, found = np.zeros(n_columns), np.zeros(n_columns), np.zeros(n_columns, np.int32)
    for b in range(first, stop):
        for p in range(near.shape[1]):
            other = near[b, p]
            if other < 0:
                break
            weight = np.float64(similarities[b, p])
            for t in range(row_indptr[other], row_indptr[other + 1]):
                column = row_indices[t]
                if found[column] < n_neighbors:
                    top[column] += weight * deviations[t]
                    bottom[column] += weight
                    found[column] += 1
        for column in range(n_columns):
            if found[column] > 0:
                mean = top[column] / bottom[column]
                put(out[b], column, mean, found[column], min_neighbors, offset[b], scale[b], on_top)
                top[column], bottom[column], found[column] = 0.0, 0.0, 0


@njit
def score_newcomer(
    own, deviations, codes, values, n_neighbors, min_neighbors, offset, scale, on_top, out
):  # fmt: skip
    """`score_columns` for one column that was not there: its rows and the values z, shape (l,); out (n,)."""
    dense = np.full(len(codes), np.nan, np.float32)
    dense[own] = deviations
    for row in range(len(codes)):
        mean, found = weighted_mean(codes[row], values[row], dense, n_neighbors)
        put(out, row, mean, found, min_neighbors, offset[row], scale[row], on_top)
