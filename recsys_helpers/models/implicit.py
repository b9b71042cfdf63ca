r"""Factors of what people do: least squares over all cells of a table of likes and holes.

The holes are no zeros that somebody gave; but there are so many of them that together they say something.
So every cell has a target, one or zero, and a weight, small where there is no like.
"""

from __future__ import annotations

import numpy as np
from sklearn.base import clone

from ..checks import choice, either, flag, number, optional, seed, whole
from ..kernels import spans
from ..kernels.implicit import CONJUGATE, EXACT, SUBSPACE, solve_implicit
from ..kernels.vectors import lanes
from .documented import documented
from .factors import _read_only, _squares
from .held_out import HeldOut, climb
from .liked import LikedFactors
from .positive import WEIGHTS, check_threshold, weigh
from .training import Loop

# Multiply-adds that one thread does in one go.
CHUNK_WORK = 20_000_000
# Rows that are turned into another basis at a time.
TURNED_ROWS = 8192
# Where weight and penalty are looked for, and where the search begins; penalties as shares of a row's weight.
AUTO_WEIGHTS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
AUTO_LEVELS = (0.001, 0.003, 0.01, 0.03, 0.1)
START = 0.1, 0.01
SEARCH_FACTORS, SEARCH_SWEEPS = 32, 5


@documented
class ImplicitALS(LikedFactors):
    r"""Factors of everything that was and was not liked, by alternating least squares.

    Every cell of the table has a target, 1 where the user likes the item and 0 elsewhere, and a weight: w
    everywhere, and :math:`v_{ui}` more where there is a like (Hu, Koren and Volinsky 2008). The factors
    minimize

    .. math::

        \sum_{(u,i)\in\Omega} (w+v_{ui})(1-p_u\cdot q_i)^2 + w\sum_{(u,i)\notin\Omega}(p_u\cdot q_i)^2
        + \lambda\sum_u c_u^{\nu}|p_u|^2 + \lambda\sum_i c_i^{\nu}|q_i|^2

    where :math:`c_u = wn + \sum_i v_{ui}` is all the weight of a row, and likewise for items. With
    :math:`\nu=1` the penalty grows with what is known of a row, as Rendle, Krichene, Zhang and Koren (2022)
    try it; with 0 it is the same for all.

    Parameters
    ----------
    n_factors : int
        Rank k. More factors need more users and items; 64 to 256 are usual.
    reg : float or "auto"
        :math:`\lambda`, above 0.
    unobserved_weight : float or "auto"
        w, not below 0. The smaller, the less a missing like counts as a dislike. What Hu, Koren and Volinsky
        call alpha is v / w.
    reg_exponent : float
        :math:`\nu`.
    threshold : float, None or "auto"
        The least rating that counts as a like. None: every pair does. "auto": the upper quarter of the
        scale, or every pair of a table without a scale of ratings, such as counts (see
        `settled_threshold`).
    weights : {"binary", "value", "log"}
        v: 1, the value, or log(1 + value), for tables of counts.
    solver : {"cholesky", "cg", "subspace"}
        Each row exactly; by `cg_steps` of conjugate gradients from where it was; or block after block of
        `block_size` factors (Rendle, Krichene, Zhang and Koren 2021). All end at the same kind of minimum.
    cg_steps, block_size : int
        See there; blocks are rounded up to whole vectors of the processor.
    n_sweeps : int
        Upper bound on sweeps, each of which solves for all items, then for all users.
    {tol}
    init_scale : float
        Length of the random rows that the first sweep starts from, about.
    {dtype}
    {n_threads}
    {random_state}
    {verbose}

    Attributes
    ----------
    user_factors_, item_factors_ : ndarray, shape (m, k) and (n, k)
        In the basis in which :math:`Q'Q` is diagonal.
    reg_, unobserved_weight_, threshold_ : float
        What the fit took. "auto" looks for the pair with which lists are best, by NDCG, on a fifth of the
        likes, held out for that on at most a million pairs with at most 32 factors: a walk over a lattice
        of weights and penalties, some ten short fits.
    popularity_ : ndarray of float64, shape (n,)
        Share of the users who like an item; the scores for a user without a like.
    likes_ : ndarray of int32, shape (m,)
        Liked items of each user.
    {history}
    {best_sweep}

    Notes
    -----
    The sum over all cells is :math:`w\,p_u'Q'Q\,p_u`. Before a side is solved, both are turned into the basis
    in which :math:`Q'Q` is diagonal, so that it is a penalty of its own for each factor; scores do not
    change. A row with n likes then costs :math:`nk^2+k^3/3` multiply-adds exactly (or about :math:`n^2k` for
    n below k / 2), 2 n k a step of conjugate gradients, or n k b + k b^2 by blocks of b. To turn costs
    :math:`(m+n)k^2`. Memory: factors, two copies of the likes at 8 bytes each, and some megabytes a thread.

    A newcomer's row (`fold_in`) is the exact solution. With :math:`A_u` the matrix of that system, the score
    of item i is the sum of :math:`(w+v_{uj})\,q_i'A_u^{-1}q_j` over the likes j: what `explain` shows (Hu,
    Koren and Volinsky 2008, section 5).
    """

    _parameters = {
        "n_factors": whole(),
        "reg": either("auto", number(above=0)),
        "unobserved_weight": either("auto", number()),
        "reg_exponent": number(),
        "threshold": check_threshold,
        "weights": choice(*WEIGHTS),
        "solver": choice("cholesky", "cg", "subspace"),
        "cg_steps": whole(),
        "block_size": whole(),
        "n_sweeps": whole(),
        "tol": number(),
        "init_scale": number(above=0),
        "dtype": choice("float32", "float64"),
        "n_threads": optional(whole()),
        "random_state": seed,
        "verbose": flag,
    }

    def __init__(
        self,
        n_factors=64,
        reg="auto",
        *,
        unobserved_weight="auto",
        reg_exponent=1.0,
        threshold="auto",
        weights="binary",
        solver="cholesky",
        cg_steps=3,
        block_size=32,
        n_sweeps=16,
        tol=1e-3,
        init_scale=0.1,
        dtype="float32",
        n_threads=None,
        random_state=0,
        verbose=True,
    ):
        self.n_factors = n_factors
        self.reg = reg
        self.unobserved_weight = unobserved_weight
        self.reg_exponent = reg_exponent
        self.threshold = threshold
        self.weights = weights
        self.solver = solver
        self.cg_steps = cg_steps
        self.block_size = block_size
        self.n_sweeps = n_sweeps
        self.tol = tol
        self.init_scale = init_scale
        self.dtype = dtype
        self.n_threads = n_threads
        self.random_state = random_state
        self.verbose = verbose

    def _fit(self, ratings, validation, *, checkpoint=None):
        by_user = self._likes(ratings).astype(self.dtype)
        self.unobserved_weight_, self.reg_ = _settled(self, by_user)
        items, users = _sides(self, by_user)
        self._start(by_user.shape)
        with Loop(
            self, "sweep", self.n_sweeps, get=self._state, put=self._put, checkpoint=checkpoint
        ) as loop:
            for _ in loop:
                items.solve(self.user_factors_, self.item_factors_)
                squared = users.solve(self.item_factors_, self.user_factors_, loss=True)
                penalty = users.penalty(self.user_factors_) + items.penalty(self.item_factors_)
                loop.report(objective=squared + penalty)
        self.item_spectrum_ = _squares(np.ascontiguousarray(self.item_factors_.T))

    def _start(self, shape):
        """Small random rows on both sides."""
        rng, dtype = np.random.default_rng(self.random_state), np.dtype(self.dtype)
        scale = dtype.type(self.init_scale / np.sqrt(self.n_factors))
        self.user_factors_, self.item_factors_ = (
            rng.standard_normal((rows, self.n_factors), dtype=dtype) * scale for rows in shape
        )

    def _state(self):
        return {"user_factors_": self.user_factors_, "item_factors_": self.item_factors_}

    def _put(self, state):
        for name, array in state.items():
            getattr(self, name)[...] = array

    # ---- newcomers and reasons ------------------------------------------------------

    def _row_reg(self, weights):
        """The penalty of one row."""
        total = float(weights.sum(dtype=np.float64)) + self.unobserved_weight_ * len(self.item_factors_)
        return self.reg_ * total**self.reg_exponent

    def _person(self, codes, values):
        """One row of the users' half-sweep."""
        dtype, w = self.item_factors_.dtype, self.unobserved_weight_
        weights = weigh(values, self.weights).astype(dtype)
        out, spectrum, reg = np.zeros((1, self.n_factors), dtype), self.item_spectrum_, self._row_reg(weights)
        indptr, codes, weights = map(_read_only, (np.array([0, len(codes)], np.int32), codes, weights))
        solve_implicit(
            0, 1, indptr, codes, weights, dtype.type(w), self.item_factors_, (w * spectrum).astype(dtype),
            spectrum.astype(dtype), np.array([reg], dtype), EXACT, 0, False, out,
        )  # fmt: skip
        return out[0]

    def _explain(self, codes, values, item, *, user=None, newcomer=None):
        liked = values >= self.threshold_
        weights = np.zeros(len(codes))
        weights[liked] = weigh(values[liked], self.weights)
        diagonal = self.unobserved_weight_ * self.item_spectrum_ + self._row_reg(weights)
        q = self.item_factors_[codes].astype(np.float64)
        system = (q.T * weights) @ q + np.diag(diagonal)
        closeness = q @ np.linalg.solve(system, self.item_factors_[item].astype(np.float64))
        parts = np.where(liked, (self.unobserved_weight_ + weights) * closeness, 0.0)
        score = self._prediction_of(item, user, newcomer)
        return self._reasons(codes, values, parts, score - parts.sum(), liked=liked, closeness=closeness)


def _sides(model, by_user):
    """(items, users): the two halves of a sweep."""
    return _Side(model, by_user.T.tocsr()), _Side(model, by_user)


class _Side:
    """One half of a sweep: the rows of a matrix, and what does not change between sweeps."""

    def __init__(self, model, matrix):
        dtype, k, w = np.dtype(model.dtype), model.n_factors, model.unobserved_weight_
        self.n_threads, self.weight = model.n_threads, dtype.type(w)
        self.method = {"cholesky": EXACT, "cg": CONJUGATE, "subspace": SUBSPACE}[model.solver]
        whole_vectors = -(-model.block_size // lanes(dtype)) * lanes(dtype)
        self.steps = whole_vectors if self.method == SUBSPACE else model.cg_steps
        same = (matrix.data == 1).all()
        weights = np.zeros(0, dtype) if same else matrix.data
        self.rows = [_read_only(x) for x in (matrix.indptr, matrix.indices, weights)]
        counts = np.diff(matrix.indptr)
        total = counts if same else np.asarray(matrix.sum(axis=1), dtype=np.float64).ravel()
        self.reg = (model.reg_ * (total + w * matrix.shape[1]) ** model.reg_exponent).astype(dtype)
        # What the squares of targets have more than the objective.
        self.constant = w * float(np.sum((w + matrix.data.astype(np.float64)) / matrix.data))
        self.bounds = spans.cut((counts * (k + 20.0) + (k + 20.0) ** 2) * (k + 1), CHUNK_WORK, most=512)

    def solve(self, factors, out, *, loss=False):
        """Turn both sides into the basis that suits `factors`, and solve for the rows of `out`, in place.

        Returns the sum of weighted squared errors over all cells, if wanted.
        """
        spectrum, basis = np.linalg.eigh(gram_of(factors))
        turn(factors, basis)
        if self.method != EXACT:
            turn(out, basis)
        spectrum = np.maximum(spectrum, 0.0)
        diagonal, squares = (
            (spectrum * self.weight).astype(out.dtype),
            (spectrum / len(factors)).astype(out.dtype),
        )

        def work(first, stop):
            return solve_implicit(
                first, stop, *self.rows, self.weight, factors, diagonal, squares, self.reg, self.method,
                self.steps, loss, out,
            )  # fmt: skip

        results = spans.run(work, self.bounds, self.n_threads)
        if not loss:
            return 0.0
        everywhere = float(self.weight) * float(np.einsum("uf,uf->f", out, out, dtype=np.float64) @ spectrum)
        return sum(r[1] for r in results) - self.constant + everywhere

    def penalty(self, factors):
        return float(self.reg @ _squares(factors))


def gram_of(factors):
    """F'F in float64, summed over blocks of rows."""
    total = np.zeros((factors.shape[1],) * 2)
    for first in range(0, len(factors), TURNED_ROWS):
        block = factors[first : first + TURNED_ROWS]
        total += block.T @ block
    return total


def turn(factors, basis):
    """Multiply every row with the basis, in place."""
    for first in range(0, len(factors), TURNED_ROWS):
        block = factors[first : first + TURNED_ROWS]
        block[...] = block @ basis.astype(factors.dtype)


# ---- weight and penalty, where they are to be found ----------------------------------------


def _settled(model, by_user):
    """Weight of what was not observed, and penalty: as given, or found on likes that are held out."""
    weight, reg = model.unobserved_weight, model.reg
    if "auto" not in (weight, reg):
        return float(weight), float(reg)
    weights = AUTO_WEIGHTS if weight == "auto" else (float(weight),)
    levels = AUTO_LEVELS if reg == "auto" else (None,)

    def settings(w, level):
        return w, float(reg) if level is None else level * _typical(by_user, w) ** (1 - model.reg_exponent)

    held_out = HeldOut(by_user)
    start = [
        axis.index(usual) if usual in axis else 0
        for axis, usual in zip((weights, levels), START, strict=True)
    ]
    if not held_out.enough:
        return settings(weights[start[0]], levels[start[1]])
    trial = clone(model).set_params(n_factors=min(model.n_factors, SEARCH_FACTORS), solver="cholesky")

    def quality(w, level):
        trial.unobserved_weight_, trial.reg_ = settings(w, level)
        items, users = _sides(trial, held_out.train)
        trial._start(held_out.train.shape)
        for _ in range(SEARCH_SWEEPS):
            items.solve(trial.user_factors_, trial.item_factors_)
            users.solve(trial.item_factors_, trial.user_factors_)
        return held_out.ndcg(lambda rows: trial.user_factors_[rows] @ trial.item_factors_.T)

    return settings(*climb(quality, start, (weights, levels)))


def _typical(by_user, w):
    """The weight of an ordinary row, between users and items: what turns a share into a penalty."""
    m, n = by_user.shape
    return float(np.sqrt((by_user.nnz / m + w * n) * (by_user.nnz / n + w * m)))
