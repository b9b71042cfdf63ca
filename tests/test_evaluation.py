import importlib
import json
import linecache
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from conftest import make_ratings
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from recsys_helpers import BiasedALS, ItemKNN, Ratings, evaluation, metrics, splits
from recsys_helpers.evaluation import comparison, measuring, model_bytes, results, running_comparison, tuning
from recsys_helpers.models.baselines import BiasModel, GlobalMean, Popularity


@pytest.mark.parametrize("first", ["Tuned", "compare", "metrics"])
def test_compare_is_the_function_whatever_was_asked_for_first(first):
    """A module of the same name would hide it as soon as another name had imported that module."""
    code = f"from recsys_helpers import evaluation as e; e.{first}; e.Tuned; print(type(e.compare).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "function"


def test_running_comparison_agrees_with_the_metrics(medium):
    train, test = splits.random_holdout(medium)
    bias = BiasModel()
    table = running_comparison({"mean": GlobalMean(), "bias": bias}, train, test)
    assert table.index.tolist() == ["mean", "bias"]
    expected = metrics.rmse(test.values, BiasModel().fit(train).predict(test))
    assert table.loc["bias", "RMSE"] == pytest.approx(expected, abs=5e-5)
    assert (table["fit seconds"] >= 0).all()
    assert not hasattr(bias, "train_"), "the models passed in stay unfitted"


def test_model_bytes_counts_what_was_learned(medium):
    model = BiasModel().fit(medium)
    assert model_bytes(model) == 8 * (medium.n_users + medium.n_items)
    model.extra_ = medium.by_user
    model.note_ = "text"
    model.scratch = np.zeros(5)
    csr = medium.by_user
    added = csr.data.nbytes + csr.indices.nbytes + csr.indptr.nbytes
    assert model_bytes(model) == 8 * (medium.n_users + medium.n_items) + added


def test_model_bytes_of_a_model_inside_a_model(medium):
    tuned = evaluation.Tuned(BiasModel(), {"user_damping": [1.0, 9.0]}).fit(medium)
    assert model_bytes(tuned) == model_bytes(tuned.model_) == 8 * (medium.n_users + medium.n_items)
    tuned.parts_ = {"a": [np.zeros(3)], "b": tuned.model_}
    assert model_bytes(tuned) == 8 * (medium.n_users + medium.n_items) + 24, "no array twice"


# ---- rankings ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(medium):
    return splits.random_holdout(medium, 0.25, seed=1)


def test_relevance_by_hand(toy):
    gains = evaluation.relevance(toy, threshold=4.0).toarray()
    assert gains.tolist() == [[2, 1, 0, 0, 0], [1, 0, 2, 0, 0], [0, 0, 0, 2, 1], [0, 0, 0, 1, 2]]
    with pytest.raises(ValueError, match="threshold: got 6"):
        evaluation.relevance(toy, 6)
    with pytest.raises(TypeError, match="test: got DataFrame"):
        evaluation.relevance(toy.to_frame())


@pytest.mark.parametrize(
    "kind", [float, np.float32, np.float64, np.asarray, lambda x: np.asarray(x, np.float32)]
)
@pytest.mark.parametrize("level", [4.1, 3.3, 4.0])
def test_a_rating_equal_to_the_threshold_counts_whatever_number_it_is(kind, level):
    ratings = make_ratings([(1, 1, level), (1, 2, level - 0.1), (2, 1, level), (2, 3, level + 0.5)])
    gains = evaluation.relevance(ratings, kind(level))
    assert gains.nnz == 3
    np.testing.assert_allclose(gains.toarray(), [[1, 0, 0], [1, 0, 1.5]], atol=1e-6)
    assert gains.data.min() == 1, "at the threshold, not a hair below"
    frame = ratings.to_frame()
    assert evaluation.relevance(ratings, frame["rating"].median()).nnz == 3
    assert evaluation.relevance(ratings, np.median(frame["rating"])).nnz == 3


@pytest.mark.parametrize("threshold", ["4", None, np.nan, [4.0], np.array([4.0]), True, "high"])
def test_what_is_no_threshold_is_refused(toy, threshold):
    with pytest.raises(TypeError, match="threshold: got .*; expected a number of stars"):
        evaluation.relevance(toy, threshold)


@pytest.mark.parametrize(
    "model", [BiasModel(), Popularity(), ItemKNN(5, verbose=False), BiasedALS(3, n_sweeps=3, verbose=False)]
)
def test_rank_model_ranks_as_recommend_does(parts, model):
    train, test = parts
    found = evaluation.rank_model(model.fit(train), train, test, k=7, seed=None)
    liked = test.to_frame().query("rating >= 4").groupby("userId")["movieId"].agg(list)
    assert found.values.index.tolist() == liked.index.tolist()
    for row, user in enumerate(found.values.index):
        listed = model.recommend(user, 7)["movieId"].tolist()
        assert train.item_ids[found.lists[row]].tolist() == listed
        for metric in (metrics.precision, metrics.recall, metrics.ndcg, metrics.average_precision):
            value = metric(listed, liked[user], 7)
            assert found.values.loc[user, metric.__name__] == pytest.approx(value, abs=1e-12)
    some = evaluation.rank_model(model, train, test, k=7, users=found.values.index[3:5], seed=None)
    pd.testing.assert_frame_equal(some.values, found.values.iloc[3:5])


def test_scores_in_blocks_are_those_of_single_users(parts):
    for model in (BiasModel(), Popularity(), ItemKNN(5, verbose=False)):
        model.fit(parts.train)
        ids = parts.train.user_ids[[4, 0, 9]]
        block = model.score_items(ids)
        for row, user in enumerate(ids):
            np.testing.assert_array_equal(block[row], model.score_items(user))
        assert model.score_items(ids[:0]).shape == (0, parts.train.n_items)


def test_rank_model_bad_input(parts, toy):
    model = BiasModel().fit(parts.train)
    with pytest.raises(ValueError, match="test: its users or films"):
        evaluation.rank_model(model, parts.train, toy)
    with pytest.raises(ValueError, match="users: got 2"):
        evaluation.rank_model(model, *parts, users=[1, 2])
    with pytest.raises(TypeError, match="train: got DataFrame"):
        evaluation.rank_model(model, parts.train.to_frame(), parts.test)
    with pytest.raises(NotFittedError):
        evaluation.rank_model(BiasModel(), *parts)


def test_strong_generalization_sets_people_aside_whole(medium):
    whole = medium.to_frame()
    for users, n in ((0.2, 12), (5, 5)):
        train, known, test = evaluation.strong_generalization(medium, users=users, known=0.75, seed=3)
        frames = [part.to_frame() for part in (train, known, test)]
        together = pd.concat(frames).sort_values(["userId", "movieId"], ignore_index=True)
        pd.testing.assert_frame_equal(together, whole.sort_values(["userId", "movieId"], ignore_index=True))
        aside = set(frames[1]["userId"])
        assert len(aside) == n and aside == set(frames[2]["userId"])
        assert not aside & set(frames[0]["userId"])
        counts = medium.user_counts[known.user_counts > 0]
        told = known.user_counts[known.user_counts > 0]
        np.testing.assert_array_equal(told, np.clip(np.round(0.75 * counts), 1, counts - 1))
        again = evaluation.strong_generalization(medium, users=users, known=0.75, seed=3)
        assert again.test.to_frame().equals(frames[2])
    pairs = make_ratings([(1, 1, 3.0), (1, 2, 4.0), (2, 1, 3.0), (3, 1, 4.0)])
    train, known, test = evaluation.strong_generalization(pairs, users=1)
    assert set(known.to_frame()["userId"]) == {1}, "who has one rating cannot be on both sides"
    for change, words in (
        ({"users": 0.0}, "users: got 0.0; expected a share"),
        ({"users": 60}, "users: got 60; .* from 1 to 59"),
        ({"users": 0}, "users: got 0"),
        ({"known": 1.0}, "known: got 1.0"),
    ):
        with pytest.raises(ValueError, match=words):
            evaluation.strong_generalization(medium, **change)
    with pytest.raises(TypeError, match="ratings: got str"):
        evaluation.strong_generalization("x")


def test_rank_newcomers_by_hand(medium):
    train, known, test = evaluation.strong_generalization(medium, users=0.25, known=0.6, seed=1)
    model = BiasedALS(3, n_sweeps=4, verbose=False).fit(train)
    found = evaluation.rank_newcomers(model, known, test, k=[3, 8], threshold=3.5, seed=None)
    told, held = known.to_frame(), test.to_frame()
    liked = held[held["rating"] >= 3.5].groupby("userId")["movieId"].agg(list)
    assert found.values.index.tolist() == liked.index.tolist()
    for user in liked.index:
        own = told[told["userId"] == user].set_index("movieId")["rating"]
        scores = pd.Series(model.fold_in(own.to_dict()).score_items(), index=medium.item_ids)
        order = scores.drop(own.index).sort_values(ascending=False, kind="stable").index.tolist()
        for k in (3, 8):
            assert found.values.loc[user, f"ndcg@{k}"] == pytest.approx(metrics.ndcg(order, liked[user], k))
            assert found.values.loc[user, f"capped_recall@{k}"] == pytest.approx(
                metrics.capped_recall(order, liked[user], k)
            )
    with pytest.raises(ValueError, match="known: the model was trained on user"):
        evaluation.rank_newcomers(BiasedALS(3, n_sweeps=2, verbose=False).fit(medium), known, test)


def test_list_summary(medium, parts):
    train, test = parts
    ranking = evaluation.rank_model(Popularity().fit(train), train, test, k=5)
    found = evaluation.list_summary(ranking, train)
    assert found["coverage"] == len(np.unique(ranking.lists)) / train.n_items
    assert found["exposure_gini"] == metrics.gini(metrics.exposure(ranking.lists, train.n_items))
    assert "diversity" not in found
    empty = evaluation.list_summary(
        evaluation.rank_model(Popularity().fit(train), train, test, users=[]), train
    )
    assert empty["coverage"] == 0 and empty.drop("coverage").isna().all()
    movies = pd.DataFrame({"movieId": train.item_ids, "genres": "Drama"})
    drama, _ = splits.random_holdout(Ratings.from_frame(medium.to_frame(), movies=movies), 0.25, seed=1)
    assert evaluation.list_summary(ranking, drama)["diversity"] == pytest.approx(0, abs=1e-12)


# ---- protocols and tuning -------------------------------------------------------------------


def test_protocols(medium):
    assert [len(evaluation.protocol_splits(medium, p)) for p in evaluation.PROTOCOLS] == [1, 5, 1]
    folds = evaluation.protocol_splits(medium, "5-fold", seed=3)
    assert sum(len(fold.test) for fold in folds) == len(medium)
    past, future = evaluation.protocol_splits(medium, "temporal")[0]
    assert past.timestamps.max() < future.timestamps.min()
    given = evaluation.protocol_splits(medium, [(past, future)])
    assert given[0].train is past
    with pytest.raises(ValueError, match="protocol: got 'weekly'"):
        evaluation.protocol_splits(medium, "weekly")
    with pytest.raises(ValueError, match="protocol: got no parts"):
        evaluation.protocol_splits(medium, [])
    other = Ratings.from_frame(medium.to_frame()[5:9])
    for parts, error, words in (
        (3, TypeError, "protocol: got int"),
        ([(past,)], TypeError, "protocol: got list"),
        ([("a", "b")], TypeError, "part 0 holds a str"),
        ([(past, future), (past, future[:0])], ValueError, "part 1 has no ratings"),
        ([(past, other)], ValueError, "other users or films"),
        ([(medium, future)], ValueError, f"{len(future)} pairs are in train and in test"),
    ):
        with pytest.raises(error, match=words):
            evaluation.protocol_splits(medium, parts)
    with pytest.raises(TypeError, match="ratings: got str"):
        evaluation.protocol_splits("x")


def test_one_split_is_a_protocol(medium):
    split = splits.random_holdout(medium, 0.3, seed=5)
    for one in (split, tuple(split)):
        assert evaluation.protocol_splits(medium, one) == [split]
    grid = {"user_damping": [1.0, 9.0]}
    alone, wrapped = (evaluation.grid_search(BiasModel(), grid, medium, protocol=p) for p in (split, [split]))
    assert alone["score"].tolist() == wrapped["score"].tolist()
    found = evaluation.compare({"bias": BiasModel()}, medium, split, verbose=False).means()
    direct = metrics.rmse(split.test.values, BiasModel().fit(split.train).predict(split.test))
    assert found["rmse"].item() == direct
    assert evaluation.cross_validate(BiasModel(), medium, split, verbose=False)["rmse"].tolist() == [direct]
    inner = splits.random_holdout(split.train, 0.3, seed=6)
    tuned = evaluation.Tuned(BiasModel(), grid, inner=inner).fit(split.train)
    assert set(tuned.search_["user_damping"]) == {1.0, 9.0}


def test_grid_search_by_hand(medium):
    grid = {"user_damping": [0.5, 50.0], "item_damping": [1.0]}
    table = evaluation.grid_search(BiasModel(), grid, medium, protocol="5-fold", seed=2)
    assert table["user_damping"].tolist() == [0.5, 50.0]
    folds = splits.k_fold(medium, 5, seed=2)
    for _, row in table.iterrows():
        model = BiasModel(row["user_damping"], 1.0)
        scores = [metrics.rmse(f.test.values, model.fit(f.train).predict(f.test)) for f in folds]
        assert row["score"] == pytest.approx(np.mean(scores))
    assert table.attrs["best"]["user_damping"] == table.loc[table["score"].idxmin(), "user_damping"]
    ranked = evaluation.grid_search(
        ItemKNN(verbose=False), [{"n_neighbors": n} for n in (1, 20)], medium, target="ndcg"
    )
    assert ranked.attrs["best"] == {"n_neighbors": int(ranked.loc[ranked["score"].idxmax(), "n_neighbors"])}
    for bad in ([], [1], {"x": []}):
        with pytest.raises(ValueError):
            evaluation.grid_search(BiasModel(), bad, medium)
    with pytest.raises(ValueError, match="target: got 'mae'"):
        evaluation.grid_search(BiasModel(), grid, medium, target="mae")


def test_grid_search_refuses_before_the_first_fit(medium):
    log = []
    for model, grid, options, error, words in (
        (
            Watched(log),
            [{"shift": 0.1}, {"x": 1}],
            {},
            ValueError,
            "settings of Watched: got 'x'; expected one of 'shift'",
        ),
        (Watched(log), [{"shift": 0.1}], {"rounds": 2}, TypeError, "for 2 rounds; expected a dict of lists"),
        (Watched(log), {"shift": [0.1]}, {"rounds": 0}, ValueError, "rounds: got 0"),
        (3, [{}], {}, TypeError, "model: got int"),
    ):
        with pytest.raises(error, match=words):
            evaluation.grid_search(model, grid, medium, **options)
    assert not log
    with pytest.raises(ValueError, match="user_damping") as caught:
        evaluation.grid_search(BiasModel(), {"user_damping": [1.0, -1.0]}, medium)
    assert caught.value.__notes__ == ["while trying {'user_damping': -1.0}"]


def test_moved_grid_by_hand():
    moved = evaluation.moved_grid
    assert moved({"x": [1.0, 2.0, 4.0, 8.0]}, {"x": 8.0})["x"] == pytest.approx(
        [8**0.5, 32**0.5, 128**0.5, 512**0.5]
    )
    assert moved({"n": [16, 64]}, {"n": 16}) == {"n": [8, 32]}
    assert moved({"n": [4, 6, 9]}, {"n": 4})["n"] == [3, 5, 7], "4 was tried, and gives way to 5"
    assert moved({"n": [1, 2, 4, 8]}, {"n": 1})["n"] == [3, 5, 6, 7], "above 0, and none twice"
    assert moved({"shrink": [0.0, 20.0]}, {"shrink": 0.0}) == {"shrink": [0.0, 10.0]}
    assert moved({"shrink": [0.0, 20.0]}, {"shrink": 20.0}) == {"shrink": [10.0, 30.0]}
    assert moved({"x": [-1.0, 1.0]}, {"x": 1.0}) == {"x": [0.0, 2.0]}
    stay = {"kind": ["a", "b"], "flag": [True, False], "one": [3.0], "none": [None, 1]}
    assert moved(stay, {"kind": "b", "flag": True, "one": 3.0, "none": 1}) == stay


@given(
    st.floats(0.01, 100), st.floats(1.1, 8), st.integers(1, 4).map(lambda n: 2 * n), st.data()
)  # fmt: skip
def test_a_moved_axis_surrounds_the_best_at_half_a_step(start, step, n, data):
    axis = [start * step**j for j in range(n)]
    best = data.draw(st.sampled_from(axis))
    moved = evaluation.moved_grid({"x": axis}, {"x": best})["x"]
    np.testing.assert_allclose(moved, [best * step ** (j - (n - 1) / 2) for j in range(n)])


def test_which_choices_lie_on_an_edge():
    tried = [{"n": n, "shrink": s, "kind": "a"} for n in (1, 2, 3) for s in (0.0, 5.0)]
    on = lambda **best: [name for name in best if tuning._on_edge(name, best, tried)]  # noqa: E731
    assert on(n=1, shrink=0.0, kind="a") == ["n"]
    assert on(n=2, shrink=5.0, kind="a") == ["shrink"]
    assert on(n=3, shrink=5.0) == ["n", "shrink"]


def test_grid_search_in_two_rounds(medium):
    grid = {"user_damping": [1.0, 4.0], "item_damping": [1.0, 4.0]}
    table = evaluation.grid_search(BiasModel(), grid, medium, rounds=2, seed=1)
    assert len(table) == 8
    first = evaluation.grid_search(BiasModel(), grid, medium, seed=1)
    names = ["user_damping", "item_damping", "score"]
    pd.testing.assert_frame_equal(table.loc[:3, names], first[names])
    assert table["round"].tolist() == [1] * 4 + [2] * 4
    second = evaluation.moved_grid(grid, first.attrs["best"])
    assert [dict(row) for _, row in table.loc[4:, names[:2]].iterrows()] == tuning._settings(second)
    best = table["score"].idxmin()
    assert table.attrs["best"] == dict(table.loc[best, names[:2]])
    edges = [name for name in names[:2] if table.loc[best, name] in (table[name].min(), table[name].max())]
    assert table.attrs["edges"] == edges
    tuned = evaluation.Tuned(BiasModel(), grid, rounds=2, seed=1).fit(medium)
    assert tuned.best_params_ == table.attrs["best"]


def test_the_grid_follows_its_best_until_that_stays_in_the_middle(medium):
    grid = {"user_damping": [100.0, 200.0]}
    table = evaluation.grid_search(BiasModel(), grid, medium, rounds=30)
    by_round = table.groupby("round")["score"].min()
    assert 2 < len(by_round) < 30, "far from the best at first"
    assert (by_round.diff().dropna().iloc[:-1] < 0).all() and by_round.iloc[-1] >= by_round.iloc[-2]
    best = table.attrs["best"]["user_damping"]
    assert table["user_damping"].tail(2).tolist() == pytest.approx([best / 2**0.5, best * 2**0.5])
    assert table.attrs["edges"] == []
    short = evaluation.grid_search(BiasModel(), grid, medium, rounds=2)
    assert short.attrs["edges"] == ["user_damping"]


class Bounded(BiasModel):
    """Likes its parameter large, and refuses it above 5."""

    def __init__(self, n=1.0):
        super().__init__()
        self.n = n

    def fit(self, ratings, validation=None):
        if self.n > 5:
            raise ValueError(f"n: got {self.n}; expected at most 5")
        return super().fit(ratings)

    def _predict_codes(self, users, items):
        return super()._predict_codes(users, items) + 1 / self.n


@pytest.mark.parametrize("target", ["rmse", "ndcg"])
def test_a_moved_grid_may_leave_the_range_of_a_parameter(medium, target):
    table = evaluation.grid_search(Bounded(), {"n": [1.0, 4.0]}, medium, rounds=9, target=target)
    assert table.loc[table["n"] > 5, "score"].isna().all()
    assert table["score"].notna().any() and not np.isnan(table.loc[table["n"] <= 5, "score"]).any()
    if target == "rmse":
        assert table.attrs["best"] == {"n": 4.0} and table["n"].tolist() == [1, 4, 2, 8]
    with pytest.raises(ValueError, match="n: got 8") as caught:
        evaluation.grid_search(Bounded(), {"n": [1.0, 8.0]}, medium, rounds=9)
    assert caught.value.__notes__ == ["while trying {'n': 8.0}"]


def test_tuned_never_sees_the_test_part(medium):
    """Whatever the test ratings are, the choice and the predictions stay."""
    train, test = splits.random_holdout(medium, 0.25, seed=0)
    tuned = evaluation.Tuned(BiasModel(), {"user_damping": [0.1, 5.0, 500.0]})
    tuned.fit(train)
    plain = BiasModel(**tuned.best_params_).fit(train)
    np.testing.assert_array_equal(tuned.predict(test), plain.predict(test))
    assert tuned.recommend(test.user_ids[0], 3).equals(plain.recommend(test.user_ids[0], 3))
    inner = splits.random_holdout(train, 0.2, seed=0)
    scores = [metrics.rmse(inner.test.values, BiasModel(d).fit(inner.train).predict(inner.test))
              for d in (0.1, 5.0, 500.0)]  # fmt: skip
    np.testing.assert_allclose(tuned.search_["score"], scores)
    for target, rounds in (("rmse", 1), ("rmse", 2), ("ndcg", 2)):
        seen = []
        search = evaluation.Tuned(Watched(seen), {"shift": [0.1, 0.2]}, target=target, rounds=rounds)
        evaluation.cross_validate(search, medium, [(train, test)], verbose=False)
        held = set(zip(test.user_codes.tolist(), test.item_codes.tolist(), strict=True))
        assert len(seen) >= 2 * rounds + 1
        assert all(not (pairs & held) for pairs in seen)


def test_tuned_hands_every_verb_through(medium, tmp_path):
    tuned = evaluation.Tuned(BiasedALS(3, n_sweeps=3, verbose=False), {"reg": [1.0, 9.0]})
    with pytest.raises(NotFittedError):
        tuned.recommend(1)
    tuned.fit(medium)
    plain = BiasedALS(3, n_sweeps=3, verbose=False, **tuned.best_params_).fit(medium)
    user, item = int(medium.user_ids[4]), int(medium.item_ids[7])
    np.testing.assert_array_equal(tuned.predict(medium), plain.predict(medium))
    for verb, arguments in (
        ("recommend", (user, 5)), ("similar_items", (item, 5)), ("explain", (user, item)),
    ):  # fmt: skip
        pd.testing.assert_frame_equal(getattr(tuned, verb)(*arguments), getattr(plain, verb)(*arguments))
    newcomer = {item: 5.0, int(medium.item_ids[9]): 1.0}
    pd.testing.assert_frame_equal(tuned.fold_in(newcomer).recommend(5), plain.fold_in(newcomer).recommend(5))
    tuned.save(tmp_path / "model.npz")
    again = BiasedALS.load(tmp_path / "model.npz")
    np.testing.assert_allclose(again.predict(medium), plain.predict(medium), rtol=1e-6)


class Watched(GlobalMean):
    """Remembers what it was fitted on."""

    def __init__(self, log=None, shift=0.0):
        self.log = log
        self.shift = shift

    def __sklearn_clone__(self):
        return Watched(self.log, self.shift)

    def get_params(self, deep=True):
        return {"shift": self.shift}

    def fit(self, ratings, validation=None):
        if self.log is not None:
            self.log.append(set(zip(ratings.user_codes.tolist(), ratings.item_codes.tolist(), strict=True)))
        return super().fit(ratings)


# ---- compare ------------------------------------------------------------------------------------


MODELS = {"mean": GlobalMean(), "bias": BiasModel(), "popularity": Popularity()}


def test_compare_measures_what_the_metrics_say(medium):
    found = evaluation.compare(MODELS, medium, "5-fold", seed=4, verbose=False)
    folds = splits.k_fold(medium, 5, seed=4)
    for fold, (train, test) in enumerate(folds):
        own = found.table[(found.table["model"] == "bias") & (found.table["fold"] == fold)]
        rows = own.set_index("metric")["value"]
        model = BiasModel().fit(train)
        assert rows["rmse"] == metrics.rmse(test.values, model.predict(test))
        assert rows["mae"] == metrics.mae(test.values, model.predict(test))
        assert rows["ndcg"] == evaluation.rank_model(model, train, test).means()["ndcg"]
        assert rows["model_mb"] == model_bytes(model) / 1e6
        assert rows["fit_seconds"] > 0 and rows["fit_cpu_seconds"] >= 0
        users = found.users[(found.users["model"] == "bias") & (found.users["fold"] == fold)]
        assert users["ratings"].sum() == len(test)
        assert users["squared_error"].sum() / len(test) == pytest.approx(rows["rmse"] ** 2)
        np.testing.assert_array_equal(users["train_ratings"], train.user_counts[np.unique(test.user_codes)])
        assert users["ndcg"].mean() == pytest.approx(rows["ndcg"])
    assert list(found.means().index) == [("5-fold", name) for name in MODELS]
    assert found.means().loc[("5-fold", "bias"), "rmse"] == pytest.approx(
        found.table.query("model == 'bias' and metric == 'rmse'")["value"].mean()
    )


def test_peak_memory_sees_an_array(medium):
    if not os.path.exists("/proc/self/clear_refs"):
        pytest.skip("the system does not tell a process its peak memory")
    found = evaluation.cross_validate(Hungry(), medium, "random", verbose=False)
    assert 79 < found.loc[0, "peak_mb"] < 120


class Hungry(GlobalMean):
    def fit(self, ratings, validation=None):
        np.ones(10_000_000)
        return super().fit(ratings)


def same(one, other):
    timed = ("seconds", "peak_mb")
    tables = [
        f.table[~f.table["metric"].str.contains("|".join(timed))].reset_index(drop=True) for f in (one, other)
    ]
    pd.testing.assert_frame_equal(*tables)
    pd.testing.assert_frame_equal(one.users, other.users)
    pd.testing.assert_frame_equal(one.chosen, other.chosen)


def test_the_busiest_users_need_not_have_rated_the_most_rated_films():
    """The fit before the clock starts takes a small sample of the data, and it must never be empty."""
    busy = [(user, 1000 + 101 * user + film, 3.0 + film % 2) for user in range(100) for film in range(101)]
    others = [(200 + user, film, 3.0 + (user + film) % 3) for user in range(60) for film in range(0, 200, 2)]
    others += [(300 + user, film, 3.0 + (user + film) % 3) for user in range(60) for film in range(1, 200, 2)]
    ratings = make_ratings(busy + others)
    found = evaluation.compare({"mean": GlobalMean(), "bias": BiasModel()}, ratings, "random", verbose=False)
    assert found.means()["rmse"].between(0.1, 2).all()
    corner = measuring._busy_corner(ratings)
    assert corner.user_ids.tolist() == list(range(2)) and len(corner) == 200


def test_compare_in_two_processes_gives_the_same(medium):
    models = MODELS | {"tuned": evaluation.Tuned(BiasModel(), {"user_damping": [1.0, 100.0]})}
    one = evaluation.compare(models, medium, "5-fold", verbose=False)
    two = evaluation.compare(models, medium, "5-fold", n_jobs=2, memory_per_job=0.0 + 1e6, verbose=False)
    same(one, two)
    assert one.chosen["model"].tolist() == ["tuned"] * 5
    assert set(one.chosen["settings"][0]) == {"user_damping"}
    assert one.chosen["edges"][0] == ["user_damping"], "of two values, each is an edge"
    assert one.chosen["trials"].tolist() == [2] * 5


def test_workers_are_fewer_where_memory_is_short():
    assert comparison._workers(2, 10, 1.0) == 2
    assert comparison._workers(2, 10, 1e18) == 1
    assert comparison._workers(8, 3, 1.0) == 3
    assert comparison._workers(4, 0, 1.0) == 1


def test_a_rerun_takes_everything_from_the_file(medium, tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    first = evaluation.compare(MODELS, medium, path=path, verbose=False)
    content = path.read_bytes()
    assert content.count(b"\n") == 15
    monkeypatch.setattr(comparison, "measure", lambda *a: pytest.fail("computed again"))
    second = evaluation.compare(MODELS, medium, path=path, verbose=False)
    pd.testing.assert_frame_equal(first.table, second.table)
    same(first, second)
    assert path.read_bytes() == content


def counting(monkeypatch):
    done = []
    run = comparison.measure

    def counted(model, *rest):
        done.append(type(model).__name__)
        return run(model, *rest)

    monkeypatch.setattr(comparison, "measure", counted)
    return done


@pytest.mark.parametrize("cut", [1, 40, -1, -2])
def test_a_torn_last_line_is_computed_again_and_nothing_else(medium, tmp_path, monkeypatch, cut):
    path = tmp_path / "results.jsonl"
    whole = evaluation.compare(MODELS, medium, path=path, verbose=False)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:9]) + lines[9][:cut])
    done = counting(monkeypatch)
    again = evaluation.compare(MODELS, medium, path=path, verbose=False)
    assert len(done) == 6
    same(whole, again)
    assert len(path.read_bytes().splitlines()) == 15
    assert path.read_bytes().startswith(b"".join(lines[:9]))


def test_a_damaged_line_in_the_middle_is_refused_and_kept(medium, tmp_path):
    path = tmp_path / "results.jsonl"
    evaluation.compare(MODELS, medium, path=path, verbose=False)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = b"{half\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(ValueError, match="line 5 is damaged"):
        evaluation.compare(MODELS, medium, path=path, verbose=False)
    assert path.read_bytes() == b"".join(lines)


def test_an_old_result_does_not_stand_in_for_another_setting(medium, tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    options = {"path": path, "verbose": False}
    evaluation.compare({"bias": BiasModel()}, medium, "random", **options)
    done = counting(monkeypatch)
    changed = [
        ({"bias": BiasModel(user_damping=6.0)}, medium, "random", {}),
        ({"bias": BiasModel()}, medium[5:], "random", {}),
        ({"bias": BiasModel()}, medium, "temporal", {}),
        ({"bias": BiasModel()}, medium, "random", {"seed": 1}),
        ({"bias": BiasModel()}, medium, "random", {"k": 5}),
        ({"bias": BiasModel()}, medium, "random", {"threshold": 3.5}),
        ({"bias": evaluation.Tuned(BiasModel(), [{}])}, medium, "random", {}),
        ({"bias": evaluation.Tuned(BiasModel(), [{}], target="ndcg")}, medium, "random", {}),
    ]
    for n, (models, ratings, protocol, more) in enumerate(changed, 1):
        evaluation.compare(models, ratings, protocol, **options, **more)
        assert len(done) == n
    frame = medium.to_frame()
    tables = {"movies": pd.DataFrame({"movieId": medium.item_ids, "genres": "Drama"})}
    for changed in (tables, {"users": pd.DataFrame({"userId": medium.user_ids})}, {"scale": (0.5, 6.0)}):
        n += 1
        evaluation.compare({"bias": BiasModel()}, Ratings.from_frame(frame, **changed), "random", **options)
        assert len(done) == n, "a model can learn from the tables, and clip to the scale"
    renamed = evaluation.compare({"another name": BiasModel()}, medium, "random", **options)
    assert len(done) == n, "a name is not a setting"
    assert set(renamed.table["model"]) == {"another name"}


def test_a_changed_helper_never_certifies_an_old_result(medium, tmp_path, monkeypatch):
    """Whatever file of the package a result could depend on, changing it makes another digest."""
    package = tmp_path / "package"
    shutil.copytree(results._PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    code_digest = results.code_digest.__wrapped__
    before = code_digest(package)
    assert before == results.code_digest()
    rooms = ("data", "evaluation", "kernels", "models")
    helpers = [path for room in rooms for path in (package / room).rglob("*.py")]
    for path in (*helpers, package / "linalg.py"):
        text = path.read_bytes()
        path.write_bytes(text + b"# changed\n")
        assert code_digest(package) != before, path
        path.write_bytes(text)
    (package / "serving" / "http.py").write_text("")
    assert code_digest(package) == before, "what serves results makes none"

    path = tmp_path / "results.jsonl"
    options = {"path": path, "verbose": False}
    evaluation.compare({"bias": BiasModel()}, medium, "random", **options)
    done = counting(monkeypatch)
    monkeypatch.setattr(results, "code_digest", lambda: "another")
    evaluation.compare({"bias": BiasModel()}, medium, "random", **options)
    assert len(done) == 1


def test_a_changed_model_of_the_readers_own_is_computed_again(medium, tmp_path, monkeypatch):
    path, source = tmp_path / "results.jsonl", tmp_path / "own_model.py"
    monkeypatch.syspath_prepend(tmp_path)
    values = []
    for constant in ("1.0", "2.25"):
        source.write_text(
            "from recsys_helpers.models.baselines import GlobalMean\n\n\nclass Own(GlobalMean):\n"
            f"    def _predict_codes(self, users, items):\n        return {constant} + 0.0 * users\n"
        )
        linecache.clearcache()
        sys.modules.pop("own_model", None)
        own = importlib.import_module("own_model").Own()
        found = evaluation.compare({"own": own}, medium, "random", path=path, verbose=False)
        values.append(found.means()["rmse"].item())
    assert values[0] != values[1]


SLOW = """
import sys, time
sys.path[:0] = sys.argv[2:]
from test_evaluation import SLOWED, make_medium
from recsys_helpers import evaluation
evaluation.compare(SLOWED, make_medium(), path=sys.argv[1], n_jobs=2, memory_per_job=1e6, verbose=False)
"""


class Slow(GlobalMean):
    """Takes its time where it is asked to, so that a kill comes in the middle."""

    def __init__(self, name=""):
        self.name = name

    def fit(self, ratings, validation=None):
        time.sleep(float(os.environ.get("SLOW", 0)))
        return super().fit(ratings)


SLOWED = {name: Slow(name) for name in "abcd"}


@pytest.mark.skipif(os.name != "posix", reason="needs the signal SIGKILL")
def test_a_kill_with_two_workers_loses_and_repeats_nothing(tmp_path, monkeypatch):
    path, here = tmp_path / "results.jsonl", os.path.dirname(__file__)
    command = [sys.executable, "-c", SLOW, str(path), here, os.path.dirname(here)]
    process = subprocess.Popen(command, env={**os.environ, "SLOW": "0.2"}, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if path.exists() and path.read_bytes().count(b"\n") >= 4:
                break
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    content = path.read_bytes()
    kept = content[: content.rindex(b"\n") + 1]
    n = kept.count(b"\n")
    assert 4 <= n < 20
    path.write_bytes(kept + b'{"key": "half a li')
    done = counting(monkeypatch)
    found = evaluation.compare(SLOWED, make_medium(), path=path, verbose=False)
    assert len(done) == 20 - n
    assert path.read_bytes().startswith(kept)
    keys = [json.loads(line)["key"] for line in path.read_bytes().splitlines()]
    assert len(keys) == len(set(keys)) == 20
    same(found, evaluation.compare(SLOWED, make_medium(), verbose=False))


def make_medium():
    rng = np.random.default_rng(0)
    u, i = np.nonzero(rng.random((30, 40)) < 0.4)
    values = rng.integers(2, 11, len(u)) / 2
    return Ratings.from_frame(pd.DataFrame({"userId": u, "movieId": i, "rating": values}))


class Moody(GlobalMean):
    """Fails where the training part is the first of its kind."""

    def __init__(self, hates=0):
        self.hates = hates

    def fit(self, ratings, validation=None):
        if len(ratings) == self.hates:
            raise TwoWords("will", "not")
        return super().fit(ratings)


class TwoWords(Exception):
    """Cannot be unpickled: only its message is kept."""

    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_names_the_model_and_keeps_what_others_did(medium, tmp_path, monkeypatch, n_jobs):
    path = tmp_path / "results.jsonl"
    parts = [(medium[n + 200 :], medium[: n + 200]) for n in range(3)]
    models = {"mean": GlobalMean(), "moody": Moody(len(medium) - 201), "bias": BiasModel()}
    options = {"verbose": False, "n_jobs": n_jobs, "memory_per_job": 1e6}
    with pytest.raises(Exception, match="will not") as caught:
        evaluation.compare(models, medium, parts, path=path, **options)
    notes = " ".join(caught.value.__notes__)
    assert "'moody'" in notes and f"1 of 9 results failed; the others are in {path}" in notes
    assert path.read_bytes().count(b"\n") == 8
    done = counting(monkeypatch)
    with pytest.raises(Exception, match="will not"):
        evaluation.compare(models, medium, parts, path=path, verbose=False)
    assert done == ["Moody"]
    with pytest.raises(Exception, match="will not"):
        evaluation.compare(models, medium, parts, **options)


def test_a_second_process_may_not_write_to_the_file(medium, tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "results.jsonl"
    with results.Results(path) as store:
        store.add("a", {"key": "a"})
        with pytest.raises(RuntimeError, match="another process is writing"):
            evaluation.compare(MODELS, medium, path=path, verbose=False)
    assert path.read_bytes() == b'{"key": "a"}\n'
    evaluation.compare({"mean": GlobalMean()}, medium, "random", path=path, verbose=False)


@pytest.mark.parametrize("content", [b"my notes", b"a,b\n1,2\n", b'{"key": 1}\n{"model": 2}\n'])
def test_a_file_that_is_something_else_is_left_alone(medium, tmp_path, content):
    path = tmp_path / "notes"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged|is no result"):
        evaluation.compare(MODELS, medium, path=path, verbose=False)
    assert path.read_bytes() == content


@pytest.mark.parametrize("rest", [b"\0\0\0", b'{"ke', b'{"key": "ab\0\0'])
def test_what_a_power_cut_leaves_is_dropped(medium, tmp_path, rest):
    path = tmp_path / "results.jsonl"
    options = {"path": path, "verbose": False}
    first = evaluation.compare(MODELS, medium, "random", **options)
    whole = path.read_bytes()
    path.write_bytes(whole + rest)
    same(first, evaluation.compare(MODELS, medium, "random", **options))
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "models, options, error, words",
    [
        ({}, {}, TypeError, "models: got dict"),
        ([GlobalMean()], {}, TypeError, "models: got list"),
        ({"x": 3}, {}, TypeError, "got int for 'x'"),
        ({"x": GlobalMean()}, {"n_jobs": 0}, ValueError, "n_jobs"),
        ({"x": GlobalMean()}, {"k": 0}, ValueError, "k: got 0"),
        ({"x": GlobalMean()}, {"threshold": 9}, ValueError, "threshold: got 9, which no test rating"),
        ({"x": GlobalMean()}, {"threshold": "4"}, TypeError, "threshold: got '4'"),
        ({"x": GlobalMean()}, {"memory_per_job": 0}, ValueError, "memory_per_job: got 0"),
        (
            {"x": BiasedALS(random_state=np.random.default_rng())},
            {},
            TypeError,
            "random_state: got Generator",
        ),
    ],
)
def test_compare_bad_input(medium, models, options, error, words):
    with pytest.raises(error, match=words):
        evaluation.compare(models, medium, verbose=False, **options)


# ---- differences ---------------------------------------------------------------------------------


def test_paired_differences(medium):
    users = evaluation.compare(MODELS, medium, verbose=False).users
    table = evaluation.paired_differences(users, "bias", seed=1)
    assert table.loc["bias", "difference"] == 0
    assert np.isnan(table.loc["bias", "p"])
    mean, bias = (users[users["model"] == name] for name in ("mean", "bias"))
    values = [np.sqrt(u["squared_error"].sum() / u["ratings"].sum()) for u in (mean, bias)]
    assert table.loc["mean", "value"] == pytest.approx(values[0])
    assert table.loc["mean", "difference"] == pytest.approx(values[0] - values[1])
    assert table.loc["mean", "low"] < table.loc["mean", "difference"] < table.loc["mean", "high"]
    np.testing.assert_allclose(
        table.loc[["mean", "popularity"], "p_holm"], evaluation.holm(table.loc[["mean", "popularity"], "p"])
    )
    ranked = evaluation.paired_differences(users, "popularity", metric="ndcg")
    assert ranked.loc["bias", "value"] == pytest.approx(users[users["model"] == "bias"]["ndcg"].mean())


def made_up_users(rng, shift, n=120):
    """Users that differ much from one another, and two models that differ by `shift` on each."""
    level = rng.uniform(1, 30, n)
    frames = []
    for model, add in (("one", 0.0), ("other", shift)):
        error = level + add + 0.3 * rng.standard_normal(n)
        frame = pd.DataFrame({"userId": np.arange(n), "squared_error": 10 * np.abs(error), "ndcg": level})
        frames.append(frame.assign(model=model, protocol="p", fold=0, ratings=10))
    return pd.concat(frames)


def test_intervals_cover_and_p_values_hold_their_level():
    rng = np.random.default_rng(0)
    p = [
        evaluation.paired_differences(made_up_users(rng, 0.0), "one", n_boot=199, seed=s).loc["other", "p"]
        for s in range(60)
    ]
    assert 0.0 <= np.mean(np.array(p) < 0.05) <= 0.12, "no difference, few alarms"
    assert 0.3 < np.mean(p) < 0.7
    table = evaluation.paired_differences(made_up_users(rng, 0.3), "one", n_boot=300)
    assert table.loc["other", "p"] < 0.05, "the users differ by far more than the models, yet it is found"


def unequal_users(rng, n, models=2):
    """As unequal in their numbers of ratings as the users of MovieLens; the models are equally good."""
    count = np.maximum(1, np.exp(rng.normal(2.2, 1.2, n)).astype(int))
    spread = np.exp(rng.normal(-0.15, 0.35, n))
    shared = rng.chisquare(count) * spread**2
    frames = []
    for model in range(models):
        own = 0.3 * spread * np.sqrt(count) * rng.standard_normal(n)
        frame = pd.DataFrame({"userId": np.arange(n), "ratings": count, "ndcg": np.nan})
        frame["squared_error"] = np.maximum(shared + own, 0.01)
        frames.append(frame.assign(model=str(model), protocol="p", fold=0))
    return pd.concat(frames)


def test_intervals_cover_and_corrected_tests_hold_their_level_for_unequal_users():
    rng = np.random.default_rng(0)
    covered, together, alarms, corrected, trials = 0, 0, 0, 0, 100
    for seed in range(trials):
        users = unequal_users(rng, 60, models=6)
        table = evaluation.paired_differences(users, "0", n_boot=199, seed=seed).drop("0")
        covered += (table["low"] <= 0).to_numpy() & (table["high"] >= 0).to_numpy()
        together += ((table["low_all"] <= 0) & (table["high_all"] >= 0)).all()
        alarms += (table["p"] < 0.05).any()
        corrected += (table["p_holm"] < 0.05).any()
        assert ((table["low"] > 0) | (table["high"] < 0)).eq(table["p"] <= 0.05).all(), "one rule behind both"
        wider = (table["low_all"] <= table["low"]) & (table["high"] <= table["high_all"])
        assert wider.all(), "what holds for all models is wider than what holds for one"
    assert 0.90 <= np.mean(covered) / trials <= 0.99
    assert 0.90 <= together / trials <= 0.99 and together > min(covered), "95 % for all five at once"
    assert alarms / trials > 0.1 > corrected / trials


def test_one_model_needs_no_correction_and_ids_may_have_any_name(medium):
    rng = np.random.default_rng(3)
    users = made_up_users(rng, 0.1)
    table = evaluation.paired_differences(users, "one", n_boot=99)
    assert (
        table.loc["other", ["low", "high"]].tolist() == table.loc["other", ["low_all", "high_all"]].tolist()
    )
    named = users.rename(columns={"userId": "reader"}).assign(reader=lambda f: "r" + f["reader"].astype(str))
    again = evaluation.paired_differences(named, "one", n_boot=99)
    assert again.loc["other", "difference"] == pytest.approx(table.loc["other", "difference"])
    with pytest.raises(ValueError, match="users: got no column beside"):
        evaluation.paired_differences(users.drop(columns="userId"), "one")
    with pytest.raises(ValueError, match=r"users: got \['reader', 'age'\]"):
        evaluation.paired_differences(named.assign(age=3), "one")


def test_models_that_never_differ_and_users_without_relevant_films(medium):
    users = evaluation.compare(MODELS, medium, verbose=False).users
    twin = pd.concat([users, users[users["model"] == "bias"].assign(model="twin")])
    table = evaluation.paired_differences(twin, "bias", n_boot=50)
    assert table.loc["twin", ["difference", "low", "high", "p"]].tolist() == [0, 0, 0, 1]
    few = users.copy()
    few.loc[few["userId"] % 5 > 0, "ndcg"] = np.nan
    some = few[few["userId"] % 5 == 0]
    whole, part = (evaluation.paired_differences(u, "bias", metric="ndcg", n_boot=50) for u in (few, some))
    pd.testing.assert_frame_equal(whole, part)
    few["ndcg"] = np.nan
    with pytest.raises(ValueError, match="users: got 0 with a value of ndcg"):
        evaluation.paired_differences(few, "bias", metric="ndcg")


def test_paired_differences_bad_input(medium):
    users = evaluation.compare(MODELS, medium, "random", verbose=False).users
    with pytest.raises(ValueError, match="baseline: got 'x'"):
        evaluation.paired_differences(users, "x")
    with pytest.raises(ValueError, match="expected one, select it first"):
        evaluation.paired_differences(pd.concat([users, users.assign(protocol="b")]), "bias")
    with pytest.raises(TypeError, match="users: got str"):
        evaluation.paired_differences("x", "bias")
    with pytest.raises(ValueError, match="different ratings"):
        evaluation.paired_differences(users.iloc[1:], "bias")


def test_holm_by_hand():
    np.testing.assert_allclose(evaluation.holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(evaluation.holm([0.6, 0.7]), [1, 1])
    assert evaluation.holm([]).shape == (0,)
    for bad in ([-0.1], [np.nan], [[0.5]]):
        with pytest.raises(ValueError, match="p_values"):
            evaluation.holm(bad)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_none_and_bonferroni(p):
    p, adjusted = np.array(p), evaluation.holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, len(p) * p) + 1e-15).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()


def test_pareto_front():
    front = evaluation.pareto_front([1, 2, 3, 2, 1], [5, 3, 4, 6, 5])
    assert front.tolist() == [True, True, False, False, True]
    for costs, errors in (([1, np.nan], [1, 1]), ([1, 2], [1]), ([[1]], [[1]])):
        with pytest.raises(ValueError, match="costs and errors"):
            evaluation.pareto_front(costs, errors)
