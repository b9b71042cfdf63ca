"""The models of the app and what it shows of them: plain Python, no Streamlit.

To offer another model, add a line to `MODELS`: any model of the book, as only its verbs are used.
"""

import hashlib
import os
import re
import secrets
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from recsys_helpers import BiasedALS, FeedbackStore, ItemKNN, Popularity
from recsys_helpers.data.tables import open_ratings
from recsys_helpers.models.base import top_codes
from recsys_helpers.serving.ids import plain
from recsys_helpers.serving.scale import step_of

HERE = Path(__file__).resolve().parent


class Entry(NamedTuple):
    """One model of the app: what it is in a sentence, and how it is made."""

    about: str
    make: callable


FACTORS = "Factors"  # also draws the map and finds people
MODELS = {
    FACTORS: Entry(
        "Your taste as a vector, fitted to your ratings by least squares (chapter 4).",
        lambda: BiasedALS(genres=True, verbose=False),
    ),
    "Similar films": Entry(
        "The average of your own ratings of similar films (chapter 2).",
        lambda: ItemKNN(verbose=False),
    ),
    "Popular": Entry(
        "What most people have rated, the same for everybody (chapter 1).",
        Popularity,
    ),
}


def load():
    """The ratings that RECSYS_RATINGS names: an edition of MovieLens, which is then downloaded, or the path
    of a table of one's own, from here or from the folder above.
    """
    named = os.environ.get("RECSYS_RATINGS") or "latest-small"
    above = HERE.parent / named
    return open_ratings(above if above.exists() and not Path(named).exists() else named)


def fit(name, ratings):
    """One model of `MODELS`, fitted."""
    return MODELS[name].make().fit(ratings)


def open_store(ratings):
    """The feedback, in the file that RECSYS_FEEDBACK names, or beside this one."""
    return FeedbackStore(os.environ.get("RECSYS_FEEDBACK", HERE / "feedback.sqlite"), scale=ratings.scale)


def new_session():
    """An id that nobody guesses."""
    return "s" + secrets.token_hex(12)


def session_as(session, user):
    """The session in which somebody looks at the lists of a user of the data."""
    if isinstance(user, int):
        return f"{session}-u{user}"
    return f"{session}-t{hashlib.blake2b(str(user).encode(), digest_size=8).hexdigest()}"


def known_ratings(ratings, user):
    """Ratings by film of a user of the data."""
    code = ratings.encode_users(user)[0]
    matrix = ratings.by_user
    span = slice(matrix.indptr[code], matrix.indptr[code + 1])
    movies = ratings.item_ids[matrix.indices[span]].tolist()
    return dict(zip(movies, matrix.data[span].tolist(), strict=True))


def scale_values(ratings):
    """The ratings that can be given: each step of the scale, or a hundred and one where it has too many."""
    low, high = ratings.scale
    step = step_of(ratings)
    count = round((high - low) / step) + 1 if step else 1000
    return np.round(np.linspace(low, high, count if count <= 201 else 101), 4).tolist()


def start_value(values):
    """Where the control begins: what most people give to what they have chosen themselves."""
    return min(values, key=lambda value: abs(value - values[0] - 7 / 9 * (values[-1] - values[0])))


def in_words(value, scale):
    """A rating as text."""
    low, high = scale
    return f"{value:g} of {high:g}" if low >= 0 else f"{value:g} on the scale from {low:g} to {high:g}"


class Catalog:
    """Titles, genres and numbers of ratings by the ids of films."""

    def __init__(self, ratings):
        self.ids = ratings.item_ids
        names = [str(title) for title in ratings.titles(self.ids)]
        self.title = dict(zip(self.ids.tolist(), names, strict=True))
        self._own = {plain(film): film for film in self.title}
        self.counts = ratings.item_counts
        genres = pd.Series("", index=self.ids)
        if ratings.movies is not None and "genres" in ratings.movies:
            genres.update(ratings.movies.set_index(ratings.item_name)["genres"])
        self.code = {film: at for at, film in enumerate(self.title)}
        self.genres = [frozenset(text.split("|")) - {"", "(no genres listed)"} for text in genres]
        self.all_genres = sorted(set().union(*self.genres))
        order = np.argsort(-self.counts, kind="stable")
        self.by_popularity = self.ids[order].tolist()

    def allowed(self, min_ratings=0, genres=()):
        """Which films, in the order of `ids`, have enough ratings and one of the genres."""
        out = self.counts >= min_ratings
        if genres:
            out &= np.array([not own.isdisjoint(genres) for own in self.genres])
        return out

    def genres_of(self, movie):
        """The genres of one film as text."""
        return ", ".join(sorted(self.genres[self.code[movie]]))

    def said(self, store, who):
        """What somebody said that still counts: ratings by film, and the hidden films.

        The store has text for UUIDs; films that the data does not know stay as they are.
        """
        stars = {self._own.get(film, film): value for film, value in store.ratings(who).items()}
        return stars, {self._own.get(film, film) for film in store.hidden(who)}


def recommend(model, catalog, stars, hidden=(), *, n=10, allowed=None, n_reasons=2):
    """What one model offers a person.

    Parameters
    ----------
    model
        Fitted, on the films of the catalog.
    stars : dict of id to float
        The person's ratings by film; these films are left out.
    hidden : iterable of id
        Films to leave out as well.
    n : int
        How many films.
    allowed : ndarray of bool, optional
        From `Catalog.allowed`.
    n_reasons : int
        How many of the person's ratings are named for each film: those that speak most
        strongly for it, if they add a nine-hundredth of the scale: half a hundredth of a star.

    Returns
    -------
    personal : bool
        False where the list is the same for everybody: the model cannot do better, or there
        are no ratings yet.
    films : list of dict
        movieId, title, score and because, a list of dicts with title, rating and contribution.
    """
    person = _person(model, {film: value for film, value in stars.items() if film in catalog.title})
    among = catalog.ids if allowed is None else catalog.ids[allowed]
    if not len(among):
        return person is not None, []
    exclude = [film for film in (*stars, *hidden) if film in catalog.title]
    table = (person or model).recommend(n=n, exclude=exclude, among=among)
    rows = zip(table[model.train_.item_name].tolist(), table["score"].tolist(), strict=True)
    films = [{"movieId": film, "title": catalog.title[film], "score": score} for film, score in rows]
    for film in films:
        explained = person is not None and n_reasons
        film["because"] = _reasons(model, person, catalog, film["movieId"], n_reasons) if explained else []
    return person is not None, films


def _person(model, stars):
    """Somebody with these ratings, or None where the model tells nobody from anybody."""
    if not stars:
        return None
    try:
        person = model.fold_in(stars)
    except (NotImplementedError, ValueError):  # it cannot, or not from so few
        return None
    return None if np.array_equal(person.score_items(), model.score_items()) else person


def _reasons(model, person, catalog, film, n):
    why = person.explain(film)
    low, high = model.train_.scale
    why = why[why["contribution"] >= (high - low) / 900].nlargest(n, "contribution")
    films = why[model.train_.item_name].tolist()
    return [
        {"title": catalog.title[other], "rating": float(r), "contribution": float(c)}
        for other, r, c in zip(films, why["rating"], why["contribution"], strict=True)
    ]


def similar_films(model, movie, n=10, min_ratings=1):
    """The neighbors of a film with a column `similarity`, or None if the model knows none."""
    if model.verbs()["similar_items"] is not True:
        return None
    return model.similar_items(movie, n, min_ratings=min_ratings).rename(columns={"score": "similarity"})


def nearest_people(model, stars, n=5):
    """Users of the data whose factors point in the most similar direction.

    Returns
    -------
    DataFrame
        userId, similarity (the cosine) and common (films that both rated).
    """
    own = model.fold_in(stars).factors.astype(np.float64)
    factors = model.user_factors_.astype(np.float64)
    length = np.linalg.norm(factors, axis=1) * np.linalg.norm(own)
    cosine = np.divide(factors @ own, length, out=np.full(len(length), -np.inf), where=length > 0)
    codes = top_codes(cosine, n)
    mine = model.train_.encode_items(list(stars))
    common = np.asarray((model.train_.by_user[codes][:, mine[mine >= 0]] != 0).sum(axis=1)).ravel()
    people = {model.train_.user_name: model.train_.user_ids[codes], "similarity": cosine[codes]}
    return pd.DataFrame(people | {"common films": common})


def factor_map(model, catalog, stars, n=250):
    """The most rated films and the person in the plane where the films' factors differ most.

    Parameters
    ----------
    model
        With `item_factors_` and `fold_in`, and at least two factors.
    catalog : Catalog
    stars : dict of int to float
        Rated films are shown whatever their number of ratings.
    n : int
        How many of the most rated films to show.

    Returns
    -------
    DataFrame
        title, kind ("film", "rated high", "rated low", "you"), x, y, and label: the title
        without its year where there is room for it, else empty. The person's vector is stretched
        to the spread of the films: its direction means something, its length does not.
    """
    shown = catalog.by_popularity[:n]
    shown += [movie for movie in stars if movie in catalog.title and movie not in set(shown)]
    factors = model.item_factors_[model.train_.encode_items(shown)].astype(np.float64)
    center = factors[:n].mean(axis=0)
    _, _, axes = np.linalg.svd(factors[:n] - center, full_matrices=False)
    axes = axes[:2] * np.sign(axes[:2].sum(axis=1, keepdims=True))
    places = (factors - center) @ axes.T
    middle = np.median(list(stars.values())) if stars else 0
    kinds = [
        "film" if movie not in stars else "rated high" if stars[movie] >= middle else "rated low"
        for movie in shown
    ]
    frame = pd.DataFrame({"title": [catalog.title[m] for m in shown], "kind": kinds})
    frame["x"], frame["y"] = places.T
    if any(movie in catalog.title for movie in stars):
        place = model.fold_in(stars).factors.astype(np.float64) @ axes.T
        length = np.linalg.norm(place)
        if length > 0:
            place = place * np.sqrt((places**2).sum(axis=1).mean()) * 1.5 / length
            frame.loc[len(frame)] = ["You", "you", *place]
    frame["label"] = ""
    first = ["you", "rated high", "rated low", "film"]
    order = np.argsort(frame["kind"].map(first.index), kind="stable")
    low, size = frame[["x", "y"]].min(), np.ptp(frame[["x", "y"]], axis=0) + 1e-9
    spots, taken = ((frame[["x", "y"]] - low) / size).to_numpy(), []
    for at in order:
        # A label needs much room beside it, little above it; the rim would cut it off.
        if 0.15 < spots[at][0] < 0.85 or frame.at[at, "kind"] == "you":
            gaps = abs(spots[at] - np.array(taken).reshape(-1, 2))
            if ((gaps[:, 0] > 0.4) | (gaps[:, 1] > 0.08)).all():
                taken.append(spots[at])
                plain = re.sub(r" \(\d{4}\)$", "", frame.at[at, "title"])
                frame.at[at, "label"] = textwrap.shorten(plain, 24, placeholder=" …")
    return frame
