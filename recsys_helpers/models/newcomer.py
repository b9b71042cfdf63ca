"""A person who was not in training, folded into a fitted model."""

from __future__ import annotations

import numpy as np

from ..checks import check_positive_int


class NewUser:
    """A person folded into a fitted model; see `Recommender.fold_in`.

    The model itself does not change: fifty newcomers can share one.

    Attributes
    ----------
    ignored : ndarray
        Rated items that the model does not know; they say nothing.
    item_ids : ndarray
        The rated items that it knows, in the order of its own ids.
    ratings : ndarray of float
        Their ratings.
    bias : float
        How far the person's ratings lie above what is expected of the items, where the model has biases.
    factors : ndarray, shape (k,)
        Where the model has factors.
    """

    def __init__(self, model, codes, values, ignored, **facts):
        self._model, self._codes, self._values = model, codes, values
        self.ignored, self.ratings = ignored, values
        self.item_ids = model.train_.item_ids[codes]
        vars(self).update(facts)

    def __repr__(self):
        bias = f", bias {self.bias:+.2f}" if hasattr(self, "bias") else ""
        return f"<{type(self).__name__}: {len(self._codes)} ratings{bias}>"

    def predict(self, items):
        """Predict this person's ratings.

        Parameters
        ----------
        items : id or array-like of ids
            An unknown item gets the model's fallback for it.

        Returns
        -------
        ndarray of float64, shape (number of items,)
        """
        codes = self._model.train_.encode_items(items)
        found = self._model._newcomer_predictions(self)
        return np.where(codes >= 0, found[codes], self._model._newcomer_fallback(self))

    def score_items(self):
        """What this person's lists are ranked by.

        Returns
        -------
        ndarray of float64, shape (n,)
            Aligned with the training data's `item_ids`.
        """
        return np.array(self._model._newcomer_scores(self), dtype=np.float64)

    def recommend(self, n=10, *, exclude_rated=True, exclude=None, among=None):
        """The n items with the highest scores, as `Recommender.recommend`."""
        check_positive_int("n", n)
        model = self._model
        scores = self.score_items()
        if exclude_rated:
            scores[self._codes] = -np.inf
        scores[~model._allowed(exclude, among)] = -np.inf
        return model._top_frame(scores, n)

    def explain(self, item):
        """How much each of this person's ratings contributed to one prediction.

        Parameters
        ----------
        item : id
            An item from training.

        Returns
        -------
        DataFrame
            As `Recommender.explain`.
        """
        return self._model._explain(self._codes, self._values, self._model._known_item(item), newcomer=self)
