r"""Lists from weights between items, without factors: regressions of each item on the others."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.linalg import lapack
from scipy.sparse import csr_array, vstack
from sklearn.exceptions import ConvergenceWarning

from ..checks import choice, either, flag, number, optional, whole
from ..kernels import spans
from ..kernels.item_weights import (
    TILE,
    descend,
    gram_rows,
    mirror,
    score_pairs,
    weights_from_inverse,
)  # fmt: skip
from .documented import documented
from .held_out import SHARE as HELD_OUT_SHARE
from .held_out import HeldOut, climb
from .liked import LikesModel
from .positive import WEIGHTS, check_threshold, weigh
from .training import outside

# Where penalties are looked for, and on how many of the most popular items at most.
AUTO_REGS, START_REG = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0), 300.0
AUTO_L1, START_L1 = (0.1, 0.3, 1.0, 3.0, 10.0), 1.0
SEARCH_ITEMS, SEARCH_TOL = 1500, 1e-3
# Work of one span, in operations.
PIECE = 20_000_000


class ItemWeights(LikesModel):
    """Base of models whose scores are sums of weights from the items that a person likes.

    A subclass sets ``item_weights_``, shape (n, n), dense or sparse: entry (j, i) says how much a like of j
    speaks for i. With the likes of a person in a row x, the scores are x times that matrix. Newcomers are
    no exception, and reasons are the summands.
    """

    def _rows(self, users):
        """The likes of some training users, weighed, as a sparse matrix."""
        rows = self.train_.by_user[users]
        keep = rows.data >= self.threshold_
        indptr = np.concatenate([[0], np.cumsum(keep)])[rows.indptr].astype(np.int32)
        data = weigh(rows.data[keep], self.weights)
        return csr_array((data, rows.indices[keep], indptr), shape=rows.shape)

    def _score_block(self, users):
        told = self._known(users)
        scores = np.tile(self.popularity_, (len(users), 1))
        if told.any():
            scores[told] = self._listed(_dense(self._rows(users[told]) @ self.item_weights_))
        return scores

    def _predict_codes(self, users, items):
        out = np.where(items >= 0, self.popularity_[items], 0.0)
        told = self._known(users) & (items >= 0)
        some, rows = np.unique(users[told], return_inverse=True)
        likes = self._rows(some)
        if isinstance(self.item_weights_, np.ndarray):
            found = np.empty(len(rows))
            score_pairs(rows, items[told], likes.indptr, likes.indices, likes.data, self.item_weights_, found)
        else:
            found = _sparse_pairs(likes, self.item_weights_, rows, items[told])
        out[told] = found
        return out

    def _listed(self, scores):
        return scores

    def _fold_in(self, codes, values):
        return {"liked": values >= self.threshold_}

    def _newcomer_predictions(self, newcomer):
        liked = newcomer.liked
        if not liked.any():
            return self._score_nobody()
        x = weigh(newcomer.ratings[liked], self.weights)
        codes = newcomer._codes[liked]
        return np.asarray(x @ self.item_weights_[codes], dtype=np.float64).ravel()

    def _newcomer_scores(self, newcomer):
        scores = self._newcomer_predictions(newcomer)
        return self._listed(scores[None])[0] if newcomer.liked.any() else scores

    def _explain(self, codes, values, item, *, user=None, newcomer=None):
        liked = values >= self.threshold_
        weight = np.zeros(len(codes))
        column = self.item_weights_[:, [item]]
        weight[liked] = _dense(column).ravel()[codes[liked]]
        parts = np.zeros(len(codes))
        parts[liked] = weight[liked] * weigh(values[liked], self.weights)
        score = self._prediction_of(item, user, newcomer)
        return self._reasons(codes, values, parts, score - parts.sum(), liked=liked, weight=weight)

    def _similarities(self, item):
        row = _dense(self.item_weights_[[item]]).ravel().astype(np.float64)
        row[row == 0] = np.nan
        return row


@documented
class EASE(ItemWeights):
    r"""Regress each item on all others, all at once, in closed form (Steck 2019).

    With the likes in a table X of ones and zeros, the weights B minimize

    .. math::

        |X - XB|^2 + \lambda|B|^2 \quad\text{with}\quad B_{ii} = 0

    The diagonal is held at zero, or every item would explain itself. With
    :math:`P=(X'X+\lambda I)^{-1}` the answer is :math:`B_{ij} = -P_{ij}/P_{jj}`: one matrix is inverted, for
    all items together. Weights may be negative: an item may speak against another.

    Parameters
    ----------
    reg : float or "auto"
        :math:`\lambda`, above 0, counted in likes. "auto": the best of a few, by NDCG, on a fifth of the
        likes of at most the 1,500 most popular items.
    threshold : float, None or "auto"
        The least rating that counts as a like. None: every pair does. "auto": the upper quarter of the
        scale, or every pair of a table without a scale of ratings (see `settled_threshold`).
    weights : {"binary", "value", "log"}
        What stands in X: 1, the value, or log(1 + value).
    max_items : int, optional
        Only the most popular ones take part; the others are never listed, and predicted as 0.
    n_neighbors : int, optional
        Keep for each item the weights of largest size only, so many, in a sparse matrix.
    dtype : {"float32", "float64"}
        Of the matrix and of the arithmetic.
    {n_threads}

    Attributes
    ----------
    item_weights_ : ndarray or csr_array, shape (n, n)
        B: entry (j, i) says how much a like of j speaks for i.
    reg_, threshold_ : float
        What the fit took.
    popularity_ : ndarray of float64, shape (n,)
        Share of the users who like an item; the scores for a user without a like.
    likes_ : ndarray of int32, shape (m,)
        Liked items of each user.

    Notes
    -----
    :math:`\frac12\sum_u n_u^2` operations for X'X and :math:`n^3` for the inverse, by LAPACK's potrf and
    potri. X'X becomes P and P becomes B in the same place: 4 n^2 bytes at the peak, 1.6 gigabytes for 20,000
    items, and as much again for B where `max_items`, or no like at all, leaves items out. The obvious lines
    of NumPy, in float64, hold X'X, its inverse and B: 24 n^2 bytes.
    """

    _parameters = {
        "reg": either("auto", number(above=0)),
        "threshold": check_threshold,
        "weights": choice(*WEIGHTS),
        "max_items": optional(whole()),
        "n_neighbors": optional(whole()),
        "dtype": choice("float32", "float64"),
        "n_threads": optional(whole()),
    }

    def __init__(
        self,
        reg="auto",
        *,
        threshold="auto",
        weights="binary",
        max_items=None,
        n_neighbors=None,
        dtype="float32",
        n_threads=None,
    ):
        self.reg = reg
        self.threshold = threshold
        self.weights = weights
        self.max_items = max_items
        self.n_neighbors = n_neighbors
        self.dtype = dtype
        self.n_threads = n_threads

    def _fit(self, ratings, validation):
        matrix = self._likes(ratings)
        self.reg_ = self._found_reg(matrix) if self.reg == "auto" else float(self.reg)
        n = matrix.shape[1]
        items = _most_popular(matrix, self.max_items)
        self.covered_ = np.isin(np.arange(n), items)
        # An item that nobody likes has no weights but zeros, and need not be inverted.
        items = items[np.bincount(matrix.indices, minlength=n)[items] > 0]
        found = self._regress(matrix if len(items) == n else matrix[:, items], self.reg_)
        if self.n_neighbors is not None:
            found = largest(found, self.n_neighbors)
        self.item_weights_ = _in_place_of(found, items, n)

    def _found_reg(self, matrix):
        """The penalty with the best lists of likes that are held out."""
        held_out = HeldOut(matrix[:, _most_popular(matrix, SEARCH_ITEMS)])
        if not held_out.enough:
            return START_REG

        def quality(reg):
            found = self._regress(held_out.train, reg)
            return held_out.ndcg(lambda rows: held_out.train[rows] @ found)

        (reg,) = climb(quality, (AUTO_REGS.index(START_REG),), (AUTO_REGS,))
        return reg * matrix.shape[0] / held_out.train.shape[0] / (1 - HELD_OUT_SHARE)

    def _regress(self, matrix, reg):
        gram = gram_matrix(matrix, self.dtype, self.n_threads)
        gram[np.diag_indices_from(gram)] += np.dtype(self.dtype).type(reg)
        return regression_weights(gram, self.n_threads)

    def _listed(self, scores):
        scores[:, ~self.covered_] = -np.inf
        return scores


@documented
class SLIM(ItemWeights):
    r"""Regress each item on few others: sparse weights, not below zero (Ning and Karypis 2011).

    Column i of the weights W minimizes

    .. math::

        \tfrac12|x_i - Xw|^2 + \lambda_1|w|_1 + \tfrac{\lambda_2}2|w|^2
        \quad\text{with}\quad w_i = 0,\ w \ge 0

    where X holds the likes. The first penalty makes most weights exactly zero.

    Parameters
    ----------
    l1, l2 : float or "auto"
        :math:`\lambda_1` and :math:`\lambda_2`, counted in likes; not both 0. "auto": the best of a few, by
        NDCG, on a fifth of the likes of at most the 1,500 most popular items.
    non_negative : bool
        Whether weights may not be below zero.
    threshold, weights
        As in `EASE`.
    tol : float
        The descent of an item ends when no weight changes by more in a pass over all of them.
    max_passes : int
        Upper bound on passes of an item; a ConvergenceWarning says where it was not enough.
    dtype : {"float32", "float64"}
        Of X'X; sums are float64.
    {n_threads}

    Attributes
    ----------
    item_weights_ : csr_array of float32, shape (n, n)
        W: entry (j, i) says how much a like of j speaks for i.
    l1_, l2_, threshold_ : float
        What the fit took.
    popularity_, likes_
        As in `EASE`.

    Notes
    -----
    Coordinate descent on X'X (Friedman, Hastie and Tibshirani 2010): a pass over a nonzero weights costs at
    most :math:`a^2` operations, whatever the number of users. Items are shared among threads. Memory: 4 n^2
    bytes for X'X.
    """

    _parameters = {
        "l1": either("auto", number()),
        "l2": either("auto", number()),
        "non_negative": flag,
        "threshold": check_threshold,
        "weights": choice(*WEIGHTS),
        "tol": number(above=0),
        "max_passes": whole(),
        "dtype": choice("float32", "float64"),
        "n_threads": optional(whole()),
    }

    def __init__(
        self,
        l1="auto",
        l2="auto",
        *,
        non_negative=True,
        threshold="auto",
        weights="binary",
        tol=1e-4,
        max_passes=1000,
        dtype="float32",
        n_threads=None,
    ):
        self.l1 = l1
        self.l2 = l2
        self.non_negative = non_negative
        self.threshold = threshold
        self.weights = weights
        self.tol = tol
        self.max_passes = max_passes
        self.dtype = dtype
        self.n_threads = n_threads

    def _fit(self, ratings, validation):
        if self.l1 == 0 and self.l2 == 0:
            raise ValueError(
                "l2: got 0 with l1=0; expected one of them above 0, or the weights are not unique"
            )
        matrix = self._likes(ratings)
        self.l1_, self.l2_ = self._found(matrix)
        self.item_weights_ = self._regress(matrix, self.l1_, self.l2_, self.tol, warn=True)

    def _found(self, matrix):
        """Both penalties: as given, or those with the best lists of likes that are held out."""
        if "auto" not in (self.l1, self.l2):
            return float(self.l1), float(self.l2)
        held_out = HeldOut(matrix[:, _most_popular(matrix, SEARCH_ITEMS)])
        ones = AUTO_L1 if self.l1 == "auto" else (float(self.l1),)
        twos = AUTO_REGS if self.l2 == "auto" else (float(self.l2),)
        start = [axis.index(x) if x in axis else 0 for axis, x in ((ones, START_L1), (twos, START_REG))]
        if not held_out.enough:
            return ones[start[0]], twos[start[1]]
        # A penalty counts in likes, of which a part is held out, and which may be a sample.
        times = matrix.shape[0] / held_out.train.shape[0] / (1 - HELD_OUT_SHARE)
        times = [times if one == "auto" else 1.0 for one in (self.l1, self.l2)]

        def quality(l1, l2):
            found = self._regress(held_out.train, l1, l2, max(self.tol, SEARCH_TOL))
            return held_out.ndcg(lambda rows: _dense(held_out.train[rows] @ found))

        return tuple(value * t for value, t in zip(climb(quality, start, (ones, twos)), times, strict=True))

    def _regress(self, matrix, l1, l2, tol, *, warn=False):
        n = matrix.shape[1]
        gram = _square(matrix, self.n_threads, self.dtype)
        lowest = 0.0 if self.non_negative else -np.inf

        def work(first, stop):
            weights, passes = np.empty((stop - first, n)), np.empty(stop - first, np.int64)
            descend(first, stop, gram, l1, l2, lowest, tol, self.max_passes, weights, passes)
            return csr_array(weights.astype(np.float32)), passes

        results = spans.run(work, list(range(0, n, 64)) + [n], self.n_threads)
        late = sum(int(np.count_nonzero(passes > self.max_passes)) for _, passes in results)
        if late and warn:
            warnings.warn(
                f"{type(self).__name__} stopped at max_passes={self.max_passes} with {late} item(s) whose "
                f"weights still changed by more than tol={self.tol:g}; raise max_passes, tol, l1 or l2",
                ConvergenceWarning,
                stacklevel=outside(),
            )
        return vstack([columns for columns, _ in results], format="csr").T.tocsr()


# ---- matrices ------------------------------------------------------------------------------


def gram_matrix(matrix, dtype="float32", n_threads=None):
    """Upper triangle of X'X, zeros below it, from a sparse X.

    Parameters
    ----------
    matrix : csr_array, shape (m, n)
        Item codes ascend within each row.
    dtype : {"float32", "float64"}
    n_threads : int, optional

    Returns
    -------
    ndarray, shape (n, n)
    """
    by_item = matrix.T.tocsr()
    n = matrix.shape[1]
    out = np.zeros((n, n), dtype)
    arrays = matrix.indptr, matrix.indices, matrix.data, by_item.indptr, by_item.indices, by_item.data
    lengths = np.diff(matrix.indptr)
    work = np.bincount(matrix.indices, np.repeat(lengths, lengths), minlength=n) + n
    spans.run(lambda first, stop: gram_rows(first, stop, *arrays, out), spans.cut(work, PIECE), n_threads)
    return out


def _square(matrix, n_threads, dtype="float32"):
    """X'X with both triangles."""
    gram = gram_matrix(matrix, dtype, n_threads)
    tiles = spans.cut(np.arange(-(-len(gram) // TILE), 0, -1), 64)
    spans.run(lambda first, stop: mirror(first, stop, gram), tiles, n_threads)
    return gram


def regression_weights(gram, n_threads=None):
    """The weights of `EASE` from the upper triangle of X'X + reg I, which they overwrite.

    Parameters
    ----------
    gram : ndarray, shape (n, n)
        C-contiguous; what lies below the diagonal is not read.
    n_threads : int, optional

    Returns
    -------
    ndarray
        `gram` itself.

    Raises
    ------
    ValueError
        If the matrix is not positive definite.
    """
    potrf, potri = lapack.get_lapack_funcs(("potrf", "potri"), (gram,))
    # For LAPACK, which counts columns first, our upper triangle is a lower one.
    factor, failed = potrf(gram.T, lower=1, overwrite_a=1, clean=0)
    if not failed:
        factor, failed = potri(factor, lower=1, overwrite_c=1)
    if failed:
        raise ValueError(
            "reg: the regression's matrix is not positive definite to rounding; expected a larger reg, or "
            "dtype='float64'"
        )
    inverse = factor.T
    diagonal = inverse.diagonal().copy()
    tiles = -(-len(inverse) // TILE)
    spans.run(
        lambda first, stop: weights_from_inverse(first, stop, inverse, diagonal),
        spans.cut(np.arange(tiles, 0, -1), 64), n_threads,
    )  # fmt: skip
    return inverse


def largest(weights, k):
    """The k entries of largest size of each column, as a sparse matrix."""
    n = len(weights)
    k = min(k, n)
    kept = []
    for first in range(0, n, 256):
        columns = np.ascontiguousarray(weights[:, first : first + 256].T)
        places = np.argpartition(-np.abs(columns), k - 1, axis=1)[:, :k]
        places.sort(axis=1)
        values = np.take_along_axis(columns, places, axis=1)
        indptr = np.arange(0, values.size + 1, k, dtype=np.int32)
        kept.append(csr_array((values.ravel(), places.ravel().astype(np.int32), indptr), shape=columns.shape))
    out = vstack(kept, format="csr").T.tocsr()
    out.eliminate_zeros()
    return out


def _most_popular(matrix, n):
    """Ascending codes of the n items with most likes; all of them for None."""
    if n is None or n >= matrix.shape[1]:
        return np.arange(matrix.shape[1])
    counts = np.bincount(matrix.indices, minlength=matrix.shape[1])
    return np.sort(np.argsort(-counts, kind="stable")[:n])


def _in_place_of(found, items, n):
    """The weights among all items, from those among some."""
    if len(items) == n:
        return found
    if isinstance(found, np.ndarray):
        out = np.zeros((n, n), found.dtype)
        out[np.ix_(items, items)] = found
        return out
    found = found.tocoo()
    return csr_array((found.data, (items[found.row], items[found.col])), shape=(n, n))


def _dense(matrix):
    return matrix if isinstance(matrix, np.ndarray) else matrix.toarray()


def _sparse_pairs(likes, weights, rows, items):
    """Scores of pairs where the weights are sparse, some users at a time."""
    out = np.empty(len(rows))
    step = 512
    for first in range(0, likes.shape[0], step):
        here = (rows >= first) & (rows < first + step)
        scores = (likes[first : first + step] @ weights).toarray()
        out[here] = scores[rows[here] - first, items[here]]
    return out
