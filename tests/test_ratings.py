"""Ratings: translation of ids, checks, duplicates, both orientations, slicing, immutability."""

import pickle

import numpy as np
import pandas as pd
import pytest
from conftest import make_ratings
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_helpers.data.ratings import Ratings

FUZZ = settings(max_examples=60, deadline=None, derandomize=True)
TRIPLES = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.integers(0, 10**12),
        st.integers(1, 10).map(lambda x: x / 2),
        st.integers(0, 99),
    ),
    min_size=1,
    max_size=40,
)


def frame(**columns):
    return pd.DataFrame({"userId": [1, 2], "movieId": [5, 5], "rating": [3.0, 4.0], **columns})


# ---- ids, codes, shape ----------------------------------------------------------


def test_toy_table_by_hand(toy):
    assert (len(toy), toy.shape, toy.n_users, toy.n_items) == (12, (4, 5), 4, 5)
    assert toy.density == 12 / 20
    assert toy.user_ids.tolist() == [10, 20, 30, 40]
    assert toy.user_codes.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert toy.item_codes[:6].tolist() == [0, 1, 3, 0, 2, 4]
    assert toy.user_counts.tolist() == [3, 3, 3, 3]
    assert toy.item_counts.tolist() == [3, 2, 1, 3, 3]
    assert repr(toy) == "<Ratings toy: 12 ratings, 4 users x 5 items, 60 % known>"


def test_types(toy):
    types = [a.dtype for a in (toy.user_codes, toy.item_codes, toy.values, toy.timestamps)]
    assert types == [np.int32, np.int32, np.float32, np.int64]


def test_encode_and_unknown_ids(toy):
    assert toy.encode_users([40, 11, 10]).tolist() == [3, -1, 0]
    assert toy.encode_items(6).tolist() == [-1]
    assert toy.encode_users([]).tolist() == []
    with pytest.raises(ValueError, match="userId, row 0: got 1.5; expected a whole number"):
        toy.encode_users([1.5])


def test_summary(toy):
    facts = toy.summary()
    assert facts["ratings"] == 12 and facts["known cells (%)"] == 60
    assert facts["mean rating"] == 42 / 12
    assert facts["median ratings per user"] == 3
    assert (facts["first day"], facts["last day"]) == ("1970-01-01", "1970-01-01")
    assert toy[:0].summary()["users with ratings"] == 0
    assert "first day" not in make_ratings([(1, 1, 3.0)]).summary()


@FUZZ
@given(TRIPLES)
def test_rows_come_back_in_order(triples):
    triples = list({row[:2]: row for row in triples}.values())
    ratings = make_ratings(triples)
    back = ratings.to_frame()
    assert [tuple(row) for row in back.itertuples(index=False)] == triples
    assert ratings.user_ids.tolist() == sorted({row[0] for row in triples})
    assert ratings.item_ids.tolist() == sorted({row[1] for row in triples})


def test_sparse_and_unsigned_ids():
    ids = np.array([2**40, 7, 2**40 + 1], dtype=np.uint64)
    ratings = Ratings.from_arrays(ids, np.array([3, 3, 3], dtype=np.uint8), np.array([1, 2, 3]))
    assert ratings.user_codes.tolist() == [1, 0, 2]
    assert ratings.encode_users(ids).tolist() == [1, 0, 2]


# ---- both orientations --------------------------------------------------------------


@FUZZ
@given(TRIPLES)
def test_both_orientations_hold_the_same_table(triples):
    ratings = make_ratings(triples, duplicates="last")
    dense = np.zeros(ratings.shape, dtype=np.float32)
    for u, i, v in zip(ratings.user_codes, ratings.item_codes, ratings.values, strict=True):
        dense[u, i] = v
    np.testing.assert_array_equal(ratings.by_user.toarray(), dense)
    np.testing.assert_array_equal(ratings.by_item.toarray(), dense.T)
    for matrix in (ratings.by_user, ratings.by_item):
        assert matrix.has_sorted_indices
        assert matrix.indices.dtype == matrix.indptr.dtype == np.int32
        assert matrix.data.dtype == np.float32


def test_orientations_are_built_once_and_share_sorted_input(medium):
    assert medium.by_user is medium.by_user and medium.by_item is medium.by_item
    assert np.shares_memory(medium.by_user.data, medium.values)


# ---- subsets ------------------------------------------------------------------------------


def test_subsets_keep_the_index_and_the_order(toy):
    for rows in (slice(9, None), np.arange(12) >= 9, [9, 10, 11]):
        part = toy[rows]
        assert np.shares_memory(part.user_ids, toy.user_ids)
        assert part.shape == toy.shape and part.scale == toy.scale
        assert part.values.tolist() == [2, 4, 5]
        assert part.user_counts.tolist() == [0, 0, 0, 3]
    assert toy[[3, 0]].timestamps.tolist() == [130, 100]
    assert len(toy[np.zeros(12, dtype=bool)]) == 0
    with pytest.raises(IndexError, match="rows: got 2 dimensions"):
        toy[np.zeros((2, 2), dtype=int)]


# ---- immutability -------------------------------------------------------------------------


def test_nothing_can_be_changed(toy):
    arrays = [
        getattr(toy, a) for a in ("user_codes", "item_codes", "values", "timestamps", "user_ids", "item_ids")
    ]
    arrays += [
        m for matrix in (toy.by_user, toy.by_item) for m in (matrix.data, matrix.indices, matrix.indptr)
    ]
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(AttributeError, match="values: a Ratings cannot be changed"):
        toy.values = None


@pytest.mark.parametrize("rating", [np.float32, np.float64, np.int64])
def test_later_changes_of_the_source_do_not_reach_it(rating):
    source = frame(timestamp=[7, 8]).astype({"rating": rating, "userId": np.int32, "movieId": np.int32})
    ratings = Ratings.from_frame(source)
    arrays = [
        np.array([1, 2], dtype=np.int32),
        np.array([1, 1], dtype=np.int32),
        np.array([3, 4], dtype=rating),
    ]
    stamps = np.array([7, 8])
    same = Ratings.from_arrays(*arrays, stamps)
    source.loc[:, ["userId", "movieId", "rating", "timestamp"]] = 1
    for array in (*arrays, stamps):
        array[:] = 1
    for made in (ratings, same):
        assert made.values.tolist() == [3, 4] and made.timestamps.tolist() == [7, 8]
        assert made.user_codes.tolist() == [0, 1] and made.user_ids.tolist() == [1, 2]


def test_to_frame_is_a_copy(toy):
    table = toy.to_frame()
    table.loc[:, "rating"] = 0
    assert toy.values[0] == 5


def test_pickle_keeps_everything(toy):
    copy = pickle.loads(pickle.dumps(toy))
    pd.testing.assert_frame_equal(copy.to_frame(), toy.to_frame())
    with pytest.raises(ValueError, match="read-only"):
        copy.values[0] = 1


# ---- duplicates ------------------------------------------------------------------------------

# (1, 5) three times: the latest timestamp is in the middle, and the first row is row 1.
REPEATED = [(2, 9, 1.0, 5), (1, 5, 2.0, 10), (1, 5, 5.0, 30), (1, 4, 3.0, 1), (1, 5, 3.0, 20)]


def test_duplicates_are_refused_with_both_rows():
    message = r"ratings: 2 repeated .* \(1, 5\) in rows 1 and 2; pass duplicates='last' or duplicates='mean'"
    with pytest.raises(ValueError, match=message):
        make_ratings(REPEATED)


def test_duplicates_merge_by_policy():
    last, mean = (make_ratings(REPEATED, duplicates=policy) for policy in ("last", "mean"))
    for merged, value in ((last, 5), (mean, np.float32(10 / 3))):
        assert merged.n_duplicates == 2
        assert merged.to_frame().to_numpy().tolist() == [[2, 9, 1, 5], [1, 5, value, 30], [1, 4, 3, 1]]


def test_last_row_wins_where_time_cannot_tell():
    without_time = make_ratings([row[:3] for row in REPEATED], duplicates="last")
    same_time = make_ratings([(*row[:3], 7) for row in REPEATED], duplicates="last")
    assert without_time.values.tolist() == same_time.values.tolist() == [1, 3, 3]


@FUZZ
@given(
    TRIPLES.map(lambda rows: [(u % 4, i % 3, *rest) for u, i, *rest in rows]),
    st.sampled_from(["last", "mean"]),
)
def test_duplicates_agree_with_a_dictionary(triples, policy):
    groups = {}
    for u, i, value, stamp in triples:
        groups.setdefault((u, i), []).append((stamp, value))
    expected = []
    for (u, i), entries in groups.items():
        newest = max(range(len(entries)), key=lambda k: (entries[k][0], k))
        mean = np.mean([value for _, value in entries])
        expected.append(
            (u, i, entries[newest][1] if policy == "last" else np.float32(mean), entries[newest][0])
        )
    merged = make_ratings(triples, duplicates=policy)
    assert [tuple(row) for row in merged.to_frame().itertuples(index=False)] == expected
    assert merged.n_duplicates == len(triples) - len(expected)


# ---- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            frame().drop(columns="movieId"),
            r"ratings: missing column\(s\) \['item'\]; got \['userId', 'rating'\]",
        ),
        (frame()[:0], "ratings: the table of ratings is empty"),
        (frame(rating=[3, 6]), "column rating, row 1: got 6; expected a number from 0.5 to 5"),
        (frame(rating=[3, np.nan]), "column rating, row 1: got nan; expected a number from 0.5 to 5"),
        (frame(rating=[-np.inf, 3]), "column rating, row 0: got -inf; expected a number from 0.5 to 5"),
        (frame(rating=["3", "x"]), "column rating, row 1: got 'x'; expected a number from 0.5 to 5"),
        (
            frame(rating=pd.array([3, None], dtype="Int64")),
            "column rating, row 1: got None; expected a number from 0.5 to 5",
        ),
        (frame(userId=[1, 1.5]), "column userId, row 1: got .*1.5.*; expected a whole number"),
        (frame(movieId=[np.nan, 1]), "column movieId, row 0: got nan; expected an id"),
        (frame(movieId=[np.inf, 1]), "column movieId, row 0: got .*inf.*; expected a whole number"),
        (frame(movieId=["a", 1]), "column movieId: got 'a' in row 0 and 1 in row 1"),
        (frame(timestamp=[1, None]), "column timestamp, row 1: got nan; expected a time"),
    ],
)
def test_bad_tables_name_column_and_row(table, message):
    with pytest.raises(ValueError, match=message):
        Ratings.from_frame(table, scale=(0.5, 5))


def test_numbers_as_text_and_whole_floats_are_taken():
    ratings = Ratings.from_frame(
        frame(rating=["3", "4.5"], userId=[1.0, 2.0], movieId=pd.array([5, 6], dtype="Int64"))
    )
    assert ratings.to_frame().to_numpy().tolist() == [[1, 5, 3], [2, 6, 4.5]]


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        (([1, 2], [1, 2], [3.0]), {}, r"columns of different lengths \(userId 2, movieId 2, rating 1\)"),
        (
            ([1.5], [1], [3.0]),
            {},
            "column userId, row 0: got 1.5; expected a whole number",
        ),
        (([1], [1], ["x"]), {}, "column rating, row 0: got 'x'; expected a finite number"),
        (([[1]], [[1]], [3.0]), {}, "column userId: got list values"),
        (([1], [1], [3.0]), {"scale": (5, 1)}, r"scale: got \(5, 1\); expected two finite numbers"),
        (([1], [1], [3.0]), {"scale": 5}, "scale: got 5; expected a pair"),
        (
            ([1], [1], [3.0]),
            {"duplicates": "first"},
            "duplicates: got 'first'; expected one of 'error', 'last', 'mean'",
        ),
        (
            ([1], [1], [9.0]),
            {"origin": ("a.csv", "line", 2), "scale": (1, 5)},
            "a.csv: column rating, line 2: got 9.0",
        ),
    ],
)
def test_bad_arrays_are_refused(arrays, options, message):
    with pytest.raises(ValueError, match=message):
        Ratings.from_arrays(*arrays, **options)


# ---- titles ---------------------------------------------------------------------------------------


def test_titles_fall_back_to_the_id():
    movies = pd.DataFrame({"movieId": [1, 2], "title": ["Up (2009)", None]})
    ratings = make_ratings([(1, 1, 3.0), (1, 2, 3.0)], movies=movies)
    assert ratings.titles([2, 1, 3]).tolist() == ["movie 2", "Up (2009)", "movie 3"]
    assert make_ratings([(1, 1, 3.0)]).titles(7).tolist() == ["movie 7"]
