"""Ratings from a file of your own: CSV and its kin, Parquet and Arrow, found out by looking.

`load_ratings` reads one file; `open_ratings` takes whatever names ratings: an edition of MovieLens,
a folder, a zip, a file.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
import zipfile
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..checks import check_choice
from . import lines
from .aliases import ALIASES, plain
from .ratings import Ratings

TABLES = (".parquet", ".pq", ".arrow", ".feather", ".ipc")
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zstd")
SEPARATORS = ("::", "\t", ";", "|", ",")
POSITIONS = ("user", "item", "rating", "timestamp")
HEAD = 1 << 16  # bytes that are looked at
MARK = b"\xef\xbb\xbf"


def load_ratings(
    path,
    *,
    user=None,
    item=None,
    rating=None,
    timestamp=None,
    scale=None,
    duplicates="error",
    implicit=False,
    separator=None,
    header=None,
    encoding=None,
    decimal=None,
    layout=None,
    movies=None,
    users=None,
    name=None,
):
    r"""Read ratings from a file: text with separators, Parquet or Arrow.

    Parameters
    ----------
    path : path-like
        A file, packed or not (.gz, .bz2, .xz, .zst, or a .zip with one file in it); or a folder of one of
        the `layout`\ s. MovieLens folders and zips are `open_ratings`' and `load_movielens`' matter.
    user, item, rating, timestamp : str, optional
        Columns, as in `Ratings.from_frame`; found by their usual names where they are not given. In a
        file without a header the columns are called user, item, rating and timestamp, in this order.
    scale, duplicates, implicit, movies, users
        As in `Ratings.from_frame`.
    separator : str, optional
        What stands between fields; one of comma, semicolon, tab, ``|`` and ``::`` is found by itself.
    header : bool, optional
        Whether the first line has the names of the columns; found by itself.
    encoding : str, optional
        By default a byte order mark decides; else UTF-8 if the file is that, else Windows-1252.
    decimal : {".", ","}, optional
        Found by itself where the separator is not a comma.
    layout : str, optional
        A published layout, see `layouts.LAYOUTS`; those that cannot be mistaken are found by themselves.
    name : str, optional
        For display; by default the file's.

    Returns
    -------
    Ratings
        Its `notes` say what was found by itself. Ids that are whole numbers all through a column, and
        written in the one usual way, are numbers; others are text: 0123 and 123 are two items.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file cannot be read as such a table; the message names file, line, column and remedy.

    Notes
    -----
    Polars reads the columns that are needed, on all threads; benchmarks/loading.py measures it. Memory at
    its peak: about 3 times the columns. A line with more fields than the header is refused, and so is one
    that ends before a column that is needed; one that lacks only others at its end is read.
    """
    from . import layouts

    path = _existing(path)
    label = name or path.name
    options = {
        "scale": scale, "duplicates": duplicates, "implicit": implicit, "movies": movies, "users": users,
        "name": label,
    }  # fmt: skip
    given = {"user": user, "item": item, "rating": rating, "timestamp": timestamp}
    if layout is not None:
        check_choice("layout", layout, tuple(layouts.LAYOUTS))
    elif not any(given.values()) and separator is None and header is None:
        layout = layouts.recognize(path)
    if layout is not None:
        return layouts.read(path, layout, options)
    if path.is_dir():
        raise ValueError(
            f"{path}: is a folder; expected a file: one of "
            f"{', '.join(sorted(p.name for p in path.iterdir())[:8])}"
            " (a MovieLens folder is read by load_movielens(path=...) or open_ratings)"
        )
    if _bare(path).suffix.lower() in TABLES:
        return Ratings.from_frame(_columnar(path), **given, **options, origin=(path.name, "row", 0))
    given = {role: column for role, column in given.items() if column is not None}
    text = _Text(path, separator, header, encoding, decimal, list(given.values()))
    frame = text.frame(given)
    origin = (path.name, "line", text.line_of)
    return Ratings.from_frame(frame, **given, **options, origin=origin, notes=text.notes)


def open_ratings(source, **columns):
    """Ratings by whatever names them.

    Parameters
    ----------
    source : str or path-like
        A file for `load_ratings`; a MovieLens folder or zip, as it is published; or an edition's name, such
        as "latest-small" or "1m", which is downloaded at the first call.
    **columns
        For `load_ratings`. MovieLens needs none of them and takes `duplicates` alone.

    Returns
    -------
    Ratings
    """
    from .editions import EDITIONS
    from .movielens import load_movielens

    path = Path(source).expanduser()
    key = str(source).lower().removeprefix("ml-")
    given = {name: value for name, value in columns.items() if value is not None}
    movielens = {name: given[name] for name in ("duplicates",) if name in given}
    if not path.exists() and key in EDITIONS:
        return load_movielens(key, **movielens)
    path = _existing(path)
    edition = None if {"layout", "user", "item", "separator"} & set(given) else _movielens_edition(path)
    if edition is not None:
        return load_movielens(edition, path, **movielens)
    return load_ratings(path, **given)


def _movielens_edition(path):
    """Which edition a folder or zip looks to be, or None."""
    if path.is_dir():
        names = {p.name for p in path.rglob("*") if p.is_file()}
    elif path.suffix.lower() == ".zip" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = {re.split(r"[\\/]", name)[-1] for name in archive.namelist()}
    else:
        return None
    if "u.data" in names:
        return "100k"
    if "ratings.dat" in names:
        # 1M has whole stars and a table of users; 10M half stars and none.
        return "1m" if "users.dat" in names else "10m"
    return "latest" if "ratings.csv" in names else None


# ---- files ------------------------------------------------------------------------


def _existing(path):
    path = Path(path).expanduser()
    if path.exists():
        return path
    beside = path.parent.iterdir() if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, [p.name for p in beside], n=1)
    hint = f"; did you mean {near[0]!r}" if near else ""
    raise FileNotFoundError(f"{path}: there is no such file{hint}")


def _bare(path):
    """The name without the suffix of a packed file."""
    return path.with_suffix("") if path.suffix.lower() in PACKED else path


def _unpacked(path):
    """The bytes of a file, unpacked; or the path of one that is not packed."""
    kind = path.suffix.lower()
    try:
        if kind == ".zip":
            return _only_member(path)
        if kind in PACKED:
            return _opener(kind)(path).read()
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: cannot be unpacked ({error}); get the file again") from error
    return path


def _opener(kind):
    import bz2
    import gzip
    import lzma

    if kind in (".zst", ".zstd"):
        return _zstd
    return {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}[kind]


def _zstd(path):
    import polars as pl

    # Polars unpacks by itself what it reads; a column that no text ends gives the lines back.
    lines = pl.read_csv(path, has_header=False, separator="\x01", quote_char=None, infer_schema=False)
    return io.BytesIO("\n".join(lines.to_series().to_list()).encode())


def _only_member(path):
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if not n.endswith("/") and "__MACOSX" not in n]
        if len(names) != 1:
            raise ValueError(
                f"it holds {len(names)} files ({', '.join(names[:6])}); unpack it and name one of them"
            )
        return archive.read(names[0])


def _columnar(path):
    import polars as pl

    read = pl.read_parquet if _bare(path).suffix.lower() in (".parquet", ".pq") else pl.read_ipc
    source = _unpacked(path)
    try:
        return read(io.BytesIO(source) if isinstance(source, bytes) else source)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{path}: is no such file, or a damaged one ({error}); get it again") from error


# ---- text -------------------------------------------------------------------------


class _Dialect(NamedTuple):
    separator: str
    header: bool
    names: list
    sample: list  # rows of fields after the header


class _Text:
    """A file of text: its dialect, found out by looking at its head, and its table."""

    def __init__(self, path, separator, header, encoding, decimal, columns):
        self.path, self.label = path, path.name
        self.source = _unpacked(path)
        head = self.source[:HEAD] if isinstance(self.source, bytes) else _read_head(self.source)
        if not head.strip():
            raise ValueError(f"{self.label}: is empty; expected ratings")
        self.encoding = encoding or self._guess_encoding(head)
        if self.encoding != "utf-8":
            self.source = self._decoded(self.encoding)
            head = self.source[:HEAD]
        if b"\n" not in head and b"\r" in head:
            self.source = _with_line_feeds(self._raw())
            head = self.source[:HEAD]
        self.quoted, self.skipped = True, 0
        if not head.lstrip(MARK).splitlines()[0].strip():
            head = self._without_first_lines()
        text = head.decode("utf-8", "ignore").lstrip("\ufeff")
        self.dialect = self._look(text, len(head) == HEAD, separator, header, columns)
        self.shown = self.dialect.separator
        self.decimal = decimal or self._guess_decimal()
        check_choice("decimal", self.decimal, (".", ","))
        self.notes = self._notes(separator, header, encoding, decimal)

    def _raw(self):
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()

    def _without_first_lines(self):
        """Leave empty lines at the top out; returns the new head."""
        raw = self._raw().removeprefix(MARK)
        self.source = raw.lstrip()
        self.skipped = raw[: len(raw) - len(self.source)].count(b"\n")
        return self.source[:HEAD]

    # ---- what kind of text ----

    def _guess_encoding(self, head):
        for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"\xef\xbb\xbf", "utf-8")):
            if head.startswith(mark):
                return encoding
        if b"\0" in head:
            raise ValueError(f"{self.label}: is no text (it has zero bytes); expected CSV, Parquet or Arrow")
        try:
            # The head may end inside a character.
            head[: max(head.rfind(b"\n"), 1)].decode("utf-8")
            return "utf-8"
        except UnicodeDecodeError:
            return "cp1252"

    def _decoded(self, encoding):
        raw = self._raw()
        try:
            return raw.decode(encoding).encode()
        except (UnicodeDecodeError, LookupError) as error:
            if encoding == "cp1252":
                return raw.decode("latin-1").encode()  # five bytes have no meaning in Windows-1252
            message = f"{self.label}: encoding: got {encoding!r}, which does not fit ({error})"
            raise ValueError(message) from None

    def _look(self, text, cut, separator, header, columns):
        def rows_by(separator):
            rows = lines.head_records(text, separator)
            return rows[:-1] if cut and len(rows) > 1 else rows  # the last may have been cut off

        first = text.lstrip().splitlines()[0][:60]
        if separator is None:
            separator = max(SEPARATORS, key=lambda s: _fit(rows_by(s), s))
            if _fit(rows_by(separator), separator) <= 0:
                raise ValueError(
                    f"{self.label}, line 1: got {first!r}; expected fields with a comma, semicolon, tab, | "
                    "or :: between them; pass separator=... for another"
                )
        rows = rows_by(separator)
        if header is None:
            header = bool(columns) and set(columns) <= set(rows[0]) or _is_header(rows)
        width = len(rows[0]) if header else _usual([len(row) for row in rows])
        names = rows[0] if header else list(POSITIONS[:width])
        names += [f"column {at + 1}" for at in range(len(names), width)]
        sample = rows[1:] if header else rows
        if not sample:
            raise ValueError(f"{self.label}: has a first line only ({first!r}); expected ratings")
        return _Dialect(separator, header, names, sample)

    def _guess_decimal(self):
        if self.dialect.separator == ",":
            return "."
        commas = re.compile(r"-?\d+,\d+")
        cells = [cell.strip() for row in self.dialect.sample for cell in row]
        return "," if any(commas.fullmatch(cell) for cell in cells) else "."

    def _notes(self, separator, header, encoding, decimal):
        shown = {"\t": "tab"}.get(self.dialect.separator, self.dialect.separator)
        notes = []
        if separator is None and self.dialect.separator != ",":
            notes.append(f"fields separated by {shown}")
        if header is None and not self.dialect.header:
            notes.append("no header: columns taken as " + ", ".join(self.dialect.names[:4]))
        if encoding is None and self.encoding != "utf-8":
            notes.append(f"text in {self.encoding}")
        if decimal is None and self.decimal == ",":
            notes.append("decimal comma")
        return notes

    # ---- the table ----

    def frame(self, given):
        """The columns that are needed, as a Polars frame: whole numbers where that is safe, text else."""
        import polars as pl

        if self.dialect.separator == "::" or len(self.dialect.separator) > 1:
            self._with_one_character()
        types = self._types(given)
        try:
            frame = self._with_written_zeros(self._read(types), types)
        except pl.exceptions.PolarsError:
            # Everything as text: whoever reads a column says what is wrong with it, and where.
            try:
                frame = self._read({name: pl.String for name in types})
            except pl.exceptions.PolarsError as error:
                if self._mended(error):
                    return self.frame(given)
                self._blame(types)
                raise ValueError(
                    f"{self.label}: cannot be read ({error}); pass separator= or encoding="
                ) from error
        first = frame.to_series(0)
        if first.null_count() or first.dtype == pl.String and (first == "").any():
            # Empty lines, of which files often have one at the end.
            frame = frame.filter(~self._empty())
        if any(column.null_count() for column in frame):
            self._blame(types)
        if self.decimal == ",":
            frame = frame.with_columns(
                pl.col(name).str.replace(",", ".", literal=True)
                for name, kind in frame.schema.items() if kind == pl.String and _is_number_like(frame[name])
            )  # fmt: skip
        return frame

    def _types(self, given):
        """The type to read each column as that may be needed, from the head of the file."""
        import polars as pl

        every = {alias for tiers in ALIASES.values() for tier in tiers for alias in tier}
        wanted = [n for n in self.dialect.names if n in given.values() or plain(n) in every]
        wanted = wanted or self.dialect.names
        out = {}
        for name in wanted:
            at = self.dialect.names.index(name)
            cells = [row[at].strip() for row in self.dialect.sample if len(row) > at]
            whole = all(re.fullmatch(r"-?(0|[1-9]\d{0,17})", cell) for cell in cells)
            number = all(re.fullmatch(r"-?\d+(\.\d*)?([eE][+-]?\d+)?", cell) for cell in cells)
            is_id = plain(name) in {a for role in ("user", "item") for tier in ALIASES[role] for a in tier}
            is_id = is_id or name in (given.get("user"), given.get("item"))
            out[name] = pl.Int64 if whole else pl.Float64 if number and not is_id else pl.String
            if is_id and not whole and all(re.fullmatch(r"0|[1-9]\d{0,19}", cell) for cell in cells):
                largest = max(map(int, cells))
                out[name] = pl.Int64 if largest < 2**63 else pl.UInt64 if largest < 2**64 else pl.String
            if out[name] == pl.Int64 and not is_id and not _is_time(name):
                out[name] = pl.Float64  # a rating of 4.5 may come after any number of whole ones
        return out

    def _read(self, types):
        import polars as pl

        names = self.dialect.names
        if len(set(names)) < len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise ValueError(
                f"{self.label}: column {twice} is there {names.count(twice)} times; rename one of them"
            )
        table = self._scan(types)
        if len(types) == len(names):
            return table.select(*types).collect()
        # Polars counts the fields of a line only where it reads all columns.
        others = pl.all_horizontal(pl.exclude(*types).is_null())
        return table.select(*types, others.alias("\0others")).collect().drop("\0others")

    def _scan(self, types):
        """The file as a lazy table."""
        import polars as pl

        return pl.scan_csv(
            self.source, has_header=self.dialect.header, separator=self.dialect.separator,
            schema={name: types.get(name, pl.String) for name in self.dialect.names},
            quote_char='"' if self.quoted else None,
        )  # fmt: skip

    def _empty(self):
        """Which rows have no text in any column."""
        import polars as pl

        return self._scan({}).select(pl.all_horizontal(pl.all().fill_null("") == "")).collect().to_series()

    def _with_written_zeros(self, frame, types):
        """Ids back as text where a column writes 0123: read as numbers, 0123 and 123 would be one."""
        import polars as pl

        ids = [name for name, kind in types.items() if kind in (pl.Int64, pl.UInt64) and not _is_time(name)]
        if not ids or not self._may_have_zeros():
            return frame
        text = self._read({name: pl.String for name in ids})
        kept = [name for name in ids if text[name].str.contains(r"^[-+]?0\d").any()]
        return frame.with_columns(text[name] for name in kept)

    def _may_have_zeros(self):
        """Whether any field of the file begins with a zero before another digit; a pass over its bytes."""
        raw = np.memmap(self.source, np.uint8, "r") if isinstance(self.source, Path) else self.source
        raw = np.asarray(raw) if isinstance(raw, np.memmap) else np.frombuffer(raw, np.uint8)
        is_sign, is_edge = np.zeros((2, 256), bool)
        is_sign[[ord(c) for c in "+-"]] = True
        is_edge[[ord(c) for c in ("\n", '"', self.dialect.separator)]] = True
        zero, step = np.uint8(ord("0")), 1 << 18  # temporaries stay in cache
        for first in range(0, len(raw), step):
            # Two bytes before and one after those that are looked at; the file begins as a line does.
            block = raw[max(first - 2, 0) : first + step + 1]
            block = block if first else np.concatenate([np.full(2, ord("\n"), np.uint8), block])
            digit = block - zero < 10
            at = 2 + np.flatnonzero((block[2:-1] == zero) & digit[3:] & ~digit[1:-2])
            at -= is_sign[block[at - 1]]
            if is_edge[block[at - 1]].any():
                return True
        return False

    def _with_one_character(self):
        """Polars takes one byte between fields: a rare one stands in for what has more."""
        self.source = self._raw().replace(self.dialect.separator.encode(), b"\x1f")
        self.dialect = self.dialect._replace(separator="\x1f")

    def _mended(self, error):
        """Whether something about the text, not seen in its head, can be read in another way."""
        raw = self._raw()
        if "utf-8" in str(error) and self.encoding == "utf-8":
            self.encoding, self.source = "cp1252", self._decoded("cp1252")
            self.notes.append("text in cp1252")
            return True
        if re.search(rb"\r(?!\n)", raw):
            self.source = _with_line_feeds(raw)
            return True
        # Where no field begins with a quote, quotes are text: 7" singles.
        if self.quoted and not re.search(rb'(^|[\n%s])"' % re.escape(self.dialect.separator.encode()), raw):
            self.quoted = False
            return True
        return False

    # ---- the slow look, when something is wrong ----

    def _records(self):
        """The records after the header."""
        found = lines.records(self.source, self.dialect.separator, self.quoted)
        found = islice(found, int(self.dialect.header), None)
        return ((line + self.skipped, fields) for line, fields in found)

    def line_of(self, row):
        """The line of a row, counted from 0."""
        return lines.line_of(self._records(), row)

    def _blame(self, types):
        """Name the first line that has too many fields, or too few for the columns that are needed."""
        expected = len(self.dialect.names)
        needed = 1 + max(map(self.dialect.names.index, types))
        try:
            odd = lines.odd_record(self._records(), expected, needed)
        except csv.Error as reason:
            raise ValueError(f"{self.label}: {reason}; a quote may not be closed: mend it") from None
        if odd is None:
            return
        line, fields = odd
        count = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        opened = "; a quote may not be closed" if any("\n" in field for field in fields) else ""
        raise ValueError(
            f"{self.label}, line {line}: got {count} in {self.shown.join(fields)[:60]!r}; expected "
            f"{expected}{opened}; mend or remove the line"
        )


def _with_line_feeds(raw):
    """Lines that end in a carriage return alone, as old spreadsheets write them, end as others do."""
    return re.sub(rb"\r(?!\n)", b"\n", raw)


def _read_head(path):
    with open(path, "rb") as file:
        return file.read(HEAD)


def _usual(counts):
    return max(set(counts), key=counts.count)


def _fit(rows, separator):
    """How well a separator fits: the share of rows with the usual number of fields, more fields first."""
    counts = [len(row) for row in rows]
    usual = _usual(counts)
    return 0.0 if usual < 2 else counts.count(usual) / len(counts) + usual / 1000 + (len(separator) > 1)


def _is_header(rows):
    """Names of columns: the usual ones, or no number in a line above lines with numbers."""
    first = [plain(cell) for cell in rows[0]]
    usual = [{a for tier in ALIASES[role] for a in tier} for role in ("user", "item")]
    if all(any(cell in names for cell in first) for names in usual):
        return True
    if len(rows) < 2 or any(_number(cell) or _date(cell) for cell in rows[0]):
        return False
    return any(_number(cell) or _date(cell) for cell in rows[1])


def _number(cell):
    return re.fullmatch(r"\s*[-+]?\d+([.,]\d+)?\s*", cell) is not None


def _date(cell):
    return re.match(r"\s*\d{4}-\d\d-\d\d", cell) is not None


def _is_time(name):
    return plain(name) in ("timestamp", "unixreviewtime")


def _is_number_like(series):
    head = [x for x in series.head(1000).to_list() if x is not None]
    return bool(head) and all(_number(x) for x in head) and any("," in x for x in head)
