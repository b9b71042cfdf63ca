import numpy as np
import pandas as pd
import pytest
from conftest import make_ratings
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from recsys_helpers import ImplicitALS, Ratings
from recsys_helpers.kernels.implicit import CONJUGATE, EXACT, SUBSPACE, solve_implicit
from recsys_helpers.models.held_out import HeldOut, climb
from recsys_helpers.models.implicit import gram_of, turn

EXACTLY = dict(dtype="float64", tol=0.0, verbose=False, threshold=None)


def rows_of(rng, lengths, columns, k, weighted):
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    indices = np.concatenate([np.sort(rng.choice(columns, n, replace=False)) for n in lengths]).astype(
        np.int32
    )
    weights = rng.uniform(0.2, 5, len(indices)) if weighted else np.ones(len(indices))
    factors = rng.normal(0, 0.5, (columns, k))
    turn(factors, np.linalg.eigh(gram_of(factors))[1])
    return indptr, indices, weights, factors


def by_hand(indptr, indices, weights, w, factors, reg):
    """Each row from its k x k system; what the row's squares come to."""
    out, total = np.zeros((len(indptr) - 1, factors.shape[1])), 0.0
    for row in range(len(out)):
        span = slice(indptr[row], indptr[row + 1])
        if indptr[row] == indptr[row + 1]:
            continue
        q, v = factors[indices[span]], weights[span]
        system = w * factors.T @ factors + (q.T * v) @ q + reg[row] * np.eye(len(q.T))
        out[row] = np.linalg.solve(system, q.T @ (w + v))
        total += np.sum(((w + v) / np.sqrt(v) - np.sqrt(v) * (q @ out[row])) ** 2)
    return out, total


def solve(indptr, indices, weights, w, factors, reg, method, steps, start, dtype):
    number, gram = np.dtype(dtype).type, np.diag(gram_of(factors))
    weights = np.zeros(0, dtype) if (weights == 1).all() else weights.astype(dtype)
    out = start.astype(dtype)
    failed, total = solve_implicit(
        0, len(out), indptr, indices, weights, number(w), factors.astype(dtype), (w * gram).astype(dtype),
        (gram / len(factors)).astype(dtype), reg.astype(dtype), method, steps, True, out,
    )  # fmt: skip
    assert failed == 0
    return out, total


@settings(deadline=None, max_examples=25)
@given(
    k=st.integers(1, 40), weighted=st.booleans(), w=st.sampled_from([0.0, 0.05, 1.0]),
    dtype=st.sampled_from(["float32", "float64"]), seed=st.integers(0, 5),
)  # fmt: skip
def test_every_solver_finds_the_row_that_the_normal_equations_give(k, weighted, w, dtype, seed):
    rng = np.random.default_rng(seed)
    lengths = [0, 1, 2, 7, 19, 20, 43, 160]
    data = rows_of(rng, lengths, 200, k, weighted)
    indptr, indices, weights, factors = data
    reg = rng.uniform(0.5, 2, len(lengths))
    expected, squares = by_hand(indptr, indices, weights, w, factors, reg)
    tolerance = 1e-9 if dtype == "float64" else 2e-4
    for method, steps, passes in ((EXACT, 0, 1), (CONJUGATE, k + 5, 1), (SUBSPACE, 16, 300)):
        out = rng.normal(0, 0.1, expected.shape)
        for _ in range(passes):
            out, total = solve(indptr, indices, weights, w, factors, reg, method, steps, out, dtype)
        np.testing.assert_allclose(out, expected, atol=tolerance)
        assert total == pytest.approx(squares, rel=1e-9 if dtype == "float64" else 1e-4)


def test_rows_longer_than_the_scratch_are_solved_exactly_enough():
    rng = np.random.default_rng(1)
    for k, method in ((8, CONJUGATE), (8, SUBSPACE), (140, CONJUGATE)):
        indptr, indices, weights, factors = rows_of(rng, [2600, 30], 3000, k, True)
        reg = np.array([3.0, 2.0])
        expected, _ = by_hand(indptr, indices, weights, 0.1, factors, reg)
        out = np.zeros_like(expected)
        for _ in range(4):
            out, _ = solve(indptr, indices, weights, 0.1, factors, reg, method, 32, out, "float64")
        np.testing.assert_allclose(out, expected, atol=1e-6)


# ---- the objective ---------------------------------------------------------------------


def likes(seed=0, m=30, n=22, share=0.25, counts=False):
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((m, n)) < share)
    values = rng.integers(1, 9, len(users)) if counts else np.ones(len(users))
    return Ratings(users, items, values, None, np.arange(m), np.arange(n), scale=(0, 9))


def objective(matrix, p, q, w, reg, exponent):
    """Over all cells, as it is written in the docstring."""
    scores = p @ q.T
    total = np.sum(np.where(matrix > 0, (w + matrix) * (1 - scores) ** 2, w * scores**2))
    for sums, size, factors in ((matrix.sum(axis=1), len(q), p), (matrix.sum(axis=0), len(p), q)):
        total += reg * np.sum((sums + w * size) ** exponent * np.sum(factors**2, axis=1))
    return total


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("weights", ["binary", "value", "log"])
def test_the_history_tells_the_objective_over_all_cells(weights, exponent):
    ratings = likes(counts=True)
    model = ImplicitALS(
        5, 0.02, unobserved_weight=0.3, reg_exponent=exponent, weights=weights, n_sweeps=6, **EXACTLY
    ).fit(ratings)
    matrix = np.zeros(ratings.shape)
    matrix[ratings.user_codes, ratings.item_codes] = {
        "binary": np.ones(len(ratings)), "value": ratings.values, "log": np.log1p(ratings.values),
    }[weights]  # fmt: skip
    told = model.history_["objective"].to_numpy()
    found = objective(matrix, model.user_factors_, model.item_factors_, 0.3, 0.02, exponent)
    assert told[-1] == pytest.approx(found, rel=1e-6)
    assert (np.diff(told) < 0).all()


@pytest.mark.parametrize("solver", ["cholesky", "cg", "subspace"])
def test_the_fit_ends_where_a_general_minimizer_ends(solver):
    ratings = likes(m=9, n=7, share=0.4)
    model = ImplicitALS(
        2, 0.05, unobserved_weight=0.2, solver=solver, block_size=8, n_sweeps=400, **EXACTLY
    ).fit(ratings)
    matrix = np.zeros(ratings.shape)
    matrix[ratings.user_codes, ratings.item_codes] = 1

    def loss(x):
        x = x.reshape(-1, 2)
        return objective(matrix, x[:9], x[9:], 0.2, 0.05, 1.0)

    best = min(
        minimize(loss, np.random.default_rng(seed).normal(0, 0.5, 32), tol=1e-10).fun for seed in range(3)
    )
    assert model.history_["objective"].iloc[-1] == pytest.approx(best, rel=1e-4)


def test_it_is_the_model_of_hu_koren_and_volinsky():
    """With alpha = v / w and their penalty, one half-sweep is their formula for a user's factors."""
    ratings = likes()
    model = ImplicitALS(4, 0.5, unobserved_weight=1.0, reg_exponent=0.0, n_sweeps=3, **EXACTLY).fit(ratings)
    y = model.item_factors_
    for user in (0, 11):
        preference = (ratings.by_user.toarray()[user] > 0).astype(float)
        confidence = np.diag(1 + 1.0 * preference)
        theirs = np.linalg.solve(y.T @ confidence @ y + 0.5 * np.eye(4), y.T @ confidence @ preference)
        np.testing.assert_allclose(model.user_factors_[user], theirs, atol=1e-9)


def test_counts_weigh_as_that_many_likes():
    """A like with the value 5 draws a score nearer to 1 than one with the value 1."""
    once = make_ratings([(0, 0, 1), (0, 1, 1), (1, 1, 1), (1, 2, 1)])
    often = make_ratings([(0, 0, 1), (0, 1, 1), (1, 1, 1), (1, 2, 5)])
    set_up = dict(unobserved_weight=0.3, weights="value", n_sweeps=50, **EXACTLY)
    pair = pd.DataFrame({"userId": [1], "movieId": [2]})
    a, b = (ImplicitALS(2, 0.1, **set_up).fit(r).predict(pair)[0] for r in (once, often))
    assert 0 < a < b < 1


# ---- people ------------------------------------------------------------------------------


def test_a_newcomer_with_the_likes_of_a_user_gets_the_scores_of_that_user():
    ratings = likes()
    model = ImplicitALS(5, 0.02, unobserved_weight=0.3, **EXACTLY).fit(ratings)
    own = ratings.item_codes[ratings.user_codes == 4]
    person = model.fold_in(dict.fromkeys(own.tolist(), 1.0))
    np.testing.assert_allclose(person.score_items(), model.score_items(4), atol=1e-10)


def test_who_likes_nothing_gets_what_is_popular():
    ratings = make_ratings(
        [(u, i, 5.0) for u in range(12) for i in range(1 + u % 4)] + [(20, i, 1.0) for i in range(3)]
    )
    model = ImplicitALS(2, 0.02, unobserved_weight=0.3, threshold=4.0, verbose=False).fit(ratings)
    assert model.likes_[-1] == 0
    np.testing.assert_array_equal(model.score_items(20), model.popularity_)
    np.testing.assert_array_equal(model.score_items(), model.popularity_)
    grumbler = model.fold_in({0: 1.0, 1: 2.0})
    np.testing.assert_array_equal(grumbler.score_items(), model.popularity_)
    pair = pd.DataFrame({"userId": [20, -3, 3], "movieId": [1, 1, -8]})
    np.testing.assert_allclose(model.predict(pair), [model.popularity_[1]] * 2 + [0])


def test_reasons_are_the_likes_alone():
    ratings = make_ratings([(u, i, 5.0 if (u + i) % 2 else 1.0) for u in range(8) for i in range(6)])
    model = ImplicitALS(3, 0.02, unobserved_weight=0.3, **EXACTLY | {"threshold": 4.0})
    why = model.fit(ratings).explain(2, 1)
    assert (why.loc[~why["liked"], "contribution"] == 0).all() and why["liked"].sum() == 3
    assert why.attrs["baseline"] == pytest.approx(0, abs=1e-10)


# ---- settings that are found -------------------------------------------------------------


def test_the_settings_are_found_near_the_best_on_a_grid(medium):
    model = ImplicitALS(8, verbose=False).fit(medium)
    assert model.reg_ > 0 and 0 < model.unobserved_weight_ <= 1
    given = ImplicitALS(
        8, model.reg_, unobserved_weight=model.unobserved_weight_, threshold=model.threshold_, verbose=False
    ).fit(medium)
    np.testing.assert_array_equal(given.item_factors_, model.item_factors_)


def test_climbing_ends_at_the_top_of_a_ridge():
    asked = []

    def quality(a, b):
        asked.append((a, b))
        return -((a + b - 6) ** 2) - 0.1 * (a - 5) ** 2

    assert climb(quality, (0, 0), (range(7), range(7))) == (5, 1)
    assert len(asked) == len(set(asked)) < 49


def test_what_is_held_out_does_not_overlap():
    matrix = likes(m=200, n=60).by_user
    parts = HeldOut(matrix)
    assert parts.enough and parts.train.nnz + parts.held.nnz == matrix.nnz
    assert (parts.train + parts.held != matrix).nnz == 0
    assert parts.ndcg(lambda rows: parts.held[rows].toarray()) == pytest.approx(1.0)
    assert not HeldOut(likes(m=5).by_user).enough


def test_too_little_data_takes_the_usual_settings(toy):
    model = ImplicitALS(2, verbose=False).fit(toy)
    assert (model.unobserved_weight_, model.reg_) == (0.1, 0.01)


def test_bad_input():
    ratings = Ratings([0, 0, 1], [0, 1, 1], [-2, 3, 3], None, [1, 2], [1, 2], scale=(-5, 5))
    with pytest.raises(ValueError, match="weights: got 'value' with a value of -2"):
        ImplicitALS(2, weights="value", threshold=None, verbose=False).fit(ratings)
    with pytest.raises(ValueError, match="threshold: got 9, which no rating reaches"):
        ImplicitALS(2, threshold=9.0, verbose=False).fit(ratings)
    one = make_ratings([(u, 0, 1.0) for u in range(5)])
    np.testing.assert_allclose(ImplicitALS(2, verbose=False).fit(one).score_items(3), 1, atol=0.2)
