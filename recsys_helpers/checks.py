"""Checks of arguments: each raises an error that names the argument, what came and what was expected.

`check_positive_int` and its like check one value on the spot. `whole`, `number`, `choice`,
`flag` and `optional` make a check for a declaration: a class lists its parameters once, and
`check_each` holds an object against the list.
"""

from __future__ import annotations

import difflib
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


def check_positive(name, value):
    """Raise a ValueError that names the argument unless value is a finite number > 0."""
    if check_non_negative(name, value) == 0:
        raise ValueError(f"{name}: got {value!r}; expected a number above 0")
    return float(value)


def check_choice(name, value, choices):
    """Raise a ValueError that names the argument unless value is one of choices."""
    if not isinstance(value, str) or value not in choices:
        near = difflib.get_close_matches(str(value), [c for c in choices if isinstance(c, str)], n=1)
        hint = f"; did you mean {near[0]!r}" if near else ""
        raise ValueError(f"{name}: got {value!r}; expected one of {', '.join(map(repr, choices))}{hint}")


# ---- declarations ---------------------------------------------------------------------


def whole(minimum=1):
    """A check for an integer not below `minimum`."""
    return lambda name, value: check_positive_int(name, value, minimum)


def number(*, above=None, at_most=None, below=None):
    """A check for a finite number not below 0, or above `above`, and up to a bound if one is given."""

    def check(name, value):
        lowest = 0.0 if above is None else above
        right = isinstance(value, numbers.Real) and not isinstance(value, bool) and abs(value) < np.inf
        right = right and (value >= lowest if above is None else value > lowest)
        right = right and (at_most is None or value <= at_most) and (below is None or value < below)
        if not right:
            kind = "a finite number not below 0" if above is None else f"a finite number above {above:g}"
            kind += "" if at_most is None else f", at most {at_most:g}"
            kind += "" if below is None else f", below {below:g}"
            raise ValueError(f"{name}: got {value!r}; expected {kind}")

    return check


def choice(*choices):
    """A check for one of the given words."""
    return lambda name, value: check_choice(name, value, choices)


def flag(name, value):
    """A check for True or False."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}: got {value!r}; expected True or False")


def seed(name, value):
    """A check for what `numpy.random.default_rng` takes: None, an integer not below 0, or a Generator."""
    if value is None or isinstance(value, np.random.Generator | np.random.SeedSequence):
        return
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 0:
        raise ValueError(
            f"{name}: got {value!r}; expected a whole number not below 0, a numpy.random.Generator or None"
        )


def optional(check):
    """A check that lets None through."""
    return lambda name, value: None if value is None else check(name, value)


def either(word, check):
    """A check that lets one word through, such as "auto"."""

    def check_either(name, value):
        if isinstance(value, str):
            if value != word:
                raise ValueError(f"{name}: got {value!r}; expected a number or {word!r}")
        else:
            check(name, value)

    return check_either


def check_each(owner, declared):
    """Hold attributes against their declared checks.

    Parameters
    ----------
    owner : object
    declared : dict of str to callable
        ``check(name, value)`` for each attribute; raises a ValueError that names it.
    """
    for name, check in declared.items():
        check(name, getattr(owner, name))
