import numpy as np
import pytest
from conftest import make_ratings
from test_implicit import likes

from recsys_helpers import BPR
from recsys_helpers.kernels.pairwise import POPULAR, UNIFORM, mark, pairwise_epoch
from recsys_helpers.kernels.vectors import padded


def prepare(ratings, k=3, seed=0):
    rng = np.random.default_rng(seed)
    matrix = ratings.by_user
    p, q = (padded(rng.normal(0, 0.3, (rows, k + 1)), "float64") for rows in matrix.shape)
    p[:, k] = 1
    table = np.zeros(1024, np.uint8)
    mark(matrix.indptr, matrix.indices, table)
    users = np.repeat(np.arange(matrix.shape[0], dtype=np.int32), np.diff(matrix.indptr))
    return matrix, p, q, table, users


def epoch(data, steps, *, seed=1, sampling=UNIFORM, trials=1, rate=0.1, reg=0.2):
    matrix, p, q, table, users = data
    out = np.zeros(2)
    skipped = pairwise_epoch(
        np.uint64(seed), steps, users, matrix.indptr, matrix.indices, table, matrix.shape[1], sampling,
        trials, p, q, rate, reg, 3, out,
    )  # fmt: skip
    return skipped, out


def test_one_step_is_the_gradient_of_the_loss_of_its_pair():
    """Which pair was drawn is seen from what changed; the change is the gradient, by finite differences."""
    for seed in range(8):
        data = prepare(likes())
        p, q = data[1].copy(), data[2].copy()
        epoch(data, 1, seed=seed)
        (u,) = np.flatnonzero((data[1] != p).any(axis=1))
        changed = np.flatnonzero((data[2] != q).any(axis=1))
        own = data[0].indices[data[0].indptr[u] : data[0].indptr[u + 1]]
        (i,) = np.intersect1d(changed, own)
        (j,) = np.setdiff1d(changed, own)

        def loss(x, q=q, i=i, j=j):
            user, liked, other = np.append(x[:3], 1), x[3:7], x[7:]
            gap = user @ (liked - other)
            return np.logaddexp(0, -gap) + 0.2 / 2 * np.sum(x**2)

        x = np.concatenate([p[u, :3], q[i, :4], q[j, :4]])
        slope = np.array([(loss(x + 1e-6 * e) - loss(x - 1e-6 * e)) / 2e-6 for e in np.eye(11)])
        moved = np.concatenate([data[1][u, :3], data[2][i, :4], data[2][j, :4]])
        np.testing.assert_allclose(moved, x - 0.1 * slope, atol=1e-8)
        assert data[1][u, 3] == 1 and (data[2][:, 4:] == 0).all()


@pytest.mark.parametrize("sampling", [UNIFORM, POPULAR])
def test_the_other_item_is_never_one_of_the_users(sampling):
    """With the items held by rate 0 nothing moves, so each step's loss says which sides were compared."""
    data = prepare(likes(m=6, n=9, share=0.5))
    matrix, p, q, *_ = data
    p[:, :3], q[:] = 0, 0
    p[:, 3] = 1
    # One user at a time sees its own items far above all others: every pair must be in order.
    for user in range(6):
        own = matrix.indices[matrix.indptr[user] : matrix.indptr[user + 1]]
        only = matrix[[user]]
        q[:, 3] = -50
        q[own, 3] = 50
        table = np.zeros(64, np.uint8)
        mark(only.indptr, only.indices, table)
        out = np.zeros(2)
        users = np.zeros(only.nnz, np.int32)
        skipped = pairwise_epoch(
            np.uint64(3), 500, users, only.indptr, only.indices, table, 9, sampling, 1, p, q, 0.0, 0.0, 3, out
        )
        assert out[0] == 500 - skipped
        # Drawn by popularity among this one user's likes, nothing else can be found.
        assert skipped == (500 if sampling == POPULAR else 0)


def test_a_user_with_everything_is_passed_over():
    ratings = make_ratings([(0, i, 5) for i in range(4)])
    data = prepare(ratings)
    before = data[2].copy()
    skipped, _ = epoch(data, 50)
    assert skipped == 50
    np.testing.assert_array_equal(data[2], before)


def test_longer_searches_learn_from_violating_pairs_only():
    """With all scores equal the first trial violates the margin; far apart, none does."""
    matrix, p, q, table, users = prepare(likes())
    p[:, :3], q[:] = 0, 0
    quiet = dict(trials=5, rate=0.0, reg=0.0)
    assert epoch((matrix, p, q, table, users), 200, **quiet)[0] == 0
    first = matrix[[0]]
    q[first.indices, 3] = 9
    table, users = np.full(64, 255, np.uint8), np.zeros(first.nnz, np.int32)
    assert epoch((first, p, q, table, users), 200, **quiet)[0] == 200


def test_it_learns_an_order(medium):
    model = BPR(6, threshold=None, n_epochs=40, verbose=False).fit(medium)
    right = model.history_["right"]
    assert right.iloc[-1] > 0.8 > right.iloc[0]
    assert model.history_["objective"].iloc[-1] < model.history_["objective"].iloc[0]


def test_a_newcomer_with_the_likes_of_a_user_gets_a_like_order():
    ratings = likes(m=60, n=40)
    model = BPR(6, threshold=None, verbose=False).fit(ratings)
    agreement = []
    for user in range(12):
        own = ratings.item_codes[ratings.user_codes == user]
        person = model.fold_in(dict.fromkeys(own.tolist(), 1.0))
        agreement.append(np.corrcoef(person.score_items(), model.score_items(user))[0, 1])
    assert np.median(agreement) > 0.8


def test_popular_negatives_lower_what_popularity_is_worth():
    rng = np.random.default_rng(0)
    pairs = [(u, i, 5) for u in range(60) for i in range(30) if rng.random() < 0.9 / (1 + 0.3 * i)]
    ratings = make_ratings(pairs)
    set_up = dict(n_factors=2, threshold=None, n_epochs=60, verbose=False)
    uniform, popular = (
        BPR(negatives=name, **set_up).fit(ratings).item_bias_ for name in ("uniform", "popular")
    )
    counts = ratings.item_counts
    slopes = [np.polyfit(np.log(counts), bias, 1)[0] for bias in (uniform, popular)]
    assert slopes[0] > 1.5 * abs(slopes[1])
