"""The binary copy of large files: used while it is sound and its files stay as they are."""

import pandas as pd
import pytest
from movielens_files import CSV, EXPECTED, rows, write_folder

from recsys_helpers.data import cache, load_movielens, movielens

pytestmark = pytest.mark.usefixtures("own_data_folder")


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """A folder of 25m whose ratings are cached, and the cache's folder."""
    monkeypatch.setattr(cache, "FROM_BYTES", 1)
    folder = write_folder(tmp_path / "x", "25m")
    load_movielens("25m", folder)
    (store,) = (tmp_path / "data").iterdir()
    return folder, store


def forbid_reading(monkeypatch):
    def read(*args, **options):
        raise AssertionError("the text file was read")

    monkeypatch.setattr(movielens, "_rating_table", read)


def test_cache_gives_the_same_and_is_used(cached, monkeypatch):
    folder, _ = cached
    before = load_movielens("25m", folder, cache=False)
    forbid_reading(monkeypatch)
    ratings = load_movielens("25m", folder)
    pd.testing.assert_frame_equal(ratings.movies, before.movies)
    assert rows(ratings) == EXPECTED["25m"]
    assert ratings.titles([296]).tolist() == ['Pulp "Fiction", The (1994)']
    with pytest.raises(ValueError, match="read-only"):
        ratings.values[0] = 1
    with pytest.raises(AssertionError):
        load_movielens("25m", folder, cache=False)
    with pytest.raises(AssertionError):  # another policy is another cache
        load_movielens("25m", folder, duplicates="mean")


@pytest.mark.parametrize("file", ["values.npy", "user_codes.npy", "tables.json", "sums.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "gone", "text"])
def test_damaged_cache_is_made_again(cached, file, damage, monkeypatch):
    folder, store = cached
    content = (store / file).read_bytes()
    (store / file).unlink()
    if damage != "gone":
        changed = {
            "cut": content[:-3],
            "flip": content[:-3] + bytes([content[-3] ^ 0x41]) + content[-2:],
            "empty": b"",
            "text": b"hello",
        }
        (store / file).write_bytes(changed[damage])
    assert rows(load_movielens("25m", folder)) == EXPECTED["25m"]
    assert (store / file).read_bytes() == content
    forbid_reading(monkeypatch)
    assert rows(load_movielens("25m", folder)) == EXPECTED["25m"]


def test_changed_file_replaces_its_cache(cached):
    folder, store = cached
    (folder / "ratings.csv").write_bytes(CSV + b"7,296,1.0,5\n")
    assert rows(load_movielens("25m", folder)) == [(7, 296, 1, 5)]
    (other,) = store.parent.iterdir()
    assert other != store
    (folder / "movies.csv").write_bytes(b"movieId,title,genres\n296,Changed (1994),Comedy\n")
    assert load_movielens("25m", folder).titles([296]).tolist() == ["Changed (1994)"]


def test_cache_keeps_users(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "FROM_BYTES", 1)
    folder = write_folder(tmp_path / "x", "1m")
    before = load_movielens("1m", folder)
    forbid_reading(monkeypatch)
    pd.testing.assert_frame_equal(load_movielens("1m", folder).users, before.users)


def test_cache_that_cannot_be_written_is_only_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "FROM_BYTES", 1)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="the cache could not be written .*cache=False"):
        ratings = load_movielens("25m", write_folder(tmp_path / "x", "25m"))
    assert len(ratings) == 3
