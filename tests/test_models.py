"""The contract that every model keeps, held against every model."""

import pickle
import re
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import make_ratings
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from recsys_helpers import (
    BPR,
    EASE,
    NMF,
    SLIM,
    BayesianMF,
    BiasedALS,
    BiasModel,
    FunkSVD,
    GlobalMean,
    GradientMF,
    ImplicitALS,
    ImputedSVD,
    ItemKNN,
    LikesKNN,
    LikesUserKNN,
    NuclearNormCompletion,
    Popularity,
    PureSVD,
    Ratings,
    SVDpp,
    UserKNN,
    load_model,
)  # fmt: skip
from recsys_helpers.models import Recommender
from recsys_helpers.models.base import VERBS

QUIET = {"verbose": False}
MODELS = {
    "GlobalMean": GlobalMean(),
    "BiasModel": BiasModel(),
    "Popularity": Popularity(),
    "ItemKNN": ItemKNN(10, **QUIET),
    "UserKNN": UserKNN(10, **QUIET),
    "ImputedSVD": ImputedSVD(4),
    "PureSVD": PureSVD(4),
    "FunkSVD": FunkSVD(4, n_epochs=8, **QUIET),
    "SVDpp": SVDpp(4, n_epochs=8, **QUIET),
    "NMF": NMF(3, **QUIET),
    "BiasedALS": BiasedALS(4, **QUIET),
    "NuclearNormCompletion": NuclearNormCompletion(6.0, **QUIET),
    "GradientMF": GradientMF(4, n_epochs=8, **QUIET),
    "ImplicitALS": ImplicitALS(4, **QUIET),
    "EASE": EASE(),
    "SLIM": SLIM(),
    "LikesKNN": LikesKNN(20),
    "LikesUserKNN": LikesUserKNN(20),
    "BayesianMF": BayesianMF(4, n_sweeps=40, n_burn_in=10, n_draws=20, **QUIET),
    "BPR": BPR(4, n_epochs=8, **QUIET),
}
# Rank by something that is not a rating.
NO_STARS = {"PureSVD", "ImplicitALS", "EASE", "SLIM", "LikesKNN", "LikesUserKNN", "BPR"}
# Know no taste, so the checkerboard says nothing to them.
NO_TASTE = {"GlobalMean", "BiasModel", "Popularity"}


@pytest.fixture(params=MODELS, scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def parts(medium):
    """Train and test part; user 0 and item 0 have no training rating."""
    held = (np.arange(len(medium)) % 5 == 0) | (medium.user_codes == 0) | (medium.item_codes == 0)
    return medium[~held], medium[held]


@pytest.fixture(scope="module")
def fitted(name, parts):
    return clone(MODELS[name]).fit(parts[0])


def has(model, verb):
    return model.verbs()[verb] is True


def test_the_list_of_models_is_whole():
    from recsys_helpers import models

    classes = {c for c in map(models.__getattr__, models._HOME) if isinstance(c, type)}
    known = {c.__name__ for c in classes if issubclass(c, Recommender) and c is not Recommender}
    assert known == set(MODELS)


# ---- predicting and ranking --------------------------------------------------------------


def test_predictions_are_numbers_in_the_order_of_the_rows(fitted, parts):
    test = parts[1]
    predicted = fitted.predict(test)
    assert predicted.dtype == np.float64 and predicted.shape == (len(test),)
    assert np.isfinite(predicted).all()
    order = np.random.default_rng(0).permutation(len(test))
    np.testing.assert_allclose(fitted.predict(test[order]), predicted[order], rtol=1e-6)
    for table in (test.to_frame(), pl.from_pandas(test.to_frame())):
        np.testing.assert_allclose(fitted.predict(table), predicted, rtol=1e-6)


def test_unknown_users_and_items_get_the_fallback(fitted, name):
    strangers = pd.DataFrame({"userId": [-7, -7, 4], "movieId": [-9, 9, -9]})
    predicted = fitted.predict(strangers)
    assert np.isfinite(predicted).all()
    if name not in NO_STARS:
        low, high = fitted.train_.scale
        assert (predicted > low - 1).all() and (predicted < high + 1).all()


def test_scores_of_one_of_several_and_of_nobody(fitted):
    train = fitted.train_
    ids = train.user_ids[[4, 0, 9]]
    block = fitted.score_items(ids)
    assert block.shape == (3, train.n_items) and block.dtype == np.float64
    for row, user in zip(block, ids, strict=True):
        np.testing.assert_allclose(fitted.score_items(user), row, rtol=1e-5, atol=1e-5)
    nobody = fitted.score_items()
    assert nobody.shape == (train.n_items,) and np.isfinite(nobody).all()
    assert fitted.score_items(ids[:0]).shape == (0, train.n_items)


def test_somebody_unknown_in_a_block_is_nobody_and_changes_no_other_row(fitted, name):
    block = fitted._block(np.array([3, -1, 5], dtype=np.int32))
    np.testing.assert_allclose(block[1], fitted._score_nobody(), rtol=1e-5, atol=1e-5)
    alone = fitted._block(np.array([3, 5], dtype=np.int32))
    strangers = pd.DataFrame({"userId": -7, "movieId": fitted.train_.item_ids})
    if name not in NO_STARS and name != "Popularity":
        np.testing.assert_allclose(fitted.score_items(), fitted.predict(strangers), rtol=1e-5)
    np.testing.assert_allclose(block[[0, 2]], alone, rtol=1e-5, atol=1e-5)


def test_recommendations_follow_the_scores(fitted):
    train = fitted.train_
    user = train.user_ids[5]
    scores = pd.Series(fitted.score_items(user), index=train.item_ids)
    rated = train.item_ids[train.item_codes[train.user_codes == 5]]
    table = fitted.recommend(user, 7)
    assert table.columns.tolist() == ["movieId", "score"] and len(table) == 7
    assert not table["movieId"].isin(rated).any()
    assert table["score"].min() >= scores.drop(rated).drop(table["movieId"]).max() - 1e-5
    assert (np.diff(table["score"]) <= 0).all()
    everything = fitted.recommend(user, 1000, exclude_rated=False)
    assert len(everything) == train.n_items
    some = train.item_ids[[3, 8, 20, 33]]
    assert set(fitted.recommend(user, 9, among=some, exclude_rated=False)["movieId"]) == set(some)
    left = fitted.recommend(user, 9, among=some, exclude=some[:2], exclude_rated=False)
    assert set(left["movieId"]) == set(some[2:])


def test_recommendations_for_several_and_for_nobody(fitted):
    users = fitted.train_.user_ids[[3, 1, 2]]
    table = fitted.recommend(users, 4)
    assert table.columns.tolist() == ["userId", "movieId", "score"]
    for user in users:
        own = fitted.recommend(user, 4).set_index("movieId")["score"]
        theirs = table[table["userId"] == user].set_index("movieId")["score"]
        np.testing.assert_allclose(own.to_numpy(), theirs.to_numpy(), rtol=1e-5)
    assert len(fitted.recommend([], 4)) == 0
    nobody = fitted.recommend(n=3, exclude=fitted.train_.item_ids[:5])
    assert len(nobody) == 3 and not nobody["movieId"].isin(fitted.train_.item_ids[:5]).any()


def test_a_checkerboard_is_completed(name):
    """Odd users like odd items: what was held out of each pattern must come out on top."""
    if name in NO_TASTE:
        pytest.skip("knows no taste")
    n = 20
    u, i = np.divmod(np.arange(n * n), n)
    value = np.where((u + i) % 2 == 0, 5.0, 1.0)
    seen = np.random.default_rng(0).random(n * n) < 0.6
    train = make_ratings(list(zip(u[seen], i[seen], value[seen], strict=True)))
    strong = {
        "BiasedALS": {"reg": 0.1}, "NuclearNormCompletion": {"reg": 2.0},
        "FunkSVD": {"n_epochs": 150, "learning_rate": 0.05, "decay": 1.0, "reg": 0.01},
        "SVDpp": {"n_epochs": 150, "learning_rate": 0.05, "decay": 1.0, "reg": 0.01},
        "GradientMF": {"n_epochs": 100, "reg": 0.1, "batch_size": 64},
        "ItemKNN": {"center": "mean", "similarity": "centered_cosine", "shrink": 0},
        "UserKNN": {"center": "mean", "similarity": "centered_cosine", "shrink": 0},
        "ImputedSVD": {"n_factors": 1}, "PureSVD": {"n_factors": 2},
        "BPR": {"n_epochs": 60},
    }  # fmt: skip
    model = clone(MODELS[name]).set_params(**strong.get(name, {})).fit(train)
    for user in (3, 4):
        left = np.setdiff1d(i[(u == user) & ~seen & (value == 5)], [])
        best = model.recommend(user, n=len(left))
        assert set(best["movieId"]) == set(left)


# ---- newcomers, reasons, likeness --------------------------------------------------------


def test_newcomers(fitted):
    if not has(fitted, "fold_in"):
        with pytest.raises(NotImplementedError, match="has no fold_in: "):
            fitted.fold_in({5: 3.0})
        return
    person = fitted.fold_in({9: 5.0, 5: 1.0, -4: 3.0, 21: 4.0})
    assert person.ignored.tolist() == [-4]
    assert person.item_ids.tolist() == [5, 9, 21] and person.ratings.tolist() == [1, 5, 4]
    table = person.recommend(4)
    assert table.columns.tolist() == ["movieId", "score"] and not table["movieId"].isin([5, 9, 21]).any()
    scores = pd.Series(person.score_items(), index=fitted.train_.item_ids)
    np.testing.assert_allclose(scores[table["movieId"]], table["score"])
    assert np.isfinite(person.predict([5, 33, -4])).all()
    frame = pd.DataFrame({"movieId": [9, 5, 21], "rating": [5.0, 1.0, 4.0]})
    other = fitted.fold_in(frame)
    np.testing.assert_allclose(other.score_items(), person.score_items(), rtol=1e-5, atol=1e-6)
    some = fitted.train_.item_ids[[10, 11, 12]]
    assert set(person.recommend(5, among=some, exclude=some[:1])["movieId"]) == set(some[1:])
    with pytest.raises(ValueError, match="no item that was in training"):
        fitted.fold_in({-4: 3.0})


def test_reasons_sum_to_the_prediction(fitted):
    train = fitted.train_
    user, item = train.user_ids[7], train.item_ids[30]
    if not has(fitted, "explain"):
        with pytest.raises(NotImplementedError, match="has no explain: "):
            fitted.explain(user, item)
        return
    table = fitted.explain(user, item)
    assert table.columns[0] in ("movieId", "userId") and table.columns[-1] == "contribution"
    assert {"rating", "contribution"} <= set(table.columns)
    predicted = fitted.predict(pd.DataFrame({"userId": [user], "movieId": [item]}))[0]
    total = table.attrs["baseline"] + table["contribution"].sum()
    assert total == pytest.approx(predicted, abs=1e-5)
    if has(fitted, "fold_in"):
        person = fitted.fold_in({9: 5.0, 5: 1.0, 21: 4.0})
        why = person.explain(item)
        total = why.attrs["baseline"] + why["contribution"].sum()
        assert total == pytest.approx(person.predict(item)[0], abs=1e-5)


def test_likeness(fitted):
    item = fitted.train_.item_ids[12]
    if not has(fitted, "similar_items"):
        with pytest.raises(NotImplementedError, match="has no similar_items: "):
            fitted.similar_items(item)
        return
    table = fitted.similar_items(item, 5, min_ratings=3)
    assert table.columns[0] == "movieId" and "score" in table.columns
    assert item not in set(table["movieId"]) and (np.diff(table["score"]) <= 0).all()
    counts = fitted.train_.item_counts[fitted.train_.encode_items(table["movieId"])]
    assert (counts >= 3).all()


# ---- seeds, copies, files ----------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits(name, fitted, parts):
    again = clone(MODELS[name]).fit(parts[0])
    assert again.predict(parts[1]).tobytes() == fitted.predict(parts[1]).tobytes()


def test_threads_change_no_bit_and_may_predict_side_by_side(name, fitted, parts):
    if "n_threads" in fitted.get_params():
        for threads in (1, 3):
            other = clone(MODELS[name]).set_params(n_threads=threads).fit(parts[0])
            assert other.predict(parts[1]).tobytes() == fitted.predict(parts[1]).tobytes()
    expected, found = fitted.predict(parts[1]).tobytes(), []
    threads = [
        threading.Thread(target=lambda: found.append(fitted.predict(parts[1]).tobytes())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_pickling_and_files_keep_every_verb(name, fitted, parts, tmp_path):
    fitted.save(tmp_path / "model.npz")
    copies = [
        pickle.loads(pickle.dumps(fitted)),
        type(fitted).load(tmp_path / "model.npz"),
        load_model(tmp_path / "model.npz"),
    ]
    user, item = fitted.train_.user_ids[7], fitted.train_.item_ids[30]
    for copy in copies:
        assert type(copy) is type(fitted) and repr(copy) == repr(fitted)
        np.testing.assert_array_equal(copy.predict(parts[1]), fitted.predict(parts[1]))
        pd.testing.assert_frame_equal(copy.recommend(user, 5), fitted.recommend(user, 5))
        if has(fitted, "fold_in"):
            told = {9: 5.0, 5: 1.0}
            theirs, own = copy.fold_in(told), fitted.fold_in(told)
            np.testing.assert_array_equal(theirs.score_items(), own.score_items())
        if has(fitted, "explain"):
            pd.testing.assert_frame_equal(copy.explain(user, item), fitted.explain(user, item))
        if has(fitted, "similar_items"):
            pd.testing.assert_frame_equal(copy.similar_items(item), fitted.similar_items(item))
        if isinstance(getattr(fitted, "history_", None), pd.DataFrame):
            pd.testing.assert_frame_equal(copy.history_, fitted.history_)
    with pytest.raises(ValueError, match="ends in .npz"):
        fitted.save(tmp_path / "model.pkl")


def test_files_of_another_class_are_refused(tmp_path, toy):
    GlobalMean().fit(toy).save(tmp_path / "model.npz")
    with pytest.raises(ValueError, match="holds a GlobalMean; expected a BiasModel; use load_model"):
        BiasModel.load(tmp_path / "model.npz")


@pytest.mark.parametrize("state", [None, 3, np.int64(3), np.random.default_rng(5)])
def test_seeds_of_every_kind_are_kept_in_files(state, toy, tmp_path):
    model = BiasedALS(2, random_state=state, **QUIET).fit(toy)
    model.save(tmp_path / "model.npz")
    loaded = BiasedALS.load(tmp_path / "model.npz").random_state
    if isinstance(state, np.random.Generator):
        assert loaded.bit_generator.state == model.random_state.bit_generator.state
    else:
        assert loaded == state


def test_ids_and_titles_of_every_kind_are_kept_in_files(tmp_path):
    import uuid

    marks = [uuid.UUID(int=n) for n in (4, 2, 9)]
    table = pd.DataFrame({"user": ["b", "a", "b", "c"], "ISBN": [*marks, marks[0]], "stars": [1, 8, 10, 3]})
    movies = pd.DataFrame({"ISBN": marks, "title": ["x", None, "z\0"], "year": [1999, 2000, 2001]})
    model = BiasModel().fit(Ratings.from_frame(table, movies=movies))
    model.save(tmp_path / "model.npz")
    loaded = load_model(tmp_path / "model.npz")
    pd.testing.assert_frame_equal(loaded.recommend(["a", "b"], 2), model.recommend(["a", "b"], 2))
    assert loaded.train_.scale == (1, 10) and loaded.train_.movies["year"].tolist() == [1999, 2000, 2001]


# ---- what does not go well ---------------------------------------------------------------


def test_before_fitting_every_verb_says_so(name, toy):
    model = clone(MODELS[name])
    calls = [
        lambda: model.predict(toy), lambda: model.score_items(), lambda: model.recommend(10),
        lambda: model.save("model.npz"),
    ]  # fmt: skip
    for verb in ("fold_in", "explain", "similar_items"):
        if has(model, verb):
            arguments = {"fold_in": ({1: 3.0},), "explain": (10, 1), "similar_items": (1,)}[verb]
            calls.append(lambda verb=verb, arguments=arguments: getattr(model, verb)(*arguments))
    for call in calls:
        with pytest.raises(NotFittedError):
            call()


def test_a_fit_that_fails_leaves_the_model_as_it_was(name, parts, monkeypatch):
    model = clone(MODELS[name]).fit(parts[0])
    before = model.predict(parts[1])

    def interrupted(self, ratings, validation, **options):
        self.mean_ = self.item_bias_ = "half done"
        raise KeyboardInterrupt

    monkeypatch.setattr(type(model), "_fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(parts[1])
    np.testing.assert_array_equal(model.predict(parts[1]), before)
    fresh = clone(MODELS[name])
    with pytest.raises(KeyboardInterrupt):
        fresh.fit(parts[1])
    with pytest.raises(NotFittedError):
        fresh.predict(parts[1])


def test_refitting_forgets_the_old_data(name, parts):
    model = clone(MODELS[name]).fit(parts[1]).fit(parts[0])
    other = clone(MODELS[name]).fit(parts[0])
    np.testing.assert_array_equal(model.predict(parts[1]), other.predict(parts[1]))


def test_bad_arguments(fitted, parts):
    train = fitted.train_
    user, item = train.user_ids[3], train.item_ids[3]
    for call, error, words in (
        (lambda: fitted.recommend(-5), ValueError, "user: got -5, which is not in the training data"),
        (lambda: fitted.recommend([user, -5]), ValueError, "users: got 1 that are not in the training data"),
        (lambda: fitted.recommend("3"), ValueError, "userId: got text ids"),
        (lambda: fitted.recommend(user, 0), ValueError, "n: got 0"),
        (lambda: fitted.recommend(user, among=7), TypeError, "among: got 7; expected a list of item ids"),
        (lambda: fitted.score_items(-5), ValueError, "user: got -5"),
        (lambda: fitted.predict([1, 2]), TypeError, "got list; expected a Ratings or a table"),
        (lambda: clone(fitted).fit(parts[0][:0]), ValueError, "got no ratings"),
        (lambda: clone(fitted).fit([1]), TypeError, "got list"),
    ):
        with pytest.raises(error, match=words):
            call()
    if has(fitted, "similar_items"):
        with pytest.raises(ValueError, match="item: got -5"):
            fitted.similar_items(-5)
    if has(fitted, "explain"):
        with pytest.raises(ValueError, match="item: got -5"):
            fitted.explain(user, -5)
        with pytest.raises(ValueError, match="user: got -5"):
            fitted.explain(-5, item)


def test_bad_parameters_are_refused_before_any_work(name, toy):
    """Every declared parameter refuses nonsense by its name, and no parameter lacks a declaration."""
    model = clone(MODELS[name])
    assert set(model._parameters) == set(model.get_params(deep=False))
    for parameter in model._parameters:
        broken = clone(model).set_params(**{parameter: object()})
        with pytest.raises((ValueError, TypeError), match=f"^{parameter}: got <object"):
            broken.fit(toy)


def test_a_table_is_fitted_as_ratings_are(name, parts):
    train, test = parts
    frame = train.to_frame()
    model = clone(MODELS[name]).fit(Ratings.from_frame(frame))
    table = clone(MODELS[name]).fit(frame)
    np.testing.assert_array_equal(table.predict(test), model.predict(test))


# ---- the table in the book ---------------------------------------------------------------


def test_the_table_of_verbs_in_the_book_is_true():
    text = (Path(__file__).parents[1] / "book" / "api.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines() if line.startswith("|")
    ]  # fmt: skip
    head = next(row for row in rows if row[0] == "model")
    told = {re.sub(r"\W", "", row[0]): row[1:] for row in rows if re.sub(r"\W", "", row[0]) in MODELS}
    assert set(told) == set(MODELS)
    verbs = [re.sub(r"\W", "", cell) for cell in head[1:]]
    assert set(verbs) == set(VERBS) - {"fit", "load"}
    for name, cells in told.items():
        for verb, cell in zip(verbs, cells, strict=True):
            assert (cell == "yes") == has(MODELS[name], verb), (name, verb)
