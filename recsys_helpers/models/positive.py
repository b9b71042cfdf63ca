"""Which pairs count as liked, for models that learn from what people do and not from what they say."""

from __future__ import annotations

import numbers

import numpy as np
from scipy.sparse import csr_array

WEIGHTS = ("binary", "value", "log")
# Of a scale of ratings, what lies above this share of it is a like: four stars of five, eight of ten.
LIKED_FROM = 0.75
# Where fewer pairs than this reach that part of the scale, the values are no ratings but counts,
# most of which are small: then every pair counts.
FEWEST_LIKED = 0.1


def check_threshold(name, value):
    """Raise a ValueError unless value is "auto", None or a finite number."""
    if value is None or (isinstance(value, str) and value == "auto"):
        return
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not np.isfinite(value):
        raise ValueError(
            f"{name}: got {value!r}; expected the least rating that counts as a like, None for every pair, "
            'or "auto"'
        )


def settled_threshold(ratings, threshold="auto"):
    """The least value that counts as a like; -inf where every pair does.

    Parameters
    ----------
    ratings : Ratings
    threshold : float, None or "auto"
        None: every pair counts. "auto": the upper quarter of the scale, unless all values are the same or
        less than a tenth of them lie there, as with counts of clicks or plays; then every pair counts.

    Returns
    -------
    float
    """
    if threshold is None:
        return -np.inf
    if threshold != "auto":
        return float(threshold)
    low, high = ratings.scale
    cut = low + LIKED_FROM * (high - low)
    some = np.count_nonzero(ratings.values >= cut) >= FEWEST_LIKED * len(ratings)
    return float(cut) if some and ratings.values.min() < ratings.values.max() else -np.inf


def liked_from(ratings):
    """The lowest rating of a table that counts as a like: a threshold for metrics, which want a number.

    Parameters
    ----------
    ratings : Ratings

    Returns
    -------
    float
        The lowest in the upper quarter of the scale, such as 4 of 5 stars. Where every pair is a like (see
        `settled_threshold`), the lowest of all; but where that is not above zero, and so no gain, again that
        of the upper quarter, or the highest where none lies there.
    """
    cut, least = settled_threshold(ratings), float(ratings.values.min())
    if not np.isfinite(cut):
        if least > 0:
            return least
        cut = ratings.scale[0] + LIKED_FROM * (ratings.scale[1] - ratings.scale[0])
    upper = ratings.values[ratings.values >= cut]
    return float(upper.min()) if len(upper) else float(ratings.values.max())


def positives(ratings, threshold, weights="binary"):
    """The liked pairs as a sparse matrix of users and items.

    Parameters
    ----------
    ratings : Ratings
    threshold : float
        As from `settled_threshold`.
    weights : {"binary", "value", "log"}
        What stands in the matrix: 1, the value, or log(1 + value).

    Returns
    -------
    csr_array of float32, shape (m, n)
        Item codes ascend within each row. Users without a liked item have an empty row.

    Raises
    ------
    ValueError
        If no pair is left, or a weight is not above 0.

    Notes
    -----
    O(nnz) operations, 8 bytes a pair.
    """
    matrix = ratings.by_user
    keep = matrix.data >= threshold
    if not keep.any():
        raise ValueError(
            f"threshold: got {threshold:g}, which no rating reaches, the highest is {matrix.data.max():g}; "
            "expected a number below, or None, so that every pair counts"
        )
    indptr = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])[matrix.indptr]
    indptr = indptr.astype(matrix.indptr.dtype)
    return csr_array((weigh(matrix.data[keep], weights), matrix.indices[keep], indptr), shape=matrix.shape)


def weigh(values, weights):
    """The weights of liked pairs with these values, float32; see `positives`."""
    values = np.asarray(values, dtype=np.float32)
    if weights == "binary":
        return np.ones(len(values), np.float32)
    if len(values) and values.min() <= 0:
        raise ValueError(
            f"weights: got {weights!r} with a value of {values.min():g}; expected values above 0, or "
            'weights="binary"'
        )
    return values if weights == "value" else np.log1p(values)
