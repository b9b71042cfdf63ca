import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from recsys_helpers import BiasedALS, ItemKNN, PureSVD, Ratings, evaluation, metrics, splits
from recsys_helpers.baselines import BiasModel, GlobalMean, Popularity
from recsys_helpers.evaluation import model_bytes, running_comparison


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
    "model", [BiasModel(), Popularity(), ItemKNN(5, verbose=False), BiasedALS(3, n_sweeps=3, verbose=False)]
)
def test_rank_model_ranks_as_recommend_does(parts, model):
    train, test = parts
    found = evaluation.rank_model(model.fit(train), train, test, k=7)
    liked = test.to_frame().query("rating >= 4").groupby("userId")["movieId"].agg(list)
    assert found.values.index.tolist() == liked.index.tolist()
    for row, user in enumerate(found.values.index):
        listed = model.recommend(user, 7)["movieId"].tolist()
        assert train.item_ids[found.lists[row]].tolist() == listed
        for metric in (metrics.precision, metrics.recall, metrics.ndcg, metrics.average_precision):
            value = metric(listed, liked[user], 7)
            assert found.values.loc[user, metric.__name__] == pytest.approx(value, abs=1e-12)
    some = evaluation.rank_model(model, train, test, k=7, users=found.values.index[3:5])
    pd.testing.assert_frame_equal(some.values, found.values.iloc[3:5])


def test_scores_in_blocks_are_those_of_single_users(parts):
    for model in (BiasModel(), Popularity(), ItemKNN(5, verbose=False)):
        model.fit(parts.train)
        block = model._score_block(np.array([4, 0, 9]))
        for row, user in enumerate((4, 0, 9)):
            np.testing.assert_array_equal(block[row], model._score_codes(user))
        assert model._score_block(np.array([], int)).shape == (0, parts.train.n_items)


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


def test_list_summary(medium, parts):
    train, test = parts
    ranking = evaluation.rank_model(Popularity().fit(train), train, test, k=5)
    found = evaluation.list_summary(ranking, train)
    assert found["coverage"] == len(np.unique(ranking.lists)) / train.n_items
    assert found["exposure_gini"] == metrics.gini(metrics.exposure(ranking.lists, train.n_items))
    assert "diversity" not in found
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
    seen = []
    watched = Watched(seen)
    evaluation.cross_validate(
        evaluation.Tuned(watched, {"shift": [0.0, 0.1]}), medium, [(train, test)], verbose=False
    )
    held = set(zip(test.user_codes.tolist(), test.item_codes.tolist(), strict=True))
    assert len(seen) >= 3
    assert all(not (pairs & held) for pairs in seen)


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


def test_compare_in_two_processes_gives_the_same(medium):
    models = MODELS | {"tuned": evaluation.Tuned(BiasModel(), {"user_damping": [1.0, 100.0]})}
    one = evaluation.compare(models, medium, "5-fold", verbose=False)
    two = evaluation.compare(models, medium, "5-fold", n_jobs=2, memory_per_job=0.0 + 1e6, verbose=False)
    same(one, two)
    assert one.chosen["model"].tolist() == ["tuned"] * 5
    assert set(one.chosen["settings"][0]) == {"user_damping"}


def test_workers_are_fewer_where_memory_is_short():
    assert evaluation._workers(2, 10, 1.0) == 2
    assert evaluation._workers(2, 10, 1e18) == 1
    assert evaluation._workers(8, 3, 1.0) == 3
    assert evaluation._workers(4, 0, 1.0) == 1


def test_a_rerun_takes_everything_from_the_file(medium, tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    first = evaluation.compare(MODELS, medium, path=path, verbose=False)
    content = path.read_bytes()
    assert content.count(b"\n") == 15
    monkeypatch.setattr(evaluation, "_run", lambda *a: pytest.fail("computed again"))
    second = evaluation.compare(MODELS, medium, path=path, verbose=False)
    pd.testing.assert_frame_equal(first.table, second.table)
    same(first, second)
    assert path.read_bytes() == content


def counting(monkeypatch):
    done = []
    run = evaluation._run

    def counted(model, *rest):
        done.append(type(model).__name__)
        return run(model, *rest)

    monkeypatch.setattr(evaluation, "_run", counted)
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
    renamed = evaluation.compare({"another name": BiasModel()}, medium, "random", **options)
    assert len(done) == n, "a name is not a setting"
    assert set(renamed.table["model"]) == {"another name"}


KILLED = """
import os, sys
sys.path[:0] = sys.argv[2:]
from test_evaluation import MODELS, Deadly, make_medium
from recsys_helpers import evaluation
evaluation.compare(MODELS | {"deadly": Deadly()}, make_medium(), path=sys.argv[1], verbose=False)
"""


class Deadly(GlobalMean):
    """Ends its process at the third fit, as a power cut would."""

    fits = 0

    def fit(self, ratings, validation=None):
        Deadly.fits += 1
        if Deadly.fits == 3 and __name__ != "__main__" and os.environ.get("DEADLY"):
            os._exit(9)
        return super().fit(ratings)


def make_medium():
    rng = np.random.default_rng(0)
    u, i = np.nonzero(rng.random((30, 40)) < 0.4)
    values = rng.integers(2, 11, len(u)) / 2
    return Ratings.from_frame(pd.DataFrame({"userId": u, "movieId": i, "rating": values}))


def test_after_a_kill_a_rerun_continues(tmp_path, monkeypatch):
    path = tmp_path / "results.jsonl"
    here = os.path.dirname(__file__)
    command = [sys.executable, "-c", KILLED, str(path), here, os.path.dirname(here)]
    dead = subprocess.run(command, env={**os.environ, "DEADLY": "1"}, capture_output=True, text=True)
    assert dead.returncode == 9, dead.stderr
    kept = path.read_bytes()
    n = kept.count(b"\n")
    assert 0 < n < 20
    done = counting(monkeypatch)
    models = MODELS | {"deadly": Deadly()}
    found = evaluation.compare(models, make_medium(), path=path, verbose=False)
    assert len(done) == 20 - n
    assert path.read_bytes().startswith(kept)
    same(found, evaluation.compare(models, make_medium(), verbose=False))


def test_an_error_names_the_model_and_keeps_what_is_done(medium, tmp_path):
    path = tmp_path / "results.jsonl"
    models = {"mean": GlobalMean(), "broken": BiasModel(user_damping=-1)}
    with pytest.raises(ValueError, match="user_damping") as caught:
        evaluation.compare(models, medium, path=path, verbose=False)
    assert any("'broken'" in note for note in caught.value.__notes__)
    assert path.read_bytes().count(b"\n") == 1


@pytest.mark.parametrize(
    "models, options, error, words",
    [
        ({}, {}, TypeError, "models: got dict"),
        ([GlobalMean()], {}, TypeError, "models: got list"),
        ({"x": 3}, {}, TypeError, "got int for 'x'"),
        ({"x": GlobalMean()}, {"n_jobs": 0}, ValueError, "n_jobs"),
        ({"x": GlobalMean()}, {"k": 0}, ValueError, "k: got 0"),
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
        evaluation.paired_differences(made_up_users(rng, 0.0), "one", n_boot=300, seed=s).loc["other", "p"]
        for s in range(150)
    ]
    assert 0.0 <= np.mean(np.array(p) < 0.05) <= 0.12, "no difference, few alarms"
    assert 0.3 < np.mean(p) < 0.7
    table = evaluation.paired_differences(made_up_users(rng, 0.3), "one", n_boot=300)
    assert table.loc["other", "p"] < 0.05, "the users differ by far more than the models, yet it is found"


def test_paired_differences_bad_input(medium):
    users = evaluation.compare(MODELS, medium, "random", verbose=False).users
    with pytest.raises(ValueError, match="baseline: got 'x'"):
        evaluation.paired_differences(users, "x")
    with pytest.raises(ValueError, match="expected one, select it first"):
        evaluation.paired_differences(pd.concat([users, users.assign(protocol="b")]), "bias")
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


# ---- the leaderboard ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def leaderboard():
    path = Path(__file__).parents[1] / "benchmarks" / "leaderboard.py"
    spec = importlib.util.spec_from_file_location("leaderboard", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_model_of_the_leaderboard_gets_the_same_effort(leaderboard):
    for name, (model, settings) in leaderboard.MODELS.items():
        if settings is None:
            assert model.get_params() == {}, "only a model without settings may have none to try"
            continue
        assert len(settings) == leaderboard.SETTINGS, name
        tried = [clone(model).set_params(**setting).get_params() for setting in settings]
        assert all(one != other for n, one in enumerate(tried) for other in tried[:n]), name
    for protocol, inner in (("5-fold", "random"), ("temporal", "temporal")):
        entered = leaderboard.contestants(protocol)
        assert list(entered) == list(leaderboard.MODELS)
        assert {m.inner for m in entered.values() if isinstance(m, evaluation.Tuned)} == {inner}


def test_what_the_leaderboard_keeps(leaderboard, medium):
    tuned = evaluation.Tuned(BiasModel(), {"user_damping": [1.0, 9.0]})
    models = {"biases": tuned, "popularity": Popularity(), "PureSVD": PureSVD(3)}
    found = evaluation.compare(models, medium, name="5-fold", verbose=False)
    rows, differences, folds = leaderboard.summary(found, "5-fold")
    json.dumps([rows, differences, folds], allow_nan=False)
    by_model = {row["model"]: row for row in rows}
    assert by_model["PureSVD"]["rmse"] is None, "its scores are not stars"
    mean = found.table.query("model == 'biases' and metric == 'rmse'")["value"].mean()
    assert by_model["biases"]["rmse"] == pytest.approx(mean, rel=1e-5)
    assert {d["leader"] for d in differences if d["metric"] == "rmse"} == {"biases"}
    assert len(folds) == 15
    assert folds[0]["chosen"].keys() == {"user_damping"}
