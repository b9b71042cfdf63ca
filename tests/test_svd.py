import numpy as np
import pandas as pd
import pytest
import reference
from conftest import make_ratings
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from recsys_helpers import BiasedALS, BiasModel
from recsys_helpers.kernels.svd import sgd_epoch, squared_error, svdpp_epoch
from recsys_helpers.kernels.vectors import lanes, padded
from recsys_helpers.models.svd import FunkSVD, ImputedSVD, PureSVD, SVDpp

EXACT = dict(dtype="float64", verbose=False)


def rows(values, k):
    """The arrays without their padding, which must be zero."""
    assert all(not a[:, k:].any() for a in values if a.ndim == 2)
    return [a[:, :k] if a.ndim == 2 else a for a in values]


def random_state(rng, m, n, k, implicit=False):
    shapes = [(m, k), m, (n, k), n] + [(n, k)] * implicit
    return [rng.normal(0, 0.3, shape) for shape in shapes]


def all_padded(state, dtype="float64"):
    return [padded(a, dtype) if a.ndim == 2 else a.astype(dtype) for a in state]


# ---- kernels ------------------------------------------------------------------------


@settings(max_examples=20, deadline=None, derandomize=True)
@given(k=st.integers(0, 40), seed=st.integers(0, 99))
def test_an_epoch_takes_the_steps_of_the_definition(k, seed):
    rng = np.random.default_rng(seed)
    m, n, nnz = 7, 9, 120
    users, items = rng.integers(0, m, nnz).astype(np.int32), rng.integers(0, n, nnz).astype(np.int32)
    values = (rng.integers(1, 11, nnz) / 2).astype(np.float32)
    state = random_state(rng, m, n, k)
    mine = all_padded(state)
    total = sgd_epoch(users, items, values, 3.4, *mine, 0.03, 0.1, 0.05, lanes("float64"))
    errors = reference.sgd_epoch(users, items, values, 3.4, *state, 0.03, 0.1, 0.05)
    assert total == pytest.approx(errors @ errors, rel=1e-12)
    for got, expected in zip(rows(mine, k), state, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-12)
    p, b, q, c = state
    error = values.astype(float) - 3.4 - b[users] - c[items] - np.sum(p[users] * q[items], axis=1)
    assert squared_error(users, items, values, 3.4, *mine, lanes("float64")) == pytest.approx(
        error @ error, rel=1e-12
    )


@settings(max_examples=20, deadline=None, derandomize=True)
@given(k=st.integers(1, 20), seed=st.integers(0, 99), extra=st.booleans())
def test_svdpp_equals_the_literal_algorithm(k, seed, extra):
    """Carrying the sum along gives what moving every y at every rating gives, whatever N(u) is."""
    rng = np.random.default_rng(seed)
    m, n = 6, 10
    table = rng.random((m, n)) < 0.5
    table[2] = False  # somebody without ratings
    seen = table | (rng.random((m, n)) < 0.3) if extra else table.copy()
    seen[4] = False  # ratings, but nothing touched
    order = rng.permutation(m).astype(np.int32)
    films = [np.flatnonzero(table[u]) for u in order]
    indptr, items = np.cumsum([0, *map(len, films)]), np.concatenate(films).astype(np.int32)
    users = np.repeat(order, np.diff(indptr))
    values = (rng.integers(1, 11, len(items)) / 2).astype(np.float32)
    touched = [np.flatnonzero(row) for row in seen]
    seen_indptr = np.cumsum([0, *map(len, touched)]).astype(np.int32)
    state = random_state(rng, m, n, k, implicit=True)
    mine, width = all_padded(state), lanes("float64")
    total = svdpp_epoch(
        order, indptr, items, values, seen_indptr, np.concatenate(touched).astype(np.int32), 3.4, *mine,
        0.03, 0.1, 0.05, width, padded(np.zeros((2, k)), "float64"),
    )  # fmt: skip
    errors = reference.svdpp_epoch(users, items, values, touched, 3.4, *state, 0.03, 0.1, 0.05)
    assert total == pytest.approx(errors @ errors, rel=1e-11)
    for got, expected in zip(rows(mine, k), state, strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-12)


# ---- by stochastic gradient descent ---------------------------------------------------


def test_one_step_by_hand():
    """One rating of 5 and one of 3 by two users: mean 4, so errors of +1 and -1 when p or q is 0."""
    ratings = make_ratings([(1, 1, 5.0), (2, 2, 3.0)])
    start = np.array([[1.0], [0.0]]), np.array([[0.5], [2.0]])
    model = FunkSVD(1, reg=0.1, bias_reg=0.0, learning_rate=0.1, n_epochs=1, **EXACT)
    model.fit(ratings, start=start)
    # Errors: 5 - 4 - 0.5 = 0.5, and 3 - 4 - 0 = -1.
    np.testing.assert_allclose(model.user_bias_, [0.05, -0.1])
    np.testing.assert_allclose(model.user_factors_[:, 0], [1 + 0.1 * (0.25 - 0.1), 0 + 0.1 * -2])
    np.testing.assert_allclose(model.item_factors_[:, 0], [0.5 + 0.1 * (0.5 - 0.05), 2 + 0.1 * -0.2])


@pytest.mark.parametrize("order", ["shuffled", "user"])
def test_it_reaches_the_minimum_that_als_reaches(medium, order):
    als = BiasedALS(3, 0.1, bias_reg=0.1, weighted=True, n_sweeps=500, tol=1e-12, **EXACT).fit(medium)
    sgd = FunkSVD(
        3, 0.1, bias_reg=0.1, learning_rate=0.02, decay=0.996, n_epochs=1200, order=order,
        track_objective=True, **EXACT,
    ).fit(medium)  # fmt: skip
    least = als.history_["objective"].iloc[-1]
    assert least * (1 - 1e-9) < sgd.history_["objective"].iloc[-1] < least * (1 + 1e-4)


@pytest.mark.parametrize("cls", [FunkSVD, SVDpp])
def test_the_objective_is_what_it_says(medium, cls):
    model = cls(4, reg=0.07, bias_reg=0.03, n_epochs=3, track_objective=True, **EXACT).fit(medium)
    p = getattr(model, "own_factors_", model.user_factors_)
    error = medium.values - model.predict(medium)
    total = error @ error
    for u, i in zip(medium.user_codes, medium.item_codes, strict=True):
        total += 0.07 * (p[u] @ p[u] + model.item_factors_[i] @ model.item_factors_[i])
        total += 0.03 * (model.user_bias_[u] ** 2 + model.item_bias_[i] ** 2)
        if cls is SVDpp:
            y = model.implicit_factors_[medium.item_codes[medium.user_codes == u]]
            total += 0.07 * np.sum(y * y)
    assert model.history_["objective"].iloc[-1] == pytest.approx(total, rel=1e-10)
    assert model.history_["train_rmse"].iloc[-1] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-10)


def test_svdpp_predicts_with_the_sum_over_the_films_of_the_user(medium):
    model = SVDpp(3, n_epochs=4, **EXACT).fit(medium)
    assert np.abs(model.implicit_factors_).max() > 0
    for user in (0, 17):
        films = medium.item_codes[medium.user_codes == user]
        x = model.own_factors_[user] + model.implicit_factors_[films].sum(axis=0) / np.sqrt(len(films))
        expected = (
            model.mean_ + model.user_bias_[user] + model.item_bias_[films] + model.item_factors_[films] @ x
        )
        np.testing.assert_allclose(model.predict(medium[medium.user_codes == user]), expected, rtol=1e-12)


def test_svdpp_with_nothing_touched_is_funk(medium):
    """Where N(u) is empty for everybody in training, all y stay at zero and the two are one model."""
    train, others = medium[medium.user_codes > 0], medium[medium.user_codes == 0]
    options = dict(n_epochs=3, learning_rate=0.02, decay=0.9, **EXACT)
    one = SVDpp(4, 0.05, **options).fit(train, implicit=others)
    two = FunkSVD(4, 0.05, order="user", **options).fit(train)
    assert not one.implicit_factors_.any()
    np.testing.assert_allclose(one.predict(train), two.predict(train), rtol=1e-10)


def test_a_start_can_be_given(medium):
    rng = np.random.default_rng(5)
    m, n = medium.shape
    start = rng.normal(0, 0.1, (m, 4)), rng.normal(0, 0.1, (n, 4))
    one, same = (FunkSVD(4, n_epochs=2, random_state=3, **EXACT).fit(medium, start=start) for _ in range(2))
    np.testing.assert_array_equal(one.user_factors_, same.user_factors_)
    assert not np.array_equal(one.user_factors_, FunkSVD(4, n_epochs=2, **EXACT).fit(medium).user_factors_)
    for cls, bad in ((FunkSVD, (start[0], start[0])), (SVDpp, (*start, start[0]))):
        with pytest.raises(ValueError, match="start: got .* of shape"):
            cls(4, **EXACT).fit(medium, start=bad)


@pytest.mark.parametrize("cls", [FunkSVD, SVDpp])
def test_same_seed_same_bits(medium, cls):
    one, same, other = (cls(5, n_epochs=3, random_state=s, verbose=False).fit(medium) for s in (1, 1, 2))
    assert one.item_factors_.tobytes() == same.item_factors_.tobytes()
    assert not np.array_equal(one.item_factors_, other.item_factors_)


@pytest.mark.parametrize("cls", [FunkSVD, SVDpp])
def test_early_stopping_goes_back_to_the_best_epoch(medium, cls):
    rng = np.random.default_rng(0)
    held = rng.random(len(medium)) < 0.2
    train, validation = medium[~held], medium[held]
    options = dict(n_factors=8, reg=0.0, bias_reg=0.0, learning_rate=0.05, n_epochs=200, **EXACT)
    model = cls(patience=2, **options).fit(train, validation)
    history = model.history_
    assert len(history) == model.best_epoch_ + 2 < 200
    assert model.best_epoch_ == history["validation_rmse"].idxmin()
    error = model.predict(validation) - validation.values
    assert np.sqrt(np.mean(error**2)) == pytest.approx(history["validation_rmse"].min(), rel=1e-9)
    assert history["objective"].isna().all()


def test_the_learning_rate_decays(medium):
    history = FunkSVD(2, learning_rate=0.02, decay=0.5, n_epochs=3, **EXACT).fit(medium).history_
    np.testing.assert_allclose(history["learning_rate"], [0.02, 0.01, 0.005])
    assert history["validation_rmse"].isna().all()


@pytest.mark.parametrize("cls", [FunkSVD, SVDpp])
def test_fold_in_solves_for_the_newcomer(medium, cls):
    """The folded-in factors and bias minimize the newcomer's part of the objective."""
    model = cls(4, reg=0.1, bias_reg=0.05, n_epochs=20, **EXACT).fit(medium)
    mine = {5: 5.0, 9: 1.0, 21: 4.0, 10**6: 2.0}
    new = model.fold_in(mine)
    assert new.ignored.tolist() == [10**6]
    films = medium.encode_items([5, 9, 21])
    z = model.implicit_factors_[films].sum(axis=0) / np.sqrt(3) if cls is SVDpp else np.zeros(4)

    def cost(t):
        error = np.array([5.0, 1, 4]) - model.mean_ - model.item_bias_[films] - t[4]
        error = error - model.item_factors_[films] @ (z + t[:4])
        return error @ error + 3 * (0.1 * t[:4] @ t[:4] + 0.05 * t[4] ** 2)

    found = np.append(new.factors - z, new.bias)
    for _ in range(20):
        assert cost(found + np.random.default_rng(0).normal(0, 1e-3, 5)) > cost(found)
    told = new.explain(medium.item_ids[30])
    prediction = new.predict([medium.item_ids[30]])[0]
    assert told.attrs["baseline"] + told["contribution"].sum() == pytest.approx(prediction, rel=1e-9)
    assert not new.recommend(80)["movieId"].isin([5, 9, 21]).any()


@pytest.mark.parametrize("cls", [FunkSVD, SVDpp])
def test_unknown_users_and_films_fall_back(medium, cls):
    model = cls(3, n_epochs=2, **EXACT).fit(medium)
    user, film = medium.user_ids[2], medium.item_ids[2]
    pairs = pd.DataFrame({"userId": [user, 999, 999], "movieId": [999_999, film, 999_999]})
    expected = [model.mean_ + model.user_bias_[2], model.mean_ + model.item_bias_[2], model.mean_]
    np.testing.assert_allclose(model.predict(pairs), expected, rtol=1e-12)


def test_nobody_is_predicted_from_random_starts(medium):
    """A film or user without training ratings keeps no random factors."""
    train = medium[(medium.user_codes != 3) & (medium.item_codes != 7)]
    model = FunkSVD(4, n_epochs=2, **EXACT).fit(train)
    assert not model.user_factors_[3].any() and not model.item_factors_[7].any()
    assert model.user_bias_[3] == model.item_bias_[7] == 0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_factors": -1}, "n_factors: got -1"),
        ({"reg": -0.1}, "reg: got -0.1"),
        ({"bias_reg": np.nan}, "bias_reg: got nan"),
        ({"learning_rate": 0}, "learning_rate: got 0"),
        ({"learning_rate": 0.5, "reg": 3.0}, "at most 1 / reg"),
        ({"decay": 0.0}, "decay: got 0.0"),
        ({"decay": 1.5}, "decay: got 1.5"),
        ({"n_epochs": 0}, "n_epochs: got 0"),
        ({"patience": 1.5}, "patience: got 1.5"),
        ({"dtype": "float16"}, "dtype: got 'float16'"),
    ],
)
@pytest.mark.parametrize("cls", [FunkSVD, SVDpp])
def test_bad_parameters(toy, cls, options, message):
    with pytest.raises(ValueError, match=message):
        cls(**options, verbose=False).fit(toy)


def test_bad_input(toy, medium):
    with pytest.raises(ValueError, match="order: got 'items'; expected one of 'shuffled', 'user'"):
        FunkSVD(order="items").fit(toy)
    with pytest.raises(ValueError, match="FunkSVD diverged: .* pass a smaller learning_rate"):
        FunkSVD(8, learning_rate=1.0, reg=0.0, bias_reg=0.0, init_scale=50.0, n_epochs=50, **EXACT).fit(
            medium
        )
    with pytest.raises(TypeError, match="validation: got str"):
        FunkSVD().fit(toy, "toy")
    with pytest.raises(ValueError, match="implicit: got other user or movie ids"):
        SVDpp().fit(toy, implicit=medium)
    with pytest.raises(NotFittedError):
        SVDpp().predict(toy)
    assert clone(SVDpp(7)).get_params()["n_factors"] == 7 and "order" not in SVDpp().get_params()


def test_factors_are_found_again():
    """Odd users like odd films: the held-out half of each pattern must come out."""
    n = 20
    u, i = np.divmod(np.arange(n * n), n)
    value = np.where((u + i) % 2 == 0, 5.0, 1.0)
    seen = np.random.default_rng(0).random(n * n) < 0.6
    train = make_ratings(list(zip(u[seen], i[seen], value[seen], strict=True)))
    test = pd.DataFrame({"userId": u[~seen], "movieId": i[~seen]})
    for cls in (FunkSVD, SVDpp):
        model = cls(2, reg=0.01, learning_rate=0.05, n_epochs=150, decay=1.0, verbose=False).fit(train)
        assert np.abs(model.predict(test) - value[~seen]).max() < 0.4
        assert (model.recommend(4, n=3)["movieId"] % 2 == 0).all()
        assert (model.similar_items(3, n=5)["movieId"] % 2 == 1).all()


# ---- of a filled matrix -------------------------------------------------------------


def fill_of(ratings, fill, damping):
    """The fill for every cell, from the definitions; the baseline from its own class."""
    table = np.full(ratings.shape, np.nan)
    table[ratings.user_codes, ratings.item_codes] = ratings.values
    if fill == "baseline":
        model = BiasModel(damping, damping).fit(ratings)
        return table, model.mean_ + model.user_bias_[:, None] + model.item_bias_
    mean = np.nanmean(table) if fill != "zero" else 0.0
    guess = np.full(ratings.shape, mean)
    for axis, name in ((1, "user"), (0, "item")):
        if fill == name:
            total, count = np.nansum(table - mean, axis=axis), np.sum(~np.isnan(table), axis=axis)
            guess += np.expand_dims(total / (count + damping), axis)
    return table, guess


@pytest.mark.parametrize("fill", ["baseline", "user", "item", "mean", "zero"])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("k", [1, 6])
def test_imputed_svd_is_the_best_approximation_of_the_filled_matrix(medium, fill, center, k):
    model = ImputedSVD(k, fill, center=center, damping=2.0, tol=1e-13, dtype="float64").fit(medium)
    table, guess = fill_of(medium, fill, 2.0)
    filled = np.where(np.isnan(table), guess, table)
    left, values, right = np.linalg.svd(filled - guess if center else filled, full_matrices=False)
    best = (left[:, :k] * values[:k]) @ right[:k]
    np.testing.assert_allclose(model.singular_values_, values[:k], rtol=1e-9)
    everything = pd.DataFrame(
        [(u, i) for u in medium.user_ids for i in medium.item_ids], columns=["userId", "movieId"]
    )
    expected = best + guess if center else best
    np.testing.assert_allclose(model.predict(everything), expected.ravel(), atol=1e-6)
    np.testing.assert_allclose(model.item_factors_.T @ model.item_factors_, np.eye(k), atol=1e-10)


def test_float32_is_close_to_float64(medium):
    for center in (True, False):
        one, two = (ImputedSVD(5, center=center, dtype=t).fit(medium) for t in ("float32", "float64"))
        np.testing.assert_allclose(one.singular_values_, two.singular_values_, rtol=1e-5)
        np.testing.assert_allclose(one.predict(medium), two.predict(medium), atol=1e-3)


def test_full_rank_gives_the_ratings_back(medium):
    model = ImputedSVD(min(medium.shape), dtype="float64").fit(medium)
    np.testing.assert_allclose(model.predict(medium), medium.values, atol=1e-9)


@pytest.mark.parametrize("center", [True, False])
def test_unknown_users_and_films_get_the_fill(medium, center):
    model = ImputedSVD(4, center=center).fit(medium)
    user, film = medium.user_ids[2], medium.item_ids[2]
    pairs = pd.DataFrame({"userId": [user, 999, 999], "movieId": [999_999, film, 999_999]})
    expected = [model.mean_ + model.user_bias_[2], model.mean_ + model.item_bias_[2], model.mean_]
    np.testing.assert_allclose(model.predict(pairs), expected, rtol=1e-6)


def test_pure_svd_is_the_svd_with_zeros(medium):
    table = np.zeros(medium.shape)
    table[medium.user_codes, medium.item_codes] = medium.values
    model = PureSVD(5, tol=1e-13, dtype="float64").fit(medium)
    left, values, right = np.linalg.svd(table, full_matrices=False)
    scores = (left[:, :5] * values[:5]) @ right[:5]
    np.testing.assert_allclose(model.predict(medium), scores[medium.user_codes, medium.item_codes], atol=1e-6)
    np.testing.assert_allclose(scores, table @ right[:5].T @ right[:5], atol=1e-9)
    unrated = np.where(table[7] > 0, -np.inf, scores[7])
    best = model.recommend(medium.user_ids[7], n=4)
    assert best["movieId"].tolist() == medium.item_ids[np.argsort(-unrated)[:4]].tolist()
    assert model.predict(pd.DataFrame({"userId": [999], "movieId": [5]})).tolist() == [0.0]
    assert clone(PureSVD(7)).get_params()["n_factors"] == 7 and "fill" not in PureSVD().get_params()


@pytest.mark.parametrize(
    "model",
    [
        PureSVD(4, dtype="float64"),
        ImputedSVD(4, "item", dtype="float64"),
        ImputedSVD(4, "item", center=False, dtype="float64"),
        ImputedSVD(4, "mean", center=False, dtype="float64"),
    ],
)
def test_fold_in_of_a_training_user_gives_that_users_scores(medium, model):
    """Projecting a row of the filled matrix on the right vectors gives the left ones back."""
    model.fit(medium)
    new = model.fold_in(medium[medium.user_codes == 9].to_frame())
    np.testing.assert_allclose(new.factors, model.user_factors_[9], atol=1e-7)
    pd.testing.assert_frame_equal(new.recommend(5), model.recommend(medium.user_ids[9], n=5))
    told = new.explain(medium.item_ids[3])
    prediction = new.predict([medium.item_ids[3]])[0]
    assert told.attrs["baseline"] + told["contribution"].sum() == pytest.approx(prediction, rel=1e-9)


def test_imputed_svd_repeats_itself(medium):
    one, same, other = (ImputedSVD(4, random_state=s).fit(medium) for s in (0, 0, 1))
    assert one.user_factors_.tobytes() == same.user_factors_.tobytes()
    np.testing.assert_allclose(other.predict(medium), one.predict(medium), atol=1e-3)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_factors": 0}, "n_factors: got 0"),
        ({"n_factors": 5}, "n_factors: got 5; expected at most 4"),
        ({"fill": "median"}, "fill: got 'median'"),
        ({"damping": -1}, "damping: got -1"),
        ({"tol": -1}, "tol: got -1"),
        ({"dtype": "int8"}, "dtype: got 'int8'"),
        ({"n_threads": 0}, "n_threads: got 0"),
    ],
)
def test_bad_parameters_of_imputed_svd(toy, options, message):
    with pytest.raises(ValueError, match=message):
        ImputedSVD(**({"n_factors": 2} | options)).fit(toy)
