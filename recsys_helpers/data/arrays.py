"""Columns of arrays to codes, repeated pairs merged, rows sorted: what `Ratings` is made of."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

_BLOCK = 1 << 16  # rows at a time, so that temporaries stay in cache


def frozen(array, dtype=None):
    """The array read-only; copies only where the type has to change."""
    array = np.asarray(array, dtype=dtype)
    if not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view


def blocks(length):
    """Slices that cover so many rows."""
    return (slice(at, at + _BLOCK) for at in range(0, length, _BLOCK))


def encode_whole(ids, overwrite=False):
    """Sorted unique whole numbers and the int32 code of each row.

    Parameters
    ----------
    ids : ndarray of int, shape (nnz,)
        At least one.
    overwrite : bool
        Codes may take the place of int32 ids: at 32 million ratings the time goes into touching
        fresh memory.

    Returns
    -------
    unique : ndarray of int64 or uint64
        uint64 where `ids` is.
    codes : ndarray of int32, shape (nnz,)

    Notes
    -----
    Ids that lie as dense as those of MovieLens are looked up in a table of max - min + 1 cells, which is
    both faster than hashing and small: O(nnz). Others are hashed, and the unique ones sorted.
    """
    low, high = int(ids.min()), int(ids.max())
    wide = np.uint64 if ids.dtype == np.uint64 else np.int64
    room = max(4 * len(ids), 1 << 20)
    if high - low < room:
        if 0 <= low and high < room:
            low = 0  # nothing to subtract
        unique, codes = _by_table(ids, low, high - low + 1, wide, overwrite)
        return (unique.astype(wide) + wide(low)), codes
    codes, unique = pd.factorize(ids, sort=True)
    return np.asarray(unique).astype(wide, copy=False), codes.astype(np.int32)


def _by_table(ids, low, span, wide, overwrite):
    def cells(block):
        return ids[block] if low == 0 else ids[block].astype(wide, copy=False) - wide(low)

    seen = np.zeros(span, dtype=bool)
    for block in blocks(len(ids)):
        seen[cells(block)] = True
    unique = np.flatnonzero(seen)
    code_of = np.zeros(span, dtype=np.int32)
    code_of[unique] = np.arange(len(unique), dtype=np.int32)
    overwrite = overwrite and ids.dtype == np.int32 and ids.flags.writeable
    codes = ids if overwrite else np.empty(len(ids), dtype=np.int32)
    for block in blocks(len(ids)):
        codes[block] = code_of[cells(block)]
    return unique, codes


def row_number(rows, at):
    """The number of a row as messages give it.

    Parameters
    ----------
    rows : tuple (str, int or callable)
        The word for a row, and the number of the first or a function from a row, counted from 0, to its
        number.
    at : int
    """
    first = rows[1]
    return first(int(at)) if callable(first) else at + first


def name_row(rows, at):
    """A row as messages call it, such as "line 7"; arguments as for `row_number`."""
    return f"{rows[0]} {row_number(rows, at)}"


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
    origin : tuple
        What was read, and how messages point at a row, see `row_number`.

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
        label, *rows = origin
        at = int(np.argmin(first))
        one, other = np.sort(order[at - 1 : at + 1])
        raise ValueError(
            f"{label}: {dropped} repeated (user, item) pair(s), the first of them "
            f"({user_ids[user[one]]}, {item_ids[item[one]]}) in {rows[0]}s {row_number(rows, one)} and "
            f"{row_number(rows, other)}; "
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
