"""Slow and obvious versions of what the kernels compute, for tests to compare with."""

import numpy as np

# ---- alternating least squares ------------------------------------------------


def als_row(q, b, r, mean, reg, bias_reg, prior=None):
    """Factors and bias of one row: normal equations of the factors with a constant column."""
    x = np.column_stack([q, np.ones(len(r))]).astype(float)
    target = np.asarray(r, float) - mean - b
    penalty = np.diag(np.append(np.full(q.shape[1], reg), bias_reg)).astype(float)
    prior = np.zeros(x.shape[1]) if prior is None else np.asarray(prior, float)
    return np.linalg.solve(x.T @ x + penalty, x.T @ target + penalty @ prior)


def als_objective(theta, ratings, k, reg, bias_reg, weighted, genres=None):
    """Objective of BiasedALS and its gradient at theta = (P, b_u, Q, b_i[, G, c]), flattened.

    `genres` is (shares, genre_reg, genre_bias_reg), shares dense of shape (n, G).
    """
    m, n = ratings.shape
    share, genre_reg, genre_bias_reg = genres if genres is not None else (np.zeros((n, 0)), 0.0, 0.0)
    sizes = [m * (k + 1), n * (k + 1), share.shape[1] * (k + 1)]
    user, item, genre = (part.reshape(-1, k + 1) for part in np.split(theta, np.cumsum(sizes)[:2]))
    u, i, r = ratings.user_codes, ratings.item_codes, ratings.values.astype(float)
    mean = r.mean()
    error = r - mean - user[u, k] - item[i, k] - np.sum(user[u, :k] * item[i, :k], axis=1)
    w_user = ratings.user_counts if weighted else np.ones(m)
    w_item = ratings.item_counts if weighted else np.ones(n)
    w_genre = np.maximum(share.T @ w_item, 1.0) if weighted else np.ones(share.shape[1])
    penalty = np.append(np.full(k, float(reg)), bias_reg)
    genre_penalty = np.append(np.full(k, float(genre_reg)), genre_bias_reg)
    own = item - share @ genre
    value = error @ error + np.sum(w_user[:, None] * penalty * user**2)
    value += np.sum(w_item[:, None] * penalty * own**2) + np.sum(w_genre[:, None] * genre_penalty * genre**2)
    d_user, d_item = 2 * w_user[:, None] * penalty * user, 2 * w_item[:, None] * penalty * own
    d_genre = 2 * w_genre[:, None] * genre_penalty * genre - share.T @ d_item
    np.add.at(d_user, u, -2 * error[:, None] * np.column_stack([item[i, :k], np.ones(len(r))]))
    np.add.at(d_item, i, -2 * error[:, None] * np.column_stack([user[u, :k], np.ones(len(r))]))
    return value, np.concatenate([d_user.ravel(), d_item.ravel(), d_genre.ravel()])
