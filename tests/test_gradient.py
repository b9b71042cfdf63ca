import hashlib
import os
import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest
from conftest import make_ratings
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import als_objective
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from recsys_helpers import BiasedALS, FunkSVD, GradientMF, Ratings
from recsys_helpers.models import DivergenceError
from recsys_helpers.models.gradient import Parameters, _deal, _start, objective

EXACT = dict(dtype="float64", tol=0.0, verbose=False)


def random_parameters(rng, m, n, k):
    shapes = [(m, k), (m,), (n, k), (n,)]
    return Parameters(*(rng.normal(0, 0.5, shape) for shape in shapes))


def flat(parameters):
    """As tests/reference.py orders them."""
    p, user_bias, q, item_bias = (np.asarray(x) for x in parameters)
    return np.concatenate([np.column_stack([p, user_bias]).ravel(), np.column_stack([q, item_bias]).ravel()])


def settings_of(ratings, weighted, reg=0.7, bias_reg=0.3):
    weights = (ratings.user_counts, ratings.item_counts) if weighted else (1.0, 1.0)
    return dict(
        mean=ratings.values.astype(float).mean(), reg=reg, bias_reg=bias_reg, user_weight=weights[0],
        item_weight=weights[1],
    )  # fmt: skip


def triples(ratings):
    return ratings.user_codes, ratings.item_codes, ratings.values.astype(float)


compiled_gradient = jax.jit(jax.grad(objective))


def jax_gradient(parameters, data, **fixed):
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, compiled_gradient(parameters, *data, **fixed))


# ---- lazy import ----------------------------------------------------------------


def test_jax_is_not_imported_before_the_model_is_fitted():
    code = "import sys, recsys_helpers as h; h.GradientMF(2); print({'jax', 'optax'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", ["jax", "optax"])
def test_a_missing_library_is_named_with_the_extra(toy, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        ImportError, match=rf'{name} is not installed.*pip install "recsys_helpers\[gradient\]"'
    ):
        GradientMF(verbose=False).fit(toy)


# ---- objective and gradient ---------------------------------------------------------


@settings(max_examples=15, deadline=None, derandomize=True)
@given(k=st.sampled_from([0, 1, 5]), seed=st.integers(0, 99), weighted=st.booleans())
def test_value_and_gradient_agree_with_those_derived_by_hand(medium, k, seed, weighted):
    parameters = random_parameters(np.random.default_rng(seed), *medium.shape, k)
    fixed = settings_of(medium, weighted)
    value, gradient = als_objective(
        flat(parameters), medium, k, fixed["reg"], fixed["bias_reg"], weighted
    )  # fmt: skip
    assert objective(parameters, *triples(medium), **fixed) == pytest.approx(value, rel=1e-13)
    found = flat(jax_gradient(parameters, triples(medium), **fixed))
    np.testing.assert_allclose(found, gradient, rtol=1e-12, atol=1e-12 * np.abs(gradient).max())


def test_gradient_of_one_rating_on_paper():
    """r = 5, mean 3, p = 1, q = 0.5, biases 0: error 1.5; reg 0.1, bias_reg 0.2."""
    parameters = Parameters(*(np.array(x, float) for x in ([[1]], [0], [[0.5]], [0])))
    data = np.array([0]), np.array([0]), np.array([5.0])
    fixed = dict(mean=3.0, reg=0.1, bias_reg=0.2)
    assert objective(parameters, *data, **fixed) == pytest.approx(1.5**2 + 0.1 * 1 + 0.1 * 0.25)
    found = jax_gradient(parameters, data, **fixed)
    expected = [-2 * 1.5 * 0.5 + 2 * 0.1 * 1, -3.0, -2 * 1.5 * 1 + 2 * 0.1 * 0.5, -3.0]
    np.testing.assert_allclose([x.item() for x in found], expected, rtol=1e-14)


def test_the_gradient_points_uphill(medium):
    """Against finite differences, which share no formula with either derivation."""
    rng = np.random.default_rng(4)
    parameters = random_parameters(rng, *medium.shape, 3)
    fixed = settings_of(medium, True)
    gradient = jax_gradient(parameters, triples(medium), **fixed)
    for _ in range(3):
        way = random_parameters(rng, *medium.shape, 3)
        ends = []
        for h in (1e-5, -1e-5):
            moved = Parameters(*(x + h * d for x, d in zip(parameters, way, strict=True)))
            ends.append(objective(moved, *triples(medium), **fixed))
        slope = sum(np.sum(g * d) for g, d in zip(gradient, way, strict=True))
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(slope, rel=1e-7)


@pytest.mark.parametrize("n_batches", [1, 2, 7, 100])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_mean_over_the_batches_is_the_full_gradient(medium, n_batches, weighted):
    parameters = random_parameters(np.random.default_rng(0), *medium.shape, 3)
    fixed = settings_of(medium, weighted)
    batches = _deal(medium, n_batches, np.dtype("float64"), np.random.default_rng(1))
    parts = [jax_gradient(parameters, b[:3], rating_weight=b[3], **fixed) for b in zip(*batches, strict=True)]
    mean = sum(flat(part) for part in parts) / n_batches
    full = flat(jax_gradient(parameters, triples(medium), **fixed))
    np.testing.assert_allclose(mean, full, atol=1e-11 * np.abs(full).max())


@settings(max_examples=30, deadline=None, derandomize=True)
@given(count=st.integers(1, 60), n_batches=st.integers(1, 60), seed=st.integers(0, 9))
def test_every_rating_is_dealt_once(count, n_batches, seed):
    n_batches = min(count, n_batches)
    ratings = make_ratings([(j, 2 * j, 1.0 + (j % 9) / 2) for j in range(count)])
    users, items, values, weight = _deal(ratings, n_batches, np.dtype("float32"), np.random.default_rng(seed))
    assert users.shape[0] == n_batches and set(np.unique(weight)) <= {0, n_batches}
    real = weight > 0
    assert sorted(users[real]) == list(range(count))
    np.testing.assert_array_equal(values[real], ratings.values[users[real]])
    sizes = real.sum(axis=1)
    assert sizes.max() - sizes.min() <= 1


# ---- the steps -----------------------------------------------------------------------


def plain_fit(ratings, k, fixed, optimizer, rate, n_batches, n_epochs, weighted):
    """The fit again: NumPy, gradient by hand, textbook update rules."""
    rng = np.random.default_rng(0)
    m = ratings.n_users
    x = flat(_start(ratings, k, 0.1, np.dtype("float64"), rng))
    first, second, t = np.zeros_like(x), np.zeros_like(x), 0
    for _ in range(n_epochs):
        users, items, values, weight = _deal(ratings, n_batches, np.dtype("float64"), rng)
        for b in range(n_batches):
            user, item = x[: m * (k + 1)].reshape(m, -1), x[m * (k + 1) :].reshape(-1, k + 1)
            u, i, v = users[b], items[b], weight[b][:, None]
            error = (
                values[b]
                - fixed["mean"]
                - user[u, k]
                - item[i, k]
                - np.sum(user[u, :k] * item[i, :k], axis=1)
            )
            penalty = np.append(np.full(k, fixed["reg"]), fixed["bias_reg"])
            w_user, w_item = (np.reshape(w, (-1, 1)) for w in (fixed["user_weight"], fixed["item_weight"]))
            d_user, d_item = 2 * w_user * penalty * user, 2 * w_item * penalty * item
            ones = np.ones((len(u), 1))
            np.add.at(d_user, u, -2 * v * error[:, None] * np.hstack([item[i, :k], ones]))
            np.add.at(d_item, i, -2 * v * error[:, None] * np.hstack([user[u, :k], ones]))
            g, t = np.concatenate([d_user.ravel(), d_item.ravel()]), t + 1
            if optimizer == "sgd":
                way = g
            elif optimizer == "momentum":
                way = first = g + 0.9 * first
            else:
                first = 0.9 * first + 0.1 * g
                second = 0.999 * second + 0.001 * g * g
                way = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
            x = x - rate * way
    return x


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 1e-3), ("momentum", 3e-4), ("adam", 0.05)])
@pytest.mark.parametrize(("n_batches", "weighted"), [(1, False), (4, True)])
def test_steps_agree_with_the_textbook(medium, optimizer, rate, n_batches, weighted):
    reg, bias_reg, size = 0.2, 0.1, -(-len(medium) // n_batches)
    model = GradientMF(
        3, reg, bias_reg=bias_reg, weighted=weighted, optimizer=optimizer, learning_rate=rate, n_epochs=5,
        schedule="constant", batch_size=size, **EXACT,
    ).fit(medium)  # fmt: skip
    fixed = settings_of(medium, weighted, reg, bias_reg)
    expected = plain_fit(medium, 3, fixed, optimizer, rate, n_batches, 5, weighted)
    np.testing.assert_allclose(flat(learned(model)), expected, rtol=1e-8, atol=1e-10)
    value = als_objective(expected, medium, 3, reg, bias_reg, weighted)[0]
    assert model.history_["objective"].iloc[-1] == pytest.approx(value, rel=1e-10)


def learned(model):
    return Parameters(model.user_factors_, model.user_bias_, model.item_factors_, model.item_bias_)


def test_a_cosine_ends_at_rest(medium):
    """Steps shrink to nothing, so that the last epochs hardly move the parameters."""
    options = dict(n_factors=3, reg=2.0, batch_size=256, learning_rate=0.05, n_epochs=30)
    fits = [GradientMF(schedule=s, **options, **EXACT).fit(medium) for s in ("constant", "cosine")]
    noise = [fit.history_["objective"].iloc[-8:].diff().abs().iloc[-1] for fit in fits]
    assert noise[1] < 0.1 * noise[0]
    assert fits[1].history_["objective"].iloc[-1] < fits[0].history_["objective"].iloc[-1]


@pytest.mark.parametrize("weighted", [False, True])
def test_all_optimizers_reach_the_same_objective(medium, weighted):
    strength = dict(reg=0.1, bias_reg=0.05) if weighted else dict(reg=2.0, bias_reg=1.0)
    als = BiasedALS(3, weighted=weighted, n_sweeps=3000, **strength, **(EXACT | {"tol": 1e-12})).fit(medium)
    options = dict(weighted=weighted, learning_rate=0.03, n_epochs=600) | strength
    fits = [GradientMF(3, batch_size=size, **options, **EXACT) for size in (None, 256)]
    if weighted:  # the penalty at each rating is a weighted one
        options = dict(learning_rate=0.02, decay=0.996, n_epochs=900, track_objective=True, verbose=False)
        fits.append(FunkSVD(3, **options, **strength))
    for model in fits:
        end = model.fit(medium).history_["objective"].iloc[-1]
        assert end == pytest.approx(als.history_["objective"].iloc[-1], rel=1e-3)


# ---- reproducible, and a good guest -----------------------------------------------


def test_seed(medium):
    one, same, other = (
        GradientMF(3, n_epochs=3, batch_size=256, random_state=s, verbose=False).fit(medium)
        for s in (1, 1, 2)
    )
    assert one.item_factors_.tobytes() == same.item_factors_.tobytes()
    assert one.history_["objective"].tolist() == same.history_["objective"].tolist()
    assert not np.array_equal(one.item_factors_, other.item_factors_)


def test_the_result_is_the_same_in_another_process_on_one_core(medium, tmp_path):
    options = dict(n_epochs=3, batch_size=256, verbose=False)
    model = GradientMF(3, **options).fit(medium)
    medium.to_frame().to_csv(tmp_path / "ratings.csv", index=False)
    code = (
        "import os, sys, hashlib, pandas as pd; from recsys_helpers import GradientMF, Ratings;"
        "one = hasattr(os, 'sched_setaffinity') and os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "r = Ratings.from_frame(pd.read_csv(sys.argv[1]));"
        f"m = GradientMF(3, **{options!r}).fit(r);"
        "print(hashlib.sha256(m.user_factors_.tobytes()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "ratings.csv")],
        capture_output=True, text=True, check=True,
        env=os.environ | {"NUMBA_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.strip() == hashlib.sha256(model.user_factors_.tobytes()).hexdigest()


def test_the_precision_of_the_calling_program_is_left_alone(medium):
    before = jax.config.jax_enable_x64
    model = GradientMF(3, n_epochs=2, batch_size=256, verbose=False)
    fits = {}
    for outside in (False, True):
        with jax.enable_x64(outside):
            fits[outside] = clone(model).fit(medium)
            assert jax.config.jax_enable_x64 == outside
            assert jax.numpy.zeros(1, float).dtype == ("float64" if outside else "float32")
    assert jax.config.jax_enable_x64 == before
    assert fits[False].user_factors_.dtype == fits[True].user_factors_.dtype == np.float32
    assert fits[False].user_factors_.tobytes() == fits[True].user_factors_.tobytes()
    wide = clone(model).set_params(dtype="float64").fit(medium)
    assert {x.dtype for x in learned(wide)} == {np.dtype("float64")}
    np.testing.assert_allclose(wide.predict(medium), fits[True].predict(medium), atol=1e-4)


def test_compilation_is_counted_once_and_apart(medium):
    options = dict(n_factors=9, n_epochs=2, batch_size=301, verbose=False)
    first, second = GradientMF(**options).fit(medium), GradientMF(**options, reg=3.0).fit(medium)
    assert first.compile_seconds_ > second.compile_seconds_ >= 0
    assert (first.history_["seconds"] > 0).all()


# ---- the model in use ----------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(medium):
    """At rest, where a person's factors are the best for the films."""
    return GradientMF(
        3, 2.0, bias_reg=1.0, batch_size=None, learning_rate=0.05, n_epochs=3000, **(EXACT | {"tol": 1e-13})
    ).fit(medium)


def test_fold_in_of_a_training_user_gives_that_users_factors(fitted):
    train = fitted.train_
    for user in (0, 11, 59):
        new = fitted.fold_in(train[train.user_codes == user].to_frame())
        np.testing.assert_allclose(new.factors, fitted.user_factors_[user], atol=2e-3)
        assert new.bias == pytest.approx(fitted.user_bias_[user], abs=2e-3)
        own = fitted.recommend(train.user_ids[user], n=5)
        assert own["movieId"].tolist() == new.recommend(5)["movieId"].tolist()


def test_fold_in_of_a_newcomer(fitted):
    new = fitted.fold_in({5: 5.0, 9: 1.0, 10**6: 3.0})
    assert new.ignored.tolist() == [10**6]
    assert not new.recommend(80)["movieId"].isin([5, 9]).any()
    prediction = new.predict([5, 9, 123456])
    assert prediction[0] > prediction[1]
    assert prediction[2] == pytest.approx(fitted.mean_ + new.bias)
    told = new.explain(5)
    assert told.attrs["baseline"] + told["contribution"].sum() == pytest.approx(prediction[0])


def test_recommend_leaves_out_what_was_rated(fitted):
    train = fitted.train_
    user = train.user_ids[7]
    rated = train.item_ids[train.item_codes[train.user_codes == 7]]
    table = fitted.recommend(user, n=train.n_items)
    assert not set(table["movieId"]) & set(rated) and len(table) + len(rated) == train.n_items
    pairs = table.assign(userId=user)
    np.testing.assert_allclose(fitted.predict(pairs), table["score"], rtol=1e-12)


def test_similar_items(fitted):
    table = fitted.similar_items(fitted.train_.item_ids[4], n=5)
    assert table["score"].between(-1 - 1e-9, 1 + 1e-9).all() and len(table) == 5


def test_unknown_users_and_films_fall_back(fitted):
    known_user, known_film = fitted.train_.user_ids[2], fitted.train_.item_ids[2]
    pairs = pd.DataFrame({"userId": [known_user, 999, 999], "movieId": [999_999, known_film, 999_999]})
    mean = fitted.mean_
    expected = [mean + fitted.user_bias_[2], mean + fitted.item_bias_[2], mean]
    np.testing.assert_allclose(fitted.predict(pairs), expected, rtol=1e-12)


def test_rows_without_ratings_stay_at_zero(medium):
    train = medium[(medium.item_codes != 7) & (medium.user_codes != 3)]
    model = GradientMF(3, n_epochs=5, batch_size=200, verbose=False).fit(train)
    assert not model.item_factors_[7].any() and model.item_bias_[7] == 0
    assert not model.user_factors_[3].any() and model.user_bias_[3] == 0
    assert model.item_factors_[8].any()


def test_without_mean_normalization_the_level_is_zero(medium):
    model = GradientMF(3, n_epochs=5, batch_size=256, center=False, verbose=False).fit(medium)
    assert model.mean_ == 0
    assert model.predict(pd.DataFrame({"userId": [999], "movieId": [999_999]})) == [0.0]
    assert model.user_bias_.mean() > 0


def test_checkerboard():
    """Odd users like odd films: the held-out half of each pattern must come out."""
    n = 20
    u, i = np.divmod(np.arange(n * n), n)
    value = np.where((u + i) % 2 == 0, 5.0, 1.0)
    seen = np.random.default_rng(0).random(n * n) < 0.6
    train = make_ratings(list(zip(u[seen], i[seen], value[seen], strict=True)))
    test = pd.DataFrame({"userId": u[~seen], "movieId": i[~seen]})
    model = GradientMF(
        2, 0.1, bias_reg=0.1, batch_size=32, learning_rate=0.05, n_epochs=100, verbose=False
    ).fit(train)  # fmt: skip
    assert np.abs(model.predict(test) - value[~seen]).max() < 0.3
    assert (model.recommend(4, n=3)["movieId"] % 2 == 0).all()


def test_history_and_early_stopping(medium):
    rng = np.random.default_rng(0)
    held = rng.random(len(medium)) < 0.2
    frame = medium.to_frame()
    frame["rating"] = rng.permutation(frame["rating"])
    shuffled = Ratings.from_frame(frame)
    train, validation = shuffled[~held], shuffled[held]
    # There is nothing to learn but noise, and validation says so.
    model = GradientMF(
        5, 0.1, learning_rate=0.05, batch_size=200, n_epochs=60, patience=3, tol=0.0, verbose=False
    ).fit(train, validation)  # fmt: skip
    errors = model.history_["validation_rmse"]
    assert len(errors) == model.best_epoch_ + 3 < 60
    assert model.best_epoch_ == errors.idxmin()
    kept = np.sqrt(np.mean((model.predict(validation) - validation.values) ** 2))
    assert kept == pytest.approx(errors.min(), rel=1e-12)
    assert model.history_.columns.tolist() == ["objective", "train_rmse", "validation_rmse", "seconds"]
    free = clone(model).fit(train)
    assert len(free.history_) == 60 and free.history_["validation_rmse"].isna().all()
    reached = np.sqrt(np.mean((free.predict(train) - train.values) ** 2))
    assert free.history_["train_rmse"].iloc[-1] == pytest.approx(reached, rel=1e-5)


def test_tol_stops(medium):
    model = GradientMF(3, schedule="constant", batch_size=None, n_epochs=2000, tol=1e-3, verbose=False).fit(
        medium
    )
    assert len(model.history_) < 1000


def test_more_batches_than_ratings_is_one_rating_a_step(toy):
    model = GradientMF(2, batch_size=1, n_epochs=2, verbose=False).fit(toy)
    assert np.isfinite(model.predict(toy)).all()
    whole = GradientMF(2, batch_size=10**6, n_epochs=2, verbose=False).fit(toy)
    np.testing.assert_array_equal(
        whole.predict(toy), clone(whole).set_params(batch_size=None).fit(toy).predict(toy)
    )


# ---- bad arguments --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_factors": -1}, "n_factors: got -1"),
        ({"reg": -0.1}, "reg: got -0.1"),
        ({"bias_reg": np.inf}, "bias_reg: got inf"),
        ({"learning_rate": 0}, "learning_rate: got 0"),
        ({"learning_rate": "fast"}, "learning_rate: got 'fast'"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"batch_size": 2.5}, "batch_size: got 2.5"),
        ({"n_epochs": 0}, "n_epochs: got 0"),
        ({"patience": 0}, "patience: got 0"),
        ({"init_scale": 0.0}, "init_scale: got 0"),
        ({"optimizer": "lbfgs"}, "optimizer: got 'lbfgs'; expected one of 'adam', 'momentum', 'sgd'"),
        ({"schedule": "linear"}, "schedule: got 'linear'"),
        ({"dtype": "float16"}, "dtype: got 'float16'"),
    ],
)  # fmt: skip
def test_bad_parameters(toy, options, words):
    with pytest.raises(ValueError, match=words):
        GradientMF(verbose=False, **options).fit(toy)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_divergence_is_an_error_and_leaves_no_model(toy, dtype):
    options = dict(optimizer="sgd", schedule="constant", batch_size=None, n_epochs=500, tol=0, verbose=False)
    model = GradientMF(2, learning_rate=50.0, dtype=dtype, **options)
    with pytest.raises(DivergenceError, match="GradientMF diverged: .* pass a smaller learning_rate"):
        model.fit(toy)
    with pytest.raises(NotFittedError):
        model.predict(toy)


def test_a_rate_that_is_a_little_too_high_is_halved_and_said_so(toy):
    options = dict(optimizer="sgd", schedule="constant", batch_size=None, n_epochs=500, tol=0, verbose=False)
    with pytest.warns(ConvergenceWarning, match="diverged with learning_rate=0.5 and was fitted with"):
        model = GradientMF(2, learning_rate=0.5, **options).fit(toy)
    assert model.learning_rate_ in 0.5 / 2.0 ** np.arange(1, 5)
    same = GradientMF(2, learning_rate=model.learning_rate_, **options).fit(toy)
    np.testing.assert_array_equal(same.predict(toy), model.predict(toy))


def test_bad_data(toy):
    with pytest.raises(TypeError, match="validation: got list"):
        GradientMF().fit(toy, [])
    with pytest.raises(ValueError, match="ratings: got no ratings"):
        GradientMF().fit(toy[:0])
