"""How fast a person gets recommendations: in the page, and over HTTP.

    python benchmarks/serving.py                    all parts
    python benchmarks/serving.py --parts browser    one of them

browser   milliseconds in headless Chromium (CHROMIUM, or one on the path) from a rating to the frame that
          shows the new recommendations, on the page "Try it" as built by `make book`, with 5 to 500 ratings
          already there. The page takes the time itself (performance.measure), from the time stamp of the
          input event to the first task after the frame. Key presses change a rating by half a star; the
          first ones, which warm up, are not counted.

A part is a function PART_part() that returns a dictionary of results. Results go to
benchmarks/results/serving.json, with date, machine and load.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from recsys_helpers import load_movielens  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "serving.json"
PARTS = ("browser",)
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
    rows = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for size in (5, 50, 500):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(PAGE.as_uri())
            films = np.random.default_rng(size).choice(popular[:2000], size, replace=False).tolist()
            entries = [[film, (n * 7 % 10 + 1) / 2, 1] for n, film in enumerate(films)]
            stored = json.dumps({"version": 1, "ratings": entries, "hidden": []})
            page.evaluate("text => localStorage.setItem('recsys-book.try-it', text)", stored)
            page.reload()
            sliders = page.locator(".try-it-choose input[type=range]")
            for n in range(warm + updates):
                slider = sliders.nth(n // 10 % 6)
                slider.press("ArrowRight" if n % 10 < 5 else "ArrowLeft")
                page.wait_for_function(f"performance.getEntriesByName({MEASURE!r}).length === {n + 1}")
            taken = page.evaluate(f"performance.getEntriesByName({MEASURE!r}).map(m => m.duration)")
            rows.append({"ratings": size} | percentiles(taken[warm:]))
            print(rows[-1], flush=True)
            page.close()
        about = {"browser": f"Chromium {browser.version}"}
        browser.close()
    return about | {"rows": rows}


# ---- all ----------------------------------------------------------------------------


def machine():
    packages = ("numpy", "numba", "scipy", "playwright")
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
