"""The tables of films and of users that come with MovieLens' ratings."""

from __future__ import annotations

import csv
import io
import re

import pandas as pd

from .editions import (
    GENRES_100K,
    MOVIE_COLUMNS,
    MOVIE_FILES,
    NO_GENRES,
    OCCUPATIONS_1M,
    USER_FILES,
    DataError,
)
from .text import header, numbered_lines, refuse_repeats, whole_id

_YEAR = re.compile(r"\(([0-9]{4})\)\s*$")


def movie_table(files, edition):
    """The columns of the table of films, as lists; empty ones where the file is missing."""
    member = MOVIE_FILES[edition.layout]
    if files.find(member) is None:
        return {name: [] for name in _MOVIE_TYPES}
    label = files.label(member)
    text = files.text(member, edition.encoding)
    rows = []
    if edition.layout == "csv":
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        try:
            names = header(text[: text.find("\n") + 1 or None].encode(), MOVIE_COLUMNS, label)
            next(reader)
            places = [names.index(column) for column in MOVIE_COLUMNS]
            for row in reader:
                if len(row) != len(names):
                    raise DataError(
                        f"{label}, line {reader.line_num}: got {len(row)} field(s); expected {len(names)}, "
                        "separated by commas, with quotes around a title that has a comma"
                    )
                movie = whole_id(row[places[0]], label, reader.line_num, "movieId")
                rows.append((movie, row[places[1]], row[places[2]]))
        except csv.Error as error:
            raise DataError(f"{label}, line {reader.line_num}: {error}; mend its quotes") from None
    else:
        for number, line in numbered_lines(text):
            if edition.layout == "dat":
                fields = line.split("::", 1)
                fields = fields[:1] + fields[-1].rsplit("::", 1) if len(fields) == 2 else fields
                wanted = "movieId::title::genres"
            else:
                fields = line.split("|")
                flags = fields[5:]
                wanted = "24 fields separated by '|'"
                if len(fields) == 24 and set(flags) <= {"0", "1"}:
                    genres = [genre for genre, flag in zip(GENRES_100K, flags, strict=True) if flag == "1"]
                    fields = [*fields[:2], "|".join(genres) or NO_GENRES]
            if len(fields) != 3:
                raise DataError(f"{label}, line {number}: got {line[:60]!r}; expected {wanted}")
            rows.append((whole_id(fields[0], label, number, "movieId"), fields[1], fields[2]))
    ids, titles, genres = zip(*rows, strict=True) if rows else ((), (), ())
    refuse_repeats(ids, f"{label}: movieId")
    years = [_YEAR.search(title) for title in titles]
    return {
        "movieId": list(ids),
        "title": [title or None for title in titles],
        "year": [int(year[1]) if year else None for year in years],
        "genres": [genre or None for genre in genres],
    }


_MOVIE_TYPES = {"movieId": "int64", "title": "str", "year": "Int64", "genres": "str"}


def movie_frame(columns):
    """The table of films from its columns."""
    return pd.DataFrame({name: pd.Series(columns[name], dtype=dtype) for name, dtype in _MOVIE_TYPES.items()})


def user_table(files, key):
    """The columns of the table of users, as lists; None where the edition or the copy has none."""
    if key not in USER_FILES or files.find(USER_FILES[key]) is None:
        return None
    member, split = USER_FILES[key], "|" if key == "100k" else "::"
    label = files.label(member)
    rows = []
    for line_number, line in numbered_lines(files.text(member, "latin-1")):
        fields = line.split(split)
        if len(fields) != 5:
            raise DataError(
                f"{label}, line {line_number}: got {len(fields)} field(s); expected 5, separated by {split!r}"
            )
        if key == "100k":
            user, age, gender, occupation, zip_code = fields
        else:
            user, gender, age, occupation, zip_code = fields
            code = whole_id(occupation, label, line_number, "occupation")
            if code >= len(OCCUPATIONS_1M):
                raise DataError(
                    f"{label}, line {line_number}, column occupation: got {code}; "
                    f"expected 0 to {len(OCCUPATIONS_1M) - 1}"
                )
            occupation = OCCUPATIONS_1M[code]
        user, age = whole_id(user, label, line_number, "userId"), whole_id(age, label, line_number, "age")
        rows.append((user, age, gender, occupation, zip_code))
    refuse_repeats([row[0] for row in rows], f"{label}: userId")
    return {name: [row[at] for row in rows] for at, name in enumerate(_USER_TYPES)}


_USER_TYPES = {"userId": "int64", "age": "int64", "gender": "str", "occupation": "str", "zip_code": "str"}


def user_frame(columns):
    """The table of users from its columns, or None."""
    if columns is None:
        return None
    return pd.DataFrame({name: pd.Series(columns[name], dtype=dtype) for name, dtype in _USER_TYPES.items()})
