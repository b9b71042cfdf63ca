"""Published data sets in the files that they come in.

Each layout is a function from a path to a Polars frame, the options that the layout decides, and
notes about what it did.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from .ratings import Ratings


def read(path, layout, options):
    """Read a published layout.

    Parameters
    ----------
    path : Path
        The file, or a folder with it.
    layout : str
        One of `LAYOUTS`.
    options : dict
        For `Ratings.from_frame`; what is None in it the layout decides.

    Returns
    -------
    Ratings
    """
    frame, decided, notes = LAYOUTS[layout](path, bool(options.get("implicit")))
    options = {name: decided.get(name) if value is None else value for name, value in options.items()}
    columns = {name: decided[name] for name in ("user", "item", "rating") if name in decided}
    return Ratings.from_frame(frame, **columns, **options, origin=(path.name, "row", 0), notes=notes)


def recognize(path):
    """The layout of a file or folder that cannot be mistaken, or None."""
    if path.is_dir():
        names = [p.name for p in path.iterdir()]
        if any(re.fullmatch(r"mv_\d{7}\.txt", n) for n in names):
            return "netflix"
        if any(re.fullmatch(r"combined_data_\d\.txt", n) for n in names):
            return "netflix"
        return "book-crossing" if "BX-Book-Ratings.csv" in names else None
    if path.suffix.lower() in (".gz", ".bz2", ".xz", ".zip", ".parquet", ".zst"):
        return None
    with open(path, "rb") as file:
        first = file.readline(4096)
    if re.fullmatch(rb'"?User-ID"?;"?ISBN"?;"?Book-Rating"?\s*', first):
        return "book-crossing"
    if re.fullmatch(rb"\d+:\s*", first):
        return "netflix"
    cells = first.split(b",")
    if len(cells) == 101 and all(re.fullmatch(rb"\s*-?\d+(\.\d+)?\s*", cell) for cell in cells):
        return "jester"
    return None


# ---- the layouts ------------------------------------------------------------------


def _book_crossing(path, implicit):
    """Books: semicolons, quotes, Latin-1; a rating of 0 means that somebody only touched the book."""
    import polars as pl

    path = path / "BX-Book-Ratings.csv" if path.is_dir() else path
    text = path.read_bytes().decode("latin-1").encode()
    frame = pl.read_csv(text, separator=";", infer_schema=False)
    frame = frame.with_columns(pl.col("Book-Rating").cast(pl.Float64), pl.col("User-ID").cast(pl.Int64))
    if implicit:
        return frame, {"scale": (0.0, 1.0)}, []
    empty = int((frame["Book-Rating"] == 0).sum())
    note = f"{empty:,} rows with rating 0, which stands for no rating, left out (implicit=True keeps them)"
    return frame.filter(pl.col("Book-Rating") > 0), {"scale": (1.0, 10.0)}, [note] if empty else []


def _jester(path, _):
    """Jokes: one line a person, the number of ratings, then one field a joke; 99 is unknown."""
    import polars as pl

    rows = []
    with open(path, newline="", encoding="utf-8-sig") as file:
        for user, row in enumerate(csv.reader(file), 1):
            for item, cell in enumerate(row[1:], 1):
                value = _joke(cell, path.name, user, item)
                if value is not None:
                    rows.append((user, item, value))
    schema = {"user": pl.Int64, "joke": pl.Int64, "rating": pl.Float64}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame, {"scale": (-10.0, 10.0)}, ["99 stands for no rating; users are the numbers of the lines"]


def _joke(cell, label, line, column):
    try:
        value = float(cell)
    except ValueError:
        raise ValueError(
            f"{label}, line {line}, field {column + 1}: got {cell!r}; expected a number from -10 to 10, or 99"
        ) from None
    return None if value == 99 else value


def _amazon(names):
    """Products: no header, ids of text."""

    def read(path, _):
        import polars as pl

        kinds = {"user": pl.String, "item": pl.String, "rating": pl.Float64, "timestamp": pl.Int64}
        try:
            frame = pl.read_csv(
                path, has_header=False, new_columns=list(names),
                schema_overrides={name: kinds[name] for name in names},
            )  # fmt: skip
        except pl.exceptions.PolarsError as error:
            raise ValueError(f"{path.name}: expected four fields, {', '.join(names)} ({error})") from error
        return frame, {"scale": (1.0, 5.0)}, ["no header: columns taken as " + ", ".join(names)]

    return read


def _netflix(path, _):
    """Films: a line "12:" begins a film, then lines of user, stars and date; one file, several, or "
    "one a film."""
    import polars as pl

    files = [path] if path.is_file() else sorted([*path.glob("combined_data_*.txt"), *path.glob("mv_*.txt")])
    if not files:
        raise ValueError(
            f"{path}: has neither combined_data_1.txt nor mv_0000001.txt; expected the Netflix "
            "files"
        )
    frames = [_netflix_file(file) for file in files]
    return pl.concat(frames), {"scale": (1.0, 5.0), "user": "user", "item": "film"}, []


def _netflix_file(file):
    import polars as pl

    lines = pl.read_csv(
        file, has_header=False, separator="\x01", quote_char=None, new_columns=["line"], infer_schema=False
    )
    film = pl.when(pl.col("line").str.ends_with(":")).then(pl.col("line").str.strip_suffix(":"))
    lines = lines.with_columns(film.forward_fill().alias("film"))
    lines = lines.filter(~pl.col("line").str.ends_with(":"))
    fields = pl.col("line").str.split_exact(",", 2).struct.rename_fields(["user", "rating", "timestamp"])
    frame = lines.select("film", fields.alias("fields")).unnest("fields")
    try:
        return frame.select(
            pl.col("user").cast(pl.Int64), pl.col("film").cast(pl.Int64), pl.col("rating").cast(pl.Float64),
            pl.col("timestamp").str.to_date("%Y-%m-%d"),
        )  # fmt: skip
    except pl.exceptions.PolarsError as error:
        raise ValueError(
            f"{Path(file).name}: expected lines such as 1488844,3,2005-09-06 below a line such as 1: "
            f"({error})"
        ) from error


def _lists(path, _):
    """Check-ins and the like as graph methods publish them: one line a user, then the items."""
    import polars as pl

    users, items = [], []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                user, *own = map(int, line.split())
            except ValueError:
                raise ValueError(
                    f"{path.name}, line {number}: got {line.strip()[:60]!r}; expected whole numbers "
                    "with spaces "
                    "between: a user, then items"
                ) from None
            users += [user] * len(own)
            items += own
    frame = pl.DataFrame({"user": users, "item": items})
    return frame, {"scale": (0.0, 1.0)}, ["one line a user; every pair counts 1"]


LAYOUTS = {
    "book-crossing": _book_crossing,
    "jester": _jester,
    "amazon": _amazon(("user", "item", "rating", "timestamp")),
    "amazon-2018": _amazon(("item", "user", "rating", "timestamp")),
    "netflix": _netflix,
    "lists": _lists,
}
