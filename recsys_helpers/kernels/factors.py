"""Predictions of models that have a vector for each user and each item."""

import numpy as np

from .compiling import REORDER, njit


@njit(fastmath=REORDER)
def score_pairs(users, items, mean, user_factors, user_bias, item_factors, item_bias, out):
    """out = mean + b_u + b_i + p_u . q_i for each pair; a code of -1 stands for zeros."""
    k = user_factors.shape[1]
    for t in range(len(users)):
        u, i = users[t], items[t]
        total = mean
        if u >= 0:
            total += user_bias[u]
        if i >= 0:
            total += item_bias[i]
        if u >= 0 and i >= 0:
            for j in range(k):
                total += np.float64(user_factors[u, j]) * np.float64(item_factors[i, j])
        out[t] = total
