"""The page "Try it": its numbers against Python's, and the page itself in a browser, opened from a folder."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import make_ratings, violations

from recsys_helpers import BiasedALS, ImplicitALS, Ratings, export, load_movielens
from recsys_helpers.serving import Questions

ROOT = Path(__file__).parents[1]
TOOL = ROOT / "recsys_helpers" / "serving" / "static" / "try_it"
BOOK = ROOT / "book" / "_static" / "try_it" / "model.js"
SITE = ROOT / "_build" / "html" / "book" / "try_it.html"
STORE = "recsys-book.try-it"
MEASURE = "try-it: rating to recommendations"
# Star Wars, Empire, Matrix, Gump, Titanic: half stars at both ends.
FIVE = {260: 5.0, 1196: 4.5, 2571: 4.0, 356: 1.5, 1721: 0.5}

needs_node = pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")


def fit_quickly(ratings):
    return BiasedALS(4, n_sweeps=4, verbose=False).fit(ratings)


# ---- engine.js under node -----------------------------------------------------------


@needs_node
def test_engine():
    done = subprocess.run(
        ["node", "--test", ROOT / "tests" / "engine.test.js"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"^# pass (\d+)", done.stdout, re.M)[1]) > 40


ASK = """
const fs = require("fs");
const engine = require(process.argv[1]);
const window = {};
new Function("window", fs.readFileSync(process.argv[2], "utf8"))(window);
const model = engine.decode(window.TRY_IT_MODEL);
const answers = JSON.parse(fs.readFileSync(0, "utf8")).map(({ ratings, film }) => {
  const person = engine.foldIn(model, ratings.map(([id, value]) => [model.codeOf.get(id), value]));
  const rated = new Set(person.films);
  const named = (rows) => rows.map((row) => [model.ids[row.film], row.score]);
  const told = engine.explain(model, person, model.codeOf.get(film));
  return {
    scores: Array.from(engine.scores(model, person)),
    top: named(engine.recommend(model, person, { n: 7, exclude: (f) => rated.has(f) })),
    baseline: told.baseline,
    parts: told.parts.map((part) => [model.ids[part.film], part.contribution]),
    similar: named(engine.similar(model, model.codeOf.get(film), 5, 3)),
  };
});
console.log(JSON.stringify(answers));
"""


@needs_node
@pytest.mark.parametrize(
    "options",
    [{"reg": 6.0}, {"weighted": True, "reg": 0.1, "bias_reg": 0.05}, {"n_factors": 1, "dtype": "float64"}],
    ids=["plain", "weighted", "one factor"],
)
def test_engine_agrees_with_fold_in(medium, tmp_path, options):
    model = BiasedALS(**({"n_factors": 6, "n_sweeps": 6, "verbose": False} | options)).fit(medium)
    export.export_model(model, tmp_path / "model.js")
    rng = np.random.default_rng(3)
    asked = []
    for size in (1, 2, 9, 60):
        films = rng.choice(medium.item_ids, size, replace=False).tolist()
        asked.append(
            {
                "ratings": [[f, float(rng.integers(1, 11)) / 2] for f in films],
                "film": int(rng.choice(medium.item_ids)),
            }
        )
    done = subprocess.run(
        ["node", "-e", ASK, TOOL / "engine.js", tmp_path / "model.js"],
        input=json.dumps(asked), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    twin = export.rounded(model)  # similarities need the same rounding for the same order
    for question, answer in zip(asked, json.loads(done.stdout), strict=True):
        me = model.fold_in(dict(question["ratings"]))
        np.testing.assert_allclose(answer["scores"], me.predict(medium.item_ids), atol=1e-3)
        top = twin.fold_in(dict(question["ratings"])).recommend(7)
        assert [movie for movie, _ in answer["top"]] == top["movieId"].tolist()
        told = me.explain(question["film"])
        assert answer["baseline"] == pytest.approx(told.attrs["baseline"], abs=1e-3)
        parts = told.set_index("movieId")["contribution"]
        assert {movie: pytest.approx(value, abs=1e-3) for movie, value in parts.items()} == dict(
            answer["parts"]
        )
        near = twin.similar_items(question["film"], 5, min_ratings=3)
        np.testing.assert_allclose([s for _, s in answer["similar"]], near["score"], atol=1e-4)


@needs_node
@pytest.mark.parametrize("options", [{}, {"unobserved_weight": 0.1, "reg": 0.02, "reg_exponent": 0.5}])
def test_engine_agrees_with_the_model_of_likes(medium, tmp_path, options):
    model = fit_quickly(medium)
    likes = ImplicitALS(5, **options, verbose=False).fit(medium)
    export.export_model(model, tmp_path / "model.js", likes=likes, bits=32)
    rng = np.random.default_rng(5)
    asked = []
    for size in (1, 3, 20, 60):
        films = rng.choice(medium.item_ids, size, replace=False).tolist()
        ratings = [[f, float(rng.integers(1, 11)) / 2] for f in films]
        ratings[0][1] = 5.0
        asked.append({"ratings": ratings, "film": int(rng.choice(medium.item_ids))})
    asked.append({"ratings": [[films[0], 1.0]], "film": int(films[1])})
    script = ASK.replace("engine.foldIn(", "engine.likeIn(").replace(", 5, 3)", ", 5, 3, model.likes)")
    done = subprocess.run(
        ["node", "-e", script, TOOL / "engine.js", tmp_path / "model.js"],
        input=json.dumps(asked), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    *answers, nobody = json.loads(done.stdout)
    for question, answer in zip(asked, answers, strict=False):
        mine = dict(question["ratings"])
        me = likes.fold_in(mine)
        np.testing.assert_allclose(answer["scores"], me.predict(medium.item_ids), atol=1e-4)
        told = me.explain(question["film"]).set_index("movieId")["contribution"]
        parts = dict(answer["parts"])
        assert set(parts) == {film for film, value in mine.items() if value >= likes.threshold_}
        assert parts == {film: pytest.approx(told[film], abs=1e-4) for film in parts}
        near = likes.similar_items(question["film"], 5, min_ratings=3)
        np.testing.assert_allclose([s for _, s in answer["similar"]], near["score"], atol=1e-4)
    np.testing.assert_allclose(nobody["scores"], likes.popularity_ * medium.n_users, atol=1e-6)
    assert nobody["parts"] == []


QUESTIONS = """
const fs = require("fs");
const engine = require(process.argv[1]);
const window = {};
new Function("window", fs.readFileSync(process.argv[2], "utf8"))(window);
const model = engine.decode(window.TRY_IT_MODEL);
const codes = (ids) => ids.map((id) => model.codeOf.get(id));
const answers = JSON.parse(fs.readFileSync(0, "utf8")).map(({ rated, unseen }) => {
  const person = engine.foldIn(model, codes(rated).map((film) => [film, 3]));
  const asked = engine.ask(model, { rated: codes(rated), unseen: codes(unseen), n: 6 });
  return {
    deviations: model.noise && model.ids.map((_, film) => engine.deviation(model, person, film)),
    asked: asked.map((film) => model.ids[film]),
  };
});
console.log(JSON.stringify(answers));
"""


def by_hand(file, rated):
    """Deviations from the numbers in the file alone."""
    x = np.column_stack([file["factors"], np.ones(len(file["factors"]))])
    own = x[np.isin(file["item_ids"], rated)]
    times = max(len(own), 1) if file["weighted"] else 1
    penalties = times * np.append(np.full(x.shape[1] - 1, file["reg"]), file["bias_reg"])
    inverse = np.linalg.inv(own.T @ own + np.diag(penalties))
    return file["noise"] * np.sqrt(1 + np.diag(x @ inverse @ x.T))


@needs_node
@pytest.mark.parametrize(
    "options, asking",
    [
        ({}, {}),
        ({"weighted": True, "reg": 0.1, "bias_reg": 0.05}, {}),
        ({}, {"learned": False}),
        ({}, {"most": 30}),
        ({}, None),
    ],
    ids=["plain", "weighted", "nothing learned", "thirty films", "no questions in the file"],
)
def test_engine_asks_as_python_does(medium, tmp_path, options, asking):
    model = BiasedALS(**({"n_factors": 5, "reg": 2.0, "n_sweeps": 6, "verbose": False} | options)).fit(medium)
    questions = None if asking is None else Questions(model, noise=0.8, **asking)
    export.export_model(model, tmp_path / "model.js", questions=questions, bits=32)
    rng = np.random.default_rng(1)
    asked = [{"rated": [], "unseen": []}]
    for n_rated, n_unseen in ((1, 0), (0, 2), (3, 5), (20, 10), (60, 18)):
        films = rng.choice(medium.item_ids, n_rated + n_unseen, replace=False).tolist()
        asked.append({"rated": films[:n_rated], "unseen": films[n_rated:]})
    done = subprocess.run(
        ["node", "-e", QUESTIONS, TOOL / "engine.js", tmp_path / "model.js"],
        input=json.dumps(asked), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    file = export.read_model(tmp_path / "model.js")
    # Without a file's word on it the page takes what many know for what the reader knows.
    rule = questions or Questions(model, noise=1.0, learned=False)
    for question, answer in zip(asked, json.loads(done.stdout), strict=True):
        assert answer["asked"] == rule.ask(question["rated"], question["unseen"], 6).tolist()
        if questions is None:
            assert answer["deviations"] is None and file["noise"] is None
            continue
        np.testing.assert_allclose(answer["deviations"], by_hand(file, question["rated"]), atol=1e-6)
        np.testing.assert_allclose(answer["deviations"], rule.deviations(question["rated"]), atol=1e-3)


# ---- the page ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    return export.page_model(load_movielens("latest-small"))


@pytest.fixture(scope="module")
def asking(real):
    return Questions(real, noise=0.87)


def write_page(folder, model=None, questions=None):
    """The tool's own markup, taken from try_it.md, as a page in a folder."""
    block = re.search(r"```\{raw\} html\n(.*?)```", (ROOT / "book" / "try_it.md").read_text(), re.S)[1]
    assert "../_static/try_it/engine.js" in block
    shutil.copytree(TOOL, folder / "_static" / "try_it")
    if model is None:
        shutil.copy(BOOK, folder / "_static" / "try_it")
    else:
        export.export_model(model, folder / "_static" / "try_it" / "model.js", questions=questions)
    page = folder / "book" / "page.html"
    page.parent.mkdir()
    start = '<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8"><title>x</title>'
    page.write_text(f"{start}<main><h1>x</h1>{block}</main></html>", encoding="utf-8")
    return page


@pytest.fixture(scope="module")
def folder_page(real, asking, tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("site"), real, asking)


@pytest.fixture
def visit(browser):
    """Open pages of one reader; fails the test when a page raised an error or asked the network."""
    contexts, troubles = [], []

    def visit(path, stored=None, script=None, context=None, **options):
        if context is None:
            context = browser.new_context(offline=True, accept_downloads=True, **options)
            contexts.append(context)
            if script:
                context.add_init_script(script)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("request", lambda r: r.url.startswith(("file:", "data:", "blob:")) or troubles.append(r.url))
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(path.as_uri())
        if options.get("java_script_enabled", True):
            page.wait_for_selector(".try-it-message", state="attached")
        if stored is not None:
            page.evaluate("([name, text]) => localStorage.setItem(name, text)", [STORE, stored])
            reload(page)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not troubles


def store(ratings, hidden=()):
    entries = [[movie, value, 1_700_000_000] for movie, value in ratings.items()]
    return json.dumps({"version": 1, "ratings": entries, "hidden": list(hidden)})


def stars(page, title, within=".try-it-choose"):
    return page.locator(within).get_by_role("slider", name=f"Your rating of {title}")


def reload(page):
    """Load again. On a busy machine Chromium hands what was stored to the next load late: then once more."""
    for _ in range(5):
        page.evaluate("localStorage.setItem('mark', 1)")
        page.wait_for_timeout(200)
        page.reload()
        page.wait_for_selector(".try-it-message", state="attached")
        if page.evaluate("localStorage.getItem('mark')"):
            page.evaluate("localStorage.removeItem('mark')")
            page.wait_for_timeout(150)  # what came late arrives as an event of storage, and is shown
            return
    pytest.fail("the browser forgets what is stored")


def press(slider, value):
    """Rate with the keyboard: the end of the scale, then half stars down."""
    slider.focus()
    slider.press("End")
    for _ in range(round(2 * (5 - value))):
        slider.press("ArrowLeft")


def rate(page, title, value):
    page.get_by_label("Find a film").fill(title)
    press(stars(page, title).first, value)


def listed(page):
    """Titles and predictions as the page shows them."""
    return page.eval_on_selector_all(
        ".try-it-recommendations > li",
        "rows => rows.map(r => [r.querySelector('.try-it-title').textContent, +r.querySelector('data').value,"
        " r.querySelector('data').textContent, r.querySelector('.try-it-why').textContent])",
    )


def messages(page):
    return page.locator(".try-it-message").inner_text()


def expect(model, ratings, page, rows=None, **columns):
    """What stands in the page is what fold_in computes."""
    me = model.fold_in(ratings)
    rows = listed(page) if rows is None else rows
    titles = dict(zip(model.train_.titles(model.train_.item_ids), model.train_.item_ids, strict=True))
    assert len(rows) == 10
    for title, score, shown, why in rows:
        movie = int(titles[title])
        told = me.explain(movie)
        assert score == pytest.approx(me.predict([movie])[0], abs=1e-3)
        assert float(shown) == pytest.approx(score, abs=0.0051)
        assert float(re.search(r"everybody is ([\d.]+)\.", why)[1]) == pytest.approx(
            told.attrs["baseline"], abs=0.006
        )
        named = re.findall(r"[Yy]our ([\d.]+) for (.*?) \(([+\u2212][\d.]+)\)", why)
        assert named or told["contribution"].abs().max() < 0.006
        for stars_given, other, contribution in named:
            row = told[told["movieId"] == titles[other]].iloc[0]
            assert float(stars_given) == row["rating"]
            assert float(contribution.replace("\u2212", "-")) == pytest.approx(row["contribution"], abs=0.006)
    assert [r[1] for r in rows] == sorted((r[1] for r in rows), reverse=True)
    return me


@pytest.mark.browser
def test_rate_five_films_by_keyboard(visit, folder_page, real):
    page = visit(folder_page)
    assert page.get_by_text("Rate a film, and your list appears here at once.").is_visible()
    titles = dict(zip(FIVE, real.train_.titles(list(FIVE)), strict=True))
    for movie, value in FIVE.items():
        rate(page, titles[movie], value)
    me = expect(real, FIVE, page)
    # The best of the whole table, given the page's floor of ten ratings.
    often = real.train_.item_counts >= 10
    best = me.predict(real.train_.item_ids)
    best[~often | np.isin(real.train_.item_ids, list(FIVE))] = -np.inf
    assert listed(page)[0][1] == pytest.approx(best.max(), abs=1e-3)
    assert page.locator(".try-it-yours h2").inner_text() == "Your ratings (5)"
    slider = stars(page, titles[1721], ".try-it-yours")
    assert (slider.get_attribute("aria-valuetext"), slider.input_value()) == ("0.5 stars", "0.5")
    page.wait_for_function("document.querySelector('[role=status]').textContent.includes('updated')")
    page.wait_for_function(f"performance.getEntriesByName({MEASURE!r}).length > 5")


@pytest.mark.browser
def test_a_click_on_a_star_means_that_star(visit, folder_page):
    page = visit(folder_page)
    control = page.locator(".try-it-choose .try-it-stars").first
    for share, value in [(0.03, 0.5), (0.17, 1), (0.45, 2.5), (0.55, 3), (0.97, 5)]:
        box = control.bounding_box()
        page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
        assert float(control.locator("input").input_value()) == value


@pytest.mark.browser
def test_ratings_last_and_can_be_forgotten(visit, folder_page, real):
    page = visit(folder_page)
    rate(page, "Matrix, The (1999)", 4.5)
    rate(page, "Toy Story (1995)", 2)
    reload(page)
    assert page.locator(".try-it-yours li").count() == 2
    expect(real, {2571: 4.5, 1: 2.0}, page)
    page.get_by_role("button", name="Remove Toy Story (1995)").click()
    assert page.evaluate("document.activeElement.textContent") == "Remove Matrix, The (1999)"
    expect(real, {2571: 4.5}, page)
    page.get_by_role("button", name="Forget everything").click()
    assert page.evaluate("Object.keys(localStorage).length") == 0
    assert listed(page) == []
    reload(page)
    assert page.locator(".try-it-yours li").count() == 0
    assert messages(page) == ""


@pytest.mark.browser
def test_saved_csv_is_what_the_notebooks_read(visit, folder_page, tmp_path, real):
    page = visit(folder_page, store(FIVE))
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save as CSV").click()
    waiting.value.save_as(tmp_path / "my_ratings.csv")
    frame = pd.read_csv(tmp_path / "my_ratings.csv")
    assert list(frame.columns) == ["userId", "movieId", "rating", "timestamp"]
    ratings = Ratings.from_frame(frame)
    assert (
        dict(zip(ratings.item_ids[ratings.item_codes].tolist(), ratings.values.tolist(), strict=True)) == FIVE
    )
    assert set(ratings.timestamps.tolist()) == {1_700_000_000}
    together = Ratings.from_frame(pd.concat([frame, load_movielens("latest-small").to_frame()]))
    assert together.n_users == real.train_.n_users + 1
    expect(real, frame, page)


@pytest.mark.browser
def test_five_hundred_ratings_at_once(visit, folder_page, real):
    films = np.random.default_rng(0).choice(real.train_.item_ids, 500, replace=False).tolist()
    many = {movie: 0.5 + (n % 10) / 2 for n, movie in enumerate(films)}
    page = visit(folder_page, store(many))
    expect(real, many, page)
    assert page.locator(".try-it-yours h2").inner_text() == "Your ratings (500)"
    assert page.locator(".try-it-yours li").count() == 20
    page.get_by_role("button", name="Show all of your ratings").click()
    assert page.locator(".try-it-yours > ul > li").count() == 500
    newest = page.locator(".try-it-yours > ul > li").evaluate_all("rows => rows.map(r => +r.dataset.film)")
    assert newest == real.train_.encode_items(films)[::-1].tolist()
    press(page.locator(".try-it-yours input[type=range]").first, 3)
    expect(real, many | {films[-1]: 3.0}, page)


@pytest.mark.browser
def test_filters(visit, folder_page, real):
    page = visit(folder_page, store(FIVE))
    page.get_by_label("Genre").select_option("Comedy")
    genres = dict(zip(real.train_.movies["title"], real.train_.movies["genres"], strict=True))
    assert all("Comedy" in genres[title] for title, *_ in listed(page))
    expect(real, FIVE, page)
    page.get_by_label("Genre").select_option("All genres")
    counts = dict(zip(real.train_.titles(real.train_.item_ids), real.train_.item_counts, strict=True))
    dial = page.get_by_label("Leave out the best known")
    dial.press("End")
    assert dial.get_attribute("aria-valuetext") == "without the 1,600 most rated films"
    limit = np.sort(real.train_.item_counts)[::-1][1599]
    assert all(10 <= counts[title] <= limit for title, *_ in listed(page))
    before = {title for title, *_ in listed(page)}
    page.get_by_label("Include films with fewer than 10 ratings").check()
    assert {title for title, *_ in listed(page)} != before
    assert min(counts[title] for title, *_ in listed(page)) < 10
    page.get_by_role("button", name="Show ten more recommendations").click()
    assert len(listed(page)) == 20


@pytest.mark.browser
def test_not_interested(visit, folder_page, real):
    page = visit(folder_page, store(FIVE))
    first, second = listed(page)[0][0], listed(page)[1][0]
    page.get_by_role("button", name=f"Not interested in {first}").click()
    assert first not in [row[0] for row in listed(page)]
    assert page.evaluate("document.activeElement.textContent") == f"Not interested in {second}"
    expect(real, FIVE, page)  # it says nothing about taste
    reload(page)
    assert first not in [row[0] for row in listed(page)]
    page.get_by_text("Not interested (1)").click()
    page.get_by_role("button", name=f"Bring back {first}").click()
    assert listed(page)[0][0] == first


@pytest.mark.browser
def test_rating_a_recommended_film_where_it_stands(visit, folder_page, real):
    page = visit(folder_page, store(FIVE))
    title = listed(page)[2][0]
    movie = int(real.train_.item_ids[real.train_.titles(real.train_.item_ids) == title][0])
    slider = stars(page, title, ".try-it-recommendations")
    press(slider, 3.5)
    assert slider.evaluate("e => e === document.activeElement")  # it did not vanish under the hand
    assert listed(page)[2][0] == title
    assert "Now among your ratings" in listed(page)[2][3]
    page.get_by_label("Find a film").focus()
    page.wait_for_function(
        f"!document.querySelector('.try-it-recommendations').textContent.includes({title!r})"
    )
    expect(real, FIVE | {movie: 3.5}, page)


@pytest.mark.browser
def test_similar_films(visit, folder_page, real):
    page = visit(folder_page, store(FIVE))
    row = page.locator(".try-it-recommendations > li").first
    row.locator("summary").click()
    film = real.train_.item_ids[int(row.get_attribute("data-film"))]
    expected = export.rounded(real).similar_items(int(film), 6, min_ratings=20)
    assert row.locator(".try-it-similar .try-it-title").all_inner_texts() == expected["title"].tolist()
    # An update keeps the row, its open list included.
    press(stars(page, "Matrix, The (1999)", ".try-it-yours"), 3)
    assert page.locator(".try-it-similar li").count() == 6
    # Rating one of them leaves the row under the hand.
    title, near = real.train_.titles(film)[0], page.locator(".try-it-similar input").nth(3)
    place = [row[0] for row in listed(page)].index(title)
    press(near, 0.5)
    assert near.evaluate("e => e === document.activeElement")
    assert [row[0] for row in listed(page)].index(title) == place
    assert len(listed(page)) == 10
    assert page.locator(".try-it-yours > ul > li").count() == 6


@pytest.mark.browser
def test_two_tabs_do_not_undo_each_other(visit, folder_page, real):
    page = visit(folder_page)
    other = visit(folder_page, context=page.context)
    rate(page, "Toy Story (1995)", 5)
    other.wait_for_selector(".try-it-yours li")
    rate(other, "Matrix, The (1999)", 1)
    page.wait_for_function("document.querySelectorAll('.try-it-yours li').length === 2")
    expect(real, {1: 5.0, 2571: 1.0}, page)


# ---- how far a prediction may be off, and what is asked ------------------------------------------


def spreads(page):
    """The number after each prediction, and how it is shown."""
    return page.eval_on_selector_all(
        ".try-it-recommendations > li",
        "rows => rows.map(r => [+r.dataset.film, +r.querySelector('.try-it-spread').value,"
        " r.querySelector('.try-it-spread').textContent])",
    )


def expect_spreads(asking, rated, page):
    deviations, rows = asking.deviations(rated), spreads(page)
    assert len(rows) == 10
    for film, value, shown in rows:
        assert value == pytest.approx(deviations[film], abs=1e-3)
        assert float(shown.removeprefix("\u00b1 ")) == pytest.approx(value, abs=0.0051)


def questions(page):
    """Ids of the films that are asked about, from the top."""
    codes = page.eval_on_selector_all(".try-it-choose li", "rows => rows.map(r => +r.dataset.film)")
    return load_movielens("latest-small").item_ids[codes].tolist()


def settle(page):
    """Wait until the answered questions have gone."""
    page.wait_for_function(
        "[...document.querySelectorAll('.try-it-choose li input')]"
        ".every(input => input.getAttribute('aria-valuetext') === 'not rated')"
    )


def leave(page):
    page.get_by_label("Find a film").focus()
    settle(page)


@pytest.mark.browser
def test_each_prediction_says_how_far_it_may_be_off(visit, folder_page, asking):
    page = visit(folder_page, store(FIVE))
    expect_spreads(asking, list(FIVE), page)
    before = {film: value for film, value, _ in spreads(page)}
    rate(page, "Toy Story (1995)", 4)
    expect_spreads(asking, [*FIVE, 1], page)
    after = [(before[film], value) for film, value, _ in spreads(page) if film in before]
    assert after and all(now < then for then, now in after)
    assert page.get_by_text("one standard deviation of the rating you would give").is_visible()
    assert page.get_by_text("how much ratings vary anyway").is_visible()


@pytest.mark.browser
def test_the_questions_are_those_that_tell_most(visit, folder_page, asking):
    page = visit(folder_page)
    assert questions(page) == asking.ask(n=3).tolist()
    first = questions(page)[0]
    press(page.locator(".try-it-choose li input").first, 4)
    assert questions(page)[0] == first  # it does not vanish under the hand
    leave(page)
    assert set(questions(page)) == set(asking.ask([first], n=3).tolist())
    reload(page)
    assert questions(page) == asking.ask([first], n=3).tolist()
    rate(page, "Heat (1995)", 5)
    page.get_by_label("Find a film").fill("")
    assert set(questions(page)) == set(asking.ask([first, 6], n=3).tolist())


@pytest.mark.browser
def test_a_film_not_seen_is_never_asked_about_again(visit, folder_page, asking, real):
    page = visit(folder_page)
    unseen = []
    for place in (0, 2, 1, 0):
        film = questions(page)[place]
        unseen.append(film)
        title = real.train_.titles(film)[0]
        page.get_by_role("button", name=f"Not seen {title}", exact=True).click()
        now = questions(page)
        assert set(now) == set(asking.ask(unseen=unseen, n=3).tolist())
        focused = page.evaluate("document.activeElement.closest('li').dataset.film")
        assert now[place] == real.train_.item_ids[int(focused)]
    reload(page)
    assert questions(page) == asking.ask(unseen=unseen, n=3).tolist()
    unseen += questions(page)
    page.get_by_role("button", name="None of these").click()
    assert set(questions(page)) == set(asking.ask(unseen=unseen, n=3).tolist())
    # It can still be found, and rated.
    rate(page, real.train_.titles(unseen[0])[0], 3)
    assert page.locator(".try-it-yours h2").inner_text() == "Your ratings (1)"
    page.get_by_role("button", name="Forget everything").click()
    page.get_by_label("Find a film").fill("")
    assert questions(page) == asking.ask(n=3).tolist()
    assert page.evaluate("Object.keys(localStorage).length") == 0


@pytest.mark.browser
def test_ten_answers_with_the_keyboard_alone(visit, folder_page, asking, real):
    page = visit(folder_page)
    rated, unseen = [], []
    page.get_by_label("Find a film").focus()
    page.keyboard.press("Tab")
    for n in range(10):
        film = int(page.evaluate("document.activeElement.closest('li').dataset.film"))
        assert page.evaluate("document.activeElement.type") == "range"
        film = int(real.train_.item_ids[film])
        if n % 2:
            for _ in range(7):
                page.keyboard.press("ArrowRight")
            rated.append(film)
            page.keyboard.press("Tab")
            page.keyboard.press("Tab")  # past "Not seen", to the next question, or to "None of these"
            settle(page)
            while page.evaluate("document.activeElement.type") != "range":
                page.keyboard.press("Shift+Tab")
        else:
            page.keyboard.press("Tab")
            page.keyboard.press("Enter")
            unseen.append(film)
    leave(page)
    assert (len(set(rated)), len(set(unseen))) == (5, 5)
    assert set(questions(page)) == set(asking.ask(rated, unseen, 3).tolist())
    expect(real, dict.fromkeys(rated, 3.5), page)
    expect_spreads(asking, rated, page)


@pytest.mark.browser
def test_questions_after_five_hundred_ratings(visit, folder_page, asking, real):
    films = np.random.default_rng(0).choice(real.train_.item_ids, 500, replace=False).tolist()
    page = visit(folder_page, store({movie: 0.5 + (n % 10) / 2 for n, movie in enumerate(films)}))
    expect_spreads(asking, films, page)
    assert questions(page) == asking.ask(films, n=3).tolist()


@pytest.mark.browser
def test_films_that_do_not_interest_are_not_asked_about(visit, folder_page, asking):
    first = asking.ask(n=1).tolist()
    page = visit(folder_page, store({}, hidden=first))
    assert questions(page) == asking.ask(n=3, exclude=first).tolist()


@pytest.mark.browser
def test_ratings_kept_before_the_page_asked_are_read(visit, folder_page, real):
    page = visit(folder_page, store(FIVE))
    assert messages(page) == ""
    expect(real, FIVE, page)
    broken = json.dumps({"version": 1, "ratings": [], "hidden": [], "unseen": [1, "<b>", None, 99_999_999]})
    page = visit(folder_page, broken)
    assert "3 stored entries made no sense" in messages(page)
    assert 1 not in questions(page)


@pytest.mark.browser
def test_a_list_by_likes_has_no_deviation(visit, both):
    _, path = both
    page = visit(path)
    rate(page, "Star Wars", 5)
    assert not page.get_by_text("one standard deviation").is_visible()
    page.get_by_role("radio", name="Predicted ratings").check(force=True)
    assert page.locator(".try-it-spread").all_inner_texts() == [""] * 10  # the file has no questions


# ---- what goes wrong ------------------------------------------------------------------------


INJECTION = "<img src=x onerror=document.title='owned'>"


@pytest.mark.browser
@pytest.mark.parametrize(
    "stored, words, kept",
    [
        ("{broken", "could not be read", 0),
        (INJECTION, "could not be read", 0),
        ('{"version":1,"ratings":"x","hidden":[]}', "could not be read", 0),
        (store({260: 5.0, 1196: 77, 999_999_999: 4.0}), "2 stored entries made no sense", 1),
        (store({260: 5.0}, [INJECTION]), "1 stored entry made no sense", 1),
        (
            json.dumps({"version": 1, "ratings": [[INJECTION, 5, 1], [260, 4, 1]], "hidden": []}),
            "1 stored",
            1,
        ),
    ],
)
def test_broken_storage_is_dropped_with_a_message(visit, folder_page, stored, words, kept):
    page = visit(folder_page, stored)
    assert words in messages(page)
    assert page.locator(".try-it-yours li").count() == kept
    rate(page, "Toy Story (1995)", 5)
    assert len(listed(page)) == 10
    assert page.title() == "x" and page.locator("img").count() == 0
    reload(page)  # what was wrong is gone for good
    assert messages(page) == ""
    assert page.locator(".try-it-yours li").count() == kept + 1


@pytest.mark.browser
def test_without_storage_the_page_works_and_says_so(visit, folder_page):
    script = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no'); } });"
    page = visit(folder_page, script=script)
    assert "does not let the page store ratings" in messages(page)
    rate(page, "Toy Story (1995)", 5)
    assert len(listed(page)) == 10


@pytest.mark.browser
def test_a_full_storage_is_said_once(visit, folder_page):
    page = visit(folder_page, script="Storage.prototype.setItem = () => { throw new DOMException('full'); };")
    rate(page, "Toy Story (1995)", 3)
    assert messages(page).count("does not let the page store ratings") == 1
    assert len(listed(page)) == 10


@pytest.mark.browser
@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda folder: (folder / "model.js").unlink(), "model.js did not load"),
        (lambda folder: (folder / "model.js").write_text("window.TRY_IT_MODEL = {"), "model.js did not load"),
        (lambda folder: (folder / "model.js").write_text("window.TRY_IT_MODEL = {}"), "cannot be used"),
        (lambda folder: (folder / "engine.js").unlink(), "engine.js did not load"),
    ],
    ids=["no model", "half a model", "another model", "no engine"],
)
def test_a_missing_file_has_a_clear_message(browser, tmp_path, spoil, words):
    path = write_page(tmp_path)
    spoil(tmp_path / "_static" / "try_it")
    page = browser.new_page()
    try:
        page.goto(path.as_uri())
        assert words in messages(page)
        assert "loading" not in page.locator("main").inner_text()
        assert page.locator("main input").count() == 0
    finally:
        page.close()


@pytest.mark.browser
def test_titles_with_markup_stay_text(visit, tmp_path):
    names = [f"{INJECTION} {n}" for n in range(30)]
    movies = pd.DataFrame(
        {
            "movieId": range(30),
            "title": names,
            "genres": ["<b>Drama</b>|</script><script>document.title=1"] * 30,
        }
    )
    triples = [(u, i, 1.0 + (u * i) % 5) for u in range(12) for i in range(30)]
    ratings = Ratings.from_frame(make_ratings(triples).to_frame(), movies=movies)
    model = BiasedALS(2, n_sweeps=3, verbose=False).fit(ratings)
    page = visit(write_page(tmp_path, model), store({3: 5.0, 4: 1.0}))
    assert len(listed(page)) == 10
    assert all(title in names for title, *_ in listed(page))
    page.locator(".try-it-recommendations summary").first.click()
    page.get_by_label("Find a film").fill("img src onerror")
    page.get_by_role("button", name=f"Not interested in {listed(page)[0][0]}").click()
    assert page.title() == "x"
    assert page.locator("main").locator("img, b, li script").count() == 0


@pytest.mark.browser
def test_without_javascript_the_page_says_what_it_needs(visit, folder_page):
    page = visit(folder_page, java_script_enabled=False)
    assert "JavaScript is switched off" in page.locator("main").inner_text()


# ---- ranked by likes ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """(likes, page) of a page with two models."""
    ratings = load_movielens("latest-small")
    model, likes = fit_quickly(ratings), ImplicitALS(8, verbose=False).fit(ratings)
    return likes, export.write_page(model, tmp_path_factory.mktemp("both"), likes=likes)


def expect_likes(likes, mine, page):
    me = likes.fold_in(mine)
    titles = dict(zip(likes.train_.titles(likes.train_.item_ids), likes.train_.item_ids, strict=True))
    rows = listed(page)
    assert len(rows) == 10
    for title, score, shown, why in rows:
        movie = int(titles[title])
        assert score == pytest.approx(me.predict([movie])[0], abs=1e-4)
        assert float(shown) == pytest.approx(score, abs=0.0051)
        best = me.explain(movie).iloc[0]
        name = f"{best['rating']:g} for {likes.train_.titles([best['movieId']])[0]}"
        assert why.startswith(f"Your {name}") and f"(+{best['contribution']:.2f})" in why
    assert [row[1] for row in rows] == sorted((row[1] for row in rows), reverse=True)


@pytest.mark.browser
def test_the_switch_ranks_by_the_other_model(visit, both):
    likes, path = both
    page = visit(path)
    group = page.get_by_role("group", name="Rank by")
    assert group.get_by_role("radio", name="Likes alone").is_checked()
    for title, value in (("Star Wars", 5), ("Matrix", 4.5), ("Titanic", 1)):
        rate(page, title, value)
    page.get_by_label("Find a film").fill("")
    page.wait_for_selector(".try-it-recommendations > li:nth-child(10)")
    mine = {260: 5.0, 2571: 4.5, 1721: 1.0}
    expect_likes(likes, mine, page)
    first = listed(page)
    group.get_by_role("radio", name="Likes alone").press("ArrowRight")
    assert group.get_by_role("radio", name="Predicted ratings").is_checked()
    expect(fit_quickly(likes.train_), mine, page)
    reload(page)
    assert page.get_by_role("radio", name="Predicted ratings").is_checked()
    page.get_by_role("radio", name="Likes alone").check(force=True)
    assert listed(page) == first
    page.locator(".try-it-recommendations summary").first.click()
    assert page.locator(".try-it-similar li").count() == 6


@pytest.mark.browser
def test_without_a_like_the_page_says_so_and_shows_what_most_like(visit, both):
    likes, path = both
    page = visit(path)
    rate(page, "Titanic", 1)
    page.wait_for_selector(".try-it-recommendations > li:nth-child(10)")
    told = page.locator(".try-it-result").inner_text()
    assert "None of your ratings is a like" in told and "A like is a rating of 4 or more" in told
    best = likes.train_.titles(likes.recommend(None, 10)["movieId"])
    assert [row[0] for row in listed(page)] == list(best)
    people = round(likes.popularity_.max() * likes.train_.n_users)
    assert listed(page)[0][2:] == [f"{people}", f"{people} people like it."]


# ---- in the book ------------------------------------------------------------------------------


@pytest.mark.site
@pytest.mark.browser
@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_built_page_in_use(visit, width, mode):
    if not SITE.exists():
        pytest.fail(f"{SITE} does not exist; run `make book` first")
    page = visit(SITE, store(FIVE), viewport={"width": width, "height": 900}, color_scheme=mode)
    # Not by a script that runs before the page's: after one, Chromium may lose what file:// pages store.
    page.evaluate("mode => { localStorage.mode = mode; localStorage.theme = mode; }", mode)
    reload(page)
    page.wait_for_selector(".try-it-recommendations > li:nth-child(10)")
    assert len(listed(page)) == 10
    by_likes = listed(page)
    page.get_by_role("radio", name="Predicted ratings").check(force=True)
    assert len(listed(page)) == 10 and listed(page) != by_likes
    page.locator(".try-it-recommendations summary").first.click()
    page.get_by_label("Find a film").fill("termnator")
    assert page.locator(".try-it-choose li").first.inner_text().startswith("Terminator")
    assert page.evaluate("document.documentElement.dataset.theme") == mode
    assert page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth") <= 0
    found = violations(page, "#try-it-tool")
    assert not [f"{v['id']}: {v['help']}: {v['nodes'][0]['html'][:200]}" for v in found]
