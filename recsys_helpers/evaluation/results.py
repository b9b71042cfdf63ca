"""A file of results that survives a power cut, and what tells one result from another."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
import os
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator

from .. import __version__

_FORMAT = 3
_PACKAGE = Path(__file__).parents[1]
_MAKES_RESULTS = ("data", "evaluation", "kernels", "models", "checks.py", "linalg.py")
_LINE = b'{"key": "'  # how every line of a file of results begins


class Results:
    """A file of JSON lines, one result each; without a path, only in memory."""

    def __init__(self, path):
        self.path = None if path is None else Path(path)
        self.found = {}
        self.file = None

    def __enter__(self):
        if self.path is None:
            return self
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = open(self.path, "a+b")
        try:
            self._lock()
            self._read()
        except BaseException:
            self.file.close()
            raise
        return self

    def __exit__(self, *caught):
        if self.file is not None:
            self.file.close()

    def _lock(self):
        """Held until the file is closed or the process ends, however it ends."""
        with contextlib.suppress(ImportError, OSError):  # not on every system, nor on every file system
            import fcntl

            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeError(
                    f"{self.path}: another process is writing to it; wait for its end, or pass another path"
                ) from None

    def _read(self):
        self.file.seek(0)
        *lines, rest = self.file.read().split(b"\n")
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                self.found[record["key"]] = record
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{self.path}: line {number} is damaged ({error}); delete that line, or the file, and "
                    "run again"
                ) from None
        if rest:  # what a kill or a power cut left of the last line
            written = rest.rstrip(b"\0")
            if not (written.startswith(_LINE) or _LINE.startswith(written)):
                raise ValueError(
                    f"{self.path}: its end is no result; expected a file that compare has written"
                )
            self.file.truncate(self.file.seek(0, os.SEEK_END) - len(rest))

    def add(self, key, record):
        self.found[key] = record
        if self.file is not None:
            self.file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
            self.file.flush()
            os.fsync(self.file.fileno())


def fingerprint(ratings):
    """A digest of all that a model can learn from, or be scored on."""
    digest = hashlib.sha256()
    arrays = [ratings.user_ids, ratings.item_ids, ratings.user_codes, ratings.item_codes, ratings.values]
    if ratings.timestamps is not None:
        arrays.append(ratings.timestamps)
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    digest.update(str(ratings.scale).encode())
    for table in (ratings.movies, ratings.users):
        digest.update(b"none" if table is None else table.to_csv(index=False).encode())
    return digest.hexdigest()


@functools.cache
def code_digest(package=_PACKAGE):
    """A digest of all code of the package that a result depends on.

    Not of the model's own file alone: a helper that was changed makes other results, too.
    """
    digest = hashlib.sha256()
    for room in _MAKES_RESULTS:
        files = sorted((package / room).rglob("*.py")) if not room.endswith(".py") else [package / room]
        for path in files:
            digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def result_key(model, prints, k, threshold):
    """What one result is found by: everything that could make it another."""
    parts = [_FORMAT, __version__, code_digest(), _describe(model), prints, int(k), float(threshold)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _own_code(kind):
    """A digest of the source of a reader's own class and of what it builds on, outside this package."""
    digest = hashlib.sha256()
    for part in kind.__mro__:
        if part.__module__.split(".")[0] in ("builtins", "sklearn", __package__.split(".")[0]):
            continue
        with contextlib.suppress(OSError, TypeError):  # typed at a prompt: only its name is known
            digest.update(inspect.getsource(part).encode())
    return digest.hexdigest()


def _describe(value, name="model"):
    """A model's class and parameters, models inside it included, in a form that can be compared."""
    if isinstance(value, BaseEstimator):
        parameters = {
            n: _describe(v, n) for n, v in value.get_params(deep=False).items() if n not in ("verbose",)
        }
        return [type(value).__module__, type(value).__qualname__, _own_code(type(value)), parameters]
    if isinstance(value, dict):
        return {str(n): _describe(v, n) for n, v in value.items()}
    if isinstance(value, list | tuple):
        return [_describe(v, name) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"{name}: got {type(value).__name__}; expected numbers, text, lists, dicts or models, which can be "
        "told apart in a file of results"
    )


def plain(value):
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value
