"""Read MovieLens in every published layout."""

from __future__ import annotations

import numpy as np

from ..checks import check_choice
from . import cache as caches
from .editions import (
    EDITIONS,
    MOVIE_FILES,
    RATING_COLUMNS,
    RATING_FILES,
    USER_FILES,
    WHOLE_STARS,
    DataError,
    edition_name,
)
from .fetch import download
from .films import movie_frame, movie_table, user_frame, user_table
from .places import Files, data_folder, embedded
from .ratings import Ratings
from .splits import Split
from .text import one_ahead, rating_frames

# polars, pooch, scipy and the kernels are imported where they are used: most readers of the book load the
# embedded data, and should not wait for the rest.


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
        Folder with the unpacked files, or the zip as it was downloaded; the files may lie one folder
        down. Or the path of ratings.csv, ratings.dat or u.data itself. Where the tables about movies or
        users are missing, the ratings are read without them, and `notes` of the result says so.
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
        joined by ``|``; no rows where the file is missing) and, for 100k and 1m, `users` (userId, age,
        gender, occupation, zip_code; in 1m the age is the lower end of a bracket).

    Raises
    ------
    DataError
        Where the ratings or a column are missing or damaged. It is a ValueError, and names file, line or
        column, and the remedy.
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
    key = edition_name(name)
    check_choice("duplicates", duplicates, ("error", "last", "mean"))
    if path is None and key == "latest-small":
        path = embedded()
    elif path is None:
        path = data_folder() / f"ml-{key}.zip"
        # The cache can only have been made from a zip that passed the checksum.
        if not (cache and path.exists() and caches.cache_of([path], key, duplicates).exists()):
            path = download(key, checksum=checksum, sources=sources, verbose=verbose)
    with Files(path, key) as files:
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
    Split
        Unpacks as ``train, test``. All ten Ratings share one index of users and movies.

    Raises
    ------
    DataError
        As `load_movielens`, and where a fold is not a partition of u.data.
    """
    if path is None:
        path = download("100k", **options)
    with Files(path, "100k") as files:
        whole = _load(files, "100k", "error", cache=False)
        pairs = np.sort(_pairs(whole))
        for fold in range(1, 6):
            parts = []
            for side in ("base", "test"):
                member = f"u{fold}.{side}"
                part = _rating_table(files, member, "u", "error", scale=WHOLE_STARS)
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
            yield Split(*parts)


def _load(files, key, duplicates, cache):
    edition = EDITIONS[key]
    member = RATING_FILES[edition.layout]
    store = None
    if cache and files.size(member) >= caches.FROM_BYTES:
        members = (member, MOVIE_FILES[edition.layout], USER_FILES.get(key))
        sources = [files.path] if files.zip else [files.need(m) for m in members if m and files.find(m)]
        store = caches.cache_of(sources, key, duplicates)
        cached = caches.read_cache(store)
        if cached is not None:
            return Ratings(**cached, scale=edition.scale, name=f"ml-{key}", notes=_missing(files, key))
    ratings = _rating_table(
        files,
        member,
        edition.layout,
        duplicates,
        scale=edition.scale,
        movies=movie_frame(movie_table(files, edition)),
        users=user_frame(user_table(files, key)),
        name=f"ml-{key}",
        notes=_missing(files, key),
    )
    if store is not None:
        caches.write_cache(store, ratings)
    return ratings


def _missing(files, key):
    """What to say of tables that are not there."""
    members = MOVIE_FILES[EDITIONS[key].layout], USER_FILES.get(key)
    return [f"no {member} beside the ratings" for member in members if member and not files.find(member)]


def _rating_table(files, member, layout, duplicates, **options):
    """Read one file of ratings; parsing a block and storing the one before go on at the same time."""
    label, header = files.label(member), layout == "csv"
    columns, filled = None, 0
    for share, frame in one_ahead(rating_frames(files, member, layout)):
        at, filled = filled, filled + len(frame)
        if columns is None or filled > len(columns[0]):
            # At first a guess from the share of the file that was read; memory not written to costs nothing.
            room = int(1.1 * filled / share) if columns is None else 2 * filled
            grown = [np.empty(room, dtype=t) for t in (np.int32, np.int32, np.float32, np.int64)]
            for new, old in zip(grown, columns or (), strict=columns is not None):
                new[:at] = old[:at]
            columns = grown
        for column, name in zip(columns, RATING_COLUMNS, strict=True):
            to = at
            for chunk in frame[name].get_chunks():
                column[to : to + len(chunk)] = chunk.to_numpy()
                to += len(chunk)
    if columns is None:
        raise DataError(f"{label}: is empty; expected ratings: download the data again")
    for name, column in zip(RATING_COLUMNS, columns, strict=True):
        # MovieLens has no negative ids and no times before 1970; another table may.
        if name != "rating" and filled and column[:filled].min() < 0:
            row = int(np.argmax(column[:filled] < 0))
            raise DataError(
                f"{label}: column {name}, line {row + 1 + header}: got {column[row]}; expected a "
                "number not below 0"
            )
    low, high = options["scale"]
    values = columns[2][:filled]
    if filled and not (values.min() >= low and values.max() <= high):  # true for NaN, too
        row = int(np.argmin((values >= low) & (values <= high)))
        raise DataError(
            f"{label}: column rating, line {row + 1 + header}: got {values[row]}; expected a number from "
            f"{low:g} to {high:g}, the stars of MovieLens; load_ratings reads ratings on any scale"
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


def _pairs(ratings):
    return ratings.user_codes.astype(np.int64) * ratings.n_items + ratings.item_codes
