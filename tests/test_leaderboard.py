"""The script behind the tables of chapter 6, on tables of one's own and in the published layouts."""

import hashlib
import http.server
import io
import json
import threading
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import load_script

from recsys_helpers import PureSVD, evaluation, load_movielens, load_ratings, metrics, splits
from recsys_helpers.data import editions, fetch, load_100k_folds, synthetic_ratings
from recsys_helpers.evaluation import comparison
from recsys_helpers.evaluation import contestants as contest_module
from recsys_helpers.evaluation.contestants import contestants
from recsys_helpers.models.baselines import BiasModel, Popularity

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def leaderboard():
    return load_script(ROOT / "benchmarks" / "leaderboard.py")


# ---- what is kept -------------------------------------------------------------------------


def test_what_the_leaderboard_keeps(leaderboard, medium):
    tuned = evaluation.Tuned(BiasModel(), {"user_damping": [1.0, 9.0]})
    models = {"biases": tuned, "popularity": Popularity(), "PureSVD": PureSVD(3)}
    found = evaluation.compare(models, medium, name="5-fold", verbose=False)
    rows, differences, folds = leaderboard.summary(found, "lists", "5-fold")
    json.dumps([rows, differences, folds], allow_nan=False)
    by_model = {row["model"]: row for row in rows}
    assert by_model["PureSVD"]["rmse"] is None, "its scores are not stars"
    for metric in ("rmse", "ndcg"):
        mean = found.table.query("model == 'biases' and metric == @metric")["value"].mean()
        assert by_model["biases"][metric] == pytest.approx(mean, rel=1e-5)
    own = evaluation.paired_differences(found.users, differences[0]["leader"], metric="ndcg")
    for row in differences:
        assert (row["table"], row["protocol"], row["people"], row["metric"]) == (
            "lists",
            "5-fold",
            "all",
            "ndcg",
        )
        assert row["difference"] == pytest.approx(own.loc[row["model"], "difference"], rel=1e-5)
        assert row["difference"] <= 0, "nobody is ahead of the leader"
        assert row["low_all"] <= row["low"] and row["users"] == found.users["userId"].nunique()
    assert len(folds) == 15
    assert folds[0]["settings"].keys() == {"user_damping"} and folds[0]["trials"] == 2
    assert folds[1]["settings"] is folds[1]["trials"] is None, "it had nothing to choose"
    first, _, _ = leaderboard.summary(leaderboard.first_fold(found), "lists", "u1")
    value = found.table.query("model == 'biases' and metric == 'rmse' and fold == 0")["value"].item()
    assert first[0]["rmse"] == pytest.approx(value, rel=1e-5)


def test_people_without_a_training_rating_are_told_apart(leaderboard):
    """Users 1 and 2 are known, 3 and 4 not; popularity is the better on the unknown ones."""
    values = {"popularity": [0.1, 0.2, 0.5, 0.7], "other": [0.6, 0.4, 0.0, np.nan]}
    users = pd.concat(
        pd.DataFrame(
            {"userId": [1, 2, 3, 4], "ratings": 1, "squared_error": 1.0, "train_ratings": [5, 1, 0, 0],
             "ndcg": ndcg, "model": model, "protocol": "temporal", "fold": 0}
        )
        for model, ndcg in values.items()
    )  # fmt: skip
    users.loc[users["userId"] == 4, "ndcg"] = [0.7, 0.0]
    groups = leaderboard.groups_of(users, "ndcg", "userId")
    means = {name: part.groupby("model")["ndcg"].mean().to_dict() for name, part in groups.items()}
    assert means["all"] == pytest.approx({"other": 0.25, "popularity": 0.375})
    assert means["warm"] == pytest.approx({"other": 0.5, "popularity": 0.15})
    assert means["cold"] == pytest.approx({"other": 0.0, "popularity": 0.6})
    assert means["fallback"] == pytest.approx({"other": (0.6 + 0.4 + 0.5 + 0.7) / 4, "popularity": 0.375})
    assert list(leaderboard.groups_of(users, "rmse", "userId")) == ["all", "warm", "cold"]
    assert list(leaderboard.groups_of(users[users["train_ratings"] > 0], "ndcg", "userId")) == ["all"]
    one_cold = users[users["userId"] < 4]
    assert list(leaderboard.groups_of(one_cold, "ndcg", "userId")) == ["all"], "one person has no spread"


def test_the_kept_results_come_from_these_grids(leaderboard):
    """A model that was entered since has no row until the next run; nothing else may differ."""
    kept = json.loads((ROOT / "benchmarks" / "results" / "leaderboard-latest-small.json").read_text())
    assert (kept["settings"], kept["rounds"]) == (leaderboard.SETTINGS, leaderboard.ROUNDS)
    entered = {name: axes for name, (_, axes) in leaderboard.contestants(load_movielens()).items()}
    assert kept["grids"] == {name: entered[name] for name in kept["grids"]}
    places = {(row["table"], row["protocol"]) for row in kept["rows"]}
    assert places == {(t, p) for t in ("stars", "lists") for p in ("random", "5-fold", "temporal")}


def test_published_figures_stand_beside_the_nearest_or_the_best_of_ours(leaderboard):
    rows = [
        {"table": table, "protocol": protocol, "model": model, "rmse": rmse + (table == "lists")}
        for table in ("lists", "stars")
        for protocol in ("u1", "5-fold")
        for model, rmse in (("FunkSVD", 0.95), ("ALS", 0.91))
    ]
    found = pd.DataFrame(leaderboard.beside_published("100k", rows)).set_index("model")
    assert found.loc["Surprise SVD", ["rmse", "ours", "our_rmse"]].tolist() == [0.934, "FunkSVD", 0.95]
    assert found.loc["GLocal-K", ["protocol", "ours", "our_rmse"]].tolist() == ["u1", "ALS", 0.91]
    assert "Surprise SVD++" not in found.index, "its kin took no part"
    assert leaderboard.beside_published("latest-small", rows) == []
    published = pd.read_csv(ROOT / "benchmarks" / "literature.csv")
    assert set(published["ours"]) <= set(leaderboard.contestants(load_movielens())) | {"best"}
    protocols = {(data, p) for data, own in leaderboard.PROTOCOLS.items() for p in own} | {("100k", "u1")}
    assert set(zip(published["data"], published["protocol"], strict=True)) <= protocols
    assert published["rmse"].between(0.8, 1.0).all()


# ---- a table of one's own ---------------------------------------------------------------------


@pytest.fixture
def own_table(tmp_path):
    """Books by text ids on a scale from 1 to 10, without times."""
    rng = np.random.default_rng(4)
    taste = 5.5 + rng.normal(0, 1.5, (40, 2)) @ rng.normal(0, 1, (2, 30))
    u, i = np.nonzero(rng.random((40, 30)) < 0.5)
    table = pd.DataFrame(
        {
            "member": [f"reader {x:02d}" for x in u],
            "ISBN": [f"0{x:04d}" for x in i],
            "stars": np.clip(np.round(taste[u, i]), 1, 10).astype(int),
        }
    )
    table.to_csv(tmp_path / "my books.csv", index=False)
    return table, tmp_path / "my books.csv"


def test_a_table_of_ones_own(leaderboard, own_table, tmp_path, capsys, monkeypatch):
    table, path = own_table
    monkeypatch.setattr(leaderboard, "ROOT", tmp_path)
    monkeypatch.setattr(leaderboard, "beside_published", lambda *_: [])
    monkeypatch.setattr(leaderboard, "contestants", lambda r: {n: contestants(r)[n] for n in SOME})
    leaderboard.main(["--data", str(path), "--jobs", "1"])
    printed = capsys.readouterr().out
    assert "no times: the temporal protocol is left out" in printed
    target = tmp_path / "benchmarks" / "tmp" / "leaderboard-my-books.json"
    assert f"Written: {target}" in printed
    kept = json.loads(target.read_text())
    assert (kept["users"], kept["films"], kept["ratings"]) == (40, 30, len(table))
    assert kept["liked_from"] == 8.0, "the lowest rating in the upper quarter of 1 … 10"
    board = pd.DataFrame(kept["rows"]).set_index(["table", "protocol", "model"])
    stars, lists = (board.loc[name].index for name in ("stars", "lists"))
    assert set(stars) == {(p, m) for p in ("random", "5-fold") for m in SOME if m != "PureSVD"}
    assert set(lists) == {(p, m) for p in ("random", "5-fold") for m in SOME}

    ratings = load_ratings(path)
    train, test = evaluation.protocol_splits(ratings, "random")[0]
    chosen = {(f["table"], f["model"]): f["settings"] for f in kept["folds"] if f["protocol"] == "random"}
    error = metrics.rmse(test.values, BiasModel(**chosen["stars", "biases"]).fit(train).predict(test))
    assert board.loc[("stars", "random", "biases"), "rmse"] == pytest.approx(error, rel=1e-5)
    ranked = evaluation.rank_model(
        PureSVD(**chosen["lists", "PureSVD"]).fit(train), train, test, threshold=8.0
    )
    assert board.loc[("lists", "random", "PureSVD"), "ndcg"] == pytest.approx(
        ranked.means()["ndcg"], rel=1e-5
    )
    search = evaluation.grid_search(
        PureSVD(), kept["grids"]["PureSVD"], train, target="ndcg", threshold=8.0, rounds=kept["rounds"]
    )
    assert chosen["lists", "PureSVD"] == search.attrs["best"], "searched for what the table shows"


SOME = ("biases", "popularity", "PureSVD")


def test_a_folder_with_an_unpacked_set(leaderboard, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "ml-latest-small"
    folder.mkdir()
    made = synthetic_ratings(60, 50, 1500, seed=3).to_frame()
    made["timestamp"] = 964_000_000 + np.arange(len(made)) * 1000
    columns = ["userId", "movieId", "rating", "timestamp"]
    made[columns].to_csv(folder / "ratings.csv", index=False)
    movies = pd.DataFrame({"movieId": sorted(set(made["movieId"]))})
    movies.assign(title="Été (1999)", genres="Comedy|War").to_csv(folder / "movies.csv", index=False)
    monkeypatch.setattr(leaderboard, "ROUNDS", 1)
    out = tmp_path / "found.json"
    words = ["--data", str(folder), "--jobs", "1", "--models", ";".join(SOME), "--out", str(out)]
    leaderboard.main(words)
    kept = json.loads(out.read_text())
    assert {row["protocol"] for row in kept["rows"]} == {"random", "5-fold", "temporal"}
    assert leaderboard.label_of(str(folder), load_movielens("latest", folder)) == "ml-latest-small"
    leaderboard.main(words)
    assert json.loads(out.read_text())["taken_over"] == 7 * (2 + 3), (
        "of one random split, five folds, one cut"
    )


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


def literature_cell():
    """The code of the chapter that puts ours beside the published figures."""
    chapter = nbformat.read(ROOT / "book" / "06_evaluation.ipynb", as_version=4)
    (cell,) = [c.source for c in chapter.cells if c.cell_type == "code" and "leaderboard-{data}" in c.source]
    return cell


def test_100k_and_1m_from_the_download_to_the_page(leaderboard, served, tmp_path, monkeypatch, capsys):
    book = tmp_path / "book"
    kept = tmp_path / "benchmarks" / "results"
    book.mkdir()
    kept.mkdir(parents=True)
    (kept.parent / "literature.csv").write_bytes((ROOT / "benchmarks" / "literature.csv").read_bytes())
    options = ["--jobs", "1", "--models", "biases;popularity;FunkSVD"]
    monkeypatch.setattr(leaderboard, "ROUNDS", 1)  # the way is tested, not the search
    results = {}
    for data in ("100k", "1m"):
        target = kept / f"leaderboard-{data}.json"
        leaderboard.main(["--data", data, "--out", str(target), *options])
        results[data] = json.loads(target.read_text())
    printed = capsys.readouterr().out
    assert served == ["/ml-100k.zip", "/ml-1m.zip"], "one download each"
    assert "Published figures, and ours" in printed and "GLocal-K" in printed
    rows = pd.DataFrame(results["100k"]["rows"])
    assert set(rows["table"]) == {"stars", "lists"}
    board = rows[rows["table"] == "stars"].set_index(["protocol", "model"])
    assert set(board.index.get_level_values("protocol")) == {"u1-u5", "u1", "5-fold", "temporal"}
    folds = list(load_100k_folds())
    chosen = {
        (f["protocol"], f["fold"]): f["settings"]
        for f in results["100k"]["folds"]
        if (f["table"], f["model"]) == ("stars", "biases")
    }
    train, test = folds[0]
    error = metrics.rmse(test.values, BiasModel(**chosen["u1-u5", 0]).fit(train).predict(test))
    assert board.loc[("u1", "biases"), "rmse"] == pytest.approx(error, rel=1e-5)
    train, test = splits.random_holdout(load_movielens("1m"), 0.1, seed=0)
    place = ("stars", "90/10", "biases")
    row = next(f for f in results["1m"]["folds"] if (f["table"], f["protocol"], f["model"]) == place)
    error = metrics.rmse(test.values, BiasModel(**row["settings"]).fit(train).predict(test))
    assert row["rmse"] == pytest.approx(error, rel=1e-8)

    done = comparison.measure
    monkeypatch.setattr(comparison, "measure", lambda *a: pytest.fail("computed again"))
    leaderboard.main(["--data", "100k", "--out", str(kept / "leaderboard-100k.json"), *options])
    monkeypatch.setattr(comparison, "measure", done)
    again = json.loads((kept / "leaderboard-100k.json").read_text())
    assert again["rows"] == results["100k"]["rows"] and again["taken_over"] == 3 * 11 * 2

    monkeypatch.chdir(book)
    space = {"pd": pd, "json": json, "leaderboard": kept / "leaderboard-latest-small.json"}
    exec(literature_cell(), space)
    ours = space["kin"]["our RMSE"]
    assert ours.loc[("100k", "u1", "GLocal-K")] == pytest.approx(board.loc["u1", "rmse"].min())
    assert ours.loc[("100k", "5-fold", "Surprise SVD")] == pytest.approx(
        board.loc[("5-fold", "FunkSVD"), "rmse"]
    )
    assert ("1m", "5-fold", "Surprise SVD++") not in ours.index, "SVD++ took no part"
    assert ours.loc[("1m", "90/10", "GC-MC")] > 0.5


def test_options(leaderboard, capsys):
    options = leaderboard.arguments([])
    assert options.names == list(contestants(options.ratings))
    for words in (["--models", "biases;ALSO"], ["--data", "2m"]):
        with pytest.raises(SystemExit):
            leaderboard.arguments(words)
    printed = capsys.readouterr().err
    assert "got ['ALSO']; expected some of ['global mean'" in printed
    assert "2m: there is no such file; or one of the editions 100k" in printed


def test_whatever_enters_takes_part(leaderboard, medium, tmp_path, monkeypatch):
    """A new entry among the contestants needs no word here."""
    entered = contestants(medium) | {"newcomer": (BiasModel(), {"user_damping": [1.0, 2.0]})}
    for module in (leaderboard, contest_module):
        monkeypatch.setattr(module, "contestants", lambda ratings: entered)
    medium.to_frame().to_csv(tmp_path / "any.csv", index=False)
    words = ["--data", str(tmp_path / "any.csv"), "--models", "newcomer;popularity", "--jobs", "1"]
    leaderboard.main([*words, "--out", str(tmp_path / "out.json")])
    kept = json.loads((tmp_path / "out.json").read_text())
    assert {row["table"] for row in kept["rows"] if row["model"] == "newcomer"} == {"stars", "lists"}


# ---- people unseen --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strong():
    return load_script(ROOT / "benchmarks" / "strong.py")


@pytest.fixture
def brought(tmp_path, monkeypatch):
    """A small ml-20m that somebody brought along: the archive, as published, in a folder of data."""
    made = synthetic_ratings(260, 150, 9000, seed=3).to_frame()
    made["timestamp"] = 1_100_000_000 + np.arange(len(made))
    films = pd.DataFrame({"movieId": np.arange(1, 151), "title": "Film (1999)", "genres": "Drama|War"})
    path = tmp_path / "data" / "ml-20m.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        columns = ["userId", "movieId", "rating", "timestamp"]
        archive.writestr("ml-20m/ratings.csv", made[columns].to_csv(index=False))
        archive.writestr("ml-20m/movies.csv", films.to_csv(index=False))
    checksum = "md5:" + hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(editions.EDITIONS, "20m", editions.EDITIONS["20m"]._replace(checksum=checksum))
    monkeypatch.setenv("RECSYS_DATA", str(path.parent))
    return made


def test_20m_strong_from_the_folder_to_the_table(strong, brought, tmp_path, capsys, monkeypatch):
    out = tmp_path / "strong.json"
    words = ["--models", "popularity;EASE;implicit ALS", "--factors", "8", "--search-factors", "4"]
    strong.main(["--data", "20m", "--out", str(out), *words])
    printed = capsys.readouterr().out
    assert "iALS, tuned (Rendle et al. 2022" in printed and "0.42" in printed
    kept = json.loads(out.read_text())
    assert set(kept["rows"]) == {"popularity", "EASE", "implicit ALS"}
    likes = brought[brought["rating"] >= 4]
    likes = likes[likes.groupby("userId")["rating"].transform("size") >= 5]
    people = likes["userId"].nunique()
    assert kept["people"] == people - 2 * (people // 10) and kept["judged"] <= people // 10
    # The figures of the winner once more, by its own settings.
    train, choosers, judges = strong.split(load_movielens("20m"))
    model = strong.models(8)["EASE"][0](*kept["rows"]["EASE"]["settings"]).fit(train)
    again = strong.judged(model, judges).means()
    for name in strong.COLUMNS:
        assert kept["rows"]["EASE"][name] == pytest.approx(again[name], rel=1e-6)
    assert kept["rows"]["EASE"]["trials"] >= 2
    best = max(row["ndcg@100"] for row in kept["rows"].values())
    assert max(row["behind"] for row in kept["rows"].values()) == 0
    assert [row["ndcg@100"] for row in kept["rows"].values() if row["behind"] == 0] == [best]


def test_people_to_choose_by_and_to_judge_by_are_apart(strong, brought):
    ratings = load_movielens("20m")
    train, choosers, judges = strong.split(ratings)
    people = [set(np.unique(part.user_codes)) for part in (train, choosers[0], judges[0])]
    assert not (people[0] & people[1] or people[0] & people[2] or people[1] & people[2])
    for known, test in (choosers, judges):
        assert set(np.unique(test.user_codes)) <= set(np.unique(known.user_codes))
        for part in (known, test):
            assert part.values.min() >= 4 and (train.item_counts[part.item_codes] > 0).all()
    share = len(judges[0]) / (len(judges[0]) + len(judges[1]))
    assert share == pytest.approx(0.8, abs=0.02)
