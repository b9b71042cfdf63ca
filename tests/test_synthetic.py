"""Synthetic ratings: exact size, one seed one table, curves and noise as they are told."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from movielens_files import FUZZ

from recsys_helpers.data import load_movielens, synthetic_ratings


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
