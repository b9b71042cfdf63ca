"""Ids in a service and its file: numbers stay numbers, text stays text, and sessions are neither."""

from __future__ import annotations

import numbers
import re
import uuid
from dataclasses import dataclass

LOWEST, HIGHEST = -(2**63), 2**64 - 1  # whole numbers of 64 bits, signed or not
LONGEST = 512  # characters of an id that is text
SESSION = r"^[A-Za-z][A-Za-z0-9_-]{7,63}$"
NUMBER = r"^(0|-?[1-9][0-9]{0,19})$"  # one way to write each whole number


@dataclass(frozen=True)
class UserId:
    """A user of the data whose id is text, where plain text would mean a session.

    Parameters
    ----------
    id : str or int
        As the data has it. ``UserId(12)`` is the same as 12.
    """

    id: str | int


def check_id(value, name):
    """An id of the data as Python's own int or str.

    Parameters
    ----------
    value : int, float that is whole, str or uuid.UUID
    name : str
        What the id is of, for the error.

    Raises
    ------
    ValueError
        For anything else, for numbers of more than 64 bits, and for text that is empty, longer than
        `LONGEST` or not valid Unicode.
    """
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, str):
        if _sound(value):
            return str(value)
    elif isinstance(value, numbers.Real) and not isinstance(value, bool):
        whole = isinstance(value, numbers.Integral) or float(value).is_integer()
        if whole and LOWEST <= value <= HIGHEST:
            return int(value)
    raise ValueError(
        f"{name}: got {ascii(value)[:80]}; expected an id of the data: a whole number of at most 64 bits, "
        f"or text of 1 to {LONGEST} characters"
    )


def _sound(text):
    try:
        text.encode("utf-8")  # half of a surrogate pair can be neither stored nor sent
    except UnicodeEncodeError:
        return False
    return 0 < len(text) <= LONGEST


def plain(value):
    """An id of the data as JSON and the store hold it: a UUID as the text that it is written as."""
    return str(value) if isinstance(value, uuid.UUID) else value


def whole(value):
    """JSON knows one kind of number: 2.0 is the whole number 2."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def check_user(user):
    """Who gave feedback: an int, a `UserId` of text, or a str, which is a session.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if isinstance(user, UserId):
        known = check_id(user.id, "user")
        return known if isinstance(known, int) else UserId(known)
    if isinstance(user, numbers.Real) and not isinstance(user, bool):
        return check_id(user, "user")
    if isinstance(user, str) and re.fullmatch(SESSION[1:-1], user):
        return str(user)
    raise ValueError(
        f"user: got {ascii(user)[:80]}; expected a user of the data (a whole number, or UserId(text)), or a "
        "session: 8 to 64 letters, digits, _ and -, the first a letter"
    )


# In a file, text of the data is marked by a sign that no session can have, so that the three never meet.
TEXT, LARGE = "id:", "int:"


def to_key(value):
    """What SQLite stores for the result of `check_user` or `check_id`."""
    if isinstance(value, UserId):
        return TEXT + value.id
    if isinstance(value, int):
        return value if value < 2**63 else f"{LARGE}{value}"
    return value


def item_key(value):
    """What SQLite stores for an item."""
    return to_key(UserId(value) if isinstance(value, str) else value)


def from_key(key):
    """The inverse of `to_key`."""
    if isinstance(key, str) and key.startswith(TEXT):
        return UserId(key.removeprefix(TEXT))
    if isinstance(key, str) and key.startswith(LARGE):
        return int(key.removeprefix(LARGE))
    return key


def item_from_key(key):
    """The inverse of `item_key`."""
    value = from_key(key)
    return value.id if isinstance(value, UserId) else value


def one_kind(ids, name):
    """Whether ids are text (True) or numbers (False); None where there are none.

    Raises
    ------
    ValueError
        If both are among them.
    """
    kinds = {isinstance(value, str) for value in ids}
    if len(kinds) > 1:
        raise ValueError(
            f"{name}: got ids that are numbers and ids that are text; expected one kind: keep the feedback "
            "on different data in different files"
        )
    return kinds.pop() if kinds else None
