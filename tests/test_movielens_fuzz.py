"""MovieLens written from random tables comes back; from random bytes come ratings or a DataError."""

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from movielens_files import FUZZ, LAYOUTS, RATINGS_FILE, rows, write_folder, write_zip

from recsys_helpers.data import DataError, load_movielens

pytestmark = pytest.mark.usefixtures("own_data_folder")

TRIPLES = st.lists(
    st.tuples(
        st.integers(0, 2**31 - 1),
        st.integers(0, 2**31 - 1),
        st.integers(1, 10).map(lambda x: x / 2),
        st.integers(0, 2**40),
    ),
    min_size=1,
    max_size=30,
    unique_by=lambda row: row[:2],
)
TITLES = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@FUZZ
@given(
    triples=TRIPLES,
    films=st.dictionaries(st.integers(0, 10**6), st.tuples(TITLES, TITLES), max_size=8),
    eol=st.sampled_from(["\n", "\r\n"]),
)
def test_csv_comes_back_as_written(triples, films, eol, tmp_path):
    text = eol.join(["userId,movieId,rating,timestamp", *(",".join(map(str, row)) for row in triples), ""])

    def quoted(field):
        return '"' + field.replace('"', '""') + '"'

    lines = [f"{i},{quoted(title)},{quoted(genres)}" for i, (title, genres) in films.items()]
    movies = eol.join(["movieId,title,genres", *lines, ""])
    changed = {"ratings.csv": text.encode(), "movies.csv": movies.encode()}
    ratings = load_movielens("25m", write_folder(tmp_path / "x", "25m", **changed))
    assert rows(ratings) == triples
    got = ratings.movies.astype(object).where(ratings.movies.notna(), "")
    assert dict(zip(got["movieId"], zip(got["title"], got["genres"], strict=True), strict=True)) == films


@FUZZ
@given(
    triples=TRIPLES,
    films=st.dictionaries(st.integers(0, 10**6), TITLES.filter(lambda title: "\n" not in title), max_size=8),
)
def test_dat_comes_back_as_written(triples, films, tmp_path):
    text = "".join("::".join(map(str, row)) + "\n" for row in triples)
    movies = "".join(f"{i}::{title}::Drama|War\n" for i, title in films.items())
    changed = {"ratings.dat": text.encode(), "movies.dat": movies.encode()}
    ratings = load_movielens("10m", write_folder(tmp_path / "x", "10m", **changed))
    assert rows(ratings) == triples
    assert dict(zip(ratings.movies["movieId"], ratings.movies["title"].fillna(""), strict=True)) == films


PIECES = st.sampled_from(
    [b"1", b"2", b"3.5", b",", b"::", b":", b"\t", b"|", b"\n", b"\r\n", b"\r", b'"', b"-", b"x", b"nan",
     b"\x00", b"\xff", b" ", b"\xef\xbb\xbf",
     b"99999999999999999999", b"1e999", b"\xc3\xa9", b"1,2,3.5,4\n", b"1\t2\t3\t4\n",
     b"1::2::3::4\n", b"userId,movieId,rating,timestamp\n", b"movieId,title,genres\n"]
)  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
@settings(parent=FUZZ, max_examples=120)
@given(data=st.data())
def test_any_bytes_give_ratings_or_a_data_error(name, data, tmp_path):
    file = data.draw(st.sampled_from(sorted(LAYOUTS[name])))
    content = LAYOUTS[name][file]
    at = data.draw(st.integers(0, len(content)))
    to = data.draw(st.integers(at, len(content)))
    content = content[:at] + b"".join(data.draw(st.lists(PIECES, max_size=8))) + content[to:]
    folder = write_folder(tmp_path / "x", name, **{file: content})
    try:
        ratings = load_movielens(name, folder, duplicates="last")
    except DataError as error:
        assert str(folder) in str(error)
    else:
        # Nothing lost: a line is a rating.
        lines = (folder / RATINGS_FILE[name]).read_bytes().removesuffix(b"\n").count(b"\n") + (name != "25m")
        assert len(ratings) + ratings.n_duplicates == lines


@FUZZ
@given(data=st.data())
def test_any_damage_to_a_zip_gives_ratings_or_a_data_error(data, tmp_path):
    content = bytearray(write_zip(tmp_path / "x.zip", "25m").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "x.zip").write_bytes(content)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile warns of a repeated name
            load_movielens("25m", tmp_path / "x.zip")
    except DataError as error:
        assert "x.zip" in str(error)
