"""A trained model as one small file that a web page reads without a server, and the page around it.

    python -m recsys_helpers.serving.export book/_static/try_it/model.js

fits `page_model` to the embedded ratings and writes the file behind the book's page "Try it".
`write_page` writes the same page for any other model and data. A page ranks by predicted ratings, and, where
it is given a second model, by likes alone; its reader switches between the two. With `Questions` it says how
far a prediction may be off, and its questions take into account what the reader is likely to know.
"""

from __future__ import annotations

import argparse
import base64
import copy
import html
import json
import re
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
import pandas as pd

from ..checks import check_positive_int
from ..data.items import NO_GENRE
from ..data.movielens import load_movielens
from ..files import atomic_write
from ..models.als import BiasedALS
from ..models.implicit import ImplicitALS
from .ids import plain
from .questions import Questions
from .scale import step_of

FORMAT, FORMAT_VERSION = "recsys_helpers.try_it", 3
VARIABLE = "window.TRY_IT_MODEL"
TYPES = ("uint8", "uint16", "int16", "uint32", "int32")
STATIC = files(__package__) / "static" / "try_it"
TEMPLATE = files(__package__) / "template"
MARK = "recsys_helpers.serving.export"  # in the first line of a page, so that the next one may replace it
# What the page's model is fitted with. Chapter 14 chooses these by cross-validation over people,
# inside the training part of the common split.
PAGE_SETTINGS = {"n_factors": 16, "reg": 10.0, "bias_reg": 3.0, "genres": True, "n_sweeps": 30, "tol": 0.0}


# The list model beside it keeps its defaults but for the rank, which is what the file's size allows.
LIKES_SETTINGS = {"n_factors": 32}

# What a page with both models says of the second.
ABOUT_LIKES = """<li><strong>Likes alone</strong>: the score says how well the {item} fits what you like, and
is no rating. Each of your likes adds to it; what you disliked plays no part.</li>
"""


def likes_model(ratings):
    """The model behind the page's lists from likes, fitted.

    Parameters
    ----------
    ratings : Ratings

    Returns
    -------
    ImplicitALS
        With the parameters `LIKES_SETTINGS`.
    """
    return ImplicitALS(**LIKES_SETTINGS, verbose=False).fit(ratings)


def page_model(ratings):
    """The model behind the page's predictions, fitted.

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
        2 to 32. A column becomes integers from -(2^(bits-1) - 1) to 2^(bits-1) - 1.

    Returns
    -------
    codes : ndarray of int16, or int32 above 16 bits, shape (n, c)
    steps : ndarray of float64, shape (c,)
        ``codes * steps`` differs from the matrix by at most half a step, which is
        the largest absolute value of the column over 2^bits - 2. A column of zeros has step 0.

    Raises
    ------
    ValueError
        If bits is out of its range, or a number is not finite.
    """
    if check_positive_int("bits", bits, minimum=2) > 32:
        raise ValueError(f"bits: got {bits}; expected 2 to 32")
    matrix = np.asarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise ValueError(
            f"matrix: got shape {matrix.shape} with {np.count_nonzero(~np.isfinite(matrix))} number(s) that "
            "are not finite; expected two dimensions and finite numbers"
        )
    steps = np.abs(matrix).max(axis=0, initial=0) / (2 ** (bits - 1) - 1)
    codes = np.rint(np.divide(matrix, steps, out=np.zeros_like(matrix), where=steps > 0))
    return codes.astype(np.int16 if bits <= 16 else np.int32), steps


def rounded(model, bits=16):
    """A copy of a fitted model whose film factors and biases went through `quantize`.

    What the page knows, in Python: with 16 bits, ``rounded(model).fold_in(r)`` gives the page's
    numbers up to the rounding of float32. User factors stay as they are.

    Parameters
    ----------
    model : BiasedALS
        Fitted.
    bits : int
        2 to 32.

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


def export_model(model, path, *, likes=None, questions=None, bits=16):
    """Write a fitted model as a classic script that sets ``window.TRY_IT_MODEL``.

    A script, because a page opened from a folder (``file://``) may load scripts but neither
    modules nor data. It holds what a new person's recommendations need: film factors and biases
    as integers of 16 bits with one step a column, ids (numbers as differences, text as it is), titles,
    years, genres, numbers of ratings, the scale, the mean and the penalties. Nothing about any
    user is in it.

    Parameters
    ----------
    model : BiasedALS
        Fitted, with at least one factor, on ratings of any scale with ids of any kind.
    path : str or Path
        Ends in .js. The file appears complete or not at all.
    likes : ImplicitALS, optional
        Fitted to the same ratings, with ``weights="binary"``: the page then ranks by likes, too.
    questions : Questions, optional
        Made for the same model: each prediction then has its standard deviation, and the page asks about
        items that this reader is likely to know. Without, it takes what many know for what the reader knows.
    bits : int
        2 to 32, of which the file needs 16 or 32. At 16 the page's predictions are those of ``fold_in`` up
        to about a five-thousandth of the scale, at 32 up to the rounding of float32.

    Returns
    -------
    int
        Bytes written: at 16 bits about n (8 / 3 (k + 1) + 37) for n films with titles of usual length, and
        n (8 / 3 k + 3) for the factors of likes.

    Raises
    ------
    TypeError, ValueError, sklearn.exceptions.NotFittedError
        If the model or the path is not as described.
    """
    _check_model(model)
    _check_likes(likes, model)
    _check_questions(questions, model)
    path = Path(path)
    if path.suffix != ".js":
        raise ValueError(f"path: got {path.name!r}; expected a name that ends in .js")
    train = model.train_
    codes, steps = quantize(_film_side(model), bits)
    titles, years, genre_sets, genre_of = _film_facts(train)
    names = sorted({name for one in genre_sets for name in one})
    first_year = min(filter(None, years), default=1)
    content = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "data": train.name,
        "factors": model.n_factors,
        "mean": model.mean_,
        "reg": float(model.reg_),
        "bias_reg": float(model.bias_reg_),
        "weighted": bool(model.weighted),
        "scale": list(train.scale),
        "step": step_of(train),
        "noun": _nouns(train),
        "columns": [train.user_name, train.item_name],
        "reader": _stranger(train.user_ids),
        "steps": steps.tolist(),
        "films": _packed(codes.ravel()),
        "item_ids": _pack_ids(train.item_ids),
        "counts": _pack(train.item_counts),
        "first_year": first_year,
        "years": _pack([year - first_year + 1 if year else 0 for year in years]),
        "genres": names,
        "genre_sets": [[names.index(name) for name in one] for one in genre_sets],
        "genre_of": _pack(genre_of),
        "titles": titles,
    }
    if likes is not None:
        content["likes"] = _likes_side(likes, bits)
    if questions is not None:
        content |= _questions_side(questions, bits)
    # "<" is escaped so that the text stays harmless even when somebody pastes it into a page.
    body = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    text = f"{VARIABLE} = {body.replace('<', chr(92) + 'u003c')};\n"
    _write(path, text)
    return len(text)


def read_model(path):
    """Read a file of `export_model` back, for checks.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict
        ``factors``, shape (n, k), and ``bias``, shape (n,), as float64, ``item_ids`` (text, or whole
        numbers as float64 holds them), ``titles``, ``years`` (0: unknown), ``genres`` (a list of names
        for each film), ``counts``, ``mean``, ``reg``, ``bias_reg``, ``weighted``, ``scale``, ``step``,
        ``noun``, ``columns`` and ``reader``; and ``likes``, None or a dict: ``factors``, shape (n, k),
        ``liked_by`` (how many people like each item), ``threshold`` (None: every pair is a like),
        ``weight``, ``reg`` and ``exponent``; ``noise``, None or the standard deviation of a rating; and
        ``knowing``, None or a dict of the model of who has rated what, for the most rated items in the order
        of their numbers of ratings: ``factors``, ``bias``, ``mean``, ``reg`` and ``bias_reg``; and ``prior``,
        None or what questions begin with, shape (k + 1, k + 1).

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
        films = _table_of(content)
        years = _unpack(content["years"]).astype(np.int64)
        sets = [[content["genres"][g] for g in one] for one in content["genre_sets"]]
        out = {
            "factors": films[:, :k],
            "bias": films[:, k],
            "item_ids": _unpack_ids(content["item_ids"]),
            "titles": content["titles"],
            "years": np.where(years > 0, years + content["first_year"] - 1, 0),
            "genres": [sets[at] for at in _unpack(content["genre_of"])],
            "counts": _unpack(content["counts"]).astype(np.int64),
        }
        lengths = {name: len(values) for name, values in out.items()}
        if (likes := content.get("likes")) is not None:
            factors = _unpack(likes["films"]).reshape(-1, likes["factors"]) * np.array(likes["steps"])
            likes = {name: likes[name] for name in ("threshold", "weight", "reg", "exponent")} | {
                "factors": factors, "liked_by": _unpack(content["likes"]["liked_by"]).astype(np.int64)
            }  # fmt: skip
            lengths |= {f"likes.{name}": len(likes[name]) for name in ("factors", "liked_by")}
        if (knowing := content.get("knowing")) is not None:
            table = _table_of(knowing)
            knowing = {name: knowing[name] for name in ("mean", "reg", "bias_reg")} | {
                "factors": table[:, :-1], "bias": table[:, -1]
            }  # fmt: skip
        if len(set(lengths.values())) > 1:
            raise ValueError(f"its columns have different lengths: {lengths}")
        plain = ("mean", "reg", "bias_reg", "weighted", "scale", "step", "noun", "columns", "reader")
        return out | {name: content[name] for name in plain} | {
            "likes": likes, "noise": content.get("noise"), "knowing": knowing, "prior": _prior_of(content)
        }  # fmt: skip
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"{path}: not a file of export_model, or a damaged one ({type(error).__name__}: {error}); "
            "export the model again"
        ) from error


def write_page(model, folder, *, likes=None, questions=None, title="Try it"):
    """Write a page that recommends in its reader's browser, from a model of your own.

    The page searches, rates, recommends and explains, as the book's page "Try it" does. It opens from the
    disk: no server, no network. Ratings stay in the reader's browser.

    Parameters
    ----------
    model : BiasedALS
        Fitted, with at least one factor, on ratings of any scale with ids of any kind. Titles and genres
        are shown where the ratings have them, ids otherwise.
    folder : str or Path
        Made if it does not exist. A page that stands there already is replaced, its readers' ratings
        stay.
    likes : ImplicitALS, optional
        A second model, for lists from likes alone; see `export_model`. The page then begins with these
        lists, and has a switch.
    questions : Questions, optional
        For predictions with their standard deviations, and for better questions; see `export_model`.
    title : str
        The heading.

    Returns
    -------
    Path
        The page, ``folder / "index.html"``, to be opened in a browser.

    Raises
    ------
    TypeError, ValueError, sklearn.exceptions.NotFittedError
        If the model cannot be exported; the message says which can.
    FileExistsError
        If `folder` is a file, or holds an index.html that this function did not write.

    Notes
    -----
    Seven files: 60 kB, and the model at 32 bits, about n (16 / 3 (k + 1) + 37) bytes for n items. What the
    page predicts is what ``model.fold_in`` predicts, to a thousandth.
    """
    _check_model(model)
    _check_likes(likes, model)
    _check_questions(questions, model)
    if not isinstance(title, str) or not title.strip():
        raise ValueError(f"title: got {title!r}; expected some text")
    folder = Path(folder)
    page = folder / "index.html"
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"folder: got {folder}, a file; expected a folder, or a name that is free")
    if page.exists() and MARK not in page.read_text(encoding="utf-8", errors="replace")[:300]:
        raise FileExistsError(f"folder: got {folder}, where another page stands; expected another folder")
    export_model(model, folder / "model.js", likes=likes, questions=questions, bits=32)
    train = model.train_
    item, items = _nouns(train)
    for source in [*STATIC.iterdir(), TEMPLATE / "page.css"]:
        _write(folder / source.name, source.read_text(encoding="utf-8"))
    facts = {"item": item, "items": items, "name": train.name, "n_ratings": f"{len(train):,}",
             "n_items": f"{train.n_items:,}", "title": title, "mark": MARK,
             "model": repr(model) if likes is None else f"{model!r}, {likes!r}"}  # fmt: skip
    text = Template((TEMPLATE / "index.html").read_text(encoding="utf-8"))
    facts = {name: html.escape(fact) for name, fact in facts.items()}
    _write(page, text.substitute(facts, about_likes="" if likes is None else ABOUT_LIKES.format(**facts)))
    return page


# ---- parts --------------------------------------------------------------------


def _check_model(model):
    if not isinstance(model, BiasedALS):
        raise TypeError(
            f"model: got {type(model).__name__}; expected a fitted BiasedALS with at least one factor: a new "
            "person is then one small system of equations, which the page solves"
        )
    model.score_items()  # raises unless the model is fitted
    if model.n_factors == 0:
        raise ValueError("n_factors: got 0; expected at least 1, as the page ranks films by their factors")


def _check_likes(likes, model):
    if likes is None:
        return
    if not isinstance(likes, ImplicitALS) or likes.weights != "binary":
        raise TypeError(
            f'likes: got {likes!r}; expected a fitted ImplicitALS with weights="binary", in which every '
            "like counts the same"
        )
    likes.score_items()  # raises unless the model is fitted
    if not np.array_equal(likes.train_.item_ids, model.train_.item_ids):
        raise ValueError(
            f"likes: got a model of {likes.train_.n_items} items, other than the {model.train_.n_items} of "
            "the first model; expected both fitted to the same ratings"
        )


def _check_questions(questions, model):
    if questions is None:
        return
    if not isinstance(questions, Questions):
        raise TypeError(f"questions: got {type(questions).__name__}; expected Questions(model)")
    if questions.model is not model:
        raise ValueError("questions: got those of another model; expected Questions(model) of this one")


def _questions_side(questions, bits):
    """What the page needs to say how far a prediction may be off, and to ask."""
    side = {"noise": questions.noise if np.isfinite(questions.noise) else None}
    knowing = questions.knowing
    if knowing is not None:
        codes, steps = quantize(_film_side(knowing), bits)
        side["knowing"] = {
            "factors": knowing.n_factors,
            "mean": knowing.mean_,
            "reg": float(knowing.reg_),
            "bias_reg": float(knowing.bias_reg_),
            "steps": steps.tolist(),
            "films": _packed(codes.ravel()),
        }
        side["prior"] = questions.prior[np.tril_indices_from(questions.prior)].tolist()
    return side


def _prior_of(content):
    """The symmetric matrix whose lower triangle the file holds, row after row."""
    if content.get("prior") is None:
        return None
    out = np.zeros((content["factors"] + 1,) * 2)
    out[np.tril_indices_from(out)] = content["prior"]
    return out + np.tril(out, -1).T


def _table_of(content):
    """Factors and bias side by side, as `_film_side` gives them."""
    return _unpack(content["films"]).reshape(-1, content["factors"] + 1) * np.array(content["steps"])


def _likes_side(likes, bits):
    """What the page needs to fold a person's likes in."""
    codes, steps = quantize(likes.item_factors_, bits)
    threshold = float(likes.threshold_)
    return {
        "factors": likes.n_factors,
        "threshold": threshold if np.isfinite(threshold) else None,
        "weight": float(likes.unobserved_weight_),
        "reg": float(likes.reg_),
        "exponent": float(likes.reg_exponent),
        "steps": steps.tolist(),
        "films": _packed(codes.ravel()),
        "liked_by": _pack(np.rint(likes.popularity_ * likes.train_.n_users).astype(np.int64)),
    }


def _film_side(model):
    """Factors and bias side by side, shape (n, k + 1): the order the page multiplies them in."""
    return np.column_stack([model.item_factors_, model.item_bias_])


def _film_facts(train):
    """Titles without year, years (0: unknown), the distinct sets of genres, and which of them a film has."""
    ids, movies = train.item_ids, train.movies
    titles, years, listed = list(train.titles(ids)), [0] * len(ids), [()] * len(ids)
    if movies is not None:
        table = movies.set_index(train.item_name).reindex(ids)
        if "year" in table.columns:
            years = [int(year) for year in pd.to_numeric(table["year"], errors="coerce").fillna(0)]
        else:
            years = [_year_of(title) for title in titles]
        if "genres" in table.columns:
            listed = [_genres_of(value) for value in table["genres"]]
    titles = [
        title.strip().removesuffix(f"({year})").rstrip() if year else title
        for title, year in zip(titles, years, strict=True)
    ]
    sets = sorted(set(listed))
    place = {genres: at for at, genres in enumerate(sets)}
    return titles, years, sets, [place[genres] for genres in listed]


def _nouns(train):
    """What the page calls one item, and several."""
    films = train.item_name == "movieId"
    return ["film", "films"] if films else ["item", "items"]


def _year_of(title):
    found = re.search(r"\((1[89]\d\d|20\d\d)\)\s*$", title)
    return int(found[1]) if found else 0


def _genres_of(value):
    """The genres of one film, from text joined by "|" or a list."""
    if isinstance(value, str):
        value = value.split("|")
    if not isinstance(value, (list, tuple, np.ndarray)):
        return ()
    return tuple(str(genre) for genre in value if genre and genre != NO_GENRE)


def _stranger(user_ids):
    """An id that no user of the data has, for the reader's own table."""
    known = {plain(user) for user in user_ids.tolist()}
    if user_ids.dtype.kind in "iu":
        return 0 if 0 not in known else min(2**53, max(known) + 1)
    name, number = "me", 1
    while name in known:
        number += 1
        name = f"me-{number}"
    return name


def _pack_ids(ids):
    """Differences where ids are whole numbers that a browser tells apart, else text."""
    if ids.dtype.kind in "iu" and ids[0] >= 0 and ids[-1] < 2**53:
        steps = np.diff(ids.astype(np.int64), prepend=0)
        if steps.max() < 2**32:
            return _pack(steps)
    return [str(one) for one in ids.tolist()]


def _unpack_ids(ids):
    if isinstance(ids, list):
        return np.array([str(one) for one in ids], dtype=object)
    return np.cumsum(_unpack(ids), dtype=np.int64)


def _pack(values):
    """Integers as base64, little-endian, in the smallest of five types that holds them."""
    values = np.asarray(values)
    for dtype in TYPES:
        limits = np.iinfo(dtype)
        if len(values) == 0 or (values.min() >= limits.min and values.max() <= limits.max):
            return _packed(values.astype(dtype))
    raise ValueError(f"values: got {values.min()} to {values.max()}; expected whole numbers below 2^32")


def _packed(values):
    raw = values.astype(values.dtype.newbyteorder("<")).tobytes()
    return {"type": values.dtype.name, "data": base64.b64encode(raw).decode("ascii")}


def _unpack(packed):
    if packed["type"] not in TYPES:
        raise ValueError(f"an array has the type {packed['type']!r}")
    raw = base64.b64decode(packed["data"], validate=True)
    return np.frombuffer(raw, np.dtype(packed["type"]).newbyteorder("<"))


def _write(path, text):
    with atomic_write(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def main(arguments=None):
    """Fit `page_model` and `likes_model` to the embedded ratings and write them, with the questions."""
    parser = argparse.ArgumentParser(prog="python -m recsys_helpers.serving.export", description=main.__doc__)
    parser.add_argument("path", type=Path, help="the file to write, which ends in .js")
    options = parser.parse_args(arguments)
    ratings = load_movielens("latest-small")
    model = page_model(ratings)
    size = export_model(model, options.path, likes=likes_model(ratings), questions=Questions(model))
    print(f"{options.path}: {size:,} bytes")


if __name__ == "__main__":
    main()
