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
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..checks import check_choice
from .aliases import ALIASES, plain
from .ratings import Ratings

TABLES = (".parquet", ".pq", ".arrow", ".feather", ".ipc")
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zstd")
SEPARATORS = ("::", "\t", ";", "|", ",")
POSITIONS = ("user", "item", "rating", "timestamp")
HEAD = 1 << 16  # bytes that are looked at


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
    its peak: about 3 times the columns.
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
    origin = (path.name, "line", text.first_line)
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
        text = head.decode("utf-8", "ignore").lstrip("\ufeff")
        lines = [line for line in text.splitlines() if line.strip()]
        lines = lines[:-1] if len(head) == HEAD and len(lines) > 1 else lines
        self.dialect = self._look(lines[:200], separator, header, columns)
        self.first_line = 1 + self.dialect.header
        self.decimal = decimal or self._guess_decimal()
        check_choice("decimal", self.decimal, (".", ","))
        self.notes = self._notes(separator, header, encoding, decimal)

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
        raw = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        try:
            return raw.decode(encoding).encode()
        except (UnicodeDecodeError, LookupError) as error:
            if encoding == "cp1252":
                return raw.decode("latin-1").encode()  # five bytes have no meaning in Windows-1252
            message = f"{self.label}: encoding: got {encoding!r}, which does not fit ({error})"
            raise ValueError(message) from None

    def _look(self, lines, separator, header, columns):
        if separator is None:
            separator = max(SEPARATORS, key=lambda s: _fit(lines, s))
            if _fit(lines, separator) <= 0:
                raise ValueError(
                    f"{self.label}, line 1: got {lines[0][:60]!r}; expected fields with a comma, "
                    "semicolon, tab, | "
                    "or :: between them; pass separator=... for another"
                )
        rows = [_fields(line, separator) for line in lines]
        if header is None:
            header = bool(columns) and set(columns) <= set(rows[0]) or _is_header(rows)
        names = rows[0] if header else list(POSITIONS[: len(rows[0])])
        names += [f"column {at + 1}" for at in range(len(names), len(rows[0]))]
        sample = rows[1:] if header else rows
        if not sample:
            raise ValueError(f"{self.label}: has a first line only ({lines[0][:60]!r}); expected ratings")
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
        except pl.exceptions.PolarsError as error:
            if "utf-8" in str(error) and self.encoding == "utf-8":
                # Only the head was looked at; what comes later is in another encoding.
                self.encoding, self.source = "cp1252", self._decoded("cp1252")
                self.notes.append("text in cp1252")
                return self.frame(given)
            frame = self._read_as_text(types)
        if frame.to_series(0).null_count():
            # Empty lines, of which files often have one at the end.
            frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
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
            if out[name] == pl.Int64 and not is_id and plain(name) not in ("timestamp", "unixreviewtime"):
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
        raw = {n: n for n in types}
        if not self.dialect.header:
            # Versions of Polars number the columns from 0 or from 1.
            line = self.dialect.separator.join("x" * len(names)).encode()
            made = pl.read_csv(line, has_header=False, separator=self.dialect.separator).columns
            raw = {n: made[names.index(n)] for n in types}
        frame = pl.read_csv(
            self.source, has_header=self.dialect.header, separator=self.dialect.separator,
            columns=list(raw.values()), schema_overrides={raw[n]: kind for n, kind in types.items()},
            infer_schema=False,
        )  # fmt: skip
        return frame.select(pl.col(raw[n]).alias(n) for n in types)

    def _read_as_text(self, types):
        """Everything as text: whoever reads a column says what is wrong with it, and where."""
        import polars as pl

        try:
            return self._read({name: pl.String for name in types})
        except pl.exceptions.PolarsError as error:
            self._blame(error)

    def _with_written_zeros(self, frame, types):
        """Ids back as text where a column writes 0123: read as numbers, 0123 and 123 would be one."""
        import polars as pl

        ids = [name for name, kind in types.items() if kind in (pl.Int64, pl.UInt64)]
        if not ids or not self._may_have_zeros():
            return frame
        text = self._read({name: pl.String for name in ids})
        kept = [name for name in ids if text[name].str.contains(r"^[-+]?0\d").any()]
        return frame.with_columns(text[name] for name in kept)

    def _may_have_zeros(self):
        """Whether any field of the file begins with a zero before another digit; a pass over its bytes."""
        raw = np.memmap(self.source, np.uint8, "r") if isinstance(self.source, Path) else self.source
        raw = np.frombuffer(raw, np.uint8) if isinstance(raw, bytes) else raw
        starts = [ord(c) for c in ("\n", '"', "+", "-", self.dialect.separator)]
        step = 1 << 20  # temporaries stay in cache
        for first in range(0, len(raw), step):
            block = raw[max(first - 1, 0) : first + step + 1]
            zero = np.flatnonzero(block[:-1] == ord("0"))
            digit = (block[zero + 1] >= ord("0")) & (block[zero + 1] <= ord("9"))
            before = np.isin(block[zero - 1], starts) | ((zero == 0) & (first == 0))
            if (digit & before).any():
                return True
        return False

    def _with_one_character(self):
        """Polars takes one byte between fields: a rare one stands in for what has more."""
        raw = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        self.source = raw.replace(self.dialect.separator.encode(), b"\x1f")
        self.dialect = self.dialect._replace(separator="\x1f")

    def _blame(self, error):
        """The first line that has another number of fields, in our own words."""
        raw = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        lines = io.StringIO(raw.decode("utf-8", "replace").lstrip("\ufeff"), newline="")
        reader = csv.reader(lines, delimiter=self.dialect.separator)
        expected = len(self.dialect.names)
        try:
            for row in reader:
                if row and len(row) != expected:
                    raise ValueError(
                        f"{self.label}, line {reader.line_num}: got {len(row)} fields in "
                        f"{self.dialect.separator.join(row)[:60]!r}; expected {expected}; mend or "
                        "remove the line"
                    ) from None
        except csv.Error as reason:
            raise ValueError(f"{self.label}, line {reader.line_num}: {reason}; mend the line") from None
        raise ValueError(f"{self.label}: cannot be read ({error}); pass separator= or encoding=") from error


def _read_head(path):
    with open(path, "rb") as file:
        return file.read(HEAD)


def _fields(line, separator):
    if len(separator) > 1:
        return line.split(separator)
    return next(csv.reader([line], delimiter=separator), [])


def _fit(lines, separator):
    """How well a separator fits: the share of lines with the usual number of fields, more fields first."""
    counts = [len(_fields(line, separator)) for line in lines]
    usual = max(set(counts), key=counts.count)
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


def _is_number_like(series):
    head = [x for x in series.head(1000).to_list() if x is not None]
    return bool(head) and all(_number(x) for x in head) and any("," in x for x in head)
