import ir_measures
import numpy as np
import pandas as pd
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from ir_measures import AP, RR, P, R, Success, nDCG
from scipy.sparse import csr_array, random_array
from sklearn.linear_model import LinearRegression
from sklearn.metrics import (
    average_precision_score,
    mean_absolute_error,
    mean_squared_error,
    ndcg_score,
    precision_recall_curve,
)

from recsys_helpers import Popularity, metrics
from recsys_helpers.evaluation import ranking
from recsys_helpers.models.base import top_codes

finite = st.floats(-10, 10)


def test_by_hand():
    true, pred = [4, 3, 5], [3, 3, 2]
    assert metrics.mse(true, pred) == pytest.approx(10 / 3)
    assert metrics.rmse(true, pred) == pytest.approx((10 / 3) ** 0.5)
    assert metrics.mae(true, pred) == pytest.approx(4 / 3)


@given(st.integers(1, 30).flatmap(lambda n: st.tuples(*[arrays(float, n, elements=finite)] * 2)))
def test_agrees_with_scikit_learn(pair):
    true, pred = pair
    assert metrics.mse(true, pred) == pytest.approx(mean_squared_error(true, pred), abs=1e-12)
    assert metrics.mae(true, pred) == pytest.approx(mean_absolute_error(true, pred), abs=1e-12)
    assert metrics.mae(true, pred) <= metrics.rmse(true, pred) + 1e-12


@pytest.mark.parametrize("metric", [metrics.mse, metrics.rmse, metrics.mae])
@pytest.mark.parametrize(
    "true, pred, words",
    [
        ([], [], "no ratings"),
        ([1, 2], [1], "same length"),
        ([[1], [2]], [[1], [2]], "one-dimensional"),
        ([1, 2], [1, np.nan], "row 1"),
        ([np.inf], [1], "finite"),
    ],
)
def test_bad_input(metric, true, pred, words):
    with pytest.raises(ValueError, match=words):
        metric(true, pred)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        # Users differ in how hard they are to predict, so that user resampling matters.
        spread = rng.uniform(0.3, 1.7, 80)
        groups = np.repeat(np.arange(80), 10)
        interval = metrics.rmse_interval(
            np.zeros(800), rng.standard_normal(800) * spread[groups], groups, n_boot=200, seed=trial
        )
        truth = np.sqrt((0.3**2 + 0.3 * 1.7 + 1.7**2) / 3)  # root of E[spread^2] of a uniform spread
        covered += interval.low <= truth <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_interval_is_reproducible_and_holds_its_value():
    rng = np.random.default_rng(1)
    true, pred, groups = rng.random(50), rng.random(50), rng.integers(0, 9, 50)
    one = metrics.rmse_interval(true, pred, groups, seed=3)
    assert one == metrics.rmse_interval(true, pred, groups, seed=3)
    assert one.value == pytest.approx(metrics.rmse(true, pred))
    assert one.low <= one.value <= one.high
    assert str(one) == f"{one.value:.4f} ± {one.se:.4f}"


def test_interval_wants_one_group_per_rating():
    with pytest.raises(ValueError, match="groups"):
        metrics.rmse_interval([1, 2], [1, 2], [1])


def test_gini_by_hand_and_by_pairs():
    assert metrics.gini([5, 5, 5]) == pytest.approx(0)
    assert metrics.gini([0, 0, 0, 1]) == pytest.approx(3 / 4)
    c = np.random.default_rng(0).integers(0, 40, 30)
    pairs = np.abs(c[:, None] - c[None, :]).sum() / (2 * len(c) ** 2 * c.mean())
    assert metrics.gini(c) == pytest.approx(pairs)


@pytest.mark.parametrize("counts", [[], [0, 0], [-1, 2], [np.nan, 1]])
def test_gini_bad_input(counts):
    with pytest.raises(ValueError, match="counts"):
        metrics.gini(counts)


# ---- errors of groups -----------------------------------------------------------------


def test_errors_by_group_by_hand():
    table = metrics.errors_by_group([4, 3, 5, 1], [3, 3, 2, 2], ["b", "a", "b", "a"])
    assert table.index.tolist() == ["a", "b"]
    assert table["ratings"].tolist() == [2, 2]
    np.testing.assert_allclose(table["rmse"], [0.5**0.5, 5**0.5])
    np.testing.assert_allclose(table["mae"], [0.5, 2])
    np.testing.assert_allclose(table["bias"], [0.5, -2])
    with pytest.raises(ValueError, match=r"groups: got shape \(1,\); expected \(2,\)"):
        metrics.errors_by_group([1, 2], [1, 2], [1])
    for missing in ([1, np.nan], ["a", None]):
        for grouped in (metrics.errors_by_group, metrics.rmse_interval):
            with pytest.raises(ValueError, match="groups: got a missing value"):
                grouped([1, 2], [1, 2], missing)


def test_groups_add_up_to_the_whole():
    rng = np.random.default_rng(0)
    true, pred, groups = rng.random(500), rng.random(500), rng.integers(0, 30, 500)
    table = metrics.errors_by_group(true, pred, groups)
    pooled = np.average(table["rmse"] ** 2, weights=table["ratings"]) ** 0.5
    assert pooled == pytest.approx(metrics.rmse(true, pred))
    assert table.loc[7, "mae"] == pytest.approx(metrics.mae(true[groups == 7], pred[groups == 7]))


def test_popularity_bands():
    bands = metrics.popularity_bands([0, 1, 2, 3, 9, 10, 99, 100, 5000])
    assert list(bands) == ["0", "1-2", "1-2", "3-9", "3-9", "10-29", "30-99", "100+", "100+"]
    table = metrics.errors_by_group([1, 2, 3], [1, 2, 3], metrics.popularity_bands([100, 0, 9]))
    assert table.index.tolist() == ["0", "3-9", "100+"], "in the order of the bands, empty ones left out"
    for edges in ([], [0, 3], [3, 3], [5, 2]):
        with pytest.raises(ValueError, match="edges"):
            metrics.popularity_bands([1], edges)
    for counts in ([-1, 2], [np.nan]):
        with pytest.raises(ValueError, match="counts"):
            metrics.popularity_bands(counts)


def test_calibration():
    rng = np.random.default_rng(0)
    pred = rng.uniform(1, 5, 1000)
    true = 3 + 0.5 * (pred - 3) + rng.normal(0, 0.1, 1000)
    table = metrics.calibration(true, pred, 4)
    assert table["ratings"].tolist() == [250] * 4
    assert table["predicted"].is_monotonic_increasing
    lowest = np.sort(pred)[:250]
    assert table.loc[0, "predicted"] == pytest.approx(lowest.mean())
    assert table.loc[0, "observed"] == pytest.approx(true[np.argsort(pred)[:250]].mean())
    assert table.attrs["error"] == pytest.approx(np.mean(np.abs(table["predicted"] - table["observed"])))
    slope = LinearRegression().fit(pred[:, None], true).coef_[0]
    assert table.attrs["slope"] == pytest.approx(slope)
    perfect = metrics.calibration(pred, pred, 4)
    assert perfect.attrs["error"] == 0 and perfect.attrs["slope"] == pytest.approx(1)
    for equal in (3.0, 0.1):  # the mean of three times 0.1 is not 0.1
        assert np.isnan(metrics.calibration([1, 2, 3], [equal] * 3, 1).attrs["slope"])
    with pytest.raises(ValueError, match="n_bins: got 3; expected at most 2"):
        metrics.calibration([1, 2], [1, 2], 3)


# ---- one list ----------------------------------------------------------------------------


def test_one_list_by_hand():
    recommended, liked = [7, 3, 9, 1], {3, 1, 8}
    assert metrics.precision(recommended, liked, 4) == pytest.approx(2 / 4)
    assert metrics.precision(recommended, liked, 10) == pytest.approx(2 / 10), "missing places are misses"
    assert metrics.recall(recommended, liked, 4) == pytest.approx(2 / 3)
    assert metrics.hit_rate(recommended, liked, 1) == 0
    assert metrics.hit_rate(recommended, liked, 2) == 1
    assert metrics.average_precision(recommended, liked, 4) == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert metrics.reciprocal_rank(recommended, liked, 4) == pytest.approx(1 / 2)
    assert metrics.reciprocal_rank(recommended, liked, 1) == 0
    found, best = 1 / np.log2(3) + 1 / np.log2(5), 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert metrics.ndcg(recommended, liked, 4) == pytest.approx(found / best)
    gains = {3: 1.0, 1: 2.0, 8: 0.5}
    found, best = 1 / np.log2(3) + 2 / np.log2(5), 2 + 1 / np.log2(3) + 0.5 / np.log2(4)
    assert metrics.ndcg(recommended, gains, 4) == pytest.approx(found / best)


ONE_LIST = [metrics.precision, metrics.recall, metrics.capped_recall, metrics.hit_rate,
            metrics.average_precision, metrics.reciprocal_rank, metrics.ndcg]  # fmt: skip


@pytest.mark.parametrize("metric", ONE_LIST)
def test_one_list_special_cases(metric):
    assert metric([], {1}) == 0
    assert np.isnan(metric([1, 2], set()))
    assert metric([1, 2, 3], {1, 2, 3}, 3) == 1
    with pytest.raises(ValueError, match="twice"):
        metric([1, 1], {1})
    with pytest.raises(ValueError, match="a gain of 0"):
        metric([1], {1: 0})
    with pytest.raises(ValueError, match="k: got 0"):
        metric([1], {1}, 0)


def test_capped_recall_lies_between_recall_and_what_a_list_can_hold():
    assert metrics.capped_recall([1, 2], {1, 2, 3, 4}, 2) == 1, "the list is full of hits"
    assert metrics.capped_recall([1, 9, 8], {1, 2, 3, 4}, 3) == pytest.approx(1 / 3)
    assert metrics.capped_recall([1, 9, 8], {1, 2}, 3) == metrics.recall([1, 9, 8], {1, 2}, 3) == 1 / 2


@pytest.mark.parametrize("metric", ONE_LIST)
def test_a_table_of_recommendations_is_a_list(metric, toy):
    model = Popularity().fit(toy)
    table = model.recommend(10, 3)
    right = metric(table["movieId"].tolist(), {3, 5}, 3)
    assert right > 0, "or the test could not fail"
    for form in (
        table,
        table.assign(title="a"),
        table["movieId"],
        table["movieId"].to_numpy(),
        table[["movieId"]],
    ):
        assert metric(form, {3, 5}, 3) == right
    for liked in (pd.DataFrame({"movieId": [3, 5]}), np.array([3, 5]), pd.Series([3, 5]), [3, 5], (3, 5)):
        assert metric(table, liked, 3) == right


@pytest.mark.parametrize("metric", ONE_LIST)
@pytest.mark.parametrize(
    "recommended, relevant, error, words",
    [
        (
            pd.DataFrame({"userId": [1], "movieId": [2], "score": [0.5]}),
            {2},
            TypeError,
            "recommended: got a table",
        ),
        (
            [1],
            pd.DataFrame({"movieId": [1], "rating": [4.0]}),
            TypeError,
            "relevant: got a table with the columns",
        ),
        ({1, 2}, {1}, TypeError, "recommended: got set; expected a sequence of ids, best first"),
        ({1: 0.5}, {1}, TypeError, "recommended: got dict"),
        ("12", {1}, TypeError, "recommended: got str"),
        ([1], "12", TypeError, "relevant: got str; expected a collection of ids"),
        ([1], 3, TypeError, "relevant: got int"),
        (np.ones((1, 2)), {1}, TypeError, "recommended: got ndarray"),
        (["1", "2"], {1, 2}, TypeError, "got ids such as '1' and 1; expected one kind"),
        ([1, 2], {"1": 2.0}, TypeError, "got ids such as 1 and '1'"),
        ([1, np.nan], {1}, ValueError, "recommended: got nan at place 2"),
        ([1, None], {1}, ValueError, "recommended: got None at place 2"),
        ([[1, 2]], {1}, ValueError, r"recommended: got \[1, 2\] at place 1"),
        ([1], [pd.NA], ValueError, "relevant: got <NA> at place 1"),
    ],
)
def test_what_is_no_list_of_ids_is_refused(metric, recommended, relevant, error, words):
    """A hit that could never have been found would make every figure 0 without a word."""
    with pytest.raises(error, match=words):
        metric(recommended, relevant, 3)


# ---- all users: against a slow twin, scikit-learn and trec_eval ------------------------------


def random_case(seed, m=30, n=50, *, ties=False, dtype=float):
    """Scores with and without ties, users with no, one and many relevant films, NaN and -inf."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((m, n)) if not ties else rng.integers(0, 4, (m, n)).astype(float)
    scores = scores.astype(dtype)
    share = rng.choice([0.0, 0.02, 0.1, 0.7], (m, 1))
    gains = rng.integers(1, 4, (m, n)) * (rng.random((m, n)) < share)
    seen = (rng.random((m, n)) < 0.2) & (gains == 0)
    return scores, csr_array(gains.astype(float)), csr_array(seen.astype(float))


def expected(scores, relevant, seen, k, user, seed):
    gains = dict(zip(relevant[[user]].indices.tolist(), relevant[[user]].data.tolist(), strict=True))
    tie = (lambda item: 0) if seed is None else (lambda item: reference.tie_number(seed, user, item))
    return reference.ranking(scores[user], gains, set(seen[[user]].indices.tolist()), k, tie)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    k=st.integers(1, 60),
    ties=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
    order=st.sampled_from([None, 0, 7, 2**63]),
)
def test_all_users_agree_with_the_twin(seed, k, ties, dtype, order):
    scores, relevant, seen = random_case(seed, m=12, ties=ties, dtype=dtype)
    rng = np.random.default_rng(seed)
    scores[rng.random(scores.shape) < 0.1] = -np.inf
    scores[rng.random(scores.shape) < 0.05] = np.nan
    found = metrics.rank_scores(scores, relevant, seen, k=k, users=np.arange(12), seed=order)
    for user in range(12):
        masked = np.where(np.isnan(scores[user]), -np.inf, scores[user])
        masked[seen[[user]].indices] = -np.inf
        listed = found.lists[user][found.lists[user] >= 0]
        if order is None:
            np.testing.assert_array_equal(listed, top_codes(masked, k))
        if relevant[[user]].nnz == 0:
            assert found.values.loc[user].isna().all()
            continue
        known = np.where(np.isnan(scores), -np.inf, scores)
        top, rank, values = expected(known, relevant, seen, k, user, order)
        assert listed.tolist() == top
        own = found.ranks[[user]]
        assert dict(zip(own.indices.tolist(), own.data.tolist(), strict=True)) == rank
        for name, value in values.items():
            assert found.values.loc[user, name] == pytest.approx(value, abs=1e-12), name


def test_all_users_agree_with_the_definitions_of_one_list():
    scores, relevant, seen = random_case(3, ties=True)
    found = metrics.rank_scores(scores, relevant, seen, k=7)
    for row, user in enumerate(found.values.index):
        gains = dict(zip(relevant[[user]].indices.tolist(), relevant[[user]].data.tolist(), strict=True))
        for metric in ONE_LIST:
            value = metric(found.lists[row].tolist(), set(gains), 7)
            assert found.values.loc[user, metric.__name__] == pytest.approx(value, abs=1e-12)
        graded = metrics.ndcg(found.lists[row].tolist(), gains, 7)
        assert found.values.loc[user, "graded_ndcg"] == pytest.approx(graded, abs=1e-12)


def tie_free(scores, seen):
    """Scores that put the films in our order, ties broken by the smaller code."""
    scores = np.where(seen.toarray() > 0, -np.inf, scores)
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(scores.shape[1])[None, :], axis=1)
    return -ranks.astype(float)


@pytest.mark.parametrize("ties", [False, True])
def test_all_users_agree_with_scikit_learn(ties):
    scores, relevant, seen = random_case(0, m=80, ties=ties)
    found = metrics.rank_scores(scores, relevant, seen, k=10, seed=None)
    fixed, gains = tie_free(scores, seen), relevant.toarray()
    for user, row in found.values.iterrows():
        open_to = seen.toarray()[user] == 0
        s, g = fixed[user, open_to], gains[user, open_to]
        assert row["full_average_precision"] == pytest.approx(average_precision_score(g > 0, s), abs=1e-12)
        binary = ndcg_score([(g > 0).astype(float)], [s], k=10, ignore_ties=True)
        assert row["ndcg"] == pytest.approx(binary, abs=1e-12)
        assert row["graded_ndcg"] == pytest.approx(ndcg_score([g], [s], k=10, ignore_ties=True), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_all_users_agree_with_trec_eval(ties):
    scores, relevant, seen = random_case(1, m=80, ties=ties)
    k = 10
    found = metrics.rank_scores(scores, relevant, seen, k=k, seed=None)
    fixed = tie_free(scores, seen)
    allowed = seen.toarray() == 0
    qrels = [
        ir_measures.Qrel(str(u), str(i), int(g)) for (u, i), g in np.ndenumerate(relevant.toarray()) if g
    ]
    run = [
        ir_measures.ScoredDoc(str(u), str(i), fixed[u, i])
        for u in found.values.index for i in np.flatnonzero(allowed[u])
    ]  # fmt: skip
    binary = [q._replace(relevance=1) for q in qrels]
    names = {
        P @ k: "precision", R @ k: "recall", Success @ k: "hit_rate", AP @ k: "average_precision",
        RR @ k: "reciprocal_rank", nDCG @ k: "ndcg", AP: "full_average_precision", RR: "full_reciprocal_rank",
    }  # fmt: skip
    seen_pairs = 0
    for measures, truth in (({nDCG @ k: "graded_ndcg"}, qrels), (names, binary)):
        for result in ir_measures.iter_calc(list(measures), truth, run):
            value = found.values.loc[int(result.query_id), measures[result.measure]]
            assert value == pytest.approx(result.value, abs=1e-12), result
            seen_pairs += 1
    assert seen_pairs == 9 * len(found.values)


def test_who_cannot_tell_films_apart_is_judged_as_a_random_order():
    """Ordered by number, the films that come first in the numbering would decide about a constant model."""
    rng = np.random.default_rng(0)
    m, n, k = 3000, 200, 10
    liked = np.zeros((m, n))
    liked[:, :8] = rng.random((m, 8)) < 0.5  # whoever numbered the films began with the popular ones
    liked[liked.sum(axis=1) == 0, 0] = 1
    relevant = csr_array(liked)
    drawn = metrics.rank_scores(rng.random((m, n)), relevant, k=k).means()
    hashed = metrics.rank_scores(np.zeros((m, n)), relevant, k=k).means()
    numbered = metrics.rank_scores(np.zeros((m, n)), relevant, k=k, seed=None).means()
    spread = 3 * metrics.rank_scores(rng.random((m, n)), relevant, k=k).values.std() / m**0.5
    for name in ("precision", "recall", "ndcg", "full_average_precision", "full_reciprocal_rank"):
        assert abs(hashed[name] - drawn[name]) < 1.5 * spread[name], name
    assert hashed["precision"] == pytest.approx(liked.sum(axis=1).mean() / n, abs=spread["precision"])
    assert numbered["ndcg"] > 10 * hashed["ndcg"]


def test_the_order_of_equals_belongs_to_seed_and_row():
    relevant = csr_array(np.ones((5, 40)))
    flat = np.zeros((5, 40))
    whole = metrics.rank_scores(flat, relevant, k=40)
    assert len({tuple(row) for row in whole.lists.tolist()}) == 5, "each row has an order of its own"
    some = metrics.rank_scores(flat, relevant, k=40, users=[3, 1])
    np.testing.assert_array_equal(some.lists, whole.lists[[3, 1]])
    other = metrics.rank_scores(flat, relevant, k=40, seed=1)
    assert (other.lists != whole.lists).any(axis=1).all()
    places = np.stack([metrics.rank_scores(flat, relevant, k=40, seed=s).lists for s in range(100)])
    first = np.bincount(places[:, :, 0].ravel(), minlength=40)
    assert first.max() < 35 and first.min() > 0, "500 draws of 40: no film is preferred"


@pytest.mark.parametrize("ks", [[1, 5, 12], (12, 1, 5), np.array([60, 3])])
def test_several_lengths_in_one_pass(ks):
    scores, relevant, seen = random_case(4, ties=True)
    found = metrics.rank_scores(scores, relevant, seen, k=ks)
    assert found.lists.shape[1] == max(ks)
    ready = metrics.score_lists(found.lists, relevant[found.values.index], ks)
    for k in ks:
        alone = metrics.rank_scores(scores, relevant, seen, k=int(k))
        own = alone.values.iloc[:, :8]
        several = found.values[[f"{name}@{k}" for name in own]].set_axis(own.columns, axis=1)
        pd.testing.assert_frame_equal(several, own)
        np.testing.assert_array_equal(found.lists[:, :k], alone.lists)
        ready_k = ready[[f"{name}@{k}" for name in own]].set_axis(own.columns, axis=1)
        pd.testing.assert_frame_equal(ready_k, own.reset_index(drop=True))
    assert found.values["full_average_precision"].equals(alone.values["full_average_precision"])
    assert list(metrics.rank_scores(scores, relevant, k=[3]).values)[0] == "precision@3"


def test_a_list_with_ties_takes_the_smaller_code_where_asked_to():
    found = metrics.rank_scores(np.zeros((1, 6)), csr_array([[0, 0, 1.0, 0, 0, 1]]), k=3, seed=None)
    assert found.lists.tolist() == [[0, 1, 2]]
    assert found.ranks.data.tolist() == [3, 6]


@pytest.mark.parametrize("users", [[0, 2, 1, 3], [3, 2, 1, 0], [1, 1, 3], [0, 3, 3, 3]])
def test_rows_in_any_order_get_their_own_scores(users):
    scores, relevant, seen = random_case(11, m=4)
    whole = metrics.rank_scores(scores, relevant, seen, users=range(4))
    found = metrics.rank_scores(scores, relevant, seen, users=users)
    np.testing.assert_array_equal(found.lists, whole.lists[users])
    np.testing.assert_array_equal(found.values, whole.values.iloc[users])


def test_films_that_cannot_be_listed():
    relevant = csr_array([[1.0, 1, 0, 0]])
    found = metrics.rank_scores(np.array([[1.0, -np.inf, 3, 2]]), relevant, csr_array([[0, 0, 1, 0]]), k=4)
    assert found.lists.tolist() == [[3, 0, -1, -1]]
    assert found.ranks.data.tolist() == [2, 0]
    assert found.values.loc[0, "recall"] == 0.5, "the film without a score is missed"
    nothing = metrics.rank_scores(np.full((1, 4), np.nan), relevant, k=2)
    assert nothing.lists.tolist() == [[-1, -1]]
    assert (nothing.values == 0).all(axis=None)
    leaked = metrics.rank_scores(np.array([[9.0, 8, 1, 0]]), relevant, relevant, k=2)
    assert leaked.values.loc[0, "recall"] == 0, "relevant and seen: can never be found"


def test_lists_longer_than_the_catalog_and_infinite_scores():
    relevant = csr_array([[0, 1.0, 0]])
    found = metrics.rank_scores(np.array([[1, np.inf, np.inf]]), relevant, k=1000, seed=None)
    assert found.lists[0, :4].tolist() == [1, 2, 0, -1]
    assert found.values.loc[0, ["precision", "recall", "ndcg"]].tolist() == [1 / 1000, 1, 1]
    whole = metrics.rank_scores(np.array([[2, 3, 1]]), relevant, k=1)
    flags = metrics.rank_scores(np.array([[False, True, False]]), relevant, k=1)
    assert whole.lists.tolist() == flags.lists.tolist() == [[1]]


def test_users_without_relevant_films_are_left_out_of_the_means():
    relevant = csr_array([[1.0, 0], [0, 0], [0, 1]])
    scores = np.array([[2.0, 1], [2, 1], [2, 1]])
    found = metrics.rank_scores(scores, relevant, k=1)
    assert found.values.index.tolist() == [0, 2]
    assert found.means()["precision"] == 0.5
    everyone = metrics.rank_scores(scores, relevant, k=1, users=[0, 1, 2])
    assert everyone.values["precision"].isna().tolist() == [False, True, False]
    assert everyone.means()["precision"] == 0.5
    assert everyone.lists.tolist() == [[0], [0], [0]]


def test_blocks_threads_and_the_form_of_the_scores_change_nothing(monkeypatch):
    scores, relevant, seen = random_case(5, m=300, ties=True)
    one = metrics.rank_scores(scores, relevant, seen, n_threads=1)
    monkeypatch.setattr(ranking, "_BLOCK_SCORES", 7 * 50)
    monkeypatch.setattr(ranking, "_BLOCK_ROWS", 3)
    asked = []

    def block(rows):
        asked.append(len(rows))
        return scores[rows]

    for form in (scores, block, scores.astype(int)):
        other = metrics.rank_scores(form, relevant, seen, n_threads=3)
        pd.testing.assert_frame_equal(one.values, other.values)
        np.testing.assert_array_equal(one.lists, other.lists)
        np.testing.assert_array_equal(one.ranks.data, other.ranks.data)
    assert max(asked) == 7
    mixed = metrics.rank_scores(scores, relevant, seen, users=one.values.index[::-3])
    pd.testing.assert_frame_equal(mixed.values, one.values.iloc[::-3])


def test_without_full_ranks():
    scores, relevant, seen = random_case(6)
    full, short = (metrics.rank_scores(scores, relevant, seen, full=f) for f in (True, False))
    assert short.ranks is None
    pd.testing.assert_frame_equal(short.values, full.values.iloc[:, :8])


def test_ready_made_lists_get_the_same():
    scores, relevant, seen = random_case(7, ties=True)
    found = metrics.rank_scores(scores, relevant, seen, k=45, users=np.arange(30))
    assert (found.lists == -1).any()
    table = metrics.score_lists(found.lists, relevant)
    pd.testing.assert_frame_equal(table, found.values.iloc[:, :8].rename_axis(None))
    for lists, words in [
        ([[0, 0]], "a film twice"),
        ([[50]], "item code 50"),
        ([0, 1], "int64 values in 1 dim"),
        ([[0], [1]], "shape"),
    ]:
        with pytest.raises(ValueError, match=f"lists: got {words}"):
            metrics.score_lists(lists, relevant[[0]])


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000))
def test_invariants(seed):
    scores, relevant, seen = random_case(seed)
    values = metrics.rank_scores(scores, relevant, seen, k=10).values
    assert ((values >= 0) & (values <= 1)).all(axis=None)
    stretched = metrics.rank_scores(np.exp(3 * scores), relevant, seen, k=10).values
    pd.testing.assert_frame_equal(values, stretched)
    assert (values["full_average_precision"] >= values["average_precision"] - 1e-15).all()
    assert (
        values["precision"] * 10 <= values["recall"] * np.diff(relevant.indptr)[values.index] + 1e-9
    ).all()
    perfect = metrics.rank_scores(relevant.toarray(), relevant, seen, k=10).values
    for name in ("hit_rate", "reciprocal_rank", "ndcg", "graded_ndcg", "full_average_precision"):
        np.testing.assert_allclose(perfect[name], 1.0)


@pytest.mark.parametrize(
    "change, error, words",
    [
        ({"scores": np.zeros((2, 3))}, ValueError, r"scores: got shape \(2, 3\); expected \(2, 4\)"),
        ({"scores": lambda rows: np.zeros((1, 1))}, ValueError, "scores: the callable gave shape"),
        ({"relevant": np.ones((2, 4))}, TypeError, "relevant: got ndarray; expected a SciPy sparse"),
        ({"relevant": csr_array([[-1.0, 0, 0, 0], [0, 0, 0, 1]])}, ValueError, "relevant: .* above 0"),
        ({"seen": csr_array((3, 4))}, ValueError, "seen: got shape"),
        ({"k": 0}, ValueError, "k: got 0"),
        ({"k": [3, 0]}, ValueError, "k: got 0"),
        ({"k": []}, ValueError, r"k: got \[\]; expected a whole number, or several"),
        ({"k": [3, 3]}, ValueError, "each once"),
        ({"seed": -1}, ValueError, "seed: got -1"),
        ({"seed": 0.5}, ValueError, "seed: got 0.5"),
        ({"users": [0, 2]}, ValueError, "users: got 0 to 2; expected rows from 0 to 1"),
        ({"users": [0.5]}, ValueError, "users: got float64 values"),
        ({"n_threads": 0}, ValueError, "n_threads"),
    ],
)
def test_rank_scores_bad_input(change, error, words):
    good = {"scores": np.zeros((2, 4)), "relevant": csr_array([[1.0, 0, 0, 0], [0, 0, 0, 1]])}
    with pytest.raises(error, match=words):
        metrics.rank_scores(**(good | change))


# ---- precision-recall curve ---------------------------------------------------------------


def test_curve_of_one_user_is_that_of_scikit_learn():
    rng = np.random.default_rng(2)
    scores, liked = rng.standard_normal(40), rng.random(40) < 0.2
    found = metrics.rank_scores(scores[None], csr_array(liked[None].astype(float)))
    curve = metrics.precision_recall_curve(found.ranks)
    precision, recall, _ = precision_recall_curve(liked, scores)
    # scikit-learn goes from the longest list to the shortest, stops at full recall, and adds (1, 0).
    n = len(precision) - 1
    np.testing.assert_allclose(curve["precision"][:n][::-1], precision[:-1])
    np.testing.assert_allclose(curve["recall"][:n][::-1], recall[:-1])
    assert curve.attrs["area"] == pytest.approx(average_precision_score(liked, scores), abs=1e-12)


def test_curve_is_the_mean_over_users():
    scores, relevant, seen = random_case(8)
    curve = metrics.precision_recall_curve(metrics.rank_scores(scores, relevant, seen).ranks, [1, 5, 50, 80])
    for length, row in curve.iterrows():
        means = metrics.rank_scores(scores, relevant, seen, k=length).means()
        assert row["precision"] == pytest.approx(means["precision"])
        assert row["recall"] == pytest.approx(means["recall"])
    assert curve.attrs["area"] == pytest.approx(means["full_average_precision"], abs=1e-12)
    with pytest.raises(ValueError, match="no relevant film"):
        metrics.precision_recall_curve(csr_array((2, 3), dtype=np.int32))
    with pytest.raises(TypeError, match="ranks: got ndarray"):
        metrics.precision_recall_curve(np.eye(3))
    for lengths in ([], [1.5], [[1]]):
        with pytest.raises(ValueError, match="lengths: got"):
            metrics.precision_recall_curve(csr_array([[1, 2]], dtype=np.int32), lengths)
    with pytest.raises(ValueError, match=r"lengths: got \[0, 1\]"):
        metrics.precision_recall_curve(metrics.rank_scores(scores, relevant).ranks, [0, 1])


# ---- lists --------------------------------------------------------------------------------


def test_lists_by_hand():
    lists = np.array([[0, 1], [0, 2], [0, -1], [-1, -1]])
    assert metrics.exposure(lists, 5).tolist() == [3, 1, 1, 0, 0]
    assert metrics.coverage(lists, 5) == pytest.approx(3 / 5)
    assert metrics.coverage(np.empty((0, 2), int), 5) == 0
    bits = metrics.novelty(lists, [8, 4, 0, 1, 1], 8)
    np.testing.assert_allclose(bits, [0.5, 1.5, 0, np.nan])
    genres = np.array([[1, 0], [1, 1], [0, 1], [0, 0], [3, 0]])
    distance = metrics.intra_list_diversity(np.array([[0, 1], [0, 2], [0, 3], [0, 4], [0, -1]]), genres)
    np.testing.assert_allclose(distance, [1 - 0.5**0.5, 1, 1, 0, np.nan], atol=1e-15)


def test_diversity_agrees_with_pairs():
    rng = np.random.default_rng(4)
    features = random_array((40, 6), density=0.4, rng=rng, format="csr")
    lists = np.array([rng.permutation(40)[:8] for _ in range(20)])
    lists[3, 5:] = -1
    found = metrics.intra_list_diversity(lists, features)
    for codes, value in zip(lists, found, strict=True):
        assert value == pytest.approx(
            reference.pair_distance(codes[codes >= 0], features.toarray()), abs=1e-12
        )
    with pytest.raises(ValueError, match="lists: got item code"):
        metrics.intra_list_diversity(lists, features[:10])
    with pytest.raises(ValueError, match="features"):
        metrics.intra_list_diversity(lists, np.full((40, 2), np.nan))


NOT_LISTS = [
    ([0, 1], "1 dimension"),
    ([[0.5, 1.0]], "float64"),
    ([[0, 7]], "item code 7; expected codes below 3"),
    ([[2**33, 0]], "item code 8589934592"),
]


@pytest.mark.parametrize("lists, words", NOT_LISTS)
def test_what_is_not_a_list_of_items_is_refused(lists, words):
    for about in (
        lambda: metrics.exposure(lists, 3),
        lambda: metrics.coverage(lists, 3),
        lambda: metrics.novelty(lists, [1, 2, 3], 5),
        lambda: metrics.intra_list_diversity(lists, np.eye(3)),
        lambda: metrics.score_lists(lists, csr_array([[1.0, 0, 0]])),
    ):
        with pytest.raises(ValueError, match=words):
            about()


def test_no_lists_and_lists_with_gaps():
    assert metrics.coverage([], 3) == 0
    assert metrics.exposure([], 3).tolist() == [0, 0, 0]
    assert metrics.novelty([], [1, 2], 5).shape == metrics.intra_list_diversity([], np.eye(2)).shape == (0,)
    with pytest.raises(ValueError, match="a film after an empty place"):
        metrics.score_lists([[-1, 0]], csr_array([[1.0, 0]]))
    far_below = metrics.score_lists([[0, -(2**40)]], csr_array([[1.0, 0]]))
    assert far_below.loc[0, "precision"] == 0.5
    for counts, n_users in (([-1, 2], 5), ([np.nan, 2], 5), ([9, 2], 5), ([1, 2], 0)):
        with pytest.raises(ValueError, match="counts|n_users"):
            metrics.novelty([[0]], counts, n_users)
    for scores in (np.full((1, 2), "a"), np.ones((1, 2), complex)):
        with pytest.raises(TypeError, match="expected real numbers"):
            metrics.rank_scores(scores, csr_array([[1.0, 0]]))
