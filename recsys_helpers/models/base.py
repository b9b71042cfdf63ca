"""The contract that every model keeps: fit, predict, rank, recommend, fold in, explain, save."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from ..checks import check_each, check_positive_int
from ..data.ratings import Ratings
from .newcomer import NewUser

# Scores of users times items that are held at once where there are many users.
BLOCK_CELLS = 4_000_000
VERBS = (
    "fit", "predict", "score_items", "recommend", "save", "load", "fold_in", "similar_items", "explain"
)  # fmt: skip


class Recommender(BaseEstimator):
    """Base of all models; parameters work as in scikit-learn.

    A subclass declares its parameters in `_parameters`, a check for each (see `checks`), and
    implements what the mathematics gives it; these methods speak in codes (positions, see
    `Ratings`), and a code of -1 means unknown:

    ``_fit(ratings, validation, **options)``
        Learns, and sets attributes whose names end in an underscore. `fit` calls it on
        a blank twin of the model and takes over what it set when it has returned.
    ``_predict_codes(user_codes, item_codes)``
        float64 predictions, one for each pair; unknown ones get the documented fallback.
    ``_score_block(user_codes)``
        float64 scores, shape (users, n), of users who are known: what lists are ranked by. By default
        the predictions.
    ``_score_nobody()``
        The same for somebody nothing is known of; by default the predictions for code -1.
    ``_fold_in(item_codes, values)``
        What is learned of a newcomer: a dict of attributes for `NewUser`; and
        ``_newcomer_scores(newcomer)``.
    ``_explain(item_codes, values, item_code, newcomer)``
        A table of contributions.
    ``_similarities(item_code)``
        Likeness of every item to one, NaN where there is none.

    What it does not give stands in `_without`, verb by verb, with the reason.

    Everything public speaks the ids of the data set.
    """

    _parameters = {}
    _without = {}

    # ---- learning -------------------------------------------------------------------

    def fit(self, ratings, validation=None, **options):
        """Learn from ratings.

        Parameters
        ----------
        ratings : Ratings or table
            The training ratings; a table is read as `Ratings.from_frame` reads it.
        validation : Ratings or table, optional
            Held-out ratings for models that watch their progress. Never the test part.
        **options
            What the model takes besides; see its own text. Models that learn in passes take
            ``checkpoint="file.npz"``: the fit writes its state there from time to time, and
            the same call after an interruption goes on from it, to the same result.

        Returns
        -------
        self

        Warns
        -----
        WorseThanBiases
            Where the model has watched `validation` and predicts it worse than biases do.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the ratings are not as documented, before any work. A fit that
            fails, or is interrupted, leaves the model as it was.
        """
        check_each(self, self._parameters)
        ratings = self._check_ratings(ratings)
        if validation is not None:
            validation = self._check_ratings(validation, "validation")
        twin = type(self)(**self.get_params(deep=False))
        twin.train_ = ratings
        twin._fit(ratings, validation, **options)
        if validation is not None:
            from .automatic import warn_if_worse

            warn_if_worse(twin, ratings, validation)
        # One assignment: who predicts meanwhile sees the old model or the new one, never both.
        self.__dict__ = vars(twin)
        return self

    def _fit(self, ratings, validation):
        raise NotImplementedError

    # ---- predicting and ranking -----------------------------------------------------

    def predict(self, ratings):
        """Predict the rating of each row.

        Parameters
        ----------
        ratings : Ratings or table
            The pairs to predict: a `Ratings`, or a table with a column of users and one of
            items. Ids need not have been in training.

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

    def score_items(self, users=None):
        """What lists are ranked by: a score of every item. It need not be a rating.

        Parameters
        ----------
        users : id, or array-like of ids, optional
            From training. None: somebody of whom nothing is known.

        Returns
        -------
        ndarray of float64, shape (n,) or (len(users), n)
            Aligned with `train_.item_ids`. One row for each user where several are given.

        Raises
        ------
        ValueError
            If a user was not in training.
        """
        self._check_fitted()
        if users is None:
            return np.array(self._score_nobody(), dtype=np.float64)
        if _is_one(users):
            return self._block(np.array([self._known_user(users)], dtype=np.int32))[0]
        return self._block(self._known_users(users))

    def recommend(self, user=None, n=10, *, exclude_rated=True, exclude=None, among=None):
        """The n items with the highest scores, for one user or several.

        Parameters
        ----------
        user : id, or array-like of ids, optional
            From training. None: somebody of whom nothing is known.
        n : int
            How many; fewer come back when fewer are left.
        exclude_rated : bool
            Leave out what the user rated in training.
        exclude : array-like of item ids, optional
            Leave out these, too.
        among : array-like of item ids, optional
            Only these.

        Returns
        -------
        DataFrame
            The item's id, its title where the training data has titles, and score; best first.
            For several users the user's id comes first. Equal scores are in the order of the ids.

        Raises
        ------
        ValueError
            If a user was not in training, an excluded or allowed item is unknown, or n is not a
            positive integer.
        """
        self._check_fitted()
        check_positive_int("n", n)
        allowed = self._allowed(exclude, among)
        if user is None:
            return self._top_frame(np.where(allowed, self.score_items(), -np.inf), n)
        one = _is_one(user)
        codes = np.array([self._known_user(user)], dtype=np.int32) if one else self._known_users(user)
        frames = []
        step = max(1, BLOCK_CELLS // max(1, self.train_.n_items))
        for first in range(0, len(codes), step):
            block = codes[first : first + step]
            for code, scores in zip(block, self._block(block), strict=True):
                scores[~allowed] = -np.inf
                if exclude_rated:
                    scores[self._rated_codes(code)] = -np.inf
                frames.append(self._top_frame(scores, n))
        if one:
            return frames[0]
        who = np.repeat(self.train_.user_ids[codes], [len(frame) for frame in frames])
        table = pd.concat(frames, ignore_index=True) if frames else self._top_frame(np.zeros(0), n)
        table.insert(0, self.train_.user_name, who)
        return table

    def similar_items(self, item, n=10, *, min_ratings=1):
        """The items most like one.

        Parameters
        ----------
        item : id
            From training.
        n : int
            How many; fewer come back where fewer have anything in common with it.
        min_ratings : int
            Leave out items with fewer training ratings; what is known of them is mostly chance.

        Returns
        -------
        DataFrame
            The item's id, title where known, and score: the likeness; most alike first.

        Raises
        ------
        ValueError
            If the item was not in training.
        NotImplementedError
            If the model has no notion of likeness.
        """
        self._check_verb("similar_items")
        self._check_fitted()
        check_positive_int("n", n)
        check_positive_int("min_ratings", min_ratings, minimum=0)
        code = self._known_item(item)
        scores = np.array(self._similarities(code), dtype=np.float64)
        scores[self.train_.item_counts < min_ratings] = np.nan
        scores[code] = np.nan
        return self._top_frame(scores, n)

    # ---- newcomers and reasons ------------------------------------------------------

    def fold_in(self, ratings):
        """Recommend to a person who was not in training; the model stays as it is.

        Parameters
        ----------
        ratings : dict of id to float, or table
            Rating by item, or a table with a column of items and one of ratings. Items that
            were not in training say nothing and are listed in `NewUser.ignored`.

        Returns
        -------
        NewUser
            With predictions, recommendations and, where the model has them, explanations.

        Raises
        ------
        ValueError
            On an item rated twice, a rating outside the scale, or no known item at all.
        NotImplementedError
            If the model cannot take newcomers.
        """
        self._check_verb("fold_in")
        self._check_fitted()
        items, values = self.train_.read_newcomer(ratings)
        codes = self.train_.encode_items(items)
        known = codes >= 0
        if not known.any():
            raise ValueError("ratings: got no item that was in training; expected at least one")
        order = np.argsort(codes[known], kind="stable")
        codes, values = codes[known][order], np.asarray(values, dtype=np.float32)[known][order]
        return NewUser(self, codes, values, items[~known], **self._fold_in(codes, values))

    def explain(self, user, item):
        """How much each training rating of a user contributed to one prediction.

        Parameters
        ----------
        user, item : id
            From training.

        Returns
        -------
        DataFrame
            One row a rating, largest absolute contribution first: the item's id, title where
            known, rating, and contribution, with the model's own columns between them. The
            contributions and ``frame.attrs["baseline"]``, what is predicted without any of
            them, sum to the prediction.

        Raises
        ------
        ValueError
            If the user or the item was not in training.
        NotImplementedError
            If the model's predictions are not sums over ratings.
        """
        self._check_verb("explain")
        self._check_fitted()
        user, item = self._known_user(user), self._known_item(item)
        matrix = self.train_.by_user
        span = slice(matrix.indptr[user], matrix.indptr[user + 1])
        return self._explain(matrix.indices[span], matrix.data[span], item, user=user)

    @classmethod
    def verbs(cls):
        """Which verbs the model has: True, or the reason why not."""
        return {verb: cls._without.get(verb, True) for verb in VERBS}

    # ---- keeping --------------------------------------------------------------------

    def save(self, path):
        """Write the fitted model to one npz file, without pickle.

        It holds parameters, what was learned, ids, titles and the training ratings without their
        times. The file appears complete or not at all.

        Parameters
        ----------
        path : str or Path
            Ends in .npz.

        Raises
        ------
        ValueError
            If the name does not end in .npz.
        """
        from .storage import save_model

        self._check_fitted()
        save_model(self, path)

    @classmethod
    def load(cls, path):
        """Read a model that `save` wrote.

        Parameters
        ----------
        path : str or Path

        Returns
        -------
        Recommender
            Of this class.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged, of another kind or class, or of a later format.
        """
        from .storage import load_model

        return load_model(path, expected=cls)

    # ---- for subclasses ---------------------------------------------------------------

    def _predict_codes(self, users, items):
        raise NotImplementedError

    def _score_block(self, users):
        n = self.train_.n_items
        items = np.tile(np.arange(n, dtype=np.int32), len(users))
        return self._predict_codes(np.repeat(users, n), items).reshape(len(users), n)

    def _score_nobody(self):
        n = self.train_.n_items
        return self._predict_codes(np.full(n, -1, dtype=np.int32), np.arange(n, dtype=np.int32))

    def _fold_in(self, codes, values):
        raise NotImplementedError

    def _newcomer_scores(self, newcomer):
        raise NotImplementedError

    def _newcomer_predictions(self, newcomer):
        return self._newcomer_scores(newcomer)

    def _newcomer_fallback(self, newcomer):
        """The prediction for a newcomer and an item that the model does not know."""
        return self.mean_ + getattr(newcomer, "bias", 0.0)

    def _explain(self, codes, values, item, *, user=None, newcomer=None):
        raise NotImplementedError

    def _similarities(self, item):
        raise NotImplementedError

    def _prediction_of(self, item, user, newcomer):
        """What is predicted for an item and a user, or a newcomer where the user is None."""
        if user is None:
            return self._newcomer_predictions(newcomer)[item]
        return self._predict_codes(np.array([user], np.int32), np.array([item], np.int32))[0]

    def _block(self, users):
        """Scores of rows of users, of whom some may be unknown."""
        known = users >= 0
        if known.all():
            return np.array(self._score_block(users), dtype=np.float64)
        out = np.tile(np.asarray(self._score_nobody(), dtype=np.float64), (len(users), 1))
        if known.any():
            out[known] = self._score_block(users[known])
        return out

    def _check_ratings(self, ratings, name="ratings"):
        if not isinstance(ratings, Ratings):
            if not hasattr(ratings, "columns"):
                raise TypeError(
                    f"{name}: got {type(ratings).__name__}; expected a Ratings or a table "
                    "(see Ratings.from_frame, load_movielens)"
                )
            ratings = Ratings.from_frame(ratings, name=name)
        if len(ratings) == 0:
            raise ValueError(f"{name}: got no ratings; expected at least one")
        return ratings

    def _check_fitted(self):
        if not hasattr(self, "train_"):
            raise NotFittedError(f"This {type(self).__name__} is not fitted yet; call fit(ratings) first")

    def _check_verb(self, verb):
        if verb in self._without:
            raise NotImplementedError(f"{type(self).__name__} has no {verb}: {self._without[verb]}")

    def _pair_codes(self, ratings):
        if isinstance(ratings, Ratings):
            if ratings.user_ids is self.train_.user_ids and ratings.item_ids is self.train_.item_ids:
                return ratings.user_codes, ratings.item_codes
            users = self.train_.encode_users(ratings.user_ids)[ratings.user_codes]
            items = self.train_.encode_items(ratings.item_ids)[ratings.item_codes]
            return users, items
        return self.train_.encode_pairs(ratings)

    def _known_user(self, user):
        return _known(user, self.train_.encode_users, "user")

    def _known_item(self, item):
        return _known(item, self.train_.encode_items, "item")

    def _known_users(self, users):
        codes = self.train_.encode_users(users)
        if (codes < 0).any():
            unknown = np.asarray(users, dtype=object)[codes < 0]
            raise ValueError(
                f"users: got {len(unknown)} that are not in the training data, the first of them "
                f"{unknown[0]!r}; expected ids from training"
            )
        return codes

    def _allowed(self, exclude, among):
        """Which items may be listed, as a mask."""
        allowed = np.ones(self.train_.n_items, dtype=bool)
        if among is not None:
            allowed[:] = False
            allowed[self._known_items("among", among)] = True
        if exclude is not None:
            allowed[self._known_items("exclude", exclude)] = False
        return allowed

    def _known_items(self, name, items):
        """Codes of items that the model knows; the others cannot be listed anyway."""
        if isinstance(items, str) or not hasattr(items, "__iter__"):
            raise TypeError(f"{name}: got {items!r}; expected a list of item ids")
        items = list(items) if not hasattr(items, "dtype") else items
        codes = self.train_.encode_items(items) if len(items) else np.zeros(0, np.int32)
        return codes[codes >= 0]

    def _rated_codes(self, user):
        matrix = self.train_.by_user
        return matrix.indices[matrix.indptr[user] : matrix.indptr[user + 1]]

    def _item_frame(self, codes, **columns):
        """A table about items: id, title where the training data has titles, and the columns."""
        train = self.train_
        ids = train.item_ids[codes]
        titles = {} if train.movies is None else {"title": train.titles(ids)}
        return pd.DataFrame({train.item_name: ids} | titles | columns)

    def _top_frame(self, scores, n):
        """The n best finite scores as a table; ties in the order of the ids."""
        codes = top_codes(scores, n)
        return self._item_frame(codes, score=scores[codes])

    def _reasons(self, codes, values, contribution, baseline, **columns):
        """The table of `explain`: one row a rating, the largest contribution first."""
        # Sorted as arrays: a service explains every film of a list, and tables take their time.
        order = np.argsort(-np.abs(contribution), kind="stable")
        columns = {name: column[order] for name, column in columns.items()}
        frame = self._item_frame(
            codes[order], rating=values[order], **columns, contribution=contribution[order]
        )
        frame.attrs["baseline"] = float(baseline)
        return frame


def sorted_reasons(frame, baseline):
    """A table of reasons, the largest contribution first, with what is predicted without any of them."""
    frame = frame.iloc[np.argsort(-frame["contribution"].abs(), kind="stable")].reset_index(drop=True)
    frame.attrs["baseline"] = float(baseline)
    return frame


def _is_one(ids):
    """Whether this is one id and not several."""
    return isinstance(ids, str) or not hasattr(ids, "__len__")


def _known(value, encode, name):
    if not _is_one(value):
        raise TypeError(f"{name}: got {type(value).__name__}; expected one id")
    code = int(encode(value)[0])
    if code < 0:
        raise ValueError(
            f"{name}: got {value!r}, which is not in the training data; expected an id from "
            "training"
        )
    return code


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
