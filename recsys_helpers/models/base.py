"""The interface every model shares: fit, predict, recommend."""

from __future__ import annotations

import numbers
from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from ..checks import check_positive_int
from ..data.ratings import Ratings


class Recommender(BaseEstimator):
    """Base of all models; parameters work as in scikit-learn.

    A subclass implements three private methods; the last two speak in codes
    (positions, see `Ratings`):

    ``_fit(ratings, validation, **options)``
        Learns, and sets attributes whose names end in an underscore. `fit` calls it on
        a blank twin of the model and takes over what it set when it has returned.
    ``_predict_codes(user_codes, item_codes)``
        float64 predictions, one for each pair; a code of -1 means unknown and
        gets the documented fallback of the model.
    ``_score_codes(user_code)``
        scores of all n items for one known user, used to rank them. By default
        the predicted ratings.

    Everything public speaks the ids of the data set.
    """

    def fit(self, ratings, validation=None, **options):
        """Learn from ratings.

        Parameters
        ----------
        ratings : Ratings or table
            The training ratings; a table is read as `Ratings.from_frame` reads it.
        validation : Ratings or table, optional
            Held-out ratings for models that watch their progress. Never the test part.
        **options
            What the model takes besides; see its own text.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If a parameter or the ratings are not as documented, before any work. A fit that
            fails, or is interrupted, leaves the model as it was.
        """
        ratings = self._check_ratings(ratings)
        if validation is not None:
            validation = self._check_ratings(validation, "validation")
        twin = type(self)(**self.get_params(deep=False))
        twin.train_ = ratings
        twin._fit(ratings, validation, **options)
        # One assignment: who predicts meanwhile sees the old model or the new one, never both.
        self.__dict__ = vars(twin)
        return self

    def _fit(self, ratings, validation):
        raise NotImplementedError

    def predict(self, ratings):
        """Predict the rating of each row.

        Parameters
        ----------
        ratings : Ratings or DataFrame
            The pairs to predict: a `Ratings`, or a table with the columns userId
            and movieId. Ids need not have been in training.

        Returns
        -------
        ndarray of float64, shape (len(ratings),)
            Aligned with the rows. Not clipped to the rating scale.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        self._check_fitted()
        users, items = self._pair_codes(ratings)
        return np.asarray(self._predict_codes(users, items), dtype=np.float64)

    def recommend(self, user, n=10, *, exclude_rated=True):
        """The n films with the highest scores for one user.

        Parameters
        ----------
        user : int
            A userId from training.
        n : int
            How many films; fewer come back when fewer are left.
        exclude_rated : bool
            Leave out films that the user rated in training.

        Returns
        -------
        DataFrame
            Columns movieId and score, and title where the training data had
            titles; best first. Equal scores are ordered by movieId.

        Raises
        ------
        ValueError
            If the user was not in training, or n is not a positive integer.
        """
        self._check_fitted()
        check_positive_int("n", n)
        code = self._known_user(user)
        scores = np.array(self._score_codes(code), dtype=np.float64)
        if exclude_rated:
            scores[self._rated_codes(code)] = -np.inf
        return self._top_frame(scores, n)

    # ---- for subclasses ---------------------------------------------------

    def _predict_codes(self, users, items):
        raise NotImplementedError

    def _score_codes(self, user):
        items = np.arange(self.train_.n_items, dtype=np.int32)
        return self._predict_codes(np.full(len(items), user, dtype=np.int32), items)

    def _score_block(self, users):
        """Scores of all items for several known users, shape (len(users), n)."""
        n = self.train_.n_items
        if type(self)._score_codes is Recommender._score_codes:
            # One call for all pairs: what a call costs beside them is paid once.
            items = np.tile(np.arange(n, dtype=np.int32), len(users))
            pairs = np.repeat(np.asarray(users, dtype=np.int32), n)
            return self._predict_codes(pairs, items).reshape(len(users), n)
        out = np.empty((len(users), n))
        for row, user in enumerate(users):
            out[row] = self._score_codes(user)
        return out

    def _check_ratings(self, ratings, name="ratings"):
        if isinstance(ratings, pd.DataFrame):
            ratings = Ratings.from_frame(ratings, name=name)
        if not isinstance(ratings, Ratings):
            raise TypeError(
                f"{name}: got {type(ratings).__name__}; expected a Ratings or a table "
                "(make one with Ratings.from_frame or load_movielens)"
            )
        if len(ratings) == 0:
            raise ValueError(f"{name}: got no ratings; expected at least one")
        return ratings

    def _check_fitted(self):
        if not hasattr(self, "train_"):
            raise NotFittedError(f"This {type(self).__name__} is not fitted yet; call fit(ratings) first")

    def _pair_codes(self, ratings):
        if isinstance(ratings, Ratings):
            if ratings.user_ids is self.train_.user_ids and ratings.item_ids is self.train_.item_ids:
                return ratings.user_codes, ratings.item_codes
            users = self.train_.encode_users(ratings.user_ids)[ratings.user_codes]
            items = self.train_.encode_items(ratings.item_ids)[ratings.item_codes]
            return users, items
        if isinstance(ratings, pd.DataFrame) and {"userId", "movieId"} <= set(ratings.columns):
            return (
                self.train_.encode_users(ratings["userId"].to_numpy()),
                self.train_.encode_items(ratings["movieId"].to_numpy()),
            )
        raise TypeError(
            f"ratings: got {type(ratings).__name__}; expected a Ratings, or a DataFrame with the "
            "columns userId and movieId"
        )

    def _known_user(self, user):
        if not isinstance(user, numbers.Integral):
            raise ValueError(f"user: got {user!r}; expected a userId (a whole number)")
        code = int(self.train_.encode_users(user)[0])
        if code < 0:
            raise ValueError(f"user: got {user}, which is not in the training data; expected a known userId")
        return code

    def _known_item(self, movie):
        if not isinstance(movie, numbers.Integral):
            raise ValueError(f"movieId: got {movie!r}; expected a movieId (a whole number)")
        code = int(self.train_.encode_items(movie)[0])
        if code < 0:
            raise ValueError(
                f"movieId: got {movie}, which is not in the training data; expected a known movieId"
            )
        return code

    def _check_new_ratings(self, ratings):
        if isinstance(ratings, Mapping):
            movies, values = list(ratings.keys()), list(ratings.values())
        elif isinstance(ratings, pd.DataFrame) and {"movieId", "rating"} <= set(ratings.columns):
            movies, values = ratings["movieId"].tolist(), ratings["rating"].tolist()
        else:
            raise TypeError(
                f"ratings: got {type(ratings).__name__}; expected a dict of rating by movieId, or a "
                "DataFrame with the columns movieId and rating"
            )
        if not movies:
            raise ValueError("ratings: got none; expected at least one")
        movies = np.asarray(movies)
        if movies.dtype.kind not in "iu":
            raise ValueError(f"ratings: got movieIds of type {movies.dtype}; expected whole numbers")
        try:
            values = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"ratings: got {values!r}; expected numbers") from None
        low, high = self.train_.scale
        bad = ~((values >= low) & (values <= high))
        if bad.any():
            at = int(np.argmax(bad))
            raise ValueError(
                f"ratings: got {values[at]} for movieId {movies[at]}; expected {low:g} to {high:g}"
            )
        if len(np.unique(movies)) < len(movies):
            twice = movies[np.argmax(pd.Series(movies).duplicated())]
            raise ValueError(f"ratings: got movieId {twice} more than once; expected one rating a film")
        return movies, values

    def _newcomer(self, ratings):
        """A newcomer's film codes, ascending, their ratings, and the movieIds that are not known."""
        self._check_fitted()
        movies, values = self._check_new_ratings(ratings)
        codes = self.train_.encode_items(movies)
        known = codes >= 0
        if not known.any():
            raise ValueError("ratings: got no film that was in training; expected at least one")
        order = np.argsort(codes[known])
        return codes[known][order], values[known][order], movies[~known]

    def _rated_codes(self, user):
        matrix = self.train_.by_user
        return matrix.indices[matrix.indptr[user] : matrix.indptr[user + 1]]

    def _top_frame(self, scores, n):
        """The n best finite scores as a table; ties go to the smaller movieId."""
        codes = top_codes(scores, n)
        frame = pd.DataFrame({"movieId": self.train_.item_ids[codes], "score": scores[codes]})
        if self.train_.movies is not None:
            frame.insert(1, "title", self.train_.titles(frame["movieId"]))
        return frame


def top_codes(scores, n):
    """Positions of the n largest scores, best first, smaller position on a tie.

    Parameters
    ----------
    scores : ndarray of float, shape (n_items,)
        -inf and NaN mark items that must not be listed.
    n : int
        How many.

    Returns
    -------
    ndarray of int64
        At most n positions.

    Notes
    -----
    O(n_items + n log n): a partition finds the n-th largest score, and only the
    scores from there on are sorted.
    """
    scores = np.where(np.isnan(scores), -np.inf, scores)
    if n < len(scores):
        threshold = np.partition(scores, len(scores) - n)[len(scores) - n]
        candidates = np.flatnonzero(scores >= threshold)
    else:
        candidates = np.arange(len(scores))
    candidates = candidates[scores[candidates] > -np.inf]
    return candidates[np.lexsort((candidates, -scores[candidates]))][:n]
