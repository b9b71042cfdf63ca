"""The script behind the table of chapter 6, on data served from this machine in the published layouts."""

import hashlib
import http.server
import importlib.util
import io
import json
import threading
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from recsys_helpers import PureSVD, evaluation, load_movielens, metrics, splits
from recsys_helpers.data import editions, fetch, load_100k_folds, synthetic_ratings
from recsys_helpers.evaluation import comparison, tuning
from recsys_helpers.models.baselines import BiasModel, Popularity

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def leaderboard():
    spec = importlib.util.spec_from_file_location("leaderboard", ROOT / "benchmarks" / "leaderboard.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- effort -----------------------------------------------------------------------------


def numeric(axis):
    return len(axis) > 1 and not isinstance(axis[0], str)


def test_one_rule_of_tuning_for_every_model(leaderboard):
    for name, (model, axes) in leaderboard.MODELS.items():
        if axes is None:
            assert model.get_params() == {}, "only a model without settings may have none to try"
            continue
        first = tuning._settings(axes)
        assert len(first) == leaderboard.SETTINGS, name
        for winner in first:
            both = first + tuning._settings(evaluation.moved_grid(axes, winner))
            assert len(both) == 2 * leaderboard.SETTINGS
            tried = [clone(model).set_params(**setting).get_params() for setting in both]
            assert all(one != other for n, one in enumerate(tried) for other in tried[:n]), name
    for protocol, inner in (("5-fold", "random"), ("temporal", "temporal")):
        entered = leaderboard.contestants(protocol)
        assert list(entered) == list(leaderboard.MODELS)
        tuned = [m for m in entered.values() if isinstance(m, evaluation.Tuned)]
        assert {(m.inner, m.rounds) for m in tuned} == {(inner, leaderboard.ROUNDS)}


def test_the_first_grids_lie_around_the_defaults(leaderboard):
    for name, (model, axes) in leaderboard.MODELS.items():
        if name == "ALS, weighted":  # the default is for penalties in the other unit
            continue
        for parameter, axis in (axes or {}).items():
            default = type(model)().get_params()[parameter]
            if default == "auto":  # found from the ratings
                continue
            if axis[0] == 0 or not numeric(axis):
                assert default == axis[0], (name, parameter)
            else:
                assert np.sqrt(min(axis) * max(axis)) == pytest.approx(default, rel=0.05), (name, parameter)


def test_around(leaderboard):
    assert leaderboard.around(10, 2, 4) == [5, 20]
    assert leaderboard.around(1.0, 4, 2) == [0.354, 0.707, 1.41, 2.83]


# ---- what is kept -------------------------------------------------------------------------


def test_what_the_leaderboard_keeps(leaderboard, medium):
    tuned = evaluation.Tuned(BiasModel(), {"user_damping": [1.0, 9.0]})
    models = {"biases": tuned, "popularity": Popularity(), "PureSVD": PureSVD(3)}
    found = evaluation.compare(models, medium, name="5-fold", verbose=False)
    rows, differences, folds = leaderboard.summary(found, "5-fold")
    json.dumps([rows, differences, folds], allow_nan=False)
    by_model = {row["model"]: row for row in rows}
    assert by_model["PureSVD"]["rmse"] is None, "its scores are not stars"
    mean = found.table.query("model == 'biases' and metric == 'rmse'")["value"].mean()
    assert by_model["biases"]["rmse"] == pytest.approx(mean, rel=1e-5)
    assert {d["leader"] for d in differences if d["metric"] == "rmse"} == {"biases"}
    assert len(folds) == 15
    assert folds[0]["settings"].keys() == {"user_damping"} and folds[0]["trials"] == 2
    assert folds[1]["settings"] is folds[1]["trials"] is None, "it had nothing to choose"
    first, _, _ = leaderboard.summary(leaderboard.first_fold(found), "u1")
    value = found.table.query("model == 'biases' and metric == 'rmse' and fold == 0")["value"].item()
    assert first[0]["rmse"] == pytest.approx(value, rel=1e-5)
    only = evaluation.compare({"PureSVD": PureSVD(3)}, medium, "random", verbose=False)
    assert leaderboard.summary(only, "random")[0][0]["ndcg"] > 0


def test_the_kept_results_come_from_these_grids(leaderboard):
    kept = json.loads((ROOT / "benchmarks" / "results" / "leaderboard-latest-small.json").read_text())
    assert (kept["settings"], kept["rounds"]) == (leaderboard.SETTINGS, leaderboard.ROUNDS)
    assert kept["grids"] == {name: axes for name, (_, axes) in leaderboard.MODELS.items()}
    assert kept["taken_over"] == 0, "so that wall_seconds are those of the whole"
    assert kept["wall_seconds"] < 20 * 60


def test_published_figures_stand_beside_the_nearest_or_the_best_of_ours(leaderboard):
    rows = [
        {"protocol": protocol, "model": model, "rmse": rmse, "rmse_se": 0.01}
        for protocol in ("u1", "5-fold")
        for model, rmse in (("FunkSVD", 0.95), ("ALS", 0.91), ("PureSVD", None))
    ]
    found = pd.DataFrame(leaderboard.beside_published("100k", rows)).set_index("model")
    assert found.loc["Surprise SVD", ["rmse", "ours", "our_rmse"]].tolist() == [0.934, "FunkSVD", 0.95]
    assert found.loc["GLocal-K", ["protocol", "ours", "our_rmse"]].tolist() == ["u1", "ALS", 0.91]
    assert "Surprise SVD++" not in found.index, "its kin took no part"
    assert leaderboard.beside_published("latest-small", rows) == []
    published = pd.read_csv(ROOT / "benchmarks" / "literature.csv")
    assert set(published["ours"]) <= set(leaderboard.MODELS) | {"best"}
    protocols = {(data, p) for data, own in leaderboard.PROTOCOLS.items() for p in own} | {("100k", "u1")}
    assert set(zip(published["data"], published["protocol"], strict=True)) <= protocols
    assert published["rmse"].between(0.8, 1.0).all()


# ---- the whole way, from the download to the page -------------------------------------------


def archive_of_100k():
    """ml-100k.zip with every file of the original, around synthetic ratings in whole stars."""
    made = synthetic_ratings(220, 200, 7000, seed=1).to_frame()
    made["rating"] = np.ceil(made["rating"]).astype(int)
    rng = np.random.default_rng(0)
    made["timestamp"] = 874724710 + rng.integers(0, 18_000_000, len(made))
    rows = [f"{u}\t{i}\t{r}\t{t}\n" for u, i, r, t in
            made[["userId", "movieId", "rating", "timestamp"]].itertuples(index=False)]  # fmt: skip
    rows = [rows[n] for n in rng.permutation(len(rows))]
    files = {
        "u.data": rows,
        "u.info": ["220 users\n", "200 items\n", f"{len(rows)} ratings\n"],
        "u.genre": [f"{name}|{n}\n" for n, name in enumerate(editions.GENRES_100K)] + ["\n"],
        "u.occupation": ["writer\n", "none\n"],
        "u.user": [f"{u}|{20 + u % 50}|{'MF'[u % 2]}|writer|5{u:04d}\n" for u in range(1, 221)],
        "u.item": [
            f"{i}|Película {i} (19{i % 90 + 10})|01-Jan-1995||http://us.imdb.com/M/title-exact?{i}|"
            + "|".join(str(int(g in (i % 18 + 1, i % 5 + 1))) for g in range(19)) + "\n"
            for i in range(1, 201)
        ],
        "README": ["SUMMARY & USAGE LICENSE\n"],
        "allbut.pl": ["#!/usr/local/bin/perl\n"],
        "mku.sh": ["#!/bin/sh\n"],
    }  # fmt: skip
    for fold, test in enumerate(np.array_split(np.arange(len(rows)), 5), 1):
        held = set(test.tolist())
        files[f"u{fold}.test"] = [rows[n] for n in sorted(held)]
        files[f"u{fold}.base"] = [row for n, row in enumerate(rows) if n not in held]
    for name in ("ua", "ub"):
        files[f"{name}.base"], files[f"{name}.test"] = rows[:-500], rows[-500:]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ml-100k/", "")
        for name, lines in files.items():
            archive.writestr(f"ml-100k/{name}", "".join(lines).encode("latin-1"))
    return content.getvalue()


def archive_of_1m():
    made = synthetic_ratings(210, 190, 6000, seed=2).to_frame()
    made["rating"] = np.ceil(made["rating"]).astype(int)
    columns = enumerate(made[["userId", "movieId", "rating"]].itertuples(index=False))
    genres = ["Comedy|Drama", "Comedy|War"]
    files = {
        "ratings.dat": "".join(f"{u}::{i}::{r}::{978300000 + 97 * n}\n" for n, (u, i, r) in columns),
        "movies.dat": "".join(f"{i}::Été {i} (1999)::{genres[i % 2]}\n" for i in range(1, 191)),
        "users.dat": "".join(f"{u}::F::25::10::48067\n" for u in range(1, 211)),
        "README": "SUMMARY\n",
    }  # fmt: skip
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(f"ml-1m/{name}", text.encode("latin-1"))
    return content.getvalue()


@pytest.fixture
def served(tmp_path, monkeypatch):
    """GroupLens is this machine, and has these two archives; `asked` are the paths in order."""
    files = {"/ml-100k.zip": archive_of_100k(), "/ml-1m.zip": archive_of_1m()}
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(files[self.path])))
            self.end_headers()
            self.wfile.write(files[self.path])

        def log_message(self, *args):
            pass

    monkeypatch.setenv("RECSYS_DATA", str(tmp_path / "data"))
    for name in ("100k", "1m"):
        checksum = "md5:" + hashlib.md5(files[f"/ml-{name}.zip"]).hexdigest()
        edition = editions.EDITIONS[name]._replace(checksum=checksum)
        monkeypatch.setitem(editions.EDITIONS, name, edition)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setattr(fetch, "GROUPLENS", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setattr(fetch, "MIRROR", "http://127.0.0.1:9/")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield asked
        server.shutdown()
        thread.join()


def literature_cells():
    """The code of the chapter's section that puts ours beside the published figures."""
    chapter = nbformat.read(ROOT / "book" / "06_evaluation.ipynb", as_version=4)
    cells = [c.source for c in chapter.cells if c.cell_type == "code" and "literature.csv" in c.source]
    assert len(cells) == 1
    return cells[0]


def test_100k_and_1m_from_the_download_to_the_page(leaderboard, served, tmp_path, monkeypatch, capsys):
    book = tmp_path / "book"
    kept = tmp_path / "benchmarks" / "results"
    book.mkdir()
    kept.mkdir(parents=True)
    (kept.parent / "literature.csv").write_bytes((ROOT / "benchmarks" / "literature.csv").read_bytes())
    options = ["--jobs", "1", "--models", "biases;popularity;PureSVD;FunkSVD"]
    monkeypatch.setattr(leaderboard, "ROUNDS", 1)  # the way is tested, not the search
    results = {}
    for data in ("100k", "1m"):
        target = kept / f"leaderboard-{data}.json"
        leaderboard.main(["--data", data, "--out", str(target), *options])
        results[data] = json.loads(target.read_text())
    printed = capsys.readouterr().out
    assert served == ["/ml-100k.zip", "/ml-1m.zip"], "one download each"
    assert "Published figures, and ours" in printed and "GLocal-K" in printed
    board = pd.DataFrame(results["100k"]["rows"]).set_index(["protocol", "model"])
    assert set(board.index.get_level_values("protocol")) == {"u1-u5", "u1", "5-fold", "temporal"}
    folds = list(load_100k_folds())
    chosen = {
        (f["protocol"], f["fold"]): f["settings"] for f in results["100k"]["folds"] if f["model"] == "biases"
    }
    train, test = folds[0]
    error = metrics.rmse(test.values, BiasModel(**chosen["u1-u5", 0]).fit(train).predict(test))
    assert board.loc[("u1", "biases"), "rmse"] == pytest.approx(error, rel=1e-5)
    train, test = splits.random_holdout(load_movielens("1m"), 0.1, seed=0)
    row = next(f for f in results["1m"]["folds"] if (f["protocol"], f["model"]) == ("90/10", "biases"))
    error = metrics.rmse(test.values, BiasModel(**row["settings"]).fit(train).predict(test))
    assert row["rmse"] == pytest.approx(error, rel=1e-8)

    done = comparison.measure
    monkeypatch.setattr(comparison, "measure", lambda *a: pytest.fail("computed again"))
    leaderboard.main(["--data", "100k", "--out", str(kept / "leaderboard-100k.json"), *options])
    monkeypatch.setattr(comparison, "measure", done)
    again = json.loads((kept / "leaderboard-100k.json").read_text())
    assert again["rows"] == results["100k"]["rows"] and again["taken_over"] == 4 * 11

    monkeypatch.chdir(book)
    *lines, last = literature_cells().strip().split("\n")
    space = {"pd": pd, "np": np, "Path": Path, "json": json}
    exec("\n".join(lines), space)
    table = eval(last, space)
    assert len(table) == 14
    ours = table.set_index(["data", "protocol"], append=True).reorder_levels([1, 2, 0])["our RMSE"]
    assert ours.loc[("100k", "u1", "GLocal-K")] == pytest.approx(board.loc["u1", "rmse"].min())
    assert ours.loc[("100k", "5-fold", "Surprise SVD")] == pytest.approx(
        board.loc[("5-fold", "FunkSVD"), "rmse"]
    )
    assert np.isnan(ours.loc[("1m", "5-fold", "Surprise SVD++")]), "SVD++ took no part"
    assert ours.loc[("1m", "90/10", "GC-MC")] > 0.5


def test_options(leaderboard, capsys):
    assert leaderboard.arguments([]).names == list(leaderboard.MODELS)
    for words in (["--models", "biases;ALSO"], ["--data", "2m"]):
        with pytest.raises(SystemExit):
            leaderboard.arguments(words)
    assert "got ['ALSO']; expected some of ['global mean'" in capsys.readouterr().err
