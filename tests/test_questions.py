"""What to ask a newcomer next, and how far a prediction may be off."""

import numpy as np
import pytest
from conftest import make_ratings

from recsys_helpers import BiasedALS, BiasModel, export, load_movielens
from recsys_helpers.evaluation import paired_differences
from recsys_helpers.serving import Questions, coverage, estimate_noise, simulate_questions
from recsys_helpers.serving.questions import LEAST_CHANCE, STRATEGIES


def fit(ratings, **options):
    return BiasedALS(**({"n_factors": 4, "reg": 3.0, "n_sweeps": 6, "verbose": False} | options)).fit(ratings)


@pytest.fixture(scope="module")
def model(medium):
    return fit(medium)


@pytest.fixture(scope="module")
def asking(model):
    return Questions(model, noise=0.8)


def inverse(model, ids):
    """The inverse of the normal equations, written down on its own; and x of every item."""
    x = np.column_stack([model.item_factors_, np.ones(model.train_.n_items)]).astype(float)
    own = x[model.train_.encode_items(ids)] if len(ids) else x[:0]
    times = max(len(ids), 1) if model.weighted else 1
    return np.linalg.inv(own.T @ own + times * np.diag([model.reg_] * model.n_factors + [model.bias_reg_])), x


def drawn(m=150, n=40, noise=0.5, seed=0):
    """Ratings that come about as the model supposes."""
    rng = np.random.default_rng(seed)
    truth = 3 + 0.5 * rng.standard_normal((m, 1)) + 0.5 * rng.standard_normal(n)
    truth = truth + rng.standard_normal((m, 2)) @ rng.standard_normal((2, n)) * 0.5
    users, items = np.nonzero(rng.random((m, n)) < 0.7)
    values = truth[users, items] + noise * rng.standard_normal(len(users))
    rows = zip(users.tolist(), items.tolist(), values.tolist(), strict=True)
    return make_ratings(list(rows), scale=(-20, 20))


# ---- how far a prediction may be off ---------------------------------------------------------


def test_a_deviation_by_hand():
    # One factor, q = 1; the penalties are 1 and 1. Before any rating x' A^-1 x = 1 + 1; after one of the same
    # item A = ((2, 1), (1, 2)), and x' A^-1 x = 2 / 3.
    model = fit(make_ratings([(u, i, 3.0) for u in range(4) for i in range(3)]), n_factors=1)
    model.item_factors_ = np.ones((3, 1), np.float32)
    model.reg_ = model.bias_reg_ = 1.0
    asking = Questions(model, noise=0.5, learned=False)
    np.testing.assert_allclose(asking.deviations(), 0.5 * np.sqrt(3))
    np.testing.assert_allclose(asking.deviations([2]), 0.5 * np.sqrt(5 / 3))
    # A rating takes 2 - 2 / 3 from the mean of x' A^-1 x.
    np.testing.assert_allclose(asking.reductions(), 4 / 3)


@pytest.mark.parametrize("weighted", [False, True])
def test_deviations_are_those_of_the_posterior(medium, weighted):
    model = fit(medium, weighted=weighted, reg=0.2, bias_reg=0.1) if weighted else fit(medium)
    asking = Questions(model, noise=0.7, learned=False)
    for ids in ([], [5], [5, 9, 21, 77]):
        a, x = inverse(model, ids)
        expected = 0.7 * np.sqrt(1 + np.array([row @ a @ row for row in x]))
        np.testing.assert_allclose(asking.deviations(ids), expected, rtol=1e-10)


def test_more_ratings_never_widen_a_deviation(asking, medium):
    ids = medium.item_ids[::9]
    before = asking.deviations()
    for n in range(1, len(ids)):
        after = asking.deviations(ids[:n])
        assert (after <= before + 1e-12).all() and (after >= asking.noise).all()
        before = after


def test_the_noise_is_found_where_the_model_is_true():
    model = fit(drawn(), n_factors=2, reg=1.0, bias_reg=1.0, n_sweeps=15)
    noise = estimate_noise(model)
    assert noise == pytest.approx(0.5, abs=0.03)
    within = coverage(model)
    assert within["noise"].nunique() == 5 and within["noise"].between(0.47, 0.53).all()
    assert within["within 1"].mean() == pytest.approx(0.683, abs=0.03)
    assert within["within 1.96"].mean() == pytest.approx(0.95, abs=0.015)
    assert within["userId"].is_unique and within["ratings"].min() > 5


def test_what_the_page_says_of_the_deviation_holds():
    """About two of three within one, and nineteen of twenty within twice as much, on people held out."""
    within = coverage(export.page_model(load_movielens("latest-small")), levels=(1, 2), n_folds=2)
    assert len(within) > 600
    assert 0.66 < within["within 1"].mean() < 0.74
    assert 0.93 < within["within 2"].mean() < 0.97


def test_too_little_to_estimate_is_nan():
    assert np.isnan(estimate_noise(fit(make_ratings([(u, u, 3.0) for u in range(4)]))))
    assert np.isnan(estimate_noise(fit(make_ratings([(1, 1, 3.0), (1, 2, 4.0)]))))
    assert len(coverage(fit(make_ratings([(1, 1, 3.0), (1, 2, 4.0)])))) == 0


# ---- what to ask -------------------------------------------------------------------------------


def mean_variance(asking, ids):
    model = asking.model
    a, x = inverse(model, ids)
    if asking.prior is not None:
        penalties = np.linalg.inv(inverse(model, [])[0])
        a = np.linalg.inv(np.linalg.inv(a) - penalties + asking.prior)
    return np.average([row @ a @ row for row in x], weights=model.train_.item_counts)


@pytest.mark.parametrize("learned", [True, False])
def test_reductions_are_what_a_rating_takes(asking, model, medium, learned):
    asking = asking if learned else Questions(model, noise=1.0, learned=False)
    rated = [5, 9, 21]
    told = asking.reductions(rated)
    for at in (0, 3, 20, 79):
        item = int(medium.item_ids[asking.items[at]])
        taken = mean_variance(asking, rated) - mean_variance(asking, [*rated, item])
        assert told[at] == pytest.approx(taken, rel=1e-9)


def test_the_first_question_is_the_largest_product(asking, medium):
    rated, unseen = [5, 9], [21, 33]
    products = asking.chances(rated, unseen) * asking.reductions(rated)
    ids = medium.item_ids[asking.items]
    products[np.isin(ids, rated + unseen)] = -1
    assert asking.ask(rated, unseen).tolist() == [ids[np.argmax(products)]]
    first = asking.ask(rated, unseen)[0]
    assert first not in asking.ask(rated, unseen, 5, exclude=[first])


def test_further_questions_reckon_with_answers_to_those_before(asking, medium):
    first, second, third = asking.ask(n=3).tolist()
    chances, ids = asking.chances(), medium.item_ids[asking.items]
    products = chances * asking.reductions([first])
    products[ids == first] = -1
    assert ids[np.argmax(products)] == second
    products = chances * asking.reductions([first, second])
    products[np.isin(ids, [first, second])] = -1
    assert ids[np.argmax(products)] == third


def test_every_item_is_asked_about_once(asking, medium):
    everything = asking.ask(n=500)
    assert sorted(everything.tolist()) == medium.item_ids.tolist()
    assert len(asking.ask(unseen=everything)) == 0
    assert len(asking.ask(everything[:40], everything[40:79], 9)) == 1


def test_only_the_most_rated_are_asked_about(model, medium):
    asking = Questions(model, most=10, noise=1.0)
    asked = medium.encode_items(asking.ask(n=20))
    assert sorted(asked) == sorted(np.argsort(-medium.item_counts, kind="stable")[:10])


def test_chances_follow_the_answers():
    """Two kinds of people, who know two kinds of items."""
    rng = np.random.default_rng(0)
    rows = [
        (u, i, float(rng.integers(1, 6)))
        for u in range(80)
        for i in range(30)
        if rng.random() < (0.8 if u % 2 == i % 2 else 0.1)
    ]
    ratings = make_ratings(rows)
    asking = Questions(fit(ratings), noise=1.0)
    even = ratings.item_ids[asking.items] % 2 == 0
    start, later = asking.chances(), asking.chances([0, 2, 4], [1, 3])
    assert abs(start[even].mean() - start[~even].mean()) < 0.1
    assert later[even].mean() > start[even].mean() + 0.2
    assert later[~even].mean() < start[~even].mean() - 0.1
    assert later.min() >= LEAST_CHANCE and later.max() <= 1
    by_share = Questions(fit(ratings), noise=1.0, learned=False)
    np.testing.assert_allclose(by_share.chances([0, 2], [1]), ratings.item_counts[by_share.items] / 80)


def test_the_prior_is_the_covariance_of_peoples_tastes():
    """Half of the variance of tastes lies in one direction, which the penalties do not know."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((40, 2))
    tastes = rng.standard_normal((400, 2)) * [1.0, 0.3]
    users, items = np.nonzero(rng.random((400, 40)) < 0.5)
    bias = 0.5 * rng.standard_normal(400)
    values = 3 + bias[users] + np.sum(tastes[users] * x[items], axis=1)
    values += 0.5 * rng.standard_normal(len(users))
    rows = list(zip(users.tolist(), items.tolist(), values.tolist(), strict=True))
    model = fit(make_ratings(rows, scale=(-20, 20)), n_factors=2)
    model.item_factors_, model.item_bias_ = x.astype(np.float32), np.zeros(40, np.float32)
    expected = 0.25 / np.array([1.0, 0.09, 0.25])
    prior = Questions(model, noise=0.5).prior
    np.testing.assert_allclose(np.diag(prior), expected, rtol=0.3)
    assert np.abs(prior - np.diag(np.diag(prior))).max() < 0.4


def test_ids_that_nobody_knows_say_nothing(asking):
    assert asking.ask([5, 777_777], [888_888]).tolist() == asking.ask([5]).tolist()
    np.testing.assert_array_equal(asking.deviations([5, 777_777]), asking.deviations([5]))


# ---- the simulation ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def log(model):
    return simulate_questions(model, after=(0, 3, 8), n_folds=3)


def test_a_simulation_asks_everybody_in_every_way(log, medium):
    assert len(log) == 60 * len(STRATEGIES) * 3
    assert set(log["userId"]) == set(medium.user_ids.tolist())
    start = log[log["questions"] == 0].pivot(index="userId", columns="model", values="squared_error")
    assert (start.nunique(axis=1) == 1).all()
    assert (log["answered"] <= log["questions"]).all()
    answered = log.groupby(["model", "questions"])["answered"].mean().unstack()
    assert (answered[8] > answered[3]).all()
    assert answered.loc["popular", 8] > answered.loc["random", 8]
    table = paired_differences(log[log["questions"] == 8].drop(columns=["questions", "answered"]), "random")
    assert table.loc["telling", "difference"] < 0


def test_popular_first_asks_for_the_most_rated(log, medium, model):
    """Somebody answers as often as the first films are among the ratings that were not set aside."""
    first = np.argsort(-medium.item_counts, kind="stable")[:8]
    rated = medium.by_user[:, first].toarray() > 0
    most = dict(zip(medium.user_ids.tolist(), rated.sum(axis=1).tolist(), strict=True))
    rows = log[(log["model"] == "popular") & (log["questions"] == 8)]
    within = [row.answered <= most[row.userId] + 3 for row in rows.itertuples()]
    assert np.mean(within) > 0.9  # the order is that of the other people, so nearly always


def test_asked_about_what_they_rated_people_always_answer(model, medium):
    options = {"strategies": ("telling", "random"), "after": (4,), "rated_only": True, "n_folds": 2}
    log = simulate_questions(model, **options)
    assert log["answered"].max() == 4 and (log["answered"] == 4).mean() > 0.95
    assert log.equals(simulate_questions(model, **options))


# ---- bad input ------------------------------------------------------------------------------------


def test_refuses_what_it_cannot_ask_with(model, medium):
    with pytest.raises(TypeError, match="model: got BiasModel; expected a fitted BiasedALS"):
        Questions(BiasModel().fit(medium))
    with pytest.raises(ValueError, match="most: got 0"):
        Questions(model, most=0)
    with pytest.raises(ValueError, match="noise: got 0"):
        Questions(model, noise=0)
    with pytest.raises(ValueError, match="strategies: got 'clever'"):
        simulate_questions(model, strategies=("clever",))
    free = fit(medium)
    free.reg_ = 0.0
    with pytest.raises(ValueError, match="expected both above 0"):
        Questions(free, noise=1.0)
