"""Readers, downloads, cache and synthetic data, on files written byte for byte in the published layouts."""

import hashlib
import http.server
import io
import os
import subprocess
import sys
import threading
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recsys_helpers.data import (
    DataError,
    DownloadError,
    cache,
    download,
    editions,
    load_100k_folds,
    load_movielens,
    movielens,
    places,
    splits,
    synthetic_ratings,
)

ROOT = Path(__file__).resolve().parents[1]
FUZZ = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# ---- the published layouts, in bytes ----------------------------------------------

LAYOUTS = {
    "100k": {
        "u.data": b"196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t1\t5\t881251949\n",
        "u.item": (
            "1|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M/title-exact?Toy%20Story%20(1995)|"
            "0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
            "242|Misérables, Les (1995)|24-Jan-1997|||0|0|0|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0|0\n"
            "302|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
        ).encode("latin-1"),
        "u.user": b"186|39|F|executive|00000\n196|49|M|writer|55105\n",
    },
    "1m": {
        "ratings.dat": b"1::1193::5::978300760\n1::661::3::978302109\n2::1193::4::978298413\n",
        "movies.dat": (
            "661::James and the Giant Peach (1996)::Animation|Children's|Musical\n"
            "1193::One Flew\x85 Over :: the Cuckoo's Nést (1975)::Drama\n"
        ).encode("latin-1"),
        "users.dat": b"1::F::1::10::48067\n2::M::56::16::70072-1234\n",
    },
    "10m": {
        "ratings.dat": b"1::122::5::838985046\n1::185::4.5::838983525\n2::122::0.5::868245644\n",
        "movies.dat": (
            "122::Boomerang (1992)::Comedy|Romance\n185::Léon: The Professional (1994)::(no genres listed)\n"
        ).encode(),
    },
    "25m": {
        "ratings.csv": (
            b"userId,movieId,rating,timestamp\r\n1,296,5.0,1147880044\r\n1,306,3.5,1147868817\r\n"
            b"2,296,0.5,1141415820\r\n"
        ),
        "movies.csv": (
            'movieId,title,genres\r\n296,"Pulp ""Fiction"", The (1994)",Comedy|Crime\r\n'
            "306,Trois couleurs: Été (1994) ,(no genres listed)\r\n307,,(no genres listed)\r\n"
        ).encode(),
    },
}
ZIP_FOLDER = {"100k": "ml-100k", "1m": "ml-1m", "10m": "ml-10M100K", "25m": "ml-25m"}
RATINGS_FILE = {"100k": "u.data", "1m": "ratings.dat", "10m": "ratings.dat", "25m": "ratings.csv"}


@pytest.fixture(autouse=True)
def own_data_folder(tmp_path, monkeypatch):
    """No test writes into the repository's data/cache."""
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "data"))


def write_folder(folder, name, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in {**LAYOUTS[name], **changed}.items():
        if content is not None:
            (folder / file).write_bytes(content)
    return folder


def write_zip(path, name, **changed):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{ZIP_FOLDER[name]}/", "")
        archive.writestr(f"__MACOSX/{ZIP_FOLDER[name]}/{RATINGS_FILE[name]}", "not data")
        for file, content in {**LAYOUTS[name], **changed}.items():
            if content is not None:
                archive.writestr(f"{ZIP_FOLDER[name]}/{file}", content)
    return path


def rows(ratings):
    return [tuple(row) for row in ratings.to_frame().itertuples(index=False)]


# ---- the embedded data ---------------------------------------------------------------


def test_embedded_data_is_the_release_of_october_2016():
    ratings = load_movielens()
    assert (len(ratings), ratings.shape) == (100_004, (671, 9066))
    assert rows(ratings)[0] == (1, 31, 2.5, 1260759144)
    assert ratings.summary()[["first day", "last day"]].tolist() == ["1995-01-09", "2016-10-16"]
    assert ratings.user_counts.min() == 20
    movies = ratings.movies.set_index("movieId")
    assert movies.index.tolist() == ratings.item_ids.tolist()
    assert movies["title"].isna().sum() == movies["year"].isna().sum() == 5
    assert movies.loc[1].tolist() == ["Toy Story (1995)", 1995, "Adventure|Animation|Children|Comedy|Fantasy"]
    assert movies.loc[51372, "title"] == '"Great Performances" Cats (1998)'


def test_embedded_files_have_the_stated_checksums():
    readme = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    for file in sorted((ROOT / "data" / "ml-latest-small").glob("*.csv")):
        assert f"`ml-latest-small/{file.name}`" in readme
        assert hashlib.sha256(file.read_bytes()).hexdigest() in readme


def test_package_without_repository_finds_its_own_copy(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "recsys_helpers"
    write_folder(package / "_data" / "ml-latest-small", "25m")
    monkeypatch.setattr(places, "PACKAGE", package)
    monkeypatch.setattr(places, "REPOSITORY_DATA", package.parent / "data")
    assert len(load_movielens("ml-latest-small")) == 3
    monkeypatch.delenv("RECSYS_DATA")
    assert "recsys_helpers" in str(places.data_folder())
    monkeypatch.setattr(places, "PACKAGE", tmp_path / "nowhere")
    with pytest.raises(DataError, match="clone the repository or install"):
        load_movielens()


def test_reading_does_not_import_what_it_does_not_need():
    code = (
        "import sys, recsys_helpers.data.movielens as d; before = set(sys.modules); d.load_movielens(); "
        "print([m for m in ('numba', 'pooch', 'requests', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.strip() == "[]", done.stderr


# ---- every layout --------------------------------------------------------------------

EXPECTED = {
    "100k": [(196, 242, 3, 881250949), (186, 302, 3, 891717742), (196, 1, 5, 881251949)],
    "1m": [(1, 1193, 5, 978300760), (1, 661, 3, 978302109), (2, 1193, 4, 978298413)],
    "10m": [(1, 122, 5, 838985046), (1, 185, 4.5, 838983525), (2, 122, 0.5, 868245644)],
    "25m": [(1, 296, 5, 1147880044), (1, 306, 3.5, 1147868817), (2, 296, 0.5, 1141415820)],
}


@pytest.mark.parametrize("form", ["folder", "folder above", "zip"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_are_read_as_published(name, form, tmp_path):
    if form == "zip":
        path = write_zip(tmp_path / f"ml-{name}.zip", name)
    else:
        folder = write_folder(tmp_path / "unpacked" / ZIP_FOLDER[name], name)
        path = folder if form == "folder" else folder.parent
    ratings = load_movielens(f"ml-{name}", path)
    assert rows(ratings) == EXPECTED[name]
    assert ratings.name == f"ml-{name}"
    assert ratings.scale == ((1, 5) if name in ("100k", "1m") else (0.5, 5))
    types = [ratings.user_ids.dtype, ratings.item_ids.dtype, ratings.values.dtype, ratings.timestamps.dtype]
    assert types == [np.int64, np.int64, np.float32, np.int64]


def test_tables_of_each_layout(tmp_path):
    loaded = {name: load_movielens(name, write_zip(tmp_path / f"{name}.zip", name)) for name in LAYOUTS}
    movies = {name: [tuple(row) for row in r.movies.itertuples(index=False)] for name, r in loaded.items()}
    assert movies["100k"][2][1::2] == ("unknown", "unknown") and movies["100k"][2][2] is pd.NA
    assert movies["100k"][:2] == [
        (1, "Toy Story (1995)", 1995, "Animation|Children's|Comedy"),
        (242, "Misérables, Les (1995)", 1995, "Drama"),
    ]
    assert movies["1m"][1] == (1193, "One Flew\x85 Over :: the Cuckoo's Nést (1975)", 1975, "Drama")
    assert movies["10m"][1] == (185, "Léon: The Professional (1994)", 1994, "(no genres listed)")
    assert movies["25m"][0] == (296, 'Pulp "Fiction", The (1994)', 1994, "Comedy|Crime")
    assert movies["25m"][1][2] == 1994  # a space after the year does not hide it
    assert pd.isna(movies["25m"][2][1]) and loaded["25m"].titles([296, 307])[1] == "movie 307"
    assert loaded["100k"].users.iloc[1].tolist() == [196, 49, "M", "writer", "55105"]
    assert loaded["1m"].users.iloc[0].tolist() == [1, 1, "F", "K-12 student", "48067"]
    assert loaded["10m"].users is None and loaded["25m"].users is None


def test_columns_may_come_in_any_order_and_with_others_and_a_byte_order_mark(tmp_path):
    changed = {
        "ratings.csv": b"\xef\xbb\xbftimestamp,note,userId,rating,movieId\n10,caf\xc3\xa9,3,4.5,7\n",
        "movies.csv": b"\xef\xbb\xbfgenres,movieId,title\nDrama,7,Up (2009)\n",
    }
    ratings = load_movielens("latest", write_folder(tmp_path / "x", "25m", **changed))
    assert rows(ratings) == [(3, 7, 4.5, 10)]
    assert ratings.titles([7]).tolist() == ["Up (2009)"]


def test_a_file_of_many_blocks_is_read_whole_and_errors_keep_their_line(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "BLOCK", 1000)
    rng = np.random.default_rng(0)
    lines = [f"{u},{i},{rng.integers(1, 11) / 2},{10**9 + u}" for u in range(1, 40) for i in range(1, 30)]
    head = "userId,movieId,rating,timestamp\n"
    content = (head + "\n".join(lines)).encode()  # without a line end at the end
    for path in (
        write_folder(tmp_path / "f", "25m", **{"ratings.csv": content}),
        write_zip(tmp_path / "f.zip", "25m", **{"ratings.csv": content}),
    ):
        frame = load_movielens("25m", path).to_frame()
        pd.testing.assert_frame_equal(frame, pd.read_csv(io.BytesIO(content)), check_dtype=False)
    for broken, said in [("8,9,x,1", "column rating: got 'x'"), ("1,1,3,5", "in lines 2 and 902")]:
        lines[900] = broken
        write_folder(tmp_path / "f", "25m", **{"ratings.csv": (head + "\n".join(lines)).encode()})
        with pytest.raises(DataError, match=said) as error:
            load_movielens("25m", tmp_path / "f")
        assert "902" in str(error.value)


# ---- bad data --------------------------------------------------------------------------

CSV = b"userId,movieId,rating,timestamp\n"
BAD_RATINGS = [
    ("25m", CSV + b"1,2,abc,4\n", r"ratings.csv, line 2, column rating: got 'abc'; expected a number"),
    ("25m", CSV + b"1,2,3,4\n1,x,3,4\n", r"line 3, column movieId: got 'x'; expected a whole number"),
    ("25m", CSV + b"1.5,2,3,4\n", r"line 2, column userId: got '1.5'; expected a whole number"),
    (
        "25m",
        CSV + b"3000000000,2,3,4\n",
        r"line 2, column userId: got '3000000000'; expected at most 2147483647",
    ),
    ("25m", CSV + b"1,2,,4\n", r"line 2, column rating: got ''; expected a number"),
    ("25m", CSV + b"1,2,nan,4\n", r"column rating, line 2: got nan; expected a number from 0.5 to 5"),
    ("25m", CSV + b"1,2,inf,4\n", r"column rating, line 2: got inf; expected a number from 0.5 to 5"),
    ("25m", CSV + b"1,2,5.5,4\n", r"column rating, line 2: got 5.5; expected a number from 0.5 to 5"),
    ("25m", CSV + b"1,2,3,4\n-1,2,3,4\n", r"column userId, line 3: got -1; expected a number not below 0"),
    ("25m", CSV + b"1,2,3,-4\n", r"column timestamp, line 2: got -4; expected a number not below 0"),
    ("25m", CSV + b"1,2,3\n", r"line 2: got 3 field\(s\) in '1,2,3'; expected 4, separated by ','"),
    ("25m", CSV + b"1,2,3,4\n1,3,3,4,5\n", r"line 3: got 5 field\(s\)"),
    ("25m", CSV + b"1,2,3,4\n\n1,3,3,4\n", r"line 3: the line is empty; remove it"),
    ("25m", CSV + b'1,2,3,"4\n', r"line 2, column timestamp"),
    ("25m", CSV, r"ratings.csv: is empty; expected ratings"),
    ("25m", b"", r"ratings.csv: is empty; expected ratings"),
    ("25m", CSV.replace(b",", b";") + b"1;2;3;4\n", r"line 1: the columns are not separated by commas"),
    ("25m", CSV.replace(b",", b"\t") + b"1\t2\t3\t4\n", r"line 1: the columns are not separated by commas"),
    ("25m", b"1,2,3,4\n", r"line 1: the first line has numbers instead of names"),
    ("25m", b"userId,movieId,rating\n1,2,3\n", r"line 1: column\(s\) timestamp missing; got 'userId,"),
    ("25m", b"userId,userId,movieId,rating,timestamp\n1,1,2,3,4\n", r"line 1: a column comes twice"),
    ("25m", b"\n1,2,3,4\n", r"line 1: the first line is empty"),
    (
        "25m",
        CSV + b"1,2,3,4\n2,2,3,4\n1,2,4,5\n",
        r"1 repeated .* \(1, 2\) in lines 2 and 4; pass duplicates=",
    ),
    ("100k", b"1,2,3,4\n", r"u.data, line 1: got 1 field\(s\) in '1,2,3,4'; expected 4, separated by '\\t'"),
    ("100k", b"1\t2\t0.5\t4\n", r"column rating, line 1: got 0.5; expected a number from 1 to 5"),
    ("1m", b"1::2::3::4\n1:2::3::4\n", r"ratings.dat, line 2: got 3 field\(s\)"),
    ("1m", b"1::2::3::4\n1:9:2::3::4\n", r"ratings.dat, line 2: got 3 field\(s\)"),
    ("10m", b"1::2::3::4\n\xef\xbb\xbf", r"ratings.dat, line 2: got 1 field\(s\)"),
    ("10m", b"1\t2\t3\t4\n", r"ratings.dat, line 1: got 1 field\(s\)"),
    ("10m", b"1::2::3::4\n1::3::three::4\n", r"line 2, column rating: got 'three'"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_RATINGS, ids=range(len(BAD_RATINGS)))
def test_bad_ratings_name_line_column_and_remedy(name, content, message, tmp_path):
    changed = {RATINGS_FILE[name]: content}
    with pytest.raises(DataError, match=message):
        load_movielens(name, write_folder(tmp_path / "x", name, **changed))
    with pytest.raises(DataError, match=message):
        load_movielens(name, write_zip(tmp_path / "x.zip", name, **changed))


BAD_TABLES = [
    ("25m", "movies.csv", b"movieId,title\n1,a\n", r"movies.csv, line 1: column\(s\) genres missing"),
    ("25m", "movies.csv", b"movieId,title,genres\n1,a, b,c\n", r"line 2: got 4 field\(s\); expected 3"),
    ("25m", "movies.csv", b'movieId,title,genres\n1,"a" b,c\n', r"line 2: .*mend its quotes"),
    ("25m", "movies.csv", b'movieId,title,genres\n1,"a,c\n', r"line 2: .*mend its quotes"),
    ("25m", "movies.csv", b"movieId,title,genres\nx,a,c\n", r"line 2, column movieId: got 'x'"),
    ("25m", "movies.csv", b"movieId,title,genres\n1,a,c\n1,b,d\n", r"movieId 1 comes twice or more"),
    ("25m", "movies.csv", b"movieId,title,genres\n1,caf\xe9,c\n", r"line 2: is not utf-8 text"),
    ("25m", "movies.csv", b"", r"line 1: the first line is empty"),
    ("100k", "u.item", b"1|Toy Story\n", r"u.item, line 1: got '1|Toy Story'; expected 24 fields"),
    (
        "1m",
        "movies.dat",
        b"1::Toy Story\n",
        r"movies.dat, line 1: got '1::Toy Story'; expected movieId::title",
    ),
    ("1m", "users.dat", b"1::F::1::10\n", r"users.dat, line 1: got 4 field\(s\); expected 5"),
    ("1m", "users.dat", b"1::F::1::21::0\n", r"column occupation: got 21; expected 0 to 20"),
    ("100k", "u.user", b"1|x|F|writer|0\n", r"u.user, line 1, column age: got 'x'"),
    ("100k", "u.user", b"1|2|F|writer|0\n1|2|F|writer|0\n", r"userId 1 comes twice or more"),
]


@pytest.mark.parametrize(("name", "file", "content", "message"), BAD_TABLES, ids=range(len(BAD_TABLES)))
def test_bad_tables_name_line_column_and_remedy(name, file, content, message, tmp_path):
    with pytest.raises(DataError, match=message):
        load_movielens(name, write_folder(tmp_path / "x", name, **{file: content}))


@pytest.mark.parametrize("name", LAYOUTS)
def test_missing_ratings_are_named(name, tmp_path):
    file = RATINGS_FILE[name]
    folder = write_folder(tmp_path / file, name, **{file: None})
    with pytest.raises(DataError, match=f"has no {file}, which ml-{name} needs; download the zip again"):
        load_movielens(name, folder)


@pytest.mark.parametrize("form", ["folder", "zip", "file", "file among others"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_ratings_alone_are_read_with_no_movies(name, form, tmp_path, monkeypatch):
    others = dict.fromkeys(file for file in LAYOUTS[name] if file != RATINGS_FILE[name])
    if form == "zip":
        path = write_zip(tmp_path / "x.zip", name, **others)
    else:
        path = write_folder(tmp_path / "x", name, **others)
        if form != "folder":
            path = path / RATINGS_FILE[name]
        if form == "file among others":
            write_folder(tmp_path / "x" / "another", name)
    monkeypatch.setattr(cache, "FROM_BYTES", 1)
    for _ in ("read", "from the cache"):
        ratings = load_movielens(name, path)
        assert rows(ratings) == EXPECTED[name]
        assert len(ratings.movies) == 0 and ratings.users is None
        assert list(ratings.movies.columns) == ["movieId", "title", "year", "genres"]
        assert ratings.notes == tuple(f"no {file} beside the ratings" for file in others)
        assert ratings.titles(ratings.item_ids[:1]).tolist() == [f"movie {ratings.item_ids[0]}"]


def test_the_path_of_the_ratings_finds_the_tables_beside_them(tmp_path):
    ratings = load_movielens("25m", write_folder(tmp_path / "x", "25m") / "ratings.csv")
    assert len(ratings.movies) == 3 and ratings.notes == ()
    dat = write_folder(tmp_path / "y", "1m") / "ratings.dat"
    with pytest.raises(DataError, match="ml-latest-small has its ratings in ratings.csv; pass the name of"):
        load_movielens(path=dat)


def test_a_zip_with_backslashes_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for file, content in LAYOUTS["25m"].items():
            archive.writestr("ml-25m\\" + file, content)
    ratings = load_movielens("25m", tmp_path / "x.zip")
    assert rows(ratings) == EXPECTED["25m"] and len(ratings.movies) == 3


def test_a_rating_off_the_scale_gets_a_remedy_that_exists(tmp_path):
    folder = write_folder(tmp_path / "x", "25m", **{"ratings.csv": CSV + b"1,2,0,4\n"})
    with pytest.raises(DataError, match="line 2: got 0.0; .*load_ratings reads ratings on any scale") as said:
        load_movielens("25m", folder)
    assert "scale=" not in str(said.value)


def test_wrong_paths_and_names(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        load_movielens("25m", tmp_path / "none")
    with pytest.raises(ValueError, match="name: got '27m'; expected one of '100k'"):
        load_movielens("27m")
    with pytest.raises(ValueError, match="duplicates: got 'first'"):
        load_movielens(duplicates="first")
    with pytest.raises(DataError, match="it holds u.data: pass the name of that data set"):
        load_movielens(
            "25m", write_folder(tmp_path / "x", "100k", **{"movies.csv": LAYOUTS["25m"]["movies.csv"]})
        )
    write_folder(tmp_path / "two" / "a", "25m")
    write_folder(tmp_path / "two" / "b", "25m")
    with pytest.raises(DataError, match="holds ratings.csv 2 times"):
        load_movielens("25m", tmp_path / "two")


def test_truncated_zip(tmp_path):
    whole = write_zip(tmp_path / "x.zip", "25m").read_bytes()
    (tmp_path / "x.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a readable zip .*download it again"):
        load_movielens("25m", tmp_path / "x.zip")


def test_damaged_member_of_a_zip(tmp_path):
    path = write_zip(tmp_path / "x.zip", "25m")
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("ml-25m/ratings.csv")
    content = bytearray(path.read_bytes())
    content[info.header_offset + 30 + len(info.filename) + 8] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="ratings.csv: cannot be read .*it is damaged"):
        load_movielens("25m", path)


@pytest.mark.parametrize("member", ["../evil.csv", "/etc/evil.csv", "a/../../evil", "C:/evil", "..\\evil"])
def test_zip_that_points_outside_is_refused(member, tmp_path):
    path = write_zip(tmp_path / "in" / "x.zip", "25m")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, "x")
    with pytest.raises(DataError, match="points outside"):
        load_movielens("25m", path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["in", "x.zip"]


@pytest.mark.parametrize(("policy", "value", "stamp"), [("last", 5, 9), ("mean", 4, 9)])
def test_duplicate_policies_pass_through(policy, value, stamp, tmp_path):
    content = CSV + b"1,2,5,9\n1,3,1,1\n1,2,3,4\n"
    ratings = load_movielens(
        "25m", write_folder(tmp_path, "25m", **{"ratings.csv": content}), duplicates=policy
    )
    assert rows(ratings) == [(1, 2, value, stamp), (1, 3, 1, 1)]
    assert ratings.n_duplicates == 1


# ---- fuzzing -----------------------------------------------------------------------------

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


# ---- folds of 100k ---------------------------------------------------------------------------


def folds_of_100k():
    """u.data of ten ratings, and u1 … u5 with disjoint test sets of two."""
    lines = [f"{1 + k // 3}\t{10 + k}\t{1 + k % 5}\t{k}\n".encode() for k in range(10)]
    files = {"u.data": b"".join(lines)}
    for fold in range(5):
        test = lines[2 * fold : 2 * fold + 2]
        files[f"u{fold + 1}.test"] = b"".join(test)
        files[f"u{fold + 1}.base"] = b"".join(line for line in lines if line not in test)
    return files


def test_official_folds_share_one_index_and_partition_the_data(tmp_path):
    whole = load_movielens("100k", write_folder(tmp_path / "x", "100k", **folds_of_100k()))
    tested = []
    for fold, part in enumerate(load_100k_folds(tmp_path / "x"), 1):
        train, test = part
        assert isinstance(part, splits.Split)
        assert (len(train), len(test), test.name) == (8, 2, f"ml-100k u{fold}.test")
        for part in (train, test):
            assert part.user_ids.tolist() == whole.user_ids.tolist()
            assert part.item_ids.tolist() == whole.item_ids.tolist()
        assert sorted(rows(train) + rows(test)) == sorted(rows(whole))
        tested += rows(test)
    assert sorted(tested) == sorted(rows(whole))


def test_folds_that_are_no_partition_are_refused(tmp_path):
    files = folds_of_100k()
    files["u2.test"] = files["u2.test"].splitlines(keepends=True)[0]
    path = write_zip(tmp_path / "x.zip", "100k", **files)
    with pytest.raises(DataError, match="u2.base and .test together are not the pairs of u.data"):
        list(load_100k_folds(path))
    files["u1.base"] += b"99\t10\t3\t4\n"
    with pytest.raises(DataError, match="u1.base: has a user or a movie that u.data has not"):
        list(load_100k_folds(write_zip(tmp_path / "y.zip", "100k", **files)))


# ---- the binary cache -------------------------------------------------------------------------


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A folder of 25m whose ratings are cached, and the cache's folder."""
    monkeypatch.setattr(cache, "FROM_BYTES", 1)
    folder = write_folder(tmp_path / "x", "25m")
    load_movielens("25m", folder)
    (store,) = (tmp_path / "data").iterdir()
    return folder, store


def forbid_reading(monkeypatch):
    def read(*args, **options):
        raise AssertionError("the text file was read")

    monkeypatch.setattr(movielens, "_rating_table", read)


def test_cache_gives_the_same_and_is_used(cached, monkeypatch):
    folder, _ = cached
    before = load_movielens("25m", folder, cache=False)
    forbid_reading(monkeypatch)
    ratings = load_movielens("25m", folder)
    pd.testing.assert_frame_equal(ratings.movies, before.movies)
    assert rows(ratings) == EXPECTED["25m"]
    assert ratings.titles([296]).tolist() == ['Pulp "Fiction", The (1994)']
    with pytest.raises(ValueError, match="read-only"):
        ratings.values[0] = 1
    with pytest.raises(AssertionError):
        load_movielens("25m", folder, cache=False)
    with pytest.raises(AssertionError):  # another policy is another cache
        load_movielens("25m", folder, duplicates="mean")


@pytest.mark.parametrize("file", ["values.npy", "user_codes.npy", "tables.json", "sums.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "gone", "text"])
def test_damaged_cache_is_made_again(cached, file, damage, monkeypatch):
    folder, store = cached
    content = (store / file).read_bytes()
    (store / file).unlink()
    if damage != "gone":
        changed = {
            "cut": content[:-3],
            "flip": content[:-3] + bytes([content[-3] ^ 0x41]) + content[-2:],
            "empty": b"",
            "text": b"hello",
        }
        (store / file).write_bytes(changed[damage])
    assert rows(load_movielens("25m", folder)) == EXPECTED["25m"]
    assert (store / file).read_bytes() == content
    forbid_reading(monkeypatch)
    assert rows(load_movielens("25m", folder)) == EXPECTED["25m"]


def test_changed_file_replaces_its_cache(cached):
    folder, store = cached
    (folder / "ratings.csv").write_bytes(CSV + b"7,296,1.0,5\n")
    assert rows(load_movielens("25m", folder)) == [(7, 296, 1, 5)]
    (other,) = store.parent.iterdir()
    assert other != store
    (folder / "movies.csv").write_bytes(b"movieId,title,genres\n296,Changed (1994),Comedy\n")
    assert load_movielens("25m", folder).titles([296]).tolist() == ["Changed (1994)"]


def test_cache_keeps_users(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "FROM_BYTES", 1)
    folder = write_folder(tmp_path / "x", "1m")
    before = load_movielens("1m", folder)
    forbid_reading(monkeypatch)
    pd.testing.assert_frame_equal(load_movielens("1m", folder).users, before.users)


def test_cache_that_cannot_be_written_is_only_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "FROM_BYTES", 1)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="the cache could not be written .*cache=False"):
        ratings = load_movielens("25m", write_folder(tmp_path / "x", "25m"))
    assert len(ratings) == 3


# ---- downloads, from a server on this machine ----------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        cut = self.path.startswith("/cut/")
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    """`server.url`, `server.files` (path: content), `server.asked` (paths in order); /cut/… stops halfway."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.files, running.asked = {}, []
        running.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def zipped(tmp_path):
    content = write_zip(tmp_path / "made.zip", "1m").read_bytes()
    return content, "md5:" + hashlib.md5(content).hexdigest()


def leftovers(tmp_path):
    folder = tmp_path / "data"
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def test_download_then_load_then_no_second_download(server, zipped, tmp_path):
    content, checksum = zipped
    server.files["/good/ml-1m.zip"] = content
    options = {"checksum": checksum, "sources": [f"{server.url}/good/"], "verbose": False}
    assert rows(load_movielens("1m", **options)) == EXPECTED["1m"]
    assert leftovers(tmp_path) == ["ml-1m.zip"]
    server.files.clear()
    assert rows(load_movielens("1m", **options)) == EXPECTED["1m"]
    assert server.asked == ["/good/ml-1m.zip"]


def test_second_source_is_tried_and_sha256_is_understood(server, zipped, capfd):
    content, _ = zipped
    server.files["/good/ml-1m.zip"] = content
    path = download(
        "ml-1m",
        checksum="sha256:" + hashlib.sha256(content).hexdigest(),
        sources=[f"{server.url}/none", f"{server.url}/good"],
    )
    assert path.read_bytes() == content
    assert server.asked == ["/none/ml-1m.zip", "/good/ml-1m.zip"]
    assert "100%" in capfd.readouterr().err  # the progress bar


def test_every_failure_is_told_and_leaves_nothing_behind(server, zipped, tmp_path):
    content, checksum = zipped
    server.files["/cut/ml-1m.zip"] = content
    server.files["/bad/ml-1m.zip"] = content[:-1] + b"x"
    closed = "http://127.0.0.1:9"  # the discard port: nobody listens
    sources = [f"{server.url}/{kind}" for kind in ("none", "cut", "bad")] + [closed]
    with pytest.raises(DownloadError) as error:
        download("1m", checksum=checksum, sources=sources, verbose=False)
    message = str(error.value)
    assert all(f"{source}/ml-1m.zip" in message for source in sources)
    for part in ("404", "IncompleteRead", "does not match the known hash", "ConnectionError"):
        assert part in message
    assert leftovers(tmp_path) == []
    # The advice at the end works: the zip at that place is taken, without a network.
    place = tmp_path / "data" / "ml-1m.zip"
    assert f"put it at {place}" in message
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(content)
    assert rows(load_movielens("1m", checksum=checksum, sources=[closed])) == EXPECTED["1m"]
    assert rows(load_movielens("1m", path=place)) == EXPECTED["1m"]


def test_file_in_place_with_another_checksum_is_refused_and_kept(zipped, tmp_path):
    place = tmp_path / "data" / "ml-1m.zip"
    place.parent.mkdir()
    place.write_bytes(zipped[0])
    with pytest.raises(DataError, match="md5 is .*expected c4d9eecfca2ab87c1945afe126590906.*delete it"):
        load_movielens("1m")
    assert place.exists()


def test_checked_zip_is_not_checked_again_once_cached(server, zipped, monkeypatch):
    import pooch

    monkeypatch.setattr(cache, "FROM_BYTES", 1)
    content, checksum = zipped
    server.files["/ml-1m.zip"] = content
    load_movielens("1m", checksum=checksum, sources=[server.url], verbose=False)
    monkeypatch.setattr(pooch, "file_hash", None)
    assert rows(load_movielens("1m", checksum=checksum)) == EXPECTED["1m"]


def test_sets_without_a_fixed_checksum_need_one(server):
    for name in ("latest", "latest-small"):
        with pytest.raises(ValueError, match="checksum: got None; expected one .*zip.md5"):
            download(name, sources=[server.url])
    with pytest.raises(ValueError, match="checksum: got 'xyz'; expected \"md5:\""):
        download("latest", checksum="xyz", sources=[server.url])
    assert server.asked == []


def test_default_sources_are_secure_and_the_mirror_has_the_four_old_sets():
    assert editions.GROUPLENS.startswith("https://") and editions.MIRROR.startswith("https://")
    assert [name for name, edition in editions.EDITIONS.items() if edition.mirrored] == [
        "100k",
        "1m",
        "10m",
        "20m",
    ]
    fixed = {name for name, edition in editions.EDITIONS.items() if edition.checksum}
    assert fixed == {"100k", "1m", "10m", "20m", "25m", "32m"}


# ---- synthetic ratings ------------------------------------------------------------------------------


def gini(counts):
    counts = np.sort(counts)
    n = len(counts)
    return (2 * np.arange(1, n + 1) - n - 1) @ counts / (n * counts.sum())


@settings(parent=FUZZ, max_examples=40)
@given(
    m=st.integers(1, 40),
    n=st.integers(1, 60),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
    k=st.integers(0, 3),
)
def test_synthetic_ratings_have_the_asked_size(m, n, share, seed, k):
    size = max(m, n) + int(share * (m * n - max(m, n)))
    ratings = synthetic_ratings(m, n, size, seed, rank=k)
    assert (len(ratings), ratings.shape) == (size, (m, n))
    assert ratings.user_counts.min() >= 1 and ratings.item_counts.min() >= 1
    assert (
        ratings.by_user.nnz
        == len(np.unique(ratings.user_codes.astype(np.int64) * n + ratings.item_codes))
        == size
    )
    assert set(np.unique(ratings.values * 2)) <= set(range(1, 11))


def test_synthetic_ratings_depend_on_the_seed_alone():
    one, same, other = (synthetic_ratings(50, 80, 1500, seed).to_frame() for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, same)
    assert not one.equals(other)


@pytest.mark.parametrize("seed", [0, 1])
def test_synthetic_activity_and_popularity_are_like_movielens(seed):
    real = load_movielens()
    made = synthetic_ratings(real.n_users, real.n_items, len(real), seed)
    for side in ("user_counts", "item_counts"):
        counts, wanted = getattr(made, side), getattr(real, side)
        assert abs(gini(counts) - gini(wanted)) < 0.02
        at = [0.25, 0.5, 0.75, 0.9, 0.99]
        np.testing.assert_allclose(np.quantile(counts, at), np.quantile(wanted, at), rtol=0.16)
    assert made.user_counts.min() >= 20
    assert abs(made.values.mean() - real.values.mean()) < 0.1
    assert abs(made.values.std() - real.values.std()) < 0.1
    assert real.timestamps.min() < made.timestamps.max() <= real.timestamps.max()


def test_synthetic_noise_and_rank_are_what_they_say():
    """Without noise and rank the table is additive up to rounding; rank adds the stated variance."""
    plain = synthetic_ratings(200, 200, 200 * 200, 3, rank=0, noise=0)
    ranked = synthetic_ratings(200, 200, 200 * 200, 3, rank=4, noise=0)
    noisy = synthetic_ratings(200, 200, 200 * 200, 3, rank=0, noise=0.3)

    def residual(ratings):
        table = ratings.by_user.toarray().astype(float)
        inner = np.abs(table - 2.75) < 1.5  # away from the clipped ends
        table = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
        return table[inner].var()

    rounding = residual(plain)
    assert rounding < 0.05
    assert abs(residual(ranked) - rounding - 0.35**2) < 0.04
    assert abs(residual(noisy) - rounding - 0.3**2) < 0.02


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5, 5), "n_users: got 0"),
        ((5, 2.5, 5), "n_items: got 2.5"),
        ((5, 5, 4), "n_ratings: got 4; expected from 5"),
        ((5, 5, 26), "n_ratings: got 26; expected from 5 .* to 25"),
        ((5, 5, 9, -1), "seed: got -1"),
    ],
)
def test_synthetic_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        synthetic_ratings(*arguments)
    for option in ({"rank": -1}, {"noise": -1.0}, {"noise": np.nan}, {"popularity_spread": np.inf}):
        with pytest.raises(ValueError, match=f"{next(iter(option))}: got"):
            synthetic_ratings(5, 5, 9, **option)
