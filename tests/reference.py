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


# ---- neighbors ------------------------------------------------------------------


def similarity(x, y, kind, *, shrink=0.0, min_support=1):
    """Similarity of two rows of a table with NaN for missing; the rows are centered already
    where the kind wants it (all but "cosine" and "pearson")."""
    both = ~np.isnan(x) & ~np.isnan(y)
    count = both.sum()
    if count < max(min_support, 1):
        return 0.0
    if kind.endswith("cosine"):
        norm = np.sqrt(np.nansum(x * x) * np.nansum(y * y))
        dot = np.sum(x[both] * y[both])
    else:
        x, y = x[both], y[both]
        if kind == "pearson":
            x, y = x - x.mean(), y - y.mean()
        norm = np.sqrt(np.sum(x * x) * np.sum(y * y))
        dot = np.sum(x * y)
    return dot / norm * count / (count + shrink) if norm > 1e-9 else 0.0


def centered_for(table, kind, baseline):
    """The table (rows are what gets neighbors) with what the kind takes off."""
    if kind == "centered_cosine":
        return table - np.array([np.nanmean(row) for row in table])[:, None]
    if kind == "adjusted_cosine":
        return table - np.array([np.nanmean(column) for column in table.T])
    return table - baseline if kind == "pearson_baseline" else table


def similarities(table, kind, baseline=None, **options):
    """All pairs, one by one; the diagonal is 0."""
    table = centered_for(table, kind, baseline)
    n = len(table)
    out = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j:
                out[i, j] = similarity(table[i], table[j], kind, **options)
    return out


def knn_prediction(table, sims, row, column, k, *, center, baseline):
    """The definition, for one pair: sort the neighbors that have a rating, average the best."""
    if center == "none":
        start, scale, z = 0.0, 1.0, table[:, column]
    elif center == "baseline":
        start, scale, z = baseline[row, column], 1.0, (table - baseline)[:, column]
    else:
        mean = np.array([np.nanmean(r) for r in table])
        spread = np.array([np.nanstd(r) for r in table])
        spread = np.where(spread > 1e-5, spread, np.nanstd(table)) if center == "zscore" else spread**0
        start, scale, z = mean[row], spread[row], (table[:, column] - mean) / spread
    able = [j for j in range(len(table)) if sims[row, j] > 0 and not np.isnan(table[j, column])]
    best = sorted(able, key=lambda j: (-np.float32(sims[row, j]), j))[:k]
    if not best:
        return baseline[row, column]
    weight = sims[row, best]
    return start + scale * np.sum(weight * z[best]) / np.sum(weight)


# ---- stochastic gradient descent --------------------------------------------------


def sgd_epoch(users, items, values, mean, p, b_user, q, b_item, rate, reg, bias_reg):
    """One step a rating, in place; the errors before each step."""
    errors = []
    for u, i, r in zip(users, items, np.asarray(values, float), strict=True):
        e = r - mean - b_user[u] - b_item[i] - p[u] @ q[i]
        b_user[u] += rate * (e - bias_reg * b_user[u])
        b_item[i] += rate * (e - bias_reg * b_item[i])
        p[u], q[i] = p[u] + rate * (e * q[i] - reg * p[u]), q[i] + rate * (e * p[u] - reg * q[i])
        errors.append(e)
    return np.array(errors)


def svdpp_epoch(users, items, values, seen, mean, p, b_user, q, b_item, y, rate, reg, bias_reg):
    """One step a rating, in place, y_j of all films that the user has touched included."""
    errors = []
    for u, i, r in zip(users, items, np.asarray(values, float), strict=True):
        norm = len(seen[u]) ** -0.5 if len(seen[u]) else 0.0
        x = p[u] + norm * y[seen[u]].sum(axis=0)
        e = r - mean - b_user[u] - b_item[i] - x @ q[i]
        b_user[u] += rate * (e - bias_reg * b_user[u])
        b_item[i] += rate * (e - bias_reg * b_item[i])
        old = q[i].copy()
        p[u], q[i] = p[u] + rate * (e * old - reg * p[u]), old + rate * (e * x - reg * old)
        y[seen[u]] += rate * (e * norm * old - reg * y[seen[u]])
        errors.append(e)
    return np.array(errors)


# ---- non-negative factorization ---------------------------------------------------


def nmf_sweep(ratings, p, q, reg):
    """All users' coordinates one by one, each set to the lowest point of its parabola, then all films'."""
    table = np.full(ratings.shape, np.nan)
    table[ratings.user_codes, ratings.item_codes] = ratings.values
    p, q = p.copy(), q.copy()
    for rows, own, other in ((table, p, q), (table.T, q, p)):
        for row, r in enumerate(rows):
            seen = ~np.isnan(r)
            for f in range(own.shape[1]):
                rest = r[seen] - other[seen] @ own[row] + other[seen, f] * own[row, f]
                square = np.sum(other[seen, f] ** 2) + reg * seen.sum()
                own[row, f] = max(0.0, np.sum(rest * other[seen, f]) / square) if square > 0 else own[row, f]
    return p, q
