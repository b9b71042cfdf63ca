import numpy as np
import pandas as pd
import pytest
from conftest import make_ratings
from reference import nmf_sweep
from sklearn.base import clone
from sklearn.decomposition import NMF as ReferenceNMF

from recsys_helpers import NMF, BiasModel, Ratings
from recsys_helpers.kernels.nmf import descend_rows
from recsys_helpers.models import nmf as module

EXACT = dict(dtype="float64", tol=0.0, verbose=False)


def full_table(m=30, n=20, seed=0):
    """A table without gaps, as an array and as ratings."""
    table = np.random.default_rng(seed).integers(1, 11, (m, n)) / 2
    u, i = np.divmod(np.arange(m * n), n)
    return table, Ratings.from_frame(pd.DataFrame({"userId": u, "movieId": i, "rating": table.ravel()}))


def starts(shape, k, seed=1):
    rng = np.random.default_rng(seed)
    return tuple(rng.random((size, k)) for size in shape)


@pytest.mark.parametrize("reg", [0.0, 0.3])
def test_a_sweep_takes_the_steps_of_the_definition(medium, reg):
    start = starts(medium.shape, 5)
    expected = nmf_sweep(medium, *start, reg)
    expected = nmf_sweep(medium, *expected, reg)
    model = NMF(5, reg, n_sweeps=2, **EXACT).fit(medium, start=start)
    np.testing.assert_allclose(model.user_factors_, expected[0], atol=1e-11)
    np.testing.assert_allclose(model.item_factors_, expected[1], atol=1e-11)


@pytest.mark.parametrize("reg", [0.0, 0.05])
@pytest.mark.parametrize("sweeps", [1, 3, 200])
def test_without_gaps_it_is_the_nmf_of_scikit_learn(reg, sweeps):
    table, ratings = full_table()
    w, h = starts(ratings.shape, 4)
    peer = ReferenceNMF(
        4, init="custom", solver="cd", tol=0, max_iter=sweeps, alpha_W=reg, alpha_H=reg, l1_ratio=0.0
    )
    user = peer.fit_transform(table, W=w.copy(), H=h.T.copy())
    mine = NMF(4, reg, n_sweeps=sweeps, **EXACT).fit(ratings, start=(w, h))
    np.testing.assert_allclose(mine.user_factors_, user, atol=1e-6)
    np.testing.assert_allclose(mine.item_factors_, peer.components_.T, atol=1e-6)


def test_the_objective_is_what_it_says_and_never_rises(medium):
    model = NMF(4, 0.2, n_sweeps=30, **EXACT).fit(medium)
    p, q = model.user_factors_[medium.user_codes], model.item_factors_[medium.item_codes]
    error = medium.values - np.sum(p * q, axis=1)
    total = error @ error + 0.2 * (np.sum(p * p) + np.sum(q * q))
    assert model.history_["objective"].iloc[-1] == pytest.approx(total, rel=1e-10)
    assert model.history_["train_rmse"].iloc[-1] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-10)
    assert (np.diff(model.history_["objective"]) <= 1e-9).all()
    assert (model.user_factors_ >= 0).all() and (model.item_factors_ >= 0).all()


def test_parts_are_found_again():
    """Two camps that each rate their own films high and give the others the lowest mark."""
    u, i = np.divmod(np.arange(400), 20)
    value = np.where((u < 10) == (i < 8), 5.0, 0.5)
    seen = np.random.default_rng(0).random(400) < 0.5
    train = make_ratings(list(zip(u[seen], i[seen], value[seen], strict=True)))
    model = NMF(2, 0.01, n_sweeps=200, verbose=False).fit(train)
    share = model.item_factors_ / model.item_factors_.sum(axis=1, keepdims=True)
    first = share[:, share[:8, 0].mean().round().astype(int) ^ 1]
    assert first[:8].min() > 0.8 and first[8:].max() < 0.2
    pairs = pd.DataFrame({"userId": u[~seen], "movieId": i[~seen]})
    assert np.abs(model.predict(pairs) - value[~seen]).max() < 0.5


def test_early_stopping_goes_back_to_the_best_sweep(medium):
    held = np.random.default_rng(0).random(len(medium)) < 0.3
    train, validation = medium[~held], medium[held]
    model = NMF(15, 0.0, n_sweeps=300, patience=3, **EXACT).fit(train, validation)
    history = model.history_["validation_rmse"]
    assert len(history) == model.best_sweep_ + 3 and model.best_sweep_ == history.idxmin()
    error = model.predict(validation) - validation.values
    assert np.sqrt(np.mean(error**2)) == pytest.approx(history.min(), rel=1e-9)


def test_pairs_without_parts_get_the_biases(medium):
    train = medium[(medium.user_codes != 3) & (medium.item_codes != 7)]
    model, bias = NMF(4, verbose=False).fit(train), BiasModel().fit(train)
    pairs = pd.DataFrame(
        {
            "userId": [medium.user_ids[3], medium.user_ids[5], 999, medium.user_ids[5]],
            "movieId": [medium.item_ids[1], medium.item_ids[7], 999_999, 999_999],
        }
    )
    np.testing.assert_allclose(model.predict(pairs), bias.predict(pairs))
    assert not model.user_factors_[3].any() and not model.item_factors_[7].any()


def test_fold_in_finds_the_best_parts(medium):
    model = NMF(4, 0.1, n_sweeps=50, **EXACT).fit(medium)
    new = model.fold_in({5: 5.0, 9: 1.0, 21: 4.0})
    codes = medium.encode_items([5, 9, 21])
    h, r = model.item_factors_[codes], np.array([5.0, 1, 4])

    def cost(w):
        return np.sum((r - h @ w) ** 2) + 0.3 * w @ w

    rng = np.random.default_rng(0)
    assert (new.factors >= 0).all()
    for _ in range(50):
        assert cost(np.maximum(new.factors + rng.normal(0, 1e-3, 4), 0)) >= cost(new.factors)
    told = new.explain(medium.item_ids[30])
    total = told["contribution"].sum() + told.attrs["baseline"]
    assert total == pytest.approx(new.predict([medium.item_ids[30]])[0], rel=1e-9)
    assert not new.recommend(80)["movieId"].isin([5, 9, 21]).any()
    assert len(model.recommend(medium.user_ids[0], n=3)) == 3


def test_same_seed_same_bits_whatever_the_threads(medium, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_WORK", 1e3)
    fits = [NMF(6, n_sweeps=3, tol=0, n_threads=t, verbose=False).fit(medium) for t in (1, 2, 5)]
    assert len({fit.user_factors_.tobytes() + fit.item_factors_.tobytes() for fit in fits}) == 1
    assert len({fit.history_["objective"].iloc[-1] for fit in fits}) == 1
    other = NMF(6, n_sweeps=3, tol=0, random_state=1, verbose=False).fit(medium)
    assert not np.array_equal(other.user_factors_, fits[0].user_factors_)
    assert clone(other).random_state == 1


def test_a_row_without_ratings_is_set_to_zero():
    out = np.ones((2, 3))
    args = np.array([0, 0, 1], np.int32), np.zeros(1, np.int32), np.ones(1, np.float32)
    total = descend_rows(0, 2, *args, np.ones((1, 3)), 0.0, out)
    assert not out[0].any() and total == pytest.approx((1 - out[1].sum()) ** 2)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_factors": 0}, "n_factors: got 0"),
        ({"reg": -1.0}, "reg: got -1.0"),
        ({"tol": np.inf}, "tol: got inf"),
        ({"n_sweeps": 0}, "n_sweeps: got 0"),
        ({"dtype": "int8"}, "dtype: got 'int8'"),
        ({"n_threads": 0}, "n_threads: got 0"),
    ],
)
def test_bad_parameters(toy, options, message):
    with pytest.raises(ValueError, match=message):
        NMF(**options).fit(toy)


def test_bad_input(toy):
    p, q = starts(toy.shape, 2)
    with pytest.raises(ValueError, match="start: got item factors"):
        NMF(2).fit(toy, start=(p, -q))
    with pytest.raises(ValueError, match="start: got user factors of shape"):
        NMF(3).fit(toy, start=(p, q))
    low = make_ratings([(1, 1, -1.0), (2, 2, 3.0)], scale=(-10, 10))
    with pytest.raises(ValueError, match="ratings: got -1.0; expected none below 0"):
        NMF(1).fit(low)
