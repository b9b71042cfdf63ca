"""What people say about their recommendations, kept in one SQLite file."""

from __future__ import annotations

import contextlib
import math
import numbers
import os
import re
import sqlite3
import threading
import time
from pathlib import Path

import pandas as pd

from ..checks import check_choice

EVENTS = ("rating", "like", "dislike", "hide", "clear")
#: Stars that a like and a dislike stand for when they are folded into a model: in the embedded
#: MovieLens data, the means of the ratings from 4 up and of those from 2 down, to the half star.
LIKE, DISLIKE = 4.5, 1.5
SESSION = r"^[A-Za-z][A-Za-z0-9_-]{7,63}$"
LARGEST_ID = 2**53  # beyond it JSON and floats no longer tell neighboring numbers apart

APPLICATION_ID = 0x52656373  # "Recs", in the header of the file
SCHEMA_VERSION = 1
# `user` has no type on purpose: SQLite then keeps the userId 12 and a text apart.
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
        Lowest and highest possible rating.
    timeout : float
        Seconds to wait for another writer before `add` gives up.

    Raises
    ------
    FeedbackFileError
        If the file is damaged, belongs to another program, or was written by a later
        version; nothing is changed in it.
    OSError
        If it cannot be opened or written.

    Notes
    -----
    A *user* is a userId of the data (an integer), or a session: a text of 8 to 64 letters,
    digits, "_" and "-" that starts with a letter.

    The file is in write-ahead mode with ``synchronous=FULL`` (https://sqlite.org/wal.html):
    readers never wait for a writer, an event whose `add` has returned outlives a killed
    process and a power cut, and of an event in the middle of being written nothing remains.
    Any number of threads may share a store, and any number of processes may open the file,
    each for itself. An event costs one sync of the disk.
    """

    def __init__(self, path, *, scale=(0.5, 5.0), timeout=30.0):
        self.path = path if str(path) == ":memory:" else Path(path)
        self.scale = tuple(float(x) for x in scale)
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
            if not connection.execute("PRAGMA user_version").fetchone()[0]:
                connection.execute(SCHEMA)
                connection.execute("CREATE INDEX feedback_user ON feedback (user, movieId, id)")
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

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
        user : int or str
            A userId, or the id of a session.
        movie : int
            A movieId.
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
        user, movie = check_user(user), check_movie(movie)
        check_choice("event", event, EVENTS)
        rating = self._check_rating(event, rating)
        now = time.time()
        with self._transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO feedback (user, movieId, event, rating, time) VALUES (?, ?, ?, ?, ?)",
                (user, movie, event, rating, now),
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
            return connection.execute("DELETE FROM feedback WHERE user = ?", (check_user(user),)).rowcount

    # ---- reading ----------------------------------------------------------------

    def ratings(self, user):
        """What one user thinks now, in stars: ready for `BiasedALS.fold_in`.

        Parameters
        ----------
        user : int or str

        Returns
        -------
        dict of int to float
            Stars by movieId, in the order in which they were given. A like counts as
            `LIKE` stars, a dislike as `DISLIKE`.
        """
        rows = self._opinions("user = ?", check_user(user))
        return {movie: stars for _, movie, stars, _ in rows}

    def hidden(self, user):
        """The films that one user does not want to see again.

        Parameters
        ----------
        user : int or str

        Returns
        -------
        set of int
            MovieIds.
        """
        rows = self._rows(
            "SELECT movieId, event, MAX(id) FROM feedback WHERE user = ? AND event IN ('hide', 'clear') "
            "GROUP BY movieId",
            check_user(user),
        )
        return {movie for movie, event, _ in rows if event == "hide"}

    def events(self, user=None):
        """The log.

        Parameters
        ----------
        user : int or str, optional
            Of one user; by default of all.

        Returns
        -------
        DataFrame
            Columns id, user, movieId, event, rating (NaN where none) and time, oldest first.
        """
        where, values = ("", ()) if user is None else (" WHERE user = ?", (check_user(user),))
        rows = self._rows(f"SELECT {', '.join(COLUMNS)} FROM feedback{where} ORDER BY id", *values)
        frame = pd.DataFrame(rows, columns=COLUMNS)
        return frame.astype({"user": object, "rating": float, "time": float})

    def __len__(self):
        return self._rows("SELECT count(*) FROM feedback")[0][0]

    def export(self, first_session_id=None):
        """The opinions of all users as a table of ratings, to train on.

        Parameters
        ----------
        first_session_id : int, optional
            Sessions are numbered from here on, in the order of their first event. By default
            after the largest userId in the store; to join with a data set, pass a number above
            its own.

        Returns
        -------
        DataFrame
            Columns userId, movieId, rating and timestamp (whole seconds), oldest first, as
            `Ratings.from_frame` takes it. ``attrs["sessions"]`` says which number is whom.
        """
        users = [row[0] for row in self._rows("SELECT user, MIN(id) FROM feedback GROUP BY user ORDER BY 2")]
        if first_session_id is None:
            first_session_id = 1 + max((u for u in users if isinstance(u, int)), default=0)
        sessions = [u for u in users if isinstance(u, str)]
        number = {u: first_session_id + at for at, u in enumerate(sessions)}
        rows = [
            (number.get(user, user), movie, stars, int(when))
            for user, movie, stars, when in self._opinions("1")
        ]
        frame = pd.DataFrame(rows, columns=["userId", "movieId", "rating", "timestamp"])
        frame = frame.astype({"userId": int, "movieId": int, "rating": float, "timestamp": int})
        frame.attrs["sessions"] = {at: user for user, at in number.items()}
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
        """Rows (user, movieId, stars, time) of what counts now, oldest first."""
        # With MAX in the list, SQLite takes the other columns from the row of the maximum.
        rows = self._rows(
            "SELECT user, movieId, event, rating, time, MAX(id) AS last FROM feedback "
            f"WHERE event <> 'hide' AND {where} GROUP BY user, movieId ORDER BY last",
            *values,
        )
        stars = {"like": LIKE, "dislike": DISLIKE}
        return [
            (user, movie, stars.get(event, rating), when)
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


def check_user(user):
    """The user as it is stored: an int for a userId, a str for a session; ValueError otherwise."""
    if isinstance(user, numbers.Integral) and not isinstance(user, bool) and 0 <= user <= LARGEST_ID:
        return int(user)
    if isinstance(user, str) and re.fullmatch(SESSION[1:-1], user):
        return user
    raise ValueError(
        f"user: got {ascii(user)[:80]}; expected a userId (a whole number not below 0), or a session: "
        "8 to 64 letters, digits, _ and -, the first a letter"
    )


def check_movie(movie):
    """The movieId as an int; ValueError otherwise."""
    if isinstance(movie, numbers.Integral) and not isinstance(movie, bool) and 0 <= movie <= LARGEST_ID:
        return int(movie)
    raise ValueError(f"movieId: got {ascii(movie)[:80]}; expected a whole number not below 0")
