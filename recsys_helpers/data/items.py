"""Tables about items and users that come with ratings: titles, genres, whatever there is."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from .aliases import find_columns, plain
from .intake import columns_of, kind_of, lookup, read_ids, show

NO_GENRE = "(no genres listed)"
TITLES = (
    "movietitle", "filmtitle", "booktitle", "producttitle", "itemtitle", "itemname", "productname", "name"
)  # fmt: skip


def check_table(table, role, name, ids, label, warn=True):
    """A table of items or users, checked against the ids of the ratings.

    Parameters
    ----------
    table : DataFrame of pandas or Polars, PyArrow Table, or None
        One row an item (or user); a column of ids, others as there are.
    role : {"item", "user"}
    name : str
        How the ratings call the column of ids.
    ids : ndarray
        The ids in the ratings.
    label : str
        What the argument is called, for messages.
    warn : bool
        Whether to warn of a table about other things.

    Returns
    -------
    pandas.DataFrame or None
        The column of ids is called `name` and has ids as the ratings have them; genres are text
        joined by "|"; a column such as Book-Title or product_name, where there is one, is called title.

    Raises
    ------
    TypeError, ValueError
        If it is no table, has no column of ids, or ids that are missing, repeated or of another kind.

    Warns
    -----
    UserWarning
        If it tells of none of the ids.
    """
    if table is None:
        return None
    names, get = columns_of(table, label)
    if isinstance(table, pd.DataFrame) and plain(table.index.name or "") == plain(name) and name not in names:
        raise ValueError(
            f"{label}: {table.index.name} is the index; expected a column; call {label}.reset_index()"
        )
    key = find_columns(names, {role: None}, [role], label, known={role: name})[role]
    found = read_ids(get(key), f"{label}: column {key}")
    if len(found) and len(ids) and kind_of(found) != kind_of(ids):
        kind = "int" if kind_of(ids) == "number" else "str"
        raise ValueError(
            f"{label}: column {key} has {kind_of(found)} ids such as {show(found[0])}; the ratings have "
            f"{kind_of(ids)} ids such as {show(ids[0])}; convert one of the two, for example with "
            f".astype({{{key!r}: {kind}}})"
        )
    twice = pd.Series(found).duplicated().to_numpy()
    if twice.any():
        at = int(np.argmax(twice))
        raise ValueError(
            f"{label}: column {key}: got {show(found[at])} twice, again in row {at}; expected one row "
            f"for each {role}; see {label}.drop_duplicates({key!r})"
        )
    out = _pandas(table)
    if key != name:
        out = out.rename(columns={key: name})
    if found.dtype != out[name].dtype:
        out = out.assign(**{name: found})
    if role == "item" and "title" not in names:
        titles = [column for column in names if plain(column) in TITLES and column != key]
        out = out.rename(columns={titles[0]: "title"}) if len(titles) == 1 else out
    if "genres" in out.columns:
        out = _with_text_genres(out, label)
    if warn and len(ids) and len(found) and (lookup(ids, found, label) < 0).all():
        warnings.warn(
            f"{label}: none of its {len(found):,} ids is in the ratings, for example {found[:1].tolist()} "
            f"there and {ids[:1].tolist()} here; titles and genres will not be found",
            UserWarning,
            stacklevel=4,
        )
    return out


def _pandas(table):
    if isinstance(table, pd.DataFrame):
        return table
    names, get = columns_of(table, "table")
    return pd.DataFrame({name: pd.Series(get(name).to_pylist() if hasattr(get(name), "to_pylist")
                                         else get(name).to_list()) for name in names})  # fmt: skip


def _with_text_genres(table, label):
    """Genres as text joined by "|", however they came."""
    genres = table["genres"]
    if all(isinstance(g, str) for g in genres):
        return table
    return table.assign(genres=[_genre_text(g, label, row) for row, g in enumerate(genres)])


def _genre_text(value, label, row):
    if isinstance(value, str):
        return value
    if isinstance(value, Iterable):
        names = list(value)
        if all(isinstance(name, str) for name in names):
            return "|".join(names)
    elif pd.isna(value):
        return ""
    raise ValueError(
        f"{label}: column genres, row {row}: got {value!r}; expected names, as a list or as text joined by |"
    )


def check_genres(ratings):
    """Raise a ValueError unless the ratings carry what a model with ``genres=True`` learns from."""
    if ratings.movies is None or "genres" not in ratings.movies.columns:
        raise ValueError("genres: got True, but the ratings carry no movies table with a column genres")


def genre_shares(ratings):
    """Which genres each item has, as shares that sum to 1.

    Parameters
    ----------
    ratings : Ratings
        With a movies table that has a column genres, names joined by "|".

    Returns
    -------
    names : list of str
        Sorted; "(no genres listed)" is not a genre.
    shares : scipy.sparse.csr_array, shape (n, G)
        1 / (number of the item's genres) for each of them; an empty row where none is known.
    """
    listed = ratings.movies.set_index(ratings.item_name)["genres"].reindex(ratings.item_ids).fillna("")
    split = [[g for g in dict.fromkeys(text.split("|")) if g and g != NO_GENRE] for text in listed]
    names = sorted({g for genres in split for g in genres})
    code = {g: c for c, g in enumerate(names)}
    rows = np.repeat(np.arange(len(split)), [len(g) for g in split])
    columns = np.array([code[g] for genres in split for g in genres], dtype=np.int64)
    values = np.repeat([1 / max(len(g), 1) for g in split], [len(g) for g in split])
    return names, csr_array((values, (rows, columns)), shape=(len(split), len(names)))
