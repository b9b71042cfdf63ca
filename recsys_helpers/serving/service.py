"""What the service does, in Python: the verbs of one model, with feedback. `http` puts it on the network."""

from __future__ import annotations

import re

import numpy as np

from ..models.base import top_codes
from .ids import NUMBER, UserId, check_user, plain
from .scale import step_of

MAX_RATINGS = 1000  # in one request
MAX_BODY = 64 * 1024  # bytes of one request; a thousand ratings need about half of it
MAX_FILMS = 100  # in one answer
MAX_REASONS = 10  # for one film
SESSION_MARK, USER_MARK = "session:", "user:"


class UnknownError(LookupError):
    """A user or film that does not exist; the service answers 404."""


class UnanswerableError(ValueError):
    """Ratings from which this model cannot tell anything; the service answers 422."""


class Service:
    """What the endpoints do, in Python: `create_app` without HTTP.

    Ids of films are what JSON holds: numbers or text, for UUIDs the text that they are written as.

    Parameters
    ----------
    model, ratings, store
        As in `create_app`, checked there.

    Attributes
    ----------
    title : dict of id to str
        The films that the model knows.
    scale, step : tuple of float, float or None
        Of the ratings; see `scale.step_of`.
    """

    def __init__(self, model, ratings, store):
        self.model, self.ratings, self.store = model, ratings, store
        train = model.train_
        self.item_ids, self.item_name = train.item_ids, train.item_name
        codes = ratings.encode_items(self.item_ids)
        self.counts = np.where(codes >= 0, ratings.item_counts[codes], 0)
        self._own = {plain(film): film for film in self.item_ids.tolist()}  # as the model has it
        self._ids = list(self._own)
        self._code = {film: code for code, film in enumerate(self._ids)}
        self.title = dict(zip(self._own, map(str, train.titles(self.item_ids)), strict=True))
        self.count = dict(zip(self._own, self.counts.tolist(), strict=True))
        self._users = {plain(user): code for code, user in enumerate(ratings.user_ids.tolist())}
        self.scale, self.step = train.scale, step_of(train)
        self.text_users = ratings.user_ids.dtype.kind not in "iu"
        self.text_items = self.item_ids.dtype.kind not in "iu"
        self.can = {verb: found is True for verb, found in model.verbs().items()}

    # ---- who ------------------------------------------------------------------------

    def who(self, user):
        """The user that a request names, for the store.

        Parameters
        ----------
        user : int or str
            A user's id in the data, or a session: text that begins with "session:", or, where the ids of
            the data are numbers, its name alone. Where they are text, one that itself begins with
            "session:" or "user:" is written with "user:" before it.

        Returns
        -------
        int, UserId or str
        """
        if isinstance(user, str):
            if user.startswith(SESSION_MARK):
                user = user.removeprefix(SESSION_MARK)
            elif self.text_users:
                user = UserId(user.removeprefix(USER_MARK))
            elif re.fullmatch(NUMBER[1:-1], user):
                user = int(user)
        try:
            return check_user(user)
        except ValueError as error:
            raise UnknownError(str(error)) from None

    def ratings_of(self, who):
        """Ratings by film of a user or a session, as `who` returns them, and the films they hide.

        The feedback in the store comes after the ratings of the data, and so replaces them.
        Raises an UnknownError for a user who is not in the data; a session may be new.
        """
        stars = {}
        if not isinstance(who, str):
            user = getattr(who, "id", who)
            code = self._users.get(user)
            if code is None:
                raise UnknownError(f"user: got {user!r}; expected a user of the data, or a session")
            matrix = self.ratings.by_user
            span = slice(matrix.indptr[code], matrix.indptr[code + 1])
            films = map(plain, self.ratings.item_ids[matrix.indices[span]].tolist())
            stars = dict(zip(films, matrix.data[span].tolist(), strict=True))
        return stars | self.store.ratings(who), self.store.hidden(who)

    # ---- what -------------------------------------------------------------------------

    def check_film(self, film):
        """Raise an UnknownError unless the model knows the film."""
        if film not in self.title:
            raise UnknownError(f"movieId: got {film!r}; expected a film of the data")

    def fold_in(self, stars):
        """A person with the given ratings, and the rated films that the model does not know.

        Returns
        -------
        person : NewUser or None
            None where the model knows none of the films.
        ignored : list of id
        """
        known = {self._own[film]: value for film, value in stars.items() if film in self._own}
        ignored = [film for film in stars if film not in self._own]
        if not known:
            return None, ignored
        try:
            return self.model.fold_in(known), ignored
        except ValueError as error:  # LinAlgError is one, too
            raise _too_few(known, error) from error

    def recommend(self, stars, hidden=(), *, n=10, min_ratings=0, n_reasons=0):
        """The best films for a person with the given ratings.

        Parameters
        ----------
        stars : dict of id to float
            Ratings by film; these films are left out. Without a single film that the
            model knows, the list is the model's for somebody of whom nothing is known.
        hidden : iterable of id
            Films to leave out as well.
        n, min_ratings, n_reasons : int
            How many films; the least number of ratings of a film; how many of the
            person's ratings, largest absolute contribution first, explain each film.

        Returns
        -------
        dict
            personal (bool), ignored (rated films that the model does not know) and films:
            dicts with movieId, title, score, and because.
        """
        person, ignored = self.fold_in(stars)
        # What `recommend` does, without a table: half of the time of a request.
        scores = (person or self.model).score_items()
        scores[~np.isfinite(scores)] = -np.inf
        if (scores == -np.inf).all():
            raise _too_few(stars, "no score is finite")
        scores[[self._code[film] for film in (*stars, *hidden) if film in self._code]] = -np.inf
        scores[self.counts < min_ratings] = -np.inf
        best = top_codes(scores, n)
        films = [
            {"movieId": self._ids[code], "title": self.title[self._ids[code]], "score": float(scores[code])}
            for code in best
        ]
        for film in films:
            explained = person is not None and n_reasons and self.can["explain"]
            film["because"] = self._reasons(person, stars, film["movieId"], n_reasons) if explained else []
        return {"personal": person is not None, "ignored": ignored, "films": films}

    def similar(self, film, n=10, *, min_ratings=0):
        """The films most like one, as the model's ``similar_items``.

        Returns a list of dicts with movieId, title and score. Raises an UnknownError for a film that
        the model does not know, or has learned nothing about.
        """
        self.check_film(film)
        try:
            # Filtered here: the ratings that are known now may be more than those of the training.
            own, most = self._own[film], len(self.item_ids) if min_ratings else n
            table = self.model.similar_items(own, most, min_ratings=0)
        except (ValueError, NotImplementedError) as error:
            raise UnknownError(str(error)) from error
        return [one for one in self._listed(table) if self.count[one["movieId"]] >= min_ratings][:n]

    def _listed(self, table):
        films = map(plain, table[self.item_name].tolist())
        return [
            {"movieId": film, "title": self.title[film], "score": score}
            for film, score in zip(films, table["score"].tolist(), strict=True)
        ]

    def _reasons(self, person, stars, film, n):
        """The n largest contributions to the score of a film."""
        try:
            why = person.explain(self._own[film]).head(n)
        except ValueError as error:
            raise _too_few(stars, error) from error
        films = map(plain, why[self.item_name].tolist())
        columns = films, why["rating"].tolist(), why["contribution"].tolist()
        return [
            {"movieId": rated, "title": self.title[rated], "rating": rating, "contribution": part}
            for rated, rating, part in zip(*columns, strict=True)
        ]


def _too_few(stars, error):
    return UnanswerableError(
        f"ratings: got {len(stars)}, too few for this model; expected more, or one with penalties: {error}"
    )
