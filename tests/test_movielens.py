"""MovieLens as it is published, and every way in which a copy can be wrong."""

import hashlib
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from movielens_files import CSV, EXPECTED, LAYOUTS, RATINGS_FILE, ZIP_FOLDER, rows, write_folder, write_zip

from recsys_helpers.data import DataError, cache, load_100k_folds, load_movielens, places, splits

pytestmark = pytest.mark.usefixtures("own_data_folder")
ROOT = Path(__file__).resolve().parents[1]

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
