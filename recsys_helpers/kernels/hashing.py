"""Random bits that belong to a number: the same on every machine, in any order, in any thread."""

import math

import numpy as np

from .compiling import njit

STEP = np.uint64(0x9E3779B97F4A7C15)  # between the states of a stream


@njit(inline="always")
def mixed(state):
    """SplitMix64 (Steele, Lea and Flood 2014): every bit of a state moves half of the bits that come out."""
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit
def normals(key, out, start, count):
    """out[start : start + count] = independent standard normal numbers that belong to a key.

    Two at a time from two uniform ones (Box and Muller 1958); about 20 ns each.
    """
    state = np.uint64(key)
    for t in range(0, count, 2):
        state += STEP
        # (0, 1], so that the logarithm is finite; 53 bits.
        first = (np.float64(mixed(state) >> np.uint64(11)) + 1.0) * 2.0**-53
        state += STEP
        angle = np.float64(mixed(state) >> np.uint64(11)) * (2.0**-52 * math.pi)
        length = math.sqrt(-2.0 * math.log(first))
        out[start + t] = length * math.cos(angle)
        if t + 1 < count:
            out[start + t + 1] = length * math.sin(angle)
