"""The Gibbs sampler behind `BayesianMF`: two sides that take turns, each drawn given the other."""

from __future__ import annotations

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.sparse import csr_array, diags_array, hstack
from scipy.stats import wishart

from ..kernels import spans
from ..kernels.als import solve_rows
from ..kernels.bayes import draw_coefficients
from ..kernels.products import multiply_rows
from ..kernels.vectors import in_whole_vectors, lanes
from .als import CHUNK_WORK, _work
from .factors import _read_only

# How many rows a mean's prior counts for, as in Salakhutdinov and Mnih (2008).
PRIOR_ROWS = 2.0
# Columns of coefficients that a thread draws at a time.
COLUMNS = 16


class Side:
    """Users or items: factors and bias of each row, and the distribution they are drawn around.

    With x_r = (p_r, b_r) and F the features, x_r is normal around mean + F_r B (as in Macau, Simm et al.
    2017). Its precision is t_g times that of all rows, which is ``root @ root.T`` for the factors and
    `bias_precision` for the bias (Salakhutdinov and Mnih 2008); g is the group of rows with about as many
    ratings, by powers of two. Where t is the same for all, what much-rated rows need makes little-rated
    ones too free. The ratings are in units of their own standard deviation.

    Parameters
    ----------
    matrix : csr_array
        The ratings, by this side; only where they are.
    n_factors : int
    features : list of csr_array, shape (rows, f) each
        Blocks; the coefficients of each have a precision of their own.
    free_mean : bool
        Whether the biases have a mean. One side is enough.
    dtype : str
    n_threads : int, optional
    """

    def __init__(self, matrix, n_factors, features, *, free_mean, dtype, n_threads):
        n, k = matrix.shape[0], n_factors
        self.indptr, self.indices = _read_only(matrix.indptr), _read_only(matrix.indices)
        counts = np.diff(matrix.indptr)
        self.rated, self.group = counts > 0, group_of(counts)
        self.free_mean, self.dtype, self.n_threads = free_mean, np.dtype(dtype), n_threads
        self.factors, self.bias = np.zeros((n, k), dtype), np.zeros(n, dtype)
        self.mean, self.root, self.bias_precision = np.zeros(k + 1), np.sqrt(k) * np.eye(k), np.ones(1)
        self.tightness = np.ones(self.group.max() + 1)
        self.blocks = np.cumsum([0, *(block.shape[1] for block in features)])
        self.link = np.ones(len(features))
        self.coefficients = np.zeros((self.blocks[-1], k + 1))
        if features:
            self.by_row = csr_array(hstack(features), dtype=dtype)
            # Rows without ratings do not teach what a feature means.
            self.by_feature = (diags_array(self.rated.astype(dtype)) @ self.by_row).tocsc()

    def state(self):
        """What the sampler changes from sweep to sweep, by name."""
        names = ("factors", "bias", "mean", "root", "bias_precision", "tightness", "link", "coefficients")
        return {name: getattr(self, name) for name in names}

    # ---- what rows are drawn around -------------------------------------------------

    def draw_prior(self, rng):
        """Mean, precisions and coefficients, given the rows."""
        rows = np.column_stack([self.factors, self.bias]).astype(np.float64)[self.rated]
        linear = self.linear()[self.rated] if len(self.link) else 0.0
        rest = rows - linear
        self._draw_tightness(rng, rest - self.mean)
        self._draw_spread(rng, rest, self.tightness[self.group[self.rated]])
        if len(self.link):
            self._draw_coefficients(rng, rows - self.mean - linear, np.sqrt(self.tightness[self.group]))

    def _draw_tightness(self, rng, rest):
        """Gamma, for each group of rows."""
        group, lengths = self.group[self.rated], np.square(self._white(rest)).sum(axis=1)
        number, total = (np.bincount(group, x, len(self.tightness)) for x in (np.ones(len(rest)), lengths))
        self.tightness[...] = rng.gamma(2 + number * rest.shape[1] / 2, 1 / (2 + total / 2))

    def _draw_spread(self, rng, rest, weight):
        """Normal-Wishart for the factors, normal-gamma for the bias."""
        n, k, effective = len(rest), self.factors.shape[1], weight.sum()
        link = np.repeat(self.link, np.diff(self.blocks))
        average, shrunk = weight @ rest / effective, effective / (PRIOR_ROWS + effective)
        around = average.copy() if self.free_mean else np.append(average[:k], 0.0)
        centered = (rest - around) * np.sqrt(weight)[:, None]
        scatter = np.eye(k + 1) + centered.T @ centered + PRIOR_ROWS * shrunk * np.outer(around, around)
        scatter += (link[:, None] * self.coefficients).T @ self.coefficients
        inverse = np.linalg.inv(scatter[:k, :k])
        degrees = k + n + len(link)
        precision = wishart.rvs(degrees, (inverse + inverse.T) / 2, random_state=rng)
        self.root[...] = cholesky(np.reshape(precision, (k, k)), lower=True)
        self.bias_precision[0] = rng.gamma((degrees - k + 1) / 2, 2 / scatter[k, k])
        noise = self._colored(rng.standard_normal((1, k + 1)))[0] / np.sqrt(PRIOR_ROWS + effective)
        self.mean[...] = shrunk * average + noise
        if not self.free_mean:
            self.mean[k] = 0.0

    def _draw_coefficients(self, rng, rest, roots):
        """The map from features to rows, and its precision, block by block."""
        dtype, width = self.dtype, rest.shape[1]
        residual = np.zeros((len(self.rated), width))
        residual[self.rated] = rest
        residual, b = (
            in_whole_vectors(x, dtype)
            for x in (self._white(residual) * roots[:, None], self._white(self.coefficients))
        )
        noise, f, roots = rng.standard_normal(b.shape, dtype), self.by_feature, roots.astype(dtype)
        penalty = np.repeat(self.link, np.diff(self.blocks)).astype(dtype)

        def work(first, stop):
            draw_coefficients(first, stop, f.indptr, f.indices, f.data, roots, penalty, noise, b, residual)

        spans.run(work, [*range(0, width, COLUMNS), width], self.n_threads)
        drawn = b[:, :width].astype(np.float64)
        self.coefficients[...] = self._colored(drawn)
        for block, (first, stop) in enumerate(zip(self.blocks, self.blocks[1:], strict=False)):
            part = drawn[first:stop]
            self.link[block] = rng.gamma((1 + part.size) / 2, 2 / (1 + np.square(part).sum()))

    def _white(self, rows):
        """Rows in coordinates in which their spread is 1 and uncorrelated."""
        return np.column_stack([rows[:, :-1] @ self.root, rows[:, -1] * np.sqrt(self.bias_precision)])

    def _colored(self, rows):
        """The way back from `_white`."""
        factors = solve_triangular(self.root, rows[:, :-1].T, lower=True, trans="T").T
        return np.column_stack([factors, rows[:, -1] / np.sqrt(self.bias_precision)])

    def linear(self):
        """What the features say of each row, shape (rows, k + 1)."""
        x = in_whole_vectors(self.coefficients, self.dtype)
        out, f = np.empty((len(self.rated), x.shape[1]), self.dtype), self.by_row

        def work(first, stop):
            multiply_rows(first, stop, f.indptr, f.indices, f.data, x, lanes(self.dtype), out)

        spans.run(work, spans.cut(np.diff(f.indptr) + 1, 1e5), self.n_threads)
        return out[:, : self.coefficients.shape[1]].astype(np.float64)

    def prior(self):
        """What each row is drawn around, shape (rows, k + 1), or (1, k + 1) for all."""
        return self.mean + self.linear() if len(self.link) else self.mean[None].copy()

    # ---- the rows ---------------------------------------------------------------------

    def draw_rows(self, other, values, noise, key, errors=False):
        """All rows, given the other side; returns the sum of squared errors if wanted.

        In coordinates in which the prior is the unit normal, the factors of the other side turned the other
        way, a row is the ridge regression of alternating least squares with the noise as its penalty.
        """
        number, k = self.dtype.type, self.factors.shape[1]
        inverse = solve_triangular(self.root, np.eye(k), lower=True).astype(self.dtype)
        prior = self.prior()
        white = (prior[:, :-1] @ self.root).astype(self.dtype), prior[:, -1].astype(self.dtype)
        facing, squares = np.ascontiguousarray(other.factors @ inverse.T), np.zeros(k, self.dtype)
        weights = self.tightness[self.group].astype(self.dtype)
        penalties = number(noise**2), number(self.bias_precision[0] * noise**2)

        def work(first, stop):
            return solve_rows(
                first, stop, self.indptr, self.indices, values, number(0), facing, other.bias, *penalties,
                weights, *white, 0, squares, errors, number(noise), key, self.factors, self.bias,
            )  # fmt: skip

        results = spans.run(work, spans.cut(_work(self.indptr, k), CHUNK_WORK, most=512), self.n_threads)
        if failed := sum(result[0] for result in results):
            raise FloatingPointError(f"{failed} row(s) lost their precision in {self.dtype}")
        self.factors[...] = self.factors @ inverse
        return sum(result[1] for result in results)


class Chain:
    """The sampler: users, items and noise, drawn in turn.

    Parameters
    ----------
    ratings : Ratings
    n_factors : int
    user_features, item_features : list of csr_array
    rng : numpy.random.Generator
    dtype : str
    n_threads : int, optional
    """

    def __init__(self, ratings, n_factors, user_features, item_features, rng, dtype, n_threads):
        how = {"dtype": dtype, "n_threads": n_threads}
        self.rng = rng
        self.mean = float(ratings.values.mean(dtype=np.float64))
        self.scale = float(ratings.values.std(dtype=np.float64)) or 1.0
        self.users = Side(ratings.by_user, n_factors, user_features, free_mean=False, **how)
        self.items = Side(ratings.by_item, n_factors, item_features, free_mean=True, **how)
        self.users.factors[...] = 0.1 * rng.standard_normal(self.users.factors.shape)
        self.values = [self._standard(m.data) for m in (ratings.by_user, ratings.by_item)]
        self.noise, self.squared = np.ones(1), np.nan

    def _standard(self, values):
        return _read_only(((values - self.mean) / self.scale).astype(np.float32))

    def state(self):
        """What a sweep changes, by name."""
        sides = {"users": self.users.state(), "items": self.items.state()}
        return {f"{side}_{name}": x for side, parts in sides.items() for name, x in parts.items()} | {
            "noise": self.noise
        }

    def sweep(self):
        """Draw everything once: items, users, the distributions of both, and the noise."""
        by_user, by_item = self.values
        self.items.draw_rows(self.users, by_item, self.noise[0], self._key())
        self.squared = self.users.draw_rows(self.items, by_user, self.noise[0], self._key(), errors=True)
        self.users.draw_prior(self.rng)
        self.items.draw_prior(self.rng)
        precision = self.rng.gamma(1 + len(by_user) / 2, 1 / (1 + self.squared / 2))
        self.noise[0] = 1 / np.sqrt(precision)

    def _key(self):
        return np.uint64(self.rng.integers(2**63))


def group_of(counts):
    """The group of rows with so many ratings: by powers of two; none counts as one."""
    return np.log2(np.maximum(counts, 1)).astype(np.int64)


def shares_of_sets(matrix):
    """Which columns each row has, as shares whose squares sum to 1 (Koren 2008)."""
    n = np.diff(matrix.indptr)
    shares = np.repeat(1 / np.sqrt(np.maximum(n, 1)), n)
    return csr_array((shares, matrix.indices, matrix.indptr), shape=matrix.shape)
