import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import mean_absolute_error, mean_squared_error

from recsys_helpers import metrics

finite = st.floats(-10, 10)


def test_by_hand():
    true, pred = [4, 3, 5], [3, 3, 2]
    assert metrics.mse(true, pred) == pytest.approx(10 / 3)
    assert metrics.rmse(true, pred) == pytest.approx((10 / 3) ** 0.5)
    assert metrics.mae(true, pred) == pytest.approx(4 / 3)


@given(st.integers(1, 30).flatmap(lambda n: st.tuples(*[arrays(float, n, elements=finite)] * 2)))
def test_agrees_with_scikit_learn(pair):
    true, pred = pair
    assert metrics.mse(true, pred) == pytest.approx(mean_squared_error(true, pred), abs=1e-12)
    assert metrics.mae(true, pred) == pytest.approx(mean_absolute_error(true, pred), abs=1e-12)
    assert metrics.mae(true, pred) <= metrics.rmse(true, pred) + 1e-12


@pytest.mark.parametrize("metric", [metrics.mse, metrics.rmse, metrics.mae])
@pytest.mark.parametrize(
    "true, pred, words",
    [
        ([], [], "no ratings"),
        ([1, 2], [1], "same length"),
        ([[1], [2]], [[1], [2]], "one-dimensional"),
        ([1, 2], [1, np.nan], "row 1"),
        ([np.inf], [1], "finite"),
    ],
)
def test_bad_input(metric, true, pred, words):
    with pytest.raises(ValueError, match=words):
        metric(true, pred)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        # Users differ in how hard they are to predict, so that user resampling matters.
        spread = rng.uniform(0.3, 1.7, 80)
        groups = np.repeat(np.arange(80), 10)
        interval = metrics.rmse_interval(
            np.zeros(800), rng.standard_normal(800) * spread[groups], groups, n_boot=200, seed=trial
        )
        truth = np.sqrt((0.3**2 + 0.3 * 1.7 + 1.7**2) / 3)  # root of E[spread^2] of a uniform spread
        covered += interval.low <= truth <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_interval_is_reproducible_and_holds_its_value():
    rng = np.random.default_rng(1)
    true, pred, groups = rng.random(50), rng.random(50), rng.integers(0, 9, 50)
    one = metrics.rmse_interval(true, pred, groups, seed=3)
    assert one == metrics.rmse_interval(true, pred, groups, seed=3)
    assert one.value == pytest.approx(metrics.rmse(true, pred))
    assert one.low <= one.value <= one.high
    assert str(one) == f"{one.value:.4f} ± {one.se:.4f}"


def test_interval_wants_one_group_per_rating():
    with pytest.raises(ValueError, match="groups"):
        metrics.rmse_interval([1, 2], [1, 2], [1])


def test_gini_by_hand_and_by_pairs():
    assert metrics.gini([5, 5, 5]) == pytest.approx(0)
    assert metrics.gini([0, 0, 0, 1]) == pytest.approx(3 / 4)
    c = np.random.default_rng(0).integers(0, 40, 30)
    pairs = np.abs(c[:, None] - c[None, :]).sum() / (2 * len(c) ** 2 * c.mean())
    assert metrics.gini(c) == pytest.approx(pairs)


@pytest.mark.parametrize("counts", [[], [0, 0], [-1, 2], [np.nan, 1]])
def test_gini_bad_input(counts):
    with pytest.raises(ValueError, match="counts"):
        metrics.gini(counts)
