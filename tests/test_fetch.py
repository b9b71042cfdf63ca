"""Downloads, from a server on this machine."""

import hashlib
import http.server
import threading

import pytest
from movielens_files import EXPECTED, rows, write_zip

from recsys_helpers.data import DataError, DownloadError, cache, download, editions, load_movielens

pytestmark = pytest.mark.usefixtures("own_data_folder")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        cut = self.path.startswith("/cut/")
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if cut else content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    """`server.url`, `server.files` (path: content), `server.asked` (paths in order); /cut/… stops halfway."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.files, running.asked = {}, []
        running.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def zipped(tmp_path):
    content = write_zip(tmp_path / "made.zip", "1m").read_bytes()
    return content, "md5:" + hashlib.md5(content).hexdigest()


def leftovers(tmp_path):
    folder = tmp_path / "data"
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def test_download_then_load_then_no_second_download(server, zipped, tmp_path):
    content, checksum = zipped
    server.files["/good/ml-1m.zip"] = content
    options = {"checksum": checksum, "sources": [f"{server.url}/good/"], "verbose": False}
    assert rows(load_movielens("1m", **options)) == EXPECTED["1m"]
    assert leftovers(tmp_path) == ["ml-1m.zip"]
    server.files.clear()
    assert rows(load_movielens("1m", **options)) == EXPECTED["1m"]
    assert server.asked == ["/good/ml-1m.zip"]


def test_second_source_is_tried_and_sha256_is_understood(server, zipped, capfd):
    content, _ = zipped
    server.files["/good/ml-1m.zip"] = content
    path = download(
        "ml-1m",
        checksum="sha256:" + hashlib.sha256(content).hexdigest(),
        sources=[f"{server.url}/none", f"{server.url}/good"],
    )
    assert path.read_bytes() == content
    assert server.asked == ["/none/ml-1m.zip", "/good/ml-1m.zip"]
    assert "100%" in capfd.readouterr().err  # the progress bar


def test_every_failure_is_told_and_leaves_nothing_behind(server, zipped, tmp_path):
    content, checksum = zipped
    server.files["/cut/ml-1m.zip"] = content
    server.files["/bad/ml-1m.zip"] = content[:-1] + b"x"
    closed = "http://127.0.0.1:9"  # the discard port: nobody listens
    sources = [f"{server.url}/{kind}" for kind in ("none", "cut", "bad")] + [closed]
    with pytest.raises(DownloadError) as error:
        download("1m", checksum=checksum, sources=sources, verbose=False)
    message = str(error.value)
    assert all(f"{source}/ml-1m.zip" in message for source in sources)
    for part in ("404", "IncompleteRead", "does not match the known hash", "ConnectionError"):
        assert part in message
    assert leftovers(tmp_path) == []
    # The advice at the end works: the zip at that place is taken, without a network.
    place = tmp_path / "data" / "ml-1m.zip"
    assert f"put it at {place}" in message
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(content)
    assert rows(load_movielens("1m", checksum=checksum, sources=[closed])) == EXPECTED["1m"]
    assert rows(load_movielens("1m", path=place)) == EXPECTED["1m"]


def test_file_in_place_with_another_checksum_is_refused_and_kept(zipped, tmp_path):
    place = tmp_path / "data" / "ml-1m.zip"
    place.parent.mkdir()
    place.write_bytes(zipped[0])
    with pytest.raises(DataError, match="md5 is .*expected c4d9eecfca2ab87c1945afe126590906.*delete it"):
        load_movielens("1m")
    assert place.exists()


def test_checked_zip_is_not_checked_again_once_cached(server, zipped, monkeypatch):
    import pooch

    monkeypatch.setattr(cache, "FROM_BYTES", 1)
    content, checksum = zipped
    server.files["/ml-1m.zip"] = content
    load_movielens("1m", checksum=checksum, sources=[server.url], verbose=False)
    monkeypatch.setattr(pooch, "file_hash", None)
    assert rows(load_movielens("1m", checksum=checksum)) == EXPECTED["1m"]


def test_sets_without_a_fixed_checksum_need_one(server):
    for name in ("latest", "latest-small"):
        with pytest.raises(ValueError, match="checksum: got None; expected one .*zip.md5"):
            download(name, sources=[server.url])
    with pytest.raises(ValueError, match="checksum: got 'xyz'; expected \"md5:\""):
        download("latest", checksum="xyz", sources=[server.url])
    assert server.asked == []


def test_default_sources_are_secure_and_the_mirror_has_the_four_old_sets():
    assert editions.GROUPLENS.startswith("https://") and editions.MIRROR.startswith("https://")
    assert [name for name, edition in editions.EDITIONS.items() if edition.mirrored] == [
        "100k",
        "1m",
        "10m",
        "20m",
    ]
    fixed = {name for name, edition in editions.EDITIONS.items() if edition.checksum}
    assert fixed == {"100k", "1m", "10m", "20m", "25m", "32m"}
