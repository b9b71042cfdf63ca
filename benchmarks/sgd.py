"""FunkSVD, SVDpp and truncated SVD beside their peers, in one interleaved run.

    python benchmarks/sgd.py                   # everything; writes results/sgd.json
    python benchmarks/sgd.py surprise libmf    # some parts; the others keep their results

Parts

surprise   FunkSVD and scikit-surprise's SVD on synthetic ratings of MovieLens-1M's shape: same
           start, epochs, learning rate and penalty; CPU seconds of an epoch, and test RMSE
libmf      FunkSVD and libmf in one thread on that shape, CPU seconds of an epoch
libmf32m   the same on 32 million ratings
svdpp      SVDpp and scikit-surprise's SVDpp on the shape of MovieLens-100K, as in part surprise
svdpp1m    the same on MovieLens-1M's shape, one epoch, as Surprise's takes minutes there
svds       the 50 largest singular values of 32 million ratings: PureSVD's search, and
           scipy.sparse.linalg.svds on the same sparse matrix
svds8m     the same on a quarter of that: half the users, half the films

The peers come from the extra [bench]; they may live in another environment, whose interpreter is
named by BENCH_PYTHON. What cannot be imported there is left out and listed.

A measurement is a process of its own that fits with few and with more epochs, after a warm-up; the
difference is the cost of the epochs alone, without loading, conversion and compilation. All
contenders of a round run before the next round starts, and medians over rounds are kept.
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
sys.path.insert(0, str(HERE.parent))
RESULTS = HERE / "results" / "sgd.json"
TMP = HERE / "tmp"
SHAPES = {
    "ml100k": (943, 1_682, 100_000),
    "ml1m": (6_040, 3_706, 1_000_000),
    "8m": (100_474, 42_216, 8_000_000),
    "32m": (200_948, 84_432, 32_000_000),
}
# Surprise's own defaults, for both sides.
RATE, REG, SCALE = 0.005, 0.02, 0.1
RANK_SVDS = 50
# Part: list of (contender, shape, ranks, few epochs, more epochs, most rounds).
FUNK = ("ours-user", "ours-shuffled")
PLAN = {
    "surprise": [(name, "ml1m", (20, 100), 1, 11, 3) for name in (*FUNK, "surprise")],
    "libmf": [(name, "ml1m", (20, 64, 100), 2, 22, 3) for name in (*FUNK, "libmf")],
    "libmf32m": [(name, "32m", (64,), 1, 3, 1) for name in (*FUNK, "libmf")],
    "svdpp": [(name, "ml100k", (20,), 1, 3, 2) for name in ("ours-svdpp", "surprise-svdpp")],
    "svdpp1m": [(name, "ml1m", (20,), 1, 2, 1) for name in ("ours-svdpp", "surprise-svdpp")],
    "svds8m": [(name, "8m", (RANK_SVDS,), 0, 1, 3) for name in ("ours-svds", "scipy-svds")],
    "svds": [(name, "32m", (RANK_SVDS,), 0, 1, 3) for name in ("ours-svds", "scipy-svds")],
}


# ---- contenders: each returns a function fit(epochs) that returns facts -----------------


def _split(data):
    """A tenth of the ratings for testing, the same for everybody."""
    import numpy as np

    test = np.random.default_rng(0).random(len(data[0])) < 0.1
    return [a[~test] for a in data], [a[test] for a in data]


def _starts(shape, rank, items):
    """The random start that Surprise draws: films in the order in which they first appear."""
    import numpy as np

    m, n, _ = SHAPES[shape]
    found, at = np.unique(items, return_index=True)
    order = found[np.argsort(at)]
    rng = np.random.RandomState(0)
    p, q, y = rng.normal(0, SCALE, (m, rank)), np.zeros((n, rank)), np.zeros((n, rank))
    q[order] = rng.normal(0, SCALE, (len(order), rank))
    y[order] = rng.normal(0, SCALE, (len(order), rank))
    return p, q, y


def _rmse(predicted, values):
    import numpy as np

    return float(np.sqrt(np.mean((np.asarray(predicted) - values) ** 2)))


def _ours(shape, rank, data, kind):
    import numpy as np

    from recsys_helpers import FunkSVD, SVDpp
    from recsys_helpers.data.ratings import Ratings

    m, n, _ = SHAPES[shape]
    ids = np.arange(m), np.arange(n)
    train, test = _split(data)
    ratings = Ratings(*train, None, *ids)
    held = Ratings(*test, None, *ids)
    options = dict(reg=REG, bias_reg=REG, learning_rate=RATE, decay=1.0, init_scale=SCALE, verbose=False)
    start = _starts(shape, rank, train[1])

    def fit(epochs):
        if kind == "svdpp":
            model = SVDpp(rank, n_epochs=epochs, **options)
        else:
            model = FunkSVD(rank, n_epochs=epochs, order=kind, **options)
        model.fit(ratings, start=start[: 3 if kind == "svdpp" else 2])
        return lambda: {"rmse": _rmse(model.predict(held), held.values)}

    return fit


def _surprise(shape, rank, data, kind):
    import pandas as pd
    from surprise import SVD, Dataset, Reader, SVDpp

    train, test = _split(data)
    frame = pd.DataFrame(dict(zip(("user", "item", "rating"), train, strict=True)))
    trainset = Dataset.load_from_df(frame, Reader(rating_scale=(0.5, 5))).build_full_trainset()
    # Its users are ours, in our order, so that both can start from the same random numbers.
    assert [trainset.to_raw_uid(u) for u in range(trainset.n_users)] == list(range(SHAPES[shape][0]))

    def fit(epochs):
        options = dict(n_epochs=epochs, lr_all=RATE, reg_all=REG, init_std_dev=SCALE, random_state=0)
        if kind == "svdpp":
            model = SVDpp(rank, cache_ratings=True, **options)
        else:
            model = SVD(rank, **options)
        model.fit(trainset)

        def facts():
            guess = [model.predict(u, i, clip=False).est for u, i in zip(*test[:2], strict=True)]
            return {"rmse": _rmse(guess, test[2])}

        return facts

    return fit


def _libmf(shape, rank, data, kind):
    import numpy as np
    from libmf import mf

    table = np.column_stack(_split(data)[0]).astype(np.float64)

    def fit(epochs):
        mf.MF(k=rank, nr_iters=epochs, nr_threads=1, quiet=True).fit(table)
        return dict

    return fit


def _svds(shape, rank, data, kind):
    import numpy as np
    from scipy.sparse import csr_array
    from threadpoolctl import threadpool_limits

    m, n, _ = SHAPES[shape]
    if kind == "ours":
        from recsys_helpers import PureSVD
        from recsys_helpers.data.ratings import Ratings

        ratings = Ratings(*data, None, np.arange(m), np.arange(n))
        ratings.by_user, ratings.by_item  # noqa: B018 - made once and kept, as the peer's matrix is
    else:
        from scipy.sparse.linalg import svds

        users, items, values = data
        matrix = csr_array((values, (users, items)), shape=(m, n))

    def fit(epochs):
        if not epochs:
            return dict
        if kind == "ours":
            model = PureSVD(rank, n_threads=1).fit(ratings)
            p, s, q = (
                model.user_factors_ / model.singular_values_,
                model.singular_values_,
                model.item_factors_,
            )
        else:
            with threadpool_limits(1):
                p, s, right = svds(matrix, rank, random_state=0)
            p, s, q = p[:, ::-1], s[::-1], right[::-1].T

        def facts():
            # |R - P diag(s) Q'|^2 = |R|^2 - 2 sum_k s_k (p_k' R q_k) + sum_k s_k^2, for orthonormal P and Q.
            sparse = ratings.by_user if kind == "ours" else matrix
            inner = np.einsum("ik,ik->k", p.astype(float), sparse @ q.astype(float))
            squared = float(np.sum(sparse.data.astype(float) ** 2))
            lost = squared - 2 * float(np.sum(s * inner)) + float(np.sum(np.asarray(s, float) ** 2))
            return {"singular_values": [float(x) for x in s], "error": (lost / squared) ** 0.5}

        return facts

    return fit


MAKERS = {
    "ours-user": lambda *a: _ours(*a, "user"),
    "ours-shuffled": lambda *a: _ours(*a, "shuffled"),
    "ours-svdpp": lambda *a: _ours(*a, "svdpp"),
    "surprise": lambda *a: _surprise(*a, "svd"),
    "surprise-svdpp": lambda *a: _surprise(*a, "svdpp"),
    "libmf": lambda *a: _libmf(*a, None),
    "ours-svds": lambda *a: _svds(*a, "ours"),
    "scipy-svds": lambda *a: _svds(*a, "scipy"),
}


# ---- one process, one contender -------------------------------------------------


def measure(name, shape, ranks, few, more):
    import numpy as np

    def load(shape):
        return [np.load(TMP / f"{shape}-{part}.npy") for part in ("users", "items", "values")]

    if name.startswith("ours"):
        MAKERS[name]("ml100k", 8, load("ml100k"))(1)()  # compiles
    data, out = load(shape), {}
    for rank in ranks:
        fit, cpu, wall = MAKERS[name](shape, rank, data), [], []
        for epochs in (few, more):
            start = time.process_time(), time.perf_counter()
            facts = fit(epochs)
            cpu.append(time.process_time() - start[0])
            wall.append(time.perf_counter() - start[1])
        out[rank] = {
            "cpu": (cpu[1] - cpu[0]) / (more - few),
            "wall": (wall[1] - wall[0]) / (more - few),
            "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            **facts(),
        }
    return out


def child(name, *arguments):
    """Run this file with the interpreter that has the contender; parse its last line."""
    own = name.startswith(("ours", "scipy"))
    python = sys.executable if own else os.environ.get("BENCH_PYTHON", sys.executable)
    env = dict(os.environ, OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", OMP_NUM_THREADS="1")
    command = [python, __file__, "--measure", name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=HERE.parent)
    if done.returncode:
        return {"message": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
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


def run_part(part, rounds, save):
    make_data("ml100k")
    runs, missing = {}, {}
    for turn in range(rounds):
        for name, shape, ranks, few, more, most in PLAN[part]:
            if turn >= most or name in missing:
                continue
            make_data(shape)
            results = child(name, shape, ",".join(map(str, ranks)), few, more)
            if "message" in results:
                missing[name] = results["message"]
            for rank in ranks if "message" not in results else ():
                result = results[str(rank)] | {"load_average": round(os.getloadavg()[0], 1)}
                runs.setdefault((name, shape, rank), []).append(result)
                shown = {k: v for k, v in result.items() if k != "singular_values"}
                print(f"round {turn + 1} {part} {name} {shape} {rank}: {json.dumps(shown)}", flush=True)
            save(summary(runs, missing))


def summary(runs, missing):
    rows, spectra = [], {}
    for (name, shape, rank), own in runs.items():
        row = {"model": name, "shape": shape, "rank": rank, "runs": len(own)}
        for field in ("cpu", "wall", "peak_mb", "rmse", "error", "load_average"):
            if field in own[0]:
                row[field] = round(median(run[field] for run in own), 5)
        if "singular_values" in own[0]:
            spectra[name] = own[0]["singular_values"]
        rows.append(row)
    found = {"rows": rows, "missing": missing, "shapes": SHAPES}
    if len(spectra) == 2:
        mine, peer = spectra.values()
        found["largest_difference_of_singular_values"] = max(
            abs(a / b - 1) for a, b in zip(mine, peer, strict=True)
        )
    return found


def machine():
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":")[1].strip()
            break
    code = (
        "import importlib.metadata as m, json\nout = {}\n"
        "for p in ('scikit-surprise', 'libmf'):\n"
        "    try: out[p] = m.version(p)\n"
        "    except m.PackageNotFoundError: out[p] = None\n"
        "print(json.dumps(out))"
    )
    import numba
    import numpy
    import scipy

    from recsys_helpers import __version__

    python = os.environ.get("BENCH_PYTHON", sys.executable)
    peers = json.loads(
        subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    )
    own = {"recsys_helpers": __version__, "numpy": numpy.__version__, "scipy": scipy.__version__}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {**own, "numba": numba.__version__, **peers},
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=[], help=f"{', '.join(PLAN)}; default all")
    parser.add_argument("--rounds", type=int, default=3, help="at most")
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, shape, ranks, few, more = options.measure
        ranks = [int(rank) for rank in ranks.split(",")]
        print("\n" + json.dumps(measure(name, shape, ranks, int(few), int(more))))
        return
    unknown = set(options.parts) - set(PLAN)
    if unknown:
        parser.error(f"parts: got {sorted(unknown)}; expected some of {list(PLAN)}")
    for part in options.parts or PLAN:
        about = machine()

        def save(found, part=part, about=about):
            # Read again: another run may have written its own part meanwhile.
            results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            results[part] = found | {"machine": about}
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")

        run_part(part, options.rounds, save)
        print_table(part, json.loads(RESULTS.read_text())[part])


def print_table(part, result):
    import pandas as pd

    print(f"\n{part}: {result['machine']['cpu']}, load {result['machine']['load_average']}")
    print(pd.DataFrame(result["rows"]).to_string())
    for name, why in result["missing"].items():
        print(f"left out: {name}: {why}")


if __name__ == "__main__":
    main()
