"""Neighborhood models: predict from the most similar users, or from the most similar items."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from sklearn.base import clone
from tqdm import tqdm

from ..checks import check_positive_int, choice, flag, number, whole
from ..kernels import neighbors as kernels
from ..kernels import spans
from .base import Recommender, sorted_reasons
from .baselines import BiasModel

SIMILARITIES = ("cosine", "centered_cosine", "adjusted_cosine", "pearson", "pearson_baseline")
CENTERS = ("none", "mean", "zscore", "baseline")

_LONG_WORK = 1_000_000_000  # steps; beyond it a progress bar is shown
_PIECE = 20_000_000  # steps of one piece of work for a thread
_NO_DEVIATION = 1e-6  # stars; the rounding of float32 ratings and of means of them


def _bias_model(name, value):
    """A check for a BiasModel or None."""
    if value is not None and not isinstance(value, BiasModel):
        raise TypeError(f"{name}: got {value!r}; expected a BiasModel or None")


class _Neighborhood(Recommender):
    """What UserKNN and ItemKNN share; a subclass says which side of the table is the rows."""

    _parameters = {
        "n_neighbors": whole(),
        "similarity": choice(*SIMILARITIES),
        "center": choice(*CENTERS),
        "shrink": number(),
        "min_support": whole(),
        "min_similarity": number(below=1),
        "min_neighbors": whole(),
        "graph_size": whole(),
        "baseline": _bias_model,
        "verbose": flag,
    }

    def __init__(
        self,
        n_neighbors=40,
        *,
        similarity="cosine",
        center="baseline",
        shrink=0.0,
        min_support=1,
        min_similarity=0.0,
        min_neighbors=1,
        graph_size=2000,
        baseline=None,
        verbose=True,
    ):
        self.n_neighbors = n_neighbors
        self.similarity = similarity
        self.center = center
        self.shrink = shrink
        self.min_support = min_support
        self.min_similarity = min_similarity
        self.min_neighbors = min_neighbors
        self.graph_size = graph_size
        self.baseline = baseline
        self.verbose = verbose

    # ---- fit ------------------------------------------------------------------

    def _fit(self, ratings, validation):
        self._check_together()
        started = time.perf_counter()
        baseline = BiasModel() if self.baseline is None else clone(self.baseline)
        self.baseline_ = baseline.fit(ratings)
        fitted_baseline = time.perf_counter()
        rows, columns = self._sides(ratings)
        self.neighbors_, self.similarities_ = self._build_graph(rows, columns)
        built = time.perf_counter()
        offset, column_offset, self._scale = self._center(self.center, rows, columns)
        self._offset = offset
        if self.center == "none":
            self._deviations = columns.data
        else:
            self._deviations = _deviations(columns, column_offset, offset, self._scale)
        self.history_ = {
            "baseline_seconds": fitted_baseline - started,
            "graph_seconds": built - fitted_baseline,
        }

    def _check_together(self):
        if self.min_neighbors > self.n_neighbors:
            raise ValueError(
                f"min_neighbors: got {self.min_neighbors}; expected at most n_neighbors={self.n_neighbors}"
            )
        if self.n_neighbors > self.graph_size:
            raise ValueError(
                f"n_neighbors: got {self.n_neighbors}; expected at most graph_size={self.graph_size}, "
                "the neighbors that are kept"
            )

    def _build_graph(self, rows, columns):
        row_values, column_values = rows.data, columns.data
        if self.similarity not in ("cosine", "pearson"):
            how = {"centered_cosine": "mean", "adjusted_cosine": "other", "pearson_baseline": "baseline"}
            offset, column_offset, _ = self._center(how[self.similarity], rows, columns)
            row_values = _deviations(rows, offset, column_offset)
            column_values = _deviations(columns, column_offset, offset)
        if self.similarity == "pearson":
            kind, zero = kernels.CO_PEARSON, np.float64(0)
        elif self.similarity == "pearson_baseline":
            kind, zero = kernels.CO_COSINE, np.float32(0)
        else:
            plain = self.shrink == 0 and self.min_support == 1
            kind, zero = (kernels.DOT if plain else kernels.DOT_COUNT), np.float32(0)
        n = rows.shape[0]
        order = np.argsort(-np.diff(rows.indptr), kind="stable").astype(np.int32)
        label = np.empty(n, np.int32)
        label[order] = np.arange(n, dtype=np.int32)
        labels = np.empty(len(columns.indices), np.int32)
        kernels.relabel(columns.indices, label, labels)
        norms = kernels.inverse_norms(rows.indptr, row_values, order)
        size = max(1, min(self.graph_size, n - 1))
        codes, values = np.empty((n, size), np.int32), np.empty((n, size), np.float32)
        _, steps = kernels.count_steps(order, rows.indptr, rows.indices, columns.indptr)
        bar = tqdm(
            total=int(steps.sum()), desc=type(self).__name__, unit="step", unit_scale=True,
            disable=not self.verbose or steps.sum() * kind < _LONG_WORK, leave=False,
        )  # fmt: skip

        def work(first, last):
            kernels.graph(
                first, last, kind, order,
                rows.indptr, rows.indices, row_values, columns.indptr, labels, column_values,
                norms, float(self.shrink), int(self.min_support), np.float32(self.min_similarity), zero,
                codes, values,
            )  # fmt: skip

        with bar:
            bounds = spans.cut(steps * float(kind), _PIECE)
            spans.run(work, bounds, done=lambda first, last: bar.update(int(steps[first:last].sum())))
        return codes, values

    def _center(self, how, rows, columns):
        """Offsets of the rows and of the columns, and scales of the rows."""
        none, no_column, one = np.zeros(rows.shape[0]), np.zeros(rows.shape[1]), np.ones(rows.shape[0])
        if how == "none":
            return none, no_column, one
        if how == "other":
            return none, _means(columns), one
        if how == "baseline":
            row_bias, column_bias = self._sides_of_baseline()
            return self.baseline_.mean_ + row_bias, column_bias, one
        mean = _means(rows)
        if how == "zscore":
            # A row whose ratings are all equal has no spread; it gets the overall one.
            variance = _means(rows, rows.data.astype(np.float64) ** 2) - mean**2
            overall = float(np.std(rows.data, dtype=np.float64)) or 1.0
            one = np.where(variance > 1e-9, np.sqrt(np.maximum(variance, 0.0)), overall)
        return mean, no_column, one

    # ---- predict --------------------------------------------------------------

    def _predict_codes(self, users, items):
        users, items = np.asarray(users), np.asarray(items)
        out = self.baseline_._predict_codes(users, items)
        known = np.flatnonzero((users >= 0) & (items >= 0))
        row_codes, column_codes = self._oriented(users[known], items[known])
        mean, used = self._deviation(row_codes, column_codes)
        enough = used >= self.min_neighbors
        start = out[known] if self.center == "baseline" else self._offset[row_codes]
        out[known] = np.where(enough, start + self._scale[row_codes] * mean, out[known])
        return out

    def _deviation_matrix(self):
        """What neighbors are averaged in, a row for each column of the graph's table."""
        _, columns = self._sides(self.train_)
        return csr_array(
            (self._deviations.astype(np.float64), columns.indices, columns.indptr), columns.shape
        )

    def _deviation(self, row_codes, column_codes):
        """Weighted mean deviation of each pair, and how many neighbors it rests on."""
        _, columns = self._sides(self.train_)
        pairs = np.argsort(column_codes, kind="stable")
        ordered = column_codes[pairs]
        first_of = np.flatnonzero(np.diff(ordered, prepend=-1))
        starts = np.append(first_of, len(ordered))
        mean, used = np.empty(len(pairs)), np.empty(len(pairs), np.int32)

        def work(first, stop):
            kernels.predict(
                first, stop, ordered[first_of], starts, pairs, row_codes,
                columns.indptr, columns.indices, self._deviations,
                self.neighbors_, self.similarities_, int(self.n_neighbors), mean, used,
            )  # fmt: skip

        spans.run(work, spans.cut(np.diff(starts) * float(self.neighbors_.shape[1]), _PIECE))
        return mean, used

    def _score_block(self, users):
        """All items for some users, by products of sparse matrices: only neighbors that are there count.

        Where a pair has more neighbors than count, it is predicted by itself.
        """
        users = np.asarray(users, dtype=np.int64)
        out = np.tile(self.baseline_._score_nobody(), (len(users), 1))
        place = np.flatnonzero(users >= 0)
        known = users[place]
        out[place] = self.baseline_._score_block(known)
        weights, graph = self._deviation_matrix(), self.similarity_matrix().astype(np.float64)
        there, linked = _ones(weights), _ones(graph)
        top, bottom, used = (
            self._over_neighbors(known, one, other).toarray()
            for one, other in ((graph, weights), (graph, there), (linked, there))
        )
        mean = np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
        rows, items = np.nonzero(used > self.n_neighbors)
        if len(rows):
            pairs = self._oriented(known[rows].astype(np.int32), items.astype(np.int32))
            mean[rows, items], _ = self._deviation(*pairs)
        offset, scale = self._by_row(self._offset, known), self._by_row(self._scale, known)
        start = out[place] if self.center == "baseline" else offset
        out[place] = np.where(used >= self.min_neighbors, start + scale * mean, out[place])
        return out

    # ---- look inside ------------------------------------------------------------

    def similarity_matrix(self):
        """The graph as a sparse matrix.

        Returns
        -------
        scipy.sparse.csr_array of float32
            Square, in codes (positions in the sorted ids); row i holds the neighbors of i.
        """
        self._check_fitted()
        kept = self.neighbors_ >= 0
        indptr = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
        n = len(kept)
        matrix = csr_array((self.similarities_[kept], self.neighbors_[kept], indptr), shape=(n, n))
        matrix.sort_indices()
        return matrix

    def _support(self, code, others):
        """How many columns a row has in common with each of some others."""
        rows, _ = self._sides(self.train_)

        def rated(row):
            return rows.indices[rows.indptr[row] : rows.indptr[row + 1]]

        own = rated(code)
        return np.array([len(np.intersect1d(own, rated(x), assume_unique=True)) for x in others], dtype=int)

    def _used(self, row, here):
        """The neighbors of a row which a prediction rests on: codes, places among `here`, similarities."""
        near = self.neighbors_[row]
        near = near[near >= 0]
        at = np.minimum(np.searchsorted(here, near), max(len(here) - 1, 0))
        used = np.flatnonzero(here[at] == near)[: self.n_neighbors] if len(here) else np.arange(0)
        if len(used) < self.min_neighbors:
            used = used[:0]
        return near[used], at[used], self.similarities_[row][used].astype(np.float64)


class ItemKNN(_Neighborhood):
    r"""Predict a rating from the user's own ratings of the most similar films.

    Parameters
    ----------
    n_neighbors : int
        Neighbors that a prediction uses at most: the most similar films among those that
        the user rated. With fewer, it uses what there is.
    similarity : {"cosine", "centered_cosine", "adjusted_cosine", "pearson", "pearson_baseline"}
        See Notes.
    center : {"none", "mean", "zscore", "baseline"}
        What the neighbors are averaged in: ratings as they are, deviations from the film's
        mean, the same in units of its standard deviation, or deviations from the bias model.
    shrink : float
        :math:`\delta` in the factor :math:`n_{ij} / (n_{ij} + \delta)` on each similarity: prior common
        ratings that speak neither for nor against.
    min_support : int
        Pairs of films with fewer than this many common users are no neighbors.
    min_similarity : float
        Only similarities above it are kept, from 0 to below 1. So no neighbor ever has a
        negative weight, and the weighted mean stays inside the range of what it averages.
    min_neighbors : int
        A prediction which rests on fewer neighbors falls back to the bias model. So does that
        of an unknown user or item.
    graph_size : int
        K, the neighbors kept of each film; at least n_neighbors. Only some of them are among
        the films of one user, so a larger graph reaches n_neighbors more often; 8 bytes each.
    baseline : BiasModel, optional
        Its settings are used for ``center="baseline"``, ``similarity="pearson_baseline"`` and
        the fallback; by default BiasModel().
    verbose : bool
        Show a progress bar when the graph takes long.

    The defaults came first in a threefold cross-validation on the training part of the embedded
    MovieLens data (similarity, shrink, graph_size and n_neighbors varied).

    Attributes
    ----------
    neighbors_ : ndarray of int32, shape (n, K)
        Codes of the neighbors of each film, most similar first, the smaller code on a tie;
        -1 in unused places.
    similarities_ : ndarray of float32, shape (n, K)
        Their similarities; 0 in unused places.
    baseline_ : BiasModel
        Fitted on the same ratings.
    history_ : dict
        baseline_seconds and graph_seconds: what `fit` spent its time on.

    Notes
    -----
    With :math:`x, y` the ratings of films :math:`i, j`, :math:`C` the :math:`n_{ij}` users they
    have in common, and sums over :math:`C`:

    cosine
        :math:`\sum xy \,/\, (\|x\|\|y\|)`. The norms run over all ratings of each, so what is
        not rated counts as 0 (Salton and McGill 1983; for items, Sarwar et al. 2001).
    centered_cosine
        The same after each film's mean was taken off: Pearson's numerator with norms over
        all ratings (Ekstrand, Riedl and Konstan 2011).
    adjusted_cosine
        The same after each user's mean was taken off (Sarwar et al. 2001,
        who sum the norms over :math:`C` only).
    pearson
        :math:`\sum (x-\bar x)(y-\bar y) \,/\, \sqrt{\sum (x-\bar x)^2 \sum (y-\bar y)^2}` with
        means over :math:`C` (Resnick et al. 1994).
    pearson_baseline
        The same form, with :math:`b_{ui}` of the bias model in place of the means (Koren 2010).

    A similarity is 0 where it is not defined: no common users, or no variance. The shrinkage is
    that of Koren (2008, equation 2); Koren (2010) subtracts 1 from each :math:`n_{ij}`.

    A prediction is :math:`b + \sigma\,\sum_j s_j z_j / \sum_j s_j`, where :math:`z_j` are the
    deviations of the neighbors and :math:`b, \sigma` undo the centering (Herlocker et al. 1999).

    Cost of the graph: :math:`\sum_u n_u^2` multiply-adds for cosine, with :math:`n_u` the number of
    ratings of user u, and up to six times that for Pearson; 16 films share the steps they have in
    common. Memory: data + 8 K bytes for each film + 16 dense rows for each thread, times the
    number of sums. Sums are kept in float32, which is exact for ratings in half stars (cosine);
    for "pearson", where a difference of large sums can cancel, in float64. The result does not
    depend on the number of threads.

    References
    ----------
    Ekstrand, Riedl, Konstan (2011), Collaborative filtering recommender systems, Foundations
    and Trends in Human-Computer Interaction 4(2). Herlocker, Konstan, Borchers, Riedl (1999),
    An algorithmic framework for performing collaborative filtering, SIGIR. Koren (2008),
    Factorization meets the neighborhood, KDD. Koren (2010), Factor in the neighbors, ACM
    TKDD 4(1). Resnick et al. (1994), GroupLens, CSCW. Salton, McGill (1983), Introduction to
    modern information retrieval. Sarwar, Karypis, Konstan, Riedl (2001), Item-based
    collaborative filtering recommendation algorithms, WWW.
    """

    def similar_items(self, item, n=10, *, min_ratings=1):
        """The most similar items.

        Parameters
        ----------
        item : id
            From training.
        n : int
            How many; fewer come back where the graph, with at most graph_size for each, holds fewer.
        min_ratings : int
            Leave out items with fewer training ratings.

        Returns
        -------
        DataFrame
            The item's id, title where known, score: the similarity, and support: the number of users
            who rated both. Most similar first.

        Raises
        ------
        ValueError
            If the item was not in training, or n is not a positive integer.
        """
        table = super().similar_items(item, n, min_ratings=min_ratings)
        near = self.train_.encode_items(table[self.train_.item_name])
        return table.assign(support=self._support(self._known_item(item), near))

    def _similarities(self, item):
        out = np.full(self.train_.n_items, np.nan)
        kept = self.neighbors_[item] >= 0
        out[self.neighbors_[item][kept]] = self.similarities_[item][kept]
        return out

    def _score_nobody(self):
        return self.baseline_._score_nobody()

    def _fold_in(self, codes, values):
        """The graph stays; the person's bias is what the bias model gives with the items' biases held."""
        bias = self.baseline_._fold_in(codes, values)["bias"]
        offset = self._offset[codes] + (bias if self.center == "baseline" else 0.0)
        deviations = ((values - offset) / self._scale[codes]).astype(np.float32)
        mean, used = np.empty(self.train_.n_items), np.empty(self.train_.n_items, np.int32)
        kernels.predict_for(
            codes, deviations, self.neighbors_, self.similarities_, int(self.n_neighbors), mean, used
        )
        fallback = self.baseline_.mean_ + self.baseline_.item_bias_ + bias
        start = fallback if self.center == "baseline" else self._offset
        scores = np.where(used >= self.min_neighbors, start + self._scale * mean, fallback)
        return {"bias": bias, "deviations": deviations, "scores": scores}

    def _newcomer_scores(self, newcomer):
        return newcomer.scores

    def _newcomer_fallback(self, newcomer):
        return self.baseline_.mean_ + newcomer.bias

    def _explain(self, codes, values, item, *, user=None, newcomer=None):
        if newcomer is None:
            span = slice(*self.train_.by_user.indptr[[user, user + 1]])
            deviations = self._deviations[span]
            predicted = self._predict_codes(np.array([user]), np.array([item]))[0]
        else:
            deviations, predicted = newcomer.deviations, newcomer.scores[item]
        near, at, similarity = self._used(item, codes)
        parts = self._scale[item] * similarity * deviations[at] / (similarity.sum() if len(near) else 1.0)
        baseline = predicted - parts.sum()
        return self._reasons(near, values[at], parts, baseline, similarity=similarity)

    def _sides(self, ratings):
        return ratings.by_item, ratings.by_user

    def _sides_of_baseline(self):
        return self.baseline_.item_bias_, self.baseline_.user_bias_

    def _oriented(self, users, items):
        return items, users

    @staticmethod
    def _over_neighbors(users, graph, columns):
        return columns[users] @ graph.T

    @staticmethod
    def _by_row(values, users):
        return values


class UserKNN(_Neighborhood):
    """Predict a rating from what the most similar users gave to the same film.

    Parameters, attributes, formulas and sources are those of `ItemKNN` with users and items
    exchanged: ``neighbors_`` and ``similarities_`` have a row for each of the m users, "centered_cosine"
    takes off the users' means, "adjusted_cosine" the films', and center="mean" or "zscore" is
    about the user's own mean (Resnick et al. 1994; Herlocker et al. 1999).

    Notes
    -----
    The work is about the sum of the squared numbers of ratings of the films; where there are
    more users than films it is larger than `ItemKNN`'s, and so is the graph.
    """

    _without = {
        "similar_items": "it compares people; see similar_users",
        "fold_in": "who resembles a newcomer is not in its graph; ItemKNN takes newcomers",
    }

    def _score_nobody(self):
        return self.baseline_._score_nobody()

    def _explain(self, codes, values, item, *, user=None, newcomer=None):
        """One row for each of the people that a prediction rests on: their ratings of this item."""
        matrix = self.train_.by_item
        span = slice(*matrix.indptr[[item, item + 1]])
        near, at, similarity = self._used(user, matrix.indices[span])
        deviations = self._deviations[span][at].astype(np.float64)
        parts = self._scale[user] * similarity * deviations / (similarity.sum() if len(near) else 1.0)
        frame = pd.DataFrame(
            {
                self.train_.user_name: self.train_.user_ids[near],
                "rating": matrix.data[span][at],
                "similarity": similarity,
                "contribution": parts,
            }
        )
        predicted = self._predict_codes(np.array([user]), np.array([item]))[0]
        return sorted_reasons(frame, predicted - parts.sum())

    def similar_users(self, user, n=10):
        """The most similar users.

        Parameters
        ----------
        user : int
            A userId from training.
        n : int
            How many; fewer come back where the graph, with at most graph_size for each, holds fewer.

        Returns
        -------
        DataFrame
            Columns userId, similarity and support (the number of films both rated), most
            similar first.

        Raises
        ------
        ValueError
            If the user was not in training, or n is not a positive integer.
        """
        self._check_fitted()
        check_positive_int("n", n)
        code = self._known_user(user)
        near = self.neighbors_[code][:n]
        near = near[near >= 0]
        return pd.DataFrame(
            {
                self.train_.user_name: self.train_.user_ids[near],
                "similarity": self.similarities_[code][: len(near)],
                "support": self._support(code, near),
            }
        )

    def _sides(self, ratings):
        return ratings.by_user, ratings.by_item

    def _sides_of_baseline(self):
        return self.baseline_.user_bias_, self.baseline_.item_bias_

    def _oriented(self, users, items):
        return users, items

    @staticmethod
    def _over_neighbors(users, graph, columns):
        return graph[users] @ columns.T

    @staticmethod
    def _by_row(values, users):
        return values[users][:, None]


def _ones(matrix):
    return csr_array((np.ones(len(matrix.data)), matrix.indices, matrix.indptr), matrix.shape)


def _means(matrix, values=None):
    """Mean of each CSR row, 0 for an empty one."""
    counts = np.diff(matrix.indptr)
    values = matrix.data if values is None else values
    totals = np.bincount(np.repeat(np.arange(len(counts)), counts), values, minlength=len(counts))
    return totals / np.maximum(counts, 1)


def _deviations(matrix, outer_offset, inner_offset, inner_scale=None):
    out = np.empty(len(matrix.data), np.float32)
    if inner_scale is None:
        inner_scale = np.ones(matrix.shape[1])
    kernels.deviations(
        matrix.indptr,
        matrix.indices,
        matrix.data,
        outer_offset,
        inner_offset,
        inner_scale,
        _NO_DEVIATION,
        out,
    )
    out.flags.writeable = False  # like the ratings themselves, so that one compiled kernel takes both
    return out
