"""Ratings from files of one's own, in every form that people have them."""

import bz2
import gzip
import lzma
import zipfile

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_helpers import Ratings, load_ratings, open_ratings

ROWS = [("ann", "B00X", 4.5, 100), ("bob", "0123", 3.0, 200), ("ann", "123", 1.0, 300)]
HEADER = ("user_id", "item_id", "rating", "timestamp")
TABLE = pd.DataFrame(ROWS, columns=HEADER)


def text(rows=ROWS, header=HEADER, sep=",", eol="\n"):
    lines = ([header] if header else []) + list(rows)
    return eol.join(sep.join(map(str, line)) for line in lines) + eol


def written(tmp_path, content, name="own.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def same(ratings, table=TABLE):
    pd.testing.assert_frame_equal(
        ratings.to_frame().set_axis(table.columns, axis=1),
        table.astype({"rating": np.float32}), check_dtype=False,
    )  # fmt: skip


# ---- forms of text ----------------------------------------------------------------------


@pytest.mark.parametrize("sep", [",", ";", "\t", "|", "::"])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("eol", ["\n", "\r\n"])
def test_separators_headers_and_ends_of_lines(tmp_path, sep, header, eol):
    ratings = load_ratings(written(tmp_path, text(header=HEADER if header else None, sep=sep, eol=eol)))
    same(ratings)
    notes = "; ".join(ratings.notes)
    assert ("no header: columns taken as user, item, rating, timestamp" in notes) == (not header)
    assert (ratings.user_name == "user_id") == header


def test_quotes_marks_and_encodings(tmp_path):
    rows = [('"Zoë, the 1st"', "Ångström", 4.5), ('"say ""hi"""', "x", 3.0)]
    content = text(rows, HEADER[:3])
    for encoding in ("utf-8-sig", "utf-16", "latin-1", "utf-8"):
        ratings = load_ratings(written(tmp_path, content.encode(encoding)))
        assert ratings.user_ids.tolist() == ["Zoë, the 1st", 'say "hi"']
        assert ratings.item_ids.tolist() == ["x", "Ångström"]


def test_an_encoding_that_shows_late_in_the_file(tmp_path):
    rows = [(f"user{n}", f"item{n % 50}", n % 5 + 1) for n in range(9000)] + [("Zoë", "x", 3)]
    ratings = load_ratings(written(tmp_path, text(rows, HEADER[:3]).encode("latin-1")))
    assert "Zoë" in ratings.user_ids and len(ratings) == 9001


def test_decimal_commas(tmp_path):
    rows = [("ann", "x", "4,5"), ("bob", "y", "3,0"), ("bob", "x", "2")]
    ratings = load_ratings(written(tmp_path, text(rows, HEADER[:3], sep=";")))
    assert ratings.values.tolist() == [4.5, 3, 2] and "decimal comma" in ratings.notes


def test_packed_files(tmp_path):
    raw = text().encode()
    for suffix, pack in ((".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)):
        same(load_ratings(written(tmp_path, pack(raw), f"own.csv{suffix}")))
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        archive.writestr("deep/own.csv", raw)
    same(load_ratings(tmp_path / "own.zip"))
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", raw)
        archive.writestr("b.csv", raw)
    with pytest.raises(ValueError, match="two.zip: .*holds 2 files"):
        load_ratings(tmp_path / "two.zip")
    with pytest.raises(ValueError, match="cannot be unpacked"):
        load_ratings(written(tmp_path, b"no gzip", "bad.csv.gz"))


def test_parquet_and_arrow(tmp_path):
    frame = pl.from_pandas(TABLE)
    frame.write_parquet(tmp_path / "own.parquet")
    frame.write_ipc(tmp_path / "own.feather")
    same(load_ratings(tmp_path / "own.parquet"))
    same(load_ratings(tmp_path / "own.feather"))
    with pytest.raises(ValueError, match="no such file, or a damaged one"):
        load_ratings(written(tmp_path, b"nonsense", "bad.parquet"))


# ---- ids and times ----------------------------------------------------------------------


def test_numbers_stay_numbers_and_zeros_in_front_make_text(tmp_path):
    numbers = load_ratings(written(tmp_path, text([(1, 10, 3), (2, 7, 4)], HEADER[:3])))
    assert numbers.user_ids.tolist() == [1, 2] and numbers.item_ids.tolist() == [7, 10]
    zeros = load_ratings(written(tmp_path, text([(1, "0123", 3), (2, "123", 4)], HEADER[:3])))
    assert zeros.user_ids.tolist() == [1, 2] and zeros.item_ids.tolist() == ["0123", "123"]
    # A zero in another column is no reason.
    other = load_ratings(written(tmp_path, text([(1, 10, 3, "2020-01-02", "01")], (*HEADER, "zip"))))
    assert other.user_ids.tolist() == [1] and other.timestamps.tolist() == [1577923200]
    late = [(n, n, 3) for n in range(1, 5000)] + [(5000, "007", 3)]
    assert "007" in load_ratings(written(tmp_path, text(late, HEADER[:3]))).item_ids
    mixed = [(n, n, 3) for n in range(1, 5000)] + [(5000, "B00X", 3)]
    assert "B00X" in load_ratings(written(tmp_path, text(mixed, HEADER[:3]))).item_ids


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.text("abcé0123456789 -._,;\"'", min_size=1).filter(lambda s: s.strip()),
            st.integers(-(10**17), 10**17),
            st.sampled_from([0.5, 1.0, 2.5, 5.0]),
        ),
        min_size=2, max_size=20, unique_by=lambda row: row[:2],
    )
)  # fmt: skip
def test_what_pandas_writes_comes_back(rows, tmp_path_factory):
    table = pd.DataFrame(rows, columns=HEADER[:3])
    path = tmp_path_factory.mktemp("own") / "own.csv"
    table.to_csv(path, index=False)
    ratings = load_ratings(path, scale=(0, 5), user="user_id", item="item_id")
    back = ratings.to_frame()
    assert back["user_id"].astype(str).tolist() == table["user_id"].tolist()
    assert back["item_id"].tolist() == table["item_id"].tolist()


@pytest.mark.parametrize("largest", [2**62, 2**63 - 1, 2**63, 2**64 - 1])
def test_whole_numbers_of_64_bits_stay_numbers(largest, tmp_path):
    rows = [(largest, 5, 4.0, 1), (largest - 1, 6, 3.0, 2), (7, 5, 2.0, 3)]
    ids = load_ratings(written(tmp_path, text(rows))).user_ids
    assert ids.tolist() == [7, largest - 1, largest] and ids.dtype.kind in "iu"


def test_empty_lines_are_passed_over(tmp_path):
    same(load_ratings(written(tmp_path, text() + "\n")))
    same(load_ratings(written(tmp_path, text().replace("\nbob", "\n\nbob"))))


def test_columns_of_other_names_and_none_of_ratings(tmp_path):
    path = written(tmp_path, "who,what,when\nann,x,2020-01-01\nbob,y,2020-01-02T00:00:01Z\n")
    ratings = load_ratings(path, user="who", item="what", timestamp="when")
    assert ratings.timestamps.tolist() == [1577836800, 1577923201]
    assert ratings.values.tolist() == [1, 1] and ratings.item_name == "what"


# ---- errors -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "own.csv: is empty"),
        ("user_id,item_id,rating\n", "has a first line only"),
        ("hello world\nmore words\n", "line 1: got 'hello world'; expected fields with a comma"),
        (b"\x00\x01\x02" * 50, "is no text"),
        ("user_id,item_id,rating\na,x,3\na,y,good\n", "own.csv: column rating, line 3: got 'good'"),
        ("user_id,item_id,rating\na,x,3\n,y,4\n", "column user_id, line 3: got None; expected an id"),
        ("user_id,item_id,rating\na,x,3\nb,y,4,9\n", "line 3: got 4 fields in 'b,y,4,9'; expected 3"),
        ("user_id,item_id,rating\na,x,3\na,x,4\n", r"1 repeated .* in lines 2 and 3; pass duplicates="),
        ("user_id,user_id,rating\na,x,3\n", "column user_id is there 2 times"),
        ("user_id,colour,rating\na,x,3\n", r"missing column\(s\) \['item'\]"),
        ("user_id,item_id,rating,timestamp\na,x,3,soon\n", "column timestamp, line 2: got 'soon'"),
    ],
)
def test_errors_name_file_line_column_and_remedy(tmp_path, content, words):
    with pytest.raises(ValueError, match=words):
        load_ratings(written(tmp_path, content))


MORE = "user_id,item_id,rating,comment\n"
LESS = "user_id,item_id,rating\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        # Values may have moved to other columns, whether or not the last one is needed.
        (MORE + "a,x,3,hi\nb,y,4,ho,9\n", "line 3: got 5 fields in 'b,y,4,ho,9'; expected 4"),
        (MORE + "1,1,3,hi\n2,2,4,ho,9\n", "line 3: got 5 fields in '2,2,4,ho,9'; expected 4"),
        ("a,x,3,1,,\nb,y,4,2,,,\nc,z,5,3,,\n", "line 2: got 7 fields"),
        ("a,x,3\nb,y,3,4\nc,z,3,4\n", "line 1: got 3 fields in 'a,x,3'; expected 4"),
        (LESS + "a,x,3\nb,y\nc,z,4\n", "line 3: got 2 fields in 'b,y'; expected 3; mend or remove"),
        (LESS + "a,x,3\nb\nc,z,bad\n", "line 3: got 1 field in 'b'; expected 3"),
        (LESS + "1,1,3\n2,2\n3,3,4\n", "line 3: got 2 fields in '2,2'; expected 3"),
        ("a::x::3::1\nb::y::4\nc::z::3::4\n", "line 2: got 3 fields in 'b::y::4'; expected 4"),
        (LESS + 'a,x,3\n"b,y,4\nc,z,5\n', "line 3: got 1 field .*a quote may not be closed"),
        # Lines are counted as an editor does.
        (MORE + 'a,x,3,"hi\nthere"\nb,y,bad,ho\n', "column rating, line 4: got 'bad'"),
        (LESS + '"a\nb",x,3\nb,y,bad\n', "column rating, line 4: got 'bad'"),
        (LESS + "a,x,3\n\n\nb,y,bad\n", "column rating, line 5: got 'bad'"),
        (LESS + "1,1,3\n\n\n2,2,bad\n", "column rating, line 5: got 'bad'"),
        (LESS + "a,x,3\n\n\na,x,4\n", "in lines 2 and 5"),
        (LESS + "a,x,3\n\n,y,4\n", "column user_id, line 4: got None"),
        ("\n\n" + LESS + "a,x,3\nb,y,bad\n", "column rating, line 5: got 'bad'"),
        ("\ufeff\r\n" + LESS + "a,x,3\r\n\r\nb,y,bad\r\n", "column rating, line 5: got 'bad'"),
        (LESS + '"","",""\na,x,3\nb,y,bad\n', "column rating, line 4: got 'bad'"),
        (LESS.replace("\n", "\r") + "a,x,3\r\rb,y,bad\r", "column rating, line 4: got 'bad'"),
        (MORE + "a,x,3,hi\n,,,ho\n", "column rating, line 3: got None"),
        (
            "user_id,item_id,timestamp\na,x,1\nb,y,2\nc,z,soon\n",
            "column timestamp, line 4: got 'soon'; expected seconds",
        ),
    ],
)
def test_errors_name_the_line_that_is_at_fault(tmp_path, content, words):
    with pytest.raises(ValueError, match=words):
        load_ratings(written(tmp_path, content))


def test_lines_that_end_in_a_carriage_return(tmp_path):
    for sep in (",", "\t", "::"):
        same(load_ratings(written(tmp_path, text(sep=sep, eol="\r"))))
    same(load_ratings(written(tmp_path, text(header=None, eol="\r"))))
    same(load_ratings(written(tmp_path, text().replace("\nbob", "\rbob"))))
    rows = [('"a, b"', "x", 3), ("c", "y", 4)]
    assert "a, b" in load_ratings(written(tmp_path, text(rows, HEADER[:3], eol="\r"))).user_ids
    # Where lines end otherwise, it is text like any other.
    inside = load_ratings(written(tmp_path, text([('"a\rb"', "x", 3), ("c", "y", 4)], HEADER[:3])))
    assert inside.user_ids.tolist() == ["a\rb", "c"]


def test_line_ends_in_quotes_do_not_make_numbers_text(tmp_path):
    rows = [(1, '"good\nbook"', 5, 3), (2, '"dull"', 7, 4)]
    ratings = load_ratings(written(tmp_path, text(rows, ("user_id", "comment", "item_id", "rating"))))
    assert ratings.user_ids.tolist() == [1, 2] and ratings.item_ids.tolist() == [5, 7]
    odd = load_ratings(written(tmp_path, text([("a\u2028b", "x", 3), ("c", "y", 4)], HEADER[:3])))
    assert "a\u2028b" in odd.user_ids


def test_a_quote_inside_a_field_is_text(tmp_path):
    rows = [('7" single', "x", 3), ("c", "y", 4)]
    assert '7" single' in load_ratings(written(tmp_path, text(rows, HEADER[:3], sep="\t"))).user_ids


def test_a_line_that_lacks_only_what_is_not_needed_is_read(tmp_path):
    ratings = load_ratings(written(tmp_path, MORE + "a,x,3,hi\nb,y,4\n"))
    assert ratings.values.tolist() == [3, 4]


def test_a_sound_file_is_read_once(tmp_path, monkeypatch):
    """The slow look, and the second reading for zeros in front, are for files that need them."""
    rows = [(n % 977, n, "0.5", "2020-01-02") for n in range(100_000)]
    path = written(tmp_path, text(rows))
    assert path.stat().st_size > 2 << 20
    read = []
    whole = pl.scan_csv
    monkeypatch.setattr(pl, "scan_csv", lambda *given, **named: read.append(given) or whole(*given, **named))
    monkeypatch.setattr("recsys_helpers.data.lines.records", None)
    assert len(load_ratings(path)) == 100_000 and len(read) == 1


@pytest.mark.parametrize("id_", ["007", "-07", '"007"'])
def test_zeros_in_front_are_found_wherever_they_are(tmp_path, id_):
    """Bytes are looked at in blocks of 2**18."""
    for at in range((1 << 18) - 5, (1 << 18) + 3):
        lines = "user_id,item_id,rating\n" + "".join(f"{n},9,3\n" for n in range(10, 40_000))
        lines = lines[: lines.rfind("\n", 0, at - 30) + 1]
        lines += f"{'8' * 9},{'9' * (at - len(lines) - 13)},3\n"
        assert len(lines) == at
        ratings = load_ratings(written(tmp_path, lines + f"{id_},7,3\n"))
        assert id_.strip('"') in ratings.user_ids


def test_files_that_are_not_there(tmp_path):
    written(tmp_path, text())
    with pytest.raises(FileNotFoundError, match="no such file; did you mean 'own.csv'"):
        load_ratings(tmp_path / "own.cvs")
    with pytest.raises(ValueError, match="is a folder; expected a file: one of own.csv"):
        load_ratings(tmp_path)
    with pytest.raises(ValueError, match="layout: got 'netflx'; .*did you mean 'netflix'"):
        load_ratings(tmp_path / "own.csv", layout="netflx")


# ---- whatever names ratings -------------------------------------------------------------


def test_open_ratings_takes_names_folders_and_files(tmp_path):
    assert open_ratings("latest-small").name == "ml-latest-small"
    same(open_ratings(written(tmp_path, text())))
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    (folder / "ratings.dat").write_text("1::10::5::978300760\n2::10::3::978302109\n")
    (folder / "movies.dat").write_text("10::A (1995)::Comedy\n")
    (folder / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n")
    ratings = open_ratings(folder)
    assert len(ratings) == 2 and ratings.titles(10).tolist() == ["A (1995)"] and ratings.scale == (1, 5)
    alone = open_ratings(folder / "ratings.dat")
    assert alone.to_frame().to_numpy().tolist() == ratings.to_frame().to_numpy().tolist()
    assert isinstance(alone, Ratings)
    with pytest.raises(FileNotFoundError):
        open_ratings("no-such-edition")
