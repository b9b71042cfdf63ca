import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pandas as pd
import pytest
import reference
from conftest import make_ratings
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics.pairwise import cosine_similarity

from recsys_helpers import synthetic_ratings
from recsys_helpers.data.ratings import Ratings
from recsys_helpers.kernels import columns
from recsys_helpers.kernels import neighbors as kernels
from recsys_helpers.models.baselines import BiasModel
from recsys_helpers.models.neighbors import CENTERS, SIMILARITIES, ItemKNN, UserKNN

MODELS = [ItemKNN, UserKNN]
ALL = 10_000  # larger than any graph here: nothing is cut off


def item_knn(similarity="cosine", **options):
    options = {"n_neighbors": 40, "graph_size": ALL, "shrink": 0} | options
    return ItemKNN(similarity=similarity, **options)


def items_of(*columns):
    """Ratings from columns of a table (None where missing): movieId is the column's position."""
    return make_ratings(
        [(u, i, float(r)) for i, column in enumerate(columns) for u, r in enumerate(column) if r is not None]
    )


def pair(ratings, **options):
    """Similarity of items 0 and 1; 0 where it is not kept."""
    return float(item_knn(**options).fit(ratings).similarity_matrix().toarray()[0, 1])


def oriented(model, ratings):
    """Table with NaN, and baseline table, rows being what gets neighbors."""
    table = np.full(ratings.shape, np.nan)
    table[ratings.user_codes, ratings.item_codes] = ratings.values
    bias = model.baseline_
    baseline = bias.mean_ + bias.user_bias_[:, None] + bias.item_bias_
    return (table.T, baseline.T) if isinstance(model, ItemKNN) else (table, baseline)


# ---- each similarity by hand ------------------------------------------------------


def test_cosine_by_hand():
    # Common users 0 and 1; norms over all: |x|^2 = 9 + 16, |y|^2 = 16 + 9 + 25.
    ratings = items_of([3, 4, None], [4, 3, 5])
    assert pair(ratings) == pytest.approx(24 / (5 * np.sqrt(50)))


def test_centered_cosine_by_hand():
    # Means 3 and 4: x = (-1, 1, .), y = (-1, 0, 1); dot 1, norms sqrt(2) each.
    ratings = items_of([2, 4, None], [3, 4, 5])
    assert pair(ratings, similarity="centered_cosine") == pytest.approx(1 / 2)


def test_adjusted_cosine_by_hand():
    # User means 3, 3, 2.5: x = (1, 1, -1.5), y = (1, -1, -1).
    ratings = items_of([4, 4, 1], [4, 2, 1.5], [1, 3, 5])
    expected = (1 - 1 + 1.5) / np.sqrt((1 + 1 + 2.25) * (1 + 1 + 1))
    assert pair(ratings, similarity="adjusted_cosine") == pytest.approx(expected)


def test_pearson_by_hand():
    # Over the three common users: (1, 2, 3) and (2, 2, 5), means 2 and 3.
    ratings = items_of([1, 2, 3, 5], [2, 2, 5, None])
    assert pair(ratings, similarity="pearson") == pytest.approx(3 / np.sqrt(2 * 6))


def test_pearson_baseline_by_hand():
    # Damping so strong that the baseline is the mean, 3: (2, -1, ., .) and (1, -1, 1, -2).
    ratings = items_of([5, 2, None, None], [4, 2, 4, 1])
    baseline = BiasModel(user_damping=1e12, item_damping=1e12)
    expected = (2 * 1 + 1 * 1) / np.sqrt((4 + 1) * (1 + 1))
    assert pair(ratings, similarity="pearson_baseline", baseline=baseline) == pytest.approx(expected)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_shrinkage_and_support(similarity):
    ratings = items_of([1, 2, 4, 5], [2, 1, 5, 4], [5, 4, 1, 2])
    plain = pair(ratings, similarity=similarity)
    assert plain > 0.2
    assert pair(ratings, similarity=similarity, shrink=12) == pytest.approx(plain * 4 / 16)
    assert pair(ratings, similarity=similarity, min_support=4) == pytest.approx(plain)
    assert pair(ratings, similarity=similarity, min_support=5) == 0
    # Shrunken to half, the similarity lies safely below 1, where the threshold has to be.
    half = {"similarity": similarity, "shrink": 4}
    assert pair(ratings, min_similarity=0.49 * plain, **half) == pytest.approx(plain / 2)
    assert pair(ratings, min_similarity=0.51 * plain, **half) == 0


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_no_common_raters(similarity):
    assert pair(items_of([1, 5, None, None], [None, None, 2, 4]), similarity=similarity) == 0


@pytest.mark.parametrize(
    "similarity, expected",
    [
        ("cosine", 16 / np.sqrt(25 * 20)),
        ("centered_cosine", 0.5 * 1 / np.sqrt(0.5 * 2)),  # (-0.5, 0.5, .) and (., 1, -1)
        ("pearson", 0),  # one point has no variance
    ],
)
def test_one_common_rater(similarity, expected):
    assert pair(items_of([3, 4, None], [None, 4, 2]), similarity=similarity) == pytest.approx(expected)


@pytest.mark.parametrize("constant", [4.0, 3.7])
@pytest.mark.parametrize("similarity", SIMILARITIES[1:])
def test_all_equal_raters_have_no_direction(similarity, constant):
    # Item 0 is constant, and so are all users of the second table: nothing to correlate.
    by_item = items_of([constant] * 5, [1, 2, 3, 4, 5])
    if similarity in ("centered_cosine", "pearson"):
        assert pair(by_item, similarity=similarity) == 0
    everything = items_of([constant] * 5, [constant] * 5, [constant] * 4)
    assert pair(everything, similarity=similarity) == 0
    assert pair(everything, similarity="cosine") == pytest.approx(1)


def test_pearson_of_ratings_that_are_equal_where_it_counts():
    # Constant over the common users only, at a value float32 cannot hold.
    ratings = items_of([3.7, 3.7, 3.7, 1.0], [1, 3, 5, None])
    assert pair(ratings, similarity="pearson") == 0


# ---- agreement with others -----------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"shrink": 7.5, "min_support": 3}], ids=["plain", "shrunken"])
@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("cls", MODELS)
def test_graph_agrees_with_the_obvious_version(medium, cls, similarity, options):
    options = {"shrink": 0} | options
    model = cls(similarity=similarity, graph_size=ALL, **options).fit(medium)
    table, baseline = oriented(model, medium)
    expected = reference.similarities(table, similarity, baseline, **options)
    got = model.similarity_matrix().toarray()
    np.testing.assert_allclose(got, np.where(expected > 1e-6, expected, 0), atol=2e-6)


def test_cosine_agrees_with_scikit_learn(medium):
    expected = cosine_similarity(medium.by_item)
    np.fill_diagonal(expected, 0)
    got = item_knn("cosine").fit(medium).similarity_matrix().toarray()
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_pearson_agrees_with_scipy(medium):
    got = item_knn("pearson", min_support=5).fit(medium).similarity_matrix().toarray()
    table = np.full(medium.shape, np.nan)
    table[medium.user_codes, medium.item_codes] = medium.values
    checked = 0
    for i, j in np.argwhere(got > 0)[::7]:
        both = ~np.isnan(table[:, i]) & ~np.isnan(table[:, j])
        assert got[i, j] == pytest.approx(pearsonr(table[both, i], table[both, j]).statistic, abs=1e-6)
        checked += 1
    assert checked > 50


@pytest.mark.parametrize("center", CENTERS)
@pytest.mark.parametrize("cls", MODELS)
def test_predictions_agree_with_the_definition(medium, cls, center):
    model = cls(4, similarity="cosine", center=center, shrink=3, graph_size=ALL).fit(medium)
    table, baseline = oriented(model, medium)
    sims = reference.similarities(table, "cosine", shrink=3)
    rng = np.random.default_rng(0)
    users, items = rng.integers(medium.n_users, size=200), rng.integers(medium.n_items, size=200)
    frame = pd.DataFrame({"userId": medium.user_ids[users], "movieId": medium.item_ids[items]})
    rows, columns = (items, users) if cls is ItemKNN else (users, items)
    expected = [
        reference.knn_prediction(table, sims, r, c, 4, center=center, baseline=baseline)
        for r, c in zip(rows, columns, strict=True)
    ]
    np.testing.assert_allclose(model.predict(frame), expected, atol=1e-5)


def test_users_are_items_of_the_transposed_table(medium):
    frame = medium.to_frame()
    swapped = Ratings.from_frame(frame.rename(columns={"userId": "movieId", "movieId": "userId"}))
    users = UserKNN(similarity="pearson", graph_size=10, n_neighbors=5).fit(medium)
    items = ItemKNN(similarity="pearson", graph_size=10, n_neighbors=5).fit(swapped)
    np.testing.assert_array_equal(users.neighbors_, items.neighbors_)
    np.testing.assert_array_equal(users.similarities_, items.similarities_)


@pytest.fixture(scope="module")
def sparse():
    """Users with few ratings and with many, so that all ways to the same scores are taken."""
    return synthetic_ratings(150, 140, 1500, seed=2, activity_spread=1.5)


@pytest.mark.parametrize("center", CENTERS)
@pytest.mark.parametrize("cls", MODELS)
def test_scores_of_many_users_at_once_are_the_predictions(sparse, cls, center, monkeypatch):
    monkeypatch.setattr("recsys_helpers.models.neighbors._PIECE_ROWS", 60)
    model = cls(4, center=center, min_neighbors=2, graph_size=100, verbose=False).fit(sparse)
    users = sparse.user_ids[::-1]
    scores = model.score_items(users)
    pairs = pd.DataFrame({"userId": np.repeat(users, sparse.n_items),
                          "movieId": np.tile(sparse.item_ids, len(users))})  # fmt: skip
    np.testing.assert_array_equal(scores.ravel(), model.predict(pairs))
    np.testing.assert_array_equal(scores[7], model.score_items(users[7]))
    few = scores == model.baseline_.score_items(users)
    assert 0.01 < few.mean() < 0.99
    degree = sparse.user_counts / sparse.n_items
    assert degree.min() < columns.THIN < degree.max()


@pytest.mark.parametrize("n_neighbors", [1, 4, 100])
def test_columns_together_and_apart_give_the_same_bits(sparse, n_neighbors, monkeypatch):
    """Compiled anew for each way, 150 users in words of 64 and one of 22."""
    model = ItemKNN(n_neighbors, graph_size=100, verbose=False).fit(sparse)
    users = np.append(np.arange(sparse.n_users), [-1, 3])
    expected = [model._score_block(users[b : b + 1])[0] for b in range(len(users))]
    for share in (0.0, np.inf):
        monkeypatch.setattr(columns, "TOGETHER", share)
        anew = numba.njit(columns.score_columns.py_func, nogil=True)
        monkeypatch.setattr(columns, "score_columns", anew)
        np.testing.assert_array_equal(model._score_block(users), expected)


# ---- invariants ---------------------------------------------------------------------


@st.composite
def tables(draw):
    m, n = draw(st.integers(2, 9)), draw(st.integers(2, 25))
    cells = draw(st.lists(st.integers(0, 10), min_size=m * n, max_size=m * n))
    triples = [(c // n, c % n, r / 2) for c, r in enumerate(cells) if r]
    return make_ratings(triples or [(0, 0, 3.0)])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(ratings=tables(), similarity=st.sampled_from(SIMILARITIES))
def test_symmetric_bounded_and_sorted(ratings, similarity):
    model = item_knn(similarity).fit(ratings)
    matrix = model.similarity_matrix().toarray()
    np.testing.assert_array_equal(matrix, matrix.T)  # to the last bit
    assert matrix.min() >= 0 and matrix.max() <= 1 and not matrix.diagonal().any()
    assert (np.diff(model.similarities_, axis=1) <= 0).all()
    assert np.isfinite(model.predict(ratings)).all()


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_the_order_of_the_rows_is_irrelevant(medium, similarity):
    shuffled = medium[np.random.default_rng(1).permutation(len(medium))]
    one, other = (item_knn(similarity, graph_size=50).fit(r) for r in (medium, shuffled))
    if similarity != "pearson_baseline":  # its biases are sums in the order of the rows
        np.testing.assert_array_equal(one.neighbors_, other.neighbors_)
    np.testing.assert_allclose(one.similarities_, other.similarities_, atol=1e-6)


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize("similarity", ["cosine", "pearson"])
def test_a_small_graph_is_the_top_of_the_full_one(medium, cls, similarity):
    small = cls(5, similarity=similarity, graph_size=7).fit(medium)
    full = cls(5, similarity=similarity, graph_size=ALL).fit(medium)
    np.testing.assert_array_equal(small.neighbors_, full.neighbors_[:, :7])
    np.testing.assert_array_equal(small.similarities_, full.similarities_[:, :7])


def test_ties_go_to_the_smaller_id_whatever_was_rated_more():
    # Items 1 ... 5 are equally similar to item 0; item 5 has more ratings and so is met first.
    columns = [[1, 5, None, None]] + [[2, 4, None, None]] * 4 + [[2, 4, 3, 3]]
    model = item_knn("pearson", graph_size=3, n_neighbors=3).fit(items_of(*columns))
    np.testing.assert_array_equal(model.neighbors_[0], [1, 2, 3])


@pytest.mark.parametrize("similarity", ["cosine", "pearson", "pearson_baseline"])
@pytest.mark.parametrize("cls", MODELS)
def test_the_same_bits_whatever_the_number_of_threads(medium, cls, similarity, monkeypatch):
    # Pieces of one group each, and more threads than the machine has.
    monkeypatch.setattr("recsys_helpers.models.neighbors._PIECE", 1)
    monkeypatch.setattr("recsys_helpers.models.neighbors._PIECE_ROWS", 7)
    graphs, predictions = [], []
    for threads in (1, 2, 5):
        model = cls(3, similarity=similarity, graph_size=6, n_threads=threads).fit(medium)
        graphs.append((model.neighbors_, model.similarities_))
        predictions.append(np.append(model.predict(medium), model.score_items(medium.user_ids)))
    for codes, values in graphs[1:]:
        np.testing.assert_array_equal(codes, graphs[0][0])
        np.testing.assert_array_equal(values, graphs[0][1])
    for other in predictions[1:]:
        np.testing.assert_array_equal(other, predictions[0])


@pytest.mark.parametrize("unit", [1e-3, 20.0])
@pytest.mark.parametrize("center", CENTERS)
@pytest.mark.parametrize("cls", MODELS)
def test_the_unit_of_the_ratings_does_not_matter(medium, cls, center, unit):
    frame = medium.to_frame()
    other = Ratings.from_frame(frame.assign(rating=frame["rating"] * unit), scale=(0.5 * unit, 5 * unit))
    similarity = "cosine" if center == "none" else "adjusted_cosine"
    mine, theirs = (
        cls(8, similarity=similarity, center=center, verbose=False).fit(r).predict(r) for r in (medium, other)
    )
    np.testing.assert_allclose(theirs / unit, mine, rtol=1e-4)


def test_building_in_parts_changes_nothing(medium, monkeypatch, capsys):
    whole = ItemKNN(graph_size=40).fit(medium)
    monkeypatch.setattr("recsys_helpers.models.neighbors._LONG_WORK", 1)
    monkeypatch.setattr("recsys_helpers.models.neighbors._PIECE", 1)
    parts = ItemKNN(graph_size=40).fit(medium)
    np.testing.assert_array_equal(whole.neighbors_, parts.neighbors_)
    assert "ItemKNN" in capsys.readouterr().err  # the progress bar
    ItemKNN(graph_size=40, verbose=False).fit(medium)
    assert capsys.readouterr().err == ""


def test_step_counts_by_hand():
    # Users rate {0, 1}, {0}, {0, 1, 2}: squares 4 + 1 + 9, and each user once in one group.
    ratings = items_of([1, 2, 3], [1, None, 3], [None, None, 3])
    order = np.arange(3, dtype=np.int32)
    single, grouped = kernels.count_steps(
        order, ratings.by_item.indptr, ratings.by_item.indices, ratings.by_user.indptr
    )
    assert (single.tolist(), grouped.tolist()) == ([14], [6])


# ---- the three verbs and the looks inside -----------------------------------------------


@pytest.mark.parametrize("cls", MODELS)
def test_checkerboard(cls):
    # Users love the films of their own color and dislike the others; each misses a few of them.
    seen = [(u, i) for u in range(20) for i in range(20) if (u * 3 + i) % 7]
    triples = [(u, i, 5.0 if (u + i) % 2 == 0 else 1.0) for u, i in seen]
    model = cls(5, similarity="centered_cosine", shrink=0).fit(make_ratings(triples))
    for user in range(20):
        missing = {i for i in range(20) if (user * 3 + i) % 7 == 0}
        loved = {i for i in missing if (user + i) % 2 == 0}
        assert set(model.recommend(user, n=len(loved))["movieId"]) == loved


@pytest.mark.parametrize("center", CENTERS)
@pytest.mark.parametrize("cls", MODELS)
def test_unknown_and_lonely_pairs_fall_back_to_the_baseline(medium, cls, center):
    train = medium[medium.user_codes != 5]
    model = cls(center=center).fit(train)
    pairs = pd.DataFrame({"userId": [999_999, 1, 16, 999_999], "movieId": [5, 888_888, 5, 888_888]})
    expected = BiasModel().fit(train).predict(pairs)
    np.testing.assert_array_equal(model.predict(pairs), expected)
    strict = cls(1000, graph_size=1000, min_neighbors=1000, center=center).fit(train)
    np.testing.assert_array_equal(strict.predict(medium), BiasModel().fit(train).predict(medium))


@pytest.mark.parametrize("center", CENTERS)
@pytest.mark.parametrize("cls", MODELS)
def test_explanation_adds_up_to_the_prediction(medium, cls, center):
    model = cls(6, center=center).fit(medium)
    for user, movie in [(1, 5), (4, 21), (31, 77)]:
        frame = model.explain(user, movie)
        assert 0 < len(frame) <= 6 and (np.diff(frame["contribution"].abs()) <= 0).all()
        pairs = pd.DataFrame({"userId": [user], "movieId": [movie]})
        code = medium.encode_items(movie)[0] if cls is ItemKNN else medium.encode_users(user)[0]
        own_mean = (medium.by_item if cls is ItemKNN else medium.by_user)[[code]].data.mean(dtype=float)
        start = {"none": 0.0, "baseline": model.baseline_.predict(pairs)[0]}.get(center, own_mean)
        assert model.predict(pairs)[0] == pytest.approx(start + frame["contribution"].sum(), abs=1e-5)
        table = medium.to_frame().set_index(["userId", "movieId"])["rating"]
        for _, line in frame.iterrows():
            key = (user, line["movieId"]) if cls is ItemKNN else (line["userId"], movie)
            assert table[key] == line["rating"]


def test_explanation_of_a_fallback_is_empty():
    ratings = items_of([1, 5, None, None], [None, None, 2, 4])
    assert len(ItemKNN().fit(ratings).explain(0, 1)) == 0


def test_similar_items_and_users(medium):
    movies = pd.DataFrame({"movieId": medium.item_ids, "title": [f"Film {i}" for i in medium.item_ids]})
    titled = Ratings.from_frame(medium.to_frame(), movies=movies)
    items = ItemKNN().fit(titled).similar_items(5, n=4)
    assert items.columns.tolist() == ["movieId", "title", "score", "support"] and len(items) == 4
    assert items["title"].tolist() == [f"Film {i}" for i in items["movieId"]]
    table = medium.to_frame().groupby("movieId")["userId"].agg(set)
    assert items["support"].tolist() == [len(table[5] & table[i]) for i in items["movieId"]]
    users = UserKNN().fit(titled).similar_users(4, n=3)
    assert users.columns.tolist() == ["userId", "similarity", "support"] and 4 not in set(users["userId"])
    assert "title" in ItemKNN().fit(titled).explain(1, 5)


def test_scikit_learn_habits(medium):
    model = ItemKNN(7, similarity="pearson", baseline=BiasModel(1.0, 2.0))
    assert clone(model).get_params()["baseline"].get_params()["item_damping"] == 2.0
    assert "similarity='pearson'" in repr(model)
    assert model.fit(medium) is model and model.baseline is not model.baseline_
    assert set(model.history_) == {"baseline_seconds", "graph_seconds"}
    with pytest.raises(NotFittedError):
        ItemKNN().similar_items(1)
    with pytest.raises(NotFittedError):
        UserKNN().similarity_matrix()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_neighbors": 0}, "n_neighbors: got 0"),
        ({"n_neighbors": 2.5}, "n_neighbors: got 2.5"),
        ({"n_neighbors": 50, "graph_size": 20}, "n_neighbors: got 50; expected at most graph_size=20"),
        ({"similarity": "jaccard"}, "similarity: got 'jaccard'; expected one of 'cosine'"),
        ({"center": None}, "center: got None"),
        ({"shrink": -1}, "shrink: got -1"),
        ({"shrink": np.nan}, "shrink: got nan"),
        ({"min_support": 0}, "min_support: got 0"),
        ({"min_similarity": -0.1}, "min_similarity: got -0.1"),
        ({"min_similarity": 1.0}, "min_similarity: got 1.0; expected a finite number not below 0, below 1"),
        ({"min_neighbors": 41}, "min_neighbors: got 41; expected at most n_neighbors=40"),
        ({"graph_size": "all"}, "graph_size: got 'all'"),
    ],
)
@pytest.mark.parametrize("cls", MODELS)
def test_bad_parameters(toy, cls, options, message):
    with pytest.raises(ValueError, match=message):
        cls(**options).fit(toy)


def test_bad_arguments(toy):
    with pytest.raises(TypeError, match="baseline: got 'mean'; expected a BiasModel"):
        ItemKNN(baseline="mean").fit(toy)
    with pytest.raises(ValueError, match="got no ratings"):
        ItemKNN().fit(toy[:0])
    model = ItemKNN(3, graph_size=3).fit(toy)
    with pytest.raises(ValueError, match="item: got 77, which is not in the training data"):
        model.similar_items(77)
    with pytest.raises(ValueError, match="n: got 0"):
        model.similar_items(1, n=0)
    assert len(model.similar_items(1, n=50)) <= 3
    with pytest.raises(ValueError, match="user: got 77"):
        model.explain(77, 1)
    with pytest.raises(ValueError, match="user: got 77"):
        UserKNN().fit(toy).similar_users(77)


@pytest.mark.parametrize("cls", MODELS)
def test_one_rating_is_enough(cls):
    ratings = make_ratings([(1, 1, 4.0)])
    model = cls().fit(ratings)
    np.testing.assert_allclose(model.predict(ratings), [4.0])
    assert model.similarity_matrix().nnz == 0 and len(model.recommend(1)) == 0


# ---- newcomers --------------------------------------------------------------------


@pytest.mark.parametrize("center", ["none", "mean", "zscore", "baseline"])
def test_fold_in_of_a_training_user_predicts_what_the_model_predicts(medium, center):
    model = ItemKNN(12, center=center, min_neighbors=2, verbose=False).fit(medium)
    for code in (0, 17, 59):
        own = medium[medium.user_codes == code].to_frame().set_index("movieId")["rating"].to_dict()
        person = model.fold_in(dict(reversed(own.items())))
        assert person.bias == pytest.approx(model.baseline_.user_bias_[code], abs=1e-5)
        user = medium.user_ids[code]
        pairs = pd.DataFrame({"userId": user, "movieId": medium.item_ids})
        np.testing.assert_allclose(person.predict(medium.item_ids), model.predict(pairs), atol=1e-4)
        assert person.recommend(4)["movieId"].tolist() == model.recommend(user, 4)["movieId"].tolist()
        for movie in medium.item_ids[:5]:
            mine, known = person.explain(movie), model.explain(user, movie)
            assert mine["movieId"].tolist() == known["movieId"].tolist()
            np.testing.assert_allclose(mine["contribution"], known["contribution"], atol=1e-4)


def test_fold_in_of_a_newcomer(medium):
    model = ItemKNN(12, verbose=False).fit(medium)
    person = model.fold_in({5: 5.0, 9: 1.0, 10**6: 3.0})
    assert person.ignored.tolist() == [10**6]
    assert not person.recommend(80)["movieId"].isin([5, 9]).any()
    assert person.predict([123456]) == pytest.approx(model.baseline_.mean_ + person.bias)
    why = person.explain(21)
    level = model.baseline_.mean_ + model.baseline_.item_bias_[medium.encode_items(21)] + person.bias
    assert level + why["contribution"].sum() == pytest.approx(person.predict([21]), abs=1e-6)
    assert "2 ratings" in repr(person)


@pytest.mark.parametrize("cls", MODELS)
def test_several_threads_at_once(medium, cls):
    """A server answers several people at once."""
    model = cls(12, verbose=False).fit(medium)
    people = [{5: 0.5 + n % 10 / 2, 9 + 2 * n: 4.0} for n in range(40)]
    ids = np.resize(medium.user_ids, 40)

    def answer(user, person):
        return np.concatenate(
            [model.score_items(user), model.fold_in(person).score_items(), model.predict(medium)]
        )

    alone = [answer(*question) for question in zip(ids, people, strict=True)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(answer, ids, people))
    np.testing.assert_array_equal(together, alone)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
def test_forked_children_fit_and_predict(medium, cls):
    right = _fit_and_predict(cls, medium)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.starmap_async(_fit_and_predict, [(cls, medium)] * 3).get(timeout=100)
    assert found == [right] * 3


def _fit_and_predict(cls, ratings):
    return cls(12, verbose=False).fit(ratings).predict(ratings).tolist()


@pytest.mark.parametrize("center", ["none", "mean", "zscore"])
@pytest.mark.parametrize("similarity", ["cosine", "centered_cosine", "pearson"])
def test_a_newcomer_among_users_is_predicted_as_if_they_had_been_there(medium, similarity, center):
    """None of these similarities of others, and none of these centers, changes with one user more."""
    own = {5: 5.0, 7: 4.5, 9: 1.0, 25: 3.0, 41: 2.0, 67: 2.0, 69: 4.0, 91: 1.5}
    options = dict(similarity=similarity, center=center, graph_size=ALL, min_support=2, verbose=False)
    frame = medium.to_frame()
    more = pd.DataFrame({"userId": 9_999, "movieId": list(own), "rating": list(own.values()), "timestamp": 0})
    there = UserKNN(8, **options).fit(Ratings.from_frame(pd.concat([frame, more])))
    model = UserKNN(8, **options).fit(medium)
    person = model.fold_in(own | {10**6: 3.0})
    np.testing.assert_array_equal(model.train_.user_ids[person.near[person.near >= 0]],
                                  there.similar_users(9_999, 100)["userId"])  # fmt: skip
    np.testing.assert_allclose(person.similarities[person.near >= 0],
                               there.similar_users(9_999, 100)["similarity"], rtol=1e-6)  # fmt: skip
    expected = there.predict(pd.DataFrame({"userId": 9_999, "movieId": medium.item_ids}))
    why = [there.explain(9_999, item) for item in medium.item_ids]
    rests = np.array([len(frame) > 0 for frame in why])
    np.testing.assert_allclose(person.score_items()[rests], expected[rests], atol=1e-5)
    assert rests.sum() > 40 and person.ignored.tolist() == [10**6]
    for item in medium.item_ids[rests][:5]:
        mine = person.explain(item)
        assert mine["userId"].tolist() == there.explain(9_999, item)["userId"].tolist()
        total = mine.attrs["baseline"] + mine["contribution"].sum()
        assert person.predict([item])[0] == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_the_nearest_of_a_newcomer_who_rated_as_a_known_user_did_is_that_user(medium, similarity):
    model = UserKNN(12, similarity=similarity, graph_size=ALL, verbose=False).fit(medium)
    for code in (0, 17, 59):
        own = medium[medium.user_codes == code].to_frame().set_index("movieId")["rating"].to_dict()
        person = model.fold_in(own)
        found = person.near >= 0
        near, likeness = person.near[found], person.similarities[found]
        assert code in near and likeness[near == code] == pytest.approx(1, abs=1e-5)
        # The same people as the known user's own; the user takes the place of the least alike.
        kept = model.neighbors_[code][model.neighbors_[code] >= 0]
        others = set(near[near != code])
        assert others <= set(kept) and len(others) >= len(kept) - 1


def test_a_newcomer_like_nobody_gets_the_fallback():
    ratings = items_of([4, 2, None], [None, None, 5])
    model = UserKNN(similarity="pearson", verbose=False).fit(ratings)
    person = model.fold_in({1: 3.0})
    np.testing.assert_array_equal(person.near, -1)
    np.testing.assert_allclose(person.score_items(), model.baseline_.fold_in({1: 3.0}).score_items())


def test_fold_in_of_bad_ratings(medium):
    model = ItemKNN(verbose=False).fit(medium)
    for bad, words in (
        ({}, "got none"),
        ({10**6: 3.0}, "no item that was in training"),
        ({5: 9.0}, "got 9 for movieId 5; expected 0.5 to 5"),
        ({5: float("nan")}, "got nan"),
        ({5: "good"}, "got 'good'"),
        ({"5": 3.0}, "got text ids"),
    ):
        with pytest.raises(ValueError, match=words):
            model.fold_in(bad)
    with pytest.raises(TypeError, match="ratings: got list"):
        model.fold_in([5])


@pytest.mark.parametrize("kind", [ItemKNN, UserKNN])
@pytest.mark.parametrize("center", ["none", "mean", "zscore", "baseline"])
def test_scores_of_all_items_are_the_predictions_of_single_pairs(medium, kind, center):
    """Sparse products where neighbors are few, single predictions where there are more than count."""
    some = medium[medium.user_codes != 3]  # one user without ratings
    for n_neighbors, least in ((3, 1), (40, 2)):
        model = kind(n_neighbors, center=center, min_neighbors=least, verbose=False).fit(some)
        codes = np.array([0, 3, 7])
        block = model._score_block(codes)
        items = np.arange(some.n_items)
        for row, user in enumerate(codes):
            single = model._predict_codes(np.full(len(items), user), items)
            np.testing.assert_allclose(block[row], single, rtol=1e-6, atol=1e-6)
        assert model._score_block(np.array([], int)).shape == (0, some.n_items)
