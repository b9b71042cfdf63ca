"""The app: what it computes, what it shows, and one visit in a real browser."""

import os
import re
import shlex
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pandas as pd
import pytest
from conftest import make_ratings
from streamlit.testing.v1 import AppTest

from recsys_helpers import BiasedALS, FeedbackStore, ItemKNN, Popularity, load_movielens
from recsys_helpers.serving.ids import SESSION
from recsys_helpers.serving.scale import LIKE

APP = Path(__file__).parents[1] / "app"
sys.path.insert(0, str(APP))
import engine  # noqa: E402

SHAWSHANK, MATRIX = 318, 2571


# ---- what it computes -------------------------------------------------------------


@pytest.fixture(scope="module")
def titled(medium):
    """The medium ratings with titles, one of them hostile, and genres."""
    movies = pd.DataFrame({"movieId": medium.item_ids})
    movies["title"] = [f"Film {i} (1999)" for i in medium.item_ids]
    movies.loc[0, "title"] = "*Bold* <b>x</b> [link](http://x) (2001)"
    movies["genres"] = np.where(movies["movieId"] % 4 == 1, "Comedy|Drama", "Drama")
    movies.loc[1, "genres"] = "(no genres listed)"
    return type(medium)(
        medium.user_codes, medium.item_codes, medium.values, medium.timestamps, medium.user_ids,
        medium.item_ids, movies=movies, name="titled",
    )  # fmt: skip


@pytest.fixture(scope="module")
def models(titled):
    als = BiasedALS(4, reg=2.0, n_sweeps=6, verbose=False)
    return [m.fit(titled) for m in (als, ItemKNN(8, verbose=False), Popularity())]


@pytest.fixture(scope="module")
def catalog(titled):
    return engine.Catalog(titled)


def test_lists_are_those_of_the_models(titled, models, catalog):
    user = int(titled.user_ids[4])
    own = engine.known_ratings(titled, user)
    assert len(own) == (titled.user_codes == 4).sum()
    for model in models:
        personal, films = engine.recommend(model, catalog, own, n=5)
        assert [film["movieId"] for film in films] == model.recommend(user, 5)["movieId"].tolist()
        assert personal == (not isinstance(model, Popularity))


def test_reasons_are_the_largest_contributions(models, catalog):
    mine = {5: 5.0, 9: 1.0, 21: 4.5, 33: 4.0}
    for model in models[:2]:
        _, films = engine.recommend(model, catalog, mine, n=4, n_reasons=2)
        for film in films:
            why = model.fold_in(mine).explain(film["movieId"])
            best = why[why["contribution"] >= 0.005].nlargest(2, "contribution")
            assert [reason["contribution"] for reason in film["because"]] == best["contribution"].tolist()
            assert [reason["rating"] for reason in film["because"]] == best["rating"].tolist()


def test_nothing_known_of_a_person(titled, models, catalog):
    for model in models:
        for stars in ({}, {999_999: 4.0}):
            personal, films = engine.recommend(model, catalog, stars, n=3)
            assert not personal and len(films) == 3 and not films[0]["because"]
    best = titled.item_ids[np.argmax(models[0].item_bias_)]
    assert engine.recommend(models[0], catalog, {}, n=1)[1][0]["movieId"] == best


def test_filters(titled, models, catalog):
    assert catalog.all_genres == ["Comedy", "Drama"]
    allowed = catalog.allowed(min_ratings=10, genres=["Comedy"])
    _, films = engine.recommend(models[0], catalog, {5: 4.0}, hidden=[13], n=100, allowed=allowed)
    ids = np.array([film["movieId"] for film in films])
    assert (ids % 4 == 1).all() and (titled.item_counts[titled.encode_items(ids)] >= 10).all()
    assert not {5, 13} & set(ids.tolist())
    assert catalog.genres_of(9) == "Comedy, Drama" and catalog.genres_of(7) == ""


def test_neighbors(models, titled, catalog):
    als, knn, popular = models
    assert engine.similar_films(als, 21, 3)["similarity"].is_monotonic_decreasing
    assert {"title", "similarity", "support"} <= set(engine.similar_films(knn, 21, 3))
    assert engine.similar_films(popular, 21) is None
    user = int(titled.user_ids[4])
    people = engine.nearest_people(als, engine.known_ratings(titled, user), 3)
    assert people["userId"].iloc[0] == user and people["similarity"].iloc[0] == pytest.approx(1, abs=1e-5)
    assert people["common films"].iloc[0] == (titled.user_codes == 4).sum()


def test_map(models, catalog):
    mine = {5: 5.0, 9: 1.0, 21: 4.5}
    frame = engine.factor_map(models[0], catalog, mine, n=30)
    assert frame["kind"].value_counts().loc[["rated high", "rated low", "you"]].tolist() == [2, 1, 1]
    assert 31 <= len(frame) <= 34 and np.isfinite(frame[["x", "y"]]).all(axis=None)
    # The person's place is their direction: films that lie that way are predicted higher, their biases aside.
    person = models[0].fold_in(mine)
    films = frame[frame["kind"] != "you"]
    place = frame.loc[frame["kind"] == "you", ["x", "y"]].to_numpy()[0]
    code = {title: at for at, title in enumerate(catalog.title.values())}
    match = models[0].item_factors_[[code[t] for t in films["title"]]] @ person.factors
    assert np.corrcoef(films[["x", "y"]] @ place, match)[0, 1] > 0.3
    assert frame["label"].str.len().max() <= 24 and "You" in set(frame["label"])
    assert "you" not in set(engine.factor_map(models[0], catalog, {})["kind"])


def test_the_data_is_what_recsys_ratings_names(monkeypatch, tmp_path):
    """An edition or a path; RECSYS_DATA, the folder of downloads, has no say."""
    asked = []
    monkeypatch.setattr(engine, "open_ratings", lambda name: asked.append(name) or "ratings")
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "100k"))
    monkeypatch.delenv("RECSYS_RATINGS", raising=False)
    assert engine.load() == "ratings"
    for value in ("", "1m"):
        monkeypatch.setenv("RECSYS_RATINGS", value)
        assert engine.load() == "ratings"
    assert asked == ["latest-small", "latest-small", "1m"]
    assert not (tmp_path / "100k").exists()


def test_the_data_may_be_a_table_of_ones_own(monkeypatch, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("reader,isbn,rating\nada,0123,9\nada,123,1\nben,0123,10\n")
    monkeypatch.setenv("RECSYS_RATINGS", str(path))
    ratings = engine.load()
    assert ratings.user_ids.tolist() == ["ada", "ben"] and ratings.item_ids.tolist() == ["0123", "123"]
    assert engine.known_ratings(ratings, "ada") == {"0123": 9.0, "123": 1.0}


def test_a_name_that_is_no_data_is_told_what_is(monkeypatch, tmp_path):
    monkeypatch.setenv("RECSYS_RATINGS", str(tmp_path / "none.csv"))
    with pytest.raises((ValueError, OSError), match="none.csv"):
        engine.load()


@pytest.mark.parametrize(
    ("scale", "step", "values", "start"),
    [
        ((0.5, 5), 0.5, [0.5 * n for n in range(1, 11)], 4.0), ((1, 5), 1, [1, 2, 3, 4, 5], 4.0),
        ((1, 10), 1, list(range(1, 11)), 8.0), ((0, 1), 1, [0, 1], 1.0),
        ((0, 100), 1, list(range(101)), 78.0),
    ],
)  # fmt: skip
def test_what_can_be_given(scale, step, values, start):
    rows = [(1, n, value) for n, value in enumerate(values)]
    ratings = make_ratings(rows, scale=scale)
    assert engine.scale_values(ratings) == values and engine.start_value(values) == start
    wide = make_ratings([(1, 1, 2 / 3), (1, 2, 4.75)], scale=scale) if scale[0] == 0.5 else None
    if wide is not None:
        assert len(engine.scale_values(wide)) == 101


def test_sessions_of_users_of_any_kind():
    assert engine.session_as("session-ada", 12) == "session-ada-u12"
    users = ["12", "a b/c", "x" * 500, uuid.UUID(int=7)]
    names = {engine.session_as("s" + "0" * 39, user) for user in users}
    assert len(names) == 4 and all(re.fullmatch(SESSION[1:-1], name) for name in names)


# ---- what it shows ------------------------------------------------------------------


@pytest.fixture
def feedback(tmp_path, monkeypatch, models, titled):
    """A file of its own and small models for one test; returns the path."""
    import streamlit as st

    path = tmp_path / "feedback.sqlite"
    fitted = dict(zip(engine.MODELS, models, strict=True))
    monkeypatch.setenv("RECSYS_FEEDBACK", str(path))
    monkeypatch.setattr(engine, "load", lambda: titled)
    monkeypatch.setattr(engine, "fit", lambda name, ratings: fitted[name])
    st.cache_resource.clear()
    yield path
    st.cache_resource.clear()


def visit(session=None):
    page = AppTest.from_file(str(APP / "main.py"), default_timeout=120)
    if session:
        page.query_params["session"] = session
    page.run()
    assert not page.exception, page.exception
    return page


def act(page, *_):
    """Run the page again, after what was done to its elements."""
    page.run()
    assert not page.exception, page.exception
    return page


def rate(page, movie, stars):
    page.selectbox("film").set_value(movie)
    page.select_slider("stars").set_value(stars)
    act(page, page.button("rate").click())


def session_of(page):
    found = page.query_params["session"]
    return found[0] if isinstance(found, list) else found


def said(path, who, scale=(0.5, 5.0)):
    with FeedbackStore(path, scale=scale) as store:
        return store.ratings(who), store.hidden(who)


def buttons(page, start):
    return [button.key for button in page.button if button.key.startswith(start)]


def captions(page):
    return [caption.value for caption in page.caption]


def offered(page, model):
    return [int(key.rpartition("-")[2]) for key in buttons(page, f"like-{model}-")]


def test_a_first_visit(feedback, models):
    page = visit()
    assert re.fullmatch(r"s[0-9a-f]{24}", session_of(page))
    assert sum("until you rate something" in text for text in captions(page)) == 3
    page.select_slider("least").set_value(0)
    page.slider("n").set_value(4)
    act(page)
    for name in engine.MODELS:
        assert len(offered(page, name)) == 4
    assert (
        offered(page, "Popular")
        == models[2].train_.item_ids[np.argsort(-models[2].counts_, kind="stable")][:4].tolist()
    )


def test_rating_changes_the_lists_at_once(feedback, models, catalog):
    page = visit("session-ada")
    page.select_slider("least").set_value(0)
    for movie, stars in ((21, 5.0), (9, 1.0), (13, 4.5)):
        rate(page, movie, stars)
    mine = {21: 5.0, 9: 1.0, 13: 4.5}
    assert said(feedback, "session-ada") == (mine, set())
    assert page.selectbox("film").value is None
    for name, model in zip(engine.MODELS, models, strict=True):
        expected = engine.recommend(model, catalog, mine, n=6)[1]
        assert offered(page, name) == [film["movieId"] for film in expected]
    assert any(re.match(r"\+\d\.\d\d because you gave 5 to Film 21", text) for text in captions(page))
    act(page, page.button("clear-9").click())
    assert said(feedback, "session-ada")[0] == {21: 5.0, 13: 4.5}


def test_like_dislike_hide_and_forget(feedback):
    page = visit("session-ada")
    first, second, third = offered(page, "Factors")[:3]
    act(page, page.button(f"like-Factors-{first}").click())
    act(page, page.button(f"hide-Factors-{second}").click())
    assert said(feedback, "session-ada") == ({first: LIKE}, {second})
    for name in engine.MODELS:
        assert not {first, second} & set(offered(page, name))
    act(page, page.button(f"show-{second}").click())
    assert said(feedback, "session-ada") == ({first: LIKE}, set())
    act(page, page.button("forget").click())
    assert said(feedback, "session-ada") == ({}, set())


def test_two_sessions_do_not_see_each_other(feedback):
    ada, ben = visit("session-ada"), visit("session-ben")
    rate(ada, 21, 5.0)
    rate(ben, 21, 1.0)
    rate(ada, 9, 2.0)
    act(ben)
    assert said(feedback, "session-ada")[0] == {21: 5.0, 9: 2.0}
    assert said(feedback, "session-ben")[0] == {21: 1.0}
    assert buttons(ben, "clear-") == ["clear-21"]


def test_a_restart_and_a_reload_keep_what_was_said(feedback):
    import streamlit as st

    page = visit()
    rate(page, 21, 4.5)
    lists = offered(page, "Factors")
    st.cache_resource.clear()  # a new process would have nothing else
    again = visit(session_of(page))
    assert session_of(again) == session_of(page)
    assert buttons(again, "clear-") == ["clear-21"]
    assert offered(again, "Factors") == lists


def test_a_user_of_the_data(feedback, titled, models):
    ada, ben = visit("session-ada"), visit("session-ben")
    user = int(titled.user_ids[4])
    for page in (ada, ben):
        page.select_slider("least").set_value(0)
        act(page, page.radio("kind").set_value("A user of the data"))
        act(page, page.selectbox("user").set_value(user))
        assert offered(page, "Factors") == models[0].recommend(user, 6)["movieId"].tolist()
    hidden = offered(ada, "Factors")[0]
    act(ada, ada.button(f"hide-Factors-{hidden}").click())
    act(ben)
    assert hidden not in offered(ada, "Factors") and hidden in offered(ben, "Factors")
    assert said(feedback, f"session-ada-u{user}") == ({}, {hidden})
    assert said(feedback, "session-ada") == ({}, set())


def test_stars_of_another_scale(feedback, titled, monkeypatch):
    frame = titled.to_frame()
    frame["rating"] = frame["rating"].round().clip(1, 5)
    whole = type(titled).from_frame(frame, scale=(1, 5))
    monkeypatch.setattr(engine, "load", lambda: whole)
    page = visit("session-ada")
    assert page.select_slider("stars").options[0] == "1.0"
    rate(page, 21, 1.0)
    assert said(feedback, "session-ada")[0] == {21: 1.0}


@pytest.mark.parametrize("strange", ["x", "<script>alert(1)</script>", "s" * 60, "12345678", "a; DROP TABLE"])
def test_a_strange_session_is_replaced(feedback, strange):
    assert re.fullmatch(r"s[0-9a-f]{24}", session_of(visit(strange)))


def test_titles_are_text_not_markup(feedback):
    page = visit("session-ada")
    rate(page, 5, 4.0)
    shown = [text.value for text in page.markdown if "Bold" in text.value]
    assert shown and all(r"\*Bold\* \<b\>x\</b\> \[link\]\(http\://x\)" in text for text in shown)


def test_choices_that_leave_nothing(feedback):
    page = visit()
    page.multiselect("genres").set_value(["Comedy"])
    page.select_slider("least").set_value(100)
    act(page)
    assert sum("No film is left" in info.value for info in page.info) == 3
    act(page, page.multiselect("models").set_value([]))
    assert any("Choose a model" in info.value for info in page.info)


def test_a_damaged_file_is_explained_and_left_alone(feedback):
    feedback.write_bytes(b"this is no database" * 500)
    page = visit()
    assert "damaged" in page.error[0].value and len(page.tabs) == 0
    assert feedback.read_bytes() == b"this is no database" * 500


def test_a_file_of_another_scale_is_explained_and_left_alone(feedback):
    with FeedbackStore(feedback, scale=(1, 10)) as store:
        store.add("session-ada", 21, "rating", 9)
    page = visit("session-ada")
    assert "holds ratings from 9 to 9" in page.error[0].value and len(page.tabs) == 0
    assert said(feedback, "session-ada", (1, 10)) == ({21: 9.0}, set())


def test_a_full_disk_is_told(feedback, monkeypatch):
    page = visit("session-ada")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(FeedbackStore, "add", fail)
    rate(page, 21, 4.0)
    assert page.error[0].value == "Not stored: disk full"
    act(page)
    assert not page.error


def test_ids_of_text_on_a_scale_to_ten(feedback, monkeypatch):
    rng = np.random.default_rng(0)
    books = ["0123", "123", "B00X-1", "a/b"]
    rows = [(f"r {n}", book, rng.integers(1, 11)) for n in range(12) for book in books[: 2 + n % 3]]
    frame = pd.DataFrame(rows, columns=["reader", "isbn", "rating"])
    ratings = type(load_movielens()).from_frame(frame, user="reader", item="isbn", scale=(1, 10))
    fitted = [m.fit(ratings) for m in (BiasedALS(2, n_sweeps=3, verbose=False), Popularity())]
    named = dict(zip((engine.FACTORS, "Popular"), fitted, strict=True))
    monkeypatch.setattr(engine, "MODELS", {name: engine.MODELS[name] for name in named})
    monkeypatch.setattr(engine, "load", lambda: ratings)
    monkeypatch.setattr(engine, "fit", lambda name, ratings: named[name])
    page = visit("session-ada")
    page.select_slider("least").set_value(0)
    assert page.select_slider("stars").options == [f"{value}.0" for value in range(1, 11)]
    rate(page, "0123", 9.0)
    act(page, page.button("like-Factors-a/b").click())
    assert said(feedback, "session-ada", (1, 10)) == ({"0123": 9.0, "a/b": 9.0}, set())
    assert any(r"**9 of 10** · item 0123" in text.value for text in page.markdown)
    assert {key.removeprefix("like-Factors-") for key in buttons(page, "like-Factors")} == {"123", "B00X-1"}
    act(page, page.radio("kind").set_value("A user of the data"))
    act(page, page.selectbox("user").set_value("r 7"))
    assert "123" not in {key.removeprefix("like-Factors-") for key in buttons(page, "like-Factors")}


def test_feedback_on_films_of_another_edition(feedback):
    with FeedbackStore(feedback) as store:
        store.add("session-ada", 999_999, "like")
        store.add("session-ada", 999_998, "hide")
    page = visit("session-ada")
    assert buttons(page, "clear-") == ["clear-999999"]
    assert any("movie 999999" in text.value for text in page.markdown)


# ---- with the real data ---------------------------------------------------------------


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.browser
def test_a_visit_in_a_browser(browser, tmp_path, port):
    """Start, like a film, see the lists follow, reload; another browser sees none of it."""
    dockerfile = (APP / "Dockerfile").read_text()
    start = re.search(r"streamlit (run .*)$", (APP.parent / "Makefile").read_text(), flags=re.M)[1]
    path = tmp_path / "feedback.sqlite"
    environment = {**os.environ, "PYTHONPATH": str(APP.parent), "RECSYS_FEEDBACK": str(path)}
    environment.pop("RECSYS_RATINGS", None)
    log = open(tmp_path / "log", "w+")  # noqa: SIM115
    server = subprocess.Popen(
        [sys.executable, "-m", "streamlit", *shlex.split(start), "--server.port", str(port)],
        cwd=APP, env=environment, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        health = re.search(r"http://localhost:8501(/\S+)'\)", dockerfile)[1]
        deadline = time.monotonic() + 90
        while True:
            try:
                with urlopen(f"http://localhost:{port}{health}") as answer:
                    assert answer.read() == b"ok"
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < deadline, log.seek(0) or log.read()
                time.sleep(0.5)
        elsewhere = []
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(90_000)
        page.on("request", lambda r: f"localhost:{port}" in r.url or elsewhere.append(r.url))
        page.goto(f"http://localhost:{port}")
        page.get_by_text("Five are a good start").wait_for()
        page.wait_for_url(re.compile(r"\?session=s[0-9a-f]{24}$"))
        page.get_by_role("tab", name="Recommendations").click()
        page.locator(f".st-key-like-Factors-{SHAWSHANK} button:visible").first.click()
        page.get_by_text(re.compile(r"because you gave 4\.5 to Shawshank")).first.wait_for()
        page.get_by_role("tab", name="Rate").click()
        page.get_by_label("Film", exact=True).click()
        page.keyboard.type("matrix, the")
        page.get_by_role("option", name="Matrix, The (1999)", exact=True).click()
        page.get_by_role("button", name="Rate", exact=True).click()
        page.get_by_text("Said here: 2").wait_for()
        session = page.url.partition("session=")[2]
        assert said(path, session) == ({SHAWSHANK: LIKE, MATRIX: 4.0}, set())
        page.reload()
        page.get_by_text("Said here: 2").wait_for()
        other = browser.new_page(viewport={"width": 390, "height": 844})
        other.goto(f"http://localhost:{port}", timeout=90_000)
        other.get_by_text("Five are a good start").wait_for(timeout=90_000)
        assert session not in other.url
        assert other.evaluate("document.documentElement.scrollWidth") <= 390
        assert elsewhere == [], "the app asks another site"
    finally:
        server.kill()
        server.wait()
        log.close()


# ---- the container -----------------------------------------------------------------------


def test_the_dockerfile_names_what_exists_and_does_what_make_app_does():
    text = (APP / "Dockerfile").read_text().replace("\\\n", " ")
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    sources = [name for word, rest in steps if word == "COPY" for name in rest.split()[:-1]]
    for name in sources:
        assert (APP.parent / name).exists(), name
    admitted = (APP / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{name}" for name in sources} <= set(admitted)
    installed = " ".join(rest for word, rest in steps if word == "RUN")
    assert "requirements.lock" in installed and "-e ." in installed
    lock = (APP.parent / "requirements.lock").read_text()
    assert re.search(r"^streamlit==", lock, flags=re.M)
    start = re.search(r"bin\)/(streamlit run \S+)", (APP.parent / "Makefile").read_text(), flags=re.I)[1]
    command = next(rest for word, rest in steps if word == "CMD")
    assert " ".join(re.findall(r'"([^"]*)"', command)).startswith(start)
    folder = [rest for word, rest in steps if word == "WORKDIR"][-1]
    assert (APP.parent / folder.removeprefix("/book/") / start.split()[-1]).is_file()
    assert [rest for word, rest in steps if word == "USER"] == ["reader"]
    assert any(word == "HEALTHCHECK" for word, _ in steps)


def test_every_way_to_start_is_in_the_readme():
    readme = (APP.parent / "README.md").read_text()
    makefile = (APP.parent / "Makefile").read_text()
    for target in ("app", "api"):
        assert f"make {target}" in readme and re.search(rf"^{target}: ", makefile, flags=re.M)


def test_the_models_of_the_app_fit_the_embedded_data():
    """What `engine.MODELS` makes is a model, not yet fitted; the popular one is cheap to fit whole."""
    ratings = load_movielens("latest-small")
    assert isinstance(engine.MODELS[engine.FACTORS].make(), BiasedALS)
    popular = engine.fit("Popular", ratings)
    catalog = engine.Catalog(ratings)
    _, films = engine.recommend(popular, catalog, {}, n=2)
    assert [film["title"] for film in films] == ["Forrest Gump (1994)", "Pulp Fiction (1994)"]
    assert "IMAX" in catalog.all_genres and len(catalog.title) == 9066
