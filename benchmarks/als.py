"""BiasedALS beside its peers: seconds a sweep, memory and accuracy, in one interleaved run.

    python benchmarks/als.py                 # everything; writes results/als.json
    python benchmarks/als.py ml1m accuracy   # some parts; the others keep their results

Parts: ml1m and 32m (speed on synthetic ratings of those shapes), threads, cg (the error that three
conjugate-gradient steps leave), accuracy. The peers
come from the extra [bench]; they may live in another environment, whose interpreter is named
by BENCH_PYTHON. What cannot be imported there is left out and listed.

A measurement is a process of its own that fits with few and with more sweeps, after a warm-up;
the difference is the cost of the sweeps alone, without loading, conversion and compilation.
All contenders of a round run before the next round starts, and medians over rounds are kept.
CPU seconds (of all threads) are the figure to compare on a machine that has other work.
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
from functools import partial
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
RESULTS = HERE / "results" / "als.json"
TMP = HERE / "tmp"
SHAPES = {"ml1m": (6_040, 3_706, 1_000_000), "32m": (200_948, 84_432, 32_000_000)}
# Contender: (family, ranks at ML-1M's shape, ranks at 32 million ratings)
CONTENDERS = {
    "ours": ("exact", (32, 64, 128), (32, 64, 128)),
    "lenskit": ("exact", (32, 64, 128), (32, 64, 128)),
    "implicit": ("exact", (32, 64, 128), ()),
    "cmfrec": ("exact", (32, 64, 128), ()),
    "spark": ("exact", (32, 64), ()),
    "ours-cg": ("cg", (32, 64, 128), (64,)),
    "cmfrec-cg": ("cg", (32, 64, 128), (64,)),
    "implicit-cg": ("cg", (32, 64, 128), (64,)),
    "libmf": ("sgd", (64,), (64,)),
    "surprise": ("sgd", (64,), ()),
}
PARTS = ("ml1m", "32m", "threads", "cg", "accuracy")
# Sweeps of the short and of the long fit.
SWEEPS = {"ml1m": (1, 3), "32m": (1, 2)}


# ---- contenders: each returns a function fit(sweeps, rank) -----------------------


def _ours(users, items, values, threads, solver="cholesky"):
    from recsys_helpers import BiasedALS
    from recsys_helpers.data.ratings import Ratings

    ratings = Ratings(users, items, values, None, _ids(users), _ids(items))

    def fit(sweeps, rank):
        model = BiasedALS(rank, n_sweeps=sweeps, tol=0.0, solver=solver, n_threads=threads, verbose=False)
        return model.fit(ratings)

    return fit


def _lenskit(users, items, values, threads):
    os.environ["LK_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = str(threads)
    import pandas as pd
    from lenskit.als import BiasedMFScorer
    from lenskit.data import from_interactions_df

    frame = pd.DataFrame({"user_id": users, "item_id": items, "rating": values})
    data = from_interactions_df(frame)
    del frame
    return lambda sweeps, rank: BiasedMFScorer(embedding_size=rank, epochs=sweeps).train(data)


def _implicit(users, items, values, threads, cg=False):
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    matrix = csr_matrix((values, (users, items)))

    def fit(sweeps, rank):
        model = AlternatingLeastSquares(factors=rank, iterations=sweeps, use_cg=cg, num_threads=threads)
        model.fit(matrix, show_progress=False)

    return fit


def _cmfrec(users, items, values, threads, cg=False):
    from cmfrec import CMF
    from scipy.sparse import coo_matrix

    matrix = coo_matrix((values, (users, items)))

    def fit(sweeps, rank):
        return CMF(
            k=rank, lambda_=10.0, method="als", use_cg=cg, max_cg_steps=3, finalize_chol=False, niter=sweeps,
            nthreads=threads, verbose=False, precompute_for_predictions=False,
        ).fit(matrix)  # fmt: skip

    return fit


def _spark(users, items, values, threads):
    import pandas as pd
    from pyspark.ml.recommendation import ALS
    from pyspark.sql import SparkSession

    session = (
        SparkSession.builder.master(f"local[{threads}]").config("spark.driver.memory", "4g")
        .config("spark.ui.enabled", "false").getOrCreate()
    )  # fmt: skip
    session.sparkContext.setLogLevel("ERROR")
    path = TMP / "spark.parquet"
    pd.DataFrame({"user": users, "item": items, "rating": values}).to_parquet(path)
    table = session.read.parquet(str(path)).cache()
    table.count()
    return lambda sweeps, rank: ALS(rank=rank, maxIter=sweeps, regParam=0.1).fit(table)


def _libmf(users, items, values, threads):
    import numpy as np
    from libmf import mf

    table = np.column_stack([users, items, values]).astype(np.float64)
    return lambda sweeps, rank: mf.MF(k=rank, nr_iters=sweeps, nr_threads=threads, quiet=True).fit(table)


def _surprise(users, items, values, threads):
    import pandas as pd
    from surprise import SVD, Dataset, Reader

    frame = pd.DataFrame({"user": users, "item": items, "rating": values})
    data = Dataset.load_from_df(frame, Reader(rating_scale=(0.5, 5))).build_full_trainset()
    return lambda sweeps, rank: SVD(n_factors=rank, n_epochs=sweeps).fit(data)


MAKERS = {
    "ours": _ours,
    "ours-cg": lambda *a: _ours(*a, solver="cg"),
    "lenskit": _lenskit,
    "implicit": _implicit,
    "implicit-cg": lambda *a: _implicit(*a, cg=True),
    "cmfrec": _cmfrec,
    "cmfrec-cg": lambda *a: _cmfrec(*a, cg=True),
    "spark": _spark,
    "libmf": _libmf,
    "surprise": _surprise,
}


# ---- one process, one contender -------------------------------------------------


def measure(name, shape, ranks, threads):
    import numpy as np

    data = [np.load(TMP / f"{shape}-{part}.npy") for part in ("users", "items", "values")]
    fit = MAKERS[name](*data, threads)
    few, more = SWEEPS[shape]
    fit(1, 8 if shape == "32m" else min(ranks))
    before = _rss()
    out = {}
    for rank in ranks:
        wall, cpu = [], []
        for sweeps in (few, more):
            start = time.perf_counter(), _cpu()
            fit(sweeps, rank)
            wall.append(time.perf_counter() - start[0])
            cpu.append(_cpu() - start[1])
        out[rank] = {
            "wall": (wall[1] - wall[0]) / (more - few),
            "cpu": (cpu[1] - cpu[0]) / (more - few),
            "fit_wall": wall[1],
        }
        if name == "ours":
            out[rank] |= {"sgemm_gflops": _sgemm(), "copy_gb_per_second": _copy()}
        out[rank]["peak_mb"] = _peak()
        out[rank]["rss_before_mb"] = before
    return out


def _ids(codes):
    import numpy as np

    return np.arange(codes.max() + 1)


def _children():
    """Process ids of this process and what it started (Spark's Java)."""
    pids, todo = [], [os.getpid()]
    while todo:
        pid = todo.pop()
        pids.append(pid)
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            todo += [int(x) for x in task.read_text().split()]
    return pids


def _cpu():
    """CPU seconds of this process and its children."""
    ticks = 0
    for pid in _children():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    own = resource.getrusage(resource.RUSAGE_SELF)
    exact = own.ru_utime + own.ru_stime
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    coarse = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return exact + max(0.0, ticks / os.sysconf("SC_CLK_TCK") - coarse)


def _status(key):
    total = 0
    for pid in _children():
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(key):
                total += int(line.split()[1])
    return round(total / 1024)


def _rss():
    return _status("VmRSS")


def _peak():
    return _status("VmHWM")


def _sgemm():
    """GFLOP for each CPU second of NumPy's float32 matrix product, one thread."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    a = np.random.default_rng(0).random((1536, 1536), dtype=np.float32)
    rates = []
    with threadpool_limits(1):
        for _ in range(6):
            start = time.process_time()
            a @ a
            rates.append(2 * len(a) ** 3 / (time.process_time() - start) / 1e9)
    return median(rates)


def _copy():
    """GB that one thread reads and writes for each CPU second of copying a large array."""
    import numpy as np

    a = np.zeros(64_000_000, dtype=np.float32)
    b = np.ones_like(a)
    rates = []
    for _ in range(5):
        start = time.process_time()
        np.copyto(b, a)
        rates.append(2 * a.nbytes / (time.process_time() - start) / 1e9)
    return median(rates)


def operations(shape, rank):
    """Multiplications and additions that one exact sweep needs at least."""
    m, n, nnz = SHAPES[shape]
    return 2 * nnz * rank * (rank + 1) + (m + n) * rank**3 / 3


# ---- parts ----------------------------------------------------------------------


def child(*arguments):
    """Run this file with the interpreter that has the contender; parse its last line."""
    name = arguments[1]
    python = sys.executable if name.startswith("ours") else os.environ.get("BENCH_PYTHON", sys.executable)
    env = dict(os.environ, OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", OMP_WAIT_POLICY="passive")
    done = subprocess.run(
        [python, __file__, *map(str, arguments)], capture_output=True, text=True, env=env, cwd=HERE.parent
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def make_data(shape):
    import numpy as np

    from recsys_helpers import synthetic_ratings

    if not (TMP / f"{shape}-values.npy").exists():
        TMP.mkdir(exist_ok=True)
        ratings = synthetic_ratings(*SHAPES[shape], seed=0)
        np.save(TMP / f"{shape}-users.npy", ratings.user_codes)
        np.save(TMP / f"{shape}-items.npy", ratings.item_codes)
        np.save(TMP / f"{shape}-values.npy", ratings.values)


def speed(shape, rounds, contenders, ranks, old, save, threads=2):
    """Measure; rows of contenders and ranks that are not measured now are kept from `old`."""
    make_data(shape)
    runs, missing = {}, dict(old.get("missing", {}))
    rows = {(row["model"], row["rank"]): row for row in old.get("rows", [])}
    m, n, nnz = SHAPES[shape]
    for turn in range(rounds):
        for name, (family, small, large) in CONTENDERS.items():
            wanted = [r for r in (small if shape == "ml1m" else large) if not ranks or r in ranks]
            if not wanted or name not in contenders or runs.get(name) == "failed":
                continue
            result = child("--measure", name, shape, ",".join(map(str, wanted)), threads)
            print(f"round {turn + 1} {shape} {name}: {json.dumps(result)}", flush=True)
            if "error" in result:
                missing[name], runs[name] = result["error"], "failed"
                continue
            missing.pop(name, None)
            for rank in wanted:
                own = runs.setdefault(name, {}).setdefault(rank, [])
                own.append(result[str(rank)])
                row = {"model": name, "family": family, "rank": rank, "runs": len(own)}
                row |= {key: round(median(run[key] for run in own), 4) for key in own[0]}
                # A difference of two times under load can come out negative; then it says nothing.
                row["wall"] = row["wall"] if row["wall"] > 0 else None
                row |= {"date": time.strftime("%Y-%m-%d"), "load_average": round(os.getloadavg()[0], 1)}
                if name == "ours":
                    row["gflops_per_cpu_second"] = round(operations(shape, rank) / row["cpu"] / 1e9, 1)
                    row["share_of_sgemm"] = round(row["gflops_per_cpu_second"] / row["sgemm_gflops"], 3)
                rows[name, rank] = row
            save(
                {
                    "users": m, "items": n, "ratings": nnz, "threads": threads,
                    "rows": [rows[key] for key in sorted(rows)], "missing": missing,
                }
            )  # fmt: skip


def threads_part(rounds):
    """How much faster two threads are than one: medians of the sweeps of interleaved fits."""
    import numpy as np

    runs = {("ml1m", 64): rounds, ("ml1m", 128): rounds, ("32m", 64): 1}
    rows = []
    for (shape, rank), repeats in runs.items():
        make_data(shape)
        seconds = {1: [], 2: []}
        for _ in range(repeats):
            for count in seconds:
                seconds[count] += child("--sweeps", "ours", shape, rank, count)["seconds"]
        one, two = (float(np.median(seconds[count])) for count in (1, 2))
        row = {"data": shape, "rank": rank, "sweeps": len(seconds[1]), "ratio": round(one / two, 2)}
        rows.append(row | {"one_thread": round(one, 4), "two_threads": round(two, 4)})
    return {"rows": rows}


def sweeps(name, shape, rank, threads):
    """Wall seconds of each sweep of one fit, the first left out."""
    import numpy as np

    data = [np.load(TMP / f"{shape}-{part}.npy") for part in ("users", "items", "values")]
    fit = MAKERS[name](*data, threads)
    count = {"ml1m": 21, "32m": 4}[shape]
    return {"seconds": fit(count, rank).history_["seconds"].tolist()[1:]}


def cg_part():
    """Test RMSE after ten sweeps at equal rank and penalty: exact, and three conjugate-gradient steps."""
    import numpy as np

    from recsys_helpers import splits, synthetic_ratings

    ratings = synthetic_ratings(*SHAPES["ml1m"], seed=0)
    train, test = splits.random_holdout(ratings, 0.1, seed=0)
    TMP.mkdir(exist_ok=True)
    path = TMP / "cg.npz"
    np.savez(
        path,
        **{f"{key}_{field}": getattr(part, field) for key, part in (("train", train), ("test", test))
           for field in ("user_codes", "item_codes", "values")},
    )  # fmt: skip
    rows = []
    for name in ("ours", "ours-cg", "cmfrec", "cmfrec-cg"):
        result = child("--cg", name, path)
        print(f"cg {name}: {json.dumps(result)}", flush=True)
        if "error" not in result:
            rows += [{"model": name, "rank": int(rank), "rmse": value} for rank, value in result.items()]
    return {"data": "ml1m, a tenth held out", "sweeps": 10, "reg": 30.0, "bias_reg": 3.0, "rows": rows}


def cg_error(name, path):
    import numpy as np

    family, _, solver = name.partition("-")
    with np.load(path) as file:
        (train, test) = (
            [file[f"{key}_{field}"] for field in ("user_codes", "item_codes", "values")]
            for key in ("train", "test")
        )
    shape = SHAPES["ml1m"][:2]
    run = {"ours": _accuracy_ours, "cmfrec": _accuracy_cmfrec}[family]
    options = {"n_sweeps": 10, "cg": solver == "cg"}

    def rmse(rank):
        predicted = run(*train, *test[:2], shape, rank, 30.0, 3.0, **options)
        error = float(np.sqrt(np.mean((predicted - test[2]) ** 2)))
        return round(error, 5) if np.isfinite(error) else None  # one that diverged

    return {rank: rmse(rank) for rank in (32, 64, 128)}


def accuracy_part(save, n_folds=5):
    """Test RMSE on the embedded ratings: same folds, same rank, as many sweeps and settings for each.

    Saves after every fold that all have done; an interrupted run continues where it was.
    """
    from recsys_helpers import load_movielens, splits

    data = {"latest-small": load_movielens("latest-small")}
    TMP.mkdir(exist_ok=True)
    log = TMP / "accuracy.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    found = {(r["data"], r["fold"], r["model"]): r for r in done}
    for number in range(n_folds):
        for name, ratings in data.items():
            train, test = splits.k_fold(ratings, n_folds, seed=0)[number]
            for model in ACCURACY:
                key = (name, number, model)
                if key not in found:
                    result = child("--accuracy", model, accuracy_file(name, number, train, test))
                    found[key] = {"data": name, "fold": number, "model": model} | result
                    with log.open("a") as file:
                        file.write(json.dumps(found[key]) + "\n")
                print(json.dumps(found[key]), flush=True)
        save({"folds": number + 1, "rows": accuracy_rows(found.values(), data)})


def accuracy_file(name, number, train, test):
    """The arrays of one fold, its training part cut again for the choice of settings."""
    import numpy as np

    from recsys_helpers import splits

    inner = splits.random_holdout(train, 0.1, seed=number)
    path = TMP / f"{name}-fold{number}.npz"
    parts = {"train": train, "test": test, "inner": inner.train, "validation": inner.test}
    np.savez(
        path,
        **{f"{key}_{field}": getattr(part, field) for key, part in parts.items()
           for field in ("user_codes", "item_codes", "values")},
    )  # fmt: skip
    return path


def accuracy_rows(results, data):
    import numpy as np

    rows = []
    for name in data:
        for model in ACCURACY:
            runs = [r for r in results if (r["data"], r["model"]) == (name, model) and "rmse" in r]
            if not runs:
                continue
            errors = [r["rmse"] for r in runs]
            row = {"data": name, "model": model, "rmse": round(float(np.mean(errors)), 4)}
            row["fold_rmse"] = errors
            if len(runs) > 1:
                row["se_over_folds"] = round(float(np.std(errors, ddof=1) / len(runs) ** 0.5), 4)
            rows.append(row | {"settings_tried": runs[0]["tried"], "chosen": [r["chosen"] for r in runs]})
    return rows


def accuracy(name, path):
    """Choose among the settings on validation, refit on train, score on test."""
    import numpy as np

    with np.load(path) as file:
        parts = {
            key: tuple(file[f"{key}_{field}"] for field in ("user_codes", "item_codes", "values"))
            for key in ("train", "test", "inner", "validation")
        }
    shape = [1 + max(p[side].max() for p in parts.values()) for side in (0, 1)]
    grid, run = ACCURACY[name]

    def score(train, test, setting):
        predicted = run(*train, *test[:2], shape, *setting)
        return float(np.sqrt(np.mean((np.asarray(predicted, float) - test[2]) ** 2)))

    chosen = min(grid, key=lambda setting: score(parts["inner"], parts["validation"], setting))
    return {"rmse": score(parts["train"], parts["test"], chosen), "chosen": chosen, "tried": len(grid)}


def _accuracy_ours(
    users, items, values, test_users, test_items, shape, rank, reg, bias_reg, n_sweeps=20, cg=False
):
    import numpy as np

    from recsys_helpers import BiasedALS
    from recsys_helpers.data.ratings import Ratings

    ids = np.arange(shape[0]), np.arange(shape[1])
    solver = "cg" if cg else "cholesky"
    model = BiasedALS(rank, reg, bias_reg=bias_reg, n_sweeps=n_sweeps, solver=solver, verbose=False)
    model.fit(Ratings(users, items, values, None, *ids))
    return model.predict(Ratings(test_users, test_items, np.ones(len(test_users)), None, *ids))


def _accuracy_cmfrec(
    users, items, values, test_users, test_items, shape, rank, reg, bias_reg, n_sweeps=20, cg=False
):
    import numpy as np
    from cmfrec import CMF
    from scipy.sparse import coo_matrix

    penalties = np.array([bias_reg, bias_reg, reg, reg, reg, reg])
    model = CMF(
        k=rank, lambda_=penalties, niter=n_sweeps, use_cg=cg, max_cg_steps=3, finalize_chol=False,
        nthreads=2, verbose=False, random_state=0,
    )  # fmt: skip
    model.fit(coo_matrix((values, (users, items)), shape=shape))
    # For a film without a training rating its numbers are arbitrary (1e32 was seen): like LensKit below,
    # it gets its own mean and bias of the user there.
    known = np.isin(test_items, items)
    predicted = np.asarray(model.predict(test_users, test_items), float)
    return np.where(known, predicted, model.glob_mean_ + model.user_bias_[test_users])


def _accuracy_lenskit(users, items, values, test_users, test_items, shape, rank, reg, damping):
    import numpy as np
    import pandas as pd
    from lenskit.als import BiasedMFScorer
    from lenskit.data import ItemList, RecQuery, from_interactions_df

    data = from_interactions_df(pd.DataFrame({"user_id": users, "item_id": items, "rating": values}))
    model = BiasedMFScorer(embedding_size=rank, regularization=reg, damping=damping, epochs=20)
    model.train(data)
    out = np.empty(len(test_users))
    for user in np.unique(test_users):
        rows = np.flatnonzero(test_users == user)
        scored = model(RecQuery(user_id=user), ItemList(item_ids=test_items[rows])).scores()
        # LensKit scores no film that training has not seen; its bias part stands in.
        fallback = model.bias.compute_for_items(ItemList(item_ids=test_items[rows]), user_id=user)[0]
        out[rows] = np.where(np.isnan(scored), fallback, scored)
    return out


def _accuracy_surprise(users, items, values, test_users, test_items, shape, rank, reg, rate):
    import pandas as pd
    from surprise import SVD, Dataset, Reader

    frame = pd.DataFrame({"user": users, "item": items, "rating": values})
    data = Dataset.load_from_df(frame, Reader(rating_scale=(0.5, 5))).build_full_trainset()
    model = SVD(n_factors=rank, n_epochs=20, reg_all=reg, lr_all=rate, random_state=0).fit(data)
    return [model.predict(u, i, clip=False).est for u, i in zip(test_users, test_items, strict=True)]


def _grid(*axes):
    from itertools import product

    return [list(setting) for setting in product(*axes)]


ACCURACY = {
    # One rank, as many settings, as many sweeps for all; each objective has penalties of its own scale.
    "ours": (_grid([64], [9.0, 13.0, 18.0], [2.0, 4.0]), _accuracy_ours),
    "ours-cg": (_grid([64], [9.0, 13.0, 18.0], [2.0, 4.0]), partial(_accuracy_ours, cg=True)),
    "cmfrec": (_grid([64], [9.0, 13.0, 18.0], [2.0, 4.0]), _accuracy_cmfrec),
    "cmfrec-cg": (_grid([64], [9.0, 13.0, 18.0], [2.0, 4.0]), partial(_accuracy_cmfrec, cg=True)),
    "lenskit": (_grid([64], [0.1, 0.2, 0.4], [3.0, 6.0]), _accuracy_lenskit),
    "surprise": (_grid([64], [0.06, 0.1, 0.15], [0.01, 0.02]), _accuracy_surprise),
}


def machine():
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":")[1].strip()
            break
    python = os.environ.get("BENCH_PYTHON", sys.executable)
    code = (
        "import importlib.metadata as m, json\nout = {}\n"
        "for p in ('cmfrec', 'implicit', 'lenskit', 'scikit-surprise', 'libmf', 'pyspark'):\n"
        "    try: out[p] = m.version(p)\n"
        "    except m.PackageNotFoundError: out[p] = None\n"
        "print(json.dumps(out))"
    )
    import numba
    import numpy

    from recsys_helpers import __version__

    peers = json.loads(
        subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    )
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {
            "recsys_helpers": __version__,
            "numpy": numpy.__version__,
            "numba": numba.__version__,
            **peers,
        },
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=[], help=f"{PARTS}; default all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contenders", help="for example ours,lenskit; default all")
    parser.add_argument("--ranks", help="for example 64; default all")
    parser.add_argument(
        "--measure", nargs=4, metavar=("NAME", "SHAPE", "RANKS", "THREADS"), help=argparse.SUPPRESS
    )
    parser.add_argument(
        "--sweeps", nargs=4, metavar=("NAME", "SHAPE", "RANK", "THREADS"), help=argparse.SUPPRESS
    )
    parser.add_argument("--cg", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    parser.add_argument("--accuracy", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, shape, ranks, threads = options.measure
        print("\n" + json.dumps(measure(name, shape, [int(r) for r in ranks.split(",")], int(threads))))
        return
    if options.sweeps:
        name, shape, rank, threads = options.sweeps
        print("\n" + json.dumps(sweeps(name, shape, int(rank), int(threads))))
        return
    if options.cg:
        print("\n" + json.dumps(cg_error(*options.cg)))
        return
    if options.accuracy:
        print("\n" + json.dumps(accuracy(*options.accuracy)))
        return
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"parts: got {sorted(unknown)}; expected some of {list(PARTS)}")
    contenders = options.contenders.split(",") if options.contenders else list(CONTENDERS)
    ranks = [int(r) for r in options.ranks.split(",")] if options.ranks else []
    for part in options.parts or PARTS:
        before = machine()
        old = json.loads(RESULTS.read_text()).get(part, {}) if RESULTS.exists() else {}

        def save(found, part=part, before=before):
            # Read again: another run may have written its own part meanwhile.
            results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            results[part] = found | {"machine": before}
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")

        if part == "threads":
            save(threads_part(options.rounds))
        elif part == "cg":
            save(cg_part())
        elif part == "accuracy":
            accuracy_part(save)
        else:
            speed(part, options.rounds, contenders, ranks, old, save)
        print_table(part, json.loads(RESULTS.read_text())[part])


def print_table(part, result):
    import pandas as pd

    print(f"\n{part}: {result['machine']['cpu']}, load {result['machine']['load_average']}")
    rows = result.get("rows")
    print(pd.DataFrame(rows).to_string() if rows else json.dumps(result, indent=1))
    for name, why in result.get("missing", {}).items():
        print(f"left out: {name}: {why}")


if __name__ == "__main__":
    main()
