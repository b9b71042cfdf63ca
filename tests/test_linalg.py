import numpy as np
import pytest
from scipy.sparse import random_array
from sklearn.exceptions import ConvergenceWarning

from recsys_helpers import linalg
from recsys_helpers.linalg import SparsePlusLowRank, truncated_svd


def operator(m, n, *, sides=False, dtype="float64", seed=0, density=0.1, **options):
    """A random operator and its dense twin."""
    rng = np.random.default_rng(seed)
    sparse = random_array((m, n), density=density, rng=rng, format="csr")
    low = (rng.normal(size=(m, 2)), rng.normal(size=(n, 2))) if sides else None
    dense = sparse.toarray() + (low[0] @ low[1].T if sides else 0)
    parts = sparse.astype(dtype), sparse.T.tocsr().astype(dtype)
    for part in parts:
        part.sort_indices()
    return SparsePlusLowRank(*parts, low, dtype=dtype, **options), dense


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sides", [False, True])
@pytest.mark.parametrize("width", [1, 16, 37, 130])
def test_products_are_those_of_the_dense_matrix(width, sides, dtype):
    product, dense = operator(50, 70, sides=sides, dtype=dtype)
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(70, width)).astype(dtype), rng.normal(size=(50, width)).astype(dtype)
    tolerance = dict(rtol=1e-4, atol=1e-4) if dtype == "float32" else dict(rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(product @ x, dense @ x, **tolerance)
    np.testing.assert_allclose(product.T @ y, dense.T @ y, **tolerance)
    np.testing.assert_allclose(product.rmatmat(y), dense.T @ y, **tolerance)
    np.testing.assert_allclose(product @ x[:, 0], dense @ x[:, 0], **tolerance)


@pytest.mark.parametrize("shape", [(60, 400), (400, 60), (300, 300)])
@pytest.mark.parametrize("sides", [False, True])
@pytest.mark.parametrize("k", [1, 7, 60])
def test_truncated_svd_is_that_of_lapack(shape, sides, k):
    product, dense = operator(*shape, sides=sides)
    u, s, v, _ = truncated_svd(product, k, tol=1e-13)
    left, expected, right = np.linalg.svd(dense, full_matrices=False)
    np.testing.assert_allclose(s, expected[:k], rtol=1e-9)
    np.testing.assert_allclose(u.T @ u, np.eye(k), atol=1e-10)
    np.testing.assert_allclose(v.T @ v, np.eye(k), atol=1e-10)
    np.testing.assert_allclose((u * s) @ v.T, (left[:, :k] * expected[:k]) @ right[:k], atol=1e-4)
    assert (v[np.abs(v).argmax(axis=0), np.arange(k)] > 0).all()


def test_restarts_lose_nothing(monkeypatch):
    monkeypatch.setattr(linalg, "BASIS", 100)
    monkeypatch.setattr(linalg, "BLOCK", 8)
    product, dense = operator(600, 500)
    _, s, _, steps = truncated_svd(product, 10, tol=1e-12)
    assert steps * 8 > 150
    np.testing.assert_allclose(s, np.linalg.svd(dense, compute_uv=False)[:10], rtol=1e-9)


def test_low_rank_and_repeated_values():
    """The first block spans too little, or one value comes more often than a block is wide."""
    n = 80
    identity = np.eye(n)
    from scipy.sparse import csr_array

    product = SparsePlusLowRank(csr_array(identity), csr_array(identity), dtype="float64")
    u, s, v, _ = truncated_svd(product, 60)
    np.testing.assert_allclose(s, 1, rtol=1e-12)
    np.testing.assert_allclose(v.T @ v, np.eye(60), atol=1e-10)
    thin = np.outer(np.arange(50.0), np.ones(40))
    product = SparsePlusLowRank(csr_array(thin), csr_array(thin.T), dtype="float64")
    s = truncated_svd(product, 5)[1]
    assert s[0] == pytest.approx(np.linalg.norm(thin)) and (s[1:] < 1e-10).all()


def test_threads_do_not_change_a_bit(monkeypatch):
    monkeypatch.setattr(linalg, "CHUNK_WORK", 1e3)
    results = []
    for threads in (1, 2, 5):
        product, _ = operator(300, 200, sides=True, dtype="float32", n_threads=threads)
        results.append(truncated_svd(product, 5)[2].tobytes())
    assert len(set(results)) == 1


def test_it_says_when_it_stopped_early():
    product, _ = operator(300, 300)
    with pytest.warns(ConvergenceWarning, match="max_steps=2"):
        truncated_svd(product, 10, max_steps=2)


@pytest.mark.parametrize("k", [0, 41, True])
def test_bad_rank(k):
    product, _ = operator(50, 40)
    with pytest.raises(ValueError, match="n_factors: got .* from 1 to 40"):
        truncated_svd(product, k)


@pytest.mark.parametrize("steps", [0, -1, 2.5])
def test_no_steps_at_all_are_refused(steps):
    product, _ = operator(50, 40)
    with pytest.raises(ValueError, match="max_steps: got .*; expected a whole number not below 1"):
        truncated_svd(product, 2, max_steps=steps)
