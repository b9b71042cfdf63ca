"""Share work out among threads: spans of rows with about equal work, each done by one thread.

The kernels release Python's lock, so plain threads run side by side. Nothing outlives a call: a process
may be forked before and after, several threads may do this at once, and no threading layer is loaded.
The spans depend on the work alone, so sums over them have the same bits whatever the number of threads.
"""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np


def threads(n_threads=None):
    """The number of threads to use: as given, or all processors (NUMBA_NUM_THREADS, where it is set)."""
    return numba.config.NUMBA_NUM_THREADS if n_threads is None else n_threads


def cut(work, piece, most=256):
    """Cut rows into consecutive spans of about equal work.

    Parameters
    ----------
    work : ndarray, shape (rows,)
        Of each row, in any unit; not below 0.
    piece : float
        Work of one span. With less in all there is a single span.
    most : int
        Upper bound on the number of spans.

    Returns
    -------
    list of int
        Ascending, from 0 to the number of rows: span s is bounds[s] ... bounds[s + 1] - 1. [0, 0] for
        no rows.
    """
    done = np.cumsum(work, dtype=np.float64)
    if len(done) == 0:
        return [0, 0]
    pieces = int(np.clip(done[-1] / piece, 1, most))
    inner = np.searchsorted(done, done[-1] * np.arange(1, pieces) / pieces) + 1
    return np.unique(np.concatenate([[0], inner, [len(done)]])).tolist()


def run(work, bounds, n_threads=None, done=None):
    """Call ``work(first, stop)`` for every span.

    Parameters
    ----------
    work : callable
        Of two whole numbers. What it calls must release Python's lock for threads to be of use.
    bounds : sequence of int
        As from `cut`.
    n_threads : int, optional
        As in `threads`. Each takes the next span when it is done with its last.
    done : callable, optional
        Told the bounds of each span once it and all before it are done, for progress bars.

    Returns
    -------
    list
        What `work` returned, in the order of the spans.

    Raises
    ------
    Exception
        The first that `work` raised; spans that had not begun are dropped.
    """
    spans = list(zip(bounds[:-1], bounds[1:], strict=True))
    n_threads = min(threads(n_threads), len(spans))
    results = []
    if n_threads == 1:
        for span in spans:
            results.append(work(*span))
            if done is not None:
                done(*span)
        return results
    with ThreadPoolExecutor(n_threads) as pool:
        jobs = deque(pool.submit(work, *span) for span in spans)
        try:
            for span in spans:
                results.append(jobs.popleft().result())
                if done is not None:
                    done(*span)
        finally:
            for job in jobs:
                job.cancel()
    return results
