"""How kernels are compiled, and where their machine code is kept between processes.

Numba keeps compiled code beside the source and throws it away when that one file changes. A kernel
that calls a helper from another file would then go on with the old helper. Here the folder carries a
digest of the text of all kernels instead: a change anywhere among them starts an empty folder.
"""

import hashlib
import os
import tempfile
import warnings
from functools import cache
from pathlib import Path

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, InTreeCacheLocator, NullCache
from numba.misc.appdirs import AppDirs

# Sums may be reordered into vectors; NaN and infinity keep their meaning.
REORDER = frozenset({"reassoc", "contract", "nsz"})

_HERE = Path(__file__).parent


def njit(function=None, **options):
    """`numba.njit` as all kernels use it: without Python's lock, and kept for the next process.

    Parameters
    ----------
    function : function, optional
        None when options are given, as in ``@njit(fastmath=REORDER)``.
    **options
        Of `numba.njit`; `nogil` is True unless given.

    Returns
    -------
    The compiled function, or a decorator.
    """
    if function is None:
        return lambda function: njit(function, **options)
    fastmath = options.pop("fastmath", False)
    fastmath = set(fastmath) if isinstance(fastmath, frozenset) else fastmath
    compiled = numba.njit(function, **{"nogil": True, "fastmath": fastmath} | options)
    if not numba.config.DISABLE_JIT:
        # What cache=True does, with a folder of our own.
        compiled._cache = _cache_of(function)
    return compiled


def _cache_of(function):
    if folder() is None:
        return _Forgetful()
    try:
        return _Cache(function)
    except RuntimeError:  # Numba found no place for it
        return _Forgetful()


@cache
def digest():
    """Hexadecimal digest of the text of all kernels."""
    text = hashlib.sha256()
    for path in sorted(_HERE.glob("*.py")):
        text.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return text.hexdigest()[:16]


@cache
def folder():
    """Where the compiled code of these kernels is kept, or None where nothing can be written.

    The first that can be written of: the folder that NUMBA_CACHE_DIR names, ``__pycache__`` beside the
    kernels, and the user's cache folder.
    """
    for parent in _candidates():
        path = parent / f"kernels-{digest()}"
        try:
            path.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=path).close()
        except OSError:
            continue
        return path
    return None


def _candidates():
    if numba.config.CACHE_DIR:
        # Two installations may share this folder; the digest of their text keeps them apart.
        yield Path(numba.config.CACHE_DIR) / "recsys_helpers"
    yield _HERE / "__pycache__"
    if os.path.isabs(home := AppDirs("recsys_helpers", False).user_cache_dir):
        yield Path(home)


class _Locator(InTreeCacheLocator):
    """Tells Numba the folder."""

    def __init__(self, py_func, py_file):
        super().__init__(py_func, py_file)
        self._cache_path = str(folder())


class _Impl(CompileResultCacheImpl):
    _locator_classes = [_Locator]


class _Cache(FunctionCache):
    """Numba's cache, for which a full disk or a folder that has gone is no reason to fail."""

    _impl_class = _Impl

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except OSError:
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _say_once(str(error))


class _Forgetful(NullCache):
    """No cache at all; says so when something was compiled that the next process compiles again."""

    def save_overload(self, sig, data):
        _say_once("no folder for it can be written")


@cache
def _say_once(reason):
    warnings.warn(
        f"compiled kernels are not kept ({reason}), so every process compiles them again, for some seconds; "
        "set the environment variable NUMBA_CACHE_DIR to a folder that can be written",
        RuntimeWarning,
        stacklevel=2,
    )
