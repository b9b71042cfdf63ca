"""Columns of arrays to codes, repeated pairs merged, rows sorted: what `Ratings` is made of."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array


def frozen(array, dtype=None):
    """The array read-only; copies only where the type has to change."""
    array = np.asarray(array, dtype=dtype)
    if not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view


def encode_whole(ids, overwrite=False):
    """Sorted unique ids and the int32 code of each row, for whole numbers.

    MovieLens ids are small and dense, so a lookup table of max(id) + 1 cells is
    both faster than a sort and small; sparse ids fall back to the sort. With
    `overwrite` the codes take the place of int32 ids: at 32 million ratings the
    time goes into touching fresh memory.
    """
    low, top = int(ids.min()), int(ids.max()) + 1
    if low >= 0 and top <= max(4 * len(ids), 1 << 20):
        # In blocks, so that temporaries stay in cache.
        blocks = [slice(at, at + (1 << 16)) for at in range(0, len(ids), 1 << 16)]
        seen = np.zeros(top, dtype=bool)
        for block in blocks:
            seen[ids[block]] = True
        unique = np.flatnonzero(seen)
        code_of = np.zeros(top, dtype=np.int32)
        code_of[unique] = np.arange(len(unique), dtype=np.int32)
        codes = ids if overwrite and ids.dtype == np.int32 else np.empty(len(ids), dtype=np.int32)
        for block in blocks:
            codes[block] = code_of[ids[block]]
        return unique.astype(ids.dtype, copy=False), codes
    unique, codes = np.unique(ids, return_inverse=True)
    return unique, codes.astype(np.int32)


def strictly_sorted(rows, columns):
    """Whether the pairs ascend, which also means that none repeats; one byte a pair of memory."""
    ascends = columns[1:] > columns[:-1]
    ascends &= rows[1:] == rows[:-1]
    ascends |= rows[1:] > rows[:-1]
    return bool(ascends.all())


def merge_duplicates(user, item, values, stamps, policy, user_ids, item_ids, origin):
    """One row a pair, as the policy says.

    Parameters
    ----------
    user, item : ndarray of int32, shape (nnz,)
    values, stamps : ndarray, shape (nnz,)
        `stamps` may be None.
    policy : {"error", "last", "mean"}
    user_ids, item_ids : ndarray
        For the message.
    origin : tuple (str, str, int)
        What was read, the word for a row, and the number of the first.

    Returns
    -------
    user, item, values, stamps, n_dropped
    """
    if strictly_sorted(user, item):  # as MovieLens files are
        return user, item, values, stamps, 0
    key = user.astype(np.int64) * len(item_ids) + item
    order = np.argsort(key, kind="stable")
    key = key[order]
    first = np.ones(len(key), dtype=bool)
    np.not_equal(key[1:], key[:-1], out=first[1:])
    dropped = int(len(key) - first.sum())
    if dropped == 0:
        return user, item, values, stamps, 0
    if policy == "error":
        label, word, offset = origin
        at = int(np.argmin(first))
        one, other = np.sort(order[at - 1 : at + 1])
        raise ValueError(
            f"{label}: {dropped} repeated (user, item) pair(s), the first of them "
            f"({user_ids[user[one]]}, {item_ids[item[one]]}) in {word}s {one + offset} and {other + offset}; "
            "pass duplicates='last' or duplicates='mean' to merge them"
        )
    starts = np.flatnonzero(first)
    group = np.cumsum(first) - 1
    if stamps is None:
        last = np.append(starts[1:], len(key)) - 1
    else:
        # Within a pair the latest timestamp wins, the later row on a tie.
        by_time = np.lexsort((order, stamps[order], group))
        last = by_time[np.append(starts[1:], len(key)) - 1]
    last = order[last]
    merged = values[last]
    if policy == "mean":
        merged = np.add.reduceat(values[order], starts, dtype=np.float64) / np.bincount(group)
    keep = np.minimum.reduceat(order, starts)
    back = np.argsort(keep)
    keep, last, merged = keep[back], last[back], merged[back]
    return user[keep], item[keep], merged, None if stamps is None else stamps[last], dropped


def csr(rows, columns, values, shape):
    """CSR with sorted columns; shares the columns and values when already sorted."""
    indptr = np.zeros(shape[0] + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=shape[0]), out=indptr[1:])
    if len(values) < 2**31:
        indptr = indptr.astype(np.int32)
    if not strictly_sorted(rows, columns):
        order = np.argsort(rows.astype(np.int64) * shape[1] + columns, kind="stable")
        columns, values = columns[order], values[order]
    return read_only(csr_array((values, columns, indptr), shape=shape))


def read_only(matrix):
    """The sparse matrix with its three arrays read-only."""
    for array in (matrix.data, matrix.indices, matrix.indptr):
        array.flags.writeable = False
    return matrix
