"""Recommendations over HTTP: the model of chapter 4 behind a small service."""

from __future__ import annotations

import numpy as np

from ..data.ratings import Ratings
from ..models.als import BiasedALS
from ..models.base import top_codes
from .feedback import FeedbackStore

MAX_RATINGS = 1000  # in one request
MAX_BODY = 64 * 1024  # bytes of one request; a thousand ratings need about half of it
MAX_FILMS = 100  # in one answer
MAX_REASONS = 10  # for one film


class UnknownError(LookupError):
    """A user or film that does not exist; the service answers 404."""


class OutOfScaleError(ValueError):
    """A rating outside the scale of the data; the service answers 422."""


def create_app(model, ratings, store=None):
    """A FastAPI application that serves one fitted model.

    The answers are those of the methods of the same names: `BiasedALS.fold_in`,
    `NewUser.recommend`, `BiasedALS.similar_items`.

    Parameters
    ----------
    model : BiasedALS
        Fitted, with at least one factor.
    ratings : Ratings
        What is known of each user now: often what the model was trained on, perhaps more.
        A known user is folded in from these ratings, so ratings that came after the
        training count at once. They also give each film's number of ratings.
    store : FeedbackStore, optional
        Where feedback goes. By default into memory, for the life of this application.

    Returns
    -------
    fastapi.FastAPI
        Run it with Uvicorn, or in-process with `starlette.testclient.TestClient`. The
        description is at /openapi.json, and as a page without scripts at /docs.

    Raises
    ------
    ImportError
        If FastAPI is not installed.
    TypeError, ValueError
        If an argument is not as documented.

    Notes
    -----
    Nothing is trained at request time. A recommendation costs one fold-in,
    O(l k^2 + k^3) for the l ratings of a person, and one matrix-vector product, O(n k).

    A request gets 404 for a user or film that does not exist, 413 for a body above `MAX_BODY` bytes,
    422 for values out of bounds, and 503 when feedback cannot be stored; the answer
    ``{"error": ..., "details": [...]}`` says what came and what was expected.

    There are no accounts: who knows a session's id can read and add its feedback. Put the
    service behind something that knows its users before strangers can reach it.
    """
    if not isinstance(model, BiasedALS):
        raise TypeError(f"model: got {type(model).__name__}; expected a fitted BiasedALS")
    model._check_fitted()
    if model.n_factors == 0:
        raise ValueError("model: got n_factors=0; expected at least 1, as biases alone know no similar films")
    if not isinstance(ratings, Ratings):
        raise TypeError(f"ratings: got {type(ratings).__name__}; expected a Ratings")
    if store is not None and not isinstance(store, FeedbackStore):
        raise TypeError(f"store: got {type(store).__name__}; expected a FeedbackStore or None")
    low, high = model.train_.scale
    for name, scale in (("model", (low, high)), ("store", (low, high) if store is None else store.scale)):
        if not (max(low, 0.5) <= scale[0] and scale[1] <= min(high, 5)):
            raise ValueError(
                f"{name}: got ratings from {scale[0]:g} to {scale[1]:g}; expected a scale within "
                f"{max(low, 0.5):g} to {min(high, 5):g}, in half stars"
            )
    try:
        from . import http as _http
    except ImportError as error:
        raise ImportError(
            f"create_app needs FastAPI ({error}); install it with: pip install 'recsys_helpers[app]'"
        ) from error
    if store is None:
        store = FeedbackStore(":memory:", scale=model.train_.scale)
    return _http.build(Service(model, ratings, store))


class Service:
    """What the endpoints do, in Python: `create_app` without HTTP.

    Parameters
    ----------
    model, ratings, store
        As in `create_app`, checked there.
    """

    def __init__(self, model, ratings, store):
        self.model, self.ratings, self.store = model, ratings, store
        self.item_ids = model.train_.item_ids
        codes = ratings.encode_items(self.item_ids)
        self.counts = np.where(codes >= 0, ratings.item_counts[codes], 0)
        self.names = [str(title) for title in model.train_.titles(self.item_ids)]
        length = np.linalg.norm(model.item_factors_.astype(np.float64), axis=1, keepdims=True)
        # Unit vectors; a film that the model has learned nothing about keeps its zero.
        self.directions = model.item_factors_ / np.where(length > 0, length, 1.0)
        # What a person without any ratings is offered: mu + b_i.
        self.level = model.mean_ + model.item_bias_.astype(np.float64)

    def title(self, movie):
        """The title of a film that the model knows; raises an UnknownError for others."""
        code = self.model.train_.encode_items(movie)[0]
        if code < 0:
            raise UnknownError(f"movieId: got {movie}; expected a film of the data")
        return self.names[code]

    def check_stars(self, stars):
        """Raise an OutOfScaleError if a rating is outside the scale of the data."""
        low, high = self.model.train_.scale
        for movie, value in stars.items():
            if not low <= value <= high:
                raise OutOfScaleError(
                    f"ratings: got {value:g} for movieId {movie}; expected {low:g} to {high:g}"
                )

    def ratings_of(self, user):
        """Stars by movieId of a userId or session, and the films it hides.

        The feedback in the store comes after the ratings of the data, and so replaces them.
        Raises an UnknownError for a userId that is not in the data; a session may be new.
        """
        stars = {}
        if isinstance(user, int):
            code = self.ratings.encode_users(user)[0]
            if code < 0:
                raise UnknownError(f"user: got {user}; expected a userId of the data, or a session")
            matrix = self.ratings.by_user
            span = slice(matrix.indptr[code], matrix.indptr[code + 1])
            movies = self.ratings.item_ids[matrix.indices[span]].tolist()
            stars = dict(zip(movies, matrix.data[span].tolist(), strict=True))
        return stars | self.store.ratings(user), self.store.hidden(user)

    def recommend(self, stars, hidden=(), *, n=10, min_ratings=0, n_reasons=0):
        """The best films for a person with the given ratings.

        Parameters
        ----------
        stars : dict of int to float
            Ratings by movieId; these films are left out. Without a single film that the
            model knows, the films are ranked by mean + b_i, the same for everybody.
        hidden : iterable of int
            Films to leave out as well.
        n, min_ratings, n_reasons : int
            How many films; the least number of ratings of a film; how many of the
            person's ratings, largest absolute contribution first, explain each film.

        Returns
        -------
        dict
            personal (bool), ignored (rated films that the model does not know) and films:
            dicts with movieId, title, score in stars, and because.
        """
        person, ignored = None, list(stars)
        if stars and (self.model.train_.encode_items(list(stars)) >= 0).any():
            person = self.model.fold_in(stars)
            ignored = person.ignored.tolist()
        scores = self.level.copy() if person is None else person.predict(self.item_ids)
        out = self.model.train_.encode_items(np.array([*stars, *hidden], dtype=np.int64))
        scores[out[out >= 0]] = -np.inf
        scores[self.counts < min_ratings] = -np.inf
        best = top_codes(scores, n)
        films = [
            {
                "movieId": int(self.item_ids[code]),
                "title": self.names[code],
                "score": float(scores[code]),
                "because": [],
            }
            for code in best
        ]
        if person is not None and n_reasons:
            for film, because in zip(films, self.reasons(stars, best, n_reasons), strict=True):
                film["because"] = because
        return {"personal": person is not None, "ignored": ignored, "films": films}

    def similar(self, movie, n=10, *, min_ratings=0):
        """The films whose factors point in the most similar direction, as `BiasedALS.similar_items`.

        Returns a list of dicts with movieId, title and score, the cosine. Raises an UnknownError for
        a film that the model does not know, or has learned nothing about.
        """
        self.title(movie)
        code = self.model.train_.encode_items(movie)[0]
        own = self.directions[code]
        if not own.any():
            raise UnknownError(
                f"movieId: got {movie}, a film without training ratings or genres to compare by"
            )
        scores = self.directions @ own
        scores[~self.directions.any(axis=1) | (self.counts < min_ratings)] = -np.inf
        scores[code] = -np.inf
        return [
            {"movieId": int(self.item_ids[at]), "title": self.names[at], "score": float(scores[at])}
            for at in top_codes(scores, n)
        ]

    def reasons(self, stars, films, n):
        """The n largest contributions to the predictions of films, given by their codes.

        What `NewUser.explain` says, for several films with one factorization:
        O(l k^2 + k^3) for l ratings, and O(l k) a film.
        """
        model = self.model
        movies = np.array(list(stars), dtype=np.int64)
        codes = model.train_.encode_items(movies)
        known = codes >= 0
        codes, values = codes[known], np.array(list(stars.values()))[known]
        x = np.column_stack([model.item_factors_[codes], np.ones(len(codes))]).astype(np.float64)
        penalty = np.append(np.full(model.n_factors, model.reg), model.bias_reg)
        system = x.T @ x + np.diag(penalty * (len(codes) if model.weighted else 1))
        wanted = np.column_stack([model.item_factors_[films], np.ones(len(films))]).astype(np.float64)
        parts = (x @ np.linalg.solve(system, wanted.T)).T * (values - model.mean_ - model.item_bias_[codes])
        out = []
        for part in parts:
            largest = np.argsort(-np.abs(part), kind="stable")[:n]
            out.append(
                [
                    {
                        "movieId": int(self.item_ids[codes[at]]),
                        "title": self.names[codes[at]],
                        "rating": float(values[at]),
                        "contribution": float(part[at]),
                    }
                    for at in largest
                ]
            )
        return out
