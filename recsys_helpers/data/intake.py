"""Reading columns of any kind: ids, times, numbers, scales.

One reader serves all: what `Ratings.from_frame` takes as an id, every verb of every model takes,
too. Tables may be of pandas, Polars or PyArrow; columns may be those, arrays or lists.

`read_ids` gives an array of ids, `encode_ids` sorted unique ids and codes, `lookup` the codes of
ids in known ones. Ids are whole numbers (int64, or uint64 beyond it), text, or UUIDs, never mixed.
"""

from __future__ import annotations

import datetime
import numbers
import uuid

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionArray

from .arrays import encode_whole

# Seconds from here on lie after the year 5138: they are milliseconds, or smaller still.
IMPLAUSIBLE = 10**11
ROWS = ("row", 0)


# ---- tables -----------------------------------------------------------------------


def columns_of(frame, label):
    """The names of a table's columns, and a function that gives one of them.

    Raises
    ------
    TypeError
        If it is no table of pandas, Polars or PyArrow.
    """
    home = type(frame).__module__.split(".")[0]
    if isinstance(frame, pd.DataFrame):
        return list(frame.columns), lambda name: frame[name]
    if home == "polars" and type(frame).__name__ == "LazyFrame":
        frame = frame.collect()
    if home == "polars" and hasattr(frame, "get_column"):
        return list(frame.columns), frame.get_column
    if home == "pyarrow" and hasattr(frame, "column_names"):
        return list(frame.column_names), frame.column
    raise TypeError(
        f"{label}: got {type(frame).__name__}; expected a Ratings or a table: a DataFrame of pandas or "
        "Polars, or a PyArrow Table"
    )


def _array(values):
    """A column as a NumPy array: numbers as they are, everything else as objects; None for missing."""
    home = type(values).__module__.split(".")[0]
    if home == "polars":
        if values.null_count() or values.dtype.to_python() not in (int, float, bool):
            if values.dtype.is_temporal():
                return np.array(values.to_list(), dtype=object)
            out = np.empty(len(values), dtype=object)
            out[:] = values.to_list()
            return out
        return values.to_numpy()
    if home == "pyarrow":
        values = values.to_pandas()
    if isinstance(values, pd.Index | pd.Series):
        values = values.array
    if isinstance(values, pd.Categorical):
        categories = _array(values.categories)
        if len(categories) == 0 or (values.codes < 0).any():
            categories = np.append(np.asarray(categories, dtype=object), [None])
        return categories[values.codes]
    if isinstance(values, ExtensionArray):
        kind = getattr(values.dtype, "kind", "O")
        if kind in "iufb" and not values.isna().any():
            return values.to_numpy(dtype=values.dtype.numpy_dtype)
        if kind == "M":
            return values.to_numpy(dtype=object) if values.isna().any() else np.asarray(_utc(values))
        return values.to_numpy(dtype=object, na_value=None)
    if np.ndim(values) == 0:
        out = np.empty(1, dtype=object)
        out[0] = values
        return out if not isinstance(values, np.generic | int | float) else np.atleast_1d(np.asarray(values))
    array = np.asarray(values) if not isinstance(values, list | tuple) else _of_list(values)
    return array.astype(object) if array.dtype.kind in "US" else array


def _of_list(values):
    """An array that keeps what NumPy would change: numbers beside text, and whole numbers beyond int64."""
    array = np.asarray(values) if not any(isinstance(x, str | uuid.UUID) for x in values) else None
    changed = array is None or array.dtype.kind in "USO" or array.ndim != 1
    if changed or array.dtype.kind == "f" and any(isinstance(x, numbers.Integral) for x in values):
        array = np.empty(len(values), dtype=object)
        array[:] = values
    return array


def _utc(values):
    """Times with or without a zone as datetime64 in UTC."""
    times = pd.Series(values)
    if getattr(times.dtype, "tz", None) is not None or "tz=" in str(times.dtype):
        times = pd.to_datetime(times, utc=True).dt.tz_localize(None)
    return times.to_numpy(dtype="datetime64[ns]")


# ---- ids --------------------------------------------------------------------------


def kind_of(ids):
    """What ids are: "number", "text" or "UUID"."""
    if ids.dtype.kind in "iu":
        return "number"
    return "UUID" if len(ids) and isinstance(ids[0], uuid.UUID) else "text"


def read_ids(values, label, rows=ROWS):
    """Ids as an array: int64 (uint64 beyond it), or objects that are all text or all UUIDs.

    Parameters
    ----------
    values : array-like, or one id
    label : str
        What is read, for messages.
    rows : tuple (str, int)
        The word for a row and the number of the first.

    Returns
    -------
    ndarray, shape (number of ids,)

    Raises
    ------
    ValueError
        On a missing id, a fraction, a truth value, a date, or kinds that are mixed; it names the row.
    """
    array = _array(values)
    if array.ndim != 1:
        raise ValueError(f"{label}: got {array.ndim} dimensions; expected one")
    kind = array.dtype.kind
    if kind == "b":
        raise ValueError(f"{label}: got True and False; expected ids: whole numbers or text")
    if kind in "mM":
        raise ValueError(f"{label}: got dates; expected ids: whole numbers or text")
    if kind == "f":
        return _whole(array, label, rows)
    if kind in "iu":
        return _signed(array)
    if kind != "O":
        raise ValueError(f"{label}: got {array.dtype} values; expected whole numbers or text")
    return _of_objects(array, label, rows)


def _signed(array):
    """Whole numbers as int64 where they fit, so that one id is one number whatever carries it."""
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        return array
    return array if array.dtype in (np.int32, np.int64) else array.astype(np.int64)


def _whole(array, label, rows):
    missing = np.isnan(array)
    _refuse(missing, array, label, rows, "an id; leave the row out, or give its user and item an id")
    whole = (array == np.floor(array)) & (np.abs(array) <= 2.0**53)
    _refuse(~whole, array, label, rows, "a whole number; as a float an id is exact up to 2**53 only")
    return array.astype(np.int64)


def _of_objects(array, label, rows):
    if array.size == 0:
        return array.astype(np.int64)
    missing = pd.isna(array)
    _refuse(missing, array, label, rows, "an id; leave the row out, or give its user and item an id")
    kind = pd.api.types.infer_dtype(array, skipna=False)
    if kind == "string":
        blank = np.fromiter((not text.strip() for text in array), bool, len(array))
        _refuse(blank, array, label, rows, "an id that is not blank")
        return array if all(type(x) is str for x in array) else _objects([str(x) for x in array])
    if kind in ("integer", "floating", "mixed-integer-float", "decimal"):
        return _whole_objects(array, label, rows)
    if kind in ("boolean", "date", "datetime", "datetime64", "time", "timedelta", "timedelta64", "period"):
        raise ValueError(f"{label}: got {kind} values; expected ids: whole numbers or text")
    if all(isinstance(x, uuid.UUID) for x in array):
        return array
    first = type(array[0])
    other = np.fromiter((type(x) is not first for x in array), bool, len(array))
    if not other.any():
        raise ValueError(f"{label}: got {first.__name__} values; expected ids: whole numbers, text or UUIDs")
    at = int(np.argmax(other))
    word, offset = rows
    raise ValueError(
        f"{label}: got {array[0]!r} in {word} {offset} and {array[at]!r} in {word} {at + offset}: "
        "numbers and "
        "text in one column; make them one kind, for example with .astype(str)"
    )


def _whole_objects(array, label, rows):
    """Whole numbers of Python, exact to 64 bits."""
    flags = np.fromiter((isinstance(x, bool | np.bool_) for x in array), bool, len(array))
    _refuse(flags, array, label, rows, "an id: a whole number or text")
    with np.errstate(invalid="ignore"):
        whole = np.fromiter((np.isfinite(float(x)) and x == int(x) for x in array), bool, len(array))
    _refuse(~whole, array, label, rows, "a whole number")
    exact = [int(x) for x in array]
    low, high = min(exact), max(exact)
    if low >= -(2**63) and high < 2**63:
        return np.array(exact, dtype=np.int64)
    if low >= 0 and high < 2**64:
        return np.array(exact, dtype=np.uint64)
    raise ValueError(f"{label}: got ids from {low} to {high}; expected 64 bits, or text (.astype(str))")


def _objects(values):
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def encode_ids(values, label, rows=ROWS, overwrite=False):
    """Sorted unique ids, and the int32 code of each row.

    Parameters
    ----------
    values, label, rows
        As for `read_ids`.
    overwrite : bool
        Codes may take the place of int32 ids.
    """
    quick = _encode_text(values)
    if quick is not None:
        return quick
    ids = read_ids(values, label, rows)
    if ids.dtype.kind in "iu":
        unique, codes = encode_whole(ids, overwrite)
        return unique.astype(np.int64, copy=False) if unique.dtype != np.uint64 else unique, codes
    codes, unique = pd.factorize(ids, sort=True)
    return np.asarray(unique, dtype=object), codes.astype(np.int32)


def _encode_text(values):
    """Text of Polars, sorted and looked up without making a Python object of each row."""
    if type(values).__module__.split(".")[0] != "polars" or values.null_count():
        return None
    import polars as pl

    if values.dtype not in (pl.String, pl.Categorical) and not isinstance(values.dtype, pl.Enum):
        return None
    values = values.cast(pl.String)
    unique = values.unique().sort()
    if not len(unique) or not unique.str.strip_chars().str.len_bytes().min():
        return None
    codes = values.cast(pl.Enum(unique)).to_physical().to_numpy().astype(np.int32)
    return _objects(unique.to_list()), codes


def lookup(known, values, label, index=None):
    """Codes of ids in known ones, -1 where an id is unknown.

    Parameters
    ----------
    known : ndarray
        Sorted ids, as `encode_ids` gives them.
    values : array-like, or one id
    label : str
    index : pandas.Index, optional
        Of `known`, for text and UUIDs.

    Raises
    ------
    ValueError
        If the ids are of another kind: text is never taken for a number, nor a number for text.
    """
    ids = read_ids(values, label)
    if len(known) == 0 or len(ids) == 0:
        return np.full(len(ids), -1, dtype=np.int32)
    own, others = kind_of(ids), kind_of(known)
    if own != others:
        raise ValueError(
            f"{label}: got {own} ids such as {show(ids[0])}; those of the training data are {others} "
            "ids such "
            f"as {show(known[0])}; expected the same kind"
        )
    if own != "number":
        index = pd.Index(known, dtype=object) if index is None else index
        return index.get_indexer(ids).astype(np.int32)
    beyond = np.zeros(len(ids), dtype=bool)
    if ids.dtype != known.dtype and np.uint64 in (ids.dtype, known.dtype):
        # Compared as int64 and uint64 they would both become floats.
        if known.dtype == np.uint64:
            beyond = ids < 0
            ids = np.where(beyond, 0, ids).astype(np.uint64)
        else:
            beyond = ids > np.iinfo(np.int64).max
            ids = np.where(beyond, np.uint64(0), ids).astype(np.int64)
    at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where((known[at] == ids) & ~beyond, at, -1).astype(np.int32)


def show(value):
    """A value for a message, without NumPy's wrapping."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def _refuse(bad, array, label, rows, expected):
    if bad.any():
        at = int(np.argmax(bad))
        word, first = rows
        raise ValueError(f"{label}, {word} {at + first}: got {show(array[at])}; expected {expected}")


# ---- numbers ----------------------------------------------------------------------


def read_numbers(values, label, rows=ROWS):
    """Ratings as an array of numbers, all finite.

    Truth values count 1 and 0; text is taken where all of it reads as numbers.
    """
    array = _array(values)
    if array.ndim != 1:
        raise ValueError(f"{label}: got {array.ndim}-dimensional values; expected one dimension")
    if array.dtype.kind in "mM" or _are_dates(array):
        raise ValueError(f"{label}: got dates; expected numbers")
    if array.dtype.kind == "b":
        return array.astype(np.float32)
    if array.dtype.kind not in "iuf":
        found = pd.to_numeric(pd.Series(array, dtype=object), errors="coerce").to_numpy(np.float64)
        _refuse(np.isnan(found), array, label, rows, "a finite number")
        array = found
    if array.dtype.kind == "f":
        _refuse(~np.isfinite(array), array, label, rows, "a finite number")
    return array


def _are_dates(array):
    if array.dtype.kind != "O" or not len(array):
        return False
    return any(isinstance(x, datetime.date | datetime.datetime | np.datetime64) for x in array[:100])


# ---- times ------------------------------------------------------------------------


def read_times(values, label, rows=ROWS):
    """Times as seconds since 1970-01-01 UTC, int64.

    Parameters
    ----------
    values : array-like
        Seconds; dates and times of any unit, with or without a zone (without one they count as
        UTC); or ISO 8601 text.

    Raises
    ------
    ValueError
        On a missing or unreadable time, or numbers that are too large to be seconds.
    """
    if type(values).__module__.split(".")[0] == "polars" and values.dtype.is_temporal():
        if values.null_count():
            _refuse(values.is_null().to_numpy(), _objects(values.to_list()), label, rows, "a time")
        return values.dt.epoch("s").to_numpy().astype(np.int64)
    array = _array(values)
    if array.ndim != 1:
        raise ValueError(f"{label}: got {array.ndim}-dimensional values; expected one dimension")
    if array.dtype.kind == "M":
        _refuse(np.isnat(array), array, label, rows, "a time")
        return array.astype("datetime64[s]").astype(np.int64)
    if array.dtype.kind == "O":
        array = _times_of_objects(array, label, rows)
        if array.dtype.kind == "M":
            return array.astype("datetime64[s]").astype(np.int64)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{label}: got {array.dtype} values; expected seconds, dates or ISO text")
    if array.dtype.kind == "f":
        _refuse(~np.isfinite(array), array, label, rows, "a time")
    if len(array) and array.max() >= IMPLAUSIBLE:
        _say_unit(array, label, rows)
    return np.floor(array).astype(np.int64) if array.dtype.kind == "f" else array.astype(np.int64)


def _say_unit(array, label, rows):
    at = int(np.argmax(array))
    word, first = rows
    unit, name, power = next(
        found for found in (("ns", "nanoseconds", 17), ("us", "microseconds", 14), ("ms", "milliseconds", 10))
        if array[at] >= 10 ** found[2]
    )  # fmt: skip
    raise ValueError(
        f"{label}, {word} {at + first}: got {array[at]}, which as seconds lies after the year 5138; "
        "if these are "
        f'{name}, convert the column first: pd.to_datetime(column, unit="{unit}")'
    )


def _times_of_objects(array, label, rows):
    missing = pd.isna(array)
    _refuse(missing, array, label, rows, "a time")
    if len(array) and all(isinstance(x, str) for x in array):
        digits = all(x.strip().lstrip("-").isdigit() for x in array)
        # Eight digits that begin as a year are a date of ISO 8601's basic form.
        basic = digits and all(len(x.strip()) == 8 and x.strip()[:2] in ("19", "20") for x in array)
        if digits and not basic:
            return np.array([int(x) for x in array], dtype=np.int64)
        times = pd.to_datetime(pd.Series(array), format="ISO8601", utc=True, errors="coerce")
        _refuse(
            times.isna().to_numpy(), array, label, rows,
            'ISO text such as 2024-05-31 or 2024-05-31T18:30:00Z; convert others with pd.to_datetime first',
        )  # fmt: skip
        return times.dt.tz_localize(None).to_numpy()
    if _are_dates(array):
        try:
            return pd.to_datetime(pd.Series(array, dtype=object), utc=True).dt.tz_localize(None).to_numpy()
        except (TypeError, ValueError) as error:
            message = f"{label}: got dates and something else ({error}); expected dates only"
            raise ValueError(message) from None
    found = pd.to_numeric(pd.Series(array, dtype=object), errors="coerce").to_numpy()
    _refuse(pd.isna(found), array, label, rows, "seconds, a date or ISO text")
    return found


# ---- scales -----------------------------------------------------------------------


def check_scale(scale):
    """(lowest, highest) as floats, or an error."""
    try:
        low, high = (float(x) for x in scale)
    except (TypeError, ValueError):
        raise ValueError(f"scale: got {scale!r}; expected a pair (lowest, highest)") from None
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(f"scale: got {scale!r}; expected two finite numbers, lowest below highest")
    return low, high


def guess_scale(values):
    """The scale that ratings look to be on.

    Parameters
    ----------
    values : ndarray of float, shape (nnz,)

    Returns
    -------
    tuple of float
        (lowest, highest).

    Notes
    -----
    The usual scales are tried from the narrowest on: half stars, stars, 0 to 5, 1 to 10, 0 to 10,
    0 to 100, and those around zero. Counts, whole numbers above 10 of which most are small, and whatever
    fits no usual scale get the range that is there.
    """
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    if low < 0:
        bound = next((x for x in (1.0, 2.0, 5.0, 10.0, 100.0) if -low <= x and high <= x), None)
        return (-bound, bound) if bound is not None else (low, max(high, 0.0))
    sample = values if len(values) <= 1_000_000 else values[:: len(values) // 1_000_000]
    whole = bool((sample == np.floor(sample)).all())
    halves = bool((2 * sample == np.floor(2 * sample)).all())
    if high <= 5:
        if halves and not whole and low >= 0.5:
            return 0.5, 5.0
        return (1.0, 5.0) if low >= 1 else (0.0, 5.0)
    if high <= 10:
        return (1.0, 10.0) if low >= 1 else (0.0, 10.0)
    if high <= 100 and np.median(sample) > high / 5:
        return 0.0, 100.0
    return low, high if high > low else low + 1.0
