"""Small nuclear-norm problems for a general conic solver, and what all solvers of them check."""

from __future__ import annotations

import numbers
import time
import warnings
from typing import NamedTuple

import numpy as np

from ..checks import check_choice, check_non_negative, check_positive, check_positive_int

__all__ = ["CvxpyResult", "nuclear_norm_cvxpy"]

FORMS = ("regularized", "equality", "weighted")
CONE_SOLVERS = ("CLARABEL", "SCS")


class CvxpyResult(NamedTuple):
    """Result of `nuclear_norm_cvxpy`.

    Attributes
    ----------
    X : ndarray, shape (m, n)
        The low-rank part; with `bias_reg` the mean and the biases are beside it.
    primal : float
        Objective, computed from X and not taken from the solver.
    status : str
        "optimal"; anything else is an error.
    solver : str
    seconds : float
        Of the solver and of CVXPY's translation for it.
    accuracy : float
        The tolerance that the solver was asked for.
    mean, user_bias, item_bias : float and ndarray
        Zero without `bias_reg`.
    """

    X: np.ndarray
    primal: float
    status: str
    solver: str
    seconds: float
    accuracy: float
    mean: float
    user_bias: np.ndarray
    item_bias: np.ndarray


def nuclear_norm_cvxpy(
    values,
    rows,
    cols,
    shape,
    lam=None,
    form="regularized",
    *,
    weights=None,
    bias_reg=None,
    box=None,
    solver="CLARABEL",
    accuracy=1e-9,
    max_iter=None,
):
    r"""Solve a nuclear-norm completion problem with a general conic solver, for small matrices.

    =============  ==================================================================================
    form           problem
    =============  ==================================================================================
    regularized    :math:`\min_X \frac12 |P_\Omega(X - Y)|^2 + \lambda |X|_*`
    weighted       the same with :math:`\lambda |D_p^{1/2} X D_q^{1/2}|_*`, p and q in `weights`
                   (Srebro and Salakhutdinov 2010)
    equality       :math:`\min_X |X|_*` subject to :math:`P_\Omega(X) = P_\Omega(Y)`
                   (Candes and Recht 2009)
    =============  ==================================================================================

    Parameters
    ----------
    values : array-like of float, shape (nnz,)
        The observed entries of Y.
    rows, cols : array-like of int, shape (nnz,)
        Where they are; no pair twice.
    shape : tuple of int
        (m, n).
    lam : float
        :math:`\lambda`, not below 0; not used by the form "equality".
    form : {"regularized", "equality", "weighted"}
    weights : pair of array-like, shape (m,) and (n,), optional
        p and q, above 0, for the form "weighted"; `marginal_weights` of the observed entries by default.
    bias_reg : float, optional
        Not for "equality": add a mean and biases to X, as `complete` does.
    box : tuple of float, optional
        Bounds (lowest, highest) on every entry of X (with its biases).
    solver : {"CLARABEL", "SCS"}
        An interior-point method, exact and slow, or a first-order method for somewhat larger ones.
    accuracy : float
        Tolerance that the solver is asked for.
    max_iter : int, optional
        Upper bound on iterations; 100,000 for SCS by default.

    Returns
    -------
    CvxpyResult

    Raises
    ------
    ValueError
        On bad arguments.
    RuntimeError
        Where the solver's status is not "optimal", an inaccurate solution included.

    Notes
    -----
    The nuclear norm becomes a semidefinite constraint on a symmetric matrix of size m + n (Fazel, Hindi
    and Boyd 2001). An interior-point step factors a matrix of size of order (m + n)^2, O((m + n)^6)
    operations; SCS takes an eigendecomposition, O((m + n)^3), a step.
    """
    import cvxpy as cp

    values, rows, cols, shape = check_entries(values, rows, cols, shape)
    check_choice("form", form, FORMS)
    check_choice("solver", solver, CONE_SOLVERS)
    if form != "equality":
        if lam is None:
            raise ValueError(f"lam: got None; expected a number not below 0 for form={form!r}")
        check_non_negative("lam", lam)
    if bias_reg is not None:
        if form == "equality":
            raise ValueError("bias_reg: got a number with form='equality'; expected None")
        check_positive("bias_reg", bias_reg)
    if weights is not None and form != "weighted":
        raise ValueError(f"weights: got arrays with form={form!r}; expected None, or form='weighted'")
    if not (isinstance(accuracy, numbers.Real) and 0 < accuracy < 1):
        raise ValueError(f"accuracy: got {accuracy!r}; expected a number between 0 and 1")
    if max_iter is not None:
        check_positive_int("max_iter", max_iter)
    box = None if box is None else _check_box(box, values, form)
    m, n = shape
    p, q = np.ones(m), np.ones(n)
    if form == "weighted":
        p, q = marginal_weights(rows, cols, shape) if weights is None else check_weights(weights, shape)
    x = cp.Variable(shape)
    whole, extra = x, 0
    if bias_reg is not None:
        mean, b, c = cp.Variable(), cp.Variable((m, 1)), cp.Variable((1, n))
        whole = x + mean + b @ np.ones((1, n)) + np.ones((m, 1)) @ c
        extra = bias_reg / 2 * (cp.sum_squares(b) + cp.sum_squares(c))
    observed = whole[rows, cols]
    constraints = [] if box is None else [whole >= box[0], whole <= box[1]]
    norm = cp.normNuc(cp.multiply(np.sqrt(np.outer(p, q)), x) if form == "weighted" else x)
    if form == "equality":
        objective = norm
        constraints.append(observed == values)
    else:
        objective = cp.sum_squares(observed - values) / 2 + lam * norm + extra
    if solver == "CLARABEL":
        options = {"tol_gap_abs": accuracy, "tol_gap_rel": accuracy, "tol_feas": accuracy}
        if max_iter is not None:
            options["max_iter"] = max_iter
    else:
        options = {"eps_abs": accuracy, "eps_rel": accuracy, "max_iters": max_iter or 100_000}
    problem = cp.Problem(cp.Minimize(objective), constraints)
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            # CVXPY warns of an inaccurate solution; here that is an error, below.
            warnings.filterwarnings("ignore", "Solution may be inaccurate")
            problem.solve(solver=solver, **options)
        status = problem.status
    except cp.SolverError as error:
        status = f"failed ({error})"
    seconds = time.perf_counter() - start
    if status != cp.OPTIMAL:
        raise RuntimeError(
            f"{solver}: got status {status!r} after {seconds:.1f} s; expected 'optimal'. Allow a larger "
            "accuracy or max_iter, take the other solver or a smaller matrix"
        )
    found = np.array(x.value)
    mean, b, c = (
        (0.0, np.zeros(m), np.zeros(n))
        if bias_reg is None
        else (float(mean.value), np.array(b.value).ravel(), np.array(c.value).ravel())
    )
    primal = np.linalg.norm(np.sqrt(p)[:, None] * found * np.sqrt(q), "nuc")
    if form != "equality":
        error = (found + mean + b[:, None] + c)[rows, cols] - values
        primal = error @ error / 2 + lam * primal + (bias_reg or 0.0) / 2 * (b @ b + c @ c)
    return CvxpyResult(found, float(primal), status, solver, seconds, accuracy, mean, b, c)


def marginal_weights(rows, cols, shape, power=1.0):
    r"""Row and column weights of the weighted nuclear norm: how often each is observed.

    :math:`p_u = (n_u / \bar n)^\alpha` with :math:`n_u` the row's number of observed entries and
    :math:`\bar n` the mean of them, and q likewise for columns; a row without any counts as one with one.
    Srebro and Salakhutdinov (2010) take the power 1 and, as a softer form, powers below it.

    Parameters
    ----------
    rows, cols : array-like of int, shape (nnz,)
    shape : tuple of int
    power : float
        :math:`\alpha`, from 0 (no weights) to 1.

    Returns
    -------
    p, q : ndarray, shape (m,) and (n,)
    """
    if isinstance(power, bool) or not isinstance(power, numbers.Real) or not 0 <= power <= 1:
        raise ValueError(f"power: got {power!r}; expected a number from 0 to 1")
    out = []
    for codes, size in ((rows, shape[0]), (cols, shape[1])):
        counts = np.bincount(codes, minlength=size)
        out.append((np.maximum(counts, 1) / counts.mean()) ** power)
    return tuple(out)


# ---- checks -----------------------------------------------------------------------


def check_entries(values, rows, cols, shape):
    try:
        m, n = (check_positive_int("shape", int(x)) for x in shape)
    except (TypeError, ValueError):
        raise ValueError(f"shape: got {shape!r}; expected a pair of whole numbers above 0") from None
    try:
        values = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"values: got {type(values).__name__}; expected numbers") from None
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"values: got shape {values.shape}; expected one dimension and at least one entry")
    if not np.isfinite(values).all():
        at = int(np.argmin(np.isfinite(values)))
        raise ValueError(f"values: got {values[at]} at position {at}; expected finite numbers")
    codes = []
    for name, x, size in (("rows", rows, m), ("cols", cols, n)):
        x = np.asarray(x)
        if x.shape != values.shape or x.dtype.kind not in "iu":
            raise ValueError(
                f"{name}: got {x.dtype} values of shape {x.shape}; expected whole numbers of shape "
                f"{values.shape}"
            )
        if x.min() < 0 or x.max() >= size:
            raise ValueError(f"{name}: got values from {x.min()} to {x.max()}; expected 0 to {size - 1}")
        codes.append(x.astype(np.int32))
    key = codes[0].astype(np.int64) * n + codes[1]
    if len(np.unique(key)) < len(key):
        raise ValueError("rows, cols: got a pair more than once; expected every entry once")
    return values, *codes, (m, n)


def check_weights(weights, shape):
    try:
        p, q = (np.array(x, dtype=np.float64) for x in weights)
    except (TypeError, ValueError):
        raise ValueError("weights: expected a pair of arrays (p, q)") from None
    for name, x, size in (("p", p, shape[0]), ("q", q, shape[1])):
        if x.shape != (size,) or not (np.isfinite(x).all() and (x > 0).all()):
            raise ValueError(f"weights: {name}: got shape {x.shape}; expected {size} finite numbers above 0")
    return p, q


def _check_box(box, values, form):
    try:
        low, high = (float(x) for x in box)
    except (TypeError, ValueError):
        raise ValueError(f"box: got {box!r}; expected a pair (lowest, highest)") from None
    if not low < high:
        raise ValueError(f"box: got {box!r}; expected lowest below highest")
    if form == "equality" and (values.min() < low or values.max() > high):
        raise ValueError(
            f"box: got {box!r}, but observed values from {values.min():g} to {values.max():g}; with "
            "form='equality' they must lie inside"
        )
    return low, high
