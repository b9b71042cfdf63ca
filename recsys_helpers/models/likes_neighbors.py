r"""Neighbors for tables of likes: items that the same people like, and people who like the same items."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, diags_array

from ..checks import choice, number, optional, whole
from .base import BLOCK_CELLS
from .documented import documented
from .item_weights import ItemWeights, _square, largest
from .liked import LikesModel
from .positive import WEIGHTS, check_threshold, weigh


class _Neighbors(LikesModel):
    """What both kinds of neighbors take, and the weights of words in documents."""

    _parameters = {
        "n_neighbors": whole(),
        "similarity": choice("cosine", "jaccard", "tfidf", "bm25"),
        "k1": number(above=0),
        "b": number(at_most=1),
        "threshold": check_threshold,
        "weights": choice(*WEIGHTS),
        "n_threads": optional(whole()),
    }

    def __init__(
        self,
        n_neighbors=100,
        similarity="cosine",
        *,
        k1=100.0,
        b=0.8,
        threshold="auto",
        weights="binary",
        n_threads=None,
    ):
        self.n_neighbors = n_neighbors
        self.similarity = similarity
        self.k1 = k1
        self.b = b
        self.threshold = threshold
        self.weights = weights
        self.n_threads = n_threads

    def _weighed(self, values, term_counts, n_documents, lengths):
        """Likes as words, each in `term_counts` of the documents; `lengths` are over their mean."""
        if self.similarity in ("cosine", "jaccard"):
            return values
        data = values * np.maximum(np.log(n_documents) - np.log1p(term_counts), 0.0)
        if self.similarity == "bm25":
            data *= (self.k1 + 1) / (values + self.k1 * (1 - self.b + self.b * lengths))
        return data.astype(np.float32)


@documented
class LikesKNN(_Neighbors, ItemWeights):
    r"""Score an item by its likeness to the items that a person likes: neighbors for tables of likes.

    The likeness of two items is that of their columns of likes X, over the users:

    "cosine"
        :math:`x_i\cdot x_j / (|x_i||x_j|)`.
    "jaccard"
        Users who like both, over users who like one of them at least.
    "tfidf"
        The cosine after each user's likes are multiplied by :math:`\log n - \log(1+n_u)`: who likes
        nearly everything says little (Salton and Buckley 1988, for words in documents).
    "bm25"
        The product after :math:`x_{ui}` became
        :math:`(\log n - \log(1+n_u))\,x_{ui}(K+1) / (x_{ui} + K(1-B+B\,n_i/\bar n))`, which saturates with
        counts and holds back popular items (Robertson and Zaragoza 2009).

    Of each item's likenesses the `n_neighbors` largest are kept. A score is their sum over the person's
    likes: with it a newcomer and a user of the training part are treated alike.

    Parameters
    ----------
    n_neighbors : int
        For each item.
    similarity : {"cosine", "jaccard", "tfidf", "bm25"}
    k1, b : float
        K and B of "bm25"; b at most 1.
    threshold, weights
        As in `EASE`. "jaccard" looks at ones alone.
    {n_threads}

    Attributes
    ----------
    item_weights_ : csr_array, shape (n, n)
        Entry (j, i) is the likeness of j to i, where j is among the nearest of i.
    threshold_, popularity_, likes_
        As in `EASE`.

    Notes
    -----
    :math:`\frac12\sum_u n_u^2` operations, and 4 n^2 bytes while it fits.
    """

    def _fit(self, ratings, validation):
        matrix = self._likes(ratings)
        near = self._likenesses(matrix)
        near[np.diag_indices_from(near)] = 0
        self.item_weights_ = largest(near, self.n_neighbors)

    def _likenesses(self, matrix):
        counts = np.bincount(matrix.indices, minlength=matrix.shape[1])
        if self.similarity == "jaccard":
            ones = csr_array((np.ones(matrix.nnz, np.float32), matrix.indices, matrix.indptr), matrix.shape)
            both = _square(ones, self.n_threads)
            either_one = counts[:, None] + counts[None, :] - both
            return np.divide(both, either_one, out=np.zeros_like(both), where=either_one > 0)
        own = np.diff(matrix.indptr)
        lengths = counts[matrix.indices] / max(counts.mean(), 1e-12)
        data = self._weighed(matrix.data, np.repeat(own, own), matrix.shape[1], lengths)
        near = _square(csr_array((data, matrix.indices, matrix.indptr), matrix.shape), self.n_threads)
        if self.similarity != "bm25":
            length = np.sqrt(near.diagonal())
            scale = np.divide(1, length, out=np.zeros_like(length), where=length > 0)
            near *= scale[:, None]
            near *= scale
        return near


class LikesUserKNN(_Neighbors):
    r"""Score an item by how much the people most like a person like it: neighbors among users.

    Two people are alike as their rows of likes are, over the items, by the measures of `LikesKNN` with users
    and items in each other's place: in "tfidf" and "bm25" a popular item says little of who likes it. The
    score of an item is the sum, over the `n_neighbors` people most alike, of likeness times like. A newcomer
    is compared in the same way.

    Parameters
    ----------
    n_neighbors : int
        For each user.
    similarity, k1, b, threshold, weights, n_threads
        As in `LikesKNN`.

    Attributes
    ----------
    profiles_ : csr_array, shape (m, n)
        The users' rows as they are compared.
    matrix_ : csr_array, shape (m, n)
        The likes, weighed.
    item_likes_ : ndarray of int, shape (n,)
        Users who like each item.
    threshold_, popularity_, likes_
        As in `EASE`.

    Notes
    -----
    A fit weighs the likes. The list of a user then costs the likes of all items in the user's row, and a
    search for the largest among m likenesses. Memory: two copies of the likes at 8 bytes each, and a block of
    some million likenesses.
    """

    _without = {"similar_items": "it compares people; LikesKNN compares items"}

    def _fit(self, ratings, validation):
        matrix = self._likes(ratings)
        self.item_likes_ = np.bincount(matrix.indices, minlength=matrix.shape[1])
        self.profiles_ = self._profiles(matrix)
        self.matrix_ = matrix

    def _profiles(self, matrix):
        """Rows as they are compared: of one length, where that is the measure."""
        own = np.diff(matrix.indptr)
        if self.similarity == "jaccard":
            return csr_array((np.ones(matrix.nnz, np.float32), matrix.indices, matrix.indptr), matrix.shape)
        lengths = np.repeat(own, own) / max(self.likes_.mean(), 1e-12)
        terms = self.item_likes_[matrix.indices]
        data = self._weighed(matrix.data, terms, len(self.likes_), lengths)
        out = csr_array((data, matrix.indices, matrix.indptr), matrix.shape)
        if self.similarity == "bm25":
            return out
        length = np.sqrt(out.power(2).sum(axis=1))
        scale = np.divide(1, length, out=np.zeros(len(own), np.float32), where=length > 0)
        return (diags_array(scale) @ out).tocsr().astype(np.float32)

    def _nearest(self, profiles, users=None):
        """Likenesses of the nearest people, shape (rows, m); training users are not asked for themselves."""
        near = (profiles @ self.profiles_.T).toarray()
        if self.similarity == "jaccard":
            near = near / np.maximum(self._union(profiles, near), 1)
        if users is not None:
            near[np.arange(len(users)), users] = 0
        k = min(self.n_neighbors, near.shape[1])
        places = np.sort(np.argpartition(-near, k - 1, axis=1)[:, :k], axis=1)
        values = np.take_along_axis(near, places, axis=1)
        out = csr_array((values.ravel(), places.ravel(), np.arange(0, values.size + 1, k)), shape=near.shape)
        out.eliminate_zeros()
        return out

    def _union(self, profiles, both):
        return np.diff(profiles.indptr)[:, None] + self.likes_[None, :] - both

    def _score_block(self, users):
        scores = np.tile(self.popularity_, (len(users), 1))
        told = np.flatnonzero(self._known(users))
        step = max(1, BLOCK_CELLS // max(self.matrix_.shape))
        for first in range(0, len(told), step):
            rows = told[first : first + step]
            near = self._nearest(self.profiles_[users[rows]], users[rows])
            scores[rows] = (near @ self.matrix_).toarray()
        return scores

    def _predict_codes(self, users, items):
        out = np.where(items >= 0, self.popularity_[items], 0.0)
        told = np.flatnonzero(self._known(users) & (items >= 0))
        some, rows = np.unique(users[told], return_inverse=True)
        step = max(1, BLOCK_CELLS // max(self.matrix_.shape))
        for first in range(0, len(some), step):
            here = (rows >= first) & (rows < first + step)
            scores = self._score_block(some[first : first + step])
            out[told[here]] = scores[rows[here] - first, items[told[here]]]
        return out

    def _fold_in(self, codes, values):
        return {"liked": values >= self.threshold_}

    def _row(self, codes, values):
        """The profile of somebody with these likes."""
        weights = weigh(values, self.weights)
        shape = (1, self.matrix_.shape[1])
        return self._profiles(csr_array((weights, codes, np.array([0, len(codes)])), shape=shape))

    def _newcomer_predictions(self, newcomer):
        liked = newcomer.liked
        if not liked.any():
            return self._score_nobody()
        near = self._nearest(self._row(newcomer._codes[liked], newcomer.ratings[liked]))
        return (near @ self.matrix_).toarray().ravel().astype(np.float64)

    def _newcomer_scores(self, newcomer):
        return self._newcomer_predictions(newcomer)

    def _explain(self, codes, values, item, *, user=None, newcomer=None):
        """Each like's share in the likenesses of the neighbors who like the item."""
        liked = values >= self.threshold_
        parts = np.zeros(len(codes))
        if liked.any():
            row = self._row(codes[liked], values[liked])
            near = self._nearest(row, None if user is None else np.array([user]))
            people = near.indices
            speak = self.matrix_[people][:, [item]].toarray().ravel().astype(np.float64)
            if self.similarity == "jaccard":
                both = (row @ self.profiles_[people].T).toarray()
                speak /= np.diff(row.indptr)[0] + self.likes_[people] - both[0]
            shares = self.profiles_[people].T @ speak
            own = np.zeros(len(shares))
            own[row.indices] = row.data
            parts[liked] = (own * shares)[codes[liked]]
        score = self._prediction_of(item, user, newcomer)
        return self._reasons(codes, values, parts, score - parts.sum(), liked=liked)
