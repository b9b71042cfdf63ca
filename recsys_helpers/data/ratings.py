"""`Ratings`: the immutable table that every model is fitted on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ..checks import check_choice
from . import intake
from .aliases import find_columns
from .arrays import csr, frozen, merge_duplicates, name_row, read_only
from .items import check_table

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
    `recsys_helpers.load_movielens`.

    Parameters
    ----------
    user_codes, item_codes : ndarray of int32, shape (nnz,)
        Codes into `user_ids` and `item_ids`.
    values : ndarray of float32, shape (nnz,)
        Ratings, in stars.
    timestamps : ndarray of int64, shape (nnz,), or None
        Seconds since 1970-01-01 UTC.
    user_ids, item_ids : ndarray, shape (m,) and (n,)
        Sorted unique ids: int64, uint64 where they go beyond it, or objects that are all text or
        all UUIDs.
    scale : tuple of float
        Lowest and highest possible rating.
    movies, users : DataFrame, optional
        One row an item, or a user; with a column `item_name`, or `user_name`.
    name : str
        Name of the data set, for display.
    n_duplicates : int
        How many rows the duplicate policy merged away.
    user_name, item_name : str
        What the columns of ids are called in tables that come out.
    notes : tuple of str
        What was found by itself when the table was read: columns, scale.

    Raises
    ------
    ValueError
        If arrays do not fit together: other lengths, codes without an id, ids that are not
        sorted and unique.

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
        notes=(),
    ):
        self.user_name, self.item_name, self.notes = user_name, item_name, tuple(notes)
        self.user_ids = _checked_ids(user_ids, "user_ids")
        self.item_ids = _checked_ids(item_ids, "item_ids")
        self.user_codes = _checked_codes(user_codes, len(self.user_ids), "user_codes")
        self.item_codes = _checked_codes(item_codes, len(self.item_ids), "item_codes")
        self.values = frozen(values, np.float32)
        if len(self.values) and not np.isfinite([self.values.min(), self.values.max()]).all():
            row = int(np.argmin(np.isfinite(self.values)))
            raise ValueError(f"values, row {row}: got {self.values[row]}; expected a finite number")
        self.timestamps = None if timestamps is None else frozen(timestamps, np.int64)
        columns = [self.user_codes, self.item_codes, self.values, self.timestamps]
        lengths = [len(x) for x in columns if x is not None]
        if len(set(lengths)) > 1:
            raise ValueError(f"{name}: got columns of {lengths} rows; expected equal lengths")
        self.scale = intake.check_scale(scale)
        self.movies = movies
        self.users = users
        self.name = name
        self.n_duplicates = int(n_duplicates)
        self._by_user = self._by_item = self._titles = None
        self._index = {}

    def __setattr__(self, name, value):
        if name in self.__dict__ and not name.startswith("_"):
            raise AttributeError(f"{name}: a Ratings cannot be changed; make another with Ratings.from_frame")
        super().__setattr__(name, value)

    def __getstate__(self):
        return {**self.__dict__, "_by_user": None, "_by_item": None, "_titles": None, "_index": {}}

    def __setstate__(self, state):
        # Pickle gives arrays back writable.
        self.__dict__.update({k: frozen(v) if isinstance(v, np.ndarray) else v for k, v in state.items()})

    # ---- construction -------------------------------------------------

    @classmethod
    def from_frame(
        cls,
        frame,
        *,
        user=None,
        item=None,
        rating=None,
        timestamp=None,
        scale=None,
        duplicates="error",
        implicit=False,
        movies=None,
        users=None,
        name="ratings",
        origin=None,
        notes=(),
    ):
        """Check a table of ratings and translate its ids to codes.

        Parameters
        ----------
        frame : DataFrame of pandas or Polars, or PyArrow Table
        user, item, rating, timestamp : str, optional
            Its columns. Those that are not named are found by their usual names, such as userId,
            user_id, reviewerID; movieId, item_id, ISBN, asin; rating, Book-Rating, stars; timestamp.
            `notes` says what was taken. Without a column of ratings every pair counts 1;
            ``timestamp=False`` leaves the times out.
        scale : tuple of float, optional
            Lowest and highest possible rating; a value outside is an error. By default the usual
            scale that fits the values (see `intake.guess_scale`); `notes` says which.
        duplicates : {"error", "last", "mean"}
            What to do with repeated (user, item) pairs: refuse; keep the one
            with the latest timestamp (the later row where timestamps are equal
            or missing); or keep the mean rating with the latest timestamp. The
            first row's position is kept. `n_duplicates` counts the rows that
            went away.
        implicit : bool
            Every pair counts 1, whatever the table says of it.
        movies, users : DataFrame, optional
            Tables about items and users to carry along; see `items.check_table`.
        name : str
            Name for display.
        origin : tuple (str, str, int), optional
            How errors point at a row: what was read, the word for a row, and the number of the
            first, or a function that numbers a row; ``("ratings.csv", "line", 2)``. The default is
            ``(name, "row", 0)``.
        notes : sequence of str
            What the caller found by itself, to be told with the rest.

        Returns
        -------
        Ratings
            Ids come back as they went in: whole numbers, text or UUIDs.

        Raises
        ------
        TypeError
            If it is no table.
        ValueError
            On a missing column, an empty table, a rating that is not a finite
            number inside `scale`, an id that is missing, a fraction, or of another kind than
            the others, a time that cannot be read, or repeated pairs under ``duplicates="error"``.

        Notes
        -----
        O(nnz log nnz) for the sort that finds unique ids and repeated pairs.
        """
        origin = origin or (name, "row", 0)
        label, *rows = origin
        names, get = intake.columns_of(frame, label)
        given = {"user": user, "item": item, "rating": rating, "timestamp": timestamp}
        if implicit:
            del given["rating"]
        if timestamp is False:
            del given["timestamp"]
        found = find_columns(names, given, ("user", "item"), label)
        if "rating" not in found and not implicit:
            _refuse_unnamed_ratings([name for name in names if name not in found.values()], get, label)
        notes = [*notes] + [
            f"{role} from column {column}" for role, column in found.items() if column != _CANONICAL[role]
        ]
        columns = {role: get(column) for role, column in found.items()}
        stamps, place = columns.get("timestamp"), f"{label}: column {found.get('timestamp')}"
        if "rating" not in found:
            columns["rating"], scale = np.ones(len(columns["user"]), dtype=np.float32), scale or (0.0, 1.0)
            notes.append("every pair counts 1" + ("" if implicit else ", as there is no column of ratings"))
        return cls.from_arrays(
            columns["user"],
            columns["item"],
            columns["rating"],
            None if stamps is None else intake.read_times(stamps, place, rows),
            scale=scale,
            duplicates=duplicates,
            movies=movies,
            users=users,
            name=name,
            origin=origin,
            names=found,
            notes=notes,
        )

    @classmethod
    def from_arrays(
        cls,
        users_of_rows,
        items_of_rows,
        values,
        timestamps=None,
        *,
        scale=None,
        duplicates="error",
        movies=None,
        users=None,
        name="ratings",
        origin=None,
        copy=True,
        names=None,
        notes=(),
    ):
        """Check single columns, and translate their ids to codes.

        Parameters
        ----------
        users_of_rows, items_of_rows : array-like of ids, shape (nnz,)
            The user and the item of each rating.
        values : array-like, shape (nnz,)
            Ratings; what `intake.read_numbers` reads.
        timestamps : array-like, shape (nnz,), optional
            An array of int64 is taken for seconds as it is; anything else as `intake.read_times` reads it.
        scale, duplicates, movies, users, name
            As for `from_frame`.
        origin : tuple (str, str, int), optional
            How errors point at a row: what was read, the word for a row, and the number of the
            first, or a function that numbers a row; ``("ratings.csv", "line", 2)``. The default is
            ``(name, "row", 0)``.
        copy : bool
            False is for a caller who gives the arrays up: the result keeps them, and ids are
            overwritten by codes. True makes sure that a later change of them cannot reach it.
        names : dict of str to str, optional
            What the columns are called, by role (user, item, rating, timestamp); userId, movieId,
            rating and timestamp by default.
        notes : sequence of str
            To carry along.

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
        # Files of one data set belong together; tables that a reader puts together may not.
        warn = names is not None
        names = _CANONICAL | (names or {})
        place = {role: f"{label}: column {column}" for role, column in names.items()}
        rows = (word, first)
        scale = None if scale is None else intake.check_scale(scale)
        expected = "a finite number" if scale is None else f"a number from {scale[0]:g} to {scale[1]:g}"
        values = intake.read_numbers(values, place["rating"], rows, expected)
        stamps = timestamps
        if stamps is not None and getattr(stamps, "dtype", None) != np.int64:
            stamps = intake.read_times(stamps, place["timestamp"], rows)
        lengths = {names["user"]: len(users_of_rows), names["item"]: len(items_of_rows)}
        lengths[names["rating"]] = len(values)
        if stamps is not None:
            lengths[names["timestamp"]] = len(stamps)
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{column} {length:,}" for column, length in lengths.items())
            raise ValueError(f"{label}: got columns of different lengths ({told}); expected equal ones")
        if len(values) == 0:
            raise ValueError(f"{label}: the table of ratings is empty; expected at least one row")
        if scale is None:
            scale = intake.guess_scale(values, label)
            notes = [*notes, f"scale {scale[0]:g} to {scale[1]:g}, from the values"]
        low, high = scale
        # Ratings are float32, so a bound holds up to its rounding.
        least = float(np.nextafter(np.float32(low), np.float32(-np.inf)))
        most = float(np.nextafter(np.float32(high), np.float32(np.inf)))
        if values.min() < least or values.max() > most:
            row = int(np.argmin((values >= least) & (values <= most)))
            raise ValueError(
                f"{place['rating']}, {name_row(rows, row)}: got {values[row]}; expected {expected} "
                "(Ratings.from_frame takes scale=(low, high) for data on another scale)"
            )
        user_ids, user_codes = intake.encode_ids(users_of_rows, place["user"], rows, overwrite=not copy)
        item_ids, item_codes = intake.encode_ids(items_of_rows, place["item"], rows, overwrite=not copy)
        user_codes, item_codes, values, stamps, dropped = merge_duplicates(
            user_codes, item_codes, values, stamps, duplicates, user_ids, item_ids, (label, word, first)
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
            movies=check_table(movies, "item", names["item"], item_ids, "movies", warn),
            users=check_table(users, "user", names["user"], user_ids, "users", warn),
            name=name,
            n_duplicates=dropped,
            user_name=names["user"],
            item_name=names["item"],
            notes=notes,
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
        if self.notes:
            facts["found"] = "; ".join(self.notes)
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
            self._by_user = csr(self.user_codes, self.item_codes, self.values, self.shape)
        return self._by_user

    @property
    def by_item(self):
        """The transpose of `by_user`: an n x m CSR matrix, one row per item."""
        if self._by_item is None:
            self._by_item = read_only(self.by_user.T.tocsr())
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
        """Codes of the given user ids, int32, -1 where an id is unknown.

        Takes one id or an array of whatever kind `from_frame` takes; ids of another kind than the
        table's, such as text where it has numbers, are an error.
        """
        return intake.lookup(self.user_ids, user_ids, self.user_name, self._index_of("user_ids"))

    def encode_items(self, item_ids):
        """Codes of the given item ids, int32, -1 where an id is unknown; as `encode_users`."""
        return intake.lookup(self.item_ids, item_ids, self.item_name, self._index_of("item_ids"))

    def _index_of(self, which):
        """A hash table of ids that are no numbers, made at first use."""
        ids = getattr(self, which)
        if ids.dtype.kind in "iu":
            return None
        if which not in self._index:
            self._index[which] = pd.Index(ids, dtype=object)
        return self._index[which]

    def encode_pairs(self, table):
        """Codes of the users and the items of a table's rows, -1 where an id is unknown.

        Parameters
        ----------
        table : DataFrame of pandas or Polars, or PyArrow Table
            With the columns `user_name` and `item_name`, or others of the usual names.

        Returns
        -------
        user_codes, item_codes : ndarray of int32
        """
        names, get = intake.columns_of(table, "ratings")
        known = {"user": self.user_name, "item": self.item_name}
        found = find_columns(names, {"user": None, "item": None}, ("user", "item"), "ratings", known=known)
        return self.encode_users(get(found["user"])), self.encode_items(get(found["item"]))

    def read_newcomer(self, ratings):
        """The items and the ratings of a person who is not in the table, checked.

        Parameters
        ----------
        ratings : dict of id to float, or table
            Rating by item, or a table with a column of items and one of ratings. Where every pair counts 1,
            the column of items is enough.

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
        else:
            names, get = intake.columns_of(ratings, "ratings")
            known = {"item": self.item_name, "rating": "rating"}
            found = find_columns(names, dict.fromkeys(known), ["item"], "ratings", known=known)
            items, values = get(found["item"]), None
            if "rating" in found or not (self.values == 1).all():
                found = find_columns(names, dict.fromkeys(known), list(known), "ratings", known=known)
                values = get(found["rating"])
        if len(items) == 0:
            raise ValueError("ratings: got none; expected at least one")
        items = intake.read_ids(items, f"ratings: {self.item_name}")
        values = np.ones(len(items)) if values is None else intake.read_numbers(values, "ratings: rating")
        values = values.astype(np.float64)
        low, high = self.scale
        bad = ~((values >= low) & (values <= high))
        if bad.any():
            at = int(np.argmax(bad))
            raise ValueError(
                f"ratings: got {values[at]:g} for {self.item_name} {items[at]}; expected {low:g} to {high:g}"
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
            if rows.size == 0 and rows.dtype.kind == "f":  # an empty list
                rows = rows.astype(np.int64)
            if rows.ndim != 1:
                raise IndexError(
                    f"rows: got {rows.ndim} dimensions; expected a slice, or a one-dimensional "
                    "boolean mask or array of positions"
                )
            if rows.dtype.kind not in "biu":
                raise IndexError(f"rows: got {rows.dtype} values; expected a boolean mask or positions")
            if rows.dtype.kind == "b" and len(rows) != len(self):
                raise IndexError(f"rows: got a mask of {len(rows):,}; expected one of {len(self):,}")
        part = object.__new__(type(self))
        part.__dict__.update(self.__getstate__())
        for name in ("user_codes", "item_codes", "values", "timestamps"):
            column = self.__dict__[name]
            part.__dict__[name] = None if column is None else frozen(column[rows])
        return part

    def to_frame(self):
        """The ratings as a fresh DataFrame: `user_name`, `item_name`, rating, timestamp."""
        columns = {
            self.user_name: self.user_ids[self.user_codes],
            self.item_name: self.item_ids[self.item_codes],
            "rating": self.values,
        }
        if self.timestamps is not None:
            columns["timestamp"] = self.timestamps
        return pd.DataFrame(columns, copy=True)

    def titles(self, item_ids):
        """Titles of the given items, for display.

        An item without a title reads "movie <id>", or "item <id>" where the items are not called
        movieId.
        """
        ids = intake.read_ids(item_ids, self.item_name)
        word = "movie" if self.item_name == "movieId" else "item"
        fallback = np.array([f"{word} {i}" for i in ids], dtype=object)
        if self.movies is None or "title" not in self.movies.columns or len(ids) == 0:
            return fallback
        if self._titles is None:
            self._titles = self.movies.set_index(self.item_name)["title"].astype(object)
        named = self._titles.reindex(ids).to_numpy()
        return np.where(pd.isna(named), fallback, named)


def _refuse_unnamed_ratings(names, get, label):
    """Ratings in a column of an unusual name must not go unnoticed."""
    for name in names:
        kind = get(name).dtype
        if kind.is_numeric() if hasattr(kind, "is_numeric") else pd.api.types.is_any_real_numeric_dtype(kind):
            raise ValueError(
                f"{label}: found no column of ratings; is it {name}? Pass rating={name!r}, or implicit=True "
                "if every pair is to count 1"
            )


_CANONICAL = {"user": "userId", "item": "movieId", "rating": "rating", "timestamp": "timestamp"}


def _checked_ids(ids, name):
    """Ids as a read-only array, sorted and unique."""
    ids = np.asarray(ids)
    if ids.dtype.kind in "US":
        ids = ids.astype(object)
    if ids.ndim != 1 or ids.dtype.kind not in "iuO":
        raise ValueError(
            f"{name}: got {ids.ndim}-dimensional {ids.dtype} values; expected whole numbers or "
            "text"
        )
    if ids.dtype.kind in "iu" and ids.dtype != np.uint64:
        ids = ids.astype(np.int64, copy=False)
    if len(ids) > 1 and not (ids[1:] > ids[:-1]).all():
        raise ValueError(f"{name}: expected ids that are sorted and unique; see Ratings.from_frame")
    return frozen(ids)


def _checked_codes(codes, size, name):
    """Codes as a read-only int32 array, each with an id: kernels do not look where they reach."""
    codes = np.asarray(codes)
    if codes.size == 0:
        codes = codes.astype(np.int32)
    if codes.ndim != 1 or codes.dtype.kind not in "iu":
        raise ValueError(f"{name}: got {codes.ndim}-dimensional {codes.dtype} values; expected whole numbers")
    if codes.size and (codes.min() < 0 or codes.max() >= size):
        raise ValueError(
            f"{name}: got codes from {codes.min()} to {codes.max()}; expected 0 to {size - 1}, "
            "positions in the "
            "ids; see Ratings.from_frame"
        )
    return frozen(codes, np.int32)
