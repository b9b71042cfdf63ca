"""What models with a vector for each user and each film have in common."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..checks import check_positive_int
from ..kernels.als import score_pairs
from .base import Recommender


class FactorModel(Recommender):
    r"""Base of models that predict :math:`\mu + b_u + b_i + p_u \cdot q_i`.

    A subclass sets ``mean_``, ``user_factors_``, ``item_factors_``, ``user_bias_`` and
    ``item_bias_`` in `fit`. An unknown user or film, with a code of -1, has no bias and no
    factors: the prediction falls back to what is known of the other.

    For newcomers it implements ``_penalties(n)``: the penalties, with n ratings, of the
    k factors and the bias, so that a new row is a ridge regression. A model whose rows
    come about in another way overrides ``_solve_row`` and ``_explain``.
    """

    def _predict_codes(self, users, items):
        out = np.empty(len(users))
        score_pairs(
            _read_only(users), _read_only(items), self.mean_, self.user_factors_, self.user_bias_,
            self.item_factors_, self.item_bias_, out,
        )  # fmt: skip
        return out

    def _products_or_biases(self, users, items, known):
        """Bare products p_u . q_i for the pairs that are known, mean + b_u + b_i for the others."""
        out = self.mean_ + np.where(users >= 0, self.user_bias_[users], 0.0)
        out += np.where(items >= 0, self.item_bias_[items], 0.0)
        products = np.empty(int(known.sum()))
        score_pairs(
            _read_only(users[known]), _read_only(items[known]), 0.0,
            self.user_factors_, np.zeros_like(self.user_bias_),
            self.item_factors_, np.zeros_like(self.item_bias_), products,
        )  # fmt: skip
        out[known] = products
        return out

    def _score_codes(self, user):
        return self._scores(self.user_factors_[user], self.user_bias_[user])

    def _scores(self, factors, bias):
        return self.mean_ + float(bias) + self.item_bias_ + (self.item_factors_ @ factors).astype(np.float64)

    def similar_items(self, movie, n=10, *, min_ratings=1):
        """Films whose factors point in the most similar direction (cosine).

        Parameters
        ----------
        movie : int
            A movieId from training.
        n : int
            How many.
        min_ratings : int
            Leave out films with fewer training ratings; their factors are mostly prior.

        Returns
        -------
        DataFrame
            movieId, title where known, and score, the cosine; best first.
        """
        self._check_fitted()
        check_positive_int("n", n)
        check_positive_int("min_ratings", min_ratings, minimum=0)
        if self.item_factors_.shape[1] == 0:
            raise ValueError("n_factors: got 0; expected at least 1, as biases alone have no direction")
        code = self._known_item(movie)
        length = np.sqrt(_squares(self.item_factors_))
        if length[code] == 0:
            raise ValueError(f"movieId: got {movie}, a film without training ratings or genres to compare by")
        length[(length == 0) | (self.train_.item_counts < min_ratings)] = np.nan
        length[code] = np.nan
        own = self.item_factors_[code].astype(np.float64)
        return self._top_frame(self.item_factors_ @ own / (length * np.linalg.norm(own)), n)

    # ---- newcomers ----------------------------------------------------------------

    def fold_in(self, ratings):
        """Find the factors of a person who was not in training, films held.

        Parameters
        ----------
        ratings : dict of int to float, or DataFrame
            Rating by movieId, or a table with the columns movieId and rating. Films
            that were not in training say nothing and are listed in `NewUser.ignored`.

        Returns
        -------
        NewUser
            With recommendations, predictions and explanations.

        Raises
        ------
        ValueError
            On a film rated twice, a rating outside the scale, or no known film at all.

        Notes
        -----
        In closed form, O(l k^2 + k^3) for l ratings.
        """
        codes, values, ignored = self._newcomer(ratings)
        values = values.astype(np.float32)
        factors, bias = self._solve_row(codes, values)
        return NewUser(self, codes, values, factors, bias, ignored)

    def _penalties(self, n):
        raise NotImplementedError

    def _prior_row(self, codes):
        """What a row's factors are before its ratings have a say."""
        return np.zeros(self.item_factors_.shape[1])

    def _row_system(self, codes, values):
        """Design matrix, target and normal matrix of one row's ridge regression, in float64."""
        q = self.item_factors_[codes].astype(np.float64)
        x = np.column_stack([q, np.ones(len(codes))])
        target = values.astype(np.float64) - self.mean_ - self.item_bias_[codes] - q @ self._prior_row(codes)
        return x, target, x.T @ x + np.diag(self._penalties(len(codes)))

    def _solve_row(self, codes, values):
        """Factors and bias of a new row of ratings."""
        x, target, system = self._row_system(codes, values)
        try:
            solution = np.linalg.solve(system, x.T @ target)
        except np.linalg.LinAlgError:
            raise ValueError(
                f"ratings: got {len(codes)}, too few to tell factors apart without regularization; "
                "fit the model with reg and bias_reg above 0"
            ) from None
        return self._prior_row(codes) + solution[:-1], float(solution[-1])

    def _explain(self, codes, values, item):
        x, target, system = self._row_system(codes, values)
        own = self.item_factors_[item].astype(np.float64)
        weight = x @ np.linalg.solve(system, np.append(own, 1.0))
        baseline = self.mean_ + float(self.item_bias_[item]) + float(own @ self._prior_row(codes))
        return self._contributions(codes, values, target, weight, baseline)

    def _contributions(self, codes, values, target, weight, baseline):
        frame = pd.DataFrame(
            {
                "movieId": self.train_.item_ids[codes],
                "rating": values,
                "deviation": target,
                "weight": weight,
                "contribution": weight * target,
            }
        )
        if self.train_.movies is not None:
            frame.insert(1, "title", self.train_.titles(frame["movieId"]))
        frame = frame.iloc[np.argsort(-frame["contribution"].abs(), kind="stable")].reset_index(drop=True)
        frame.attrs["baseline"] = baseline
        return frame


class NewUser:
    """A person folded into a fitted model; see `FactorModel.fold_in`.

    Attributes
    ----------
    factors : ndarray, shape (k,)
    bias : float
    ignored : ndarray of int
        Rated films that the model does not know.
    """

    def __init__(self, model, codes, values, factors, bias, ignored):
        self._model, self._codes, self._values = model, codes, values
        self.factors, self.bias, self.ignored = factors, bias, ignored

    def __repr__(self):
        return f"<NewUser: {len(self._codes)} ratings, bias {self.bias:+.2f}>"

    def predict(self, movies):
        """Predictions, float64, for the given movieIds; an unknown film gets mean + bias."""
        model = self._model
        codes = model.train_.encode_items(movies)
        scores = model._scores(self.factors, self.bias)
        return np.where(codes >= 0, scores[codes], model.mean_ + self.bias)

    def recommend(self, n=10, *, exclude_rated=True):
        """The n films with the highest predictions, as `Recommender.recommend`."""
        check_positive_int("n", n)
        scores = self._model._scores(self.factors, self.bias)
        if exclude_rated:
            scores[self._codes] = -np.inf
        return self._model._top_frame(scores, n)

    def explain(self, movie):
        """How much each of this person's ratings contributed to one prediction.

        The person's factors and bias x are linear in the ratings:
        ``x = A^-1 sum_j x_j t_j`` with x_j = (q_j, 1) and t_j the rating's deviation
        from mean + b_j. So the prediction for film i is mean + b_i plus one term
        ``(x_i' A^-1 x_j) t_j`` for each rating (Hu, Koren and Volinsky 2008, section 5,
        there for implicit feedback).

        Parameters
        ----------
        movie : int
            A movieId from training.

        Returns
        -------
        DataFrame
            One row a rating, largest absolute contribution first: movieId, title where
            known, rating, deviation t_j, weight and contribution, in stars. The
            contributions and ``frame.attrs["baseline"]``, what is predicted without any
            deviation, sum to the prediction.
        """
        return self._model._explain(self._codes, self._values, self._model._known_item(movie))


def _read_only(array):
    view = array.view()
    view.flags.writeable = False
    return view


def _squares(rows):
    """Squared length of each row, in float64."""
    return np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
