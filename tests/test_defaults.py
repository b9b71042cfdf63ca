"""Defaults on tables of every kind: no worse than tuned biases, in any unit, and told where they are."""

import importlib.util
import warnings

import numpy as np
import pytest
from conftest import make_ratings
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from recsys_helpers.data import synthetic_ratings
from recsys_helpers.data.ratings import Ratings
from recsys_helpers.models import (
    NMF,
    BiasedALS,
    BiasModel,
    FunkSVD,
    GradientMF,
    ImputedSVD,
    ItemKNN,
    NuclearNormCompletion,
    PureSVD,
    SVDpp,
    UserKNN,
    load_model,
)
from recsys_helpers.models.automatic import (
    WorseThanBiases,
    chosen_penalty,
    noise_norm,
    ratings_biases,
    unit,
)

QUIET = {"verbose": False}
has_jax = importlib.util.find_spec("optax") is not None
ADAM = [pytest.param(GradientMF(**QUIET), id="GradientMF")] if has_jax else []
MODELS = {
    "BiasedALS": BiasedALS(**QUIET),
    "BiasedALS-128": BiasedALS(128, **QUIET),
    "BiasedALS-weighted": BiasedALS(weighted=True, **QUIET),
    "FunkSVD": FunkSVD(**QUIET),
    "SVDpp": SVDpp(**QUIET),
    "NuclearNormCompletion": NuclearNormCompletion(tol=1e-3, **QUIET),
}
LEARNERS = [pytest.param(model, id=name) for name, model in MODELS.items()] + ADAM


def rmse(model, held):
    return float(np.sqrt(np.mean((model.predict(held) - held.values) ** 2)))


def parts(ratings, share=0.15):
    held = np.random.default_rng(0).random(len(ratings)) < share
    return ratings[~held], ratings[held]


def moved(ratings, a, b=0.0):
    """The same ratings in another unit."""
    low, high = ratings.scale
    frame = ratings.to_frame()
    frame["rating"] = a * frame["rating"].astype(np.float64) + b
    return Ratings.from_frame(frame, scale=(a * low + b, a * high + b))


def tuned_biases(train, held):
    """The least that biases reach on the held-out ratings themselves: better than any honest search."""
    return min(rmse(BiasModel(u, i).fit(train), held) for u in (1, 3, 8) for i in (1, 3, 8))


# Users, items, ratings, rank, noise, whether in whole stars: sparse and dense, easy and hopeless.
TABLES = {
    "little noise": (150, 120, 6000, 2, 0.4, False),
    "much noise": (200, 150, 5000, 8, 0.85, True),
    "no taste": (100, 700, 5000, 0, 0.9, False),
    "larger": (400, 500, 25000, 4, 0.6, True),
}


@pytest.fixture(scope="module", params=TABLES)
def table(request):
    m, n, size, rank, noise, whole_stars = TABLES[request.param]
    ratings = synthetic_ratings(m, n, size, seed=5, rank=rank, noise=noise)
    if whole_stars:
        frame = ratings.to_frame()
        frame["rating"] = np.clip(np.round(frame["rating"]), 1, 5)
        ratings = Ratings.from_frame(frame, scale=(1.0, 5.0))
    train, held = parts(ratings)
    return request.param, train, held, tuned_biases(train, held)


@pytest.mark.parametrize("model", LEARNERS)
def test_no_default_is_worse_than_tuned_biases(table, model):
    name, train, held, biases = table
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        error = rmse(clone(model).fit(train), held)
    told = any(issubclass(one.category, WorseThanBiases) for one in said)
    # The biases were tuned on the held-out part itself: half a percent is what that is worth here.
    assert error <= 1.005 * biases or (told and error <= 1.02 * biases)
    if name in ("little noise", "larger"):
        assert error < 0.99 * biases and not told


@pytest.mark.parametrize("a, b", [(2.0, 0.0), (20.0, -7.0), (0.01, 5.0)])
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(BiasModel(), id="BiasModel"),
        pytest.param(BiasedALS(8, dtype="float64", **QUIET), id="BiasedALS"),
        pytest.param(BiasedALS(8, weighted=True, dtype="float64", **QUIET), id="weighted"),
        pytest.param(FunkSVD(8, n_epochs=5, **QUIET), id="FunkSVD"),
        pytest.param(SVDpp(8, n_epochs=5, **QUIET), id="SVDpp"),
        pytest.param(NuclearNormCompletion(tol=1e-6, **QUIET), id="completion"),
        pytest.param(ItemKNN(similarity="centered_cosine", **QUIET), id="ItemKNN"),
        pytest.param(UserKNN(similarity="centered_cosine", **QUIET), id="UserKNN"),
        pytest.param(ImputedSVD(4, dtype="float64"), id="ImputedSVD"),
        *([pytest.param(GradientMF(8, n_epochs=5, **QUIET), id="GradientMF")] if has_jax else []),
    ],
)
def test_the_unit_and_the_zero_of_ratings_do_not_matter(medium, model, a, b):
    plain = clone(model).fit(medium).predict(medium)
    other = clone(model).fit(moved(medium, a, b)).predict(moved(medium, a, b))
    np.testing.assert_allclose((other - b) / a, plain, atol=2e-3)


@pytest.mark.parametrize("a", [2.0, 20.0, 0.01])
@pytest.mark.parametrize(
    "model", [NMF(4, n_sweeps=20, tol=0, dtype="float64", **QUIET), PureSVD(4), ItemKNN(**QUIET)],
    ids=["NMF", "PureSVD", "ItemKNN"],
)  # fmt: skip
def test_where_zero_has_a_meaning_the_unit_does_not_matter(medium, model, a):
    plain = clone(model).fit(medium).predict(medium)
    other = clone(model).fit(moved(medium, a)).predict(moved(medium, a))
    np.testing.assert_allclose(other / a, plain, atol=2e-3)


def test_the_chosen_penalty_is_shown_and_kept(medium, tmp_path):
    model = BiasedALS(4, **QUIET).fit(medium)
    assert model.reg == "auto" and model.reg_ > 0 and model.bias_reg_ > 0
    again = BiasedALS(4, reg=model.reg_, bias_reg=model.bias_reg_, **QUIET).fit(medium)
    np.testing.assert_array_equal(again.predict(medium), model.predict(medium))
    model.save(tmp_path / "m.npz")
    kept = load_model(tmp_path / "m.npz")
    user = int(medium.user_ids[0])
    assert kept.reg_ == model.reg_
    newcomer = kept.fold_in(dict(zip(medium.item_ids[:3].tolist(), [4.0, 2.0, 5.0], strict=True)))
    assert len(newcomer.recommend(3)) == 3 and len(kept.explain(user, int(medium.item_ids[0]))) > 0


def test_given_penalties_are_taken_as_they_are(medium):
    model = BiasedALS(4, reg=7.0, **QUIET).fit(medium)
    assert (model.reg_, model.bias_reg_) == (7.0, 3.0)
    model = BiasedALS(4, bias_reg=1.5, **QUIET).fit(medium)
    assert model.bias_reg_ == 1.5


@pytest.mark.parametrize("bad", ["best", -1, None])
def test_a_penalty_is_a_number_or_auto(medium, bad):
    with pytest.raises(ValueError, match="reg: got"):
        BiasedALS(4, reg=bad, **QUIET).fit(medium)


def test_noise_norm_is_that_of_a_random_matrix():
    rng = np.random.default_rng(0)
    seen = rng.random((300, 200)) < 0.3
    users, items = np.nonzero(seen)
    ratings = make_ratings([(int(u), int(i), 3.0) for u, i in zip(users, items, strict=True)])
    noise = np.zeros(seen.shape)
    noise[seen] = 0.7 * rng.standard_normal(len(users))
    assert noise_norm(ratings, 0.7) == pytest.approx(np.linalg.norm(noise, 2), rel=0.05)
    weighted = noise / np.sqrt(seen.sum(axis=1)[:, None] * seen.sum(axis=0))
    assert noise_norm(ratings, 0.7, weighted=True) == pytest.approx(np.linalg.norm(weighted, 2), rel=0.05)


def test_the_unit_is_the_width_of_the_scale(toy):
    assert unit(toy) == 1.0 and unit(moved(toy, 20, 3)) == pytest.approx(20)


def test_a_penalty_at_each_rating_that_loses_to_biases_is_told():
    ratings = synthetic_ratings(100, 700, 5000, seed=5, rank=0, noise=0.9)
    for model in (BiasedALS(8, weighted=True, **QUIET), FunkSVD(8, **QUIET), SVDpp(8, **QUIET)):
        with pytest.warns(WorseThanBiases, match="where BiasModel has"):
            model.fit(ratings)
    with warnings.catch_warnings():
        warnings.simplefilter("error", WorseThanBiases)
        BiasedALS(8, **QUIET).fit(ratings)


def test_no_factor_survives_where_there_is_nothing_to_learn():
    ratings = synthetic_ratings(60, 400, 2000, seed=1, rank=0, noise=0.9)
    assert not chosen_penalty(ratings, 8).taste
    model = BiasedALS(8, **QUIET).fit(ratings)
    biases = ratings_biases(ratings, model.bias_reg_, model.bias_reg_, mean=model.mean_)
    want = biases.mean + biases.user_bias[ratings.user_codes] + biases.item_bias[ratings.item_codes]
    np.testing.assert_allclose(model.predict(ratings), want, atol=5e-3)


@pytest.mark.parametrize("triples", [[(1, 1, 3.0)], [(1, 1, 5.0), (2, 2, 1.0), (1, 2, 4.0), (2, 1, 4.0)]])
def test_the_smallest_tables_are_fitted(triples):
    ratings = make_ratings(triples)
    for model in (BiasedALS(2, **QUIET), BiasedALS(2, weighted=True, **QUIET), FunkSVD(2, **QUIET)):
        assert np.isfinite(model.fit(ratings).predict(ratings)).all()


def test_a_fit_that_its_validation_finds_worse_than_biases_says_so(medium):
    train, held = parts(medium)
    with pytest.warns(WorseThanBiases, match="worse than the .* of BiasModel") as caught:
        BiasedALS(20, reg=1e-3, n_sweeps=3, tol=0, **QUIET).fit(train, held)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", WorseThanBiases)
        warnings.simplefilter("ignore", ConvergenceWarning)
        BiasedALS(4, **QUIET).fit(train, held)


@pytest.mark.skipif(not has_jax, reason="GradientMF needs JAX and optax")
def test_gradient_steps_do_not_end_above_their_start():
    ratings = synthetic_ratings(300, 200, 20000, seed=0)
    frame = ratings.to_frame()
    frame["rating"] = np.clip(np.round(frame["rating"]), 1, 5)
    train, held = parts(Ratings.from_frame(frame, scale=(1.0, 5.0)))
    model = GradientMF(64, **QUIET).fit(train)
    assert rmse(model, held) < 1.005 * tuned_biases(train, held)
    # A rate at which every step goes past its goal is halved until it does not, and that is said.
    with pytest.warns(ConvergenceWarning, match="diverged with learning_rate"):
        again = GradientMF(8, 10.0, learning_rate=3.0, n_epochs=5, **QUIET).fit(train)
    assert again.learning_rate_ < 3.0 and rmse(again, held) < 1.2 * rmse(model, held)
