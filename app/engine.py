"""The models of the app and what it shows of them: plain Python, no Streamlit.

To offer another model, add a line to `MODELS`. Whatever has ``fold_in``, as the models with factors and
`ItemKNN` do, gives everybody their own list; a model without it gives all the same one.
"""

import os
import re
import secrets
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from recsys_helpers import BiasedALS, FeedbackStore, ItemKNN, Popularity, load_movielens
from recsys_helpers.models.base import top_codes

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
    """The ratings; RECSYS_DATA names another MovieLens edition, which is then downloaded."""
    return load_movielens(os.environ.get("RECSYS_DATA", "latest-small"))


def fit(name, ratings):
    """One model of `MODELS`, fitted."""
    return MODELS[name].make().fit(ratings)


def open_store(ratings):
    """The feedback, in the file that RECSYS_FEEDBACK names, or beside this one."""
    return FeedbackStore(os.environ.get("RECSYS_FEEDBACK", HERE / "feedback.sqlite"), scale=ratings.scale)


def new_session():
    """An id that nobody guesses."""
    return "s" + secrets.token_hex(12)


def known_ratings(ratings, user):
    """Stars by movieId of a user of the data."""
    code = ratings.encode_users(user)[0]
    matrix = ratings.by_user
    span = slice(matrix.indptr[code], matrix.indptr[code + 1])
    movies = ratings.item_ids[matrix.indices[span]].tolist()
    return dict(zip(movies, matrix.data[span].tolist(), strict=True))


class Catalog:
    """Titles, genres and numbers of ratings by movieId."""

    def __init__(self, ratings):
        self.ids = ratings.item_ids
        names = [str(title) for title in ratings.titles(self.ids)]
        self.title = dict(zip(self.ids.tolist(), names, strict=True))
        self.counts = ratings.item_counts
        genres = pd.Series("", index=self.ids)
        if ratings.movies is not None and "genres" in ratings.movies:
            genres.update(ratings.movies.set_index("movieId")["genres"])
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
        return ", ".join(sorted(self.genres[np.searchsorted(self.ids, movie)]))


def recommend(model, catalog, stars, hidden=(), *, n=10, allowed=None, n_reasons=2):
    """What one model offers a person.

    Parameters
    ----------
    model
        Fitted, on the films of the catalog.
    stars : dict of int to float
        The person's ratings by movieId; these films are left out.
    hidden : iterable of int
        Films to leave out as well.
    n : int
        How many films.
    allowed : ndarray of bool, optional
        From `Catalog.allowed`.
    n_reasons : int
        How many of the person's ratings are named for each film: those that speak most
        strongly for it, if they add a hundredth of a star.

    Returns
    -------
    personal : bool
        False where the list is the same for everybody: the model cannot do better, or there
        are no ratings yet.
    films : list of dict
        movieId, title, score and because, a list of dicts with title, rating and contribution.
    """
    personal = not isinstance(model, Popularity) and any(movie in catalog.title for movie in stars)
    if personal:
        person = model.fold_in(stars)
        scores = person.score_items()
    else:
        scores = general_scores(model)
    out = model.train_.encode_items(np.array([*stars, *hidden], dtype=np.int64))
    scores[out[out >= 0]] = -np.inf
    if allowed is not None:
        scores[~allowed] = -np.inf
    films = []
    for code in top_codes(scores, n):
        movie = int(catalog.ids[code])
        film = {"movieId": movie, "title": catalog.title[movie], "score": float(scores[code]), "because": []}
        if personal:
            why = person.explain(movie)
            why = why[why["contribution"] >= 0.005].nlargest(n_reasons, "contribution")
            film["because"] = [
                {"title": catalog.title[int(m)], "rating": float(r), "contribution": float(c)}
                for m, r, c in zip(why["movieId"], why["rating"], why["contribution"], strict=True)
            ]
        films.append(film)
    return personal, films


def general_scores(model):
    """Scores for a person of whom nothing is known, one for each film."""
    return model.score_items()


def similar_films(model, movie, n=10, min_ratings=1):
    """The neighbors of a film with a column `similarity`, or None if the model knows none."""
    if model.verbs()["similar_items"] is True:
        table = model.similar_items(movie, n, min_ratings=min_ratings)
        return table.rename(columns={"score": "similarity"})
    return None


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
    mine = model.train_.encode_items(np.array(list(stars), dtype=np.int64))
    common = np.asarray((model.train_.by_user[codes][:, mine[mine >= 0]] != 0).sum(axis=1)).ravel()
    return pd.DataFrame(
        {"userId": model.train_.user_ids[codes], "similarity": cosine[codes], "common films": common}
    )


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
