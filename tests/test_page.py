"""The page of one's own: `write_page` for other scales and other ids, in a browser, opened from the disk."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from conftest import make_ratings, violations
from test_try_it import listed, messages, reload, visit  # noqa: F401  (visit is a fixture)

from recsys_helpers import BiasedALS, Ratings, export

pytestmark = pytest.mark.browser
MINUS = "\N{MINUS SIGN}"


def rated(scale, step, m=60, n=40, seed=0):
    """Ratings of a low rank on a scale, in steps, with a third of the cells known."""
    rng = np.random.default_rng(seed)
    low, high = scale
    taste = 0.5 + 0.15 * rng.standard_normal((m, 2)) @ rng.standard_normal((2, n))
    values = np.clip(low + np.round(taste * (high - low) / step) * step, low, high)
    users, items = np.nonzero(rng.random((m, n)) < 0.5)
    rows = zip((users + 1).tolist(), (3 * items + 100).tolist(), values[users, items].tolist(), strict=True)
    return make_ratings(list(rows), scale=scale, name=f"from {low} to {high}")


def make_page(folder, ratings, **options):
    model = BiasedALS(**{"n_factors": 3, "reg": 2.0, "n_sweeps": 8, "verbose": False, **options}).fit(ratings)
    return model, export.write_page(model, folder, title="My own page")


def give(page, title, value, words=None):
    """Rate with whatever control the page has, in the list of candidates."""
    page.get_by_label(re.compile("^Find an? ")).fill(title)
    name = f"Your rating of {title}"
    group = page.locator(".try-it-choose").get_by_role("group", name=name, exact=True)
    if group.count():
        group.get_by_role("radio", name=words or f"{value:g}", exact=True).check(force=True)
    else:
        page.locator(".try-it-choose").get_by_role("slider", name=name, exact=True).fill(str(value))
    page.get_by_label(re.compile("^Find an? ")).fill("")


def shown_as_predicted(page, model, mine):
    """The list is what the model says of the given ratings."""
    me = model.fold_in(mine)
    ids = model.train_.item_ids
    named = dict(zip(model.train_.titles(ids).tolist(), ids.tolist(), strict=True))
    rows = listed(page)
    assert len(rows) == 10
    for title, score, _, why in rows:
        assert score == pytest.approx(me.predict([named[title]])[0], abs=1e-3)
        told = me.explain(named[title])
        level = float(re.search(rf"everybody is ({MINUS}?[\d.]+)\.", why)[1].replace(MINUS, "-"))
        assert level == pytest.approx(told.attrs["baseline"], abs=0.06)
    scores = [row[1] for row in rows]
    assert scores == sorted(scores, reverse=True)
    best = me.predict(ids)
    best[model.train_.encode_items(list(mine))] = -np.inf
    assert scores[0] == pytest.approx(best.max(), abs=1e-3)


SCALES = {
    "stars, whole": ((1, 5), 1, "slider", [5, 1, 4]),
    "one to ten": ((1, 10), 1, "radio", [10, 1, 7]),
    "nought to five": ((0, 5), 1, "radio", [0, 5, 3]),
    "thumbs": ((0, 1), 1, "radio", [1, 0, 1]),
    "nought to a hundred": ((0, 100), 1, "slider", [100, 0, 71]),
    "about nought": ((-10, 10), 0.01, "slider", [-9.8, 10, 0]),
}


@pytest.mark.parametrize("name", SCALES)
def test_every_scale_has_a_control_that_fits(visit, tmp_path, name):  # noqa: F811
    scale, step, role, given = SCALES[name]
    model, path = make_page(tmp_path, rated(scale, step))
    page = visit(path)
    assert page.title() == page.locator("h1").inner_text() == "My own page"
    assert page.get_by_text("Rate a film, and your list appears here at once.").is_visible()
    mine = dict(zip((100, 103, 112), map(float, given), strict=True))
    for movie, value in mine.items():
        words = ["Dislike", "Like"][int(value)] if name == "thumbs" else None
        give(page, f"movie {movie}", value, words)
        assert page.locator(".try-it-choose").get_by_role(role).count() > 0
    shown_as_predicted(page, model, mine)
    assert page.locator(".try-it-yours h2").inner_text() == "Your ratings (3)"
    reload(page)
    shown_as_predicted(page, model, mine)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save as CSV").click()
    waiting.value.save_as(tmp_path / "mine.csv")
    frame = pd.read_csv(tmp_path / "mine.csv")
    assert frame.set_index("movieId")["rating"].to_dict() == mine
    assert Ratings.from_frame(frame, scale=scale).n_users == 1
    assert messages(page) == ""


ODD = ["0123", "123", "7.0", "7", "1e2", "a,b", 'say "x"', "__proto__", "<b>x</b>", "\u00fc", "00", "12"]


@pytest.fixture(scope="module")
def books():
    """Ids of text that look like numbers, markup and tables, on a scale from 1 to 10."""
    numbers = rated((1, 10), 1, seed=3).to_frame()
    names = [*ODD, *(f"034545{n:03}X" for n in range(100 - len(ODD)))]
    frame = pd.DataFrame(
        {
            "reader": "r" + numbers["userId"].astype(str),
            "isbn": [names[(movie - 100) // 3] for movie in numbers["movieId"]],
            "rating": numbers["rating"],
        }
    )
    titles = pd.DataFrame({"isbn": names[:2], "title": ["Alien (1979)", "Brazil"]})
    return Ratings.from_frame(frame, user="reader", item="isbn", scale=(1, 10), movies=titles, name="books")


def test_a_table_of_text_ids_on_a_scale_to_ten(visit, tmp_path, books):  # noqa: F811
    model, path = make_page(tmp_path, books)
    page = visit(path)
    assert page.get_by_text("Rate an item, and your list appears here at once.").is_visible()
    names = dict(zip(books.item_ids.tolist(), books.titles(books.item_ids).tolist(), strict=True))
    assert names["0123"] == "Alien (1979)" and names["7.0"] == "item 7.0"
    mine = {"0123": 10.0, "123": 1.0, "7.0": 7.0, 'say "x"': 3.0, "__proto__": 9.0, "<b>x</b>": 2.0}
    for book, value in mine.items():
        give(page, names[book], value)
    shown_as_predicted(page, model, mine)
    why = listed(page)[0][3]
    assert re.search(r"[Yy]our (10|[1-9]) for ", why)
    reload(page)
    shown_as_predicted(page, model, mine)
    assert page.locator("main b").count() == 0 and page.title() == "My own page"
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save as CSV").click()
    waiting.value.save_as(tmp_path / "mine.csv")
    frame = pd.read_csv(tmp_path / "mine.csv", dtype={"isbn": str})
    assert list(frame.columns) == ["reader", "isbn", "rating", "timestamp"]
    assert frame.set_index("isbn")["rating"].to_dict() == mine and set(frame["reader"]) == {"me"}
    hidden = listed(page)[0][0]
    page.get_by_role("button", name=f"Not interested in {hidden}").click()
    reload(page)
    assert hidden not in [row[0] for row in listed(page)]
    # An id is found as it is written, and a number in the storage is not taken for text.
    page.get_by_label("Find an item").fill("0345450")
    assert page.locator(".try-it-choose li").first.inner_text().startswith("item 0345450")
    key = page.evaluate("Object.keys(localStorage)[0]")
    text = json.dumps({"version": 1, "ratings": [["7", 5, 1], [7, 9, 1], [123, 9, 1]], "hidden": []})
    page.evaluate("([key, text]) => localStorage.setItem(key, text)", [key, text])
    reload(page)
    assert "2 stored entries made no sense" in messages(page)
    shown_as_predicted(page, model, {"7": 5.0})


def test_a_slider_that_was_not_touched_is_no_rating(visit, tmp_path):  # noqa: F811
    model, path = make_page(tmp_path, rated((0, 100), 1))
    page = visit(path)
    slider = page.locator(".try-it-choose input[type=range]").first
    assert (slider.input_value(), slider.get_attribute("aria-valuetext")) == ("50", "not rated")
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert slider.get_attribute("aria-valuetext") == "50 on the scale from 0 to 100"
    assert page.locator(".try-it-yours h2").inner_text() == "Your ratings (1)"
    page.locator(".try-it-yours").get_by_role("button", name=re.compile("^Remove")).click()
    assert slider.get_attribute("aria-valuetext") == "not rated"


def test_whole_stars_are_whole(visit, tmp_path):  # noqa: F811
    _, path = make_page(tmp_path, rated((1, 5), 1))
    page = visit(path)
    control = page.locator(".try-it-choose .try-it-stars").first
    for share, value in [(0.03, 1), (0.17, 1), (0.45, 3), (0.55, 3), (0.97, 5)]:
        box = control.bounding_box()
        page.mouse.click(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
        assert float(control.locator("input").input_value()) == value


def test_two_pages_on_one_disk_keep_their_ratings_apart(visit, tmp_path):  # noqa: F811
    model, first = make_page(tmp_path / "a", rated((1, 10), 1))
    _, second = make_page(tmp_path / "b", rated((0, 100), 1, seed=1))
    page = visit(first)
    give(page, "movie 100", 9)
    other = visit(second, context=page.context)
    assert other.locator(".try-it-yours h2").inner_text() == "Your ratings"
    give(other, "movie 100", 90)
    reload(page)
    shown_as_predicted(page, model, {100: 9.0})
    names = page.evaluate("Object.keys(localStorage)")
    assert len(names) == 2 and all(name.startswith("recsys-helpers.try-it /") for name in names)


def test_a_model_without_penalties_says_that_it_needs_more(visit, tmp_path):  # noqa: F811
    ratings = rated((1, 10), 1)
    # Fitted with penalties, as rows with few ratings need them, and served without.
    model, _ = make_page(tmp_path, ratings)
    model.reg_ = model.bias_reg_ = 0.0
    path = export.write_page(model, tmp_path)
    page = visit(path)
    give(page, "movie 100", 9)
    assert page.get_by_text("this model cannot tell one taste from another. Rate a few more.").is_visible()
    assert listed(page) == []
    mine = {100: 9.0, 103: 2.0, 106: 5.0, 109: 8.0, 112: 4.0, 115: 6.0}
    for movie, value in mine.items():
        give(page, f"movie {movie}", value)
    shown_as_predicted(page, model, mine)


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_can_be_used_by_everybody(visit, tmp_path, width, mode):  # noqa: F811
    _, path = make_page(tmp_path, rated((1, 10), 1))
    options = {"viewport": {"width": width, "height": 900}, "color_scheme": mode, "has_touch": width < 500}
    page = visit(path, **options)
    give(page, "movie 100", 9)
    page.locator(".try-it-recommendations summary").first.click()
    assert page.evaluate("document.scrollingElement.scrollWidth - window.innerWidth") <= 0
    dark = json.loads(page.evaluate("JSON.stringify(getComputedStyle(document.body).backgroundColor)"))
    assert (dark == "rgb(255, 255, 255)") == (mode == "light")
    assert not [f"{v['id']}: {v['help']}: {v['nodes'][0]['html'][:200]}" for v in violations(page)]
