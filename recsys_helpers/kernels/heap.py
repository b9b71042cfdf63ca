"""The K best of a stream of candidates: a heap with the worst on top.

A candidate is a value with a code; of equal values the smaller code is better. The heap lies in two
arrays of length K, and a candidate that is no better than the worst costs one comparison.
"""

from .compiling import njit


@njit(inline="always")
def _worse(value, code, other_value, other_code):
    return value < other_value or (value == other_value and code > other_code)


@njit
def _sift_down(values, codes, at, size):
    value, code = values[at], codes[at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and _worse(values[child + 1], codes[child + 1], values[child], codes[child]):
            child += 1
        if not _worse(values[child], codes[child], value, code):
            break
        values[at], codes[at] = values[child], codes[child]
        at = child
    values[at], codes[at] = value, code


@njit
def offer(values, codes, size, value, code):
    """Put a candidate into a heap of `size`; returns the new size, at most len(values)."""
    if size < len(values):
        at = size
        while at > 0:
            parent = (at - 1) // 2
            if not _worse(value, code, values[parent], codes[parent]):
                break
            values[at], codes[at] = values[parent], codes[parent]
            at = parent
        values[at], codes[at] = value, code
        return size + 1
    if _worse(values[0], codes[0], value, code):
        values[0], codes[0] = value, code
        _sift_down(values, codes, 0, size)
    return size


@njit
def finish(values, codes, size):
    """Best first, by sorting the heap in place; empty places hold 0 and -1."""
    for last in range(size - 1, 0, -1):
        values[0], values[last] = values[last], values[0]
        codes[0], codes[last] = codes[last], codes[0]
        _sift_down(values, codes, 0, last)
    values[size:] = 0.0
    codes[size:] = -1
