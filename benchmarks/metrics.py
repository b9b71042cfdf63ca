"""All ranking metrics at K = 10, beside LensKit and ranx, and the memory of ever more users.

    python benchmarks/metrics.py

Scores of 6,040 users x 3,706 films are given.

rank_scores   this package from the scores on: leave out the training films, select the ten best of all
              others, and compute eight metrics of each list, the rank of every relevant film and two
              metrics without a cut-off
score_lists   this package from those lists of ten on: the eight metrics
lenskit       RunAnalysis on the same lists: six metrics (one form of NDCG)
ranx          evaluate on the same lists: seven metrics

The last three start from lists that are ready, each in its own data structures; what it costs to select the
lists and to build these structures is not counted.

Rounds are interleaved, each contender in a process of its own after a first call that is not counted;
figures are medians. CPU seconds are those of all threads. LensKit and ranx may live in another environment,
whose interpreter is named by BENCH_PYTHON. Results go to benchmarks/results/metrics.json.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "metrics.json"
DATA = ROOT / "benchmarks" / "tmp" / "metrics.npz"
USERS, FILMS, K = 6_040, 3_706, 10
ROUNDS = 5
CALLS = 3  # in one round
CONTENDERS = ("rank_scores", "score_lists", "lenskit", "ranx")


def make_data():
    """Scores of a popularity model with noise, on ratings of the shape of MovieLens-1M."""
    sys.path.insert(0, str(ROOT))
    from recsys_helpers import evaluation, metrics, splits, synthetic_ratings

    ratings = synthetic_ratings(USERS, FILMS, 1_000_209, seed=0)
    train, test = splits.random_holdout(ratings, 0.2, seed=0)
    rng = np.random.default_rng(0)
    scores = np.log1p(train.item_counts).astype(np.float32) + rng.standard_normal((USERS, FILMS), np.float32)
    relevant = evaluation.relevance(test)
    found = metrics.rank_scores(scores, relevant, train.by_user, k=K)
    DATA.parent.mkdir(exist_ok=True)
    np.savez(
        DATA, scores=scores, users=found.values.index, lists=found.lists,
        indptr=relevant.indptr, indices=relevant.indices, gains=relevant.data,
        seen_indptr=train.by_user.indptr, seen_indices=train.by_user.indices,
        expected=found.values.iloc[:, :8].mean().to_numpy(),
    )  # fmt: skip


# ---- contenders: each returns a call to time and what it found, by our names -----------------


def ours(data):
    sys.path.insert(0, str(ROOT))
    from scipy.sparse import csr_array

    from recsys_helpers import metrics

    shape = USERS, FILMS
    relevant = csr_array((data["gains"], data["indices"], data["indptr"]), shape=shape)
    ones = np.ones(len(data["seen_indices"]), np.float32)
    seen = csr_array((ones, data["seen_indices"], data["seen_indptr"]), shape=shape)
    scores = data["scores"]
    return lambda: metrics.rank_scores(scores, relevant, seen, k=K), lambda found: dict(found.means())


def our_lists(data):
    sys.path.insert(0, str(ROOT))
    from scipy.sparse import csr_array

    from recsys_helpers import metrics

    relevant = csr_array((data["gains"], data["indices"], data["indptr"]), shape=(USERS, FILMS))
    relevant, lists = relevant[data["users"]], data["lists"]
    return lambda: metrics.score_lists(lists, relevant), lambda found: dict(found.mean())


def relevant_of(data):
    for user in data["users"]:
        span = slice(data["indptr"][user], data["indptr"][user + 1])
        yield int(user), data["indices"][span], data["gains"][span]


def lenskit(data):
    from lenskit.data import ItemList, ItemListCollection
    from lenskit.metrics import NDCG, Hit, Precision, Recall, RecipRank, RunAnalysis
    from lenskit.metrics.ranking._map import AveragePrecision

    lists = ItemListCollection(["user_id"])
    test = ItemListCollection(["user_id"])
    for row, (user, items, gains) in enumerate(relevant_of(data)):
        lists.add(ItemList(item_ids=data["lists"][row], ordered=True), user_id=user)
        test.add(ItemList(item_ids=items, rating=gains), user_id=user)
    analysis = RunAnalysis(Precision(K), Recall(K), Hit(K), AveragePrecision(K), RecipRank(K), NDCG(K))

    def means(found):
        table = found.list_metrics()
        names = ("precision", "", "hit_rate", "", "reciprocal_rank", "")
        # Its recall and average precision divide by min(K, relevant), and its NDCG discounts by
        # max(1, log2(rank)): other definitions, so these are not compared.
        pairs = zip(table.columns, names, strict=True)
        return {name: float(table[column].mean()) for column, name in pairs if name}

    return lambda: analysis.measure(lists, test), means


def ranx(data):
    from ranx import Qrels, Run, evaluate

    run, graded, binary = {}, {}, {}
    for row, (user, items, gains) in enumerate(relevant_of(data)):
        run[str(user)] = {str(i): float(K - at) for at, i in enumerate(data["lists"][row])}
        graded[str(user)] = {str(i): round(2 * float(g) - 1) for i, g in zip(items, gains, strict=True)}
        binary[str(user)] = dict.fromkeys(graded[str(user)], 1)
    run, graded, binary = Run(run), Qrels(graded), Qrels(binary)
    names = {"precision": "precision", "recall": "recall", "hit_rate": "hit_rate", "map": "average_precision",
             "mrr": "reciprocal_rank", "ndcg": "ndcg"}  # fmt: skip
    wanted = [f"{name}@{K}" for name in names]

    def call():
        found = evaluate(binary, run, wanted)
        return found, evaluate(graded, run, f"ndcg@{K}")

    return call, lambda found: {names[key.split("@")[0]]: float(value) for key, value in found[0].items()}


# ---- one process, one contender --------------------------------------------------------------------


MAKERS = {"rank_scores": ours, "score_lists": our_lists, "lenskit": lenskit, "ranx": ranx}


def measure(name):
    with np.load(DATA) as file:
        data = dict(file)
    call, means = MAKERS[name](data)
    found = means(call())
    wall, cpu = [], []
    for _ in range(CALLS):
        start = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    return {"wall": min(wall), "cpu": min(cpu), "means": found}


def memory(users):
    """Megabytes that ranking this many users adds, with the scores computed block by block."""
    sys.path.insert(0, str(ROOT))
    from scipy.sparse import csr_array

    from recsys_helpers import metrics
    from recsys_helpers.evaluation.measuring import PeakMemory

    rng = np.random.default_rng(0)
    items = rng.integers(0, FILMS, 20 * users)
    relevant = csr_array(
        (np.ones(len(items)), (np.repeat(np.arange(users), 20), items)), shape=(users, FILMS)
    )
    relevant.data[:] = 1.0
    level = rng.standard_normal(FILMS).astype(np.float32)

    def scores(rows):
        return level + np.sin(rows[:, None] * level)

    metrics.rank_scores(scores, relevant, k=K, users=np.arange(50))
    peak = PeakMemory()
    found = metrics.rank_scores(scores, relevant, k=K)
    added = peak.megabytes()
    kept = found.values.memory_usage().sum() + found.lists.nbytes + found.ranks.data.nbytes
    return {
        "users": users,
        "peak_mb": added,
        "result_mb": kept / 1e6,
        "dense_scores_mb": 4 * users * FILMS / 1e6,
    }


# ---- the whole -----------------------------------------------------------------------------------------


def child(*arguments):
    own = arguments[0] == "--memory" or arguments[1] in ("rank_scores", "score_lists")
    python = sys.executable if own else os.environ.get("BENCH_PYTHON", sys.executable)
    done = subprocess.run([python, __file__, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "date": time.strftime("%Y-%m-%d"), "cpu": cpu, "cores": os.cpu_count(),
        "load_average": [round(x, 2) for x in os.getloadavg()], "system": platform.platform(),
        "python": platform.python_version(),
    }  # fmt: skip


def versions():
    out = {}
    for name in ("numpy", "numba", "lenskit", "ranx"):
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = None
    return out


def main():
    make_data()
    before = machine()
    runs, missing = {name: [] for name in CONTENDERS}, {}
    for turn in range(ROUNDS):
        for name in CONTENDERS:
            if name in missing:
                continue
            result = child("--measure", name)
            print(f"round {turn + 1} {name}: {json.dumps(result)}", flush=True)
            if "error" in result:
                missing[name] = result["error"]
            else:
                runs[name].append(result)
    rows = {
        name: {
            "wall": round(median(r["wall"] for r in found), 4),
            "cpu": round(median(r["cpu"] for r in found), 4),
            "rounds": len(found),
            "means": found[0]["means"],
        }
        for name, found in runs.items()
        if found
    }
    for name, row in rows.items():
        for form in ("rank_scores", "score_lists"):
            row[f"times_{form}"] = {c: round(row[c] / rows[form][c], 1) for c in ("wall", "cpu")}
        means = rows["rank_scores"]["means"]
        row["largest_difference"] = max(abs(value - means[key]) for key, value in row["means"].items())
        print(name, row["times_rank_scores"], row["times_score_lists"])
    result = {
        "users": USERS, "films": FILMS, "k": K, "seconds": rows, "missing": missing,
        "memory": [child("--memory", users) for users in (USERS, 4 * USERS, 16 * USERS)],
        "machine": before | {"versions": {"ours": versions(), "peers": child("--versions", "peers")}},
    }  # fmt: skip
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        main()
    else:
        jobs = {
            "--measure": measure,
            "--memory": lambda users: memory(int(users)),
            "--versions": lambda _: versions(),
        }
        print("\n" + json.dumps(jobs[sys.argv[1]](sys.argv[2])))
