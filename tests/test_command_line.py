"""The command line on tables of one's own."""

import importlib.util
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from numba.core.dispatcher import Dispatcher

from recsys_helpers import models
from recsys_helpers.__main__ import main
from recsys_helpers.data import Ratings
from recsys_helpers.data.problems import problems
from recsys_helpers.evaluation.warming import learners


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Books by ISBN on a scale from 1 to 10 with ISO times, in a CSV of its own names."""
    rng = np.random.default_rng(4)
    m, n = 40, 30
    taste = 5.5 + rng.normal(0, 1.5, (m, 2)) @ rng.normal(0, 1, (2, n)) + rng.normal(0, 0.5, (m, n))
    u, i = np.nonzero(rng.random((m, n)) < 0.5)
    table = pd.DataFrame(
        {
            "member": [f"reader {x:02d}" for x in u],
            "ISBN": [f"0{x:04d}" for x in i],
            "stars": np.clip(np.round(taste[u, i]), 1, 10).astype(int),
            "date": pd.to_datetime("2020-01-01") + pd.to_timedelta(rng.integers(0, 500, len(u)), "D"),
        }
    )
    path = tmp_path_factory.mktemp("own") / "books.csv"
    table.to_csv(path, index=False)
    return path


def run(capsys, *arguments):
    status = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_explore(own, capsys):
    status, out, err = run(capsys, "explore", own)
    assert status == 0 and not err
    assert "books.csv" in out and "user from column member" in out and "scale 1 to 10" in out
    assert "first day" in out and "Nothing odd was found." in out


def test_compare(own, capsys):
    status, out, _ = run(capsys, "compare", own, "--models", "biases,als,popularity", "-n", 5)
    assert status == 0
    assert "3 models with their defaults" in out and "liked from 8 on" in out
    rows = {line.split()[0]: line.split() for line in out.splitlines()[2:]}
    assert {"biases", "ALS", "popularity"} <= set(rows)
    status, out, _ = run(capsys, "compare", own, "--models", "ALS", "--tuned")
    assert status == 0 and "tuned inside each training part" in out
    status, out, _ = run(capsys, "compare", own, "--models", "implicit ALS")
    assert status == 0 and len(out.splitlines()[-1].split()) == 2 + 4, (
        "a score is no rating, so it has no RMSE"
    )


def test_counts_are_likes_one_and_all(tmp_path, capsys):
    rng = np.random.default_rng(0)
    u, i = np.nonzero(rng.random((30, 20)) < 0.4)
    counts = pd.DataFrame({"user": u, "item": i, "count": 1 + rng.geometric(0.5, len(u))})
    counts.loc[0, "count"] = 90
    counts.to_csv(tmp_path / "plays.csv", index=False)
    status, out, _ = run(
        capsys, "compare", tmp_path / "plays.csv", "--rating", "count", "--models", "popularity,EASE"
    )
    assert status == 0 and "liked from 2 on" in out


def test_recommend(own, capsys):
    status, out, _ = run(capsys, "recommend", own, "--user", "reader 07", "-n", 4)
    assert status == 0 and out.split()[:2] == ["ISBN", "score"] and len(out.splitlines()) == 5
    assert out.splitlines()[1].split()[0].startswith("0")
    nobody = run(capsys, "recommend", own, "-n", 2)
    new = run(capsys, "recommend", own, "--rate", "00003=9", "--rate", "00004=2", "--model", "item neighbors")
    assert nobody[0] == new[0] == 0 and "00003" not in new[1]


def test_page(own, capsys, tmp_path):
    status, out, err = run(capsys, "page", own, "--out", tmp_path / "page", "--title", "Our library")
    assert status == 0, err
    index = tmp_path / "page" / "index.html"
    assert out.strip() == str(index) and "Our library" in index.read_text(encoding="utf-8")


def test_titles_from_a_file_of_items(own, capsys, tmp_path):
    items = tmp_path / "items.csv"
    items.write_text("ISBN,title\n" + "".join(f"0{x:04d},Book {x}\n" for x in range(30)))
    status, out, _ = run(capsys, "recommend", own, "--items", items, "-n", 1)
    assert status == 0 and "Book" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["explore", "no-such-file.csv"], "explore: no-such-file.csv: there is no such file"),
        (["recommend", "{own}", "--user", "nobody"], "got 'nobody', which is not in the training data"),
        (["recommend", "{own}", "--model", "alls"], "did you mean 'ALS'"),
        (["recommend", "{own}", "--rate", "00003"], "--rate: got '00003'; expected ITEM=RATING"),
        (["compare", "{own}", "--protocol", "randm"], "protocol"),
        (["explore", "{own}", "--user-column", "membr"], "did you mean 'member'"),
        (["explore", "{own}", "--scale", "5", "1"], "scale"),
        (["fetch", "200k"], "name: got '200k'"),
    ],
)
def test_mistakes_get_one_line_and_status_2(own, capsys, arguments, words):
    status, out, err = run(capsys, *(a.format(own=own) for a in arguments))
    assert status == 2 and words in err and "Traceback" not in err and len(err.splitlines()) == 1


def test_from_any_folder_by_its_name(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "recsys_helpers", "explore", "latest-small"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "100004" in done.stdout or "100836" in done.stdout
    usage = subprocess.run(
        [sys.executable, "-m", "recsys_helpers", "--help"], cwd=tmp_path, capture_output=True, text=True
    )
    assert all(word in usage.stdout for word in ("explore", "compare", "recommend", "page", "fetch"))


def test_odd_tables_are_told():
    table = pd.DataFrame(
        {"userId": [1, 1, 1, 1, 2], "movieId": [1, 2, 3, 4, 1], "rating": 3.0, "timestamp": 0}
    )
    found = " ".join(problems(Ratings.from_frame(table, scale=(1, 5))))
    for words in ("every rating is 3", "one user has more than half", "all times are equal", "before 1970"):
        assert words in found
    future = table.assign(rating=[1.0, 2, 3, 4, 5], timestamp=[4 * 10**9, 1, 2, 3, 4])
    assert "in the future" in " ".join(problems(Ratings.from_frame(future)))


def compiled():
    """How many versions of all kernels this process holds."""
    kernels = (
        thing for name, module in list(sys.modules.items()) if name.startswith("recsys_helpers.kernels")
        for thing in vars(module).values() if isinstance(thing, Dispatcher)
    )  # fmt: skip
    return {str(kernel): len(kernel.signatures) for kernel in kernels}


def test_after_warming_no_model_compiles_anything(capsys, medium):
    assert main(["warm"]) == 0
    shown = capsys.readouterr().out
    assert "BiasedALS" in shown and "kernels-" in shown
    before = compiled()
    for name in learners():
        model = getattr(models, name)()
        if name == "GradientMF" and not importlib.util.find_spec("optax"):
            continue
        if "verbose" in model.get_params():
            model.set_params(verbose=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(medium)
        model.predict(medium)
        model.recommend(medium.user_ids[0])
    assert compiled() == before
