"""`Ratings`: the immutable table that every model is fitted on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from ..checks import check_choice

DUPLICATE_POLICIES = ("error", "last", "mean")


class Ratings:
    """Observed ratings, with ids translated to dense codes and back.

    Rows keep the order in which they came. A *code* is the position of an id in
    the sorted ids: users get codes 0 … m-1, items 0 … n-1. Only kernels and the
    inside of models see codes; this class is the one place that translates.

    Subsets made by `ratings[mask]` share the ids, the codes and the tables of the
    whole, so that a user code means the same user in train and in test, and a
    user whose every rating went to the other side still has a code.

    All arrays are read-only. Make one with `Ratings.from_frame` or
    `recsys_helpers.datasets.load_movielens`.

    Parameters
    ----------
    user_codes, item_codes : ndarray of int32, shape (nnz,)
        Codes into `user_ids` and `item_ids`.
    values : ndarray of float32, shape (nnz,)
        Ratings, in stars.
    timestamps : ndarray of int64, shape (nnz,), or None
        Seconds since 1970-01-01 UTC.
    user_ids, item_ids : ndarray of int, shape (m,) and (n,)
        Sorted unique ids.
    scale : tuple of float
        Lowest and highest possible rating.
    movies : DataFrame, optional
        One row per movieId; kept as it is.
    users : DataFrame, optional
        One row per userId; kept as it is.
    name : str
        Name of the data set, for display.
    n_duplicates : int
        How many rows the duplicate policy merged away.
    user_name, item_name : str
        What the columns of ids are called in tables that come out.

    Notes
    -----
    Memory: 12 bytes a rating, 20 with timestamps, and up to 16 more once both
    `by_user` and `by_item` have been asked for.
    """

    def __init__(
        self,
        user_codes,
        item_codes,
        values,
        timestamps,
        user_ids,
        item_ids,
        *,
        scale=(0.5, 5.0),
        movies=None,
        users=None,
        name="ratings",
        n_duplicates=0,
        user_name="userId",
        item_name="movieId",
    ):
        self.user_name, self.item_name = user_name, item_name
        self.user_codes = _frozen(user_codes, np.int32)
        self.item_codes = _frozen(item_codes, np.int32)
        self.values = _frozen(values, np.float32)
        self.timestamps = None if timestamps is None else _frozen(timestamps, np.int64)
        self.user_ids = _frozen(user_ids)
        self.item_ids = _frozen(item_ids)
        self.scale = (float(scale[0]), float(scale[1]))
        self.movies = movies
        self.users = users
        self.name = name
        self.n_duplicates = int(n_duplicates)
        self._by_user = None
        self._by_item = None

    def __setattr__(self, name, value):
        if name in self.__dict__ and not name.startswith("_"):
            raise AttributeError(f"{name}: a Ratings cannot be changed; make another with Ratings.from_frame")
        super().__setattr__(name, value)

    def __getstate__(self):
        return {**self.__dict__, "_by_user": None, "_by_item": None}

    def __setstate__(self, state):
        # Pickle gives arrays back writable.
        self.__dict__.update({k: _frozen(v) if isinstance(v, np.ndarray) else v for k, v in state.items()})

    # ---- construction -------------------------------------------------

    @classmethod
    def from_frame(
        cls,
        frame,
        *,
        scale=(0.5, 5.0),
        duplicates="error",
        movies=None,
        users=None,
        name="ratings",
    ):
        """Check a table of ratings and translate its ids to codes.

        Parameters
        ----------
        frame : DataFrame
            Columns userId, movieId, rating and, optionally, timestamp.
        scale : tuple of float
            Lowest and highest possible rating; a value outside is an error.
        duplicates : {"error", "last", "mean"}
            What to do with repeated (user, movie) pairs: refuse; keep the one
            with the latest timestamp (the later row where timestamps are equal
            or missing); or keep the mean rating with the latest timestamp. The
            first row's position is kept. `n_duplicates` counts the rows that
            went away.
        movies, users : DataFrame, optional
            Tables to carry along.
        name : str
            Name for display.

        Returns
        -------
        Ratings

        Raises
        ------
        ValueError
            On a missing column, an empty table, a rating that is not a finite
            number inside `scale`, an id that is not a non-negative integer, or
            repeated pairs under ``duplicates="error"``.

        Notes
        -----
        O(nnz log nnz) for the sort that finds unique ids and repeated pairs.
        """
        missing = [c for c in ("userId", "movieId", "rating") if c not in frame.columns]
        if missing:
            raise ValueError(
                f"{name}: missing column(s) {missing}; got {list(frame.columns)}; "
                "expected userId, movieId, rating and, optionally, timestamp"
            )
        columns = {c: frame[c] for c in ("userId", "movieId", "rating", "timestamp") if c in frame.columns}
        stamps = columns.get("timestamp")
        return cls.from_arrays(
            _whole_numbers(columns["userId"], f"{name}: column userId"),
            _whole_numbers(columns["movieId"], f"{name}: column movieId"),
            _numbers(columns["rating"], f"{name}: column rating"),
            None if stamps is None else _whole_numbers(stamps, f"{name}: column timestamp"),
            scale=scale,
            duplicates=duplicates,
            movies=movies,
            users=users,
            name=name,
        )

    @classmethod
    def from_arrays(
        cls,
        users_of_rows,
        items_of_rows,
        values,
        timestamps=None,
        *,
        scale=(0.5, 5.0),
        duplicates="error",
        movies=None,
        users=None,
        name="ratings",
        origin=None,
        copy=True,
    ):
        """Check columns that are numbers already, and translate their ids to codes.

        Parameters
        ----------
        users_of_rows, items_of_rows : ndarray of int, shape (nnz,)
            The userId and the movieId of each rating.
        values : ndarray of float or int, shape (nnz,)
            Ratings.
        timestamps : ndarray of int, shape (nnz,), optional
            Seconds since 1970-01-01 UTC.
        scale, duplicates, movies, users, name
            As for `from_frame`.
        origin : tuple (str, str, int), optional
            How errors point at a row: what was read, the word for a row, and the number of the
            first; ``("ratings.csv", "line", 2)``. The default is ``(name, "row", 0)``.
        copy : bool
            False is for a caller who gives the arrays up: the result keeps them, and ids are
            overwritten by codes. True makes sure that a later change of them cannot reach it.

        Returns
        -------
        Ratings

        Raises
        ------
        ValueError
            As `from_frame` does.

        Notes
        -----
        O(nnz) for rows that come sorted by user and item, O(nnz log nnz) otherwise. Beside the result
        it needs, at its peak, 3 bytes a rating for sorted rows and about 30 for others.
        """
        label, word, first = origin or (name, "row", 0)
        check_choice("duplicates", duplicates, DUPLICATE_POLICIES)
        low, high = _check_scale(scale)
        columns = {"userId": users_of_rows, "movieId": items_of_rows, "rating": values}
        if timestamps is not None:
            columns["timestamp"] = timestamps
        columns = {c: np.asarray(x) for c, x in columns.items()}
        for column, x in columns.items():
            allowed = "iuf" if column == "rating" else "iu"
            if x.ndim != 1 or x.dtype.kind not in allowed:
                raise ValueError(
                    f"{label}: column {column}: got {x.ndim}-dimensional {x.dtype} values; expected a "
                    f"one-dimensional array of {'numbers' if column == 'rating' else 'whole numbers'}"
                )
        if len({len(x) for x in columns.values()}) > 1:
            lengths = ", ".join(f"{column} {len(x):,}" for column, x in columns.items())
            raise ValueError(f"{label}: got columns of different lengths ({lengths}); expected equal ones")
        if len(columns["rating"]) == 0:
            raise ValueError(f"{label}: the table of ratings is empty; expected at least one row")
        for column, x in columns.items():
            lowest, highest = (low, high) if column == "rating" else (0, np.inf)
            if not (x.min() >= lowest and x.max() <= highest):  # true for NaN, too
                row = int(np.argmin((x >= lowest) & (x <= highest)))
                expected = (
                    f"a number from {low:g} to {high:g} (pass scale=(low, high) for data on another scale)"
                    if column == "rating"
                    else "a number not below 0"
                )
                raise ValueError(
                    f"{label}: column {column}, {word} {row + first}: got {x[row]}; expected {expected}"
                )
        user_ids, user_codes = _encode(columns["userId"], overwrite=not copy)
        item_ids, item_codes = _encode(columns["movieId"], overwrite=not copy)
        user_codes, item_codes, values, stamps, dropped = _merge_duplicates(
            user_codes,
            item_codes,
            columns["rating"],
            columns.get("timestamp"),
            duplicates,
            user_ids,
            item_ids,
            (label, word, first),
        )
        if copy:
            values = np.array(values, dtype=np.float32)
            stamps = None if stamps is None else np.array(stamps, dtype=np.int64)
        return cls(
            user_codes,
            item_codes,
            values,
            stamps,
            user_ids,
            item_ids,
            scale=(low, high),
            movies=movies,
            users=users,
            name=name,
            n_duplicates=dropped,
        )

    # ---- size and shape -------------------------------------------------

    @property
    def n_users(self):
        """Number of users m, those without a rating in this subset included."""
        return len(self.user_ids)

    @property
    def n_items(self):
        """Number of items n, those without a rating in this subset included."""
        return len(self.item_ids)

    @property
    def shape(self):
        """(m, n)."""
        return self.n_users, self.n_items

    @property
    def density(self):
        """Share of the m x n cells that hold a rating."""
        return len(self) / (self.n_users * self.n_items)

    def __len__(self):
        return len(self.values)

    def __repr__(self):
        return (
            f"<Ratings {self.name}: {len(self):,} ratings, {self.n_users:,} users x "
            f"{self.n_items:,} items, {100 * self.density:.3g} % known>"
        )

    def summary(self):
        """The data set in one column.

        Returns
        -------
        Series
            Counts, density, mean rating, and first and last day where the data
            has timestamps.
        """
        facts = {
            "ratings": len(self),
            "users": self.n_users,
            "items": self.n_items,
            "users with ratings": int(np.count_nonzero(self.user_counts)),
            "items with ratings": int(np.count_nonzero(self.item_counts)),
            "known cells (%)": round(100 * self.density, 3),
            "mean rating": round(float(self.values.mean(dtype=np.float64)), 3) if len(self) else np.nan,
            "median ratings per user": float(np.median(self.user_counts)),
            "median ratings per item": float(np.median(self.item_counts)),
            "duplicates merged": self.n_duplicates,
        }
        if self.timestamps is not None and len(self):
            facts["first day"] = str(pd.Timestamp(int(self.timestamps.min()), unit="s").date())
            facts["last day"] = str(pd.Timestamp(int(self.timestamps.max()), unit="s").date())
        return pd.Series(facts, name=self.name, dtype=object)

    # ---- the two orientations -------------------------------------------

    @property
    def by_user(self):
        """The ratings as an m x n CSR matrix; column codes sorted in each row.

        Returns
        -------
        scipy.sparse.csr_array of float32, shape (m, n)
            Built at the first call, then kept. Index arrays are int32 while the
            number of ratings fits.
        """
        if self._by_user is None:
            self._by_user = _csr(self.user_codes, self.item_codes, self.values, self.shape)
        return self._by_user

    @property
    def by_item(self):
        """The transpose of `by_user`: an n x m CSR matrix, one row per item."""
        if self._by_item is None:
            self._by_item = _read_only(self.by_user.T.tocsr())
        return self._by_item

    @property
    def user_counts(self):
        """Number of ratings of each user, int64, shape (m,)."""
        return np.bincount(self.user_codes, minlength=self.n_users)

    @property
    def item_counts(self):
        """Number of ratings of each item, int64, shape (n,)."""
        return np.bincount(self.item_codes, minlength=self.n_items)

    # ---- ids and codes ----------------------------------------------------

    def encode_users(self, user_ids):
        """Codes of the given user ids, -1 where an id is unknown."""
        return _lookup(self.user_ids, user_ids, "user_ids")

    def encode_items(self, item_ids):
        """Codes of the given item ids, -1 where an id is unknown."""
        return _lookup(self.item_ids, item_ids, "item_ids")

    def encode_pairs(self, table):
        """Codes of the users and the items of a table's rows, -1 where an id is unknown.

        Parameters
        ----------
        table : DataFrame
            With the columns `user_name` and `item_name`.

        Returns
        -------
        user_codes, item_codes : ndarray of int32
        """
        if not isinstance(table, pd.DataFrame) or not {self.user_name, self.item_name} <= set(table.columns):
            raise TypeError(
                f"ratings: got {type(table).__name__}; expected a Ratings, or a DataFrame with the "
                f"columns {self.user_name} and {self.item_name}"
            )
        return self.encode_users(table[self.user_name]), self.encode_items(table[self.item_name])

    def read_newcomer(self, ratings):
        """The items and the ratings of a person who is not in the table, checked.

        Parameters
        ----------
        ratings : dict of id to float, or DataFrame
            Rating by item, or a table with the columns `item_name` and rating.

        Returns
        -------
        items : ndarray
            Ids, which need not be known.
        values : ndarray of float64

        Raises
        ------
        TypeError, ValueError
            On another kind of table, no rating at all, one outside the scale, or an item rated twice.
        """
        if isinstance(ratings, Mapping):
            items, values = list(ratings.keys()), list(ratings.values())
        elif isinstance(ratings, pd.DataFrame) and {self.item_name, "rating"} <= set(ratings.columns):
            items, values = ratings[self.item_name].tolist(), ratings["rating"].tolist()
        else:
            raise TypeError(
                f"ratings: got {type(ratings).__name__}; expected a dict of rating by {self.item_name}, or a "
                f"DataFrame with the columns {self.item_name} and rating"
            )
        if not items:
            raise ValueError("ratings: got none; expected at least one")
        items = np.asarray(items)
        if items.dtype.kind not in "iu":
            raise ValueError(f"ratings: got {items[0]!r}; expected whole numbers for {self.item_name}")
        try:
            values = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"ratings: got {values!r}; expected numbers") from None
        low, high = self.scale
        bad = ~((values >= low) & (values <= high))
        if bad.any():
            at = int(np.argmax(bad))
            raise ValueError(
                f"ratings: got {values[at]} for {self.item_name} {items[at]}; expected {low:g} to {high:g}"
            )
        repeated = pd.Series(items).duplicated()
        if repeated.any():
            twice = items[np.argmax(repeated)]
            raise ValueError(
                f"ratings: got {self.item_name} {twice} more than once; expected one rating an item"
            )
        return items, values

    # ---- views ------------------------------------------------------------

    def __getitem__(self, rows):
        """Subset by boolean mask, integer positions or slice; ids are shared."""
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            if rows.ndim != 1:
                raise IndexError(
                    f"rows: got {rows.ndim} dimensions; expected a slice, or a one-dimensional "
                    "boolean mask or array of positions"
                )
        return Ratings(
            self.user_codes[rows],
            self.item_codes[rows],
            self.values[rows],
            None if self.timestamps is None else self.timestamps[rows],
            self.user_ids,
            self.item_ids,
            scale=self.scale,
            movies=self.movies,
            users=self.users,
            name=self.name,
            n_duplicates=self.n_duplicates,
            user_name=self.user_name,
            item_name=self.item_name,
        )

    def to_frame(self):
        """The ratings as a fresh DataFrame: userId, movieId, rating, timestamp."""
        columns = {
            self.user_name: self.user_ids[self.user_codes],
            self.item_name: self.item_ids[self.item_codes],
            "rating": self.values,
        }
        if self.timestamps is not None:
            columns["timestamp"] = self.timestamps
        return pd.DataFrame(columns, copy=True)

    def titles(self, item_ids):
        """Titles of the given movieIds, for display.

        An unknown id, or a film without title, reads "movie <id>".
        """
        ids = np.atleast_1d(np.asarray(item_ids))
        if self.movies is None or "title" not in self.movies.columns:
            return np.array([f"movie {i}" for i in ids], dtype=object)
        named = self.movies.set_index("movieId")["title"].reindex(ids)
        fallback = pd.Series([f"movie {i}" for i in ids], index=named.index, dtype=object)
        return named.astype(object).where(named.notna(), fallback).to_numpy(dtype=object)


# ---- checks and small helpers -----------------------------------------------


def _check_scale(scale):
    try:
        low, high = (float(x) for x in scale)
    except (TypeError, ValueError):
        raise ValueError(f"scale: got {scale!r}; expected a pair (lowest, highest)") from None
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"scale: got {scale!r}; expected two finite numbers, lowest below highest")
    return low, high


def _frozen(array, dtype=None):
    """The array read-only; copies only where the type has to change."""
    array = np.asarray(array, dtype=dtype)
    if not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view


def _numbers(column, where):
    """The column as a numeric array; NaN and infinity are left to the check of the scale."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iuf":
        return column.to_numpy()
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    _refuse(column, np.isnan(values), where, "a finite number")
    return values


def _whole_numbers(column, where):
    """The column as an integer array; floats are accepted if whole."""
    values = _numbers(column, where)
    if values.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            whole = (values == np.floor(values)) & (np.abs(values) < 2**53)
        _refuse(column, ~whole, where, "a whole number")
        values = values.astype(np.int64)
    return values


def _refuse(column, bad, where, expected):
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"{where}, row {row}: got {column.iloc[row]!r}; expected {expected}")


def _encode(ids, overwrite=False):
    """Sorted unique ids and the int32 code of each row.

    MovieLens ids are small and dense, so a lookup table of max(id) + 1 cells is
    both faster than a sort and small; sparse ids fall back to the sort. With
    `overwrite` the codes take the place of int32 ids: at 32 million ratings the
    time goes into touching fresh memory.
    """
    top = int(ids.max()) + 1
    if top <= max(4 * len(ids), 1 << 20):
        blocks = [
            slice(at, at + (1 << 16)) for at in range(0, len(ids), 1 << 16)
        ]  # temporaries stay in cache
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


def _strictly_sorted(rows, columns):
    """Whether the pairs ascend, which also means that none repeats; one byte a pair of memory."""
    ascends = columns[1:] > columns[:-1]
    ascends &= rows[1:] == rows[:-1]
    ascends |= rows[1:] > rows[:-1]
    return bool(ascends.all())


def _merge_duplicates(user, item, values, stamps, policy, user_ids, item_ids, origin):
    if _strictly_sorted(user, item):  # as MovieLens files are
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
            f"{label}: {dropped} repeated (userId, movieId) pair(s), the first of them "
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


def _lookup(sorted_ids, ids, name):
    ids = np.atleast_1d(np.asarray(ids))
    if ids.size and ids.dtype.kind not in "iu":
        raise ValueError(f"{name}: got {ids.dtype} values; expected whole numbers")
    if len(sorted_ids) == 0:
        return np.full(ids.shape, -1, dtype=np.int32)
    at = np.minimum(np.searchsorted(sorted_ids, ids), len(sorted_ids) - 1)
    return np.where(sorted_ids[at] == ids, at, -1).astype(np.int32)


def _csr(rows, columns, values, shape):
    """CSR with sorted columns; shares the columns and values when already sorted."""
    indptr = np.zeros(shape[0] + 1, dtype=np.int64)
    np.cumsum(np.bincount(rows, minlength=shape[0]), out=indptr[1:])
    if len(values) < 2**31:
        indptr = indptr.astype(np.int32)
    if not _strictly_sorted(rows, columns):
        order = np.argsort(rows.astype(np.int64) * shape[1] + columns, kind="stable")
        columns, values = columns[order], values[order]
    return _read_only(csr_array((values, columns, indptr), shape=shape))


def _read_only(matrix):
    for array in (matrix.data, matrix.indices, matrix.indptr):
        array.flags.writeable = False
    return matrix
