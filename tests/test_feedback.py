import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from conftest import make_ratings
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_helpers import FeedbackStore, load_movielens
from recsys_helpers.data.ratings import Ratings
from recsys_helpers.serving.feedback import FeedbackFileError
from recsys_helpers.serving.ids import UserId
from recsys_helpers.serving.scale import DISLIKE, LIKE, step_of, worth

ADA, BEN = "session-ada", "session-ben"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "feedback.sqlite"


@pytest.fixture
def store(path):
    with FeedbackStore(path) as store:
        yield store


# ---- what counts ----------------------------------------------------------------


def test_the_last_word_on_a_film_counts(store):
    store.add(ADA, 1, "rating", 2.0)
    store.add(ADA, 2, "like")
    store.add(ADA, 3, "dislike")
    store.add(ADA, 1, "rating", 4.5)
    store.add(ADA, 3, "rating", 3)
    assert store.ratings(ADA) == {2: LIKE, 1: 4.5, 3: 3.0}
    assert list(store.ratings(ADA)) == [2, 1, 3], "in the order in which the opinions were given"
    store.add(ADA, 2, "clear")
    assert store.ratings(ADA) == {1: 4.5, 3: 3.0}
    store.add(ADA, 2, "dislike")
    assert store.ratings(ADA)[2] == DISLIKE


def test_hiding_and_rating_do_not_disturb_each_other(store):
    store.add(ADA, 1, "rating", 4.0)
    store.add(ADA, 1, "hide")
    store.add(ADA, 2, "hide")
    assert store.ratings(ADA) == {1: 4.0}
    assert store.hidden(ADA) == {1, 2}
    store.add(ADA, 1, "clear")
    assert store.ratings(ADA) == {} and store.hidden(ADA) == {2}


def test_a_user_id_is_not_a_session_and_nobody_sees_another(store):
    store.add(12, 1, "like")
    store.add(ADA, 1, "dislike")
    assert store.ratings(12) == {1: LIKE}
    assert store.ratings(np.int32(12)) == {1: LIKE}
    assert store.ratings(ADA) == {1: DISLIKE}
    assert store.ratings(BEN) == {} and store.hidden(BEN) == set()
    assert store.forget(ADA) == 1
    assert store.ratings(ADA) == {} and len(store) == 1


def test_the_log(store):
    before = time.time()
    told = store.add(12, 1, "rating", 4)
    store.add(ADA, 2, "hide")
    assert told == {"id": 1, "user": 12, "movieId": 1, "event": "rating", "rating": 4.0, "time": told["time"]}
    assert before <= told["time"] <= time.time()
    log = store.events()
    assert log.columns.tolist() == ["id", "user", "movieId", "event", "rating", "time"]
    assert log["user"].tolist() == [12, ADA] and log["event"].tolist() == ["rating", "hide"]
    assert log["rating"].isna().tolist() == [False, True]
    assert store.events(ADA)["id"].tolist() == [2]
    assert store.events(BEN).empty


def test_export_can_be_trained_on(store, toy):
    store.add(ADA, 3, "like")
    store.add(10, 1, "rating", 1.0)
    store.add(BEN, 5, "hide")
    store.add(BEN, 5, "rating", 2.5)
    store.add(ADA, 4, "like")
    store.add(ADA, 4, "clear")
    table = store.export()
    assert table.attrs["sessions"] == {11: ADA, 12: BEN}
    assert table[["userId", "movieId", "rating"]].values.tolist() == [
        [11, 3, LIKE],
        [10, 1, 1.0],
        [12, 5, 2.5],
    ]
    table = store.export(first_session_id=100)
    both = pd.concat([toy.to_frame(), table])
    joined = Ratings.from_frame(both, duplicates="last")
    assert joined.user_ids.tolist() == [10, 20, 30, 40, 100, 101]
    assert joined.by_user[[0], [0]].item() == 1.0, "the newer rating replaced the one in the data"


def test_export_of_nothing(store):
    table = store.export()
    assert len(table) == 0 and table.columns.tolist() == ["userId", "movieId", "rating", "timestamp"]


def test_like_and_dislike_are_what_the_data_says():
    values = load_movielens("latest-small").values
    for stars, chosen in ((LIKE, values[values >= 4]), (DISLIKE, values[values <= 2])):
        assert stars == np.round(2 * chosen.mean()) / 2


said = st.tuples(
    st.sampled_from([ADA, BEN, 1]),
    st.integers(1, 3),
    st.sampled_from(["rating", "like", "dislike", "hide", "clear"]),
    st.integers(1, 10),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(said, max_size=25))
def test_state_is_what_a_dictionary_would_hold(events):
    opinions, hidden = {}, set()
    with FeedbackStore(":memory:") as store:
        for user, movie, event, halves in events:
            store.add(user, movie, event, halves / 2 if event == "rating" else None)
            opinions.pop((user, movie), None) if event not in ("hide",) else None
            if event == "hide":
                hidden.add((user, movie))
            elif event == "clear":
                hidden.discard((user, movie))
            else:
                opinions[user, movie] = {"like": LIKE, "dislike": DISLIKE}.get(event, halves / 2)
        for user in (ADA, BEN, 1):
            assert list(store.ratings(user).items()) == [
                (m, s) for (u, m), s in opinions.items() if u == user
            ]
            assert store.hidden(user) == {m for u, m in hidden if u == user}
        assert len(store.export()) == len(opinions)


# ---- ids of any kind, scales of any kind ---------------------------------------------

TEXTS = ["12", "012", "B00X/1", "id:12", "int:12", "session-ada", "\u00fc \0"]
IDS = [*TEXTS, 12, 0, -7, 2**53 + 1, 2**53, 2**63, 2**64 - 1]


def test_ids_come_back_as_they_went_in_and_no_two_meet(store, path):
    for at, movie in enumerate(IDS):
        store.add(UserId(movie), movie, "rating", 0.5 + at % 10 / 2)
        store.add(ADA, movie, "hide")
    store.close()
    with FeedbackStore(path) as again:
        for at, movie in enumerate(IDS):
            assert again.ratings(UserId(movie)) == {movie: 0.5 + at % 10 / 2}
        assert again.hidden(ADA) == set(IDS) and again.ratings(ADA) == {}
        assert again.ratings(12) == again.ratings(UserId(12.0)) == {12: 4.0}
        log = again.events().query("event == 'rating'")
        assert log["movieId"].tolist() == IDS
        assert log["user"].tolist() == [UserId(i) if isinstance(i, str) else i for i in IDS]
        assert again.forget(UserId("session-ada")) == 1 and len(again.hidden(ADA)) == len(IDS)


def test_a_uuid_is_the_text_it_is_written_as(store):
    key = uuid.UUID(int=7)
    store.add(UserId(key), key, "like")
    assert store.ratings(UserId(str(key))) == {str(key): store.like}


def test_a_file_of_the_first_version_is_read(store, path):
    store.add(12, 1, "like")
    store.add(ADA, 2, "hide")
    store._connection.execute("PRAGMA user_version=1")
    store.close()
    with FeedbackStore(path) as again:
        again.add(UserId("ada"), "B00X", "like")
        assert again.ratings(12) == {1: LIKE} and again.hidden(ADA) == {2}
        assert again._connection.execute("PRAGMA user_version").fetchone()[0] == 2


def test_a_session_never_gets_the_number_of_a_user(store, toy):
    store.add(5, 1, "like")
    store.add(9, 1, "like")
    store.add(ADA, 1, "dislike")
    store.add(BEN, 2, "dislike")
    for first in (4, 5, 8, 9):
        with pytest.raises(ValueError, match=f"first_session_id: got {first}.*expected a number above 9"):
            store.export(first_session_id=first)
    for wrong in (True, 1.0, "7"):
        with pytest.raises(ValueError, match="first_session_id: got .*expected a whole number"):
            store.export(first_session_id=wrong)
    assert store.export().attrs["sessions"] == {10: ADA, 11: BEN}
    assert store.export(first_session_id=6).attrs["sessions"] == {6: ADA, 7: BEN}, "6 and 7 are free"
    assert store.export(ratings=toy).attrs["sessions"] == {41: ADA, 42: BEN}
    with pytest.raises(ValueError, match="but 10 is the id of a user"):
        store.export(10, ratings=toy)


def test_sessions_beside_users_whose_ids_are_text(store):
    store.add(UserId(ADA), "0123", "like")  # a user who is called like the session
    store.add(UserId("session:session-ada"), "123", "like")
    store.add(ADA, "0123", "dislike")
    table = store.export()
    assert table.attrs["sessions"] == {"session:session:session-ada": ADA}
    assert table["userId"].tolist() == [ADA, "session:session-ada", "session:session:session-ada"]
    assert table["movieId"].tolist() == ["0123", "123", "0123"]
    with pytest.raises(ValueError, match="the ids of users are text; leave it out"):
        store.export(first_session_id=7)


def test_ids_of_two_kinds_are_not_joined(store):
    store.add(UserId("ada"), 1, "like")
    store.add(7, 1, "like")
    with pytest.raises(ValueError, match="user: got ids that are numbers and ids that are text"):
        store.export()
    store.forget(7)
    store.add(ADA, "1", "like")
    with pytest.raises(ValueError, match="movieId: got ids that are numbers and ids that are text"):
        store.export()


@pytest.mark.parametrize(
    ("scale", "like", "dislike"),
    [((0.5, 5), 4.5, 1.5), ((1, 10), 9, 3), ((0, 90), 80, 20), ((-9, 9), 7, -5), ((0, 1), 8 / 9, 2 / 9)],
)
def test_a_like_is_near_the_top_of_any_scale(scale, like, dislike):
    with FeedbackStore(":memory:", scale=scale) as store:
        store.add(ADA, 1, "like")
        store.add(ADA, 2, "dislike")
        assert store.ratings(ADA) == {1: pytest.approx(like), 2: pytest.approx(dislike)}
        assert (store.like, store.dislike) == worth(scale)


@pytest.mark.parametrize(
    "scale", [(5, 1), (1, 1), (1,), (1, 2, 3), 5, None, "ab", (0, float("inf")), (float("nan"), 1)]
)
def test_what_is_no_scale_is_refused(scale, path):
    with pytest.raises(ValueError, match="scale: got .*expected (a pair|two finite numbers)"):
        FeedbackStore(path, scale=scale)
    assert not path.exists()


def test_a_file_of_another_scale_is_refused(path):
    with FeedbackStore(path, scale=(0, 10)) as store:
        store.add(ADA, 1, "rating", 9)
    with pytest.raises(FeedbackFileError, match="scale: got 0.5 to 5, but .*holds ratings from 9 to 9"):
        FeedbackStore(path)
    with FeedbackStore(path, scale=(1, 9)) as store:
        assert store.ratings(ADA) == {1: 9.0}


@pytest.mark.parametrize(
    ("values", "scale", "step"),
    [
        ([0.5, 3, 5], (0.5, 5), 0.5), ([1, 4, 2], (1, 5), 1), ([1, 7.5], (1, 10), 0.5), ([0, 1], (0, 1), 1),
        ([-1, 1], (-1, 1), 2), ([-1, 0, 1], (-1, 1), 1), ([1, 5], (1, 5), 1), ([3.7, 1.2], (1, 5), 0.1),
        ([-9.81, 3.33], (-10, 10), 0.01), ([1 / 3, 2 / 7], (0, 1), None), ([0, 100], (0, 100), 1),
    ],
)  # fmt: skip
def test_steps_of_ratings(values, scale, step):
    ratings = make_ratings([(1, at, value) for at, value in enumerate(values)], scale=scale)
    assert step_of(ratings) == step


# ---- nothing lost -----------------------------------------------------------------

WRITER = """
import os, signal, sys
from recsys_helpers import FeedbackStore
store = FeedbackStore(sys.argv[1])
how, movie = sys.argv[2], 0
def at(statement):
    # In the middle of the third write: begun and inserted, not yet committed.
    if movie == 3 and statement.startswith(how):
        os.kill(os.getpid(), signal.SIGKILL)
if how != "any time":
    store._connection.set_trace_callback(at)
while True:
    movie += 1
    store.add("session-ada", movie, "like")
    print(movie, flush=True)
"""


@pytest.mark.parametrize("how", ["BEGIN", "INSERT", "COMMIT"])
def test_a_kill_in_mid_write_loses_nothing_that_was_acknowledged(path, how):
    done = subprocess.run(
        [sys.executable, "-c", WRITER, path, how], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stdout.split() == ["1", "2"]
    with FeedbackStore(path) as store:
        assert store.ratings(ADA) == {1: LIKE, 2: LIKE}
        store.add(ADA, 9, "like")
        assert len(store) == 3


def test_a_kill_at_any_time_loses_nothing_that_was_acknowledged(path):
    for seen in (3, 25):
        path.unlink(missing_ok=True)
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, path, "any time"], stdout=subprocess.PIPE, text=True
        ) as writer:
            lines = [writer.stdout.readline() for _ in range(seen)]
            writer.send_signal(signal.SIGKILL)
            lines += writer.stdout.readlines()
        acknowledged = {int(line) for line in lines if line.endswith("\n")}
        with FeedbackStore(path) as store:
            kept = set(store.ratings(ADA))
        # The last write may have reached the disk without being acknowledged; no more than that.
        assert acknowledged <= kept <= acknowledged | {max(acknowledged) + 1}


def test_a_torn_log_loses_only_what_was_torn(store, path, tmp_path):
    """The write-ahead log cut anywhere, as by a crash of the machine: a prefix of the events is left."""
    ends = []
    log = path.with_name(path.name + "-wal")
    for movie in range(1, 6):
        store.add(ADA, movie, "like")
        ends.append(log.stat().st_size)
    whole = log.read_bytes()
    assert len(whole) == ends[-1]
    for cut in sorted({*ends, *(end - 7 for end in ends), *range(ends[0], ends[-1], 1777)}):
        copy = tmp_path / f"cut{cut}.sqlite"
        shutil.copy(path, copy)
        copy.with_name(copy.name + "-wal").write_bytes(whole[:cut])
        with FeedbackStore(copy) as cut_store:
            complete = sum(end <= cut for end in ends)
            assert list(cut_store.ratings(ADA)) == list(range(1, complete + 1))


def test_settings_that_durability_rests_on(store):
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_restart_keeps_everything(path):
    with FeedbackStore(path) as store:
        store.add(ADA, 1, "rating", 3.5)
    with FeedbackStore(path) as store:
        assert store.ratings(ADA) == {1: 3.5}


# ---- several at once ----------------------------------------------------------------


def test_threads_that_share_a_store(store):
    def talk(number):
        user = f"session-{number}"
        for movie in range(20):
            store.add(user, movie, "rating", 0.5 + number / 2)
            assert set(store.ratings(user).values()) == {0.5 + number / 2}

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(talk, range(6)))
    assert len(store) == 120
    assert all(len(store.ratings(f"session-{n}")) == 20 for n in range(6))


TALKER = """
import sys
from recsys_helpers.serving.feedback import FeedbackStore
path, number = sys.argv[1], int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
with FeedbackStore(path) as store:
    for movie in range(15):
        store.add(f"session-{number}", movie, "rating", 0.5 + number / 2)
"""


def test_processes_that_share_a_file(path):
    """All open a file that does not exist yet at the same moment, and write at once."""
    with contextlib.ExitStack() as stack:
        writers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", TALKER, path, str(n)],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                )
            )
            for n in range(3)
        ]  # fmt: skip
        assert [writer.stdout.readline() for writer in writers] == ["ready\n"] * 3
        for writer in writers:
            writer.stdin.write("go\n")
            writer.stdin.flush()
        assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    with FeedbackStore(path) as store:
        for number in range(3):
            assert store.ratings(f"session-{number}") == dict.fromkeys(range(15), 0.5 + number / 2)


def test_a_file_that_another_makes_while_it_is_looked_at(path, monkeypatch):
    class Interrupted(sqlite3.Connection):
        others = 1

        def execute(self, statement, *arguments):
            if statement == "PRAGMA user_version" and self.others:
                self.others -= 1
                with contextlib.suppress(OSError), FeedbackStore(path, timeout=0.1) as other:
                    other.add(ADA, 1, "like")
            return super().execute(statement, *arguments)

    connect, factories = sqlite3.connect, [Interrupted]
    monkeypatch.setattr(
        sqlite3,
        "connect",
        lambda *a, **k: connect(*a, **k, factory=factories.pop() if factories else sqlite3.Connection),
    )
    with FeedbackStore(path) as store:
        store.add(ADA, 2, "like")
        assert store.ratings(ADA)[2] == LIKE


def test_waits_for_another_writer(store, path):
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.3, other.execute, ["COMMIT"])
    release.start()
    store.add(ADA, 1, "like")
    release.join()
    other.close()
    assert store.ratings(ADA) == {1: LIKE}


def test_gives_up_on_a_writer_that_does_not_end_and_stores_nothing(path):
    with FeedbackStore(path, timeout=0.1) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(OSError, match="locked"):
            store.add(ADA, 1, "like")
        assert store.ratings(ADA) == {}, "reading does not wait"
        other.execute("ROLLBACK")
        other.close()
        store.add(ADA, 2, "like")
        assert store.ratings(ADA) == {2: LIKE}


def test_a_full_disk_is_an_error_and_loses_nothing(store):
    store.add(ADA, 1, "like")
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(OSError, match="full"):
        for movie in range(2, 2000):
            store.add(ADA, movie, "like")
    kept = len(store)
    store._connection.execute("PRAGMA max_page_count=1000000")
    store.add(ADA, 5000, "like")
    assert len(store) == kept + 1 and store.ratings(ADA)[1] == LIKE


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_is_told_to_open_the_file_itself(store, monkeypatch):
    real = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: real + 1)
    with pytest.raises(RuntimeError, match="another process"):
        store.add(ADA, 1, "like")


# ---- files that are not ours -----------------------------------------------------------


def test_damaged_and_foreign_files_are_refused_and_left_alone(path):
    with FeedbackStore(path) as store:
        for movie in range(200):
            store.add(ADA, movie, "like")
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[5000:9000] = b"x" * 4000
    for content in (b"hello", b"x" * 5000, bytes(damaged), whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(FeedbackFileError, match="feedback.sqlite.*damaged"):
            FeedbackStore(path)
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("CREATE TABLE feedback (x)", "another program"),
        ("PRAGMA application_id=77", "another program"),
        ("PRAGMA user_version=1", "another program"),
    ],
)
def test_a_database_of_another_program(path, statement, words):
    with sqlite3.connect(path) as other:
        other.execute(statement)
    other.close()
    before = path.read_bytes()
    with pytest.raises(FeedbackFileError, match=words):
        FeedbackStore(path)
    assert path.read_bytes() == before


def test_a_later_version_is_refused(path):
    with FeedbackStore(path) as store:
        store._connection.execute("PRAGMA user_version=99")
    with pytest.raises(FeedbackFileError, match="schema version 99; expected up to 2"):
        FeedbackStore(path)


def test_an_empty_file_is_taken(path):
    path.touch()
    with FeedbackStore(path) as store:
        store.add(ADA, 1, "like")


def test_a_place_that_cannot_hold_a_file(tmp_path):
    with pytest.raises(OSError, match="cannot be opened"):
        FeedbackStore(tmp_path)


# ---- bad arguments ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("short", 1, "like"), "user: got 'short'"),
        (("12345678", 1, "like"), "user: got '12345678'"),
        (("session-1\n", 1, "like"), "user: got"),
        (("session-1; DROP TABLE feedback", 1, "like"), "user: got"),
        ((-(2**63) - 1, 1, "like"), "user: got -9223372036854775809"),
        ((True, 1, "like"), "user: got True"),
        ((2**70, 1, "like"), "user: got"),
        ((1.5, 1, "like"), "user: got 1.5"),
        ((UserId(None), 1, "like"), "user: got None"),
        ((ADA, "", "like"), "movieId: got ''"),
        ((ADA, "x" * 513, "like"), "movieId: got 'x"),
        ((ADA, "\ud800", "like"), "movieId: got "),
        ((ADA, 1.5, "like"), "movieId: got 1.5"),
        ((ADA, float("nan"), "like"), "movieId: got nan"),
        ((ADA, True, "like"), "movieId: got True"),
        ((ADA, 2**64, "like"), "movieId: got 18446744073709551616"),
        ((ADA, 1, "love"), "event: got 'love'; expected one of 'rating'"),
        ((ADA, 1, "rating"), "rating: got None"),
        ((ADA, 1, "rating", 5.5), "rating: got 5.5; expected a number from 0.5 to 5"),
        ((ADA, 1, "rating", float("nan")), "rating: got nan"),
        ((ADA, 1, "rating", "5"), "rating: got '5'"),
        ((ADA, 1, "like", 5), "rating: got 5 with the event 'like'"),
    ],
)
def test_bad_events_are_refused_and_not_stored(store, arguments, words):
    with pytest.raises(ValueError, match=words):
        store.add(*arguments)
    assert len(store) == 0


def test_bad_calls(store, tmp_path):
    with pytest.raises(ValueError, match="timeout: got 0"):
        FeedbackStore(tmp_path / "x", timeout=0)
    with pytest.raises(ValueError, match="user: got None"):
        store.ratings(None)
    store.close()
    store.close()
    with pytest.raises(ValueError, match="closed"):
        store.add(ADA, 1, "like")
    assert "feedback.sqlite" in repr(store)
