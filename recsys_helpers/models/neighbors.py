"""Neighborhood models: predict from the most similar users, or from the most similar items."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from sklearn.base import clone
from tqdm import tqdm

from ..checks import check_positive_int, choice, flag, number, optional, whole
from ..kernels import columns as blocked
from ..kernels import neighbors as kernels
from ..kernels import spans
from .base import Recommender, sorted_reasons
from .baselines import BiasModel

SIMILARITIES = ("cosine", "centered_cosine", "adjusted_cosine", "pearson", "pearson_baseline")
CENTERS = ("none", "mean", "zscore", "baseline")
# What is taken off before the cosine, in the words of `center`; "other" are the means of the other side.
_COMPARED = {"centered_cosine": "mean", "adjusted_cosine": "other", "pearson_baseline": "baseline"}

_LONG_WORK = 1_000_000_000  # steps; beyond it a progress bar is shown
_PIECE = 20_000_000  # steps of one piece of work for a thread
_PIECE_ROWS = 256  # rows of the graph that a thread turns at a time
_NO_VARIANCE = 1e-10  # share of the mean square; a smaller variance is rounding, the ratings were equal
_ROUNDING = 2e-7  # of float32, as a share of the largest rating


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
        "n_threads": optional(whole()),
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
        n_threads=None,
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
        self.n_threads = n_threads
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
        self._offset, self._column_offset, self._scale = self._center(self.center, rows, columns)
        self._deviations = columns.data
        if self.center != "none":
            offsets = self._column_offset, self._offset
            self._deviations = self._deviations_of(columns, *offsets, inner_scale=self._scale)
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

    def _kind(self):
        """What is summed for a pair of rows, and the zero of its type."""
        if self.similarity == "pearson":
            return kernels.CO_PEARSON, np.float64(0)
        if self.similarity == "pearson_baseline":
            return kernels.CO_COSINE, np.float32(0)
        plain = self.shrink == 0 and self.min_support == 1
        return (kernels.DOT if plain else kernels.DOT_COUNT), np.float32(0)

    def _compared(self, rows, columns):
        """What is compared: offsets of the columns, and the values of both matrices less all offsets."""
        if self.similarity in ("cosine", "pearson"):
            return np.zeros(rows.shape[1]), rows.data, columns.data
        offset, column_offset, _ = self._center(_COMPARED[self.similarity], rows, columns)
        row_values = self._deviations_of(rows, offset, column_offset)
        return column_offset, row_values, self._deviations_of(columns, column_offset, offset)

    def _kept(self):
        """Which similarities are kept, as the kernels take it."""
        return float(self.shrink), int(self.min_support), np.float32(self.min_similarity)

    def _build_graph(self, rows, columns):
        kind, zero = self._kind()
        _, row_values, column_values = self._compared(rows, columns)
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
                norms, *self._kept(), zero, codes, values,
            )  # fmt: skip

        with bar:
            bounds = spans.cut(steps * float(kind), _PIECE)
            spans.run(
                work, bounds, self.n_threads, lambda first, last: bar.update(int(steps[first:last].sum()))
            )
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
            square = _means(rows, rows.data.astype(np.float64) ** 2)
            variance = square - mean**2
            one = np.where(
                variance > _NO_VARIANCE * square, np.sqrt(np.maximum(variance, 0.0)), _overall(rows.data)
            )
        return mean, no_column, one

    def _deviations_of(self, matrix, outer, inner, outer_scale=None, inner_scale=None):
        """Values of a CSR matrix less offsets, over scales; what is only rounding becomes 0."""
        out = np.empty(len(matrix.data), np.float32)
        outer_scale, inner_scale = (
            np.ones(size) if scale is None else scale
            for size, scale in zip(matrix.shape, (outer_scale, inner_scale), strict=True)
        )
        kernels.deviations(
            matrix.indptr, matrix.indices, matrix.data, outer, inner, outer_scale, inner_scale,
            _rounding(matrix.data), out,
        )  # fmt: skip
        out.flags.writeable = False  # like the ratings themselves, so that one compiled kernel takes both
        return out

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

        cuts = spans.cut(np.diff(starts) * float(self.neighbors_.shape[1]), _PIECE)
        spans.run(work, cuts, self.n_threads)
        return mean, used

    def _score_nobody(self):
        return self.baseline_._score_nobody()

    def _limits(self):
        """How many neighbors a prediction uses, at most and at least."""
        return int(self.n_neighbors), int(self.min_neighbors)

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

    def _used(self, near, similarity, here):
        """The neighbors which a prediction rests on: codes, places among `here`, similarities."""
        kept = near >= 0
        near, similarity = near[kept], similarity[kept]
        at = np.minimum(np.searchsorted(here, near), max(len(here) - 1, 0))
        used = np.flatnonzero(here[at] == near)[: self.n_neighbors] if len(here) else np.arange(0)
        if len(used) < self.min_neighbors:
            used = used[:0]
        return near[used], at[used], similarity[used].astype(np.float64)


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
    n_threads : int, optional
        Default: all processors. The result does not depend on it.
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

    Cost of ranking everything: up to K look-ups an item for 64 users together where these have rated much;
    else each user looks at the places where a rated item is a neighbor, about K of them a rating. A
    single user takes up to K look-ups an item.

    Ratings a r in place of r give predictions a p. A constant that is added to all ratings cancels, too,
    except where zero has a meaning: in the similarity "cosine" and in center="none".

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

    def _score_block(self, users):
        users = np.asarray(users, dtype=np.int32)
        out = self.baseline_._score_block(users)
        columns = self.train_.by_user

        def work(first, stop):
            blocked.score_columns(
                first, stop, users, columns.indptr, columns.indices, self._deviations,
                self.neighbors_, self.similarities_, *self._limits(),
                self._offset, self._scale, self.center == "baseline", out,
            )  # fmt: skip

        rows = len(self.neighbors_)
        spans.run(work, spans.cut(np.ones(rows), _PIECE_ROWS, most=rows), self.n_threads)
        return out

    def _fold_in(self, codes, values):
        """The graph stays; the person's bias is what the bias model gives with the items' biases held."""
        bias = self.baseline_._fold_in(codes, values)["bias"]
        offset = self._offset[codes] + (bias if self.center == "baseline" else 0.0)
        deviations = ((values - offset) / self._scale[codes]).astype(np.float32)
        scores = self.baseline_.mean_ + bias + self.baseline_.item_bias_
        kernels.score_newcomer(
            codes, deviations, self.neighbors_, self.similarities_, *self._limits(),
            self._offset, self._scale, self.center == "baseline", scores,
        )  # fmt: skip
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
        near, at, similarity = self._used(self.neighbors_[item], self.similarities_[item], codes)
        parts = self._scale[item] * similarity * deviations[at] / (similarity.sum() if len(near) else 1.0)
        baseline = predicted - parts.sum()
        return self._reasons(near, values[at], parts, baseline, similarity=similarity)

    def _sides(self, ratings):
        return ratings.by_item, ratings.by_user

    def _sides_of_baseline(self):
        return self.baseline_.item_bias_, self.baseline_.user_bias_

    def _oriented(self, users, items):
        return items, users


class UserKNN(_Neighborhood):
    """Predict a rating from what the most similar users gave to the same film.

    Parameters, attributes, formulas and sources are those of `ItemKNN` with users and items
    exchanged: ``neighbors_`` and ``similarities_`` have a row for each of the m users, "centered_cosine"
    takes off the users' means, "adjusted_cosine" the films', and center="mean" or "zscore" is
    about the user's own mean (Resnick et al. 1994; Herlocker et al. 1999).

    Notes
    -----
    The work is about the sum of the squared numbers of ratings of the films; where there are
    more users than films it is larger than `ItemKNN`'s, and so is the graph. Ranking everything for a
    user takes one step a rating of each of the K neighbors, and 4 bytes more a rating than `ItemKNN`.

    A newcomer (`fold_in`) is compared with everybody, in one pass over what others gave to the items
    that the newcomer rated; with a few passes over all ratings for what is taken off before.
    `explain` has a row for each of the people that the prediction rests on.
    """

    _without = {"similar_items": "it compares people; see similar_users"}

    def _fit(self, ratings, validation):
        super()._fit(ratings, validation)
        # By user, too: a neighbor's deviations are added to all items in one go.
        self._own_deviations = ratings.by_user.data
        if self.center != "none":
            offsets = self._offset, self._column_offset
            self._own_deviations = self._deviations_of(ratings.by_user, *offsets, self._scale)

    def _score_block(self, users):
        users = np.asarray(users, dtype=np.int32)
        near = np.where((users >= 0)[:, None], self.neighbors_[users], -1)
        out = self.baseline_._score_block(users)
        self._score_rows(near, self.similarities_[users], self._offset[users], self._scale[users], out)
        return out

    def _score_rows(self, near, similarities, offset, scale, out):
        rows = self.train_.by_user

        def work(first, stop):
            kernels.score_rows(
                first, stop, near, similarities, rows.indptr, rows.indices, self._own_deviations,
                *self._limits(), offset, scale, self.center == "baseline", out,
            )  # fmt: skip

        cuts = spans.cut(np.full(len(near), float(near.shape[1] * len(rows.data) / len(rows.indptr))), _PIECE)
        spans.run(work, cuts, self.n_threads)

    def _fold_in(self, codes, values):
        """Compare the newcomer with everybody, one pass over the items they rated; the graph stays."""
        train, bias = self.train_, self.baseline_._fold_in(codes, values)["bias"]
        kind, zero = self._kind()
        item_offset, row_values, column_values = self._compared(train.by_user, train.by_item)
        everybody = np.arange(train.n_users, dtype=np.int32)
        norms = kernels.inverse_norms(train.by_user.indptr, row_values, everybody)
        level, _ = self._place(_COMPARED.get(self.similarity, "none"), values, bias)
        own = values - (level + item_offset[codes])
        own = np.where(np.abs(own) > _rounding(values), own, 0.0).astype(np.float32)
        own_norm = kernels.inverse_norms(np.array([0, len(own)]), own, everybody[:1])
        size = self.neighbors_.shape[1]
        near, similarities = np.empty((1, size), np.int32), np.empty((1, size), np.float32)
        kernels.graph_of_one(
            codes, own, kind, everybody, train.by_item.indptr, train.by_item.indices, column_values,
            np.append(norms, own_norm), *self._kept(), zero, near, similarities,
        )  # fmt: skip
        level, scale = self._place(self.center, values, bias)
        scores = (self.baseline_.mean_ + bias + self.baseline_.item_bias_)[None]
        self._score_rows(near, similarities, np.array([level]), np.array([scale]), scores)
        return {
            "bias": bias, "scale": scale, "scores": scores[0],
            "near": near[0], "similarities": similarities[0],
        }  # fmt: skip

    def _place(self, how, values, bias):
        """Offset and scale of a newcomer's ratings, as `_center` gives them for those of training."""
        mean = float(values.mean(dtype=np.float64))
        if how == "baseline":
            return self.baseline_.mean_ + bias, 1.0
        if how != "zscore":
            return (mean if how == "mean" else 0.0), 1.0
        square = float(np.mean(values.astype(np.float64) ** 2))
        variance = square - mean**2
        return mean, np.sqrt(variance) if variance > _NO_VARIANCE * square else _overall(self.train_.values)

    def _newcomer_scores(self, newcomer):
        return newcomer.scores

    def _newcomer_fallback(self, newcomer):
        return self.baseline_.mean_ + newcomer.bias

    def _explain(self, codes, values, item, *, user=None, newcomer=None):
        """One row for each of the people that a prediction rests on: their ratings of this item."""
        matrix = self.train_.by_item
        span = slice(*matrix.indptr[[item, item + 1]])
        if newcomer is None:
            near, similarity, scale = self.neighbors_[user], self.similarities_[user], self._scale[user]
            predicted = self._predict_codes(np.array([user]), np.array([item]))[0]
        else:
            near, similarity, scale = newcomer.near, newcomer.similarities, newcomer.scale
            predicted = newcomer.scores[item]
        near, at, similarity = self._used(near, similarity, matrix.indices[span])
        deviations = self._deviations[span][at].astype(np.float64)
        parts = scale * similarity * deviations / (similarity.sum() if len(near) else 1.0)
        frame = pd.DataFrame(
            {
                self.train_.user_name: self.train_.user_ids[near],
                "rating": matrix.data[span][at],
                "similarity": similarity,
                "contribution": parts,
            }
        )
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


def _means(matrix, values=None):
    """Mean of each CSR row, 0 for an empty one."""
    counts = np.diff(matrix.indptr)
    values = matrix.data if values is None else values
    totals = np.bincount(np.repeat(np.arange(len(counts)), counts), values, minlength=len(counts))
    return totals / np.maximum(counts, 1)


def _overall(values):
    """Standard deviation of all ratings, 1 where they are equal."""
    return float(np.std(values, dtype=np.float64)) or 1.0


def _rounding(values):
    """What float32 ratings and means of them are rounded by, at most."""
    return _ROUNDING * float(np.abs(values).max(initial=0))
