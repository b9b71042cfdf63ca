"""Bayesian matrix factorization: is what is drawn the posterior, and is it used as one?"""

import numpy as np
import pandas as pd
import pytest
from conftest import make_ratings
from scipy import stats
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from recsys_helpers import BayesianMF, BiasModel, Ratings, rmse
from recsys_helpers.data.splits import random_holdout
from recsys_helpers.kernels.bayes import draw_coefficients
from recsys_helpers.kernels.hashing import normals
from recsys_helpers.models import bayes, gibbs
from recsys_helpers.models.gibbs import Chain, shares_of_sets

QUICK = {"n_factors": 4, "n_sweeps": 40, "n_burn_in": 10, "n_draws": 30, "verbose": False}


@pytest.fixture(scope="module")
def parts(medium):
    return random_holdout(medium, 0.2, seed=1)


@pytest.fixture(scope="module")
def model(parts):
    return BayesianMF(**QUICK).fit(parts[0])


# ---- the parts of the sampler ------------------------------------------------


def test_normals_are_standard_normal_and_belong_to_their_key():
    drawn = np.zeros(100_001)
    normals(np.uint64(7), drawn, 0, len(drawn))
    assert stats.kstest(drawn, "norm").pvalue > 0.01
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.02
    again, other = np.zeros(9), np.zeros(9)
    normals(np.uint64(7), again, 2, 7)
    normals(np.uint64(8), other, 2, 7)
    np.testing.assert_array_equal(again[2:], drawn[:7])
    assert not again[:2].any() and not np.isin(other[2:], again).any()


def test_coefficients_are_those_of_a_bayesian_regression():
    """Gibbs by coordinates, long enough, has the mean and spread of the closed form."""
    rng = np.random.default_rng(0)
    features, roots = rng.normal(size=(30, 3)), np.sqrt(rng.uniform(0.5, 2, 30))
    rows, penalty = rng.normal(size=(30, 1)), np.array([0.5, 2.0, 1.0])
    f, b, draws = csr_array(features).tocsc(), np.zeros((3, 1)), []
    for _ in range(6000):
        residual = (rows - features @ b) * roots[:, None]
        noise = rng.standard_normal((3, 1))
        draw_coefficients(0, 1, f.indptr, f.indices, f.data, roots, penalty, noise, b, residual)
        draws.append(b[:, 0].copy())
        np.testing.assert_allclose(residual, (rows - features @ b) * roots[:, None], atol=1e-9)
    weighted = features * roots[:, None] ** 2
    precision = weighted.T @ features + np.diag(penalty)
    z = (np.array(draws) - np.linalg.solve(precision, weighted.T @ rows)[:, 0]) @ np.linalg.cholesky(
        precision
    )
    assert np.abs(z.mean(axis=0)).max() < 0.1
    assert np.abs(np.cov(z.T) - np.eye(3)).max() < 0.1


# ---- is it the posterior? ------------------------------------------------------
# Geweke's joint test (2004): parameters drawn from the prior must look like those of a chain in which
# the sampler and new data, drawn from the parameters, take turns.


def small_chain(seed):
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(30)[:16]
    ratings = Ratings.from_frame(
        pd.DataFrame({"userId": pairs // 5, "movieId": pairs % 5, "rating": rng.choice([1.0, 5.0], 16)})
    )
    sets = shares_of_sets(ratings.by_user), csr_array(rng.normal(size=(ratings.n_items, 2)))
    chain = Chain(ratings, 2, [sets[0]], [sets[1]], rng, "float64", 1)
    return chain, ratings


def draw_from_prior(chain, rng):
    for side in (chain.users, chain.items):
        n, k = side.factors.shape
        root = np.linalg.cholesky(stats.wishart.rvs(k, np.eye(k), random_state=rng))
        side.root[...], side.bias_precision[0] = root, rng.gamma(0.5, 2)
        side.link[...] = rng.gamma(0.5, 2, len(side.link))
        side.tightness[...] = rng.gamma(2, 0.5, len(side.tightness))

        def around(n, precision, side=side, root=root, k=k):
            z = rng.standard_normal((n, k + 1)) / np.sqrt(precision)
            return np.column_stack(
                [np.linalg.solve(root.T, z[:, :k].T).T, z[:, k] / np.sqrt(side.bias_precision)]
            )

        side.mean[...] = around(1, 2.0)[0]
        if not side.free_mean:
            side.mean[k] = 0
        side.coefficients[...] = around(len(side.coefficients), side.link[0])
        rows = side.mean + side.linear() + around(n, side.tightness[side.group][:, None])
        side.factors[...], side.bias[...] = rows[:, :k], rows[:, k]
    chain.noise[0] = 1 / np.sqrt(rng.gamma(1, 1))


def new_data(chain, ratings, rng):
    users, items = ratings.user_codes, ratings.item_codes
    u, i = chain.users, chain.items
    mean = (u.factors[users] * i.factors[items]).sum(1) + u.bias[users] + i.bias[items]
    values = mean + chain.noise[0] * rng.standard_normal(len(mean))
    for place, (rows, columns) in enumerate(((users, items), (items, users))):
        chain.values[place] = values[np.lexsort((columns, rows))].astype(np.float32)
        chain.values[place].flags.writeable = False


def told(chain):
    """Bounded functions of everything that is drawn."""
    out = [np.log(chain.noise[0])]
    for side in (chain.users, chain.items):
        precision = side.root @ side.root.T
        out += [
            np.log(precision[0, 0]), np.tanh(precision[0, 1]), np.log(side.bias_precision[0]),
            np.log(side.link[0]), np.log(side.tightness[-1]), np.tanh(side.mean[0]), np.tanh(side.mean[2]),
            np.tanh(side.mean[2] ** 2), np.tanh(side.factors[0, 0]), np.tanh(side.factors[0, 0] ** 2),
            np.tanh(side.factors[1] @ side.factors[2]), np.tanh(side.bias[1] ** 2),
            np.tanh(side.coefficients[0, 0] * side.factors[0, 0]), np.tanh(side.coefficients[1, 2] ** 2),
        ]  # fmt: skip
    u, i = chain.users, chain.items
    return np.array([*out, np.tanh(u.factors[0] @ i.factors[0]), np.tanh(u.bias[0] * i.bias[0])])


def largest_z(repeats, seed, sweeps=4):
    """How far what is told moves when the sampler and new data take turns, in standard errors.

    Each repeat starts at a draw from the prior, so it must end at one, however slowly the chain mixes.
    """
    chain, ratings = small_chain(seed)
    rng = np.random.default_rng(seed + 1)
    moved = []
    with threadpool_limits(1, user_api="blas"):
        for _ in range(repeats):
            draw_from_prior(chain, rng)
            before = told(chain)
            for _ in range(sweeps):
                new_data(chain, ratings, rng)
                chain.sweep()
            moved.append(told(chain) - before)
    moved = np.array(moved)
    error = moved.std(axis=0, ddof=1) / np.sqrt(repeats)
    return np.abs(moved.mean(axis=0)) / np.maximum(error, 1e-12)


def test_the_joint_distribution_is_that_of_the_model():
    assert largest_z(1000, 3).max() < 4.5


@pytest.mark.parametrize("wrong", ["one degree of freedom too many", "rows drawn too narrowly"])
def test_a_wrong_conditional_is_noticed(monkeypatch, wrong):
    if wrong.startswith("one"):
        draw = stats.wishart.rvs
        fault = type(
            "Wishart", (), {"rvs": lambda df, scale, random_state: draw(df + 1, scale, 1, random_state)}
        )
        monkeypatch.setattr(gibbs, "wishart", fault)
    else:
        solve = gibbs.solve_rows
        monkeypatch.setattr(gibbs, "solve_rows", lambda *a: solve(*a[:-4], 0.7 * a[-4], *a[-3:]))
    assert largest_z(500, 3).max() > 6


# ---- is it used as one? ----------------------------------------------------------


def test_predictions_are_averages_of_the_draws(model, parts):
    test = parts[1]
    mean, std = model.predict(test, return_std=True)
    draws = model.draws(test)
    np.testing.assert_allclose(mean, draws.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(mean, model.predict(test), atol=1e-12)
    known = (parts[0].user_counts[test.user_codes] > 0) & (parts[0].item_counts[test.item_codes] > 0)
    expected = np.sqrt(draws.var(axis=0) + np.mean(model.noise_**2))
    np.testing.assert_allclose(std[known], expected[known], rtol=1e-4)
    lower, upper = model.predict_interval(test, 0.8).T
    np.testing.assert_allclose(upper - lower, 2 * stats.norm.ppf(0.9) * std)
    np.testing.assert_allclose((upper + lower) / 2, mean)


def test_intervals_hold_as_many_ratings_as_they_say():
    """On data from the model itself, with 50, 80 and 95 percent."""
    rng = np.random.default_rng(4)
    p, q = rng.normal(0, 0.6, (150, 3)), rng.normal(0, 0.6, (100, 3))
    users, items = np.nonzero(rng.random((150, 100)) < 0.3)
    value = 3 + (p[users] * q[items]).sum(1) + rng.normal(0, 0.4, 150)[users] + rng.normal(0, 0.5, len(users))
    table = pd.DataFrame({"userId": users, "movieId": items, "rating": value})
    train, test = random_holdout(Ratings.from_frame(table, scale=(-9.0, 15.0)), 0.3, seed=0)
    model = BayesianMF(4, sets=False, n_sweeps=150, n_burn_in=50, n_draws=100, verbose=False).fit(train)
    for level in (0.5, 0.8, 0.95):
        lower, upper = model.predict_interval(test, level).T
        held = np.mean((test.values >= lower) & (test.values <= upper))
        assert abs(held - level) < 0.03
    assert abs(model.noise_.mean() - 0.5) < 0.03


def test_better_than_biases_and_than_one_draw(parts):
    train, test = parts
    model = BayesianMF(verbose=False).fit(train)
    error = rmse(test.values, model.predict(test))
    assert error < rmse(test.values, BiasModel().fit(train).predict(test))
    assert error < rmse(test.values, model.draws(test)[-1])


def test_who_is_unknown_is_less_certain(model, parts):
    train = parts[0]
    user, item = train.user_ids[train.user_counts.argmax()], train.item_ids[train.item_counts.argmax()]
    pairs = pd.DataFrame({"userId": [user, -5, user, -5], "movieId": [item, item, -7, -7]})
    mean, std = model.predict(pairs, return_std=True)
    assert std[0] < min(std[1], std[2]) and max(std[1], std[2]) < std[3]
    assert np.isfinite(mean).all() and std[0] > np.sqrt(np.mean(model.noise_**2))


def test_a_newcomer_learns_with_each_rating(model, parts):
    train = parts[0]
    items = train.item_ids[np.argsort(-train.item_counts)]
    watched = dict(zip(items[1:40].tolist(), np.linspace(2, 4.5, 39).round(1), strict=True))
    few, many = model.fold_in(dict(list(watched.items())[:2])), model.fold_in(watched)
    assert many.predict(items[:1], return_std=True)[1] < few.predict(items[:1], return_std=True)[1]
    np.testing.assert_allclose(few.predict(items[:3]), few.predict(items[:3], return_std=True)[0])
    assert np.isnan(few.predict([-1], return_std=True)[1]).all() and np.isfinite(few.predict([-1])).all()
    # The mean of the conditional posterior, by the normal equations of each draw.
    codes = train.encode_items(np.array(list(watched)))
    d, k = 3, model.n_factors
    x = np.column_stack([model.item_draws_[d, codes], np.ones(39)]).astype(np.float64)
    prior = np.append(model.user_draws_[d, -1], model.user_bias_draws_[d, -1]).astype(np.float64)
    prior += model.user_coefficients_[d, codes].sum(axis=0) / np.sqrt(39)
    penalty = np.zeros((k + 1, k + 1))
    penalty[:k, :k] = model.user_root_[d] @ model.user_root_[d].T
    penalty[k, k] = model.user_bias_precision_[d]
    penalty *= model.user_tightness_[d, gibbs.group_of(39)] * (model.noise_[d] / model.scale_) ** 2
    target = (np.array(list(watched.values()), np.float32) - model.mean_) / model.scale_
    target = target - model.item_bias_draws_[d, codes]
    row = np.linalg.solve(x.T @ x + penalty, x.T @ target + penalty @ prior)
    np.testing.assert_allclose(np.append(many.factors[d], many.biases[d]), row, atol=1e-5)


def test_lists_by_mean_quantile_and_draw(model, parts):
    user = parts[0].user_ids[3]
    by_mean = model.recommend(user, 50)
    pd.testing.assert_frame_equal(by_mean, model.recommend(user, 50, by="upper", level=0.5))
    bold = model.recommend(user, 50, by="upper", level=0.95)
    assert (bold["score"].to_numpy() > by_mean["score"].to_numpy()).all()
    one, same, other = (model.recommend(user, 10, by="thompson", random_state=s) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(one, same)
    assert not one.equals(other)
    newcomer = model.fold_in({parts[0].item_ids[0]: 4.0})
    for by in ("mean", "upper", "thompson"):
        assert len(newcomer.recommend(5, by=by, random_state=0)) == len(model.recommend(n=5, by=by)) == 5
        assert len(model.recommend(parts[0].user_ids[:3], 4, by=by)) == 12


def test_features_teach_about_items_without_ratings():
    """Half of the films are of a kind that everybody likes; unrated ones are told apart by it alone."""
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((80, 60)) < 0.4)
    kind = np.arange(60) % 2
    value = np.clip(np.round(2.5 + 2 * kind[items] + rng.normal(0, 0.5, len(items))), 1, 5)
    table = pd.DataFrame({"userId": users, "movieId": items, "rating": value})
    cold = table["movieId"] < 10
    features = pd.DataFrame({"kind": kind}, index=np.arange(60))
    ratings = Ratings.from_frame(table)
    train = ratings[~cold.to_numpy()]
    model = BayesianMF(**QUICK | {"sets": False}).fit(train, item_features=features)
    pairs = pd.DataFrame({"userId": 0, "movieId": np.arange(10)})
    predicted = model.predict(pairs)
    assert predicted[1::2].min() > predicted[::2].max() + 1
    same = BayesianMF(**QUICK | {"sets": False}).fit(train, item_features=csr_array(features.to_numpy(float)))
    np.testing.assert_allclose(same.predict(pairs), predicted)


def test_the_unit_does_not_matter(parts):
    table, test = parts[0].to_frame(), parts[1].to_frame()
    one, two = (
        BayesianMF(**QUICK).fit(
            Ratings.from_frame(table.assign(rating=times * table["rating"]), scale=(times * 0.5, times * 5.0))
        )
        for times in (1, 2)
    )
    np.testing.assert_allclose(two.predict(test), 2 * one.predict(test), rtol=1e-12)


@pytest.mark.parametrize(
    "triples",
    [
        [(1, 1, 3.0)],
        [(1, 1, 3.0), (1, 2, 3.0)],
        [(1, 1, 5.0), (2, 1, 1.0), (1, 2, 2.0)],
        [(user, item, 3.0) for user in range(5) for item in range(6)],
        [(0, item, float(item % 5 + 1)) for item in range(50)],
        [(user, 0, user / 10) for user in range(5, 50)],
    ],
    ids=["one rating", "one user, two items", "three", "all alike", "one user", "one item"],
)
def test_small_tables(triples):
    """A chain on little data moves far; it must neither stop there nor give numbers that are none."""
    ratings = make_ratings(triples)
    for sets in (True, False):
        model = BayesianMF(**QUICK | {"sets": sets}).fit(ratings)
        mean, std = model.predict(ratings, return_std=True)
        assert np.isfinite(mean).all() and (std > 0).all()
        newcomer = model.fold_in({triples[0][1]: triples[0][2]})
        assert np.isfinite(newcomer.predict([triples[0][1]], return_std=True)).all()
        for by in ("mean", "upper", "thompson"):
            assert len(model.recommend(triples[0][0], by=by, exclude_rated=False, random_state=0)) > 0


def test_history_and_what_is_kept(parts):
    model = BayesianMF(**QUICK | {"n_draws": 7}).fit(*parts)
    assert list(model.history_.index) == list(range(1, 41))
    assert model.history_["validation_rmse"].notna().sum() == 7 == len(model.noise_)
    last = model.history_["validation_rmse"].iloc[-1]
    assert last == pytest.approx(rmse(parts[1].values, model.predict(parts[1])), abs=1e-5)
    assert model.user_draws_.shape == (7, parts[0].n_users + 1, 4)


def test_as_many_draws_are_kept_as_there_is_room_for(parts, monkeypatch):
    settings = QUICK | {"n_draws": "auto", "n_sweeps": 30, "n_burn_in": 5}
    assert len(BayesianMF(**settings).fit(parts[0]).noise_) == 25
    one = 4 * 5 * (parts[0].n_users + 2 * parts[0].n_items)
    monkeypatch.setattr(bayes, "DRAWS_BYTES", 12.5 * one)
    model = BayesianMF(**settings).fit(parts[0])
    assert len(model.noise_) == 12
    kept = model.user_draws_, model.item_draws_, model.user_coefficients_
    assert sum(x.nbytes for x in kept) < 12.5 * one
    monkeypatch.setattr(bayes, "DRAWS_BYTES", 0)
    assert len(BayesianMF(**settings).fit(parts[0]).noise_) == bayes.FEWEST_DRAWS


def test_bad_arguments(parts):
    train = parts[0]
    with pytest.raises(ValueError, match="n_burn_in: got 40; expected less than n_sweeps=40"):
        BayesianMF(n_sweeps=40, n_burn_in=40).fit(train)
    model = BayesianMF(**QUICK)
    index = train.item_ids
    for table, message in (
        (pd.DataFrame({"a": 1.0}, index=[*index[:3], index[0]]), "an id twice"),
        (pd.DataFrame({"a": "x"}, index=index), "no numbers"),
        (pd.DataFrame({"a": 1.0}, index=index + 10**6), "without any id"),
        (pd.DataFrame({"a": np.nan}, index=index), "not finite"),
        (np.ones((3, 2)), f"got 3 rows; expected {len(index)}"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(train, item_features=table)
    with pytest.raises(ValueError, match="genres: got True"):
        BayesianMF(**QUICK | {"genres": True}).fit(make_ratings([(1, 1, 3.0), (2, 1, 4.0)]))
    fitted = BayesianMF(**QUICK).fit(train)
    for level in (0, 1, 1.5):
        with pytest.raises(ValueError, match="level"):
            fitted.predict_interval(parts[1], level)
    with pytest.raises(ValueError, match="by: got 'uper'.*did you mean 'upper'"):
        fitted.recommend(by="uper")
