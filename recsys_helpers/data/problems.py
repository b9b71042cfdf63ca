"""What a reader should know about a table of ratings before a model is fitted on it."""

from __future__ import annotations

import time

import numpy as np

# A share of ratings that one value, one user or one item has, from which on it is worth a word.
MOST = 0.5


def problems(ratings):
    """What is odd about ratings, each in one sentence with what to do.

    Parameters
    ----------
    ratings : Ratings

    Returns
    -------
    list of str
        Empty where nothing was found.

    Notes
    -----
    O(nnz log nnz) for counting values.
    """
    found = []
    if ratings.n_duplicates:
        found.append(
            f"{ratings.n_duplicates:,} repeated (user, item) pairs were merged; see duplicates= for how"
        )
    values, counts = np.unique(ratings.values, return_counts=True)
    if len(values) == 1 and ratings.scale != (0.0, 1.0):
        found.append(
            f"every rating is {values[0]:g}: there is nothing to predict; treat the pairs as implicit "
            "feedback"
        )
    elif counts.max() > MOST * len(ratings) and len(values) > 1:
        share = 100 * counts.max() / len(ratings)
        found.append(f"{share:.0f} % of the ratings are {values[counts.argmax()]:g}: errors will look small")
    found += _sides(ratings)
    if ratings.timestamps is None:
        found.append("there are no times: models cannot be judged on the future (protocol temporal)")
    else:
        found += _times(ratings.timestamps)
    return found


def _sides(ratings):
    found = []
    for word, counts in (("user", ratings.user_counts), ("item", ratings.item_counts)):
        counts = counts[counts > 0]
        single = float(np.mean(counts == 1))
        if single > 0.2:
            found.append(
                f"{100 * single:.0f} % of the {word}s have a single rating: little can be learned about them"
            )
        if len(counts) > 1 and counts.max() > MOST * counts.sum():
            found.append(f"one {word} has more than half of the ratings")
    if min(np.count_nonzero(ratings.user_counts), np.count_nonzero(ratings.item_counts)) < 3:
        found.append("fewer than three users or items: there is nobody to compare with")
    return found


def _times(times):
    found = []
    if times.min() == times.max():
        found.append("all times are equal: they tell nothing")
    elif times.max() > time.time() + 86_400:
        found.append("some times lie in the future: are they in another unit, or dates of something else?")
    if times.min() <= 0:
        found.append("some times are 0 or before 1970: 0 often stands for an unknown time")
    return found
