"""Alternating least squares with biases, and with genres if wanted."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from ..checks import choice, either, flag, number, optional, seed, whole
from ..data.items import check_genres, genre_shares
from ..kernels import spans
from ..kernels.als import solve_rows
from .automatic import settled, unit, warn_if_behind
from .documented import documented
from .factors import FactorModel, _read_only, _squares
from .training import Loop, outside

# Multiply-adds in one piece of work for a thread: large beside the cost of a call,
# small beside a half-sweep. Fixed, so that sums do not depend on the number of threads.
CHUNK_WORK = 2e7


@documented
class BiasedALS(FactorModel):
    r"""Biases and taste, :math:`\hat r_{ui} = \mu + b_u + b_i + p_u \cdot q_i`, by alternating least squares.

    The model minimizes

    .. math::

        \sum_{(u,i)\in\Omega}(r_{ui}-\hat r_{ui})^2
        + \sum_u w_u\,(\lambda\,|p_u|^2 + \lambda_b\,b_u^2)
        + \sum_i w_i\,(\lambda\,|q_i - \bar g_i|^2 + \lambda_b\,(b_i-\bar c_i)^2)
        + \sum_g w_g\,(\lambda_g\,|g_g|^2 + \lambda_c\,c_g^2)

    with the global mean :math:`\mu` fixed (Koren, Bell and Volinsky 2009). A film's
    factors are its own part plus the mean :math:`\bar g_i` of the factors of its genres,
    and likewise its bias, with :math:`\bar c_i`; without genres both are zero and the last
    sum is absent. With ``n_factors=0`` only the biases remain. All variants are fitted by
    the same code.

    Films, genres and users take turns. Given the others, each turn is a least-squares
    problem with one minimum, which is taken exactly (factors and bias together), so the
    objective never rises. It is not convex in all together: another `random_state` may
    end in another, usually equally good, place, and turning all p and q by the same
    rotation changes nothing.

    Parameters
    ----------
    n_factors : int
        Rank k; 0 fits biases only.
    reg : float or "auto"
        :math:`\lambda` of user factors and of films' own factors, not below 0. "auto": chosen on a slice
        of the training ratings, see `models.automatic`; about as much work as the fit itself.
    bias_reg : float or "auto"
        :math:`\lambda_b` of user biases and of films' own biases, not below 0. "auto": chosen with `reg`;
        next to a `reg` that is given, 3 (with `weighted`, 3 for an ordinary number of ratings).
    genres : bool
        Use the column genres of the training data's movies.
    genre_reg : float or "auto"
        :math:`\lambda_g` of genre factors, above 0; "auto": 10 on a scale of half a star to five, in
        proportion on others. Used with ``genres=True``, as is the next.
    genre_bias_reg : float
        :math:`\lambda_c` of genre biases, above 0.
    weighted : bool
        What the weights w are. False: 1. A Gaussian prior, whose pull towards zero (or
        towards the genres) fades as ratings come in. True: the number of ratings of the
        user, film or genre (ALS-WR, Zhou et al. 2008). The pull keeps pace with the evidence, so that
        users with many ratings are held back as much as those with few.
    n_sweeps : int
        Upper bound on sweeps; each solves films, genres and users once.
    {tol}
    {patience}
    solver : {"cholesky", "cg"}
        Exact, or `cg_steps` conjugate gradient steps a row, started from the last
        sweep's solution: cheaper for a large rank, and the objective still never rises.
    cg_steps : int
        At least 1.
    init_scale : float
        Standard deviation of the random user factors that the first sweep starts from, on a scale of half
        a star to five; on others it goes with the square root of the scale's width.
    dtype : {"float32", "float64"}
        Of factors and arithmetic. Sums over many ratings are compensated either way.
    {n_threads}
    {random_state}
    {verbose}

    Attributes
    ----------
    mean_ : float
        Global mean, in stars.
    user_factors_, item_factors_ : ndarray, shape (m, k) and (n, k)
        p and q; the latter with the part of the genres.
    user_bias_, item_bias_ : ndarray, shape (m,) and (n,)
        Zero (or the genres') where there is no training rating.
    genre_names_ : list of str
        With ``genres=True``; also `genre_factors_`, shape (G, k), and `genre_bias_`, shape (G,).
    reg_, bias_reg_, genre_reg_ : float
        What the fit took.
    {history}
    {best_sweep}

    Notes
    -----
    A sweep costs about 2 nnz k (k + 1) + (m + n) k^3 / 3 operations and reads the ratings
    twice. Memory: both orientations of the ratings and the factors.

    {fallback}
    """

    _parameters = {
        "n_factors": whole(0),
        "reg": either("auto", number()),
        "bias_reg": either("auto", number()),
        "genres": flag,
        "genre_reg": either("auto", number(above=0)),
        "genre_bias_reg": number(above=0),
        "weighted": flag,
        "n_sweeps": whole(),
        "tol": number(),
        "patience": whole(),
        "solver": choice("cholesky", "cg"),
        "cg_steps": whole(),
        "init_scale": number(above=0),
        "dtype": choice("float32", "float64"),
        "n_threads": optional(whole()),
        "random_state": seed,
        "verbose": flag,
    }

    def __init__(
        self,
        n_factors=32,
        reg="auto",
        *,
        bias_reg="auto",
        genres=False,
        genre_reg="auto",
        genre_bias_reg=5.0,
        weighted=False,
        n_sweeps=30,
        tol=1e-3,
        patience=5,
        solver="cholesky",
        cg_steps=3,
        init_scale=0.1,
        dtype="float32",
        n_threads=None,
        random_state=0,
        verbose=True,
    ):
        self.n_factors = n_factors
        self.reg = reg
        self.bias_reg = bias_reg
        self.genres = genres
        self.genre_reg = genre_reg
        self.genre_bias_reg = genre_bias_reg
        self.weighted = weighted
        self.n_sweeps = n_sweeps
        self.tol = tol
        self.patience = patience
        self.solver = solver
        self.cg_steps = cg_steps
        self.init_scale = init_scale
        self.dtype = dtype
        self.n_threads = n_threads
        self.random_state = random_state
        self.verbose = verbose

    # ---- fitting --------------------------------------------------------------

    def _fit(self, ratings, validation, *, checkpoint=None):
        if self.genres:
            check_genres(ratings)
        self._settle(ratings)
        self._start(ratings)
        nothing = prior = np.zeros((1, self.n_factors), self.dtype), np.zeros(1, self.dtype)
        genres = _Genres(self, ratings) if self.genres else None
        loop = Loop(
            self, "sweep", self.n_sweeps, get=self._state, put=self._put, validation=validation,
            advice="use reg and bias_reg above 0", checkpoint=checkpoint,
        )  # fmt: skip
        with loop:
            for _ in loop:
                self._solve_items(ratings, prior)
                if genres is not None:
                    prior = genres.solve()
                squared = self._solve_users(ratings, nothing)
                loop.report(
                    objective=squared + self._penalty(ratings, genres),
                    train_rmse=np.sqrt(squared / len(ratings)),
                )

    def _settle(self, ratings):
        """The penalties: as given, or found from the ratings."""
        penalty = settled(
            ratings, self.n_factors, self.reg, self.bias_reg, weighted=self.weighted, n_threads=self.n_threads
        )
        warn_if_behind(self, penalty)
        self.reg_, self.bias_reg_ = penalty.reg, penalty.bias_reg
        self.genre_reg_ = 10.0 * unit(ratings) if self.genre_reg == "auto" else float(self.genre_reg)

    def _start(self, ratings):
        """Small random user factors; everything else at zero."""
        k, (m, n), dtype = self.n_factors, ratings.shape, np.dtype(self.dtype)
        self.mean_ = float(ratings.values.mean(dtype=np.float64))
        self.user_factors_ = np.random.default_rng(self.random_state).standard_normal((m, k), dtype=dtype)
        self.user_factors_ *= dtype.type(self.init_scale * np.sqrt(unit(ratings)))
        self.user_bias_ = np.zeros(m, dtype)
        self.item_factors_, self.item_bias_ = np.zeros((n, k), dtype), np.zeros(n, dtype)

    def _solve_items(self, ratings, prior):
        return self._half_sweep(
            ratings.by_item, self.user_factors_, self.user_bias_, prior, self.item_factors_, self.item_bias_
        )

    def _solve_users(self, ratings, prior):
        return self._half_sweep(
            ratings.by_user, self.item_factors_, self.item_bias_, prior, self.user_factors_, self.user_bias_,
            errors=True,
        )  # fmt: skip

    def _half_sweep(self, matrix, factors, bias, prior, out, out_bias, *, errors=False, exact=False):
        """Solve all rows of one side in place; returns the sum of squared errors if wanted."""
        number = out.dtype.type
        steps = 0 if exact or self.solver == "cholesky" else self.cg_steps
        # Read-only views, as Ratings gives them: one compiled version serves all callers.
        indptr, indices, values = (_read_only(x) for x in (matrix.indptr, matrix.indices, matrix.data))
        squares, weights = np.zeros(out.shape[1], out.dtype), np.ones(1, out.dtype)
        if self.weighted:
            weights = np.diff(indptr).astype(out.dtype)
        if steps:
            squares = np.einsum("ij,ij->j", factors, factors) / number(max(len(factors), 1))

        def work(first, stop):
            return solve_rows(
                first, stop, indptr, indices, values, number(self.mean_), factors, bias,
                number(self.reg_), number(self.bias_reg_), weights, *prior, steps, squares,
                errors, number(0), np.uint64(0), out, out_bias,
            )  # fmt: skip

        cuts = spans.cut(_work(matrix.indptr, out.shape[1]), CHUNK_WORK, most=512)
        results = spans.run(work, cuts, self.n_threads)
        failed = sum(r[0] for r in results)
        if failed:
            raise ValueError(
                f"reg: got {self.reg_!r} with bias_reg={self.bias_reg_!r}; {failed} row(s) have no unique "
                f"solution with it; expected values above 0, since rows with few ratings need them"
            )
        return sum(r[1] for r in results)

    def _penalty(self, ratings, genres):
        """The regularization part of the objective, in float64."""
        user_weight = ratings.user_counts if self.weighted else 1.0
        total = self.reg_ * np.sum(user_weight * _squares(self.user_factors_))
        total += self.bias_reg_ * np.sum(user_weight * _squares(self.user_bias_[:, None]))
        item_weight = ratings.item_counts if self.weighted else 1.0
        factors, bias = self.item_factors_, self.item_bias_
        if genres is not None:
            factors, bias = factors - genres.prior[0], bias - genres.prior[1]
            total += genres.penalty()
        total += self.reg_ * np.sum(item_weight * _squares(factors))
        total += self.bias_reg_ * np.sum(item_weight * _squares(bias[:, None]))
        return float(total)

    def _state(self):
        names = ["user_factors_", "user_bias_", "item_factors_", "item_bias_"]
        if self.genres:
            names += ["genre_factors_", "genre_bias_"]
        return {name: getattr(self, name) for name in names}

    def _put(self, state):
        # In place: the turn of the genres holds on to its arrays.
        for name, array in state.items():
            getattr(self, name)[...] = array

    # ---- newcomers ----------------------------------------------------------------

    def _penalties(self, n):
        return (n if self.weighted else 1) * np.append(np.full(self.n_factors, self.reg_), self.bias_reg_)

    def _solve_row(self, codes, values):
        """One row of the user half-sweep: the ratings of a training user give that user's factors."""
        dtype = self.user_factors_.dtype
        row = _Row(np.array([0, len(codes)], np.int32), codes, values)
        factors, bias = np.zeros((1, self.n_factors), dtype), np.zeros(1, dtype)
        nothing = np.zeros_like(factors), np.zeros_like(bias)
        self._half_sweep(row, self.item_factors_, self.item_bias_, nothing, factors, bias, exact=True)
        return factors[0], float(bias[0])


class _Row(NamedTuple):
    """One row of ratings in CSR form."""

    indptr: np.ndarray
    indices: np.ndarray
    data: np.ndarray


class _Genres:
    """The turn of the genres: a ridge regression of films' factors on their genres.

    Given the films, the ratings do not enter: the best genre factors minimize
    ``sum_i w_i reg |q_i - mean of g|^2 + sum_g w_g genre_reg |g|^2``, one small system of
    G equations with k + 1 right-hand sides, in float64. Films without ratings do not
    count; they take their genres' mean afterwards.
    """

    def __init__(self, model, ratings):
        self.model = model
        names, self.share = genre_shares(ratings)
        if not names:
            warnings.warn(
                "genres: got True, but no item of the data has a genre; the model is the one without genres",
                UserWarning,
                stacklevel=outside(),
            )
        counts = ratings.item_counts
        self.rated = counts > 0
        self.weight = (counts if model.weighted else self.rated).astype(np.float64)
        # A genre's number of ratings, each split among the film's genres.
        self.genre_weight = np.ones(len(names))
        if model.weighted:
            self.genre_weight = np.maximum(self.share.T @ counts, 1.0)
        model.genre_names_ = names
        model.genre_factors_ = np.zeros((len(names), model.n_factors), model.dtype)
        model.genre_bias_ = np.zeros(len(names), model.dtype)
        self.prior = model.item_factors_ * 0, model.item_bias_ * 0

    def solve(self):
        model = self.model
        weighted = csr_array(self.share.multiply(self.weight[:, None]))
        gram = (weighted.T @ self.share).toarray()
        right = weighted.T @ np.column_stack([model.item_factors_, model.item_bias_]).astype(np.float64)
        for reg, own, target, columns in (
            (model.genre_reg_, model.reg_, model.genre_factors_, right[:, :-1]),
            (model.genre_bias_reg, model.bias_reg_, model.genre_bias_, right[:, -1]),
        ):
            target[...] = np.linalg.solve(own * gram + np.diag(reg * self.genre_weight), own * columns)
        self.prior = (
            np.ascontiguousarray((self.share @ model.genre_factors_).astype(model.dtype)),
            (self.share @ model.genre_bias_).astype(model.dtype),
        )
        model.item_factors_[~self.rated] = self.prior[0][~self.rated]
        model.item_bias_[~self.rated] = self.prior[1][~self.rated]
        return self.prior

    def penalty(self):
        model = self.model
        return model.genre_reg_ * np.sum(
            self.genre_weight * _squares(model.genre_factors_)
        ) + model.genre_bias_reg * np.sum(self.genre_weight * _squares(model.genre_bias_[:, None]))


def _work(indptr, k):
    """Multiply-adds of each row, about."""
    n = np.diff(indptr).astype(np.float64)
    return (n * (k + 20) + (k + 20) ** 2) * (k + 1)
