import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import make_ratings
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import als_objective, als_row
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from recsys_helpers import BiasedALS, BiasModel, Ratings
from recsys_helpers.data.items import genre_shares
from recsys_helpers.kernels.als import solve_rows

EXACT = dict(dtype="float64", tol=0.0, verbose=False)


def with_genres(ratings, seed=3):
    """The same ratings with two or three made-up genres a film, and one film without any."""
    rng = np.random.default_rng(seed)
    names = np.array(["Action", "Comedy", "Drama", "Horror"])
    picks = ["|".join(sorted(rng.choice(names, rng.integers(1, 4), replace=False))) for _ in ratings.item_ids]
    picks[1] = "(no genres listed)"
    movies = pd.DataFrame(
        {"movieId": ratings.item_ids, "title": [f"Film {i}" for i in ratings.item_ids], "genres": picks}
    )
    return Ratings.from_frame(ratings.to_frame(), movies=movies, name=ratings.name)


def solve(indptr, indices, values, factors, bias, *, reg=0.7, bias_reg=0.4, mean=3.5, weighted=False,
          prior=None, steps=0, start=None, spread=0.0, key=0):  # fmt: skip
    """Call the kernel for all rows; factors and biases side by side."""
    dtype, k, rows = factors.dtype, factors.shape[1], len(indptr) - 1
    out = np.zeros((rows, k + 1), dtype) if start is None else start.astype(dtype)
    prior = np.zeros((rows, k + 1), dtype) if prior is None else prior.astype(dtype)
    x, b = out[:, :k].copy(), out[:, k].copy()
    weights = np.diff(indptr).astype(dtype) if weighted else np.ones(1, dtype)
    csr = [indptr.astype(np.int32), indices.astype(np.int32), values.astype(np.float32)]
    for array in csr:
        array.flags.writeable = False
    failed, total = solve_rows(
        0, rows, *csr,
        dtype.type(mean), factors, bias, dtype.type(reg), dtype.type(bias_reg), weights,
        prior[:, :k].copy(), prior[:, k].copy(), steps, (factors**2).mean(axis=0), True,
        dtype.type(spread), np.uint64(key), x, b,
    )  # fmt: skip
    return np.column_stack([x, b]), failed, total


def random_rows(rng, lengths, k, dtype=np.float64, columns=400):
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    indices = np.concatenate([np.sort(rng.choice(columns, n, replace=False)) for n in lengths])
    values = rng.integers(1, 11, len(indices)) / 2
    factors = rng.normal(0, 0.5, (columns, k)).astype(dtype)
    return indptr, indices, values, factors, rng.normal(0, 0.3, columns).astype(dtype)


# ---- kernel -----------------------------------------------------------------


@settings(max_examples=25, deadline=None, derandomize=True)
@given(k=st.integers(0, 70), seed=st.integers(0, 99), weighted=st.booleans())
def test_rows_agree_with_normal_equations(k, seed, weighted):
    """Any rank, short rows (dual form), long ones (several blocks), and an empty one."""
    rng = np.random.default_rng(seed)
    lengths = np.array([1, 2, 7, 16, 17, 33, 64, 300, 0])
    data = random_rows(rng, lengths, k)
    prior = rng.normal(0, 0.2, (len(lengths), k + 1))
    got, failed, total = solve(*data, weighted=weighted, prior=prior)
    assert failed == 0
    squared = 0.0
    for row, n in enumerate(lengths[:-1]):
        span = slice(data[0][row], data[0][row + 1])
        q, b, r = data[3][data[1][span]], data[4][data[1][span]], data[2][span]
        w = n if weighted else 1
        np.testing.assert_allclose(got[row], als_row(q, b, r, 3.5, 0.7 * w, 0.4 * w, prior[row]), atol=1e-10)
        squared += np.sum((r - 3.5 - b - q @ got[row, :k] - got[row, k]) ** 2)
    np.testing.assert_array_equal(got[-1], prior[-1])
    assert total == pytest.approx(squared, rel=1e-10)


def test_dual_form_equals_primal_form():
    """Zero bias penalty rules the dual form out; a vanishing one lets it in."""
    rng = np.random.default_rng(0)
    data = random_rows(rng, np.array([3, 10, 20, 24]), 50)
    primal, _, _ = solve(*data, bias_reg=0.0)
    dual, _, _ = solve(*data, bias_reg=1e-9)
    np.testing.assert_allclose(dual, primal, atol=1e-5)


def test_conjugate_gradients_reach_the_exact_solution():
    rng = np.random.default_rng(1)
    data = random_rows(rng, np.array([2, 30, 390]), 20)
    exact, _, _ = solve(*data)
    errors = [np.abs(solve(*data, steps=s)[0] - exact).max() for s in (1, 3, 30)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-9


def test_the_kernel_for_narrower_vectors_agrees_too():
    """What a machine without AVX-512 runs, here by Numba's own switch for the target."""
    tests = ("rows_agree_with_normal_equations", "conjugate_gradients_reach_the_exact_solution")
    env = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    width = "from recsys_helpers.kernels import vectors; print(vectors.VECTOR_BYTES)"
    done = subprocess.run([sys.executable, "-c", width], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "32"
    chosen = [f"{__file__}::test_{name}" for name in tests]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", *chosen]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_float32_sums_of_many_ratings_keep_their_digits():
    """60,000 ratings: block sums with compensation, against one running float32 sum."""
    rng = np.random.default_rng(2)
    n, k = 60_000, 4
    factors = rng.normal(0.5, 0.5, (n, k)).astype(np.float32)
    bias, values = np.zeros(n, np.float32), rng.integers(1, 11, n) / 2
    got, _, _ = solve(np.array([0, n]), np.arange(n), values, factors, bias)
    exact = als_row(factors, bias, values, 3.5, 0.7, 0.4)
    x = np.column_stack([factors, np.ones(n, np.float32)])
    running = np.zeros((k + 1, k + 2), np.float32)
    for row, t in zip(x, values.astype(np.float32) - np.float32(3.5), strict=True):
        running += np.outer(row, np.append(row, t))
    naive = np.linalg.solve(
        running[:, :-1].astype(float) + np.diag([0.7] * k + [0.4]), running[:, -1].astype(float)
    )
    assert np.abs(got[0] - exact).max() < 5e-7
    assert np.abs(naive - exact).max() > 10 * np.abs(got[0] - exact).max()


def test_a_singular_row_is_reported_and_left_alone():
    rng = np.random.default_rng(3)
    data = random_rows(rng, np.array([1, 40]), 3)
    start = np.full((2, 4), 0.25)
    got, failed, _ = solve(*data, reg=0.0, bias_reg=0.0, start=start)
    assert failed == 1
    np.testing.assert_array_equal(got[0], start[0])


# ---- what is minimized --------------------------------------------------------


def theta(model):
    parts = [(model.user_factors_, model.user_bias_), (model.item_factors_, model.item_bias_)]
    if model.genres:
        parts.append((model.genre_factors_, model.genre_bias_))
    return np.concatenate([np.column_stack(p).ravel() for p in parts])


def objective_of(model, ratings):
    genres = None
    if model.genres:
        genres = genre_shares(ratings)[1].toarray(), model.genre_reg_, model.genre_bias_reg
    return lambda t: als_objective(
        t, ratings, model.n_factors, model.reg_, model.bias_reg_, model.weighted, genres
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("genres", [False, True])
@pytest.mark.parametrize("k", [0, 3])
def test_at_convergence_no_minimizer_finds_better(medium, k, genres, weighted):
    ratings = with_genres(medium)
    strength = dict(reg=0.08, bias_reg=0.05, genre_reg=0.03, genre_bias_reg=0.02)
    if not weighted:
        strength = {name: 25 * value for name, value in strength.items()}
    options = EXACT | {"tol": 1e-14} | strength
    model = BiasedALS(k, genres=genres, weighted=weighted, n_sweeps=4000, **options)
    model.fit(ratings)
    objective = objective_of(model, ratings)
    value, gradient = objective(theta(model))
    assert value == pytest.approx(model.history_["objective"].iloc[-1], rel=1e-12)
    assert np.abs(gradient).max() < 1e-3
    found = minimize(objective, theta(model), jac=True, method="L-BFGS-B", options={"maxiter": 300})
    assert found.fun > value * (1 - 1e-8)


@pytest.mark.parametrize("solver", ["cholesky", "cg"])
@pytest.mark.parametrize("genres", [False, True])
def test_objective_never_rises_from_one_half_sweep_to_the_next(medium, monkeypatch, solver, genres):
    ratings = with_genres(medium)
    model = BiasedALS(5, reg=2.0, genres=genres, solver=solver, n_sweeps=8, **EXACT)
    values = []
    half = BiasedALS._half_sweep

    def watched(self, *args, **kwargs):
        result = half(self, *args, **kwargs)
        values.append(objective_of(self, ratings)(theta(self))[0])
        return result

    monkeypatch.setattr(BiasedALS, "_half_sweep", watched)
    model.fit(ratings)
    assert len(values) == 2 * 8
    steps = np.diff(values)
    assert (steps <= 1e-9 * values[0]).all()
    assert values[-1] < 0.9 * values[0]


def test_biases_alone_are_the_bias_model(medium):
    als = BiasedALS(0, bias_reg=4.0, n_sweeps=500, **(EXACT | {"tol": 1e-15})).fit(medium)
    bias = BiasModel(4.0, 4.0, tol=1e-10).fit(medium)
    np.testing.assert_allclose(als.user_bias_, bias.user_bias_, atol=1e-6)
    np.testing.assert_allclose(als.item_bias_, bias.item_bias_, atol=1e-6)


def test_films_without_genres_reduce_to_the_plain_model(medium):
    movies = pd.DataFrame({"movieId": medium.item_ids, "genres": "(no genres listed)"})
    ratings = Ratings.from_frame(medium.to_frame(), movies=movies)
    options = dict(n_factors=4, n_sweeps=5, **EXACT)
    plain = BiasedALS(**options).fit(medium)
    with pytest.warns(UserWarning, match="no item of the data has a genre"):
        genres = BiasedALS(genres=True, **options).fit(ratings)
    assert genres.genre_names_ == []
    np.testing.assert_array_equal(plain.item_factors_, genres.item_factors_)
    np.testing.assert_array_equal(plain.user_bias_, genres.user_bias_)


def test_an_unrated_film_gets_its_genres_mean(medium):
    ratings = with_genres(medium)
    hidden = 7
    train = ratings[ratings.item_codes != hidden]
    model = BiasedALS(3, genres=True, **EXACT).fit(train)
    names, shares = genre_shares(train)
    expected = shares.toarray()[hidden] @ model.genre_factors_
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(model.item_factors_[hidden], expected, rtol=1e-12)
    assert names == model.genre_names_
    plain = BiasedALS(3, **EXACT).fit(train)
    assert not plain.item_factors_[hidden].any() and plain.item_bias_[hidden] == 0


def test_checkerboard():
    """Odd users like odd films: the held-out half of each pattern must come out."""
    n = 20
    u, i = np.divmod(np.arange(n * n), n)
    value = np.where((u + i) % 2 == 0, 5.0, 1.0)
    seen = np.random.default_rng(0).random(n * n) < 0.6
    train = make_ratings(list(zip(u[seen], i[seen], value[seen], strict=True)))
    test = pd.DataFrame({"userId": u[~seen], "movieId": i[~seen]})
    model = BiasedALS(2, reg=0.1, bias_reg=0.1, n_sweeps=20, tol=0, verbose=False).fit(train)
    assert np.abs(model.predict(test) - value[~seen]).max() < 0.2
    best = model.recommend(4, n=3)
    assert (best["movieId"] % 2 == 0).all()
    assert (model.similar_items(3, n=5)["movieId"] % 2 == 1).all()


# ---- the same bits ------------------------------------------------------------


def test_threads_do_not_change_a_bit(medium, monkeypatch):
    monkeypatch.setattr("recsys_helpers.models.als.CHUNK_WORK", 2e4)
    fits = [BiasedALS(17, n_threads=t, n_sweeps=3, verbose=False).fit(medium) for t in (1, 2, 5)]
    for other in fits[1:]:
        assert fits[0].user_factors_.tobytes() == other.user_factors_.tobytes()
        assert fits[0].item_bias_.tobytes() == other.item_bias_.tobytes()
        assert fits[0].history_["objective"].tolist() == other.history_["objective"].tolist()


def test_seed(medium):
    one, same, other = (BiasedALS(4, random_state=s, verbose=False).fit(medium) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.item_factors_, same.item_factors_)
    assert not np.array_equal(one.item_factors_, other.item_factors_)


def test_the_result_is_the_same_in_another_process(medium, tmp_path):
    """Compiled code from the cache gives the bits of code compiled in this process."""
    model = BiasedALS(6, n_sweeps=2, tol=0, verbose=False).fit(medium)
    medium.to_frame().to_csv(tmp_path / "ratings.csv", index=False)
    code = (
        "import sys, hashlib, pandas as pd; from recsys_helpers import BiasedALS, Ratings;"
        "r = Ratings.from_frame(pd.read_csv(sys.argv[1]));"
        "m = BiasedALS(6, n_sweeps=2, tol=0, verbose=False).fit(r);"
        "print(hashlib.sha256(m.user_factors_.tobytes()).hexdigest())"
    )
    import hashlib

    command = [sys.executable, "-c", code, str(tmp_path / "ratings.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(model.user_factors_.tobytes()).hexdigest()


@pytest.mark.parametrize("n", [2, 40])
def test_rows_are_drawn_from_their_conditional_posterior(n):
    """Mean and covariance of 4,000 draws, of a short row (dual form) and of a long one (primal)."""
    k, reg, bias_reg, spread = 5, 0.7, 0.4, 0.6
    rng = np.random.default_rng(n)
    indptr, indices, values, factors, bias = random_rows(rng, np.full(4000, n), k, columns=50)
    # The same row again and again: only the random numbers differ.
    indices, values = np.tile(indices[:n], 4000), np.tile(values[:n], 4000)
    prior = np.tile(rng.normal(size=k + 1), (4000, 1))
    draws, failed, _ = solve(indptr, indices, values, factors, bias, prior=prior, spread=spread, key=11)
    x = np.column_stack([factors[indices[:n]], np.ones(n)])
    penalty = np.diag([reg] * k + [bias_reg])
    system = x.T @ x + penalty
    target = x.T @ (values[:n] - 3.5 - bias[indices[:n]]) + penalty @ prior[0]
    assert failed == 0
    # In coordinates in which the posterior is standard normal.
    z = (draws - np.linalg.solve(system, target)) @ np.linalg.cholesky(system) / spread
    assert np.abs(z.mean(axis=0)).max() < 5 / np.sqrt(4000)
    assert np.abs(np.cov(z.T) - np.eye(k + 1)).max() < 5 * np.sqrt(2 / 4000)


def test_a_row_is_drawn_alike_in_whatever_span():
    rng = np.random.default_rng(0)
    rows = random_rows(rng, np.array([3, 30, 9]), 6)
    together, *_ = solve(*rows, spread=0.5, key=3)
    other, *_ = solve(*rows, spread=0.5, key=4)
    again, *_ = solve(*rows, spread=0.5, key=3)
    np.testing.assert_array_equal(together, again)
    assert np.abs(together - other).min() > 0


# ---- the model in use -----------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(medium):
    return BiasedALS(6, reg=2.0, n_sweeps=8, verbose=False).fit(with_genres(medium))


def test_fold_in_of_a_training_user_gives_that_users_factors(fitted):
    train = fitted.train_
    for user in (0, 11, 59):
        frame = train[train.user_codes == user].to_frame().sample(frac=1, random_state=0)
        new = fitted.fold_in(frame)
        np.testing.assert_array_equal(new.factors, fitted.user_factors_[user])
        assert new.bias == fitted.user_bias_[user]
        own = fitted.recommend(train.user_ids[user], n=5)
        pd.testing.assert_frame_equal(new.recommend(5), own)


def test_fold_in_of_a_newcomer(fitted):
    new = fitted.fold_in({5: 5.0, 9: 1.0, 10**6: 3.0})
    assert new.ignored.tolist() == [10**6]
    assert not new.recommend(80)["movieId"].isin([5, 9]).any()
    prediction = new.predict([5, 9, 123456])
    assert prediction[0] > prediction[1]
    assert prediction[2] == pytest.approx(fitted.mean_ + new.bias)
    assert "2 ratings" in repr(new)


def test_contributions_sum_to_the_prediction(fitted):
    user, movie = fitted.train_.user_ids[3], fitted.train_.item_ids[8]
    table = fitted.explain(user, movie)
    prediction = fitted.predict(pd.DataFrame({"userId": [user], "movieId": [movie]}))[0]
    assert table.attrs["baseline"] + table["contribution"].sum() == pytest.approx(prediction, abs=1e-4)
    assert len(table) == np.sum(fitted.train_.user_codes == 3)
    assert table["contribution"].abs().is_monotonic_decreasing
    new = fitted.fold_in({5: 4.5, 7: 2.0})
    told = new.explain(movie)
    whole = told.attrs["baseline"] + told["contribution"].sum()
    assert whole == pytest.approx(new.predict([movie])[0], abs=1e-5)


def test_unknown_users_and_films_fall_back(fitted):
    known_user, known_film = fitted.train_.user_ids[2], fitted.train_.item_ids[2]
    pairs = pd.DataFrame({"userId": [known_user, 999, 999], "movieId": [999_999, known_film, 999_999]})
    mean = fitted.mean_
    expected = [mean + fitted.user_bias_[2], mean + fitted.item_bias_[2], mean]
    np.testing.assert_allclose(fitted.predict(pairs), expected, rtol=1e-6)


def test_similar_items(fitted):
    movie = fitted.train_.item_ids[4]
    table = fitted.similar_items(movie, n=79)
    assert movie not in table["movieId"].to_numpy()
    assert table["score"].between(-1 - 1e-6, 1 + 1e-6).all() and table["score"].is_monotonic_decreasing
    often = fitted.similar_items(movie, n=79, min_ratings=20)["movieId"]
    assert (fitted.train_.item_counts[fitted.train_.encode_items(often)] >= 20).all()


def test_history_and_early_stopping(medium):
    rng = np.random.default_rng(0)
    held = rng.random(len(medium)) < 0.2
    frame = medium.to_frame()
    frame["rating"] = rng.permutation(frame["rating"])
    shuffled = Ratings.from_frame(frame)
    train, validation = shuffled[~held], shuffled[held]
    # There is nothing to learn but noise, and validation says so.
    model = BiasedALS(5, reg=1.0, n_sweeps=40, patience=2, tol=0.0, verbose=False)
    model.fit(train, validation)
    errors = model.history_["validation_rmse"]
    assert len(errors) == model.best_sweep_ + 2 < 40
    assert model.best_sweep_ == errors.idxmin()
    kept = np.sqrt(np.mean((model.predict(validation) - validation.values) ** 2))
    assert kept == pytest.approx(errors.min(), rel=1e-12)
    assert model.history_.columns.tolist() == ["objective", "train_rmse", "validation_rmse", "seconds"]
    free = clone(model).fit(train)
    assert free.history_["validation_rmse"].isna().all()
    reached = np.sqrt(np.mean((free.predict(train) - train.values) ** 2))
    assert free.history_["train_rmse"].iloc[-1] == pytest.approx(reached, rel=1e-5)


def test_tol_stops(medium):
    model = BiasedALS(2, n_sweeps=500, tol=1e-3, verbose=False).fit(medium)
    assert len(model.history_) < 50


# ---- keeping ------------------------------------------------------------------


@pytest.mark.parametrize("genres", [False, True])
def test_save_and_load_keep_every_bit(medium, tmp_path, genres):
    ratings = with_genres(medium)
    model = BiasedALS(5, genres=genres, n_sweeps=3, verbose=False).fit(ratings)
    model.save(tmp_path / "new" / "model.npz")
    loaded = BiasedALS.load(tmp_path / "new" / "model.npz")
    assert loaded.get_params() == model.get_params()
    for name in ("user_factors_", "item_factors_", "user_bias_", "item_bias_"):
        assert getattr(loaded, name).tobytes() == getattr(model, name).tobytes()
    np.testing.assert_array_equal(loaded.predict(ratings), model.predict(ratings))
    pd.testing.assert_frame_equal(loaded.recommend(1), model.recommend(1))
    pd.testing.assert_frame_equal(loaded.explain(1, 5), model.explain(1, 5))
    pd.testing.assert_frame_equal(loaded.history_, model.history_)
    assert os.listdir(tmp_path / "new") == ["model.npz"]


def rewritten(path, target, **changes):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    about = json.loads(str(arrays["about"])) | changes.pop("about", {})
    arrays |= {"about": np.array(json.dumps(about))} | changes
    np.savez(target, **{name: array for name, array in arrays.items() if array is not None})
    return target


def test_damaged_and_foreign_files_are_refused(fitted, tmp_path):
    path = tmp_path / "model.npz"
    fitted.save(path)
    whole = path.read_bytes()
    bad = tmp_path / "bad.npz"
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:3000] + b"x" * 40 + whole[3040:]):
        bad.write_bytes(content)
        with pytest.raises(ValueError, match="bad.npz"):
            BiasedALS.load(bad)
    np.savez(bad, a=np.zeros(3))
    with pytest.raises(ValueError, match="not a saved model"):
        BiasedALS.load(bad)
    np.savez(bad, about=np.array({"format": "x"}, dtype=object))
    with pytest.raises(ValueError, match="not a saved model"):
        BiasedALS.load(bad)
    with pytest.raises(ValueError, match="format version 99"):
        BiasedALS.load(rewritten(path, bad, about={"version": 99}))
    with pytest.raises(ValueError, match="do not fit together"):
        BiasedALS.load(rewritten(path, bad, item_bias_=np.zeros(3)))
    with pytest.raises(ValueError, match="missing"):
        BiasedALS.load(rewritten(path, bad, user_factors_=None))
    with pytest.raises(FileNotFoundError):
        BiasedALS.load(tmp_path / "none.npz")


def test_a_failed_save_leaves_the_old_file(fitted, tmp_path, monkeypatch):
    path = tmp_path / "model.npz"
    fitted.save(path)
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space"):
        fitted.save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.npz"]


# ---- bad arguments ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_factors": -1}, "n_factors: got -1"),
        ({"n_factors": 2.5}, "n_factors: got 2.5"),
        ({"reg": -0.1}, "reg: got -0.1"),
        ({"bias_reg": np.nan}, "bias_reg: got nan"),
        ({"n_sweeps": 0}, "n_sweeps: got 0"),
        ({"solver": "lu"}, "solver: got 'lu'"),
        ({"dtype": "int8"}, "dtype: got 'int8'"),
        ({"cg_steps": 0}, "cg_steps: got 0"),
        ({"n_threads": 0}, "n_threads: got 0"),
        ({"init_scale": 0.0}, "init_scale: got 0"),
        ({"genres": True}, "genres: got True"),
        ({"genres": True, "genre_reg": 0}, "genre_reg: got 0"),
        ({"reg": 0.0, "bias_reg": 0.0, "n_factors": 10}, "no unique solution"),
    ],
)
def test_bad_parameters(toy, options, words):
    with pytest.raises(ValueError, match=words):
        BiasedALS(verbose=False, **options).fit(toy)


def test_bad_calls(toy, tmp_path, fitted):
    with pytest.raises(NotFittedError):
        BiasedALS().fold_in({1: 3.0})
    with pytest.raises(TypeError, match="ratings: got list"):
        BiasedALS().fit([1, 2])
    with pytest.raises(TypeError, match="validation: got str"):
        BiasedALS().fit(toy, "x")
    for bad, words in (
        ({}, "got none"),
        ({5: 9.0}, "got 9 for movieId 5"),
        ({5: "good"}, "good"),
        ({5: np.nan}, "nan"),
        ({10**6: 3.0}, "no item that was in training"),
        ({"5": 3.0}, "'5'"),
        (pd.DataFrame({"movieId": [5, 5], "rating": [3.0, 4.0]}), "5 more than once"),
    ):
        with pytest.raises(ValueError, match=words):
            fitted.fold_in(bad)
    with pytest.raises(TypeError, match="ratings: got list"):
        fitted.fold_in([5])
    with pytest.raises(ValueError, match="item: got 4"):
        fitted.explain(1, 4)
    with pytest.raises(ValueError, match="user: got 2"):
        fitted.explain(2, 5)
    with pytest.raises(ValueError, match="path: got 'model.pkl'"):
        fitted.save(tmp_path / "model.pkl")
    with pytest.raises(ValueError, match="n_factors: got 0"):
        BiasedALS(0, verbose=False).fit(toy).similar_items(1)
