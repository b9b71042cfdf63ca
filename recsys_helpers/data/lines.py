"""The slow and exact look at separated text: its records and the lines they begin in, for messages."""

from __future__ import annotations

import csv
import io
from pathlib import Path


def records(source, separator, quoted=True):
    """The records of a text that are not empty lines.

    Parameters
    ----------
    source : Path or bytes
        UTF-8.
    separator : str
        One character.
    quoted : bool
        Whether quotes hold fields together, line ends in them included.

    Yields
    ------
    line : int
        Where the record begins, counted from 1.
    fields : list of str

    Raises
    ------
    csv.Error
        On a field beyond the limit of the csv module.
    """
    raw = open(source, "rb") if isinstance(source, Path) else io.BytesIO(source)
    with io.TextIOWrapper(raw, "utf-8-sig", errors="replace", newline="") as text:
        quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        reader = csv.reader(text, delimiter=separator, quoting=quoting)
        line = 1
        for fields in reader:
            if fields:
                yield line, fields
            line = reader.line_num + 1


def line_of(found, row):
    """The line of a table's row, counted from 0; `found` are the records after the header.

    Records without any text are no rows.
    """
    filled = (line for line, fields in found if any(fields))
    return next(line for at, line in enumerate(filled) if at == row)


def odd_record(found, expected, needed):
    """The first record with more fields than expected, or with less than are needed; None if all are well.

    Parameters
    ----------
    found : iterable of (int, list of str)
        As from `records`.
    expected, needed : int

    Returns
    -------
    (int, list of str) or None
    """
    return next((one for one in found if not needed <= len(one[1]) <= expected and any(one[1])), None)


def head_records(text, separator, most=200):
    """The first records of a text, as lists of fields; those without any text are left out."""
    if len(separator) > 1:
        lines = io.StringIO(text, newline=None)
        rows = (line.rstrip("\n").split(separator) for line in lines)
    else:
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    out = []
    for row in rows:
        if any(cell.strip() for cell in row):
            out.append(row)
        if len(out) == most:
            break
    return out
