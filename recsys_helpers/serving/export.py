"""A trained model as one small file that a web page reads without a server.

    python -m recsys_helpers.export book/_static/try_it/model.js

fits `page_model` to the embedded ratings and writes the file behind the book's page "Try it".
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import copy
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from ..checks import check_positive_int
from ..data.movielens import load_movielens
from ..models.als import NO_GENRE, BiasedALS

FORMAT, FORMAT_VERSION = "recsys_helpers.try_it", 1
VARIABLE = "window.TRY_IT_MODEL"
SCALE = (0.5, 5.0)
# What the page's model is fitted with. Chapter 9 chooses these by cross-validation over people,
# inside the training part of the common split.
PAGE_SETTINGS = {"n_factors": 16, "reg": 10.0, "bias_reg": 3.0, "genres": True, "n_sweeps": 30}


def page_model(ratings):
    """The model behind the page, fitted.

    Parameters
    ----------
    ratings : Ratings
        With titles and genres; `export_model` says what the page needs.

    Returns
    -------
    BiasedALS
        With the parameters `PAGE_SETTINGS`.
    """
    return BiasedALS(**PAGE_SETTINGS, verbose=False).fit(ratings)


def quantize(matrix, bits=16):
    """Round each column to whole multiples of its own step.

    Parameters
    ----------
    matrix : array-like of float, shape (n, c)
    bits : int
        2 to 16. A column becomes integers from -(2^(bits-1) - 1) to 2^(bits-1) - 1.

    Returns
    -------
    codes : ndarray of int16, shape (n, c)
    steps : ndarray of float64, shape (c,)
        ``codes * steps`` differs from the matrix by at most half a step, which is
        the largest absolute value of the column over 2^bits - 2. A column of zeros has step 0.

    Raises
    ------
    ValueError
        If bits is out of its range, or a number is not finite.
    """
    if check_positive_int("bits", bits, minimum=2) > 16:
        raise ValueError(f"bits: got {bits}; expected 2 to 16")
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise ValueError(
            f"matrix: got shape {matrix.shape} with {np.count_nonzero(~np.isfinite(matrix))} number(s) that "
            "are not finite; expected two dimensions and finite numbers"
        )
    steps = np.abs(matrix).max(axis=0, initial=0) / (2 ** (bits - 1) - 1)
    codes = np.rint(np.divide(matrix, steps, out=np.zeros_like(matrix), where=steps > 0))
    return codes.astype(np.int16), steps


def rounded(model, bits=16):
    """A copy of a fitted model whose film factors and biases went through `quantize`.

    What the page knows, in Python: with 16 bits, ``rounded(model).fold_in(r)`` gives the page's
    numbers up to the rounding of float32. User factors stay as they are.

    Parameters
    ----------
    model : BiasedALS
        Fitted.
    bits : int
        2 to 16.

    Returns
    -------
    BiasedALS
    """
    _check_model(model)
    codes, steps = quantize(_film_side(model), bits)
    back = (codes * steps).astype(model.item_factors_.dtype)
    twin = copy.copy(model)
    twin.item_factors_, twin.item_bias_ = np.ascontiguousarray(back[:, :-1]), back[:, -1].copy()
    return twin


def export_model(model, path):
    """Write a fitted model as a classic script that sets ``window.TRY_IT_MODEL``.

    A script, because a page opened from a folder (``file://``) may load scripts but neither
    modules nor data. It holds what a new person's recommendations need: film factors and biases
    as 16-bit integers with one step a column, movieIds as differences, titles, years, genres,
    numbers of ratings, the mean and the penalties. Nothing about any user is in it.

    Parameters
    ----------
    model : BiasedALS
        Fitted, with at least one factor, on ratings from 0.5 to 5 stars.
    path : str or Path
        Ends in .js. The file appears complete or not at all.

    Returns
    -------
    int
        Bytes written: about n (8 / 3 (k + 1) + 37) for n films with titles of usual length.

    Raises
    ------
    TypeError, ValueError, sklearn.exceptions.NotFittedError
        If the model or the path is not as described.
    """
    _check_model(model)
    path = Path(path)
    if path.suffix != ".js":
        raise ValueError(f"path: got {path.name!r}; expected a name that ends in .js")
    train = model.train_
    codes, steps = quantize(_film_side(model))
    titles, years, genre_sets, genre_of = _film_facts(train)
    names = sorted({name for one in genre_sets for name in one})
    first_year = min(filter(None, years), default=1)
    content = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "data": train.name,
        "factors": model.n_factors,
        "mean": model.mean_,
        "reg": float(model.reg),
        "bias_reg": float(model.bias_reg),
        "weighted": bool(model.weighted),
        "scale": list(train.scale),
        "steps": steps.tolist(),
        "films": _pack(codes.ravel()),
        "movie_ids": _pack(np.diff(train.item_ids.astype(np.int64), prepend=0)),
        "counts": _pack(train.item_counts),
        "first_year": first_year,
        "years": _pack([year - first_year + 1 if year else 0 for year in years]),
        "genres": names,
        "genre_sets": [[names.index(name) for name in one] for one in genre_sets],
        "genre_of": _pack(genre_of),
        "titles": titles,
    }
    # "<" is escaped so that the text stays harmless even when somebody pastes it into a page.
    body = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    text = f"{VARIABLE} = {body.replace('<', chr(92) + 'u003c')};\n"
    _write_whole(path, text)
    return len(text)


def read_model(path):
    """Read a file of `export_model` back, for checks.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict
        ``factors``, shape (n, k), and ``bias``, shape (n,), as float64, ``movie_ids``, ``titles``,
        ``years`` (0: unknown), ``genres`` (a list of names for each film), ``counts``, ``mean``,
        ``reg``, ``bias_reg`` and ``weighted``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged or of another kind or version.
    """
    text = Path(path).read_text(encoding="ascii", errors="replace")
    start, _, body = text.partition(" = ")
    try:
        if start != VARIABLE:
            raise ValueError(f"it does not set {VARIABLE}")
        content = json.loads(body.rstrip().removesuffix(";"))
        if (content["format"], content["version"]) != (FORMAT, FORMAT_VERSION):
            raise ValueError(f"its format is {content['format']!r}, version {content['version']}")
        k = content["factors"]
        films = _unpack(content["films"]).reshape(-1, k + 1) * np.array(content["steps"])
        years = _unpack(content["years"]).astype(np.int64)
        sets = [[content["genres"][g] for g in one] for one in content["genre_sets"]]
        out = {
            "factors": films[:, :k],
            "bias": films[:, k],
            "movie_ids": np.cumsum(_unpack(content["movie_ids"]), dtype=np.int64),
            "titles": content["titles"],
            "years": np.where(years > 0, years + content["first_year"] - 1, 0),
            "genres": [sets[at] for at in _unpack(content["genre_of"])],
            "counts": _unpack(content["counts"]).astype(np.int64),
        }
        lengths = {name: len(values) for name, values in out.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"its columns have different lengths: {lengths}")
        return out | {name: content[name] for name in ("mean", "reg", "bias_reg", "weighted")}
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"{path}: not a file of export_model, or a damaged one ({type(error).__name__}: {error}); "
            "export the model again"
        ) from error


# ---- parts --------------------------------------------------------------------


def _check_model(model):
    if not isinstance(model, BiasedALS):
        raise TypeError(f"model: got {type(model).__name__}; expected a fitted BiasedALS")
    model._check_fitted()
    if model.n_factors == 0:
        raise ValueError("n_factors: got 0; expected at least 1, as the page ranks films by their factors")
    if model.train_.scale != SCALE:
        raise ValueError(
            f"model: got one fitted to ratings from {model.train_.scale[0]:g} to {model.train_.scale[1]:g}; "
            "expected 0.5 to 5, which the page shows as half stars; rescale the ratings first"
        )


def _film_side(model):
    """Factors and bias side by side, shape (n, k + 1): the order the page multiplies them in."""
    return np.column_stack([model.item_factors_, model.item_bias_])


def _film_facts(train):
    """Titles without year, years (0: unknown), the distinct sets of genres, and which of them a film has."""
    ids, movies = train.item_ids, train.movies
    titles, years, listed = list(train.titles(ids)), [0] * len(ids), [""] * len(ids)
    if movies is not None:
        table = movies.set_index("movieId").reindex(ids)
        if "year" in table.columns:
            years = [int(year) for year in table["year"].fillna(0)]
        if "genres" in table.columns:
            listed = list(table["genres"].fillna(""))
    titles = [
        title.strip().removesuffix(f"({year})").rstrip() if year else title
        for title, year in zip(titles, years, strict=True)
    ]
    distinct = sorted(set(listed))
    place = {text: at for at, text in enumerate(distinct)}
    sets = [[g for g in text.split("|") if g and g != NO_GENRE] for text in distinct]
    return titles, years, sets, [place[text] for text in listed]


def _pack(values):
    """Integers as base64, little-endian, in the smallest of four types that holds them."""
    values = np.asarray(values)
    for dtype in ("uint8", "uint16", "int16", "uint32"):
        limits = np.iinfo(dtype)
        if len(values) == 0 or (values.min() >= limits.min and values.max() <= limits.max):
            raw = values.astype(np.dtype(dtype).newbyteorder("<")).tobytes()
            return {"type": dtype, "data": base64.b64encode(raw).decode("ascii")}
    raise ValueError(f"values: got {values.min()} to {values.max()}; expected whole numbers below 2^32")


def _unpack(packed):
    if packed["type"] not in ("uint8", "uint16", "int16", "uint32"):
        raise ValueError(f"an array has the type {packed['type']!r}")
    raw = base64.b64decode(packed["data"], validate=True)
    return np.frombuffer(raw, np.dtype(packed["type"]).newbyteorder("<"))


def _write_whole(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="ascii", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft, 0o644)  # a page's file is for everybody; drafts are private
        os.replace(draft, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(draft)
        raise


def main(arguments=None):
    """Fit `page_model` to the embedded ratings and write it; see the top of the module."""
    parser = argparse.ArgumentParser(prog="python -m recsys_helpers.export", description=main.__doc__)
    parser.add_argument("path", type=Path, help="the file to write, which ends in .js")
    options = parser.parse_args(arguments)
    ratings = load_movielens("latest-small")
    print(f"{options.path}: {export_model(page_model(ratings), options.path):,} bytes")


if __name__ == "__main__":
    main()
