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


@pytest.fixture(scope="module")
def axe():
    from axe_playwright_python.sync_playwright import Axe

    return Axe()
