"""Tables of any kind, ids of any kind, times of any unit, scales of any range."""

import datetime
import pickle
import uuid

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_helpers import BiasModel, Ratings
from recsys_helpers.data import intake

BASE = pd.DataFrame({"userId": [3, 1, 3, 2], "movieId": [10, 20, 20, 10], "rating": [4.0, 3.0, 5.0, 1.0]})


def with_ids(users, items=None):
    items = BASE["movieId"].tolist() if items is None else items
    return pd.DataFrame({"userId": users, "movieId": items, "rating": BASE["rating"]})


# ---- columns ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("userId", "movieId", "rating", "timestamp"),
        ("user_id", "item_id", "rating", "timestamp"),
        ("UserId", "ItemId", "Rating", "Timestamp"),
        ("User-ID", "ISBN", "Book-Rating", "date"),
        ("reviewerID", "asin", "overall", "unixReviewTime"),
        ("customer_id", "product_id", "stars", "created_at"),
        ("uid", "iid", "score", "ts"),
    ],
)
def test_usual_names_are_found_and_come_back(names):
    table = BASE.assign(timestamp=[5, 6, 7, 8])
    table.columns = names
    ratings = Ratings.from_frame(table)
    assert (ratings.user_name, ratings.item_name) == names[:2]
    assert ratings.timestamps.tolist() == [5, 6, 7, 8]
    assert ratings.to_frame()[names[0]].tolist() == [3, 1, 3, 2]
    notes = "; ".join(ratings.notes)
    assert all(name in notes for name, usual in zip(names, BASE.columns, strict=False) if name != usual)
    assert BiasModel().fit(ratings).recommend(1)[names[1]].tolist() == [10]


def test_columns_can_be_named():
    table = BASE.set_axis(["who", "what", "how_much"], axis=1)
    ratings = Ratings.from_frame(table, user="who", item="what", rating="how_much")
    assert ratings.to_frame().columns.tolist() == ["who", "what", "rating"]
    with pytest.raises(ValueError, match="user: got 'wo', no column of .*; did you mean 'who'"):
        Ratings.from_frame(table, user="wo", item="what")
    with pytest.raises(ValueError, match="column what was named for two roles"):
        Ratings.from_frame(table, user="what", item="what")


def test_two_likely_columns_are_refused_and_one_named_twice_too():
    with pytest.raises(ValueError, match=r"columns \['userId', 'uid'\] could both hold the users; name"):
        Ratings.from_frame(BASE.assign(uid=1))
    assert len(Ratings.from_frame(BASE.assign(uid=1), user="userId")) == 4
    table = BASE.assign(date=5, time=6)
    with pytest.raises(ValueError, match="could both hold the timestamps; .*, or none .*: timestamp=False"):
        Ratings.from_frame(table)
    assert Ratings.from_frame(table, timestamp=False).timestamps is None
    assert Ratings.from_frame(table, timestamp="date").timestamps.tolist() == [5] * 4
    with pytest.raises(ValueError, match="column userId is there 2 times"):
        Ratings.from_frame(pd.concat([BASE, BASE[["userId"]]], axis=1))


def test_a_table_without_ratings_counts_pairs():
    for ratings in (Ratings.from_frame(BASE[["userId", "movieId"]]), Ratings.from_frame(BASE, implicit=True)):
        assert ratings.values.tolist() == [1, 1, 1, 1] and ratings.scale == (0, 1)
        assert "every pair counts 1" in ratings.summary()["found"]
        liked = BiasModel().fit(ratings).fold_in(pd.DataFrame({"movieId": [10]}))
        assert liked.ratings.tolist() == [1]


def test_ratings_of_an_unusual_name_do_not_go_unnoticed():
    table = BASE.rename(columns={"rating": "Bewertung"})
    for frame in (table, pl.from_pandas(table)):
        with pytest.raises(ValueError, match="is it Bewertung. Pass rating='Bewertung', or implicit"):
            Ratings.from_frame(frame)
        assert Ratings.from_frame(frame, implicit=True).values.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("bad", ["x", 3, {"userId": [1]}, [[1, 2, 3]], np.zeros((2, 3))])
def test_what_is_no_table_is_named(bad):
    with pytest.raises(TypeError, match=f"got {type(bad).__name__}; expected a Ratings or a table"):
        Ratings.from_frame(bad)


def test_polars_and_arrow_tables_give_what_pandas_gives():
    expected = Ratings.from_frame(BASE)
    tables = [pl.from_pandas(BASE), pl.from_pandas(BASE).lazy(), BASE.convert_dtypes()]
    pyarrow = pytest.importorskip("pyarrow")
    tables.append(pyarrow.Table.from_pandas(BASE))
    tables.append(BASE.astype({"userId": "int64[pyarrow]", "rating": "double[pyarrow]"}))
    for table in tables:
        pd.testing.assert_frame_equal(Ratings.from_frame(table).to_frame(), expected.to_frame())
        if not isinstance(table, pl.LazyFrame):
            np.testing.assert_array_equal(
                BiasModel().fit(table).predict(table), BiasModel().fit(expected).predict(expected)
            )


# ---- ids --------------------------------------------------------------------------------

MARKS = [uuid.UUID(int=5), uuid.UUID(int=2), uuid.UUID(int=9)]


@pytest.mark.parametrize(
    ("users", "same"),
    [
        (["b", "a", "b", "c"], ["b", "a", "b", "c"]),
        (["0123", "123", "0123", "1e2"], ["0123", "123", "0123", "1e2"]),
        (pd.Categorical(["b", "a", "b", "c"], categories=["z", "c", "b", "a"]), ["b", "a", "b", "c"]),
        ([MARKS[0], MARKS[1], MARKS[0], MARKS[2]], [MARKS[0], MARKS[1], MARKS[0], MARKS[2]]),
        (np.array([2**63, 1, 2**63, 7], np.uint64), [2**63, 1, 2**63, 7]),
        (np.array([2**60 + 1, 2**60, 2**60 + 1, -5]), [2**60 + 1, 2**60, 2**60 + 1, -5]),
        ([3.0, 1.0, 3.0, 2.0], [3, 1, 3, 2]),
        (np.array([3, 1, 3, 2], np.int8), [3, 1, 3, 2]),
        (pd.array([3, 1, 3, 2], dtype="Int64"), [3, 1, 3, 2]),
        ([np.int64(3), 1, 3, 2**62], [3, 1, 3, 2**62]),
        (pd.Categorical([3, 1, 3, 2]), [3, 1, 3, 2]),
        (pd.array(["b", "a", "b", "c"], dtype="string"), ["b", "a", "b", "c"]),
        (pd.array(["b", "a", "b", "c"], dtype=object), ["b", "a", "b", "c"]),
        (np.array(["b", "a", "b", "c"], dtype=np.dtypes.StringDType()), ["b", "a", "b", "c"]),
        (pd.arrays.SparseArray([3, 0, 3, 2]), [3, 0, 3, 2]),
    ],
)
def test_ids_come_back_as_they_went_in_everywhere(users, same):
    ratings = Ratings.from_frame(with_ids(users))
    assert ratings.to_frame()["userId"].tolist() == same
    assert sorted(set(same)) == ratings.user_ids.tolist()
    assert ratings.encode_users(users).tolist() == ratings.user_codes.tolist()
    model = BiasModel().fit(ratings)
    np.testing.assert_array_equal(model.predict(with_ids(users)), model.predict(ratings))
    for user in same:
        assert len(model.recommend(user, 5)) == 2 - same.count(user)
    assert model.recommend(same[:2], 1)["userId"].tolist() == same[1:2]
    copy = pickle.loads(pickle.dumps(ratings))
    assert copy.user_ids.tolist() == ratings.user_ids.tolist()


def test_text_and_numbers_never_meet():
    numbers = Ratings.from_frame(BASE)
    text = Ratings.from_frame(BASE.astype({"userId": str}))
    with pytest.raises(ValueError, match="userId: got text ids such as '3'; those of .* are number ids"):
        numbers.encode_users("3")
    with pytest.raises(ValueError, match="got number ids such as 3; those of the training data are text"):
        text.encode_users(3)
    with pytest.raises(ValueError, match="got text ids"):
        BiasModel().fit(numbers).predict(text)


@pytest.mark.parametrize(
    ("users", "words"),
    [
        ([1, None, 2, 3], "column userId, row 1: got nan; expected an id"),
        (["a", None, "b", "c"], "column userId, row 1: got None; expected an id"),
        (["a", "b", " ", "c"], "row 2: got ' '; expected an id that is not blank"),
        (["a", 1, "b", "c"], "got 'a' in row 0 and 1 in row 1: two kinds in one column"),
        ([1.5, 2, 3, 4], "row 0: got 1.5; expected a whole number"),
        ([2.0**60, 2, 3, 4], "exact up to 2"),
        ([True, False, True, True], "got True and False"),
        ([1, True, 2, 3], "got 1 in row 0 and True in row 1: two kinds"),
        (pd.to_timedelta([1, 2, 3, 4], unit="s"), "got durations"),
        ([b"a", b"b", b"a", b"c"], "got bytes values"),
        (pd.to_datetime(["2020-01-01"] * 4), "got dates"),
        ([datetime.date(2020, 1, 1)] * 4, "got date values"),
        ([2**64, 1, 2, 3], "expected 64 bits"),
        ([(1, 2), (3, 4), (5, 6), (7, 8)], "got tuple values"),
        (pd.array([1, None, 2, 3], dtype="Int64"), "row 1: got None; expected an id"),
        (pd.Categorical(["a", None, "b", "c"]), "row 1: got None; expected an id"),
    ],
)
def test_bad_ids_name_the_row(users, words):
    with pytest.raises(ValueError, match=words):
        Ratings.from_frame(with_ids(users))


@pytest.mark.parametrize("one", ["a", np.str_("a"), np.array("a")])
def test_one_id_and_ids_of_any_collection(one):
    ratings = Ratings.from_frame(with_ids(["b", "a", "b", "c"]))
    assert ratings.encode_users(one).tolist() == [0]
    two = ["c", "z"]
    some = [tuple(two), dict.fromkeys(two).keys(), pd.Series(two), iter(two), pl.Series(two)]
    for users in some:
        assert ratings.encode_users(users).tolist() == [2, -1]
    assert ratings.encode_users([]).tolist() == []


@pytest.mark.parametrize("shift", [0, 7, 2**40, 2**63])
@settings(max_examples=30, deadline=None)
@given(ids=st.lists(st.integers(0, 50), min_size=1, max_size=40), dtype=st.sampled_from("bBhHiIlL"))
def test_the_same_ids_in_another_type_give_the_same_codes(shift, ids, dtype):
    shifted = np.array(ids, dtype=np.uint64) + np.uint64(shift)
    known, codes = intake.encode_ids(shifted, "ids")
    expected = sorted(set(ids))
    assert known.tolist() == [x + shift for x in expected]
    assert codes.tolist() == [expected.index(x) for x in ids]
    if shift == 0:
        other = np.array(ids).astype(dtype)
        assert intake.encode_ids(other, "ids")[1].tolist() == codes.tolist()
        assert intake.lookup(known, other, "ids").tolist() == codes.tolist()


def test_small_types_at_their_edges():
    known, codes = intake.encode_ids(np.array([-128, 127, 0], dtype=np.int8), "ids")
    assert known.tolist() == [-128, 0, 127] and codes.tolist() == [0, 2, 1]


@pytest.mark.parametrize("make", [lambda x: x, pd.Series, pl.Series, lambda x: np.array(x, dtype=object)])
def test_text_in_any_column_is_sorted_and_found(make):
    texts = ["b", "é", "a", "b", "Z", "zz"]
    known, codes = intake.encode_ids(make(texts), "ids")
    assert known.tolist() == sorted(set(texts))
    assert known[codes].tolist() == texts
    assert intake.lookup(known, make(["zz", "A", "b"]), "ids").tolist() == [3, -1, 2]


def test_missing_text_of_polars_names_the_row():
    table = pl.DataFrame({"userId": ["a", None], "movieId": ["x", "y"], "rating": [1.0, 2.0]})
    with pytest.raises(ValueError, match="column userId, row 1: got None; expected an id"):
        Ratings.from_frame(table)


@settings(max_examples=60, deadline=None)
@given(
    pairs=st.lists(
        st.tuples(st.text(min_size=1).filter(str.strip), st.integers(-(2**63), 2**63 - 1)),
        min_size=1, unique=True, max_size=30,
    ),
    order=st.randoms(use_true_random=False),
)  # fmt: skip
def test_any_text_and_any_number_round_trips_in_any_order(pairs, order):
    users, items = zip(*pairs, strict=True)
    table = pd.DataFrame({"userId": pd.Series(users, dtype=object), "movieId": items, "rating": 3.0})
    ratings = Ratings.from_frame(table, scale=(1, 5))
    assert ratings.to_frame()["userId"].tolist() == list(users)
    assert ratings.to_frame()["movieId"].tolist() == list(items)
    shuffled = list(range(len(pairs)))
    order.shuffle(shuffled)
    other = Ratings.from_frame(table.iloc[shuffled], scale=(1, 5))
    assert other.user_ids.tolist() == ratings.user_ids.tolist()
    assert other.user_codes.tolist() == ratings.user_codes[shuffled].tolist()
    if all("\0" not in user for user in users):
        polars = pl.DataFrame({"userId": list(users), "movieId": list(items), "rating": [3.0] * len(users)})
        assert Ratings.from_frame(polars, scale=(1, 5)).to_frame().equals(ratings.to_frame())


@settings(max_examples=60, deadline=None)
@given(known=st.sets(st.integers(0, 2**64 - 1), min_size=1), asked=st.lists(st.integers(-5, 2**64 - 1)))
def test_large_numbers_are_compared_exactly(known, asked):
    ids, _ = intake.encode_ids(np.array(sorted(known), dtype=np.uint64), "ids")
    asked = [x for x in asked if x >= 0] if any(x >= 2**63 for x in asked) else asked
    expected = [sorted(known).index(x) if x in known else -1 for x in asked]
    assert intake.lookup(ids, asked, "ids").tolist() == expected


def test_arrow_columns_of_every_kind():
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table(
        {
            "user_id": pyarrow.array(["b", "a", "b"]).dictionary_encode(),
            "asin": ["x", "y", "z"],
            "overall": [1.0, 2.0, 5.0],
            "date": pyarrow.array([0, 1000, 2000], pyarrow.timestamp("ms", tz="Asia/Tokyo")),
        }
    )
    for frame in (table, table.to_batches()[0]):
        ratings = Ratings.from_frame(frame)
        rows = ratings.to_frame().to_numpy().tolist()
        assert rows == [["b", "x", 1, 0], ["a", "y", 2, 1], ["b", "z", 5, 2]]
    twice = pyarrow.Table.from_arrays([table["asin"]] * 2 + [table["overall"]], ["asin", "asin", "rating"])
    with pytest.raises(ValueError, match="column asin is there 2 times"):
        Ratings.from_frame(twice, user="rating")
    assert Ratings.from_frame(table).encode_items(pyarrow.array(["z", "?"])).tolist() == [2, -1]
    with pytest.raises(ValueError, match="column user_id: got datetime values; expected ids"):
        Ratings.from_frame(table.drop_columns("user_id").rename_columns(["asin", "overall", "user_id"]))


# ---- times ------------------------------------------------------------------------------

SECONDS = [1_000_000_000, 1_000_000_060]
MOMENTS = pd.to_datetime(SECONDS, unit="s")


@pytest.mark.parametrize(
    "times",
    [
        SECONDS,
        [float(x) for x in SECONDS],
        *(MOMENTS.astype(f"datetime64[{unit}]") for unit in ("s", "ms", "us", "ns")),
        MOMENTS.tz_localize("UTC").tz_convert("America/New_York"),
        MOMENTS.to_pydatetime().tolist(),
        [x.isoformat() for x in MOMENTS],
        [x.isoformat() + "Z" for x in MOMENTS],
        ["2001-09-09T03:46:40+02:00", "2001-09-09 03:47:40+02:00"],
        [str(x) for x in SECONDS],
        pd.Series(MOMENTS).astype("timestamp[us][pyarrow]"),
        pd.Series(MOMENTS.tz_localize("UTC")).astype("timestamp[ms, tz=Asia/Tokyo][pyarrow]"),
        pl.Series(MOMENTS.to_pydatetime().tolist()),
        pl.Series([x * 1000 for x in SECONDS]).cast(pl.Datetime("ms")),
        pl.Series([x * 10**9 for x in SECONDS]).cast(pl.Datetime("ns", "Asia/Tokyo")),
    ],
    ids=str,
)
def test_a_second_is_a_second(times):
    assert intake.read_times(times, "timestamp").tolist() == SECONDS


def test_times_before_1970():
    assert intake.read_times(["1969-12-31T23:59:59.5"], "timestamp").tolist() == [-1]
    assert intake.read_times([-1.5, 3], "timestamp").tolist() == [-2, 3]


def test_days():
    day = [datetime.date(1970, 1, 2)]
    numpy = np.array(day, "datetime64[D]")
    for times in (day, pl.Series(day), ["1970-01-02"], ["19700102"], numpy):
        assert intake.read_times(times, "timestamp").tolist() == [86_400]


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([1e12], 'milliseconds, convert the column first: .*unit="ms"'),
        ([10**15], "microseconds"),
        ([10**18], "nanoseconds"),
        ([1.0, np.nan], "row 1: got nan; expected a time"),
        (pd.to_datetime(["2020-01-01", None]), "row 1: got .*; expected a time"),
        (["2020-01-01", "soon"], "row 1: got 'soon'; expected ISO text"),
        (["2020-01-01", None], "row 1: got None; expected a time"),
        ([object()], "expected seconds, a date or ISO text"),
        ([20050906, 20051231], "days written as YYYYMMDD"),
        (np.array(["2020-01-01", "9999-01-01"], "datetime64[s]"), "row 1: .* before the year 5138"),
        (pl.Series([datetime.timedelta(1)]), "got Duration.* expected seconds, dates or ISO text"),
        (pd.to_timedelta([1], unit="s"), "got timedelta64"),
        ([True], "got bool values"),
    ],
)
def test_bad_times(times, words):
    with pytest.raises(ValueError, match=words):
        intake.read_times(times, "timestamp")


# ---- ratings and scales -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0.5, 3.0, 5.0], (0.5, 5)),
        ([1.5, 3.0], (0.5, 5)),
        ([1, 2, 5], (1, 5)),
        ([0, 3, 5], (0, 5)),
        ([1, 7, 10], (1, 10)),
        ([0, 7, 10], (0, 10)),
        ([3.25, 9.5], (1, 10)),
        ([-9.5, 3.2, 8], (-10, 10)),
        ([-1, 1], (-1, 1)),
        ([0, 1], (0, 1)),
        ([1, 1], (0, 1)),
        ([True, False], (0, 1)),
        ([0.25, 0.5], (0, 1)),
        ([55, 80, 100], (0, 100)),
        ([1, 2, 1, 3, 57], (1, 57)),
        ([1, 2, 900], (1, 900)),
        ([12.5, 1.5, 80.25, 3.0], (0, 100)),
        ([250, 250], (1, 250)),
        ([3] * 999_999 + [1.5] + [4] * 600_000, (0.5, 5)),
    ],
)
def test_the_scale_is_found_and_told(values, scale):
    table = pd.DataFrame({"userId": range(len(values)), "movieId": 1, "rating": values})
    ratings = Ratings.from_frame(table)
    assert ratings.scale == scale
    assert f"scale {scale[0]:g} to {scale[1]:g}, from the values" in ratings.notes
    given = Ratings.from_frame(table, scale=(-10, 1000))
    assert given.scale == (-10, 1000) and not given.notes


@pytest.mark.parametrize(
    ("rating", "words"),
    [
        (["good", "bad", "good", "bad"], "column rating, row 0: got 'good'; expected a finite number"),
        (pd.to_datetime(["2020-01-01"] * 4), "column rating: got dates"),
        ([1, np.inf, 2, 3], "row 1: got inf"),
        ([1, None, 2, 3], "row 1: got nan"),
        ([1, 1e39, 2, 3], "row 1: got 1e.39; expected a finite number"),
        ([-1, 7, 8, 9], 'got the rating -1 among others from 7 to 9; it may mean "not rated"'),
        ([1j, 2, 3, 4], "got complex numbers"),
    ],
)
def test_bad_ratings(rating, words):
    with pytest.raises(ValueError, match=words):
        Ratings.from_frame(BASE.assign(rating=rating))


# ---- what stands together ---------------------------------------------------------------


def test_codes_without_an_id_are_refused():
    for users, items in (([0, 1, 1], [0, 5_000_000, 1]), ([0, -1, 1], [0, 1, 1])):
        with pytest.raises(ValueError, match="expected 0 to 1, positions in the ids"):
            Ratings(users, items, [3, 4, 5], None, [1, 2], [1, 2])
    with pytest.raises(ValueError, match="equal lengths"):
        Ratings([0, 1], [0], [3, 4], None, [1, 2], [1, 2])
    with pytest.raises(ValueError, match="user_ids: expected ids that are sorted and unique"):
        Ratings([0], [0], [3], None, [2, 1], [1])


def test_subsets_of_nothing_and_of_another_length(toy):
    assert len(toy[[]]) == 0 and toy[[]].shape == toy.shape
    with pytest.raises(IndexError, match="a mask of 3; expected one of 12"):
        toy[np.ones(3, bool)]
    with pytest.raises(IndexError, match="float64"):
        toy[[0.5]]


def test_a_newcomer_in_every_form():
    ratings = Ratings.from_frame(BASE.astype({"movieId": str}))
    model = BiasModel().fit(ratings)
    expected = model.fold_in({"10": 4.0, "new": 1.0}).predict(["10", "20"])
    for told in (
        pd.DataFrame({"movieId": ["10", "new"], "rating": [4.0, 1.0]}),
        pl.DataFrame({"item_id": ["10", "new"], "stars": [4.0, 1.0]}),
    ):
        np.testing.assert_array_equal(model.fold_in(told).predict(["10", "20"]), expected)
    with pytest.raises(ValueError, match="got number ids such as 10"):
        model.fold_in({10: 4.0})
