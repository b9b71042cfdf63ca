"""The scale of the ratings: its steps, and where a like and a dislike stand on it."""

from __future__ import annotations

import numpy as np

from ..data.intake import check_scale

#: Stars that a like and a dislike stand for on MovieLens's scale from 0.5 to 5: in the embedded data, the
#: means of the ratings from 4 up and of those from 2 down, to the half star.
LIKE, DISLIKE = 4.5, 1.5
STEPS = (1.0, 0.5, 0.25, 0.1, 0.05, 0.01)


def worth(scale):
    """The ratings that a like and a dislike count as.

    Parameters
    ----------
    scale : tuple of float
        Lowest and highest possible rating.

    Returns
    -------
    like, dislike : float
        As far up the scale as `LIKE` and `DISLIKE` are on the one from 0.5 to 5: eight ninths and two
        ninths of the way. On a scale from 1 to 10 they are 9 and 3.
    """
    low, high = check_scale(scale)
    return tuple(low + (stars - 0.5) / 4.5 * (high - low) for stars in (LIKE, DISLIKE))


def step_of(ratings):
    """The step in which the ratings of a table come, from its lowest possible rating up.

    Parameters
    ----------
    ratings : Ratings

    Returns
    -------
    float or None
        2 or less: the whole scale where only its two ends occur and lie that close (thumbs), else the
        largest of 1, 0.5, 0.25, 0.1, 0.05 and 0.01 that all ratings are multiples of, counted from the
        lowest. None where they come in no such steps.

    Notes
    -----
    O(nnz), a few passes.
    """
    low, high = ratings.scale
    values = np.unique(ratings.values).astype(np.float64)
    for step in ((high - low,) if high - low <= 2 else ()) + STEPS:
        if np.all([_whole((x - low) / step) for x in (*values, high)]):
            return float(step)
    return None


def _whole(x):
    return abs(x - round(x)) < 1e-3  # ratings are float32: 3.7 is not quite 3.7
