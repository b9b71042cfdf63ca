"""Read MovieLens in every published layout, download it, and draw synthetic ratings."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import lzma
import os
import re
import shutil
import tempfile
import warnings
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..checks import check_choice
from .ratings import Ratings

# polars, pooch, scipy and the kernels are imported where they are used: most readers of the book load the
# embedded data, and should not wait for the rest.

_PACKAGE = Path(__file__).resolve().parents[1]
_REPOSITORY_DATA = _PACKAGE.parent / "data"

_GROUPLENS = "https://files.grouplens.org/datasets/movielens/"
_MIRROR = "https://huggingface.co/datasets/Recommenders/MovieLens/resolve/main/"


class _Edition(NamedTuple):
    layout: str  # "u" (u.data, u.item, u.user), "dat" or "csv"
    encoding: str
    scale: tuple
    checksum: str | None  # as GroupLens publishes it beside the zip
    mirrored: bool


_WHOLE_STARS, _HALF_STARS = (1.0, 5.0), (0.5, 5.0)
_EDITIONS = {
    "100k": _Edition("u", "latin-1", _WHOLE_STARS, "md5:0e33842e24a9c977be4e0107933c0723", True),
    "1m": _Edition("dat", "latin-1", _WHOLE_STARS, "md5:c4d9eecfca2ab87c1945afe126590906", True),
    "10m": _Edition("dat", "utf-8", _HALF_STARS, "md5:ce571fd55effeba0271552578f2648bd", True),
    "20m": _Edition("csv", "utf-8", _HALF_STARS, "md5:cd245b17a1ae2cc31bb14903e1204af3", True),
    "25m": _Edition("csv", "utf-8", _HALF_STARS, "md5:6b51fb2759a8657d3bfcbfc42b592ada", False),
    "32m": _Edition("csv", "utf-8", _HALF_STARS, "md5:d472be332d4daa821edc399621853b57", False),
    # GroupLens replaces these two from time to time, so no checksum holds for long.
    "latest": _Edition("csv", "utf-8", _HALF_STARS, None, False),
    "latest-small": _Edition("csv", "utf-8", _HALF_STARS, None, False),
}

_RATING_FILES = {"u": "u.data", "dat": "ratings.dat", "csv": "ratings.csv"}
_MOVIE_FILES = {"u": "u.item", "dat": "movies.dat", "csv": "movies.csv"}
_USER_FILES = {"100k": "u.user", "1m": "users.dat"}
_RATING_COLUMNS = ("userId", "movieId", "rating", "timestamp")
_MOVIE_COLUMNS = ("movieId", "title", "genres")

# The order of the 19 flags that end a line of u.item.
_GENRES_100K = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror "
    "Musical Mystery Romance Sci-Fi Thriller War Western"
).split()
_NO_GENRES = "(no genres listed)"
# The occupations that users.dat of 1m gives as numbers, in that order.
_OCCUPATIONS_1M = (
    "other or not specified,academic/educator,artist,clerical/admin,college/grad student,customer service,"
    "doctor/health care,executive/managerial,farmer,homemaker,K-12 student,lawyer,programmer,retired,"
    "sales/marketing,scientist,self-employed,technician/engineer,tradesman/craftsman,unemployed,writer"
).split(",")

_BLOCK = 8 << 20  # bytes that are parsed at a time
_CACHE_FORMAT = 1
_CACHE_FROM_BYTES = 8 << 20  # smaller files are read faster than a cache is worth


class DataError(ValueError):
    """A file of ratings that cannot be read; the message says where, what was expected and what to do."""


class DownloadError(OSError):
    """No source gave the file; the message says what each answered and how to do it by hand."""


# ---- public functions ---------------------------------------------------------


def load_movielens(
    name="latest-small",
    path=None,
    *,
    duplicates="error",
    cache=True,
    checksum=None,
    sources=None,
    verbose=True,
):
    """Load a MovieLens data set.

    Without `path`, ``"latest-small"`` is the release of October 2016 that comes with the book
    (data/README.md), and every other name is downloaded at the first call (`download`). The file that
    GroupLens publishes today as ml-latest-small.zip is a later release of another 100,836 ratings; to
    read that one, pass its `path`.

    Parameters
    ----------
    name : str
        "100k", "1m", "10m", "20m", "25m", "32m", "latest" or "latest-small", with or without "ml-" in
        front. It also says which layout, text encoding and rating scale to expect in `path`.
    path : path-like, optional
        Folder with the unpacked files, or the zip as it was downloaded. The files may lie one folder down.
    duplicates : {"error", "last", "mean"}
        What to do with repeated (user, movie) pairs; see `Ratings.from_frame`. The count is in the
        result's `n_duplicates`.
    cache : bool
        Keep the columns of large files in binary form in `data_folder`, and use them while size and
        modification time of the file stay the same. A damaged cache is noticed and made again.
    checksum, sources, verbose
        For `download`.

    Returns
    -------
    Ratings
        With `movies` (movieId, title, year, genres; a title or a year that is missing is NA; genres are
        joined by ``|``) and, for 100k and 1m, `users` (userId, age, gender, occupation, zip_code; in 1m
        the age is the lower end of a bracket).

    Raises
    ------
    DataError
        Where a file or column is missing or damaged. It is a ValueError, and names file, line or column,
        and the remedy.
    DownloadError
        Where no source could be reached or gave the right file.
    ValueError
        Where an argument is out of its range.

    Notes
    -----
    Ratings are read with Polars into int32 ids, float32 ratings and int64 timestamps; benchmarks/loading.py
    measures time and memory. Encodings: 100k and 1m are in Latin-1, the others in UTF-8.

    References
    ----------
    F. M. Harper and J. A. Konstan (2015). The MovieLens Datasets: History and Context. ACM Transactions on
    Interactive Intelligent Systems 5(4), 19. https://doi.org/10.1145/2827872
    """
    key = _edition_name(name)
    check_choice("duplicates", duplicates, ("error", "last", "mean"))
    if path is None and key == "latest-small":
        path = _embedded()
    elif path is None:
        path = data_folder() / f"ml-{key}.zip"
        # The cache can only have been made from a zip that passed the checksum.
        if not (cache and path.exists() and _cache_of([path], key, duplicates).exists()):
            path = download(key, checksum=checksum, sources=sources, verbose=verbose)
    with _Files(path, key) as files:
        return _load(files, key, duplicates, cache)


def load_100k_folds(path=None, **options):
    """The five official train and test sets of MovieLens 100k, u1 … u5.

    The test sets are disjoint, and together they are the whole data set; they are what published results
    on 100k usually refer to.

    Parameters
    ----------
    path : path-like, optional
        Folder or zip of 100k; downloaded where it is None.
    **options
        checksum, sources and verbose of `download`.

    Yields
    ------
    train, test : Ratings
        All ten share one index of users and movies.

    Raises
    ------
    DataError
        As `load_movielens`, and where a fold is not a partition of u.data.
    """
    if path is None:
        path = download("100k", **options)
    with _Files(path, "100k") as files:
        whole = _load(files, "100k", "error", cache=False)
        pairs = np.sort(_pairs(whole))
        for fold in range(1, 6):
            parts = []
            for side in ("base", "test"):
                member = f"u{fold}.{side}"
                part = _rating_table(files, member, "u", "error", scale=_WHOLE_STARS)
                codes = whole.encode_users(part.user_ids), whole.encode_items(part.item_ids)
                if min(codes[0].min(), codes[1].min()) < 0:
                    raise DataError(f"{files.label(member)}: has a user or a movie that u.data has not")
                parts.append(
                    Ratings(
                        codes[0][part.user_codes],
                        codes[1][part.item_codes],
                        part.values,
                        part.timestamps,
                        whole.user_ids,
                        whole.item_ids,
                        scale=whole.scale,
                        movies=whole.movies,
                        users=whole.users,
                        name=f"ml-100k {member}",
                    )
                )
            if not np.array_equal(np.sort(np.concatenate([_pairs(part) for part in parts])), pairs):
                raise DataError(
                    f"{files.label(f'u{fold}.base')} and .test together are not the pairs of u.data; "
                    "the copy is incomplete or changed: download ml-100k.zip again"
                )
            yield tuple(parts)


def download(name, *, folder=None, checksum=None, sources=None, verbose=True):
    """Download a MovieLens zip, unless it is there already; return its path.

    Parameters
    ----------
    name : str
        As in `load_movielens`.
    folder : path-like, optional
        Where to put it; `data_folder` where it is None.
    checksum : str, optional
        "md5:…" or "sha256:…". The published one is built in for all but "latest" and "latest-small",
        which change; for those it must be given.
    sources : sequence of str, optional
        Base URLs to try in this order. The default is GroupLens, then, for 100k to 20m, the copy of the
        Recommenders project at Hugging Face, which has to have the same checksum.
    verbose : bool
        Show a progress bar.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    DownloadError
        Where every source failed. It says what each answered, and how to do it by hand.
    DataError
        Where a file that is there already has another checksum.
    ValueError
        Where the name is unknown, or the checksum is.

    Notes
    -----
    The file gets its name only when it is complete and its checksum is right. TLS certificates are
    always verified.
    """
    import pooch

    key = _edition_name(name)
    edition = _EDITIONS[key]
    folder = data_folder() if folder is None else Path(folder)
    target = folder / f"ml-{key}.zip"
    expected = _checksum(checksum) if checksum is not None else edition.checksum
    if target.exists():
        if expected is not None:
            algorithm, digest = expected.split(":")
            found = pooch.file_hash(str(target), alg=algorithm)
            if found != digest:
                raise DataError(
                    f"{target}: {algorithm} is {found}; expected {digest}: the file is incomplete or another "
                    "release; delete it and try again, or pass path= to read it as it is"
                )
        return target
    if expected is None:
        raise ValueError(
            f"checksum: got None; expected one for {key!r}, which changes from time to time: take it from "
            f'{_GROUPLENS}ml-{key}.zip.md5 and pass checksum="md5:…"'
        )
    if sources is None:
        sources = (_GROUPLENS, _MIRROR) if edition.mirrored else (_GROUPLENS,)
    answers = []
    for base in sources:
        url = f"{base.rstrip('/')}/{target.name}"
        try:
            pooch.retrieve(
                url,
                known_hash=expected,
                fname=target.name,
                path=folder,
                downloader=pooch.HTTPDownloader(progressbar=verbose, timeout=30),
            )
            return target
        except (
            OSError,
            ValueError,
        ) as error:  # those of requests are OSErrors, a wrong checksum a ValueError
            answers.append(f"  {url}\n    {type(error).__name__}: {error}")
    raise DownloadError(
        f"{target.name} could not be downloaded:\n" + "\n".join(answers) + "\n"
        f"By hand: get {target.name} from https://grouplens.org/datasets/movielens/ with a browser and put "
        f"it at {target}, or anywhere, and pass path= with the place; then call again."
    )


def data_folder():
    """Where downloads and caches go.

    The folder named by the environment variable RECSYS_DATA; else data/cache of the repository, if the
    package is run from there; else the user's cache folder.
    """
    if os.environ.get("RECSYS_DATA"):
        return Path(os.environ["RECSYS_DATA"]).expanduser()
    if (_REPOSITORY_DATA / "ml-latest-small").is_dir():
        return _REPOSITORY_DATA / "cache"
    import pooch

    return Path(pooch.os_cache("recsys_helpers"))


# ---- names and places ---------------------------------------------------------


def _edition_name(name):
    key = str(name).lower().removeprefix("ml-")
    check_choice("name", key, tuple(_EDITIONS))
    return key


def _embedded():
    for folder in (_REPOSITORY_DATA / "ml-latest-small", _PACKAGE / "_data" / "ml-latest-small"):
        if folder.is_dir():
            return folder
    raise DataError(
        f"{_REPOSITORY_DATA / 'ml-latest-small'}: the data that comes with the package is missing; "
        "clone the repository or install the package again"
    )


def _checksum(text):
    algorithm, _, digest = str(text).strip().lower().rpartition(":")
    algorithm = algorithm or {32: "md5", 64: "sha256"}.get(len(digest), "")
    if algorithm not in hashlib.algorithms_available or not re.fullmatch(r"[0-9a-f]+", digest):
        raise ValueError(f'checksum: got {text!r}; expected "md5:" or "sha256:" and the hexadecimal digest')
    return f"{algorithm}:{digest}"


# What zipfile and its decompressors raise on damaged, encrypted or unknown content.
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError, ValueError)


class _Files:
    """The files of a data set, in a folder or in a zip, which is read without unpacking it."""

    def __init__(self, path, key):
        self.path = Path(path).expanduser()
        self.key = key
        self.zip = None
        if not self.path.exists():
            raise DataError(f"{self.path}: no such file or folder; expected the folder or zip of ml-{key}")
        if self.path.is_dir():
            return
        try:
            self.zip = zipfile.ZipFile(self.path)
        except _DAMAGE as error:
            raise DataError(
                f"{self.path}: not a readable zip ({error}); the download was cut short or this is another "
                "kind of file: download it again, or pass the folder with the unpacked files"
            ) from None
        for member in self.zip.namelist():
            parts = member.replace("\\", "/").split("/")
            if parts[0] == "" or ".." in parts or ":" in parts[0]:
                self.zip.close()
                raise DataError(
                    f"{self.path}: member {member!r} points outside of the zip's own folder; "
                    "a MovieLens zip has none such: get a fresh copy from grouplens.org"
                )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.zip is not None:
            self.zip.close()

    def find(self, name):
        """The file's path or the member's name, at the top or one folder down; None where there is none."""
        if self.zip is None:
            top = self.path / name
            found = [top] if top.is_file() else sorted(p for p in self.path.glob(f"*/{name}") if p.is_file())
        else:
            found = [
                member
                for member in self.zip.namelist()
                if member.split("/")[-1] == name
                and member.count("/") < 2
                and not member.startswith("__MACOSX/")
            ]
        if len(found) > 1:
            raise DataError(
                f"{self.path}: holds {name} {len(found)} times ({found[0]}, {found[1]}, …); "
                "pass the folder that holds the one you mean"
            )
        return found[0] if found else None

    def need(self, name):
        found = self.find(name)
        if found is None:
            own = _RATING_FILES[_EDITIONS[self.key].layout]
            others = [file for file in _RATING_FILES.values() if file != own and self.find(file)]
            hint = (
                f"it holds {others[0]}: pass the name of that data set"
                if others
                else "download the zip again"
            )
            raise DataError(f"{self.path}: has no {name}, which ml-{self.key} needs; {hint}")
        return found

    def label(self, name):
        """How errors call the file."""
        found = self.need(name)
        return str(found) if self.zip is None else f"{self.path}: {found}"

    def blocks(self, name):
        """The content in pieces of about `_BLOCK` bytes that end where a line does.

        The zip's own checksum of the file is verified on the way.
        """
        found = self.need(name)
        rest = b""
        with self._open(found) as stream:
            while True:
                try:
                    block = stream.read(_BLOCK)
                except _DAMAGE as error:
                    raise self._damaged(name, error) from None
                if not block:
                    break
                cut = block.rfind(b"\n") + 1
                if cut:
                    yield rest + block[:cut]
                    rest = b""
                rest += block[cut:]
        if rest:
            yield rest

    def _open(self, found):
        if self.zip is None:
            return open(found, "rb", buffering=0)
        try:
            return self.zip.open(found)
        except _DAMAGE as error:
            raise self._damaged(Path(found).name, error) from None

    def _damaged(self, name, error):
        return DataError(f"{self.label(name)}: cannot be read ({error}); it is damaged: download it again")

    def text(self, name, encoding):
        content = b"".join(self.blocks(name))
        try:
            return content.decode(encoding).removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise DataError(
                f"{self.label(name)}, line {line}: is not {encoding} text ({error.reason}); "
                f"expected the encoding of ml-{self.key} as published"
            ) from None

    def size(self, name):
        found = self.need(name)
        return found.stat().st_size if self.zip is None else self.zip.getinfo(found).file_size


# ---- reading ------------------------------------------------------------------


def _load(files, key, duplicates, cache):
    edition = _EDITIONS[key]
    member = _RATING_FILES[edition.layout]
    store = None
    if cache and files.size(member) >= _CACHE_FROM_BYTES:
        members = (member, _MOVIE_FILES[edition.layout], _USER_FILES.get(key))
        sources = [files.path] if files.zip else [files.need(m) for m in members if m]
        store = _cache_of(sources, key, duplicates)
        cached = _read_cache(store)
        if cached is not None:
            return Ratings(**cached, scale=edition.scale, name=f"ml-{key}")
    ratings = _rating_table(
        files,
        member,
        edition.layout,
        duplicates,
        scale=edition.scale,
        movies=_movie_frame(_movie_table(files, edition)),
        users=_user_frame(_user_table(files, key)),
        name=f"ml-{key}",
    )
    if store is not None:
        _write_cache(store, ratings)
    return ratings


def _rating_table(files, member, layout, duplicates, **options):
    """Read one file of ratings; parsing a block and storing the one before go on at the same time."""
    label, header = files.label(member), layout == "csv"
    columns, filled = None, 0
    for share, frame in _one_ahead(_rating_frames(files, member, layout)):
        at, filled = filled, filled + len(frame)
        if columns is None or filled > len(columns[0]):
            # At first a guess from the share of the file that was read; memory not written to costs nothing.
            room = int(1.1 * filled / share) if columns is None else 2 * filled
            grown = [np.empty(room, dtype=t) for t in (np.int32, np.int32, np.float32, np.int64)]
            for new, old in zip(grown, columns or (), strict=columns is not None):
                new[:at] = old[:at]
            columns = grown
        for column, name in zip(columns, _RATING_COLUMNS, strict=True):
            to = at
            for chunk in frame[name].get_chunks():
                column[to : to + len(chunk)] = chunk.to_numpy()
                to += len(chunk)
    if columns is None:
        raise DataError(f"{label}: is empty; expected ratings: download the data again")
    for name, column in zip(_RATING_COLUMNS, columns, strict=True):
        # MovieLens has no negative ids and no times before 1970; another table may.
        if name != "rating" and filled and column[:filled].min() < 0:
            row = int(np.argmax(column[:filled] < 0))
            raise DataError(
                f"{label}: column {name}, line {row + 1 + header}: got {column[row]}; expected a "
                "number not below 0"
            )
    try:
        return Ratings.from_arrays(
            *(column[:filled] for column in columns),
            duplicates=duplicates,
            origin=(label, "line", 1 + header),
            copy=False,
            **options,
        )
    except ValueError as error:
        raise DataError(str(error)) from None


def _rating_frames(files, member, layout):
    """Yield each block's share of the file and its table; polars parses, `_blame` words its refusals."""
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
                names = _header(line, _RATING_COLUMNS, label)
                schema = {c: types.get(c, pl.String) for c in names}
        if not block:
            continue
        try:
            frame = pl.read_csv(block, separator=separator[0], has_header=False, schema=schema)
        except pl.exceptions.PolarsError as error:
            _blame(block, label, line_number, names, separator, str(error).splitlines()[0])
        if any(frame[c].null_count() for c in types) or any(frame[c].count() for c in gaps):
            _blame(block, label, line_number, names, separator, "a field is empty")
        lines = np.count_nonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")) + (block[-1:] != b"\n")
        if lines != len(frame):  # nothing is lost unnoticed
            _blame(block, label, line_number, names, separator, f"{lines} lines, {len(frame)} ratings")
        line_number += len(frame)
        yield share, frame


def _one_ahead(items):
    """The items of a generator, each made by a second thread while the one before is in use."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def _header(line, expected, label):
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


def _blame(block, label, first, names, separator, reason):
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
                f"{at}: got {len(fields)} field(s) in {_shown(line)}; expected {len(names)}, separated by "
                f"{separator!r}"
            )
        for column, field in zip(names, fields, strict=True):
            if len(field) > 1 and field[:1] == field[-1:] == b'"':
                field = field[1:-1]
            if column == "rating" and not _NUMBER.fullmatch(field):
                raise DataError(f"{at}, column rating: got {_shown(field)}; expected a number")
            if column in _LIMITS and not _WHOLE.fullmatch(field):
                raise DataError(f"{at}, column {column}: got {_shown(field)}; expected a whole number")
            if column in _LIMITS and abs(int(field)) > _LIMITS[column]:
                raise DataError(
                    f"{at}, column {column}: got {_shown(field)}; expected at most {_LIMITS[column]}"
                )
    raise DataError(
        f"{label}, lines {first} to {first + len(lines) - 1}: cannot be read ({reason}); compare them with "
        "the layout that GroupLens publishes"
    )


def _shown(field):
    text = field.decode("utf-8", errors="replace")
    return repr(text if len(text) <= 60 else text[:57] + "…")


_YEAR = re.compile(r"\(([0-9]{4})\)\s*$")


def _movie_table(files, edition):
    member = _MOVIE_FILES[edition.layout]
    label = files.label(member)
    text = files.text(member, edition.encoding)
    rows = []
    if edition.layout == "csv":
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        try:
            names = _header(text[: text.find("\n") + 1 or None].encode(), _MOVIE_COLUMNS, label)
            next(reader)
            places = [names.index(column) for column in _MOVIE_COLUMNS]
            for row in reader:
                if len(row) != len(names):
                    raise DataError(
                        f"{label}, line {reader.line_num}: got {len(row)} field(s); expected {len(names)}, "
                        "separated by commas, with quotes around a title that has a comma"
                    )
                movie = _id(row[places[0]], label, reader.line_num, "movieId")
                rows.append((movie, row[places[1]], row[places[2]]))
        except csv.Error as error:
            raise DataError(f"{label}, line {reader.line_num}: {error}; mend its quotes") from None
    else:
        for number, line in _lines(text):
            if edition.layout == "dat":
                fields = line.split("::", 1)
                fields = fields[:1] + fields[-1].rsplit("::", 1) if len(fields) == 2 else fields
                wanted = "movieId::title::genres"
            else:
                fields = line.split("|")
                flags = fields[5:]
                wanted = "24 fields separated by '|'"
                if len(fields) == 24 and set(flags) <= {"0", "1"}:
                    genres = [genre for genre, flag in zip(_GENRES_100K, flags, strict=True) if flag == "1"]
                    fields = [*fields[:2], "|".join(genres) or _NO_GENRES]
            if len(fields) != 3:
                raise DataError(f"{label}, line {number}: got {line[:60]!r}; expected {wanted}")
            rows.append((_id(fields[0], label, number, "movieId"), fields[1], fields[2]))
    ids, titles, genres = zip(*rows, strict=True) if rows else ((), (), ())
    _refuse_repeats(ids, f"{label}: movieId")
    years = [_YEAR.search(title) for title in titles]
    return {
        "movieId": list(ids),
        "title": [title or None for title in titles],
        "year": [int(year[1]) if year else None for year in years],
        "genres": [genre or None for genre in genres],
    }


def _movie_frame(columns):
    types = {"movieId": "int64", "title": "str", "year": "Int64", "genres": "str"}
    return pd.DataFrame({name: pd.Series(columns[name], dtype=dtype) for name, dtype in types.items()})


def _user_table(files, key):
    if key not in _USER_FILES:
        return None
    member, split = _USER_FILES[key], "|" if key == "100k" else "::"
    label = files.label(member)
    rows = []
    for line_number, line in _lines(files.text(member, "latin-1")):
        fields = line.split(split)
        if len(fields) != 5:
            raise DataError(
                f"{label}, line {line_number}: got {len(fields)} field(s); expected 5, separated by {split!r}"
            )
        if key == "100k":
            user, age, gender, occupation, zip_code = fields
        else:
            user, gender, age, occupation, zip_code = fields
            code = _id(occupation, label, line_number, "occupation")
            if code >= len(_OCCUPATIONS_1M):
                raise DataError(
                    f"{label}, line {line_number}, column occupation: got {code}; "
                    f"expected 0 to {len(_OCCUPATIONS_1M) - 1}"
                )
            occupation = _OCCUPATIONS_1M[code]
        user, age = _id(user, label, line_number, "userId"), _id(age, label, line_number, "age")
        rows.append((user, age, gender, occupation, zip_code))
    _refuse_repeats([row[0] for row in rows], f"{label}: userId")
    return {name: [row[at] for row in rows] for at, name in enumerate(_USER_TYPES)}


_USER_TYPES = {"userId": "int64", "age": "int64", "gender": "str", "occupation": "str", "zip_code": "str"}


def _user_frame(columns):
    if columns is None:
        return None
    return pd.DataFrame({name: pd.Series(columns[name], dtype=dtype) for name, dtype in _USER_TYPES.items()})


def _lines(text):
    """Numbered lines; only \\n ends one, for Latin-1 text may hold what Unicode takes for other line ends."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return ((number, line.removesuffix("\r")) for number, line in enumerate(lines, 1))


def _id(text, label, line, column):
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        where = f"{label}, line {line}, column {column}"
        raise DataError(f"{where}: got {text[:60]!r}; expected a whole number not below 0")
    return int(text)


def _refuse_repeats(ids, where):
    unique, counts = np.unique(np.array(ids, dtype=np.int64), return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{where} {unique[np.argmax(counts > 1)]} comes twice or more; keep one of its lines")


def _pairs(ratings):
    return ratings.user_codes.astype(np.int64) * ratings.n_items + ratings.item_codes


# ---- the binary cache ---------------------------------------------------------
# One folder per set of files and duplicate policy, with one .npy per column, which is mapped into memory, and
# the tables as JSON. It gets its name when it is complete; sums.json tells whether it still is.

_CACHED = ("user_codes", "item_codes", "values", "timestamps", "user_ids", "item_ids")


def _cache_of(sources, key, duplicates):
    """The folder's name: where the files are, and, after the last hyphen, their state."""
    facts = [Path(source).stat() for source in sources]
    place = _short_hash([str(Path(source).resolve()) for source in sources], duplicates)
    state = _short_hash(_CACHE_FORMAT, [(fact.st_size, fact.st_mtime_ns) for fact in facts])
    return data_folder() / f"ml-{key}-{place}-{state}"


def _short_hash(*parts):
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _sum(array):
    """A 64-bit sum of the bytes' words: any one change shows, and memory is read at full speed."""
    words = array.view(np.uint8)
    whole = len(words) // 8 * 8
    return int(words[:whole].view(np.uint64).sum(dtype=np.uint64)) + int(words[whole:].sum())


def _read_cache(store):
    """The arguments of the cached Ratings, or None where there is no sound cache."""
    if not store.is_dir():
        return None
    try:
        sums = json.loads((store / "sums.json").read_text(encoding="utf-8"))
        columns = {
            name: np.load(store / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _CACHED
        }
        tables = (store / "tables.json").read_bytes()
        if sums == {name: _sum(array) for name, array in columns.items()} | {"tables": zlib.crc32(tables)}:
            tables = json.loads(tables)
            return {
                **columns,
                "movies": _movie_frame(tables["movies"]),
                "users": _user_frame(tables["users"]),
                "n_duplicates": tables["n_duplicates"],
            }
    except (OSError, ValueError, TypeError, AttributeError, EOFError):
        pass
    shutil.rmtree(store, ignore_errors=True)
    return None


def _write_cache(store, ratings):
    columns = {name: getattr(ratings, name) for name in _CACHED}
    movies = ratings.movies.astype(object).where(ratings.movies.notna(), None)
    tables = {
        "movies": movies.to_dict("list"),
        "users": None if ratings.users is None else ratings.users.to_dict("list"),
        "n_duplicates": ratings.n_duplicates,
    }
    tables = json.dumps(tables).encode()
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=store.parent, prefix="unfinished-", ignore_cleanup_errors=True
        ) as scratch:
            unfinished = Path(scratch, "cache")
            unfinished.mkdir()
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda name: np.save(unfinished / f"{name}.npy", columns[name]), columns))
            (unfinished / "tables.json").write_bytes(tables)
            sums = {name: _sum(array) for name, array in columns.items()} | {"tables": zlib.crc32(tables)}
            (unfinished / "sums.json").write_text(json.dumps(sums), encoding="utf-8")
            if not store.exists():  # another process may have been quicker
                unfinished.rename(store)
        for stale in store.parent.glob(store.name.rpartition("-")[0] + "-*"):
            if stale != store:
                shutil.rmtree(stale, ignore_errors=True)
    except OSError as error:
        warnings.warn(
            f"{store}: the cache could not be written ({error}); pass cache=False to load_movielens to do "
            "without, or set RECSYS_DATA to a folder that can be written",
            stacklevel=4,
        )


# ---- synthetic ratings --------------------------------------------------------

_FIRST_SECOND, _LAST_SECOND = 820_454_400, 1_476_640_644  # 1996-01-01, and the last of latest-small


def synthetic_ratings(
    n_users,
    n_items,
    n_ratings,
    seed=0,
    *,
    rank=8,
    noise=0.8,
    activity_spread=1.4,
    popularity_spread=1.8,
    name="synthetic",
):
    """Ratings drawn from a known low-rank model, as unevenly spread as MovieLens.

    For a user u and an item i that u rated, with E normal noise of standard deviation `noise`,
    ``r = 3.55 + b_u + b_i + p_u . q_i + E``, rounded to half stars and clipped to 0.5 … 5. The biases are
    normal with standard deviations 0.43 and 0.45, and p_u . q_i has 0.35, whatever the rank. Which items a
    user rates does not depend on taste; in real data it does, so a model that is right here may still be
    biased there.

    Parameters
    ----------
    n_users, n_items : int
        Numbers of users m and of items n. Every one of them has at least one rating. Ids count from 1.
    n_ratings : int
        Exact number of ratings, all of distinct (user, item) pairs; from max(m, n) to m n.
    seed : int
        The same seed gives the same ratings.
    rank : int
        Length of p_u and q_i; 0 leaves biases and noise.
    noise : float
        Standard deviation of E, in stars: the least RMSE that any model can reach, but for rounding
        and clipping.
    activity_spread, popularity_spread : float
        Standard deviations of the logarithm of a user's ratings above the minimum of 20, and of an item's
        chance of being picked. 0 is uniform.
    name : str
        Name of the result.

    Returns
    -------
    Ratings
        Sorted by user and item, with timestamps; without a table of movies.

    Raises
    ------
    ValueError
        Where an argument is out of its range.

    Notes
    -----
    How like MovieLens: with the sizes of latest-small (671 users, 9,066 films, 100,004 ratings, seed 0)
    the quantiles are

    ===============  ====  ====  ====  ====  ====  =====  =====  ====
    ratings of a …   10 %  25 %  50 %  75 %  90 %   99 %    max  Gini
    ===============  ====  ====  ====  ====  ====  =====  =====  ====
    user, real         24    37    71   161   323  1,131  2,391  0.58
    user, synthetic    28    40    70   150   322  1,283  2,266  0.58
    film, real          1     1     3     9    28    123    341  0.72
    film, synthetic     1     1     3    10    27    121    525  0.71
    ===============  ====  ====  ====  ====  ====  =====  =====  ====

    Both spreads were chosen on that data set; how alike the curves are at other sizes was not compared.
    Activity takes the quantiles of its distribution, in random order, so its curve is the same for
    every seed. No user rates more than a quarter of the items while the number of ratings allows it.
    Every user has at least 20 ratings where the mean is 40 or more, at least half the mean below that.

    Cost: O(n_ratings (log n + rank)) operations in one thread, 20 bytes a rating.
    """
    from scipy.special import ndtri

    from ..checks import check_non_negative, check_positive_int
    from ..kernels.synthetic import draw_items, draw_values

    check_positive_int("n_users", n_users)
    check_positive_int("n_items", n_items)
    check_positive_int("n_ratings", n_ratings)
    check_positive_int("rank", rank, minimum=0)
    check_positive_int("seed", seed, minimum=0)
    check_non_negative("noise", noise)
    check_non_negative("activity_spread", activity_spread)
    check_non_negative("popularity_spread", popularity_spread)
    if not max(n_users, n_items) <= n_ratings <= n_users * n_items:
        raise ValueError(
            f"n_ratings: got {n_ratings:,}; expected from {max(n_users, n_items):,} (one for each user and "
            f"each item) to {n_users * n_items:,} (all pairs)"
        )
    rng = np.random.default_rng(seed)
    spread = np.exp(activity_spread * ndtri((np.arange(n_users) + 0.5) / n_users))
    activity = rng.permutation(_share_out(n_ratings, spread, n_items))
    weights = np.exp(popularity_spread * ndtri((np.arange(n_items) + 0.5) / n_items))
    weights = rng.permutation(weights)
    indptr = np.concatenate([[0], np.cumsum(activity)])
    item_codes = np.empty(n_ratings, dtype=np.int32)
    draw_items(indptr, weights, np.cumsum(weights), int(rng.integers(2**62)), item_codes)

    factor_sd = 0.35**0.5 / max(rank, 1) ** 0.25
    user_codes = np.empty(n_ratings, dtype=np.int32)
    values = np.empty(n_ratings, dtype=np.float32)
    stamps = np.empty(n_ratings, dtype=np.int64)
    draw_values(
        indptr,
        item_codes,
        3.55,
        rng.normal(0, 0.43, n_users),
        rng.normal(0, 0.45, n_items),
        rng.normal(0, factor_sd, (n_users, rank)),
        rng.normal(0, factor_sd, (n_items, rank)),
        float(noise),
        0.5,  # half stars, from one half to five
        5.0,
        0.5,
        rng.integers(_FIRST_SECOND, _LAST_SECOND, n_users),
        rng.lognormal(np.log(3600), 2, n_users),  # most users rate within hours, a few over years
        _LAST_SECOND,
        int(rng.integers(2**62)),
        user_codes,
        values,
        stamps,
    )
    ids = np.arange(1, n_users + 1, dtype=np.int32), np.arange(1, n_items + 1, dtype=np.int32)
    return Ratings(user_codes, item_codes, values, stamps, *ids, name=name)


def _share_out(total, weights, most):
    """Whole numbers with the given total: an equal minimum, and the rest in proportion to the weights.

    None exceeds a quarter of `most`, or, where the total is too large for that, `most`.
    """
    mean = total / len(weights)
    low = 20 if mean >= 40 else max(1, int(mean // 2))
    low = min(low, most)
    cap = max(most // 4, low)
    if cap * len(weights) < 1.5 * total:
        cap = most
    # Water-filling: what the capped ones cannot take is shared among the others.
    free = np.ones(len(weights), dtype=bool)
    while True:
        rest = total - low * len(weights) - (cap - low) * np.count_nonzero(~free)
        extra = np.where(free, weights * (rest / weights[free].sum()) if free.any() else 0, cap - low)
        over = free & (extra > cap - low)
        if not over.any():
            break
        free &= ~over
    counts = low + np.floor(extra).astype(np.int64)
    short = total - counts.sum()
    order = np.argsort(-(extra % 1), kind="stable")
    order = order[counts[order] < cap]
    counts[order[:short]] += 1
    return counts
