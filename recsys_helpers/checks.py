"""Checks of arguments: each raises an error that names the argument, what came and what was expected."""

from __future__ import annotations

import numbers

import numpy as np


def check_positive_int(name, value, minimum=1):
    """Raise a ValueError that names the argument unless value is an integer >= minimum."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < minimum:
        raise ValueError(f"{name}: got {value!r}; expected a whole number not below {minimum}")
    return int(value)


def check_non_negative(name, value):
    """Raise a ValueError that names the argument unless value is a finite number >= 0."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= value < np.inf:
        raise ValueError(f"{name}: got {value!r}; expected a finite number not below 0")
    return float(value)


def check_choice(name, value, choices):
    """Raise a ValueError that names the argument unless value is one of choices."""
    if value not in choices:
        raise ValueError(f"{name}: got {value!r}; expected one of {', '.join(map(repr, choices))}")
