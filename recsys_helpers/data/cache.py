"""Columns of large files in binary form, kept while the files stay as they are.

One folder per set of files and duplicate policy, with one .npy per column, which is mapped into memory, and
the tables as JSON. It gets its name when it is complete; sums.json tells whether it still is.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from .films import movie_frame, user_frame
from .places import data_folder

_FORMAT = 1
FROM_BYTES = 8 << 20  # smaller files are read faster than a cache is worth


_CACHED = ("user_codes", "item_codes", "values", "timestamps", "user_ids", "item_ids")


def cache_of(sources, key, duplicates):
    """The folder's name: where the files are, and, after the last hyphen, their state."""
    facts = [Path(source).stat() for source in sources]
    place = _short_hash([str(Path(source).resolve()) for source in sources], duplicates)
    state = _short_hash(_FORMAT, [(fact.st_size, fact.st_mtime_ns) for fact in facts])
    return data_folder() / f"ml-{key}-{place}-{state}"


def _short_hash(*parts):
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _sum(array):
    """A 64-bit sum of the bytes' words: any one change shows, and memory is read at full speed."""
    words = array.view(np.uint8)
    whole = len(words) // 8 * 8
    return int(words[:whole].view(np.uint64).sum(dtype=np.uint64)) + int(words[whole:].sum())


def read_cache(store):
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
                "movies": movie_frame(tables["movies"]),
                "users": user_frame(tables["users"]),
                "n_duplicates": tables["n_duplicates"],
            }
    except (OSError, ValueError, TypeError, AttributeError, EOFError):
        pass
    shutil.rmtree(store, ignore_errors=True)
    return None


def write_cache(store, ratings):
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
