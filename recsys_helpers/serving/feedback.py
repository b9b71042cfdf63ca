"""What people say about their recommendations, kept in one SQLite file."""

from __future__ import annotations

import contextlib
import math
import numbers
import os
import sqlite3
import threading
import time
from pathlib import Path

import pandas as pd

from ..checks import check_choice
from ..data.intake import check_scale
from .ids import (
    check_id,
    check_user,
    from_key,
    item_from_key,
    item_key,
    one_kind,
    plain,
    to_key,
)  # fmt: skip
from .scale import worth

EVENTS = ("rating", "like", "dislike", "hide", "clear")
APPLICATION_ID = 0x52656373  # "Recs", in the header of the file
SCHEMA_VERSION = 2  # 1 knew no ids of text; its rows are read as they are
# `user` has no type on purpose: SQLite then keeps the number 12 and a text apart. In the column movieId
# the marks of `ids` do that.
SCHEMA = """
CREATE TABLE feedback (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user NOT NULL,
    movieId INTEGER NOT NULL,
    event TEXT NOT NULL,
    rating REAL,
    time REAL NOT NULL
)
"""
COLUMNS = ["id", "user", "movieId", "event", "rating", "time"]


class FeedbackFileError(ValueError):
    """The file is damaged, of another program, or of a later version; the message says what to do."""


class FeedbackStore:
    """A log of feedback that survives restarts, crashes and several writers.

    Every call of `add` appends one event, in a transaction of its own, and returns when
    the event is on disk. What counts now is read off the log: of each person and film the
    last rating, like or dislike, and whether the film is hidden.

    Parameters
    ----------
    path : str or Path
        The file, made if it does not exist, on a local disk. ":memory:" keeps everything
        in this process and forgets it at the end.
    scale : tuple of float
        Lowest and highest possible rating. A like and a dislike count as `like` and `dislike`, eight and
        two ninths of the way up: 4.5 and 1.5 stars on the scale from 0.5 to 5.
    timeout : float
        Seconds to wait for another writer before `add` gives up.

    Raises
    ------
    FeedbackFileError
        If the file is damaged, belongs to another program, was written by a later version, or
        holds ratings outside the scale; nothing is changed in it.
    ValueError
        If the scale is none.
    OSError
        If it cannot be opened or written.

    Notes
    -----
    A *user* is a user of the data (a whole number, or ``UserId("A2SUAM1J3GNN3B")`` where the ids are text),
    or a session: a text of 8 to 64 letters, digits, "_" and "-" that starts with a letter. No session is
    ever taken for a user of the data, whatever the ids of the data are.

    The file is in write-ahead mode with ``synchronous=FULL`` (https://sqlite.org/wal.html):
    readers never wait for a writer, an event whose `add` has returned outlives a killed
    process and a power cut, and of an event in the middle of being written nothing remains.
    Any number of threads may share a store, and any number of processes may open the file,
    each for itself. An event costs one sync of the disk.
    """

    def __init__(self, path, *, scale=(0.5, 5.0), timeout=30.0):
        self.path = path if str(path) == ":memory:" else Path(path)
        self.scale = check_scale(scale)
        self.like, self.dislike = worth(self.scale)
        if isinstance(timeout, bool) or not isinstance(timeout, numbers.Real) or not 0 < timeout < math.inf:
            raise ValueError(f"timeout: got {timeout!r}; expected a number of seconds above 0")
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._timeout = float(timeout)
        self._connection = None
        if isinstance(self.path, Path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connection = sqlite3.connect(
                self.path, timeout=self._timeout, isolation_level=None, check_same_thread=False
            )
            self._prepare()
            self._check_stored_ratings()
        except sqlite3.DatabaseError as error:
            self.close()
            self._explain(error)
        except BaseException:
            self.close()
            raise

    def _prepare(self):
        """Check that the file is ours, or empty; then set it up."""
        execute = self._connection.execute
        execute("PRAGMA synchronous=FULL")
        execute("BEGIN")  # one moment for all three: another process may be making the table
        tables = execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        owner = execute("PRAGMA application_id").fetchone()[0]
        version = execute("PRAGMA user_version").fetchone()[0]
        execute("COMMIT")
        if owner != APPLICATION_ID and (tables or owner or version):
            raise FeedbackFileError(
                f"path: got {self.path}, a database of another program; expected a file that "
                "FeedbackStore made, or none yet"
            )
        if version > SCHEMA_VERSION:
            raise FeedbackFileError(
                f"path: got {self.path} with schema version {version}; expected up to {SCHEMA_VERSION}: "
                "install a later recsys_helpers"
            )
        if tables:
            found = execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(found)
        self._write_ahead()
        with self._transaction() as connection:
            # Another process may have made the table since we looked.
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if not found:
                connection.execute(SCHEMA)
                connection.execute("CREATE INDEX feedback_user ON feedback (user, movieId, id)")
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            if found < SCHEMA_VERSION:
                connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def _check_stored_ratings(self):
        """Ratings outside the scale would fail in the model, long after this moment."""
        low, high = self.scale
        least, most = self._rows("SELECT MIN(rating), MAX(rating) FROM feedback")[0]
        if least is not None and not (low <= least and most <= high):
            raise FeedbackFileError(
                f"scale: got {low:g} to {high:g}, but {self.path} holds ratings from {least:g} to {most:g}; "
                "expected the scale that the file was written with, or another file"
            )

    def _write_ahead(self):
        """Switch the journal. SQLite does not wait for others at this step, so we do."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                mode = self._connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        if mode != ("memory" if self.path == ":memory:" else "wal"):
            raise OSError(f"{self.path}: this file system allows no write-ahead log; expected a local disk")

    def _explain(self, error):
        """Turn what SQLite says about the file into an error that says what to do."""
        code = getattr(error, "sqlite_errorcode", None)
        if isinstance(error, sqlite3.OperationalError) and code is not None:
            raise OSError(
                f"{self.path}: the feedback cannot be opened or written ({error}); expected a local file "
                "that this user may write, in a folder with free space"
            ) from error
        raise FeedbackFileError(
            f"path: got {self.path}, which is damaged or no database ({error}); expected a file that "
            "FeedbackStore made. Move it away, or put a backup in its place"
        ) from error

    # ---- writing ----------------------------------------------------------------

    def add(self, user, movie, event, rating=None):
        """Append one event; on disk when this returns.

        Parameters
        ----------
        user : int, UserId or str
            A user of the data, or the text of a session.
        movie : int or str
            The item's id, as the data has it.
        event : {"rating", "like", "dislike", "hide", "clear"}
            "clear" takes back what the same user said about the film before.
        rating : float, optional
            The stars of a "rating"; none for the others.

        Returns
        -------
        dict
            The event as stored: id, user, movieId, event, rating, time (seconds since 1970, UTC).

        Raises
        ------
        ValueError
            On an argument that is not as documented.
        OSError
            If the event could not be stored: the disk is full, or another writer held the
            file for longer than `timeout`. Then nothing was stored.
        """
        user, movie = check_user(user), check_id(movie, "movieId")
        check_choice("event", event, EVENTS)
        rating = self._check_rating(event, rating)
        now = time.time()
        with self._transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO feedback (user, movieId, event, rating, time) VALUES (?, ?, ?, ?, ?)",
                (to_key(user), item_key(movie), event, rating, now),
            )
            number = cursor.lastrowid
        return dict(zip(COLUMNS, (number, user, movie, event, rating, now), strict=True))

    def forget(self, user):
        """Delete everything that one user said.

        Returns
        -------
        int
            How many events were deleted.
        """
        with self._transaction() as connection:
            query = "DELETE FROM feedback WHERE user = ?"
            return connection.execute(query, (to_key(check_user(user)),)).rowcount

    # ---- reading ----------------------------------------------------------------

    def ratings(self, user):
        """What one user thinks now, as ratings: ready for a model's ``fold_in``.

        Parameters
        ----------
        user : int, UserId or str

        Returns
        -------
        dict of int or str to float
            Ratings by the ids of items, in the order in which they were given. A like counts as
            `like`, a dislike as `dislike`.
        """
        rows = self._opinions("user = ?", to_key(check_user(user)))
        return {movie: stars for _, movie, stars, _ in rows}

    def hidden(self, user):
        """The items that one user does not want to see again.

        Parameters
        ----------
        user : int, UserId or str

        Returns
        -------
        set of int or str
            Ids of items.
        """
        rows = self._rows(
            "SELECT movieId, event, MAX(id) FROM feedback WHERE user = ? AND event IN ('hide', 'clear') "
            "GROUP BY movieId",
            to_key(check_user(user)),
        )
        return {item_from_key(movie) for movie, event, _ in rows if event == "hide"}

    def events(self, user=None):
        """The log.

        Parameters
        ----------
        user : int, UserId or str, optional
            Of one user; by default of all.

        Returns
        -------
        DataFrame
            Columns id, user, movieId, event, rating (NaN where none) and time, oldest first.
        """
        where, values = ("", ()) if user is None else (" WHERE user = ?", (to_key(check_user(user)),))
        rows = self._rows(f"SELECT {', '.join(COLUMNS)} FROM feedback{where} ORDER BY id", *values)
        rows = [(at, from_key(user), item_from_key(movie), *rest) for at, user, movie, *rest in rows]
        frame = pd.DataFrame(rows, columns=COLUMNS)
        return frame.astype({"user": object, "rating": float, "time": float})

    def __len__(self):
        return self._rows("SELECT count(*) FROM feedback")[0][0]

    def export(self, first_session_id=None, *, ratings=None):
        """The opinions of all users as a table of ratings, to train on.

        Parameters
        ----------
        first_session_id : int, optional
            Where the ids of users are numbers: sessions are numbered from here on, in the order of their
            first event. By default after the largest id of a user in the store and in `ratings`.
        ratings : Ratings, optional
            The data to join the table with: sessions get ids that it does not have, and the columns its
            names.

        Returns
        -------
        DataFrame
            Columns userId, movieId (or the names in `ratings`), rating and timestamp (whole seconds),
            oldest first, as `Ratings.from_frame` takes it. ``attrs["sessions"]`` says which id is whom;
            where the ids of users are text, those of sessions begin with "session:". UUIDs are text here.

        Raises
        ------
        ValueError
            If a session would get the id of a user, or if ids that are numbers and ids that are text
            came together.
        """
        rows = self._rows("SELECT user, MIN(id) FROM feedback GROUP BY user ORDER BY 2")
        everybody = [from_key(row[0]) for row in rows]
        sessions = [user for user in everybody if isinstance(user, str)]
        known = {getattr(user, "id", user) for user in everybody if not isinstance(user, str)}
        taken = known if ratings is None else known.union(map(plain, ratings.user_ids.tolist()))
        name = _names(first_session_id, sessions, taken)
        opinions = [
            (name.get(user) if isinstance(user, str) else getattr(user, "id", user), movie, stars, int(when))
            for user, movie, stars, when in self._opinions("1")
        ]
        one_kind([movie for _, movie, _, _ in opinions], "movieId")
        user_name = getattr(ratings, "user_name", "userId")
        item_name = getattr(ratings, "item_name", "movieId")
        frame = pd.DataFrame(opinions, columns=[user_name, item_name, "rating", "timestamp"])
        frame = frame.astype({"rating": float, "timestamp": "int64"})
        if not opinions:
            frame = frame.astype({user_name: "int64", item_name: "int64"})
        frame.attrs["sessions"] = {at: user for user, at in name.items()}
        return frame

    def close(self):
        """Close the file. A store that is garbage does so, too; nothing is lost either way."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __del__(self):
        if getattr(self, "_connection", None) is not None:
            self.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        return f"<FeedbackStore {self.path}>"

    # ---- inside -------------------------------------------------------------------

    def _open(self):
        if self._connection is None:
            raise ValueError(f"{self!r} is closed; open the file with a new FeedbackStore")
        if self._process != os.getpid():
            raise RuntimeError(
                f"{self!r} was opened in another process; a forked process opens the file for itself"
            )
        return self._connection

    @contextlib.contextmanager
    def _transaction(self):
        with self._lock:
            connection = self._open()
            try:
                # IMMEDIATE takes the writer's place at once, where waiting for others works;
                # a reader that turns into a writer is refused without waiting.
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except sqlite3.DatabaseError as error:
                self._roll_back(connection)
                self._explain(error)
            except BaseException:
                self._roll_back(connection)
                raise

    def _roll_back(self, connection):
        if connection.in_transaction:
            connection.execute("ROLLBACK")

    def _rows(self, query, *values):
        with self._lock:
            connection = self._open()
            try:
                return connection.execute(query, values).fetchall()
            except sqlite3.DatabaseError as error:
                self._explain(error)

    def _opinions(self, where, *values):
        """Rows (user, item, rating, time) of what counts now, oldest first."""
        # With MAX in the list, SQLite takes the other columns from the row of the maximum.
        rows = self._rows(
            "SELECT user, movieId, event, rating, time, MAX(id) AS last FROM feedback "
            f"WHERE event <> 'hide' AND {where} GROUP BY user, movieId ORDER BY last",
            *values,
        )
        stars = {"like": self.like, "dislike": self.dislike}
        return [
            (from_key(user), item_from_key(movie), stars.get(event, rating), when)
            for user, movie, event, rating, when, _ in rows
            if event != "clear"
        ]

    def _check_rating(self, event, rating):
        if event != "rating":
            if rating is not None:
                raise ValueError(f"rating: got {rating!r} with the event {event!r}; expected none")
            return None
        low, high = self.scale
        if isinstance(rating, bool) or not isinstance(rating, numbers.Real) or not low <= rating <= high:
            raise ValueError(f"rating: got {rating!r}; expected a number from {low:g} to {high:g}")
        return float(rating)


def _names(first, sessions, taken):
    """An id for each session that is not among those of users."""
    if one_kind(taken, "user"):
        if first is not None:
            raise ValueError(
                f"first_session_id: got {first!r}, but the ids of users are text; leave it out: sessions get "
                'names that begin with "session:"'
            )
        mark = "session:"
        while any(user.startswith(mark) for user in taken):
            mark = f"session:{mark}"
        return {session: f"{mark}{session}" for session in sessions}
    if first is None:
        first = 1 + max([0, *taken])
    elif isinstance(first, bool) or not isinstance(first, numbers.Integral):
        raise ValueError(f"first_session_id: got {first!r}; expected a whole number")
    number = {session: int(first) + at for at, session in enumerate(sessions)}
    met = taken.intersection(number.values())
    if met:
        raise ValueError(
            f"first_session_id: got {first}, with {len(number)} session(s) to number, but {min(met)} is the "
            f"id of a user; expected a number above {max(taken)}, the largest of them"
        )
    return number
