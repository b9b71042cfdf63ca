import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_helpers.kernels.als import lanes
from recsys_helpers.kernels.sgd import sgd_epoch, squared_error
from recsys_helpers.svd import FunkSVD, _padded

EXACT = dict(dtype="float64", verbose=False)


# ---- stochastic gradient descent ------------------------------------------------


@settings(max_examples=20, deadline=None, derandomize=True)
@given(k=st.integers(0, 40), seed=st.integers(0, 99))
def test_an_epoch_takes_the_steps_of_the_definition(k, seed):
    rng = np.random.default_rng(seed)
    m, n, nnz = 7, 9, 120
    users, items = rng.integers(0, m, nnz).astype(np.int32), rng.integers(0, n, nnz).astype(np.int32)
    values = (rng.integers(1, 11, nnz) / 2).astype(np.float32)
    state = [
        rng.normal(0, 0.3, (m, k)),
        rng.normal(0, 0.3, m),
        rng.normal(0, 0.3, (n, k)),
        rng.normal(0, 0.3, n),
    ]
    mine = [_padded(a, "float64") if a.ndim == 2 else a.copy() for a in state]
    rest = 0.03, 0.1, 0.05
    width = lanes("float64")
    total = sgd_epoch(users, items, values, 3.4, *mine, *rest, width)
    errors = reference.sgd_epoch(users, items, values, 3.4, *state, *rest)
    assert total == pytest.approx(errors @ errors, rel=1e-12)
    for got, expected in zip(mine, state, strict=True):
        if got.ndim == 2:
            assert not got[:, k:].any()
            got = got[:, :k]
        np.testing.assert_allclose(got, expected, atol=1e-12)
    p, b, q, c = state
    error = values.astype(float) - 3.4 - b[users] - c[items] - np.sum(p[users] * q[items], axis=1)
    assert squared_error(users, items, values, 3.4, *mine, width) == pytest.approx(error @ error, rel=1e-12)
