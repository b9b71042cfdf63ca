"""The file a web page reads: what is in it, how exact it is, and how big."""

import json
import re
import uuid
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import make_ratings
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.exceptions import NotFittedError

from recsys_helpers import BiasedALS, BiasModel, ImplicitALS, export, load_movielens
from recsys_helpers.data.ratings import Ratings
from recsys_helpers.serving import Questions

NASTY = ["</script><script>alert(1)</script>", '"quotes" & \\ back\\slashes', "Am\u00e9lie \u2028 \u00bd"]


def fit(ratings, **options):
    return BiasedALS(**({"n_factors": 4, "n_sweeps": 5, "verbose": False} | options)).fit(ratings)


@pytest.fixture(scope="module")
def model(medium):
    return fit(medium)


@pytest.fixture(scope="module")
def named():
    """A model of four films whose titles, years and genres are hard to write down."""
    movies = pd.DataFrame(
        {
            "movieId": [1, 2, 70_000, 70_001],
            "title": [NASTY[0], NASTY[1] + " (1999)", NASTY[2] + " (2001)", None],
            "year": pd.array([None, 1999, 2001, None], dtype="Int64"),
            "genres": ["Drama|Comedy", "(no genres listed)", "Comedy", None],
        }
    )
    triples = [(u, i, 1.0 + (u * k) % 5) for k, i in enumerate(movies["movieId"], 1) for u in (1, 2, 3)]
    plain = make_ratings(triples)
    return fit(Ratings.from_frame(plain.to_frame(), movies=movies), n_factors=2)


# ---- quantize ---------------------------------------------------------------------


def test_quantize_by_hand():
    codes, steps = export.quantize([[1.0, 0.0], [-0.5, 0.0], [0.26, 0.0]], bits=3)
    assert steps.tolist() == [1 / 3, 0.0]  # 3 bits: -3 to 3
    assert codes.tolist() == [[3, 0], [-2, 0], [1, 0]]  # -1.5 goes to the even neighbor
    assert codes.dtype == np.int16


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float64, (5, 3), elements=st.floats(-1e6, 1e6)),
    st.integers(2, 32),
)
def test_quantize_is_off_by_half_a_step_at_most(matrix, bits):
    codes, steps = export.quantize(matrix, bits)
    assert np.abs(codes.astype(int)).max() <= 2 ** (bits - 1) - 1
    assert np.all(np.abs(codes * steps - matrix) <= steps / 2 * (1 + 1e-9) + 1e-300)


@pytest.mark.parametrize("bits", [1, 33, 8.0, True, None])
def test_quantize_refuses_bits(bits):
    with pytest.raises(ValueError, match="bits: got"):
        export.quantize(np.ones((2, 2)), bits)


@pytest.mark.parametrize("matrix", [np.ones(3), [[np.nan, 1.0]], [[np.inf]]])
def test_quantize_refuses_what_is_no_table_of_numbers(matrix):
    with pytest.raises(ValueError, match="matrix: got"):
        export.quantize(matrix)


# ---- rounded ------------------------------------------------------------------------


def test_rounded_predicts_nearly_the_same_and_leaves_the_model_alone(model, medium):
    before = model.item_factors_.copy()
    errors = []
    for bits in (4, 8, 12, 16):
        twin = export.rounded(model, bits)
        errors.append(np.abs(twin.predict(medium) - model.predict(medium)).max())
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.01 and errors[-1] < 1e-3
    assert np.array_equal(model.item_factors_, before)
    assert twin.user_factors_ is model.user_factors_
    assert np.abs(export.rounded(model, 32).predict(medium) - model.predict(medium)).max() < 1e-6


# ---- the file -----------------------------------------------------------------------


def test_round_trip(model, medium, tmp_path):
    path = tmp_path / "deep" / "model.js"
    size = export.export_model(model, path)
    assert size == path.stat().st_size
    assert [p.name for p in path.parent.iterdir()] == ["model.js"]
    back = export.read_model(path)
    twin = export.rounded(model)
    np.testing.assert_allclose(back["factors"], twin.item_factors_, rtol=1e-6)
    np.testing.assert_allclose(back["bias"], twin.item_bias_, rtol=1e-6)
    assert back["item_ids"].tolist() == medium.item_ids.tolist()
    assert (back["scale"], back["step"]) == ([0.5, 5.0], 0.5)
    assert (back["columns"], back["noun"], back["reader"]) == (["userId", "movieId"], ["film", "films"], 0)
    assert back["counts"].tolist() == medium.item_counts.tolist()
    assert back["titles"][0] == "movie 5"
    assert (back["mean"], back["reg"], back["bias_reg"]) == (model.mean_, model.reg_, model.bias_reg_)
    assert back["weighted"] is False


def test_facts_about_films_survive(named, tmp_path):
    path = tmp_path / "model.js"
    export.export_model(named, path)
    back = export.read_model(path)
    assert back["titles"] == [*NASTY, "movie 70001"]  # the year has a column of its own
    assert back["years"].tolist() == [0, 1999, 2001, 0]
    assert [sorted(g) for g in back["genres"]] == [["Comedy", "Drama"], [], ["Comedy"], []]
    assert back["item_ids"].tolist() == [1, 2, 70_000, 70_001]  # a gap that needs 32 bits


def test_file_is_plain_ascii_without_markup(named, tmp_path):
    path = tmp_path / "model.js"
    export.export_model(named, path)
    text = path.read_bytes().decode("ascii")
    assert text.startswith("window.TRY_IT_MODEL = {") and text.endswith("};\n")
    assert text.count("\n") == 1
    assert "<" not in text


def test_nothing_about_users_is_in_it(model, tmp_path):
    path = tmp_path / "model.js"
    export.export_model(model, path)
    content = json.loads(path.read_text().partition(" = ")[2].rstrip(";\n"))
    assert not [name for name in content if "user" in name]
    ids = set(model.train_.user_ids.tolist())
    assert content["reader"] not in ids
    k, n = model.n_factors, model.train_.n_items
    assert len(content["films"]["data"]) == 4 * -(-2 * n * (k + 1) // 3)  # base64 of n (k + 1) int16


def test_overwrites_whole(model, tmp_path, monkeypatch):
    path = tmp_path / "model.js"
    path.write_text("old")
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        export.export_model(model, path)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


# ---- other ids, other scales -------------------------------------------------------------


def table(items, users=(1, 2, 3, 4), scale=(1, 10)):
    """Every user rates every item, on a scale, in whole steps."""
    low, high = scale
    rows = [
        (user, item, low + (3 * u + 5 * i) % int(high - low + 1))
        for u, user in enumerate(users)
        for i, item in enumerate(items)
    ]
    return make_ratings([(user, item, float(value)) for user, item, value in rows], scale=scale)


def test_a_file_of_32_bits_is_the_model_itself(model, tmp_path):
    small = export.export_model(model, tmp_path / "small.js")
    large = export.export_model(model, tmp_path / "large.js", bits=32)
    assert large > 1.3 * small
    back = export.read_model(tmp_path / "large.js")
    np.testing.assert_allclose(back["factors"], model.item_factors_, atol=1e-9)


def test_a_model_that_was_saved_is_exported_as_it_was(named, tmp_path):
    named.set_params(random_state=np.int64(3)).save(tmp_path / "model.npz")
    back = BiasedALS.load(tmp_path / "model.npz")
    assert back.random_state == 3
    for model, name in ((named, "before.js"), (back, "after.js")):
        export.export_model(model, tmp_path / name)
    assert (tmp_path / "after.js").read_text() == (tmp_path / "before.js").read_text()
    assert export.read_model(tmp_path / "after.js")["years"].tolist() == [0, 1999, 2001, 0]
    named.set_params(random_state=0)


@pytest.mark.parametrize(
    "items",
    [[7, 8, 4_000_000_000, 9_007_199_254_740_991], [7, 2**53, 2**53 + 1], [0, 2**32]],
    ids=["far apart", "beyond what a browser tells apart", "one large step"],
)
def test_large_numbers_come_back(items, tmp_path):
    ratings = table(items)
    export.export_model(fit(ratings, n_factors=2), tmp_path / "model.js")
    back = export.read_model(tmp_path / "model.js")["item_ids"].tolist()
    assert [int(one) for one in back] == ratings.item_ids.tolist()


@pytest.mark.parametrize(
    ("scale", "step"), [((1, 10), 1.0), ((0, 100), 1.0), ((-10, 10), 1.0), ((0, 1), 1.0), ((1, 5), 1.0)]
)
def test_scales_come_back(scale, step, tmp_path):
    export.export_model(fit(table([3, 4, 5], scale=scale), n_factors=2), tmp_path / "model.js")
    back = export.read_model(tmp_path / "model.js")
    assert (tuple(back["scale"]), back["step"]) == (scale, step)


def test_ids_of_text_and_uuids_are_written_as_they_are(tmp_path):
    texts = ["0123", "123", "</script>", "\u00fc", "7.0"]
    keys = [uuid.UUID(int=n) for n in range(5)]
    for ids, users in ((texts, ["me", "me-2", "x", "y"]), (keys, keys[:4])):
        rows = [(u, i, (3 * a + 5 * b) % 10 + 1) for a, u in enumerate(users) for b, i in enumerate(ids)]
        frame = pd.DataFrame(rows, columns=["reader", "isbn", "rating"])
        ratings = Ratings.from_frame(frame, user="reader", item="isbn", scale=(1, 10))
        export.export_model(fit(ratings, n_factors=2), tmp_path / "model.js")
        back = export.read_model(tmp_path / "model.js")
        assert back["item_ids"].tolist() == sorted(map(str, ids))
        assert back["titles"] == [f"item {i}" for i in sorted(map(str, ids))]
        assert (back["columns"], back["noun"]) == (["reader", "isbn"], ["item", "items"])
        assert back["reader"] == ("me-3" if ids is texts else "me")


def test_the_readers_own_id_is_nobodys(tmp_path):
    export.export_model(fit(table([3, 4], users=(0, 1, 7)), n_factors=2), tmp_path / "model.js")
    assert export.read_model(tmp_path / "model.js")["reader"] == 8


def test_genres_as_lists_and_years_from_titles(tmp_path):
    movies = pd.DataFrame({"movieId": [3, 4, 5], "title": ["Alien (1979)", "Elf", None]})
    movies["genres"] = [["Horror"], None, ["Drama", "Horror"]]
    model = fit(table([3, 4, 5]), n_factors=2)
    train = model.train_
    model.train_ = type(train)(
        train.user_codes, train.item_codes, train.values, None, train.user_ids, train.item_ids,
        scale=train.scale, movies=movies,
    )  # fmt: skip
    export.export_model(model, tmp_path / "model.js")
    back = export.read_model(tmp_path / "model.js")
    assert back["titles"] == ["Alien", "Elf", "movie 5"] and back["years"].tolist() == [1979, 0, 0]
    assert back["genres"] == [["Horror"], [], ["Drama", "Horror"]]


# ---- the page -----------------------------------------------------------------------------


def test_write_page_makes_one_folder_that_holds_everything(named, tmp_path):
    folder = tmp_path / "deep" / "page"
    page = export.write_page(named, folder, title="Films & <friends>")
    assert page == folder / "index.html"
    text = page.read_text(encoding="utf-8")
    assert "<h1>Films &amp; &lt;friends&gt;</h1>" in text and "$" not in text
    linked = set(re.findall(r'(?:src|href)="([^"]+)"', text))
    assert {p.name for p in folder.iterdir()} == linked | {"index.html"}
    assert not re.search(r"https?:|fetch\(|import ", text)
    for source in export.STATIC.iterdir():
        assert (folder / source.name).read_text() == source.read_text()


def test_a_page_is_replaced_and_nothing_else_is(named, model, tmp_path):
    export.write_page(named, tmp_path / "page", title="One")
    export.write_page(model, tmp_path / "page", title="Two")
    assert "<h1>Two</h1>" in (tmp_path / "page" / "index.html").read_text()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.html").write_text("<h1>Mine</h1>")
    with pytest.raises(FileExistsError, match="where another page stands; expected another folder"):
        export.write_page(model, tmp_path / "other")
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["index.html"]
    with pytest.raises(FileExistsError, match="a file; expected a folder"):
        export.write_page(model, tmp_path / "other" / "index.html")


def test_write_page_refuses_what_it_cannot_write(medium, model, tmp_path):
    with pytest.raises(TypeError, match="BiasModel; expected a fitted BiasedALS with at least one factor"):
        export.write_page(BiasModel().fit(medium), tmp_path / "page")
    for title in ("", "  ", None, 7):
        with pytest.raises(ValueError, match="title: got"):
            export.write_page(model, tmp_path / "page", title=title)
    assert not (tmp_path / "page").exists()


def test_a_second_model_of_likes_comes_back(model, medium, tmp_path):
    likes = ImplicitALS(3, verbose=False).fit(medium)
    export.export_model(model, tmp_path / "model.js", likes=likes, bits=32)
    back = export.read_model(tmp_path / "model.js")["likes"]
    np.testing.assert_allclose(back["factors"], likes.item_factors_, atol=1e-7)
    liked = medium.values >= likes.threshold_
    counts = np.bincount(medium.item_codes[liked], minlength=medium.n_items)
    assert back["liked_by"].tolist() == counts.tolist()
    assert (back["threshold"], back["weight"], back["reg"], back["exponent"]) == (
        likes.threshold_, likes.unobserved_weight_, likes.reg_, 1.0,
    )  # fmt: skip
    export.export_model(model, tmp_path / "model.js")
    assert export.read_model(tmp_path / "model.js")["likes"] is None
    every = ImplicitALS(3, threshold=None, verbose=False).fit(medium)
    export.export_model(model, tmp_path / "model.js", likes=every)
    assert export.read_model(tmp_path / "model.js")["likes"]["threshold"] is None


def test_questions_come_back(model, medium, tmp_path):
    questions = Questions(model, most=30, noise=0.8)
    export.export_model(model, tmp_path / "model.js", questions=questions, bits=32)
    back = export.read_model(tmp_path / "model.js")
    assert back["noise"] == 0.8
    np.testing.assert_allclose(back["prior"], questions.prior, rtol=1e-12)
    knowing = back["knowing"]
    np.testing.assert_allclose(knowing["factors"], questions.knowing.item_factors_, atol=1e-7)
    np.testing.assert_allclose(knowing["mean"] + knowing["bias"], questions.chances(), atol=0.05)
    assert len(knowing["bias"]) == 30 and (knowing["reg"], knowing["bias_reg"]) == (2.0, 2.0)
    export.export_model(model, tmp_path / "model.js")
    back = export.read_model(tmp_path / "model.js")
    assert back["noise"] is back["prior"] is back["knowing"] is None
    plain = Questions(model, noise=0.8, learned=False)
    plain.noise = np.nan  # as where too few people are there to estimate it
    export.export_model(model, tmp_path / "model.js", questions=plain)
    assert export.read_model(tmp_path / "model.js")["noise"] is None


def test_refuses_questions_of_another_model(model, medium, tmp_path):
    others = Questions(fit(medium, n_factors=2), noise=1.0, learned=False)
    for function in (export.export_model, export.write_page):
        with pytest.raises(ValueError, match="questions: got those of another model"):
            function(model, tmp_path / "model.js", questions=others)
        with pytest.raises(TypeError, match="questions: got dict"):
            function(model, tmp_path / "model.js", questions={})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda r: BiasedALS(2, verbose=False).fit(r), TypeError, "likes: got BiasedALS"),
        (lambda r: ImplicitALS(2, weights="value", verbose=False).fit(r), TypeError, "weights"),
        (lambda r: ImplicitALS(2), NotFittedError, "ImplicitALS"),
        (lambda r: ImplicitALS(2, verbose=False).fit(table([1, 2, 3])), ValueError, "a model of 3 items"),
    ],
)
def test_refuses_other_models_of_likes(model, medium, tmp_path, make, error, words):
    with pytest.raises(error, match=words):
        export.export_model(model, tmp_path / "model.js", likes=make(medium))
    with pytest.raises(error, match=words):
        export.write_page(model, tmp_path / "page", likes=make(medium))
    assert not list(tmp_path.iterdir())


# ---- bad input ------------------------------------------------------------------------


@pytest.mark.parametrize("function", [lambda m, p: export.export_model(m, p), lambda m, p: export.rounded(m)])
def test_refuses_other_models(function, medium, tmp_path):
    path = tmp_path / "model.js"
    with pytest.raises(TypeError, match="model: got BiasModel; expected a fitted BiasedALS with"):
        function(BiasModel().fit(medium), path)
    with pytest.raises(NotFittedError):
        function(BiasedALS(), path)
    with pytest.raises(ValueError, match="n_factors: got 0"):
        function(fit(medium, n_factors=0), path)
    assert not path.exists()


def test_refuses_another_suffix(model, tmp_path):
    with pytest.raises(ValueError, match=r"path: got 'model.json'; expected a name that ends in .js"):
        export.export_model(model, tmp_path / "model.json")


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda t: "", "does not set"),
        (lambda t: "window.OTHER = {};", "does not set"),
        (lambda t: t[: len(t) // 2], "JSONDecodeError"),
        (lambda t: t.replace('"version":3', '"version":4'), "version 4"),
        (lambda t: t.replace("uint8", "float8"), "float8"),
        (lambda t: t.replace('"titles":["movie 5",', '"titles":['), "different lengths"),
        (lambda t: t.replace('"mean"', '"mode"'), "KeyError"),
    ],
)
def test_damaged_files_are_named(model, tmp_path, damage, words):
    path = tmp_path / "model.js"
    export.export_model(model, path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=f"model.js: not a file of export_model.*{words}"):
        export.read_model(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        export.read_model(tmp_path / "model.js")


# ---- the committed file ------------------------------------------------------------------


def test_command_line(tmp_path, monkeypatch, medium, capsys):
    monkeypatch.setattr(export, "load_movielens", lambda name: medium)
    monkeypatch.setattr(export, "PAGE_SETTINGS", {"n_factors": 3, "n_sweeps": 2})
    export.main([str(tmp_path / "model.js")])
    assert "model.js: " in capsys.readouterr().out
    assert export.read_model(tmp_path / "model.js")["factors"].shape[1] == 3


def test_the_committed_model_is_what_the_command_writes():
    """Up to what another processor's rounding does to the factors: predictions are compared."""
    ratings = load_movielens("latest-small")
    model = export.page_model(ratings)
    book = export.read_model(Path(__file__).parents[1] / "book" / "_static" / "try_it" / "model.js")
    assert book["item_ids"].tolist() == ratings.item_ids.tolist()
    assert book["counts"].tolist() == ratings.item_counts.tolist()
    assert book["factors"].shape[1] == model.n_factors
    assert (book["reg"], book["bias_reg"]) == (model.reg, model.bias_reg)
    # Rotations of the factors change no prediction, so compare products.
    ours, theirs = (np.column_stack([f, b]) for f, b in
                    ((model.item_factors_, model.item_bias_), (book["factors"], book["bias"])))  # fmt: skip
    often = ratings.item_counts >= 20
    np.testing.assert_allclose(
        ours[often, :-1] @ ours[often, :-1].T, theirs[often, :-1] @ theirs[often, :-1].T, atol=0.02
    )
    np.testing.assert_allclose(ours[:, -1], theirs[:, -1], atol=0.02)
    likes, theirs = export.likes_model(ratings), book["likes"]
    assert (theirs["weight"], theirs["threshold"]) == (likes.unobserved_weight_, likes.threshold_)
    assert theirs["reg"] == pytest.approx(likes.reg_)
    ours, theirs = likes.item_factors_[often], theirs["factors"][often]
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=0.02)
    questions = Questions(model, noise=book["noise"])
    knowing = book["knowing"]
    np.testing.assert_allclose(
        questions.knowing.item_factors_ @ questions.knowing.item_factors_.T,
        knowing["factors"] @ knowing["factors"].T,
        atol=0.02,
    )
    # The prior turns with the factors; what it says of every film does not.
    variances = [
        np.einsum("ij,jk,ik->i", x, np.linalg.inv(prior), x)[often]
        for x, prior in (
            (np.column_stack([book["factors"], np.ones(len(often))]), book["prior"]),
            (np.column_stack([model.item_factors_, np.ones(len(often))]), questions.prior),
        )
    ]
    np.testing.assert_allclose(*variances, rtol=0.02)


def test_the_page_is_below_two_megabytes():
    own = Path(__file__).parents[1] / "book" / "_static" / "try_it"
    assert [p.name for p in own.iterdir()] == ["model.js"], "the other files live in the package"
    shared = {p.name: p.stat().st_size for p in export.STATIC.iterdir()}
    assert set(shared) == {"engine.js", "controls.js", "page.js", "try_it.css"}
    assert sum(shared.values()) + (own / "model.js").stat().st_size < 2_000_000
