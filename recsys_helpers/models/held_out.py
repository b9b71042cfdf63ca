"""Likes held out inside a training part: how a model of likes finds its own settings."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from ..kernels.metrics import AT_K, WHOLE, rank_rows
from .base import BLOCK_CELLS

SHARE = 0.2
MOST_PAIRS, MOST_USERS = 1_000_000, 2000
FEWEST_USERS = 10
LENGTH = 20
_NDCG = 6  # its place among the metrics that `rank_rows` writes


class HeldOut:
    """A fifth of the likes of each user, or of each of a sample of users, and the rest to learn from.

    Parameters
    ----------
    by_user : csr_array, shape (m, n)
        The training likes. Of more than a million a random part of the users takes part.

    Attributes
    ----------
    train, held : csr_array, shape (some users, n)
        They do not overlap.
    judged : ndarray of int
        Rows whose lists are judged: at most 2,000 that have likes in both parts.
    enough : bool
        Whether there are so many that the figure means something.
    """

    def __init__(self, by_user):
        rng = np.random.default_rng(0)
        share = MOST_PAIRS / max(by_user.nnz, 1)
        sample = by_user if share >= 1 else by_user[np.flatnonzero(rng.random(by_user.shape[0]) < share)]
        held = rng.random(sample.nnz) < SHARE
        self.train, self.held = _part(sample, ~held), _part(sample, held)
        able = np.flatnonzero((np.diff(self.held.indptr) > 0) & (np.diff(self.train.indptr) > 0))
        self.judged = np.sort(rng.permutation(able)[:MOST_USERS])
        self.enough = len(self.judged) >= FEWEST_USERS

    def ndcg(self, scores):
        """Mean NDCG of lists of twenty, all items ranked but those to learn from.

        Parameters
        ----------
        scores : callable
            ``scores(rows) -> ndarray, shape (len(rows), n)``.

        Returns
        -------
        float
        """
        discounts = 1 / np.log2(np.arange(2, LENGTH + 2))
        step = max(1, BLOCK_CELLS // max(1, self.train.shape[1]))
        total = 0.0
        for first in range(0, len(self.judged), step):
            rows = self.judged[first : first + step]
            seen, liked = self.train[rows], self.held[rows]
            lists = np.empty((len(rows), LENGTH), np.int32)
            out, whole = np.empty((len(rows), 1, AT_K)), np.empty((len(rows), WHOLE))
            rank_rows(
                0, len(rows), 0, scores(rows), rows, np.uint64(0), True, seen.indptr, seen.indices,
                liked.indptr, liked.indices, np.ones(liked.nnz), discounts, np.array([LENGTH]), False,
                lists, out, whole, np.zeros(liked.nnz, np.int32),
            )  # fmt: skip
            total += float(out[:, 0, _NDCG].sum())
        return total / len(self.judged)


def climb(quality, start, axes):
    """The place on a lattice from which no neighbor is better.

    Parameters
    ----------
    quality : callable
        Of a value of each axis; the more the better. Called once a place.
    start : tuple of int
        Positions on the axes.
    axes : sequence of sequences

    Returns
    -------
    tuple
        The values there.
    """
    known = {}

    def judge(place):
        if place not in known:
            known[place] = quality(*(axis[at] for axis, at in zip(axes, place, strict=True)))
        return known[place]

    at = tuple(start)
    while True:
        around = [
            place for place in _around(at) if all(0 <= p < len(a) for p, a in zip(place, axes, strict=True))
        ]
        best = max([at, *around], key=judge)
        if best == at:
            return tuple(axis[p] for axis, p in zip(axes, at, strict=True))
        at = best


def _around(at):
    """Places one step away along an axis, or along two against each other, as a ridge of both runs."""
    for axis in range(len(at)):
        for step in (1, -1):
            moved = list(at)
            moved[axis] += step
            yield tuple(moved)
            for other in range(axis + 1, len(at)):
                yield tuple(p - step * (q == other) for q, p in enumerate(moved))


def _part(matrix, keep):
    indptr = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr].astype(matrix.indptr.dtype)
    return csr_array((matrix.data[keep], matrix.indices[keep], indptr), shape=matrix.shape)
