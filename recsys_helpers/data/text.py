"""Lines of MovieLens' text files: tables of ratings block by block, and whose fault it is where they fail."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .editions import RATING_COLUMNS, DataError


def rating_frames(files, member, layout):
    """Yield each block's share of the file and its table; polars parses, `blame` words its refusals."""
    import polars as pl

    label = files.label(member)
    separator, line_number = {"u": ("\t", 1), "dat": ("::", 1), "csv": (",", 2)}[layout]
    types = {"userId": pl.Int32, "movieId": pl.Int32, "rating": pl.Float32, "timestamp": pl.Int64}
    size, names, schema, gaps = files.size(member), list(types), types, []
    if layout == "dat":
        # Polars splits at one character only, so "::" reads as two with an empty column between.
        gaps = ["gap 1", "gap 2", "gap 3"]
        pairs = zip(names, [*gaps, None], strict=True)
        schema = {c: types.get(c, pl.Int8) for pair in pairs for c in pair if c}
    for number, block in enumerate(files.blocks(member)):
        share = len(block) / size
        if number == 0:
            block = block.removeprefix(b"\xef\xbb\xbf")
            if layout == "csv":
                line, _, block = block.partition(b"\n")
                names = header(line, RATING_COLUMNS, label)
                schema = {c: types.get(c, pl.String) for c in names}
        if not block:
            continue
        try:
            frame = pl.read_csv(block, separator=separator[0], has_header=False, schema=schema)
        except pl.exceptions.PolarsError as error:
            blame(block, label, line_number, names, separator, str(error).splitlines()[0])
        if any(frame[c].null_count() for c in types) or any(frame[c].count() for c in gaps):
            blame(block, label, line_number, names, separator, "a field is empty")
        lines = np.count_nonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")) + (block[-1:] != b"\n")
        if lines != len(frame):  # nothing is lost unnoticed
            blame(block, label, line_number, names, separator, f"{lines} lines, {len(frame)} ratings")
        line_number += len(frame)
        yield share, frame


def one_ahead(items):
    """The items of a generator, each made by a second thread while the one before is in use."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def header(line, expected, label):
    """The names in the first line of a CSV file."""
    text = line.decode("utf-8", errors="replace").removeprefix("\ufeff").rstrip("\r\n")
    names = [name.strip('"') for name in text.split(",")]
    missing = [column for column in expected if column not in names]
    if not missing and len(set(names)) == len(names):
        return names
    wanted = ",".join(expected)
    if not missing:
        reason = "a column comes twice"
    elif text == "":
        reason = "the first line is empty"
    elif all(column in re.split(r"[;|\t ]|::", text) for column in expected):
        reason = "the columns are not separated by commas"
    elif re.fullmatch(r"[\d.,;|:\s]+", text):
        reason = "the first line has numbers instead of names"
    else:
        reason = f"column(s) {', '.join(missing)} missing"
    raise DataError(f"{label}, line 1: {reason}; got {text[:80]!r}; expected {wanted!r}")


_WHOLE = re.compile(rb"[+-]?[0-9]{1,30}")
_NUMBER = re.compile(
    rb"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(nan|inf|infinity)", re.IGNORECASE
)
_LIMITS = {"userId": 2**31 - 1, "movieId": 2**31 - 1, "timestamp": 2**63 - 1}


def blame(block, label, first, names, separator, reason):
    """Raise a DataError that names the first line which cannot be read; line by line, in plain Python."""
    split = separator.encode()
    lines = block.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    for number, line in enumerate(lines, first):
        at = f"{label}, line {number}"
        line = line.removesuffix(b"\r")
        if not line.strip():
            raise DataError(f"{at}: the line is empty; remove it")
        fields = line.split(split)
        if len(fields) != len(names):
            raise DataError(
                f"{at}: got {len(fields)} field(s) in {shown(line)}; expected {len(names)}, separated by "
                f"{separator!r}"
            )
        for column, field in zip(names, fields, strict=True):
            if len(field) > 1 and field[:1] == field[-1:] == b'"':
                field = field[1:-1]
            if column == "rating" and not _NUMBER.fullmatch(field):
                raise DataError(f"{at}, column rating: got {shown(field)}; expected a number")
            if column in _LIMITS and not _WHOLE.fullmatch(field):
                raise DataError(f"{at}, column {column}: got {shown(field)}; expected a whole number")
            if column in _LIMITS and abs(int(field)) > _LIMITS[column]:
                raise DataError(
                    f"{at}, column {column}: got {shown(field)}; expected at most {_LIMITS[column]}"
                )
    raise DataError(
        f"{label}, lines {first} to {first + len(lines) - 1}: cannot be read ({reason}); compare them with "
        "the layout that GroupLens publishes"
    )


def shown(field):
    text = field.decode("utf-8", errors="replace")
    return repr(text if len(text) <= 60 else text[:57] + "…")


def numbered_lines(text):
    """Numbered lines; only \\n ends one, for Latin-1 text may hold what Unicode takes for other line ends."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return ((number, line.removesuffix("\r")) for number, line in enumerate(lines, 1))


def whole_id(text, label, line, column):
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        where = f"{label}, line {line}, column {column}"
        raise DataError(f"{where}: got {text[:60]!r}; expected a whole number not below 0")
    return int(text)


def refuse_repeats(ids, where):
    unique, counts = np.unique(np.array(ids, dtype=np.int64), return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{where} {unique[np.argmax(counts > 1)]} comes twice or more; keep one of its lines")
