"""Which column of a table holds users, items, ratings and times."""

from __future__ import annotations

import difflib
import re

ROLES = ("user", "item", "rating", "timestamp")
# Names as they are compared: lower case, letters and digits only. Names of one tier are equally
# likely; an earlier tier wins over a later one.
ALIASES = {
    "user": (
        ("userid", "uid"),
        (
            "user", "reviewerid", "customerid", "memberid", "profileid", "accountid", "visitorid", "clientid",
            "buyerid", "personid", "readerid", "listenerid", "playerid", "studentid", "sessionid",
        ),
        ("username", "reviewer", "reviewername", "customer", "member", "profilename", "person", "reader"),
    ),
    "item": (
        ("movieid", "itemid", "iid"),
        (
            "isbn", "asin", "productid", "bookid", "artistid", "songid", "trackid", "gameid", "businessid",
            "animeid", "jokeid", "articleid", "newsid", "filmid", "recipeid", "restaurantid", "appid",
            "contentid", "albumid", "beerid", "beerbeerid", "placeid", "venueid", "locationid", "sku",
        ),
        ("parentasin", "item", "movie", "product", "book", "film", "song", "track", "artist", "game", "joke"),
        ("title", "movietitle", "booktitle", "producttitle"),
    ),
    "rating": (
        ("rating", "bookrating", "userrating", "myrating"),
        ("ratings", "score", "stars", "star", "overall", "starrating", "userscore", "reviewscore",
         "reviewoverall", "reviewrating", "preference"),
        ("playcount", "plays", "count", "listens", "views", "clicks", "quantity", "weight", "value"),
    ),
    "timestamp": (
        ("timestamp",),
        ("unixreviewtime", "ratingtimestamp", "unixtime", "tstamp", "ts"),
        ("ratingdate", "datetime", "createdat", "reviewdate", "ratedat", "dateadded"),
        ("time", "date", "reviewtime", "when"),
    ),
}  # fmt: skip


def plain(name):
    """A column's name as it is compared."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def find_columns(names, given, required, label, *, known=None):
    """Which column plays which role.

    Parameters
    ----------
    names : list
        The table's columns.
    given : dict of str to str or None
        Columns that the caller named, by role.
    required : sequence of str
        Roles that must be found.
    label : str
        What is read, for messages.
    known : dict of str to str, optional
        Names to prefer, by role, where they are there: how the training data called them.

    Returns
    -------
    dict of str to str
        Column by role, for the roles that were found.

    Raises
    ------
    ValueError
        If a column is not there, is there twice, or two are equally likely.
    """
    names = list(names)
    found = {}
    for role in ROLES:
        if role not in given:
            continue
        name = given[role]
        if name is None:
            name = _likely(role, names, (known or {}).get(role), label)
        elif name not in names:
            near = difflib.get_close_matches(str(name), [str(n) for n in names], n=1)
            hint = f"; did you mean {near[0]!r}" if near else ""
            raise ValueError(f"{label}: {role}: got {name!r}, no column of {names}{hint}")
        if name is not None:
            found[role] = name
    missing = [role for role in required if role not in found]
    if missing:
        raise ValueError(
            f"{label}: missing column(s) {missing}; got {names}; expected usual names such as "
            f"{', '.join(_EXAMPLES[role] for role in missing)}, or name them: "
            + ", ".join(f"{role}=..." for role in missing)
        )
    for name in found.values():
        if names.count(name) > 1:
            raise ValueError(f"{label}: column {name} is there {names.count(name)} times; expected once")
    taken = list(found.values())
    for role, name in found.items():
        if taken.count(name) > 1:
            raise ValueError(f"{label}: column {name} was named for two roles, one of them {role}")
    return found


_EXAMPLES = {"user": "userId", "item": "movieId", "rating": "rating", "timestamp": "timestamp"}


def _likely(role, names, preferred, label):
    if preferred is not None and preferred in names:
        return preferred
    for tier in ALIASES[role]:
        matches = list(dict.fromkeys(name for name in names if plain(name) in tier))
        if len(matches) > 1:
            none = ", or none of them: timestamp=False" if role == "timestamp" else ""
            raise ValueError(
                f"{label}: columns {matches} could both hold the {role}s; name the right one: "
                f"{role}={matches[0]!r}{none}"
            )
        if matches:
            return matches[0]
    return None
