"""The published editions of MovieLens: where they are, how they are laid out, and their errors."""

from __future__ import annotations

from typing import NamedTuple

from ..checks import check_choice

GROUPLENS = "https://files.grouplens.org/datasets/movielens/"
MIRROR = "https://huggingface.co/datasets/Recommenders/MovieLens/resolve/main/"


class Edition(NamedTuple):
    layout: str  # "u" (u.data, u.item, u.user), "dat" or "csv"
    encoding: str
    scale: tuple
    checksum: str | None  # as GroupLens publishes it beside the zip
    mirrored: bool


WHOLE_STARS, HALF_STARS = (1.0, 5.0), (0.5, 5.0)
EDITIONS = {
    "100k": Edition("u", "latin-1", WHOLE_STARS, "md5:0e33842e24a9c977be4e0107933c0723", True),
    "1m": Edition("dat", "latin-1", WHOLE_STARS, "md5:c4d9eecfca2ab87c1945afe126590906", True),
    "10m": Edition("dat", "utf-8", HALF_STARS, "md5:ce571fd55effeba0271552578f2648bd", True),
    "20m": Edition("csv", "utf-8", HALF_STARS, "md5:cd245b17a1ae2cc31bb14903e1204af3", True),
    "25m": Edition("csv", "utf-8", HALF_STARS, "md5:6b51fb2759a8657d3bfcbfc42b592ada", False),
    "32m": Edition("csv", "utf-8", HALF_STARS, "md5:d472be332d4daa821edc399621853b57", False),
    # GroupLens replaces these two from time to time, so no checksum holds for long.
    "latest": Edition("csv", "utf-8", HALF_STARS, None, False),
    "latest-small": Edition("csv", "utf-8", HALF_STARS, None, False),
}

RATING_FILES = {"u": "u.data", "dat": "ratings.dat", "csv": "ratings.csv"}
MOVIE_FILES = {"u": "u.item", "dat": "movies.dat", "csv": "movies.csv"}
USER_FILES = {"100k": "u.user", "1m": "users.dat"}
RATING_COLUMNS = ("userId", "movieId", "rating", "timestamp")
MOVIE_COLUMNS = ("movieId", "title", "genres")

# The order of the 19 flags that end a line of u.item.
GENRES_100K = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror "
    "Musical Mystery Romance Sci-Fi Thriller War Western"
).split()
NO_GENRES = "(no genres listed)"
# The occupations that users.dat of 1m gives as numbers, in that order.
OCCUPATIONS_1M = (
    "other or not specified,academic/educator,artist,clerical/admin,college/grad student,customer service,"
    "doctor/health care,executive/managerial,farmer,homemaker,K-12 student,lawyer,programmer,retired,"
    "sales/marketing,scientist,self-employed,technician/engineer,tradesman/craftsman,unemployed,writer"
).split(",")


class DataError(ValueError):
    """A file of ratings that cannot be read; the message says where, what was expected and what to do."""


class DownloadError(OSError):
    """No source gave the file; the message says what each answered and how to do it by hand."""


def edition_name(name):
    key = str(name).lower().removeprefix("ml-")
    check_choice("name", key, tuple(EDITIONS))
    return key
