import numpy as np
import pytest

from recsys_helpers import Ratings
from recsys_helpers.models.positive import check_threshold, liked_from, positives, settled_threshold


def table(values, scale):
    n = np.arange(len(values))
    return Ratings(n // 5, n % 5, values, None, np.arange(n.max() // 5 + 1), np.arange(5), scale=scale)


STARS = [1, 2, 3, 3.5, 4, 4.5, 5, 4, 2, 3]


@pytest.mark.parametrize(
    ("values", "scale", "expected"),
    [
        (STARS, (0.5, 5), 3.875),  # four stars and more
        ([1, 3, 5, 4, 4], (1, 5), 4.0),
        ([1, 9, 8, 7, 10], (1, 10), 7.75),
        ([0, 1, 1, 0, 1], (0, 1), 0.75),
        ([-10, 6, 2, -4, 9], (-10, 10), 5.0),
        ([1, 1, 1, 1, 1], (0, 1), -np.inf),  # ones alone: every pair
        ([1, 1, 2, 1, 3, 1, 1, 2, 1, 1, 80], (1, 80), -np.inf),  # counts: most are small
    ],
)
def test_what_counts_as_a_like_follows_the_scale(values, scale, expected):
    assert settled_threshold(table(values, scale)) == expected


@pytest.mark.parametrize(
    ("values", "scale", "expected"),
    [
        ([1, 2, 3, 4, 4.5, 5], (0.5, 5), 4.0),
        ([1, 7, 8, 9, 10, 10], (1, 10), 8.0),
        ([1, 1, 1], (0, 1), 1.0),
        ([1] * 30 + [2, 90], (1, 100), 1.0),  # counts
        ([-10] * 20 + [9], (-10, 10), 9.0),
        ([0] * 20 + [3], (0, 10), 3.0),
    ],
)
def test_what_metrics_take_for_a_like_is_a_rating_of_the_table(values, scale, expected):
    assert liked_from(table(values, scale)) == expected


def test_the_matrix_holds_the_liked_pairs():
    ratings = table(STARS, (0.5, 5))
    matrix = positives(ratings, settled_threshold(ratings))
    assert matrix.toarray().tolist() == [[0, 0, 0, 0, 1], [1, 1, 1, 0, 0]]
    assert matrix.dtype == np.float32
    assert positives(ratings, settled_threshold(ratings, None)).nnz == 10
    assert positives(ratings, 5.0).toarray().tolist() == [[0] * 5, [0, 1, 0, 0, 0]]


def test_weights():
    ratings = table([1, 3, 7, 2, 2], (1, 7))
    everything = settled_threshold(ratings, None)
    assert positives(ratings, everything, "value").data.tolist() == [1, 3, 7, 2, 2]
    np.testing.assert_allclose(positives(ratings, everything, "log").data, np.log([2, 4, 8, 3, 3]), rtol=1e-6)


def test_what_cannot_be_weighed_or_found_is_refused():
    ratings = table([-2, 3, 1, 2, 2], (-5, 5))
    with pytest.raises(ValueError, match="weights: got 'value' with a value of -2; expected values above 0"):
        positives(ratings, -np.inf, "value")
    with pytest.raises(ValueError, match="threshold: got 4, which no rating reaches, the highest is 3"):
        positives(ratings, 4.0)
    for wrong in ("high", True, np.nan, [3]):
        with pytest.raises(ValueError, match="threshold: got"):
            check_threshold("threshold", wrong)
