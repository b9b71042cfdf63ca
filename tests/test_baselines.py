import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import make_ratings
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import Ridge

from recsys_helpers.data.ratings import Ratings
from recsys_helpers.models.base import top_codes
from recsys_helpers.models.baselines import BiasModel, GlobalMean, Popularity, ratings_biases

MODELS = [GlobalMean(), BiasModel(), Popularity()]


def test_global_mean(toy):
    model = GlobalMean().fit(toy)
    assert model.mean_ == pytest.approx(42 / 12)
    np.testing.assert_allclose(model.predict(toy), 42 / 12)


def test_bias_model_by_hand():
    # One user each way: with damping d the biases solve a 2 x 2 system per pair.
    ratings = make_ratings([(1, 1, 5.0), (2, 2, 1.0)])
    model = BiasModel(user_damping=1, item_damping=1, tol=1e-12).fit(ratings)
    # 2 b_u + b_i = 2 and b_u + 2 b_i = 2 give 2/3 each.
    np.testing.assert_allclose(model.user_bias_, [2 / 3, -2 / 3])
    np.testing.assert_allclose(model.item_bias_, [2 / 3, -2 / 3])


@pytest.mark.parametrize("dampings", [(5.0, 5.0), (0.3, 12.0)])
def test_bias_model_is_the_joint_ridge_solution(medium, dampings):
    user_damping, item_damping = dampings
    design = np.zeros((len(medium), medium.n_users + medium.n_items))
    design[np.arange(len(medium)), medium.user_codes] = 1 / np.sqrt(user_damping)
    design[np.arange(len(medium)), medium.n_users + medium.item_codes] = 1 / np.sqrt(item_damping)
    y = medium.values - medium.values.mean(dtype=float)
    coef = Ridge(alpha=1.0, fit_intercept=False, solver="cholesky").fit(design, y).coef_
    model = BiasModel(user_damping, item_damping, tol=1e-10).fit(medium)
    np.testing.assert_allclose(model.user_bias_, coef[: medium.n_users] / np.sqrt(user_damping), atol=1e-7)
    np.testing.assert_allclose(model.item_bias_, coef[medium.n_users :] / np.sqrt(item_damping), atol=1e-7)


def dense_biases(ratings, user_penalty, item_penalty, mean=None):
    """Mean, biases and minimum by a direct solve; the shortest solution where there are many."""
    m, n, rows = ratings.n_users, ratings.n_items, np.arange(len(ratings))
    design = np.zeros((len(ratings) + m + n, 1 + m + n))
    design[rows, 0] = mean is None
    design[rows, 1 + ratings.user_codes] = 1
    design[rows, 1 + m + ratings.item_codes] = 1
    penalty = np.concatenate([np.broadcast_to(user_penalty, m), np.broadcast_to(item_penalty, n)])
    design[len(ratings) :, 1:] = np.diag(np.sqrt(penalty))
    target = np.zeros(len(design))
    target[: len(ratings)] = ratings.values.astype(float) - (mean or 0.0)
    solution = np.linalg.lstsq(design, target, rcond=1e-12)[0]
    rest = target - design @ solution
    return (mean or 0.0) + solution[0], solution[1 : 1 + m], solution[1 + m :], rest @ rest


def minimum_of(found, ratings, user_penalty, item_penalty):
    rest = ratings.values.astype(float) - found.mean
    rest = rest - found.user_bias[ratings.user_codes] - found.item_bias[ratings.item_codes]
    penalty = np.sum(user_penalty * found.user_bias**2) + np.sum(item_penalty * found.item_bias**2)
    return rest @ rest + penalty


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("mean", [None, 3.1])
@pytest.mark.parametrize("kind", ["one", "each", "some"])
def test_biases_agree_with_a_direct_solve(medium, wide, mean, kind):
    if wide:  # more users than items, so that the other side is eliminated
        frame = medium.to_frame().rename(columns={"userId": "movieId", "movieId": "userId"})
        medium = Ratings.from_frame(frame)
    rng = np.random.default_rng(0)
    penalties = {"one": (2.0, 7.0), "each": (rng.uniform(0.1, 9, medium.n_users), medium.item_counts * 0.3)}
    penalties["some"] = (np.where(rng.random(medium.n_users) < 0.5, 0.0, 3.0), 4.0)
    user_penalty, item_penalty = penalties[kind]
    found = ratings_biases(medium, user_penalty, item_penalty, mean=mean)
    level, user_bias, item_bias, minimum = dense_biases(medium, user_penalty, item_penalty, mean)
    assert found.mean == pytest.approx(level, abs=1e-8)
    np.testing.assert_allclose(found.user_bias, user_bias, atol=1e-8)
    np.testing.assert_allclose(found.item_bias, item_bias, atol=1e-8)
    assert minimum_of(found, medium, user_penalty, item_penalty) == pytest.approx(minimum, rel=1e-10)


@pytest.mark.parametrize("mean", [None, 3.0])
def test_biases_without_penalty_in_a_table_of_two_parts(mean):
    # Users 1 to 3 and 4 to 6 have no item in common; user 7 and item 9 are there without ratings.
    rng = np.random.default_rng(3)
    triples = [(u, i, float(rng.integers(1, 6))) for u in (1, 2, 3) for i in (1, 2) if u * i != 4]
    triples += [(u, i, float(rng.integers(1, 6))) for u in (4, 5, 6) for i in (3, 4, 5)]
    whole = make_ratings([*triples, (7, 9, 1.0)])
    ratings = whole[np.arange(len(whole)) != np.flatnonzero(whole.user_ids[whole.user_codes] == 7)[0]]
    assert ratings.n_users == 7 and ratings.n_items == 6
    found = ratings_biases(ratings, 0.0, 0.0, mean=mean)
    assert minimum_of(found, ratings, 0.0, 0.0) == pytest.approx(
        dense_biases(ratings, 0.0, 0.0, mean)[-1], rel=1e-9
    )
    assert found.user_bias[-1] == found.item_bias[-1] == 0
    # The shorter side, weighted by its ratings, has mean zero in each part.
    for part in ([0, 1], [2, 3, 4]):
        assert ratings.item_counts[part] @ found.item_bias[part] == pytest.approx(0, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 20), st.floats(0.01, 20), st.booleans())
def test_biases_have_the_least_objective_of_any_table(seed, user_penalty, item_penalty, free):
    rng = np.random.default_rng(seed)
    cells = rng.permutation(12 * 9)[: rng.integers(1, 60)]
    ratings = make_ratings([(int(c // 9), int(c % 9), float(rng.integers(1, 6))) for c in cells])
    mean = None if free else 3.0
    found = ratings_biases(ratings, user_penalty, item_penalty, mean=mean)
    minimum = dense_biases(ratings, user_penalty, item_penalty, mean)[-1]
    reached = minimum_of(found, ratings, user_penalty, item_penalty)
    assert reached == pytest.approx(minimum, rel=1e-8, abs=1e-9)


def test_bias_model_takes_few_passes(medium):
    assert BiasModel().fit(medium).n_sweeps_ <= 15


@pytest.mark.parametrize("a, b", [(2.0, 0.0), (20.0, -7.0), (0.25, 3.0)])
def test_the_unit_of_ratings_does_not_matter(medium, a, b):
    moved = Ratings.from_frame(
        medium.to_frame().assign(rating=lambda t: a * t["rating"] + b), scale=(a * 0.5 + b, a * 5 + b)
    )
    for model in (GlobalMean(), BiasModel(), Popularity()):
        want = a * clone(model).fit(medium).predict(medium) + b
        np.testing.assert_allclose(clone(model).fit(moved).predict(moved), want, rtol=1e-6, atol=1e-6 * a)


def test_bias_model_without_damping_fits_additive_data_exactly():
    rng = np.random.default_rng(0)
    user, item = rng.normal(0, 0.3, 6), rng.normal(0, 0.3, 7)
    triples = [(u, i, 2.5 + user[u] + item[i]) for u in range(6) for i in range(7) if (u + i) % 3]
    ratings = make_ratings(triples)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = BiasModel(0, 0).fit(ratings)
    np.testing.assert_allclose(model.predict(ratings), ratings.values, atol=1e-5)


def test_bias_model_says_when_it_stopped_early(medium):
    with pytest.warns(ConvergenceWarning, match="max_sweeps=2") as caught:
        assert BiasModel(max_sweeps=2).fit(medium).n_sweeps_ == 2
    assert caught[0].filename == __file__


def test_unknown_users_and_items_fall_back(toy):
    pairs = pd.DataFrame({"userId": [10, 999, 10, 999], "movieId": [1, 1, 999, 999]})
    bias = BiasModel().fit(toy)
    u, i = bias.user_bias_[0], bias.item_bias_[0]
    np.testing.assert_allclose(bias.predict(pairs) - bias.mean_, [u + i, i, u, 0])
    popular = Popularity().fit(toy)
    np.testing.assert_allclose(popular.predict(pairs)[2:], popular.mean_)


def test_popularity_by_hand(toy):
    model = Popularity(damping=2).fit(toy)
    assert model.counts_.tolist() == [3, 2, 1, 3, 3]
    np.testing.assert_allclose(model.item_mean_[0], 3.5 + (11 - 3 * 3.5) / 5)
    # User 30 has not rated 1 and 3; 1 has more ratings.
    assert model.recommend(30)["movieId"].tolist() == [1, 3]
    assert model.recommend(30, n=3, exclude_rated=False)["movieId"].tolist() == [1, 4, 5]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
class TestEveryBaseline:
    def test_interface(self, model, medium):
        model = clone(model).fit(medium)
        predictions = model.predict(medium)
        assert predictions.dtype == np.float64 and predictions.shape == (len(medium),)
        frame = medium.to_frame()
        np.testing.assert_array_equal(predictions, model.predict(frame))
        user = int(medium.user_ids[3])
        top = model.recommend(user, n=5)
        rated = set(frame.loc[frame["userId"] == user, "movieId"])
        assert list(top.columns) == ["movieId", "score"] and len(top) == 5
        assert not rated & set(top["movieId"])
        assert (np.diff(top["score"]) <= 0).all()

    def test_ids_of_another_table(self, model, medium):
        model = clone(model).fit(medium)
        elsewhere = Ratings.from_frame(medium.to_frame().iloc[::-7])
        np.testing.assert_allclose(model.predict(elsewhere), model.predict(medium)[::-7])

    def test_not_fitted(self, model, toy):
        with pytest.raises(NotFittedError, match="fit"):
            clone(model).predict(toy)

    @pytest.mark.parametrize(
        "call, error, words",
        [
            (lambda m, r: m.fit("r"), TypeError, "got str"),
            (lambda m, r: m.fit(r[:0]), ValueError, "at least one"),
            (lambda m, r: m.predict([1, 2]), TypeError, "got list"),
            (lambda m, r: m.recommend(5), ValueError, "not in the training data"),
            (lambda m, r: m.recommend("me"), ValueError, "user"),
            (lambda m, r: m.recommend(10, n=0), ValueError, "n: got 0"),
        ],
    )
    def test_bad_arguments(self, model, toy, call, error, words):
        model = clone(model).fit(toy)
        with pytest.raises(error, match=words):
            call(model, toy)


@pytest.mark.parametrize("bad", [-1, np.nan, "5"])
def test_damping_is_checked(toy, bad):
    with pytest.raises(ValueError, match="damping"):
        BiasModel(user_damping=bad).fit(toy)
    with pytest.raises(ValueError, match="damping"):
        Popularity(damping=bad).fit(toy)


def test_top_codes_breaks_ties_by_position_and_skips_the_unlisted():
    scores = np.array([1.0, 3.0, -np.inf, 3.0, np.nan, 2.0])
    assert top_codes(scores, 2).tolist() == [1, 3]
    assert top_codes(scores, 10).tolist() == [1, 3, 5, 0]
    assert top_codes(np.array([2.0, 2.0, 2.0]), 2).tolist() == [0, 1]


def test_recommend_shows_titles(toy):
    movies = pd.DataFrame({"movieId": [1, 2, 3, 4, 5], "title": ["A", "B", None, "D", "E"]})
    ratings = Ratings.from_frame(toy.to_frame(), movies=movies)
    top = Popularity().fit(ratings).recommend(30)
    assert top["title"].tolist() == ["A", "movie 3"]


def test_popularity_of_late_counts_late_ratings_more():
    """An old film with four ratings of long ago, a new one with two of today; a half-life of ten days."""
    day = 86_400
    rows = [(u, 0, 4.0, 0) for u in range(4)] + [(u, 1, 4.0, 20 * day) for u in range(2)]
    ratings = make_ratings(rows)
    assert Popularity().fit(ratings).counts_.tolist() == [4, 2]
    recent = Popularity(half_life=10.0).fit(ratings)
    np.testing.assert_allclose(recent.counts_, [4 / 4, 2])
    assert recent.recommend(n=1)["movieId"].item() == ratings.item_ids[1]
    np.testing.assert_array_equal(recent.item_mean_, Popularity().fit(ratings).item_mean_)
    with pytest.raises(ValueError, match="half_life: got 3.0 for ratings without times"):
        Popularity(half_life=3.0).fit(make_ratings([row[:3] for row in rows]))
