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

from .arrays import blocks, encode_whole, name_row

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
        return list(frame.column_names), lambda name: _polars(frame.column(name))
    hint = "; make one of it with pd.DataFrame" if isinstance(frame, dict | list | np.ndarray) else ""
    raise TypeError(
        f"{label}: got {type(frame).__name__}; expected a Ratings or a table: a DataFrame of pandas or "
        f"Polars, or a PyArrow Table{hint}"
    )


def _polars(column):
    """A column of PyArrow as one of Polars, which shares its memory."""
    import polars

    return polars.from_arrow(column)


def _array(values):
    """A column as a NumPy array: numbers as they are, everything else as objects; None for missing."""
    home = type(values).__module__.split(".")[0]
    if home == "pyarrow":
        values, home = _polars(values), "polars"
    if home == "polars":
        if values.null_count() or values.dtype.to_python() not in (int, float, bool):
            if values.dtype.is_temporal():
                return np.array(values.to_list(), dtype=object)
            out = np.empty(len(values), dtype=object)
            out[:] = values.to_list()
            return out
        return values.to_numpy()
    if isinstance(values, pd.Index | pd.Series):
        values = values.to_numpy() if isinstance(values.dtype, np.dtype) else values.array
    if isinstance(values, pd.Categorical):
        categories = _array(values.categories)
        if len(categories) == 0 or (values.codes < 0).any():
            categories = np.append(np.asarray(categories, dtype=object), [None])
        return categories[values.codes]
    if isinstance(values, pd.arrays.SparseArray):
        return _array(values.to_dense())
    if isinstance(values, ExtensionArray):
        kind = getattr(values.dtype, "kind", "O")
        if kind in "iufb" and not values.isna().any():
            return values.to_numpy(dtype=values.dtype.numpy_dtype)
        if kind == "M":
            return values.to_numpy(dtype=object) if values.isna().any() else np.asarray(_utc(values))
        return values.to_numpy(dtype=object, na_value=None)
    if hasattr(values, "__iter__") and not isinstance(values, str | bytes | list | tuple | np.ndarray):
        values = list(values)  # sets, keys of a dict, generators
    if np.ndim(values) == 0:
        values = [values.item() if isinstance(values, np.ndarray | np.generic) else values]
    array = np.asarray(values) if not isinstance(values, list | tuple) else _of_list(values)
    return array.astype(object) if array.dtype.kind in "UST" else array


def _of_list(values):
    """An array that keeps what NumPy would change: numbers beside text, and whole numbers beyond int64."""
    odd = str | uuid.UUID | bool | np.bool_
    array = np.asarray(values) if not any(isinstance(x, odd) for x in values) else None
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
    return times.to_numpy(dtype="datetime64[s]")


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
    rows : tuple
        How messages point at a row, see `arrays.row_number`.

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
        what = "dates" if kind == "M" else "durations"
        raise ValueError(f"{label}: got {what}; expected ids: whole numbers or text")
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
    raise ValueError(
        f"{label}: got {array[0]!r} in {name_row(rows, 0)} and {array[at]!r} in {name_row(rows, at)}: two "
        "kinds in one column; make them one, for example with .astype(str)"
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

    Notes
    -----
    O(nnz) for whole numbers that lie dense; otherwise a hash of each row and a sort of the distinct ids.
    """
    text = _distinct_text(values)
    if text is None:
        ids = read_ids(values, label, rows)
        if ids.dtype.kind in "iu":
            return encode_whole(ids, overwrite) if len(ids) else (ids, ids.astype(np.int32))
        codes, distinct = pd.factorize(ids)
        text = np.asarray(distinct, dtype=object), codes
    distinct, codes = text
    if (distinct[1:] > distinct[:-1]).all():
        return distinct, codes.astype(np.int32, copy=False)
    order = np.argsort(distinct, kind="stable")
    place = np.empty(len(order), dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    return distinct[order], place[codes]


def _distinct_text(values):
    """A column of text as its distinct values and the place of each row's; None where it is no sound text.

    Each text is looked at once, and no Python object is made of each row where the library has none.
    """
    home = type(values).__module__.split(".")[0]
    if home == "pyarrow":
        values, home = _polars(values), "polars"
    if home == "polars":
        return _distinct_text_of_polars(values)
    if isinstance(values, pd.Series | pd.Index) and isinstance(values.dtype, pd.StringDtype):
        codes, distinct = pd.factorize(values.array)
        distinct = distinct.to_numpy(dtype=object)
    else:
        if isinstance(values, pd.Series | pd.Index) and values.dtype == object:
            values = values.to_numpy()
        if not isinstance(values, np.ndarray) or values.dtype != object or values.ndim != 1:
            return None
        if pd.api.types.infer_dtype(values, skipna=False) != "string":
            return None
        codes, distinct = pd.factorize(values)
        distinct = _objects([str(text) for text in distinct])
    # A gap or a blank is named by its row, which `read_ids` does.
    sound = len(codes) and codes.min() >= 0 and all(text.strip() for text in distinct)
    return (distinct, codes) if sound else None


def _distinct_text_of_polars(values):
    import polars as pl

    if values.null_count() or not isinstance(values.dtype, pl.String | pl.Categorical | pl.Enum):
        return None
    return _by_hash(values.cast(pl.String)) or _by_order(values.cast(pl.String))


def _by_hash(values):
    """`_distinct_text` of sound text of Polars; None where two texts have the same hash, or one is blank.

    Whole numbers find their places several times faster than text does; each text is then compared with
    the one that it was taken for.
    """
    codes, distinct = pd.factorize(values.hash().to_numpy())
    codes = codes.astype(np.int32)
    first = np.empty(len(distinct), np.int64)
    first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    names = values.gather(first)
    if not len(names) or not names.str.strip_chars().str.len_bytes().min():
        return None
    step = 1 << 20  # the texts that are looked up stay few
    for at in range(0, len(codes), step):
        if not (names.gather(codes[at : at + step]) == values.slice(at, step)).all():
            return None
    return _objects(names.to_list()), codes


def _by_order(values):
    """`_distinct_text` of text of Polars without hashes; None where one is blank."""
    import polars as pl

    distinct = values.unique().sort()
    if not len(distinct) or not distinct.str.strip_chars().str.len_bytes().min():
        return None
    return _objects(distinct.to_list()), values.cast(pl.Enum(distinct)).to_physical().to_numpy()


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
    ids, codes = _distinct_text(values) or (read_ids(values, label), None)
    if len(known) == 0 or len(ids) == 0:
        return np.full(len(ids if codes is None else codes), -1, dtype=np.int32)
    own, others = kind_of(ids), kind_of(known)
    if own != others:
        raise ValueError(
            f"{label}: got {own} ids such as {show(ids[0])}; those of the training data are {others} "
            f"ids such as {show(known[0])}; expected the same kind"
        )
    if own != "number":
        index = pd.Index(known, dtype=object) if index is None else index
        found = index.get_indexer(ids).astype(np.int32)
        return found if codes is None else found[codes]
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
        raise ValueError(f"{label}, {name_row(rows, at)}: got {show(array[at])}; expected {expected}")


# ---- numbers ----------------------------------------------------------------------


def read_numbers(values, label, rows=ROWS, expected="a finite number"):
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
    if array.dtype.kind == "c":
        raise ValueError(f"{label}: got complex numbers; expected real ones")
    if array.dtype.kind not in "iuf":
        found = pd.to_numeric(pd.Series(array, dtype=object), errors="coerce").to_numpy(np.float64)
        _refuse(np.isnan(found), array, label, rows, expected)
        array = found
    if array.dtype.kind == "f" and len(array):
        top = np.finfo(np.float32).max  # ratings are kept as float32
        if not (array.min() >= -top and array.max() <= top):  # true for NaN, too
            _refuse(~(np.abs(array) <= top), array, label, rows, expected)
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
    array = _moments_of_polars(values, label, rows)
    if array is None:
        array = _array(values)
    if array.ndim != 1:
        raise ValueError(f"{label}: got {array.ndim}-dimensional values; expected one dimension")
    if array.dtype.kind == "M":
        _refuse(np.isnat(array), array, label, rows, "a time")
        return _from_1970(array, label, rows)
    if array.dtype.kind == "O":
        array = _times_of_objects(array, label, rows)
        if array.dtype.kind == "M":
            return _from_1970(array, label, rows)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{label}: got {array.dtype} values; expected seconds, dates or ISO text")
    if array.dtype.kind == "f":
        _refuse(~np.isfinite(array), array, label, rows, "a time")
        array = np.floor(array)
    if len(array):
        low, high = array.min(), array.max()
        if high >= IMPLAUSIBLE:
            _say_unit(array, label, rows)
        if low >= 1970_01_01 and high <= 2199_12_31 and _spell_days(array):
            raise ValueError(
                f"{label}: got {show(array[0])} and its like, days written as YYYYMMDD; expected seconds "
                'since 1970: convert the column first: pd.to_datetime(column.astype(str), format="%Y%m%d")'
            )
    return array.astype(np.int64, copy=False)


def _moments_of_polars(values, label, rows):
    """Dates and times of Polars or PyArrow as datetime64 in UTC; None for other columns."""
    home = type(values).__module__.split(".")[0]
    values = _polars(values) if home == "pyarrow" else values
    if home not in ("polars", "pyarrow") or not values.dtype.is_temporal():
        return None
    if str(values.dtype).split("(")[0] not in ("Date", "Datetime"):
        raise ValueError(f"{label}: got {values.dtype} values; expected seconds, dates or ISO text")
    if values.null_count():
        _refuse(values.is_null().to_numpy(), _objects(values.to_list()), label, rows, "a time")
    return values.dt.epoch("s").to_numpy().astype("datetime64[s]")


def _from_1970(moments, label, rows):
    """Seconds since 1970 of datetime64."""
    seconds = moments.astype("datetime64[s]")
    if len(seconds) and seconds.max() >= np.datetime64(IMPLAUSIBLE, "s"):
        late = seconds >= np.datetime64(IMPLAUSIBLE, "s")
        _refuse(late, seconds.astype(str), label, rows, "a time before the year 5138")
    return seconds.astype(np.int64)


def _spell_days(numbers):
    """Whether all numbers read as YYYYMMDD."""
    numbers = np.unique(numbers.astype(np.int64))
    month, day = numbers // 100 % 100, numbers % 100
    return bool(((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all())


def _say_unit(array, label, rows):
    at = int(np.argmax(array))
    unit, name, power = next(
        found for found in (("ns", "nanoseconds", 17), ("us", "microseconds", 14), ("ms", "milliseconds", 10))
        if array[at] >= 10 ** found[2]
    )  # fmt: skip
    raise ValueError(
        f"{label}, {name_row(rows, at)}: got {array[at]}, which as seconds lies after the year 5138; if "
        f'these are {name}, convert the column first: pd.to_datetime(column, unit="{unit}")'
    )


def _times_of_objects(array, label, rows):
    missing = pd.isna(array)
    _refuse(missing, array, label, rows, "a time")
    if len(array) and all(isinstance(x, str) for x in array):
        digits = np.fromiter((x.strip().lstrip("-").isdigit() for x in array), bool, len(array))
        # Eight digits that begin as a year are a date of ISO 8601's basic form.
        basic = np.fromiter((len(x.strip()) == 8 and x.strip()[:2] in ("19", "20") for x in array), bool)
        if 2 * np.count_nonzero(digits & ~basic) > len(array):
            _refuse(~digits, array, label, rows, "seconds since 1970, as in most other rows")
        if digits.all() and not basic.all():
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


def guess_scale(values, label="ratings"):
    """The scale that ratings look to be on.

    Parameters
    ----------
    values : ndarray of float or int, shape (nnz,)
        Finite; at least one.
    label : str
        What is read, for messages.

    Returns
    -------
    tuple of float
        (lowest, highest).

    Raises
    ------
    ValueError
        If -1 is the one number below 0 beside ratings above 1: it may mean "not rated".

    Notes
    -----
    The usual scales are tried from the narrowest on: 0 to 1, half stars, stars, 0 to 5, 1 to 10, 0 to 10,
    0 to 100, and those around zero. Counts, whole numbers above 10 of which most are small or some above
    100, get the range that is there, from 1 or 0 on; so does what fits no usual scale.
    """
    low, high = float(values.min()), float(values.max())
    if low < 0:
        return _around_zero(values, low, high, label)
    if high <= 1:
        return 0.0, 1.0
    if high <= 5:
        if low >= 0.5 and _multiples(values, 0.5) and not _multiples(values, 1):
            return 0.5, 5.0
        return (1.0, 5.0) if low >= 1 else (0.0, 5.0)
    if high <= 10:
        return (1.0, 10.0) if low >= 1 else (0.0, 10.0)
    if high <= 100 and not (_multiples(values, 1) and np.median(values) <= high / 5):
        return 0.0, 100.0
    return min(low, 1.0), high


def _around_zero(values, low, high, label):
    if low == -1 and high > 1 and (rest := values[values > -1]).min() >= 0:
        raise ValueError(
            f"{label}: got the rating -1 among others from {rest.min():g} to {rest.max():g}; it may mean "
            f'"not rated": leave such rows out, or pass scale=(-1, {high:g}) if it is a rating'
        )
    bound = next((x for x in (1.0, 2.0, 5.0, 10.0, 100.0) if max(-low, high) <= x), None)
    return (-bound, bound) if bound is not None else (low, max(high, 0.0))


def _multiples(values, step):
    """Whether all are multiples of a step."""
    return all(np.array_equal(part := values[block] / step, np.rint(part)) for block in blocks(len(values)))
