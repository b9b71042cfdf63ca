import builtins
import contextlib
import itertools
import json
import re
import subprocess
import sys
import threading
import uuid
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from starlette.testclient import TestClient

from recsys_helpers import (
    NMF,
    BiasedALS,
    BiasModel,
    FeedbackStore,
    ItemKNN,
    Popularity,
    PureSVD,
    Ratings,
    create_app,
)
from recsys_helpers.serving.feedback import FeedbackFileError
from recsys_helpers.serving.ids import UserId
from recsys_helpers.serving.scale import LIKE
from recsys_helpers.serving.service import MAX_BODY, MAX_RATINGS

ADA, BEN = "session-ada", "session-ben"


@pytest.fixture(scope="module")
def model(medium):
    return BiasedALS(4, reg=2.0, n_sweeps=6, verbose=False).fit(medium)


@pytest.fixture
def store():
    with FeedbackStore(":memory:") as store:
        yield store


@pytest.fixture
def client(model, medium, store):
    return TestClient(create_app(model, medium, store), raise_server_exceptions=False)


def films(answer):
    assert answer.status_code == 200, answer.text
    return [film["movieId"] for film in answer.json()["films"]]


# ---- the answers are the model's ------------------------------------------------------


def test_health(client, medium, store):
    store.add(ADA, 5, "like")
    about = client.get("/health").json()
    assert about["status"] == "ok" and "BiasedALS" in about["model"]
    assert (about["users"], about["films"], about["ratings"]) == (60, 80, len(medium))
    assert about["feedback"] == 1


def test_recommendations_for_a_known_user_are_the_models(client, model):
    for user in (1, 88, 178):
        told = client.get("/recommend", params={"user": user, "n": 7}).json()
        table = model.recommend(user, n=7)
        assert told["personal"] and told["ignored"] == []
        assert [film["movieId"] for film in told["films"]] == table["movieId"].tolist()
        np.testing.assert_allclose([film["score"] for film in told["films"]], table["score"], rtol=1e-6)


def test_recommendations_for_ratings_are_those_of_the_fold_in(client, model):
    mine = {5: 5.0, 9: 1.0, 21: 3.5, 777_777: 2.0}
    told = client.post("/recommend", json={"ratings": mine, "n": 6, "n_reasons": 2}).json()
    person = model.fold_in(mine)
    table = person.recommend(6)
    assert [film["movieId"] for film in told["films"]] == table["movieId"].tolist()
    np.testing.assert_allclose([film["score"] for film in told["films"]], table["score"], rtol=1e-12)
    assert told["ignored"] == [777_777]
    for film in told["films"]:
        why = person.explain(film["movieId"]).head(2)
        assert [r["movieId"] for r in film["because"]] == why["movieId"].tolist()
        assert [r["rating"] for r in film["because"]] == why["rating"].tolist()
        np.testing.assert_allclose(
            [r["contribution"] for r in film["because"]], why["contribution"], rtol=1e-6
        )


@pytest.mark.parametrize("weighted", [False, True])
def test_contributions_add_up(medium, weighted):
    reg = 0.05 if weighted else 2.0
    model = BiasedALS(4, reg, bias_reg=reg, weighted=weighted, n_sweeps=4, verbose=False).fit(medium)
    client = TestClient(create_app(model, medium))
    mine = {5: 5.0, 9: 1.0, 21: 3.5}
    for film in client.post("/recommend", json={"ratings": mine, "n_reasons": 10}).json()["films"]:
        level = model.mean_ + model.item_bias_[medium.encode_items(film["movieId"])[0]]
        total = level + sum(reason["contribution"] for reason in film["because"])
        assert film["score"] == pytest.approx(total, abs=1e-4)


def test_fold_in(client, model):
    told = client.post("/fold-in", json={"ratings": {"5": 5, "9": 1, "999999": 2}}).json()
    person = model.fold_in({5: 5.0, 9: 1.0})
    assert told == {"bias": person.bias, "factors": person.factors.tolist(), "ignored": [999999]}


def test_similar(client, model):
    told = client.get("/similar/21", params={"n": 4, "min_ratings": 3}).json()
    table = model.similar_items(21, 4, min_ratings=3)
    assert told["movieId"] == 21 and told["title"] == "movie 21"
    assert [film["movieId"] for film in told["films"]] == table["movieId"].tolist()
    np.testing.assert_allclose([film["score"] for film in told["films"]], table["score"], rtol=1e-6)
    assert 21 not in {film["movieId"] for film in client.get("/similar/21?n=100").json()["films"]}


def test_films_with_few_ratings_are_left_out_on_request(client, medium):
    few = set(medium.item_ids[medium.item_counts < 12].tolist())
    assert few & set(films(client.get("/recommend", params={"user": 1, "n": 80})))
    assert not few & set(films(client.get("/recommend", params={"user": 1, "n": 80, "min_ratings": 12})))
    body = {"ratings": {"5": 4}, "n": 80, "min_ratings": 12}
    assert not few & set(films(client.post("/recommend", json=body)))


# ---- other models, other ids, other scales ----------------------------------------------


@pytest.mark.parametrize(
    "made",
    [BiasModel(), Popularity(), PureSVD(3), ItemKNN(8, verbose=False), NMF(3, n_sweeps=3, verbose=False)],
    ids=lambda model: type(model).__name__,
)
def test_any_model_that_folds_in_is_served(medium, made):
    model = made.fit(medium)
    client = TestClient(create_app(model, medium), raise_server_exceptions=False)
    mine = {5: 5.0, 9: 1.0, 21: 3.5}
    told = client.post("/recommend", json={"ratings": mine, "n": 5, "n_reasons": 1})
    table = model.fold_in(mine).recommend(5)
    assert films(told) == table["movieId"].tolist()
    np.testing.assert_allclose([film["score"] for film in told.json()["films"]], table["score"])
    everybody = model.recommend(n=5)["movieId"].tolist()
    assert films(client.post("/recommend", json={"ratings": {}, "n": 5})) == everybody
    assert client.post("/fold-in", json={"ratings": mine}).status_code == 200
    near = client.get("/similar/21?n=3")
    if isinstance(made, PureSVD | NMF | ItemKNN):
        assert films(near) == model.similar_items(21, 3, min_ratings=0)["movieId"].tolist()
    else:
        assert near.status_code == 404 and "has no similar_items" in near.json()["error"]


BOOKS = ["0123", "123", "12", "a/b c?", "\u00fc&", "x" * 60, "7.0", "1e2", "100", "B00X", "B00Y", "../z"]
READERS = ["session-ada", "session:odd", "user:x", "12", "0012", *(f"reader {n}" for n in range(9))]


def table_of(users, items, seed=0):
    """Nearly every user rates every item, from 1 to 10."""
    rng = np.random.default_rng(seed)
    rows = [(u, i, float(rng.integers(1, 11))) for u in users for i in items if rng.random() < 0.8]
    return pd.DataFrame(rows, columns=["reader", "isbn", "rating"])


@pytest.fixture(scope="module")
def books():
    """Ids of text that look like numbers, paths and sessions, on a scale from 1 to 10."""
    frame = table_of(READERS, BOOKS)
    ratings = Ratings.from_frame(frame, user="reader", item="isbn", scale=(1, 10))
    return BiasedALS(2, reg=2.0, n_sweeps=4, verbose=False).fit(ratings), ratings


def test_ids_of_text_come_back_as_they_went_in(books):
    model, ratings = books
    client = TestClient(create_app(model, ratings), raise_server_exceptions=False)
    mine = {"0123": 9, "123": 2, "unknown": 5}
    told = client.post("/recommend", json={"ratings": mine, "n": 50, "n_reasons": 1, "hidden": ["12"]})
    table = model.fold_in(mine).recommend(50, exclude=["12"])
    assert films(told) == table["isbn"].tolist() and told.json()["ignored"] == ["unknown"]
    assert set(films(told)) == set(BOOKS) - {"0123", "123", "12"}
    because = {reason["movieId"] for film in told.json()["films"] for reason in film["because"]}
    assert because <= {"0123", "123"}
    assert told.json()["films"][0]["title"] == f"item {films(told)[0]}"
    for film in BOOKS:
        near = client.get(f"/similar/{quote(film, safe='')}", params={"n": 3})
        assert near.json()["movieId"] == film
        assert films(near) == model.similar_items(film, 3, min_ratings=0)["isbn"].tolist()
    assert client.get("/similar/0012").status_code == 404


def test_users_of_text_and_sessions_never_meet(books):
    model, ratings = books
    with FeedbackStore(":memory:", scale=(1, 10)) as store:
        client = TestClient(create_app(model, ratings, store), raise_server_exceptions=False)
        named = {reader: reader for reader in READERS}
        named |= {"session:odd": "user:session:odd", "user:x": "user:user:x", "session-ada": "session-ada"}
        for reader, said in named.items():
            own = ratings[ratings.user_codes == ratings.encode_users(reader)[0]].to_frame()
            expected = model.fold_in(own).recommend(20)["isbn"].tolist()
            assert films(client.get("/recommend", params={"user": said, "n": 20})) == expected
        for who, book, stars in (("session-ada", "0123", 2), ("session:session-ada", "0123", 9)):
            body = {"user": who, "movieId": book, "event": "rating", "rating": stars}
            answer = client.post("/feedback", json=body)
            assert answer.status_code == 201 and answer.json()["user"] == who
        assert store.ratings(UserId("session-ada")) == {"0123": 2.0}
        assert store.ratings("session-ada") == {"0123": 9.0}
        assert client.get("/feedback?user=session:session-ada").json()["ratings"] == {"0123": 9.0}
        assert client.get("/feedback?user=session-ada").json()["ratings"] == {"0123": 2.0}
        for user in ("session-eve", "session:no", "session:odd", "1"):
            assert client.get("/feedback", params={"user": user}).status_code == 404, user
        sessions = store.export(ratings=ratings)
        assert sessions.attrs["sessions"] == {"session:session:session-ada": "session-ada"}
        both = pd.concat([ratings.to_frame(), sessions.drop(columns="timestamp")])
        joined = Ratings.from_frame(both, user="reader", item="isbn", scale=(1, 10), duplicates="last")
        assert joined.n_users == len(READERS) + 1


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/recommend", {"ratings": {"123": 11}}, "body.ratings.123: got 11"),
        ("/recommend", {"ratings": {"123": 7.5}}, "body.ratings.123: got 7.5"),
        ("/recommend", {"ratings": {"": 7}}, "body.ratings"),
        ("/recommend", {"ratings": {"123": 7}, "hidden": [123]}, "body.hidden.0: got 123"),
        ("/feedback", {"user": "12", "movieId": 123, "event": "like"}, "body.like.movieId: got 123"),
        ("/feedback", {"user": 12, "movieId": "123", "event": "like"}, "body.like.user: got 12"),
    ],
)
def test_a_number_is_not_taken_for_text(books, path, body, words):
    client = TestClient(create_app(*books), raise_server_exceptions=False)
    answer = client.post(path, json=body)
    assert answer.status_code == 422 and words in answer.json()["error"]


def test_uuids_are_the_text_they_are_written_as():
    keys = [uuid.UUID(int=7 * n) for n in range(1, 9)]
    frame = table_of(keys[:6], keys)
    ratings = Ratings.from_frame(frame, user="reader", item="isbn", scale=(1, 10))
    model = BiasedALS(2, reg=2.0, n_sweeps=4, verbose=False).fit(ratings)
    client = TestClient(create_app(model, ratings), raise_server_exceptions=False)
    mine = {str(keys[0]): 9, str(keys[1]): 2}
    told = client.post("/recommend", json={"ratings": mine, "n": 20, "n_reasons": 1})
    table = model.fold_in({keys[0]: 9, keys[1]: 2}).recommend(20)
    assert films(told) == [str(key) for key in table["isbn"]] and len(films(told)) == 6
    assert films(client.get(f"/similar/{keys[2]}?n=2")) == [
        str(key) for key in model.similar_items(keys[2], 2, min_ratings=0)["isbn"]
    ]
    body = {"user": str(keys[1]), "movieId": str(keys[3]), "event": "rating", "rating": 10}
    assert client.post("/feedback", json=body).status_code == 201
    assert client.get("/feedback", params={"user": keys[1]}).json()["ratings"] == {str(keys[3]): 10.0}
    assert str(keys[3]) not in films(client.get("/recommend", params={"user": keys[1], "n": 20}))


def test_numbers_of_64_bits_are_exact():
    items = [-5, 0, 2**53, 2**53 + 1, 2**62 + 1, 2**62 + 2]
    ratings = Ratings.from_frame(table_of(range(6), items), user="reader", item="isbn", scale=(1, 10))
    model = BiasedALS(2, reg=2.0, n_sweeps=4, verbose=False).fit(ratings)
    client = TestClient(create_app(model, ratings), raise_server_exceptions=False)
    body = {"ratings": {str(2**53): 9, "-5": 2}, "hidden": [2**62 + 1], "n": 9}
    told = client.post("/recommend", json=body)
    assert sorted(films(told)) == [0, 2**53 + 1, 2**62 + 2]
    for film in items:
        assert client.get(f"/similar/{film}").json()["movieId"] == film
        body = {"user": 3, "movieId": film, "event": "rating", "rating": 7}
        assert client.post("/feedback", json=body).status_code == 201
    assert client.get("/feedback?user=3").json()["ratings"] == dict.fromkeys(map(str, items), 7.0)
    assert client.get(f"/similar/{2**62}").status_code == 404
    assert client.get(f"/similar/{2**80}").status_code == 422


@pytest.mark.parametrize(
    ("scale", "good", "wrong"),
    [((1, 10), 7, 7.5), ((0, 100), 41, 101), ((-10, 10), -3.31, -10.01), ((0, 1), 1, 0.5), ((1, 5), 1, 0.5)],
)
def test_scales_of_any_kind(scale, good, wrong):
    rng = np.random.default_rng(1)
    low, high = scale
    step = 0.01 if low < 0 else 1
    values = low + step * rng.integers(0, round((high - low) / step) + 1, 300)
    rows = sorted({(n % 20, n * 7 % 31) for n in range(300)})
    frame = pd.DataFrame(rows, columns=["userId", "movieId"]).assign(rating=values[: len(rows)])
    ratings = Ratings.from_frame(frame, scale=scale)
    model = BiasedALS(2, reg=2.0, n_sweeps=4, verbose=False).fit(ratings)
    with FeedbackStore(":memory:", scale=scale) as store:
        client = TestClient(create_app(model, ratings, store), raise_server_exceptions=False)
        told = client.post("/recommend", json={"ratings": {"7": good}, "n": 3})
        assert films(told) == model.fold_in({7: good}).recommend(3)["movieId"].tolist()
        for path in ("/recommend", "/fold-in"):
            assert client.post(path, json={"ratings": {"7": wrong}}).status_code == 422
        for event in ("like", "dislike"):
            client.post("/feedback", json={"user": ADA, "movieId": 7, "event": event})
            told = client.get("/feedback", params={"user": ADA}).json()["ratings"]["7"]
            assert told == getattr(store, event) and low <= told <= high
        assert client.get("/recommend", params={"user": ADA}).status_code == 200


def test_ids_and_scales_of_model_and_data_must_be_of_one_kind(books, model, medium):
    with pytest.raises(ValueError, match="ratings: got ids of users of type int64.*expected numbers in both"):
        create_app(books[0], medium)
    with pytest.raises(ValueError, match="ratings: got ids of users of type object"):
        create_app(model, books[1])


@pytest.mark.parametrize("mine", [{"5": 4.0}, {"5": 4.0, "9": 2.0}])
def test_too_few_ratings_for_a_model_without_penalties(medium, mine):
    model = BiasedALS(4, reg=2.0, n_sweeps=3, verbose=False).fit(medium)
    model.reg_ = model.bias_reg_ = 0.0
    client = TestClient(create_app(model, medium), raise_server_exceptions=False)
    for path in ("/recommend", "/fold-in"):
        answer = client.post(path, json={"ratings": mine})
        assert answer.status_code == 422
        words = f"ratings: got {len(mine)}, too few for this model; expected more"
        assert answer.json()["error"].startswith(words)
    client.post("/feedback", json={"user": ADA, "movieId": 5, "event": "like"})
    assert client.get("/recommend", params={"user": ADA, "n_reasons": 1}).status_code == 422
    many = dict.fromkeys(map(str, medium.item_ids[:30].tolist()), 3.0) | {"5": 5.0}
    assert client.post("/recommend", json={"ratings": many, "n_reasons": 1}).status_code == 200


# ---- newcomers and news -----------------------------------------------------------------


def test_without_ratings_everybody_gets_the_same_films(client, model, medium):
    new = client.get("/recommend", params={"user": ADA, "n": 5}).json()
    assert not new["personal"]
    best = np.argsort(-model.item_bias_, kind="stable")[:5]
    assert [film["movieId"] for film in new["films"]] == medium.item_ids[best].tolist()
    for ratings in ({}, {"999999": 4.0}):
        answer = client.post("/recommend", json={"ratings": ratings, "n": 5}).json()
        assert answer["films"] == new["films"] and not answer["personal"]


def test_feedback_counts_from_the_next_request_on(client, model):
    before = films(client.get("/recommend", params={"user": ADA}))
    hidden, liked = before[:2]
    for body in ({"event": "hide", "movieId": hidden}, {"event": "like", "movieId": liked}):
        assert client.post("/feedback", json={"user": ADA, **body}).status_code == 201
    answer = client.get("/recommend", params={"user": ADA, "n": 78}).json()
    after = [film["movieId"] for film in answer["films"]]
    assert answer["personal"] and not {hidden, liked} & set(after)
    expected = model.fold_in({liked: LIKE}).recommend(79)["movieId"].tolist()
    expected.remove(hidden)
    assert after == expected
    assert client.get("/feedback", params={"user": ADA}).json() == {
        "ratings": {str(liked): LIKE},
        "hidden": [hidden],
    }
    assert films(client.get("/recommend", params={"user": BEN})) == before, "another session saw it"
    for movie in (hidden, liked):
        client.post("/feedback", json={"user": ADA, "movieId": movie, "event": "clear"})
    assert films(client.get("/recommend", params={"user": ADA})) == before


def test_a_known_user_keeps_the_ratings_of_the_data(client, model, medium):
    code = medium.encode_users(88)[0]
    own = medium[medium.user_codes == code].to_frame().set_index("movieId")["rating"].to_dict()
    first = next(iter(own))
    movie = films(client.get("/recommend", params={"user": 88}))[0]
    for target in (movie, first):
        body = {"user": 88, "movieId": target, "event": "rating", "rating": 0.5}
        assert client.post("/feedback", json=body).status_code == 201
    expected = model.fold_in({**own, first: 0.5, movie: 0.5}).recommend(10)["movieId"].tolist()
    assert films(client.get("/recommend", params={"user": 88})) == expected


def test_ratings_that_came_after_the_training_count(medium, model):
    early = medium[medium.timestamps < np.median(medium.timestamps)]
    model = BiasedALS(4, reg=2.0, n_sweeps=4, verbose=False).fit(early)
    client = TestClient(create_app(model, medium))
    user = int(medium.user_ids[9])
    own = medium[medium.user_codes == 9].to_frame().set_index("movieId")["rating"].to_dict()
    expected = model.fold_in(own).recommend(10)["movieId"].tolist()
    assert films(client.get("/recommend", params={"user": user})) == expected
    assert expected != model.recommend(user)["movieId"].tolist()


def test_feedback_survives_a_restart(model, medium, tmp_path):
    with FeedbackStore(tmp_path / "f.sqlite") as store:
        client = TestClient(create_app(model, medium, store))
        client.post("/feedback", json={"user": ADA, "movieId": 5, "event": "rating", "rating": 4.5})
    with FeedbackStore(tmp_path / "f.sqlite") as store:
        client = TestClient(create_app(model, medium, store))
        assert client.get("/feedback", params={"user": ADA}).json()["ratings"] == {"5": 4.5}


def test_many_at_once(model, medium, tmp_path):
    """Sessions that talk at the same time get what they would get alone."""
    with FeedbackStore(tmp_path / "f.sqlite") as store:
        app = create_app(model, medium, store)
        answers = {}

        def talk(number):
            client, user = TestClient(app), f"session-{number}"
            for movie in range(5, 5 + 2 * 6, 2):
                stars = 0.5 + (number + movie) % 10 / 2
                body = {"user": user, "movieId": movie, "event": "rating", "rating": stars}
                assert client.post("/feedback", json=body).status_code == 201
            answers[user] = films(client.get("/recommend", params={"user": user}))

        threads = [threading.Thread(target=talk, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for user, answer in answers.items():
            assert answer == model.fold_in(store.ratings(user)).recommend(10)["movieId"].tolist()


# ---- errors -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "words"),
    [
        ("GET", "/recommend?user=999", None, 404, "user: got 999; expected a user of the data"),
        ("GET", "/recommend?user=01", None, 422, "query.user: got '01'"),
        ("GET", "/recommend?user=short", None, 422, "query.user: got 'short'"),
        ("GET", "/recommend", None, 422, "query.user"),
        ("GET", "/recommend?user=1&n=0", None, 422, "query.n: got '0'"),
        ("GET", "/recommend?user=1&n=101", None, 422, "query.n: got '101'"),
        ("GET", "/recommend?user=1&min_ratings=-1", None, 422, "query.min_ratings"),
        ("GET", "/similar/4", None, 404, "movieId: got 4; expected a film of the data"),
        ("GET", "/similar/x", None, 422, "path.movieId: got 'x'"),
        ("GET", "/similar/021", None, 422, "path.movieId: got '021'"),
        ("GET", "/feedback?user=999", None, 404, "user: got 999"),
        ("GET", "/nowhere", None, 404, "Not Found"),
        ("DELETE", "/health", None, 405, "Method Not Allowed"),
        ("POST", "/recommend", b'{"ratings": {"5": 4.3}}', 422, "body.ratings.5: got 4.3"),
        ("POST", "/recommend", b'{"ratings": {"5": 5.5}}', 422, "body.ratings.5: got 5.5"),
        ("POST", "/recommend", b'{"ratings": {"5": 0}}', 422, "body.ratings.5: got 0"),
        ("POST", "/recommend", b'{"ratings": {"5": NaN}}', 422, "body.ratings.5: got nan"),
        ("POST", "/recommend", b'{"ratings": {"5": 1e999}}', 422, "body.ratings.5: got inf"),
        ("POST", "/recommend", b'{"ratings": {"05": 4}}', 422, "body.ratings.05"),
        ("POST", "/recommend", b'{"ratings": {"five": 4}}', 422, "body.ratings.five"),
        ("POST", "/recommend", b'{"ratings": [5]}', 422, "body.ratings: got [5]"),
        ("POST", "/recommend", b'{"rating": {"5": 4}}', 422, "body.ratings: got"),
        ("POST", "/recommend", b'{"ratings": {"5": 4}, "k": 1}', 422, "body.k: got 1"),
        ("POST", "/recommend", b'{"ratings": {}, "x\\ud800": "\\udfff"}', 422, "body: got"),
        ("POST", "/recommend", b"[" * 60_000, 400, "no valid JSON"),
        ("POST", "/recommend", b"7" * 60_000, 400, "no valid JSON"),
        ("POST", "/recommend", b'{"ratings": ', 400, "no valid JSON"),
        ("POST", "/recommend", b"\xff\xfe", 400, "no valid JSON"),
        ("POST", "/recommend", b"", 422, "body"),
        ("POST", "/fold-in", b'{"ratings": {}}', 422, "body.ratings"),
        ("POST", "/fold-in", b'{"ratings": {"4": 3}}', 404, "ratings: got no film of the data"),
        ("POST", "/feedback", b'{"user": 1, "movieId": 4, "event": "like"}', 404, "movieId: got 4"),
        ("POST", "/feedback", b'{"user": 2, "movieId": 5, "event": "like"}', 404, "user: got 2"),
        ("POST", "/feedback", b'{"user": "1", "movieId": 5, "event": "like"}', 422, "body.like.user"),
        ("POST", "/feedback", b'{"user": 1, "movieId": "5", "event": "like"}', 422, "body.like.movieId"),
        ("POST", "/recommend", b'{"ratings": {"5": 4}, "hidden": ["5"]}', 422, "body.hidden.0: got '5'"),
        ("POST", "/feedback", b'{"user": 1, "movieId": 5, "event": "love"}', 422, "'love'"),
        ("POST", "/feedback", b'{"user": 1, "movieId": 5, "event": "rating"}', 422, "body.rating.rating"),
        ("POST", "/feedback", b'{"user": 1, "movieId": 5, "event": "hide", "rating": 3}', 422, "rating"),
    ],
)  # fmt: skip
def test_bad_requests_are_told_what_is_wrong(client, store, method, path, content, status, words):
    headers = {"content-type": "application/json"}
    answer = client.request(method, path, content=content, headers=headers)
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert set(problem) == {"error", "details"}
    assert words in problem["error"]
    assert len(problem["error"]) < 600
    assert len(store) == 0


def test_another_content_type(client):
    answer = client.post("/recommend", content=b"ratings=5", headers={"content-type": "text/plain"})
    assert answer.status_code == 422 and "expected application/json" in answer.json()["error"]


def test_limits(client):
    most = {str(movie): 3.0 for movie in range(100_000, 100_000 + MAX_RATINGS)}
    assert client.post("/recommend", json={"ratings": most | {"5": 4.0}}).status_code == 422
    most.popitem()
    answer = client.post("/recommend", json={"ratings": most | {"5": 4.0}})
    assert answer.status_code == 200 and len(answer.json()["ignored"]) == MAX_RATINGS - 1


def test_large_bodies_are_refused_announced_or_not(client):
    small, large = b" " * (MAX_BODY - 20) + b'{"ratings": {}}', b" " * (MAX_BODY + 1)
    headers = {"content-type": "application/json"}
    assert client.post("/recommend", content=small, headers=headers).status_code == 200
    announced = client.post("/recommend", content=large, headers=headers)
    pieces = client.post(
        "/recommend", content=(large[at : at + 999] for at in range(0, len(large), 999)), headers=headers
    )
    for answer in (announced, pieces):
        assert answer.status_code == 413
        assert "more than 65,536 bytes" in answer.json()["error"]


def test_a_large_body_is_refused_before_it_is_read(model, medium):
    """The announcement is enough, and so is the limit: an endless body is not waited for."""
    import anyio

    async def request(headers, messages):
        sent, source = [], iter(messages)

        async def receive():
            return next(source)

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/recommend", "raw_path": b"/recommend",
                 "query_string": b"", "headers": headers, "http_version": "1.1", "scheme": "http",
                 "server": ("test", 80), "client": ("test", 1), "root_path": "",
                 "asgi": {"version": "3.0"}}  # fmt: skip
        await create_app(model, medium)(scope, receive, send)
        return sent

    piece = {"type": "http.request", "body": b" " * 1000, "more_body": True}
    endless = iter(lambda: piece, None)
    for headers, messages in (([(b"content-length", b"9" * 30)], []), ([], endless)):
        assert anyio.run(request, headers, messages)[0]["status"] == 413
    assert anyio.run(request, [], [piece, {"type": "http.disconnect"}]) == []


def test_trouble_with_the_file_is_not_the_clients_fault(model, medium, tmp_path, monkeypatch):
    with FeedbackStore(tmp_path / "f.sqlite") as store:
        client = TestClient(create_app(model, medium, store), raise_server_exceptions=False)
        for error in (OSError("disk full"), FeedbackFileError("damaged")):

            def fail(*_, error=error):
                raise error

            monkeypatch.setattr(FeedbackStore, "add", fail)
            answer = client.post("/feedback", json={"user": ADA, "movieId": 5, "event": "like"})
            assert answer.status_code == 503 and "try again" in answer.json()["error"]
            assert "disk" not in answer.text and "damaged" not in answer.text


def test_a_film_that_nobody_rated_has_no_similar_ones(medium):
    train = medium[medium.item_codes != 3]
    model = BiasedALS(3, n_sweeps=2, verbose=False).fit(train)
    answer = TestClient(create_app(model, train)).get(f"/similar/{medium.item_ids[3]}")
    assert answer.status_code == 404 and "nothing to compare by" in answer.json()["error"]


def test_stars_outside_the_scale_of_the_data(medium):
    frame = medium.to_frame()
    frame["rating"] = frame["rating"].clip(1, 5).round()
    ratings = type(medium).from_frame(frame, scale=(1, 5))
    client = TestClient(create_app(BiasedALS(2, n_sweeps=2, verbose=False).fit(ratings), ratings))
    for path in ("/recommend", "/fold-in"):
        for stars in (0.5, 1.5, 6):
            answer = client.post(path, json={"ratings": {"5": stars}})
            assert answer.status_code == 422
            assert f"body.ratings.5: got {stars}; expected: " in answer.json()["error"]
        assert client.post(path, json={"ratings": {"5": 5}}).status_code == 200
    body = {"user": ADA, "movieId": 5, "event": "rating", "rating": 0.5}
    assert client.post("/feedback", json=body).status_code == 422


# ---- the description -------------------------------------------------------------------


def test_the_page_of_the_interface_needs_nothing_from_elsewhere(client):
    answer = client.get("/docs")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    assert not re.search(r"<script|<link|<img|https?://", answer.text)
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method in methods:
            assert f"{method.upper()} {path}" in answer.text
    assert "Body (Rated)" in answer.text and "Body (Reacted)" in answer.text
    assert "each number, from 0.5 to 5, in steps of 0.5. Half-star rating. Ratings by movieId." in answer.text


def test_examples_of_the_description_work(client):
    schema = client.get("/openapi.json").json()
    examples = {name: s["example"] for name, s in schema["components"]["schemas"].items() if "example" in s}
    assert set(examples) == {"RecommendBody", "FoldInBody"}
    assert client.post("/recommend", json=examples["RecommendBody"]).status_code == 200
    assert client.post("/fold-in", json=examples["FoldInBody"]).status_code == 200


OPERATIONS = [
    ("GET", "/health"), ("GET", "/recommend"), ("POST", "/recommend"), ("GET", "/similar/{movieId}"),
    ("POST", "/fold-in"), ("POST", "/feedback"), ("GET", "/feedback"),
]  # fmt: skip


@pytest.fixture(scope="module", params=["numbers", "text"])
def described(request, model, medium, books):
    served = (model, medium) if request.param == "numbers" else books
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(*served))
    # A thousand long ids of text are too many bytes before they are too many ids.
    refused = schema.config.checks.negative_data_rejection
    refused.expected_statuses = [*refused.expected_statuses, "413"]
    return schema


def test_every_operation_is_fuzzed(described):
    assert {(o.ok().method.upper(), o.ok().path) for o in described.get_all_operations()} == set(OPERATIONS)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_fuzzed_by_its_own_description(described, method, path, mode):
    """Valid and invalid requests: never a 5xx, and only the answers which the description announces.

    Drawn at random, from a fixed seed, and taken systematically from the edges of what is allowed.
    """
    operation = described[path][method]
    seen = 0

    @settings(max_examples=20, derandomize=True, deadline=None, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(operation.as_strategy(generation_mode=mode))
    def drawn(case):
        nonlocal seen
        seen += 1
        case.call_and_validate()

    with contextlib.suppress(Unsatisfiable):  # /health takes nothing, so nothing of it can be wrong
        drawn()
    edges = described.iter_coverage_cases(
        operation, generation_modes=[mode], generation_config=described.config.generation
    )
    for case in itertools.islice(edges, 60):
        seen += 1
        case.call_and_validate()
    assert seen


# ---- making it -------------------------------------------------------------------------


def test_bad_arguments(model, medium):
    with pytest.raises(TypeError, match="model: got str; expected a fitted model that can fold in"):
        create_app("ALS", medium)
    class Closed(BiasedALS):
        _without = {"fold_in": "it is closed to newcomers"}

    with pytest.raises(TypeError, match="model: got Closed, which cannot fold in .it is closed to newcomers"):
        create_app(Closed(2, n_sweeps=1, verbose=False).fit(medium), medium)
    with pytest.raises(Exception, match="not fitted"):
        create_app(BiasedALS(), medium)
    with pytest.raises(ValueError, match="model: got n_factors=0"):
        create_app(BiasedALS(0, verbose=False).fit(medium), medium)
    with pytest.raises(TypeError, match="ratings: got list"):
        create_app(model, [])
    with pytest.raises(TypeError, match="store: got str"):
        create_app(model, medium, "f.sqlite")
    with FeedbackStore(":memory:", scale=(0, 10)) as store:
        with pytest.raises(ValueError, match="store: got a scale from 0 to 10; expected 0.5 to 5, that of"):
            create_app(model, medium, store)
    wide = type(medium).from_frame(medium.to_frame(), scale=(0, 10))
    with pytest.raises(ValueError, match="ratings: got a scale from 0 to 10; expected 0.5 to 5, that of"):
        create_app(model, wide)


def test_without_fastapi_the_error_says_what_to_install(model, medium, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name.split(".")[0] == "fastapi":
            raise ImportError("No module named 'fastapi'")
        return real(name, *rest, **named)

    monkeypatch.delitem(sys.modules, "recsys_helpers.serving.http", raising=False)
    monkeypatch.delattr("recsys_helpers.serving.http", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'recsys_helpers\[app\]'"):
        create_app(model, medium)


def test_the_package_does_not_load_fastapi():
    code = (
        "import sys, json, recsys_helpers; from recsys_helpers import create_app, FeedbackStore;"
        "heavy = ('fastapi', 'starlette', 'pydantic', 'streamlit');"
        "print(json.dumps([m for m in heavy if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
