"""Shared small data, and a browser for the pages."""

import importlib.util
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys_helpers.data.ratings import Ratings

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(
        None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))
    ),
    None,
)


def load_script(path):
    """A module from a file that no package holds."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_ratings(triples, **options):
    """Ratings from (userId, movieId, rating[, timestamp]) tuples."""
    columns = ["userId", "movieId", "rating", "timestamp"][: len(triples[0])]
    return Ratings.from_frame(
        pd.DataFrame(triples, columns=columns), **{"scale": (0.5, 5.0), **options}
    )


@pytest.fixture
def own_data_folder(tmp_path, monkeypatch):
    """No test writes into the repository's data/cache."""
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "data"))


@pytest.fixture(scope="session")
def toy():
    """The 4 x 5 table of the chapters, with gaps; ids are not codes on purpose."""
    return make_ratings(
        [
            (10, 1, 5.0, 100), (10, 2, 4.0, 110), (10, 4, 1.0, 120),
            (20, 1, 4.0, 130), (20, 3, 5.0, 90), (20, 5, 2.0, 95),
            (30, 2, 1.0, 200), (30, 4, 5.0, 210), (30, 5, 4.0, 205),
            (40, 1, 2.0, 300), (40, 4, 4.0, 310), (40, 5, 5.0, 305),
        ],
        name="toy",
    )  # fmt: skip


@pytest.fixture(scope="session")
def medium():
    """About 1,500 ratings of 60 users and 80 items with structure and noise."""
    rng = np.random.default_rng(7)
    m, n = 60, 80
    signal = 3.5 + 0.4 * rng.standard_normal((m, 1)) + 0.5 * rng.standard_normal(n)
    signal = signal + rng.standard_normal((m, 3)) @ rng.standard_normal((3, n)) * 0.4
    seen = rng.random((m, n)) < np.linspace(0.9, 0.05, n)[rng.permutation(n)] * 0.65
    u, i = np.nonzero(seen)
    values = np.clip(np.round(2 * (signal[u, i] + 0.3 * rng.standard_normal(len(u)))) / 2, 0.5, 5)
    frame = pd.DataFrame(
        {"userId": u * 3 + 1, "movieId": i * 2 + 5, "rating": values, "timestamp": rng.permutation(len(u))}
    )
    return Ratings.from_frame(frame, name="medium")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        reason = "no Chromium found; install one, or name it in the environment variable CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--disable-component-update",
            ],
        )
        yield browser
        browser.close()


# The contrast of a text takes axe milliseconds, and a chapter has thousands of them, each word of code one.
# Texts that look the same, in places that look the same all the way up, have the same contrast, so a few
# of each kind are measured: three, in case axe cannot tell what is behind one of them. What it never judges
# (a single character, signs alone, what is folded away) is a kind of its own and stands for nothing else.
MARK_TEXTS = """() => {
  const looks = ["color", "backgroundColor", "backgroundImage", "opacity", "fontSize", "fontWeight",
    "textShadow", "webkitTextStroke", "filter", "mixBlendMode", "display", "visibility", "position", "zIndex",
    "overflow", "clip", "clipPath"];
  const numbers = new Map(), places = new Map([[null, 0]]), marked = new Map();
  const number = (text) => numbers.get(text) ?? numbers.set(text, numbers.size + 1).size;
  for (const element of document.querySelectorAll("*")) {
    element.removeAttribute("data-contrast");
    const style = getComputedStyle(element);
    const place = number([places.get(element.parentElement), ...looks.map((name) => style[name])].join("|"));
    places.set(element, place);
    const own = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
    const text = own.map((node) => node.data).join("").trim();
    if (!text && !element.matches("input, select, textarea")) continue;
    const judged = [element.checkVisibility(), text.length === 1, /[\\p{L}\\p{N}]/u.test(text)];
    const kind = [place, ...judged].join();
    marked.set(kind, (marked.get(kind) ?? 0) + 1);
    if (marked.get(kind) <= 3) element.setAttribute("data-contrast", "");
  }
  axe.configure({ rules: [{ id: "color-contrast", selector: "[data-contrast]" }] });
}"""


def violations(page, within=None):
    """What axe finds wrong with an open page, or with a part of it."""
    from axe_playwright_python.base import AXE_SCRIPT

    page.evaluate(AXE_SCRIPT)
    page.evaluate(MARK_TEXTS)
    # Styles are loaded again by a rule alone that is off; the request would look like one of the page's.
    options = {"resultTypes": ["violations"], "preload": {"assets": ["media"]}}
    run = "async ([part, options]) => (await axe.run(part ?? document, options)).violations"
    return page.evaluate(run, [within, options])
