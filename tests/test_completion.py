"""Convex completion: the same optimum as CVXPY, and certificates that hold."""

import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import make_ratings
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import completion_dual, completion_objective, soft_impute
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from recsys_helpers import BiasedALS, NuclearNormCompletion, nuclear_norm_cvxpy
from recsys_helpers.kernels import completion as kernels
from recsys_helpers.models import nuclear as _nuclear
from recsys_helpers.models.completion import complete, marginal_weights


def problem(seed=0, shape=(20, 30), share=0.4, rank=2, noise=0.3):
    """Observed entries of a low-rank matrix with noise; every row and column has one."""
    rng = np.random.default_rng(seed)
    m, n = shape
    seen = rng.random(shape) < share
    seen[np.arange(m), np.arange(m) % n] = seen[np.arange(n) % m, np.arange(n)] = True
    rows, cols = np.nonzero(seen)
    signal = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n))
    return signal[rows, cols] + noise * rng.standard_normal(len(rows)) + 3, rows, cols, shape


# ---- kernels --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 7, 16, 35])
def test_kernels_against_dense_products(dtype, k):
    rng = np.random.default_rng(k)
    values, rows, cols, (m, n) = problem(1, (13, 17))
    matrix = csr_array((values, (rows, cols)), shape=(m, n))
    indptr, indices = matrix.indptr, matrix.indices
    u, du = (rng.standard_normal((m, k)).astype(dtype) for _ in range(2))
    v, dv = (rng.standard_normal((n, k)).astype(dtype) for _ in range(2))
    e = rng.standard_normal(len(values)).astype(dtype)
    dense = np.zeros((m, n))
    dense[rows, cols] = e
    close = dict(rtol=0, atol=1e-4 if dtype == np.float32 else 1e-12)

    out, bend = np.empty_like(e), np.empty_like(e)
    for span in ((0, 6), (6, m)):
        kernels.sampled(*span, indptr, indices, u, v, out)
    np.testing.assert_allclose(out, (u @ v.T)[rows, cols], **close)
    kernels.line(0, m, indptr, indices, u, du, v, dv, dtype(0.5), out, bend)
    np.testing.assert_allclose(out, (du @ v.T + u @ dv.T)[rows, cols] + 0.5, **close)
    np.testing.assert_allclose(bend, (du @ dv.T)[rows, cols], **close)
    sums = kernels.line_sums(e, out, bend)
    x = np.stack([e, out, bend]).astype(float)
    np.testing.assert_allclose(sums, (x @ x.T)[np.triu_indices(3)], rtol=1e-12)
    stepped = e.copy()
    kernels.step_residual(stepped, out, bend, dtype(0.3))
    np.testing.assert_allclose(stepped, e - 0.3 * out - 0.09 * bend, **close)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernels_of_the_descent_against_numpy(dtype):
    rng = np.random.default_rng(0)
    x, g, old, inverse, d = (rng.standard_normal((13, 16)).astype(dtype) for _ in range(5))
    penalties, weights, k = rng.random(16).astype(dtype), rng.random(13).astype(dtype), 5
    ridge = np.tile(penalties.astype(float), (13, 1))
    ridge[:, :k] *= weights[:, None]
    close = dict(rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-5 if dtype == np.float32 else 1e-12)

    part = g.copy()
    kernels.gradient(part, x, penalties, weights, k)
    np.testing.assert_allclose(part, ridge * x - g, **close)
    products = kernels.ridge_products(x, d, penalties, weights, k)
    np.testing.assert_allclose(products, [np.sum(ridge * d * x), np.sum(ridge * d * d)], **close)
    z = inverse.astype(float) * g
    np.testing.assert_allclose(
        kernels.preconditioned(g, old, inverse), [np.sum(z * g), np.sum(z * old)], **close
    )
    turned = d.copy()
    along = kernels.turn(turned, dtype(0.7), inverse, g)
    np.testing.assert_allclose(turned, 0.7 * d - z, **close)
    np.testing.assert_allclose(along, np.sum((0.7 * d - z) * g), **close)
    moved = x.copy()
    kernels.advance(moved, dtype(0.3), d)
    np.testing.assert_allclose(moved, x + dtype(0.3) * d, **close)


@given(st.integers(0, 2**32 - 1))
def test_the_step_along_a_line_is_the_lowest_point(seed):
    """Against a fine grid: the quartic is a sum of squares, as it is for every direction."""
    rng = np.random.default_rng(seed)
    e, a, b = rng.standard_normal((3, 5)) * 10.0 ** rng.integers(-3, 3, (3, 1))
    c = np.array([-e @ a, a @ a / 2 - e @ b, a @ b, b @ b / 2])
    c[0] = -abs(c[0])
    t = _nuclear._lowest(c)
    values = np.polyval(
        np.append(c[::-1], 0), np.concatenate([t * np.linspace(0, 3, 301), np.geomspace(1e-6, 1e6, 200)])
    )
    assert np.polyval(np.append(c[::-1], 0), t) <= values.min() + 1e-9 * np.abs(values).min()


# ---- the same optimum as others ----------------------------------------------------


CASES = {
    "plain": {},
    "joint": {"bias_reg": 2.0},
    "weighted": {"weights": True},
    "joint and weighted": {"bias_reg": 2.0, "weights": True},
}


@pytest.mark.parametrize("solver", ["CLARABEL", "SCS"])
@pytest.mark.parametrize("case", CASES)
def test_agreement_with_cvxpy(case, solver):
    """Objective to 1e-7, entries to 1e-5, and each inside the other's gap."""
    options = dict(CASES[case])
    values, rows, cols, shape = problem(1, (12, 18) if solver == "CLARABEL" else (20, 30))
    p = q = None
    if options.get("weights"):
        p, q = options["weights"] = marginal_weights(rows, cols, shape)
    lam = 2.0
    ours = complete(values, rows, cols, shape, lam, tol=1e-12, **options)
    # Clarabel's own measure of accuracy is about the objective, whose error is the square of X's.
    accuracy = 1e-10 if solver == "CLARABEL" else 1e-9
    form = "weighted" if "weights" in options else "regularized"
    theirs = nuclear_norm_cvxpy(
        values, rows, cols, shape, lam, form, solver=solver, accuracy=accuracy, **options
    )
    assert theirs.status == "optimal" and theirs.solver == solver and theirs.seconds > 0
    low_rank = ours.user_factors @ ours.item_factors.T
    assert ours.certificate.primal == pytest.approx(theirs.primal, rel=1e-7)
    np.testing.assert_allclose(low_rank, theirs.X, rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours.user_bias, theirs.user_bias, rtol=0, atol=1e-5)
    assert ours.mean == pytest.approx(theirs.mean, abs=1e-5)
    # Our lower bound holds for their point, and theirs (from their residual) for ours.
    beta = options.get("bias_reg")
    state = ours.mean, ours.user_bias, ours.item_bias
    primal = completion_objective(low_rank, *state, values, rows, cols, lam, beta or 0.0, p, q)
    assert ours.certificate.primal == pytest.approx(primal, rel=1e-12)
    assert ours.certificate.dual <= theirs.primal * (1 + 1e-12)
    theta = np.zeros(shape)
    whole = theirs.X + theirs.mean + theirs.user_bias[:, None] + theirs.item_bias
    theta[rows, cols] = values - whole[rows, cols]
    if beta:
        theta[rows, cols] -= theta[rows, cols].mean()
    spread = np.ones(shape) if p is None else 1 / np.sqrt(np.outer(p, q))
    theta *= min(1, lam / np.linalg.norm(theta * spread, 2))
    bound = completion_dual(theta, values, rows, cols, shape, lam, beta, True, p, q)
    assert bound <= ours.certificate.primal * (1 + 1e-12)
    assert theirs.primal - bound <= 1e-5 * theirs.primal


def test_a_fixed_mean_agrees_with_biased_als(medium):
    """Chapter 4's model at sufficient rank: twice the objective, the same optimum."""
    reg, bias_reg = 4.0, 2.0
    model = NuclearNormCompletion(reg, bias_reg=bias_reg, fix_mean=True, tol=1e-9, verbose=False).fit(medium)
    als = BiasedALS(
        model.rank_ + 2, reg, bias_reg=bias_reg, n_sweeps=3000, tol=1e-12, dtype="float64", init_scale=1.0,
        verbose=False,
    ).fit(medium)  # fmt: skip
    half = als.history_["objective"].iloc[-1] / 2
    assert model.dual_ <= half
    assert half == pytest.approx(model.primal_, rel=1e-6)
    np.testing.assert_allclose(model.predict(medium), als.predict(medium), atol=5e-3)
    free = clone(model).set_params(fix_mean=False).fit(medium)
    assert free.primal_ < model.primal_
    assert model.mean_ == pytest.approx(medium.values.mean(), rel=1e-6) and free.mean_ != model.mean_


def test_agreement_with_soft_impute():
    values, rows, cols, shape = problem(4, share=0.7)
    ours = complete(values, rows, cols, shape, 3.0, tol=1e-10)
    np.testing.assert_allclose(ours.dense(), soft_impute(values, rows, cols, shape, 3.0, 500), atol=1e-4)


def test_equality_recovers_a_low_rank_matrix():
    values, rows, cols, shape = problem(1, (15, 15), share=0.75, rank=1, noise=0.0)
    found = nuclear_norm_cvxpy(values - 3, rows, cols, shape, form="equality", solver="SCS", accuracy=1e-8)
    np.testing.assert_allclose(found.X[rows, cols], values - 3, atol=1e-5)
    assert found.primal == pytest.approx(np.linalg.norm(found.X, "nuc"))
    s = np.linalg.svd(found.X, compute_uv=False)
    assert s[1] < 1e-3 * s[0]


def test_box():
    values, rows, cols, shape = problem(3, (8, 9))
    free = nuclear_norm_cvxpy(values, rows, cols, shape, 0.5)
    boxed = nuclear_norm_cvxpy(values, rows, cols, shape, 0.5, box=(1, 5))
    assert free.X.min() < 1 - 1e-3 or free.X.max() > 5 + 1e-3
    assert boxed.X.min() >= 1 - 1e-6 and boxed.X.max() <= 5 + 1e-6
    assert boxed.primal > free.primal


def test_an_inaccurate_solution_is_an_error():
    values, rows, cols, shape = problem(0, (8, 9))
    with pytest.raises(RuntimeError, match="SCS: got status .*expected 'optimal'"):
        nuclear_norm_cvxpy(values, rows, cols, shape, 1.0, solver="SCS", max_iter=3)
    with pytest.raises(RuntimeError, match="CLARABEL: got status"):
        nuclear_norm_cvxpy(values, rows, cols, shape, 1.0, max_iter=2)


# ---- the certificate -----------------------------------------------------------------


def quiet(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return complete(*arguments, **options)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    m=st.integers(2, 14),
    n=st.integers(2, 14),
    lam=st.floats(0.05, 20),
    biases=st.booleans(),
    weighted=st.booleans(),
    steps=st.integers(1, 60),
)
def test_the_gap_bounds_the_distance(seed, m, n, lam, biases, weighted, steps):
    values, rows, cols, shape = problem(seed, (m, n), share=0.5)
    options = {"bias_reg": 1.5 if biases else None}
    if weighted:
        options["weights"] = marginal_weights(rows, cols, shape, 0.7)
    rough = quiet(values, rows, cols, shape, lam, tol=0.0, max_iter=steps, **options)
    # Weights and a small lambda make for long valleys: a thousand steps are not always enough.
    fine = quiet(values, rows, cols, shape, lam, tol=1e-10, max_iter=20_000, **options)
    assert fine.certificate.gap <= 1e-8
    best = fine.certificate.primal
    assert (rough.history["gap"] >= 0).all()
    assert (rough.history["primal"] >= fine.certificate.dual * (1 - 1e-12)).all()
    assert (rough.history["dual"] <= best * (1 + 1e-12)).all()
    assert (
        rough.history["primal"] - best <= rough.history["gap"] * rough.history["primal"] + 1e-12 * best
    ).all()


@pytest.mark.parametrize("shape", [(60, 90), (90, 60)])
def test_the_spectral_norm_is_bounded_from_above(shape, monkeypatch):
    """Against a dense singular value decomposition, at every certificate of a run; and the bound is tight."""
    seen = []
    bounds = _nuclear.Spectrum.bounds

    def spy(self, e, *arguments):
        low, high, *rest = bounds(self, e, *arguments)
        matrix = csr_array((e, self.problem.indices, self.problem.indptr), shape=self.problem.shape)
        seen.append((low, np.linalg.norm(matrix.toarray(), 2), high))
        return low, high, *rest

    monkeypatch.setattr(_nuclear.Spectrum, "bounds", spy)
    complete(*problem(5, shape, share=0.2, noise=1.0), 4.0, tol=1e-8)
    low, true, high = np.array(seen).T
    assert len(seen) >= 3
    assert (low <= true * (1 + 1e-12)).all() and (high >= true * (1 - 1e-12)).all()
    assert high[-1] / true[-1] - 1 < 1e-6


@pytest.mark.parametrize("options", [{}, {"bias_reg": 1.0}])
def test_a_large_lambda_gives_zero_and_no_gap(options):
    values, rows, cols, shape = problem(6)
    dense = np.zeros(shape)
    dense[rows, cols] = values
    lam = 1.001 * np.linalg.norm(dense, 2)
    result = complete(values, rows, cols, shape, lam, tol=1e-12, **options)
    assert result.rank == 0 and not result.user_factors.size
    assert result.certificate.gap <= 1e-12
    if not options:
        assert result.certificate.gap == 0.0
        assert not result.dense().any()
        below = complete(values, rows, cols, shape, 0.99 * np.linalg.norm(dense, 2), tol=1e-9)
        assert below.rank == 1


@pytest.mark.parametrize("options", [{}, {"bias_reg": 2.0}])
def test_order_of_rows_columns_and_entries_does_not_matter(options):
    values, rows, cols, (m, n) = problem(7)
    rng = np.random.default_rng(0)
    r, c, t = rng.permutation(m), rng.permutation(n), rng.permutation(len(values))
    one = complete(values, rows, cols, (m, n), 2.0, tol=1e-11, **options).dense()
    other = complete(values[t], r[rows[t]], c[cols[t]], (m, n), 2.0, tol=1e-11, **options).dense()
    turned = complete(values, cols, rows, (n, m), 2.0, tol=1e-11, **options).dense()
    np.testing.assert_allclose(other[r][:, c], one, atol=1e-5)
    np.testing.assert_allclose(turned.T, one, atol=1e-5)


def test_a_shift_of_all_ratings_moves_only_the_free_mean():
    values, rows, cols, shape = problem(8)
    one = complete(values, rows, cols, shape, 2.0, bias_reg=2.0, tol=1e-11)
    other = complete(values + 10, rows, cols, shape, 2.0, bias_reg=2.0, tol=1e-11)
    assert other.mean - one.mean == pytest.approx(10, abs=1e-6)
    assert other.certificate.primal == pytest.approx(one.certificate.primal, rel=1e-9)
    np.testing.assert_allclose(other.user_bias, one.user_bias, atol=1e-5)


def test_a_start_from_the_solution_needs_no_step():
    entries = problem(9)
    one = complete(*entries, 2.0, bias_reg=2.0, tol=1e-8)
    again = complete(*entries, 2.0, bias_reg=2.0, tol=1e-8, start=one)
    assert again.history["steps"].iloc[-1] == 0
    assert again.certificate.primal == pytest.approx(one.certificate.primal, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_uneven_weights(seed):
    """Where they differ by factors of thousands, a step that suits heavy rows throws light ones far off."""
    values, rows, cols, shape = problem(seed, (30, 40), noise=1.0)
    options = {"weights": (np.geomspace(0.03, 3, 30), np.geomspace(0.03, 3, 40)), "tol": 1e-5}
    zero = complete(values, rows, cols, shape, 1e5, **options)
    assert zero.rank == 0
    cold = complete(values, rows, cols, shape, 12.0, **options)
    assert cold.history["primal"][0] < 10 * zero.certificate.primal
    warm = complete(values, rows, cols, shape, 12.0, start=zero, **options)
    assert cold.rank > 0 and warm.converged
    assert warm.certificate.primal == pytest.approx(cold.certificate.primal, rel=2e-5)


def test_a_gap_that_is_not_reached_is_said():
    entries = problem(10)
    with pytest.warns(
        ConvergenceWarning, match=r"complete: got a relative gap of .* expected at most tol=1e-09"
    ):
        result = complete(*entries, 2.0, tol=1e-9, max_iter=3)
    assert not result.converged and result.certificate.gap > 1e-9
    with pytest.warns(ConvergenceWarning, match="larger max_rank"):
        capped = complete(*entries, 0.5, tol=1e-6, max_rank=2, max_iter=200)
    assert capped.rank == 2
    full = complete(*entries, 0.5, tol=1e-6)
    assert full.rank > 2 and capped.certificate.dual <= full.certificate.primal < capped.certificate.primal


# ---- the model ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(medium):
    return NuclearNormCompletion(4.0, tol=1e-8, verbose=False).fit(medium)


def test_attributes(fitted, medium):
    m, n = medium.shape
    k = fitted.rank_
    assert fitted.user_factors_.shape == (m, k) and fitted.item_factors_.shape == (n, k)
    for factors in (fitted.user_factors_, fitted.item_factors_):
        np.testing.assert_allclose(factors.T @ factors, np.diag(fitted.singular_values_), atol=1e-8)
    assert (np.diff(fitted.singular_values_) <= 0).all()
    assert fitted.certificate_ == (fitted.primal_, fitted.dual_, fitted.gap_)
    assert 0 <= fitted.gap_ <= 1e-8 and fitted.converged_
    columns = ["seconds", "primal", "dual", "gap", "rank", "steps", "validation_rmse"]
    assert fitted.history_.columns.tolist() == columns
    assert fitted.history_["gap"].iloc[-1] == fitted.gap_
    primal = completion_objective(
        fitted.user_factors_ @ fitted.item_factors_.T, fitted.mean_, fitted.user_bias_, fitted.item_bias_,
        medium.values.astype(float), medium.user_codes, medium.item_codes, 4.0, 3.0,
    )  # fmt: skip
    assert fitted.primal_ == pytest.approx(primal, rel=1e-12)


def test_predictions(fitted, medium):
    expected = (
        fitted.mean_
        + fitted.user_bias_[:, None]
        + fitted.item_bias_
        + fitted.user_factors_ @ fitted.item_factors_.T
    )
    np.testing.assert_allclose(
        fitted.predict(medium), expected[medium.user_codes, medium.item_codes], rtol=1e-12
    )
    user, film = medium.user_ids[2], medium.item_ids[2]
    pairs = pd.DataFrame({"userId": [user, 999_999, 999_999], "movieId": [999_999, film, 999_999]})
    means = fitted.mean_ + np.array([fitted.user_bias_[2], fitted.item_bias_[2], 0])
    np.testing.assert_allclose(fitted.predict(pairs), means, rtol=1e-12)
    best = fitted.recommend(user, n=1, exclude_rated=False)
    assert best["movieId"][0] == medium.item_ids[np.argmax(expected[2])]


@pytest.mark.parametrize(
    "options", [{}, {"joint": False}, {"weighted": True}, {"weighted": 0.5, "joint": False}]
)
def test_fold_in_of_a_training_user_gives_that_user(medium, options):
    model = NuclearNormCompletion(4.0, tol=1e-10, verbose=False, **options).fit(medium)
    for user in (0, 11, 59):
        frame = medium[medium.user_codes == user].to_frame().sample(frac=1, random_state=0)
        new = model.fold_in(frame)
        np.testing.assert_allclose(new.factors, model.user_factors_[user], atol=1e-4)
        assert new.bias == pytest.approx(model.user_bias_[user], abs=1e-4)
    new = model.fold_in({5: 5.0, 9: 1.0, 10**6: 3.0})
    assert new.ignored.tolist() == [10**6]
    prediction = new.predict([5, 9, 123456])
    assert prediction[0] > prediction[1]
    assert prediction[2] == pytest.approx(model.mean_ + new.bias)
    told = new.explain(7)
    assert told.attrs["baseline"] + told["contribution"].sum() == pytest.approx(new.predict([7])[0], abs=1e-9)


def test_biases_before(medium):
    """joint=False is completion of what a ridge regression of biases leaves."""
    model = NuclearNormCompletion(4.0, bias_reg=2.0, joint=False, tol=1e-9, verbose=False).fit(medium)
    m, n = medium.shape
    u, i = medium.user_codes, medium.item_codes
    x = np.zeros((len(medium), 1 + m + n))
    x[:, 0] = x[np.arange(len(u)), 1 + u] = x[np.arange(len(u)), 1 + m + i] = 1
    penalty = np.diag(np.append(0.0, np.full(m + n, 2.0)))
    ridge = np.linalg.solve(x.T @ x + penalty, x.T @ medium.values)
    np.testing.assert_allclose(
        np.concatenate([[model.mean_], model.user_bias_, model.item_bias_]), ridge, atol=1e-6
    )
    rest = complete(medium.values - x @ ridge, u, i, medium.shape, 4.0, tol=1e-9)
    np.testing.assert_allclose(
        model.user_factors_ @ model.item_factors_.T, rest.user_factors @ rest.item_factors.T, atol=1e-4
    )
    assert model.primal_ == pytest.approx(rest.certificate.primal, rel=1e-8)


def test_path(medium):
    rng = np.random.default_rng(0)
    held = rng.random(len(medium)) < 0.2
    train, validation = medium[~held], medium[held]
    model = NuclearNormCompletion(tol=1e-4, verbose=False)
    table, models = model.path(train, [2.0, 8.0, 4.0, 30.0], validation)
    assert table.index.tolist() == [30.0, 8.0, 4.0, 2.0]
    assert (table["gap"] <= 1e-4).all() and (np.diff(table["rank"]) >= 0).all()
    assert (np.diff(table["nuclear_norm"]) >= 0).all() and (np.diff(table["train_rmse"]) <= 0).all()
    for value, one in zip(table.index, models, strict=True):
        assert one.reg == value
        cold = clone(one).fit(train)
        assert cold.dual_ <= one.primal_ * (1 + 1e-12) and one.dual_ <= cold.primal_ * (1 + 1e-12)
        error = one.predict(validation) - validation.values
        assert table.loc[value, "validation_rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-12)
    assert not hasattr(model, "train_")


def test_threads_do_not_change_a_bit(medium, monkeypatch):
    monkeypatch.setattr(_nuclear, "CHUNK_WORK", 2e3)
    fits = [NuclearNormCompletion(4.0, n_threads=t, tol=1e-6, verbose=False).fit(medium) for t in (1, 2, 5)]
    for other in fits[1:]:
        assert fits[0].user_factors_.tobytes() == other.user_factors_.tobytes()
        assert fits[0].item_bias_.tobytes() == other.item_bias_.tobytes()
        assert fits[0].certificate_ == other.certificate_


def test_a_user_and_a_film_without_ratings(medium):
    keep = (medium.user_codes != 5) & (medium.item_codes != 7)
    for options in ({}, {"weighted": True}, {"joint": False}):
        model = NuclearNormCompletion(4.0, verbose=False, **options).fit(medium[keep])
        assert np.abs(model.user_factors_[5]).max() < 1e-12 and model.user_bias_[5] == 0
        assert np.abs(model.item_factors_[7]).max() < 1e-12 and model.item_bias_[7] == 0
        assert np.isfinite(model.predict(medium)).all()


def test_equal_ratings():
    """There is nothing to fit but the mean, and sums of squares are 0 or hardly more."""
    u, i = np.divmod(np.arange(6), 2)
    result = complete(np.full(6, 3.0), u, i, (3, 2), 1.0, bias_reg=1.0)
    assert result.mean == pytest.approx(3.0) and result.rank == 0 and result.certificate.gap <= 1e-4


def test_one_rating():
    model = NuclearNormCompletion(1.0, verbose=False).fit(make_ratings([(1, 2, 4.0)]))
    assert model.mean_ == pytest.approx(4.0) and model.gap_ == 0 and model.rank_ == 0


# ---- bad arguments --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reg": 0.0}, "reg: got 0"),
        ({"reg": -1.0}, "reg: got -1"),
        ({"bias_reg": 0}, "bias_reg: got 0"),
        ({"bias_reg": None}, "bias_reg: got None"),
        ({"joint": "yes"}, "joint: got 'yes'"),
        ({"fix_mean": 3}, "fix_mean: got 3"),
        ({"weighted": 1.5}, "weighted: got 1.5"),
        ({"weighted": None}, "weighted: got None"),
        ({"max_rank": 0}, "max_rank: got 0"),
        ({"tol": -1e-4}, "tol: got -0.0001"),
        ({"max_iter": 0}, "max_iter: got 0"),
        ({"n_threads": 0}, "n_threads: got 0"),
    ],
)
def test_bad_parameters(toy, options, words):
    with pytest.raises(ValueError, match=words):
        NuclearNormCompletion(verbose=False, **options).fit(toy)


def test_bad_calls(toy, fitted):
    with pytest.raises(NotFittedError):
        NuclearNormCompletion().fold_in({1: 3.0})
    with pytest.raises(TypeError, match="ratings: got list"):
        NuclearNormCompletion().fit([1])
    with pytest.raises(TypeError, match="validation: got str"):
        NuclearNormCompletion().fit(toy, "x")
    for bad in ([], [[1.0]]):
        with pytest.raises(ValueError, match="lambdas: got shape"):
            NuclearNormCompletion().path(toy, bad)
    with pytest.raises(ValueError, match="lambdas: got -1"):
        NuclearNormCompletion().path(toy, [1.0, -1.0])
    with pytest.raises(ValueError, match="no item that was in training"):
        fitted.fold_in({10**6: 3.0})


GOOD = ([1.0, 2.0], [0, 1], [1, 0], (2, 2))


@pytest.mark.parametrize(
    ("place", "bad", "words"),
    [
        (0, [], "values: got shape"),
        (0, [[1.0, 2.0]], "values: got shape"),
        (0, [1.0, np.nan], "values: got nan at position 1"),
        (0, ["a", "b"], "values: got list; expected numbers"),
        (1, [0], "rows: got int64 values of shape"),
        (1, [0.0, 1.0], "rows: got float64"),
        (1, [0, 2], "rows: got values from 0 to 2; expected 0 to 1"),
        (2, [-1, 0], "cols: got values from -1"),
        (2, [1, 1], None),
        (3, 5, "shape: got 5"),
        (3, (2, 0), "shape: got"),
    ],
)
def test_bad_entries(place, bad, words):
    arguments = list(GOOD)
    arguments[place] = bad
    if words is None:
        arguments[1] = [0, 0]
        words = "rows, cols: got a pair more than once"
    for function in (complete, nuclear_norm_cvxpy):
        with pytest.raises(ValueError, match=words):
            function(*arguments, 1.0)


def test_bad_options():
    for options, words in (
        ({"lam": 0.0}, "lam: got 0"),
        ({"weights": ([1.0, 1.0], [1.0])}, "weights: q: got shape"),
        ({"weights": ([1.0, -1.0], [1.0, 1.0])}, "weights: p: "),
        ({"weights": 3}, "weights: expected a pair"),
        ({"mean": 3.0}, "mean: got 3.0 without bias_reg"),
        ({"mean": np.nan, "bias_reg": 1.0}, "mean: got nan"),
        ({"start": complete([1.0], [0], [0], (1, 1), 0.5)}, "start: got a result of shape"),
    ):
        with pytest.raises(ValueError, match=words):
            complete(*GOOD, **({"lam": 1.0} | options))
    for options, words in (
        ({}, "lam: got None"),
        ({"lam": -1.0}, "lam: got -1"),
        ({"lam": 1.0, "form": "rank"}, "form: got 'rank'"),
        ({"lam": 1.0, "solver": "MOSEK"}, "solver: got 'MOSEK'"),
        ({"lam": 1.0, "accuracy": 0}, "accuracy: got 0"),
        ({"lam": 1.0, "max_iter": 0}, "max_iter: got 0"),
        ({"lam": 1.0, "box": 3}, "box: got 3"),
        ({"lam": 1.0, "box": (5, 1)}, "box: got"),
        ({"lam": 1.0, "weights": ([1, 1], [1, 1])}, "weights: got arrays with form='regularized'"),
        ({"form": "equality", "bias_reg": 1.0}, "bias_reg: got a number with form='equality'"),
        ({"form": "equality", "box": (1.5, 5)}, "observed values from 1 to 2"),
    ):
        with pytest.raises(ValueError, match=words):
            nuclear_norm_cvxpy(*GOOD, **options)
    with pytest.raises(ValueError, match="power: got 2"):
        marginal_weights([0], [0], (1, 1), 2)
