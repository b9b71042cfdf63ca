"""BayesianMF beside myFM, and beside a sweep of alternating least squares, in one interleaved run.

    python benchmarks/bayes.py                # everything; writes results/bayes.json
    python benchmarks/bayes.py speed sweep    # some parts; the others keep their results

Parts

speed     CPU seconds of a sweep at MovieLens-1M's shape (synthetic, rank 32), in one thread: BayesianMF and
          myFM, with ids only and with the sets of films and people
quality   RMSE on a tenth of the embedded ratings held out, after the same number of sweeps at the same rank
sweep     at MovieLens-32M's shape, rank 32: a sweep of BayesianMF (ids only) and an exact one of BiasedALS
coverage  how many held-out ratings lie in intervals of 50, 80 and 95 percent: the embedded data and synthetic
          data, everybody and people with fewer than 50 training ratings
questions the page's model on people held out: the error after 0, 5, 10 and 15 questions, asked by what would
          tell most, by popularity, and at random; each with its difference to popularity, people resampled

myFM lives in the environment whose interpreter BENCH_PYTHON names. A measurement is a process of its own; a
sweep's cost is the difference between a long and a short fit after a warm-up. All contenders of a round run
before the next round starts, and medians are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
# In place of this folder, or this file would be taken for the library of its name.
sys.path[0] = str(HERE.parent)
RESULTS = HERE / "results" / "bayes.json"
TMP = HERE / "tmp"
SHAPES = {"ml1m": (6_040, 3_706, 1_000_000), "32m": (200_948, 84_432, 32_000_000)}
FEW, MORE = 2, 8
SWEEPS, BURN_IN = 250, 50
PLAN = {
    "speed": ([(f"{name}-{kind}", "ml1m", 32) for kind in ("ids", "sets") for name in ("ours", "myfm")], 3),
    "quality": (
        [(f"{name}-{kind}", "embedded", 16) for kind in ("ids", "sets") for name in ("ours", "myfm")], 1,
    ),
    "sweep": ([(name, "32m", 32) for name in ("ours-ids", "als")], 1),
    "coverage": ([("coverage", data, 16) for data in ("embedded", "synthetic")], 1),
    "questions": ([("questions", "embedded", 16)], 1),
}  # fmt: skip


# ---- data ------------------------------------------------------------------------------------


def split(data):
    """Training and test part."""
    from recsys_helpers import load_movielens, splits, synthetic_ratings

    if data == "embedded":
        return splits.random_holdout(load_movielens("latest-small"), 0.1, seed=0)
    if data == "synthetic":
        return splits.random_holdout(synthetic_ratings(2_000, 1_500, 150_000, seed=0), 0.1, seed=0)
    ratings = synthetic_ratings(*SHAPES[data], seed=0)
    return ratings, ratings[:1000]


def write(data):
    """The split as arrays of codes, which every environment reads."""
    import numpy as np

    TMP.mkdir(exist_ok=True)
    parts = split(data)
    arrays = {
        f"{part}_{name}": array
        for part, ratings in zip(("train", "test"), parts, strict=True)
        for name, array in (
            ("user", ratings.user_codes), ("item", ratings.item_codes), ("value", ratings.values)
        )
    }  # fmt: skip
    np.savez(TMP / f"bayes-{data}.npz", shape=np.array(parts[0].shape), **arrays)


# ---- contenders ------------------------------------------------------------------------------


def timed(fit):
    """CPU seconds of a sweep."""
    fit(FEW)
    seconds = []
    for sweeps in (FEW, MORE):
        start = time.process_time()
        fit(sweeps)
        seconds.append(time.process_time() - start)
    return (seconds[1] - seconds[0]) / (MORE - FEW)


def ours(data, k, sets):
    from recsys_helpers import BayesianMF, rmse

    train, test = split(data)

    def fit(sweeps, **settings):
        settings = {"n_burn_in": sweeps - 1, "n_draws": 1} | settings
        return BayesianMF(k, sets=sets, n_sweeps=sweeps, n_threads=1, verbose=False, **settings).fit(train)

    if data != "embedded":
        return {"cpu": timed(fit)}
    start = time.process_time()
    model = fit(SWEEPS, n_burn_in=BURN_IN, n_draws=SWEEPS - BURN_IN)
    return {"total_cpu": time.process_time() - start, "rmse": float(rmse(test.values, model.predict(test)))}


def als(data, k, _):
    from recsys_helpers import BiasedALS

    train, _ = split(data)

    def fit(sweeps):
        BiasedALS(k, 10.0, bias_reg=3.0, n_sweeps=sweeps, tol=0, n_threads=1, verbose=False).fit(train)

    return {"cpu": timed(fit)}


def myfm(data, k, sets):
    import myfm
    import numpy as np
    import scipy.sparse as sp
    from myfm import RelationBlock

    with np.load(TMP / f"bayes-{data}.npz") as file:
        z = {name: file[name] for name in file.files}
    m, n = z["shape"]

    def one_hot(codes, size):
        return sp.csr_matrix((np.ones(len(codes)), (np.arange(len(codes)), codes)), shape=(len(codes), size))

    def by_root(x):
        return sp.diags(1 / np.sqrt(np.maximum(np.asarray(x.sum(axis=1)).ravel(), 1))) @ x

    seen = sp.csr_matrix((np.ones(len(z["train_user"])), (z["train_user"], z["train_item"])), shape=(m, n))
    people = sp.hstack([sp.eye(m), by_root(seen)], format="csr")
    films = sp.hstack([sp.eye(n), by_root(seen.T.tocsr())], format="csr")

    def design(part):
        users, items = z[f"{part}_user"], z[f"{part}_item"]
        if sets:
            return None, [RelationBlock(users, people), RelationBlock(items, films)]
        return sp.hstack([one_hot(users, m), one_hot(items, n)], format="csr"), []

    def fit(sweeps, kept=1):
        x, blocks = design("train")
        groups = [m, n, n, m] if sets else [m, n]
        model = myfm.MyFMRegressor(rank=k, random_seed=0)
        return model.fit(
            x, z["train_value"], X_rel=blocks, n_iter=sweeps, n_kept_samples=kept, group_shapes=groups
        )

    if data != "embedded":
        return {"cpu": timed(fit)}
    start = time.process_time()
    model = fit(SWEEPS, SWEEPS - BURN_IN)
    cpu = time.process_time() - start
    error = model.predict(*design("test")) - z["test_value"]
    return {"total_cpu": cpu, "rmse": float(np.sqrt(np.mean(error**2)))}


def coverage(data, k, _):
    import numpy as np

    from recsys_helpers import BayesianMF

    train, test = split(data)
    model = BayesianMF(k, verbose=False).fit(train)
    few = train.user_counts[test.user_codes] < 50
    out = {"ratings": len(test), "of_few": int(few.sum())}
    for level in (0.5, 0.8, 0.95):
        lower, upper = model.predict_interval(test, level).T
        inside = (test.values >= lower) & (test.values <= upper)
        out |= {f"all_{level}": float(np.mean(inside)), f"few_{level}": float(np.mean(inside[few]))}
    return out


def questions(*_):
    """All ratings; the splits are among people, five times."""
    import pandas as pd

    from recsys_helpers import load_movielens
    from recsys_helpers.evaluation import paired_differences
    from recsys_helpers.serving import simulate_questions
    from recsys_helpers.serving.export import page_model

    ways, model = ("telling", "popular", "random"), page_model(load_movielens("latest-small"))
    told = pd.concat(
        simulate_questions(model, strategies=ways, seed=seed).assign(fold=seed) for seed in range(20, 25)
    )
    rows = []
    for n, part in told.groupby("questions"):
        found = paired_differences(part, "popular")
        answered = part.groupby("model")["answered"].mean()
        for way in ways:
            columns = ("value", "difference", "low", "high")
            figures = {key: float(found.loc[way, key]) for key in columns}
            rows.append({"asked": way, "questions": int(n), "answered": float(answered[way])} | figures)
    return {"people": int(told["userId"].nunique()), "rows": rows}


# ---- running ---------------------------------------------------------------------------------


def measure(name, data, k):
    work = {"ours": ours, "myfm": myfm, "als": als, "coverage": coverage, "questions": questions}[
        name.split("-")[0]
    ]
    facts = work(data, k, name.endswith("sets"))
    return facts | {"peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


def child(name, data, k):
    """Run this file with the interpreter that has the contender; parse its last line."""
    python = os.environ.get("BENCH_PYTHON", sys.executable) if name.startswith("myfm") else sys.executable
    env = dict(os.environ, OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", OMP_NUM_THREADS="1")
    command = [python, __file__, "--measure", name, data, str(k)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=HERE.parent)
    if done.returncode:
        return {"message": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_part(part, rounds):
    plan, most = PLAN[part]
    for data in {data for name, data, _ in plan if name.startswith("myfm")}:
        write(data)
    runs = {}
    for turn in range(min(rounds, most)):
        for task in plan:
            label = "/".join(map(str, task))
            facts = child(*task)
            print(f"{part} {turn + 1}: {label}: {facts}", flush=True)
            runs.setdefault(label, []).append(facts)
    return {
        label: {key: _middle([run[key] for run in found]) for key in found[0]}
        for label, found in runs.items()
    }


def _middle(values):
    return median(values) if isinstance(values[0], int | float) else values[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[*PLAN, []], help="default: all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", nargs=3, metavar=("NAME", "DATA", "K"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, data, k = options.measure
        print(json.dumps(measure(name, data, int(k))))
        return
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for part in options.parts or PLAN:
        about = {
            "command": f"python benchmarks/bayes.py {part}", "date": time.strftime("%Y-%m-%d"),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        }  # fmt: skip
        results[part] = about | {"figures": run_part(part, options.rounds)}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
