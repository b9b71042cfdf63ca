import numpy as np
import pytest
from conftest import make_ratings
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_helpers import splits


def rows(ratings):
    """The ratings as a set of comparable rows."""
    return set(map(tuple, ratings.to_frame().to_numpy()))


def assert_partition(whole, split):
    train, test = split
    assert len(train) + len(test) == len(whole)
    assert rows(train) | rows(test) == rows(whole)
    assert not rows(train) & rows(test)
    for part in split:
        assert part.user_ids is whole.user_ids and part.item_ids is whole.item_ids


def every_split(ratings, seed=0):
    yield splits.random_holdout(ratings, 0.25, seed)
    yield from splits.k_fold(ratings, 3, seed)
    yield splits.leave_k_out(ratings, 1, seed)
    yield splits.last_k(ratings, 1)
    yield splits.temporal(ratings, 0.25)


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(
        st.tuples(st.integers(0, 5), st.integers(0, 5)), st.integers(0, 9), min_size=12, max_size=36
    ),
    st.integers(0, 3),
)
def test_disjoint_and_complete(cells, seed):
    stamps = sorted(cells.values())
    if stamps[0] == stamps[len(stamps) // 2]:
        cells[next(iter(cells))] = 99  # a temporal cut needs two distinct moments
    whole = make_ratings([(u, i, 3.0, t) for (u, i), t in cells.items()])
    chosen = [splits.random_holdout(whole, 0.25, seed), *splits.k_fold(whole, 3, seed)]
    if whole.user_counts.max() > 1:
        chosen += [splits.leave_k_out(whole, 1, seed), splits.last_k(whole, 1)]
    chosen.append(splits.temporal(whole, cut=int(whole.timestamps.max())))
    for split in chosen:
        assert_partition(whole, split)


def test_the_same_seed_gives_the_same_split(medium):
    for one, same, other in zip(
        every_split(medium), every_split(medium), every_split(medium, seed=1), strict=True
    ):
        assert rows(one.test) == rows(same.test)
        assert len(one.test) == len(other.test)
    assert rows(splits.random_holdout(medium, seed=0).test) != rows(
        splits.random_holdout(medium, seed=1).test
    )


def test_sizes(medium):
    assert len(splits.random_holdout(medium, 0.2).test) == round(0.2 * len(medium))
    sizes = [len(s.test) for s in splits.k_fold(medium, 7)]
    assert sum(sizes) == len(medium) and max(sizes) - min(sizes) <= 1


def test_folds_are_not_consecutive_rows(medium):
    users = np.unique(splits.k_fold(medium, 5)[0].test.user_codes)
    assert len(users) > 0.8 * medium.n_users


def test_leave_k_out_takes_k_from_everybody_who_has_more(medium):
    split = splits.leave_k_out(medium, 3, seed=2)
    expected = np.where(medium.user_counts > 3, 3, 0)
    np.testing.assert_array_equal(split.test.user_counts, expected)


def test_last_k_by_hand(toy):
    test = splits.last_k(toy, 1).test.to_frame()
    assert dict(zip(test["userId"], test["movieId"], strict=True)) == {10: 4, 20: 1, 30: 4, 40: 4}


def test_last_k_orders_ties_by_position():
    ratings = make_ratings([(1, 7, 3.0, 50), (1, 8, 3.0, 50), (1, 9, 3.0, 40)])
    assert splits.last_k(ratings).test.to_frame()["movieId"].tolist() == [8]


def test_a_user_with_k_ratings_keeps_them():
    ratings = make_ratings([(1, 7, 3.0, 1), (1, 8, 3.0, 2), (2, 7, 3.0, 3)])
    assert splits.last_k(ratings, 1).test.to_frame()["userId"].tolist() == [1]


def test_temporal_puts_the_future_in_test(medium):
    train, test = splits.temporal(medium, 0.3)
    assert train.timestamps.max() < test.timestamps.min()
    assert len(test) == round(0.3 * len(medium))
    again = splits.temporal(medium, cut=int(test.timestamps.min()))
    assert rows(again.test) == rows(test)


def test_temporal_keeps_one_second_together():
    ratings = make_ratings([(1, i, 3.0, t) for i, t in enumerate([1, 2, 5, 5, 5, 9])])
    assert splits.temporal(ratings, 0.5).test.timestamps.tolist() == [9]


def test_cold_start_counts_by_hand():
    ratings = make_ratings([(1, 7, 3.0, 1), (1, 8, 3.0, 2), (2, 7, 3.0, 3), (2, 9, 3.0, 4), (3, 9, 3.0, 5)])
    report = splits.temporal(ratings, cut=3).cold_start()
    assert report.loc["users"].tolist() == [2, 2, 3]
    assert report.loc["items"].tolist() == [2, 1, 2]


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda r: splits.random_holdout(r, 0), "test_fraction"),
        (lambda r: splits.random_holdout(r, 1.5), "test_fraction"),
        (lambda r: splits.random_holdout(r, 0.01), "empty"),
        (lambda r: splits.k_fold(r, 1), "n_folds"),
        (lambda r: splits.k_fold(r, 13), "n_folds"),
        (lambda r: splits.leave_k_out(r, 3), "k"),
        (lambda r: splits.leave_k_out(r, 0), "k"),
        (lambda r: splits.temporal(r, cut=0), "empty"),
        (lambda r: splits.temporal(r, cut="today"), "cut"),
    ],
)
def test_bad_arguments(toy, call, words):
    with pytest.raises(ValueError, match=words):
        call(toy)


@pytest.mark.parametrize("split", [splits.temporal, splits.last_k])
def test_time_is_needed(split):
    with pytest.raises(ValueError, match="timestamps"):
        split(make_ratings([(1, 1, 3.0), (1, 2, 3.0)]))
