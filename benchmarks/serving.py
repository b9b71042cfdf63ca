"""How fast a person gets recommendations: in the page, and over HTTP.

    python benchmarks/serving.py                    all parts
    python benchmarks/serving.py --parts browser    one of them

browser   milliseconds in headless Chromium (CHROMIUM, or one on the path) from a rating to the frame that
          shows the new recommendations, on the page "Try it" as built by `make book`, with 5 to 500 ratings
          already there: "rows" ranked by likes, as the page begins, "predicted" by predicted ratings with
          their deviations. Both choose the next questions. The page takes the time itself
          (performance.measure), from the time stamp of the input event to the first task after the frame.
          Key presses change a rating by half a star; the first ones, which warm up, are not counted.

api       milliseconds over HTTP on the loopback, from the first byte sent to the last byte received, for
          the model of the embedded data (9,066 films) behind one Uvicorn worker, as `make api` starts it.
          Each endpoint gets a fixed number of requests, one at a time and from several connections at
          once; a connection sends its next request when it has the last answer. Client and server share
          the processors. server_cpu_ms is the processor time of the server for one request, which other
          work on the machine lengthens less.

A part is a function PART_part() that returns a dictionary of results. Results go to
benchmarks/results/serving.json, with date, machine and load.
"""

import argparse
import asyncio
import itertools
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from urllib.request import urlopen

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from recsys_helpers import load_movielens  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "serving.json"
PARTS = ("browser", "api")
PAGE = ROOT / "_build" / "html" / "book" / "try_it.html"
MEASURE = "try-it: rating to recommendations"


def percentiles(milliseconds):
    """Median, and what 95 and 99 of 100 updates stay below."""
    out = {f"p{q}_ms": float(np.percentile(milliseconds, q)) for q in (50, 95, 99)}
    return out | {"updates": len(milliseconds)}


# ---- browser ------------------------------------------------------------------------


def browser_part(updates=300, warm=20):
    """Rate in the built page, opened from the disk, and read the times that the page took."""
    from playwright.sync_api import sync_playwright

    if not PAGE.exists():
        raise SystemExit(f"{PAGE} does not exist; run `make book` first")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    ratings = load_movielens("latest-small")
    popular = ratings.item_ids[np.argsort(-ratings.item_counts, kind="stable")].tolist()
    rows = {"likes": [], "ratings": []}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for by, size in itertools.product(rows, (5, 50, 500)):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(PAGE.as_uri())
            films = np.random.default_rng(size).choice(popular[:2000], size, replace=False).tolist()
            entries = [[film, (n * 7 % 10 + 1) / 2, 1] for n, film in enumerate(films)]
            stored = json.dumps({"version": 1, "ratings": entries, "hidden": [], "by": by})
            page.evaluate("text => localStorage.setItem('recsys-book.try-it', text)", stored)
            page.reload()
            sliders = page.locator(".try-it-choose input[type=range]")  # of the questions
            for n in range(warm + updates):
                slider = sliders.nth(n // 10 % 3)
                slider.press("ArrowRight" if n % 10 < 5 else "ArrowLeft")
                page.wait_for_function(f"performance.getEntriesByName({MEASURE!r}).length === {n + 1}")
            taken = page.evaluate(f"performance.getEntriesByName({MEASURE!r}).map(m => m.duration)")
            rows[by].append({"ratings": size} | percentiles(taken[warm:]))
            print(by, rows[by][-1], flush=True)
            page.close()
        about = {"browser": f"Chromium {browser.version}"}
        browser.close()
    return about | {"rows": rows["likes"], "predicted": rows["ratings"]}


# ---- api ----------------------------------------------------------------------------


def api_part(requests=500, warm=50, connections=(1, 8)):
    """Start the service, send it requests of each kind, and take the time of each."""
    ratings = load_movielens("latest-small")
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        environment = {
            **os.environ, "PYTHONPATH": str(ROOT), "RECSYS_FEEDBACK": str(Path(folder) / "feedback.sqlite"),
        }  # fmt: skip
        command = [sys.executable, "server.py", "--host", "127.0.0.1", "--port", str(port)]
        server = subprocess.Popen(command, cwd=ROOT / "app", env=environment, stderr=subprocess.DEVNULL)
        try:
            about = wait_for(port, server)
            rows = []
            for kind, make in request_kinds(ratings, rng).items():
                for width in connections:
                    send_all(port, [make() for _ in range(warm)], width)
                    wanted = [make() for _ in range(requests)]
                    cpu, start = cpu_seconds(server.pid), time.perf_counter()
                    taken = send_all(port, wanted, width)
                    seconds = time.perf_counter() - start
                    row = {"request": kind, "connections": width} | percentiles(taken)
                    row["requests"] = row.pop("updates")
                    row["per_second"] = requests / seconds
                    row["server_cpu_ms"] = 1000 * (cpu_seconds(server.pid) - cpu) / requests
                    row["load_average"] = os.getloadavg()[0]
                    rows.append({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()})
                    print(rows[-1], flush=True)
        finally:
            server.kill()
            server.wait()
    return {"model": about["model"], "films": about["films"], "users": about["users"], "rows": rows}


def request_kinds(ratings, rng):
    """For each kind, a function that draws one request as bytes."""
    users, movies = ratings.user_ids.tolist(), ratings.item_ids.tolist()

    def some(n):
        chosen = rng.choice(movies, n, replace=False).tolist()
        return {movie: rng.integers(1, 11).item() / 2 for movie in chosen}

    def event():
        session = f"session-{rng.integers(1000)}"
        return {"user": session, "movieId": rng.choice(movies).item(), "event": "rating", "rating": 4.5}

    return {
        "health": lambda: http("GET", "/health"),
        "recommend, user of the data": lambda: http("GET", f"/recommend?user={rng.choice(users)}"),
        "recommend, 10 ratings": lambda: http("POST", "/recommend", {"ratings": some(10)}),
        "recommend, 10 ratings, 3 reasons": lambda: http(
            "POST", "/recommend", {"ratings": some(10), "n_reasons": 3}
        ),
        "recommend, 500 ratings": lambda: http("POST", "/recommend", {"ratings": some(500)}),
        "fold-in, 10 ratings": lambda: http("POST", "/fold-in", {"ratings": some(10)}),
        "similar": lambda: http("GET", f"/similar/{rng.choice(movies)}"),
        "feedback, one event": lambda: http("POST", "/feedback", event()),
    }


def http(method, path, body=None):
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n"
    return head.encode() + b"Content-Type: application/json\r\n\r\n" + content


def send_all(port, requests, width):
    """Send the requests over `width` connections; returns milliseconds, one a request."""
    waiting, taken = list(reversed(requests)), []

    async def one():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while waiting:
            request = waiting.pop()
            start = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(re.search(rb"content-length: (\d+)", head, flags=re.I)[1]))
            taken.append(1000 * (time.perf_counter() - start))
            if not head.startswith(b"HTTP/1.1 20"):
                raise SystemExit(f"{request!r}: got {head!r}")
        writer.close()
        await writer.wait_closed()

    async def all_():
        await asyncio.gather(*(one() for _ in range(width)))

    asyncio.run(all_())
    return taken


def wait_for(port, server, seconds=300):
    """What the service says of itself, as soon as it answers."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/health") as answer:
                return json.load(answer)
        except OSError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the service did not start; try `make api`") from None
            time.sleep(0.5)


def cpu_seconds(pid):
    """Processor time of a process so far, in steps of a hundredth of a second (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- all ----------------------------------------------------------------------------


def machine():
    packages = ("numpy", "numba", "scipy", "playwright", "fastapi", "uvicorn")
    names = [line for line in cpu_lines() if line.startswith("model name")]
    return {
        "processor": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


def cpu_lines():
    source = Path("/proc/cpuinfo")
    return source.read_text().splitlines() if source.exists() else []


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for part in options.parts:
        print(part, flush=True)
        before = os.getloadavg()
        measured = globals()[f"{part}_part"]()
        measured |= {"date": time.strftime("%Y-%m-%d"), "load_average": before}
        results |= {part: measured, "machine": machine()}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
