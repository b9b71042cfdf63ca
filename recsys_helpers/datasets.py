"""Read MovieLens."""
from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def load_movielens(name="latest-small", path=None, *, duplicates="error"):
    """The embedded MovieLens latest-small (first version; the other layouts follow)."""
    import pandas as pd

    from recsys_helpers.ratings import Ratings

    folder = next(
        f for f in (_HERE.parent / "data/ml-latest-small", _HERE / "_data/ml-latest-small") if f.is_dir()
    )
    movies = pd.read_csv(folder / "movies.csv", encoding="utf-8")
    year = movies["title"].str.extract(r"\((\d{4})\)\s*$", expand=False)
    movies.insert(2, "year", pd.to_numeric(year).astype("Int64"))
    frame = pd.read_csv(folder / "ratings.csv")
    return Ratings.from_frame(frame, duplicates=duplicates, movies=movies, name="ml-latest-small")
