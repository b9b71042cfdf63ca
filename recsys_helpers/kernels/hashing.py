"""Random bits that belong to a number: the same on every machine, in any order, in any thread."""

import numpy as np

from .compiling import njit

STEP = np.uint64(0x9E3779B97F4A7C15)  # between the states of a stream


@njit(inline="always")
def mixed(state):
    """SplitMix64 (Steele, Lea and Flood 2014): every bit of a state moves half of the bits that come out."""
    z = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
