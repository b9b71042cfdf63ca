"""How nbval compares the chapters' outputs: text to the letter, decimals to one in their last digit.

A number that lies beside the edge of a rounding is printed as 0.256 on one machine and as 0.257 on
another, whose linear algebra adds up in another order. Whole numbers stay exact.
"""

import re
from decimal import Decimal

from nbval.plugin import IPyNbCell

DECIMAL = re.compile(r"(-?\d+\.\d+(?:[eE][-+]?\d+)?)")


class Printed(str):
    """Text that equals another one when only last digits of its decimals differ, by one."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        if not isinstance(other, str):
            return NotImplemented
        mine, others = DECIMAL.split(self), DECIMAL.split(other)
        # Every second part is a decimal.
        return mine[::2] == others[::2] and all(map(_near, mine[1::2], others[1::2]))

    def __ne__(self, other):
        return not self == other


def _near(a, b):
    a, b = Decimal(a), Decimal(b)
    unit = max(a.as_tuple().exponent, b.as_tuple().exponent)
    return abs(a - b) <= Decimal(1).scaleb(unit)


_sanitize = IPyNbCell.sanitize


def sanitize(cell, text):
    text = _sanitize(cell, text)
    return Printed(text) if isinstance(text, str) else text


IPyNbCell.sanitize = sanitize
