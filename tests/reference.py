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


# ---- rankings ---------------------------------------------------------------------


def tie_number(seed, row, item):
    """Where a film stands among equals of a row: SplitMix64 twice, in Python's own whole numbers."""

    def mixed(state):
        z = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        return z ^ z >> 31

    step = 0x9E3779B97F4A7C15
    own = mixed((seed + row * step) % 2**64)
    return mixed((own + item * step) % 2**64) >> 33


def ranking(scores, relevant, seen, k, tie=lambda item: 0):
    """All metrics of one user from a full sort; `relevant` is a dict of gain by code."""
    allowed = [i for i in range(len(scores)) if i not in seen and scores[i] > -np.inf]
    order = sorted(allowed, key=lambda i: (-scores[i], tie(i), i))
    top, n_relevant = order[:k], len(relevant)
    rank = {i: order.index(i) + 1 if i in order else 0 for i in relevant}
    places = sorted(r for r in rank.values() if r)
    within = [r for r in places if r <= k]

    def dcg(gains):
        return sum(g / np.log2(2 + at) for at, g in enumerate(gains))

    def mean_precision(places):
        return sum((n + 1) / r for n, r in enumerate(places)) / n_relevant

    best = sorted(relevant.values(), reverse=True)[:k]
    return top, rank, {
        "precision": len(within) / k,
        "recall": len(within) / n_relevant,
        "capped_recall": len(within) / min(k, n_relevant),
        "hit_rate": float(len(within) > 0),
        "average_precision": mean_precision(within),
        "reciprocal_rank": 1 / within[0] if within else 0.0,
        "ndcg": dcg([i in relevant for i in top]) / dcg([1] * len(best)),
        "graded_ndcg": dcg([relevant.get(i, 0) for i in top]) / dcg(best),
        "full_average_precision": mean_precision(places),
        "full_reciprocal_rank": 1 / places[0] if places else 0.0,
    }  # fmt: skip


def pair_distance(codes, features):
    """Mean of 1 - cosine over the pairs of a list, one pair at a time."""
    distances = []
    for a in range(len(codes)):
        for b in range(a):
            x, y = features[codes[a]], features[codes[b]]
            norm = np.linalg.norm(x) * np.linalg.norm(y)
            distances.append(1 - (x @ y / norm if norm else 0.0))
    return np.mean(distances) if distances else np.nan


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


# ---- matrix completion ------------------------------------------------------------


def completion_objective(x, mean, b, c, values, rows, cols, lam, bias_reg=0.0, p=None, q=None):
    """Objective of the regularized problem, dense; b, c and the mean are 0 without biases."""
    p = np.ones(len(x)) if p is None else p
    q = np.ones(x.shape[1]) if q is None else q
    error = values - (x + mean + b[:, None] + c)[rows, cols]
    norm = np.linalg.norm(np.sqrt(p)[:, None] * x * np.sqrt(q), "nuc")
    return error @ error / 2 + lam * norm + bias_reg / 2 * (b @ b + c @ c)


def completion_dual(theta, values, rows, cols, shape, lam, bias_reg=None, free_mean=True, p=None, q=None):
    """Value of the dual problem at the dense theta, -inf where it is not feasible (to 1e-9)."""
    p = np.ones(shape[0]) if p is None else p
    q = np.ones(shape[1]) if q is None else q
    at = theta[rows, cols]
    if np.linalg.norm(theta / np.sqrt(np.outer(p, q)), 2) > lam * (1 + 1e-9):
        return -np.inf
    value = at @ values - at @ at / 2
    if bias_reg is not None:
        if free_mean and abs(at.sum()) > 1e-9 * np.abs(at).sum():
            return -np.inf
        value -= (np.sum(theta.sum(axis=1) ** 2) + np.sum(theta.sum(axis=0) ** 2)) / (2 * bias_reg)
    return value


def soft_impute(values, rows, cols, shape, lam, steps):
    """Soft-Impute, dense: fill the gaps with X, soft-threshold the singular values, repeat."""
    x = np.zeros(shape)
    for _ in range(steps):
        filled = x.copy()
        filled[rows, cols] = values
        u, s, vt = np.linalg.svd(filled, full_matrices=False)
        x = u * np.maximum(s - lam, 0) @ vt
    return x
