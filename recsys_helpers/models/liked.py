"""What models of likes have in common: which pairs count, and what is said of people without any."""

from __future__ import annotations

import numpy as np

from .base import Recommender
from .factors import directions
from .positive import positives, settled_threshold


class LikesModel(Recommender):
    """Base of models of likes: which pairs count, and what is said of users without any.

    A subclass sets ``threshold_`` and ``popularity_`` by `_likes`. A score says how much an item speaks for
    itself to this person, on a scale of the model's own; it is no rating. A user without a liked item, in
    training or not, is somebody of whom nothing is known: the scores are the items' popularity.
    An unknown item scores 0.
    """

    def _likes(self, ratings):
        """The liked pairs, weighed, as a matrix of users and items; sets what is known of everybody."""
        self.threshold_ = settled_threshold(ratings, self.threshold)
        matrix = positives(ratings, self.threshold_, getattr(self, "weights", "binary"))
        self.popularity_ = np.bincount(matrix.indices, minlength=matrix.shape[1]) / matrix.shape[0]
        self.likes_ = np.diff(matrix.indptr).astype(np.int32)
        return matrix

    def _known(self, users):
        return (users >= 0) & (self.likes_[users] > 0)

    def _score_nobody(self):
        return self.popularity_.copy()

    def _newcomer_fallback(self, newcomer):
        return 0.0


class LikedFactors(LikesModel):
    r"""Base of models that score by factors, :math:`p_u \cdot q_i`, and maybe a bias of the item.

    A subclass sets ``user_factors_`` and ``item_factors_``, and overrides ``_products``, where there is more.
    """

    def _predict_codes(self, users, items):
        out = np.where(items >= 0, self.popularity_[items], 0.0)
        told = self._known(users) & (items >= 0)
        left, right = self.user_factors_[users[told]], self.item_factors_[items[told]]
        out[told] = np.einsum("ij,ij->i", left, right, dtype=np.float64) + self._item_part(items[told])
        return out

    def _score_block(self, users):
        scores = self._products(self.user_factors_[users])
        scores[~self._known(users)] = self.popularity_
        return scores

    def _products(self, factors):
        """Scores of all items for rows of factors, float64."""
        rows = factors.astype(self.item_factors_.dtype, copy=False)
        return (rows @ self.item_factors_.T).astype(np.float64) + self._item_part(slice(None))

    def _item_part(self, items):
        return 0.0

    def _similarities(self, item):
        return directions(self.item_factors_, item, self.train_)

    def _fold_in(self, codes, values):
        liked = values >= self.threshold_
        factors = np.zeros(self.item_factors_.shape[1], self.item_factors_.dtype)
        if liked.any():
            factors = self._person(codes[liked], values[liked])
        return {"factors": factors, "liked": liked}

    def _newcomer_scores(self, newcomer):
        return self._products(newcomer.factors[None])[0] if newcomer.liked.any() else self._score_nobody()
