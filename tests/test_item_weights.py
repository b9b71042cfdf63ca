import numpy as np
import pytest
from conftest import make_ratings
from scipy.sparse import csr_array
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ElasticNet, Ridge
from test_implicit import likes

from recsys_helpers import EASE, SLIM, LikesKNN, LikesUserKNN, load_model
from recsys_helpers.models.item_weights import gram_matrix, largest


def table(ratings):
    x = np.zeros(ratings.shape)
    x[ratings.user_codes, ratings.item_codes] = 1
    return x


def test_two_items_by_hand():
    """Three people like both items, one the first alone: X'X = [[4, 3], [3, 3]], and with reg 1 the weights
    are 3 / 4 and 3 / 5: each item is regressed on the other, c / (its own count + 1)."""
    ratings = make_ratings([(u, i, 5) for u in range(3) for i in range(2)] + [(3, 0, 5)])
    weights = EASE(1.0, threshold=None, dtype="float64").fit(ratings).item_weights_
    np.testing.assert_allclose(weights, [[0, 3 / 5], [3 / 4, 0]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_column_is_a_ridge_regression_on_the_other_items(dtype):
    ratings = likes(m=40, n=70, share=0.2)  # more than two tiles
    x = table(ratings)
    weights = EASE(3.0, threshold=None, dtype=dtype).fit(ratings).item_weights_
    for item in (0, 31, 32, 69):
        others = np.delete(np.arange(70), item)
        ridge = Ridge(alpha=3.0, fit_intercept=False).fit(x[:, others], x[:, item])
        np.testing.assert_allclose(
            weights[others, item], ridge.coef_, atol=1e-5 if dtype == "float32" else 1e-9
        )
        assert weights[item, item] == 0


def test_the_gram_matrix_is_summed_from_the_sparse_table():
    rng = np.random.default_rng(0)
    x = rng.random((50, 40)) * (rng.random((50, 40)) < 0.3)
    gram = gram_matrix(csr_array(x), "float64")
    np.testing.assert_allclose(gram, np.triu(x.T @ x))
    for threads in (1, 3):
        assert gram_matrix(csr_array(x), "float64", threads).tobytes() == gram.tobytes()


@pytest.mark.parametrize("non_negative", [True, False])
@pytest.mark.parametrize(("l1", "l2"), [(0.5, 2.0), (2.0, 10.0), (0.05, 1.0), (1.0, 0.5)])
def test_each_column_is_an_elastic_net_on_the_other_items(l1, l2, non_negative):
    ratings = likes(m=60, n=40, share=0.3)
    x = table(ratings)
    model = SLIM(l1, l2, non_negative=non_negative, threshold=None, tol=1e-10, dtype="float64").fit(ratings)
    weights = model.item_weights_.toarray()
    for item in range(0, 40, 7):
        others = np.delete(np.arange(40), item)
        net = ElasticNet(
            alpha=(l1 + l2) / 60, l1_ratio=l1 / (l1 + l2), positive=non_negative, fit_intercept=False,
            tol=1e-12, max_iter=20_000,
        ).fit(x[:, others], x[:, item])  # fmt: skip
        np.testing.assert_allclose(weights[others, item], net.coef_, atol=1e-6)
        assert weights[item, item] == 0
    if non_negative:
        assert weights.min() >= 0


def test_a_first_penalty_without_a_second_one_where_slopes_decide():
    """No weight that is zero would gain by moving: the optimality conditions, column by column."""
    ratings = likes(m=60, n=40, share=0.3)
    x, l1, l2 = table(ratings), 1.5, 0.7
    w = SLIM(l1, l2, threshold=None, tol=1e-10, dtype="float64").fit(ratings).item_weights_.toarray()
    slope = x.T @ (x - x @ w) - l2 * w
    off = ~np.eye(40, dtype=bool)
    np.testing.assert_allclose(slope[off & (w > 0)], l1, atol=1e-5)
    assert (slope[off & (w == 0)] <= l1 + 1e-5).all()


def test_more_penalty_keeps_fewer_weights():
    ratings = likes(m=60, n=40, share=0.3)
    kept = [SLIM(l1, 1.0, threshold=None).fit(ratings).item_weights_.nnz for l1 in (0.3, 1.0, 3.0, 50.0)]
    assert kept == sorted(kept, reverse=True) and kept[-1] == 0


def test_a_descent_that_is_cut_short_says_so():
    with pytest.warns(ConvergenceWarning, match=r"SLIM stopped at max_passes=1 with \d+ item"):
        SLIM(0.1, 0.1, threshold=None, max_passes=1, tol=1e-9).fit(likes())


# ---- neighbors ---------------------------------------------------------------------------


def plain_likeness(x, kind, k1=100.0, b=0.8):
    """In the words of the docstring, in NumPy."""
    n_u, n_i = x.sum(axis=1), x.sum(axis=0)
    if kind == "jaccard":
        both = x.T @ x
        return both / (n_i[:, None] + n_i - both)
    if kind != "cosine":
        idf = (np.log(x.shape[1]) - np.log1p(n_u))[:, None]
        if kind == "bm25":
            length = 1 - b + b * n_i / n_i.mean()
            y = idf * x * (k1 + 1) / (x + k1 * length)
            return y.T @ y
        x = x * idf
    return (x.T @ x) / np.outer(np.linalg.norm(x, axis=0), np.linalg.norm(x, axis=0))


@pytest.mark.parametrize("kind", ["cosine", "jaccard", "tfidf", "bm25"])
def test_likenesses_are_those_of_the_definitions(kind):
    ratings = likes(m=50, n=40, share=0.2)
    expected = plain_likeness(table(ratings), kind)
    np.fill_diagonal(expected, 0)
    model = LikesKNN(40, kind, threshold=None).fit(ratings)
    np.testing.assert_allclose(model.item_weights_.toarray(), expected, atol=1e-5)
    few = LikesKNN(3, kind, threshold=None).fit(ratings).item_weights_.toarray()
    assert ((few > 0).sum(axis=0) <= 3).all()
    np.testing.assert_allclose(few.max(axis=0), expected.max(axis=0), atol=1e-5)


def test_scores_of_neighbors_are_sums_over_the_likes():
    ratings = likes(m=50, n=40, share=0.2)
    model = LikesKNN(40, threshold=None).fit(ratings)
    own = ratings.item_codes[ratings.user_codes == 7]
    np.testing.assert_allclose(
        model.score_items(7), model.item_weights_.toarray()[own].sum(axis=0), atol=1e-5
    )


@pytest.mark.parametrize("kind", ["cosine", "jaccard", "tfidf", "bm25"])
def test_likenesses_of_users_are_those_of_items_with_the_table_turned(kind):
    ratings = likes(m=50, n=40, share=0.2)
    x = table(ratings)
    near = plain_likeness(x.T, kind)
    np.fill_diagonal(near, 0)
    model = LikesUserKNN(50, kind, threshold=None).fit(ratings)
    scores = model.score_items(ratings.user_ids)
    np.testing.assert_allclose(scores, near @ x, atol=1e-4)
    few = LikesUserKNN(3, kind, threshold=None).fit(ratings)
    ordered = np.sort(near, axis=1)
    kept = np.where(near >= ordered[:, [-3]], near, 0)
    clear = ordered[:, -3] > ordered[:, -4] + 1e-5  # elsewhere several users are equally near
    assert clear.sum() > 10
    np.testing.assert_allclose(few.score_items(ratings.user_ids)[clear], (kept @ x)[clear], atol=1e-4)
    there = clear[ratings.user_codes]
    expected = (kept @ x)[ratings.user_codes, ratings.item_codes][there]
    np.testing.assert_allclose(few.predict(ratings)[there], expected, atol=1e-4)
    for user in np.flatnonzero(clear)[:2]:
        own = ratings.item_codes[ratings.user_codes == user]
        for item in (own[0], np.flatnonzero(kept[user] @ x)[0]):
            told = few.explain(ratings.user_ids[user], ratings.item_ids[item])
            assert told.attrs["baseline"] == pytest.approx(0, abs=1e-5)
            assert told["contribution"].sum() == pytest.approx((kept @ x)[user, item], abs=1e-4)


def test_somebody_new_is_compared_as_a_user_is():
    """The likes of a training user, told by a newcomer: that user is then the nearest neighbor."""
    ratings = likes(m=50, n=40, share=0.2)
    model = LikesUserKNN(50, threshold=None).fit(ratings)
    own = ratings.item_codes[ratings.user_codes == 7]
    told = dict.fromkeys(ratings.item_ids[own].tolist(), 1.0)
    x = table(ratings)
    expected = model.score_items(ratings.user_ids[7]) + x[7]
    me = model.fold_in(told)
    np.testing.assert_allclose(me.predict(ratings.item_ids), expected, atol=1e-4)
    reasons = me.explain(ratings.item_ids[own[0]])
    assert reasons["contribution"].sum() == pytest.approx(expected[own[0]], abs=1e-4)


# ---- parts of the matrix ---------------------------------------------------------------------


def test_the_largest_weights_of_each_column_are_kept():
    weights = np.random.default_rng(0).normal(size=(300, 300)).astype(np.float32)
    sparse = largest(weights, 7).toarray()
    for column in range(0, 300, 50):
        kept = np.flatnonzero(sparse[:, column])
        assert set(kept) == set(np.argsort(-np.abs(weights[:, column]))[:7])
        np.testing.assert_array_equal(sparse[kept, column], weights[kept, column])


def test_with_all_neighbors_the_sparse_model_is_the_dense_one(tmp_path):
    ratings = likes(m=50, n=30)
    dense = EASE(5.0, threshold=None).fit(ratings)
    sparse = EASE(5.0, threshold=None, n_neighbors=30).fit(ratings)
    np.testing.assert_allclose(sparse.predict(ratings), dense.predict(ratings), atol=1e-6)
    np.testing.assert_allclose(sparse.score_items([3, 9]), dense.score_items([3, 9]), atol=1e-6)
    few = EASE(5.0, threshold=None, n_neighbors=4).fit(ratings)
    few.save(tmp_path / "few.npz")
    np.testing.assert_array_equal(load_model(tmp_path / "few.npz").score_items(3), few.score_items(3))


def test_items_that_take_no_part_are_never_listed():
    ratings = likes(m=50, n=30)
    model = EASE(5.0, threshold=None, max_items=10).fit(ratings)
    popular = set(np.argsort(-ratings.item_counts, kind="stable")[:10])
    assert set(np.flatnonzero(np.isfinite(model.score_items(3)))) == popular
    assert set(model.recommend(3, 30, exclude_rated=False)["movieId"]) == popular
    x = table(ratings)[:, sorted(popular)]
    p = np.linalg.inv(x.T @ x + 5 * np.eye(10))
    expected = np.eye(10) - p / np.diag(p)
    found = model.item_weights_[np.ix_(sorted(popular), sorted(popular))]
    np.testing.assert_allclose(found, expected, atol=1e-5)


# ---- people -------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [EASE(5.0, threshold=None), SLIM(0.5, 2.0, threshold=None)])
def test_a_newcomer_is_treated_as_a_user_with_the_same_likes(model):
    ratings = likes()
    model.fit(ratings)
    own = ratings.item_codes[ratings.user_codes == 4]
    person = model.fold_in(dict.fromkeys(own.tolist(), 1.0))
    np.testing.assert_allclose(person.score_items(), model.score_items(4), atol=1e-6)
    np.testing.assert_allclose(person.predict([2, 7]), model.score_items(4)[[2, 7]], atol=1e-6)


def test_penalties_are_found_near_the_best(medium):
    model = EASE().fit(medium)
    assert 1 < model.reg_ < 100_000
    slim = SLIM(l1=0.5).fit(medium)
    assert slim.l1_ == 0.5 and slim.l2_ > 0


def test_bad_input():
    with pytest.raises(ValueError, match="l2: got 0 with l1=0"):
        SLIM(0, 0).fit(likes())
    with pytest.raises(ValueError, match="reg: the regression's matrix is not positive definite"):
        EASE(1e-9, threshold=None).fit(make_ratings([(u, i, 5) for u in range(4) for i in range(3)]))
    one = make_ratings([(u, 0, 5) for u in range(3)])
    assert EASE(1.0).fit(one).item_weights_.tolist() == [[0.0]]
