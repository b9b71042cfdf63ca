"""Fitted models in files: npz without pickle, whole or not there at all.

What a model holds is written as a tree in JSON whose leaves name the arrays beside it. Only
plain things are written and only this package's own classes are made when reading, so that a
file from somebody else can at worst be refused.
"""

from __future__ import annotations

import json
import uuid
import zipfile
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from .. import __version__
from ..data.ratings import Ratings
from ..files import atomic_write

FORMAT, FORMAT_VERSION = "recsys_helpers.model", 2
# Named tuples that fitted models hold, by the module they live in.
_TUPLES = {"Certificate": "nuclear", "Completion": "nuclear"}


def save_model(model, path):
    """Write a fitted model; see `Recommender.save`."""
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"path: got {path.name!r}; expected a name that ends in .npz")
    tree = _Writer()
    about = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "package": __version__,
        "class": type(model).__name__,
        "model": tree.model(model),
    }
    with atomic_write(path) as file:
        np.savez(file, about=np.array(json.dumps(about)), **tree.arrays)


def load_model(path, expected=None):
    """Read a model of any class that `save` wrote.

    Parameters
    ----------
    path : str or Path
    expected : class, optional
        Refuse a model of another class.

    Returns
    -------
    Recommender

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged, of another kind or class, or of a later format.
    """
    path = Path(path)
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {about['format']!r}")
        version = int(about["version"])
    except FileNotFoundError:
        raise
    except (
        ValueError, KeyError, TypeError, EOFError, OSError, AttributeError, zipfile.BadZipFile
    ) as error:  # fmt: skip
        raise ValueError(
            f"{path}: not a saved model, or a damaged one ({type(error).__name__}: {error}); "
            "fit the model again, or fetch the file again"
        ) from error
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path}: format version {version}; this recsys_helpers {__version__} reads up to "
            f"{FORMAT_VERSION}; install a later one"
        )
    made = _class_of(about["class"], expected)
    if expected is not None and not issubclass(made, expected):
        raise ValueError(f"{path}: holds a {about['class']}; expected a {expected.__name__}; use load_model")
    try:
        return _Reader(arrays).model(made, about["model"])
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(
            f"{path}: parts of the file are missing or do not fit together "
            f"({type(error).__name__}: {error}); fit the model again, or fetch the file again"
        ) from error


def _class_of(name, expected=None):
    """A model class of this package, or the caller's own that has the name."""
    from .. import models

    if expected is not None and expected.__name__ == name:
        return expected
    if name in models._HOME:
        return getattr(models, name)
    raise ValueError(
        f"class: got {name!r}, which recsys_helpers.models does not have; load it by its own "
        "class"
    )


# ---- writing --------------------------------------------------------------------------


class _Writer:
    """Turns values into a tree for JSON; arrays are put aside under names."""

    def __init__(self):
        self.arrays = {}

    def model(self, model):
        parameters = {n: self.value(v, n) for n, v in model.get_params(deep=False).items()}
        learned = {
            n: self.value(v, n) for n, v in vars(model).items() if n not in parameters and n != "train_"
        }
        out = {"parameters": parameters, "learned": learned}
        if hasattr(model, "train_"):
            out["train"] = self.ratings(model.train_)
        return out

    def ratings(self, ratings):
        matrix = ratings.by_user
        return {
            "matrix": [self.array(getattr(matrix, x), x) for x in ("indptr", "indices", "data")],
            "user_ids": self.value(ratings.user_ids, "user_ids"),
            "item_ids": self.value(ratings.item_ids, "item_ids"),
            "names": [ratings.user_name, ratings.item_name],
            "scale": list(ratings.scale),
            "name": ratings.name,
            "movies": self.value(ratings.movies, "movies"),
        }

    def array(self, array, name):
        """Put an array aside under its name, numbered where the name is taken."""
        number = sum(other.split(".")[0] == str(name) for other in self.arrays)
        key = f"{name}.{number}" if number else str(name)
        self.arrays[key] = array
        return key

    def value(self, value, name):
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        for kind, write in (
            (np.ndarray, self._array), (uuid.UUID, lambda x, _: {"uuid": str(x)}),
            (pd.DataFrame, self._frame), (csr_array, self._sparse), (dict, self._dict), (tuple, self._tuple),
            (list, lambda x, n: [self.value(item, n) for item in x]),
            (np.random.Generator, lambda x, _: {"generator": x.bit_generator.state}),
        ):  # fmt: skip
            if isinstance(value, kind):
                return write(value, name)
        if hasattr(value, "get_params"):
            return {"model": type(value).__name__} | self.model(value)
        raise TypeError(f"{name}: got {type(value).__name__}, which cannot be saved without pickle")

    def _array(self, array, name):
        if array.dtype == object:
            if all(isinstance(x, str) for x in array):
                # NumPy's own text drops zeros at the end, which no id of a table has; JSON keeps all.
                return {"texts": list(array)}
            return {"objects": [self.value(x, name) for x in array]}
        return {"array": self.array(array, name), "frozen": not array.flags.writeable}

    def _frame(self, frame, name):
        columns = [[self.value(c, name), self._column(frame[c])] for c in frame.columns]
        return {
            "frame": columns,
            "index": self._column(frame.index),
            "index_name": self.value(frame.index.name, name),
        }

    def _column(self, column):
        array = column.to_numpy()
        if array.dtype.kind in "biuf":
            return self._array(array, column.name)
        if array.dtype.kind == "M":
            return {"times": self.array(array.astype("datetime64[ns]").astype(np.int64), column.name)}
        return {"objects": [_or_none(x, self.value, column.name) for x in array]}

    def _sparse(self, matrix, name):
        parts = [self.array(x, name) for x in (matrix.data, matrix.indices, matrix.indptr)]
        return {"sparse": parts, "shape": list(matrix.shape)}

    def _dict(self, value, name):
        return {"dict": [[self.value(k, name), self.value(v, name)] for k, v in value.items()]}

    def _tuple(self, value, name):
        kind = type(value).__name__
        items = [self.value(x, name) for x in value]
        return {"named": kind, "items": items} if kind in _TUPLES else {"tuple": items}


def _or_none(value, write, name):
    if isinstance(value, float) and np.isnan(value) or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, np.ndarray):
        value = list(value)
    return write(value, name)


# ---- reading --------------------------------------------------------------------------


class _Reader:
    """The way back."""

    def __init__(self, arrays):
        self.arrays = arrays

    def model(self, made, tree):
        model = made(**{n: self.value(v) for n, v in tree["parameters"].items()})
        for name, value in tree["learned"].items():
            setattr(model, name, self.value(value))
        if "train" in tree:
            model.train_ = self.ratings(tree["train"])
            _check_shapes(model)
        return model

    def ratings(self, tree):
        indptr, indices, data = (self.arrays[name] for name in tree["matrix"])
        user_name, item_name = tree["names"]
        return Ratings(
            np.repeat(np.arange(len(indptr) - 1, dtype=np.int32), np.diff(indptr)), indices, data, None,
            self.value(tree["user_ids"]), self.value(tree["item_ids"]), scale=tuple(tree["scale"]),
            movies=self.value(tree["movies"]), name=tree["name"], user_name=user_name, item_name=item_name,
        )  # fmt: skip

    def value(self, tree):
        if isinstance(tree, list):
            return [self.value(item) for item in tree]
        if not isinstance(tree, dict):
            return tree
        if "array" in tree:
            array = self.arrays[tree["array"]]
            array.flags.writeable = not tree["frozen"]
            return array
        if "texts" in tree or "objects" in tree:
            items = [self.value(x) for x in tree.get("texts", tree.get("objects"))]
            out = np.empty(len(items), dtype=object)
            out[:] = items
            return out
        if "times" in tree:
            return self.arrays[tree["times"]].astype("datetime64[ns]")
        if "uuid" in tree:
            return uuid.UUID(tree["uuid"])
        if "frame" in tree:
            columns = {self.value(name): self.value(column) for name, column in tree["frame"]}
            index = pd.Index(self.value(tree["index"]), name=self.value(tree["index_name"]))
            return pd.DataFrame(columns, index=index)
        if "sparse" in tree:
            return csr_array(tuple(self.arrays[name] for name in tree["sparse"]), shape=tuple(tree["shape"]))
        if "dict" in tree:
            return {self.value(k): self.value(v) for k, v in tree["dict"]}
        if "named" in tree:
            home = import_module(f".{_TUPLES[tree['named']]}", __package__)
            return getattr(home, tree["named"])(*(self.value(x) for x in tree["items"]))
        if "tuple" in tree:
            return tuple(self.value(x) for x in tree["tuple"])
        if "generator" in tree:
            bits = getattr(np.random, tree["generator"]["bit_generator"])()
            bits.state = tree["generator"]
            return np.random.Generator(bits)
        return self.model(_class_of(tree["model"]), tree)


def _check_shapes(model):
    """Parts of two files that were mixed up must not predict."""
    m, n = model.train_.shape
    for name, size in (
        ("user_factors_", m), ("user_bias_", m), ("item_factors_", n), ("item_bias_", n)
    ):  # fmt: skip
        array = getattr(model, name, None)
        if array is not None and len(array) != size:
            raise ValueError(f"{name} has {len(array)} rows; expected {size}")
