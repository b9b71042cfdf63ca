"""The learners of chapter 8 beside their peers, in one interleaved run.

    python benchmarks/implicit.py            # everything but gowalla; writes results/implicit.json
    python benchmarks/implicit.py als bpr    # some parts; the others keep their results
    python benchmarks/implicit.py gowalla --gowalla gowalla.npz

Parts

als      ImplicitALS, implicit and irspack on synthetic pairs of MovieLens-1M's shape: CPU seconds of a sweep,
         by each solver, in one thread. ImplicitALS and implicit have the same objective (alpha 10, a constant
         penalty of 5) and its value after equal sweeps; irspack's penalty grows with the row.
als32m   the same at 32 million pairs, 64 factors
bpr      BPR and implicit's, same learning rate and penalty: CPU seconds of an epoch; share of held-out pairs
         in order
ease     EASE, the bare Cholesky inverse of that size (LAPACK's potrf and potri), and the obvious lines of
         NumPy: CPU seconds and peak memory
slim     SLIM, and scikit-learn's ElasticNet on a sample of the columns, to the same precision
fold_in  milliseconds to fold in a person with a hundred likes
gowalla  check-ins in the split of the graph-recommender papers (arrays train_user, train_item, test_user,
         test_item): Recall@20 and NDCG@20, all places ranked; every setting chosen inside the training part

The peers live in the environment whose interpreter BENCH_PYTHON names. What cannot be imported there is left
out and listed. A measurement is a process of its own; where there are sweeps it fits with few and with more
of them after a warm-up, and the difference is their cost alone. All contenders of a round run before the
next round starts, and medians are kept.
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
RESULTS = HERE / "results" / "implicit.json"
TMP = HERE / "tmp"
SHAPES = {
    "ml1m": (6_040, 3_706, 1_000_000), "wide": (40_000, 20_000, 4_000_000),
    "32m": (200_948, 84_432, 32_000_000),
}  # fmt: skip
ALS = (
    "ours-exact", "ours-cg", "ours-subspace", "implicit-exact", "implicit-cg", "irspack-exact", "irspack-cg",
    "irspack-subspace",
)  # fmt: skip
FEW, MORE = 1, 5
# Part: (contender, shape, rank) and the most rounds.
PLAN = {
    "als": ([(name, "ml1m", k) for k in (64, 128) for name in ALS], 3),
    "als32m": ([(name, "32m", 64) for name in ("ours-exact", "ours-cg", "implicit-cg", "irspack-cg")], 1),
    "bpr": ([(f"{name}-bpr", "ml1m", k) for k in (64, 128) for name in ("ours", "implicit")], 3),
    "ease": (
        [(f"{name}-ease", "ml1m", 0) for name in ("ours", "bare", "numpy")]
        + [(f"{name}-ease", "wide", 0) for name in ("ours", "bare")],
        3,
    ),
    "slim": ([(f"{name}-slim", "ml1m", 0) for name in ("ours", "sklearn")], 1),
    "fold_in": ([("ours-fold", "ml1m", k) for k in (64, 128)], 1),
    "gowalla": ([(name, "gowalla", 0) for name in ("popularity", "ease", "slim", "als")], 1),
}
WEIGHT, PENALTY = 0.1, 0.5  # of what is not observed; as theirs, 1 and 5 with a confidence of 11
RATE, REG, EPOCHS = 0.05, 0.01, 20
L1, L2 = 1.0, 100.0


# ---- data ------------------------------------------------------------------------------------


def make_data(shape):
    """Pairs of a shape as arrays of codes, in files that every environment reads."""
    import numpy as np

    from recsys_helpers import synthetic_ratings

    if not (TMP / f"pairs-{shape}.npz").exists():
        TMP.mkdir(exist_ok=True)
        ratings = synthetic_ratings(*SHAPES[shape], seed=0)
        np.savez(TMP / f"pairs-{shape}.npz", users=ratings.user_codes, items=ratings.item_codes)


def matrix(shape):
    import numpy as np
    from scipy.sparse import csr_matrix

    with np.load(TMP / f"pairs-{shape}.npz") as file:
        users, items = file["users"], file["items"]
    return csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=SHAPES[shape][:2])


def ratings_of(pairs):
    import numpy as np

    from recsys_helpers import Ratings

    coo = pairs.tocoo()
    m, n = pairs.shape
    return Ratings(coo.row, coo.col, coo.data, None, np.arange(m), np.arange(n), scale=(0, 1))


def peak_mb():
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


# ---- contenders: each returns what to keep ------------------------------------------------------


def timed(fit):
    """CPU and wall seconds of one sweep, and what the longer fit returned."""
    fit(1)
    seconds = []
    for sweeps in (FEW, MORE):
        start = time.process_time(), time.perf_counter()
        model = fit(sweeps)
        seconds.append((time.process_time() - start[0], time.perf_counter() - start[1]))
    cpu, wall = ((more - few) / (MORE - FEW) for few, more in zip(*seconds, strict=True))
    return model, {"cpu": cpu, "wall": wall, "peak_mb": peak_mb()}


def objective(pairs, p, q):
    """Of Hu, Koren and Volinsky, with confidence 11 and 1, and a penalty of 5."""
    import numpy as np

    p, q = p.astype(np.float64), q.astype(np.float64)
    coo, known, seen = pairs.tocoo(), 0.0, 0.0
    for first in range(0, coo.nnz, 100_000):
        some = slice(first, first + 100_000)
        score = np.einsum("ij,ij->i", p[coo.row[some]], q[coo.col[some]])
        known, seen = known + np.sum(11 * (1 - score) ** 2), seen + np.sum(score**2)
    return float(known - seen + np.sum((p.T @ p) * (q.T @ q)) + 5 * (np.sum(p**2) + np.sum(q**2)))


def als(name, shape, k):
    family, solver = name.split("-")
    pairs = matrix(shape)
    if family == "ours":
        from recsys_helpers import ImplicitALS

        ratings = ratings_of(pairs)
        settings = dict(unobserved_weight=WEIGHT, reg_exponent=0.0, threshold=None, tol=0, n_threads=1)
        settings |= {"solver": {"exact": "cholesky"}.get(solver, solver), "verbose": False}

        def fit(sweeps):
            return ImplicitALS(k, PENALTY, n_sweeps=sweeps, **settings).fit(ratings)

        model, facts = timed(fit)
        return facts | {"objective": objective(pairs, model.user_factors_, model.item_factors_)}
    if family == "implicit":
        from implicit.als import AlternatingLeastSquares

        def fit(sweeps):
            model = AlternatingLeastSquares(
                factors=k, regularization=5.0, alpha=11.0, use_cg=solver == "cg", iterations=sweeps,
                num_threads=1, calculate_training_loss=False, random_state=0,
            )  # fmt: skip
            model.fit(pairs, show_progress=False)
            return model

        model, facts = timed(fit)
        return facts | {"objective": objective(pairs, model.user_factors, model.item_factors)}
    from irspack import IALSRecommender

    kinds = {"exact": "CHOLESKY", "cg": "CG", "subspace": "IALSPP"}

    def fit(sweeps):
        model = IALSRecommender(
            pairs, n_components=k, alpha0=WEIGHT, reg=0.003, train_epochs=sweeps, n_threads=1,
            solver_type=kinds[solver],
        )  # fmt: skip
        return model.learn()

    return timed(fit)[1]


def bpr(name, shape, k):
    import numpy as np

    pairs = matrix(shape)
    held = np.random.default_rng(0).random(pairs.nnz) < 0.1
    coo = pairs.tocoo()
    train = pairs.copy()
    train.data[held] = 0
    train.eliminate_zeros()
    users, liked = coo.row[held], coo.col[held]
    others = np.random.default_rng(1).integers(0, pairs.shape[1], len(users))
    apart = np.asarray(pairs[users, others]).ravel() == 0
    if name.startswith("ours"):
        from recsys_helpers import BPR

        ratings = ratings_of(train)

        def fit(epochs):
            return BPR(
                k, REG, learning_rate=RATE, decay=1.0, n_epochs=epochs, threshold=None, verbose=False
            ).fit(ratings)

        def score(model, items):
            part = np.einsum("ij,ij->i", model.user_factors_[users], model.item_factors_[items])
            return part + model.item_bias_[items]
    else:
        from implicit.bpr import BayesianPersonalizedRanking

        def fit(epochs):
            model = BayesianPersonalizedRanking(
                factors=k, learning_rate=RATE, regularization=REG, iterations=epochs, num_threads=1,
                random_state=0,
            )  # fmt: skip
            model.fit(train, show_progress=False)
            return model

        def score(model, items):
            return np.einsum("ij,ij->i", model.user_factors[users], model.item_factors[items])

    facts = timed(fit)[1]
    model = fit(EPOCHS)
    return facts | {"held_out_in_order": float(np.mean((score(model, liked) > score(model, others))[apart]))}


def ease(name, shape, _):
    import numpy as np
    from scipy.linalg import lapack

    pairs = matrix(shape)
    n = pairs.shape[1]
    kind = name.split("-")[0]
    if kind == "ours":
        from recsys_helpers import EASE

        ratings = ratings_of(pairs)
        EASE(500.0, threshold=None, n_threads=1).fit(ratings[: min(len(ratings), 50_000)])
        start = time.process_time()
        EASE(500.0, threshold=None, n_threads=1).fit(ratings)
    elif kind == "bare":
        gram = np.asfortranarray(np.eye(n, dtype=np.float32) * 500 + 1)
        start = time.process_time()
        factor, _ = lapack.spotrf(gram, lower=1, overwrite_a=1, clean=0)
        lapack.spotri(factor, lower=1, overwrite_c=1)
    else:
        start = time.process_time()
        gram = (pairs.T @ pairs).toarray().astype(np.float64)
        gram[np.diag_indices(n)] += 500
        inverse = np.linalg.inv(gram)
        weights = inverse / -np.diag(inverse)
        weights[np.diag_indices(n)] = 0
    return {"cpu": time.process_time() - start, "items": n}


def slim(name, shape, _):
    import numpy as np

    pairs = matrix(shape)
    m, n = pairs.shape
    if name.startswith("ours"):
        from recsys_helpers import SLIM

        ratings = ratings_of(pairs)
        SLIM(50.0, 1000.0, threshold=None, n_threads=1).fit(ratings)
        start = time.process_time()
        model = SLIM(L1, L2, threshold=None, tol=1e-6, n_threads=1).fit(ratings)
        cpu = time.process_time() - start
        np.savez(TMP / "slim-ours.npz", columns=model.item_weights_[:, sample_of(n)].toarray())
        return {"cpu": cpu, "weights": int(model.item_weights_.nnz)}
    from sklearn.linear_model import ElasticNet

    columns, found = pairs.tocsc().astype(np.float64), []
    net = ElasticNet(
        alpha=(L1 + L2) / m,
        l1_ratio=L1 / (L1 + L2),
        positive=True,
        fit_intercept=False,
        tol=1e-7,
        max_iter=5000,
    )
    start = time.process_time()
    for item in sample_of(n):
        own = columns.copy()
        span = slice(own.indptr[item], own.indptr[item + 1])
        target = np.zeros(m)
        target[own.indices[span]] = 1
        own.data[span] = 0
        found.append(net.fit(own, target).coef_)
    cpu = (time.process_time() - start) / len(found) * n
    with np.load(TMP / "slim-ours.npz") as file:
        apart = float(np.abs(np.array(found).T - file["columns"]).max())
    return {"cpu": cpu, "columns": len(found), "largest_difference": apart}


def sample_of(n):
    import numpy as np

    return np.random.default_rng(0).choice(n, 100, replace=False)


def fold_in(_, shape, k):
    import numpy as np

    from recsys_helpers import ImplicitALS

    model = ImplicitALS(k, 0.01, unobserved_weight=0.1, threshold=None, n_sweeps=2, tol=0, verbose=False)
    model.fit(ratings_of(matrix(shape)))
    codes = np.sort(np.random.default_rng(0).choice(model.train_.n_items, 100, replace=False)).astype(
        np.int32
    )
    values, told = np.ones(100, np.float32), dict.fromkeys(codes.tolist(), 1.0)
    out = {}
    for label, call in (
        ("row_ms", lambda: model._fold_in(codes, values)), ("ids_and_all_ms", lambda: model.fold_in(told))
    ):  # fmt: skip
        call()
        start = time.perf_counter()
        for _ in range(300):
            call()
        out[label] = (time.perf_counter() - start) / 300 * 1000
    return out


def gowalla(name, path, _):
    import numpy as np

    from recsys_helpers import EASE, SLIM, ImplicitALS, Popularity, Ratings
    from recsys_helpers.evaluation import rank_model

    with np.load(path) as file:
        pairs = [
            np.concatenate([file[f"{part}_{who}"] for part in ("train", "test")]) for who in ("user", "item")
        ]
        held = np.arange(len(pairs[0])) >= len(file["train_user"])
    everything = Ratings.from_arrays(*pairs, np.ones(len(held)), scale=(0, 1))
    n_held = np.lexsort((pairs[1], pairs[0]))
    train, test = everything[~held[n_held]], everything[held[n_held]]
    model = {
        "popularity": lambda: Popularity(),
        "ease": lambda: EASE(threshold=None),
        "slim": lambda: SLIM(threshold=None),
        "als": lambda: chosen_als(train, ImplicitALS),
    }[name]()
    start = time.process_time()
    model.fit(train)
    cpu = time.process_time() - start
    means = rank_model(model, train, test, k=20, threshold=0.5).means()
    settings = {
        key: getattr(model, key)
        for key in ("reg_", "l1_", "l2_", "unobserved_weight_")
        if hasattr(model, key)
    }
    if hasattr(model, "n_factors"):
        settings["n_factors"] = model.n_factors
    return {"cpu": cpu, "recall": means["recall"], "ndcg": means["ndcg"], "settings": settings}


def chosen_als(train, family):
    """Rank, weight and penalty by NDCG on a tenth of the training pairs."""
    from recsys_helpers import splits
    from recsys_helpers.evaluation import grid_search

    settings = [
        {"n_factors": min(1024, *train.shape), "unobserved_weight": w, "reg": reg}
        for w, reg in ((0.01, 0.003), (0.01, 0.001), (0.03, 0.001), (0.03, 0.003))
    ]
    model = family(threshold=None, solver="cg", n_sweeps=12, tol=0, verbose=False)
    inner = splits.random_holdout(train, 0.1, seed=0)
    found = grid_search(model, settings, train, protocol=[inner], target="ndcg", k=20, threshold=0.5)
    return model.set_params(**found.attrs["best"])


# ---- running ---------------------------------------------------------------------------------


def measure(name, shape, k):
    if shape not in SHAPES:
        work = gowalla
    else:
        work = {"bpr": bpr, "ease": ease, "slim": slim, "fold": fold_in}.get(name.split("-")[1], als)
    facts = work(name, shape, k)
    return {"peak_mb": peak_mb()} | facts


def child(name, shape, k):
    """Run this file with the interpreter that has the contender; parse its last line."""
    peer = name.startswith(("implicit", "irspack"))
    python = os.environ.get("BENCH_PYTHON", sys.executable) if peer else sys.executable
    env = dict(os.environ, OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", OMP_NUM_THREADS="1")
    command = [python, __file__, "--measure", name, str(shape), str(k)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=HERE.parent)
    if done.returncode:
        return {"message": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_part(part, rounds, path, save):
    plan, most = PLAN[part]
    runs, missing = {}, {}
    for turn in range(min(rounds, most)):
        for name, shape, k in plan:
            if name in missing:
                continue
            if shape in SHAPES:
                make_data(shape)
            result = child(name, shape if shape in SHAPES else path, k)
            if "message" in result:
                missing[name] = result["message"]
                continue
            result["load_average"] = round(os.getloadavg()[0], 1)
            runs.setdefault((name, shape, k), []).append(result)
            print(f"round {turn + 1} {part} {name} {shape} {k}: {json.dumps(result)}", flush=True)
            save(summary(runs, missing))
    save(summary(runs, missing))


def summary(runs, missing):
    rows = []
    for (name, shape, k), own in runs.items():
        row = {"model": name, "shape": shape, "rank": k, "runs": len(own)}
        for field, value in own[0].items():
            single = not isinstance(value, int | float)
            row[field] = value if single else float(f"{median(run[field] for run in own):.6g}")
        rows.append(row)
    return {"rows": rows, "missing": missing, "shapes": SHAPES}


def machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    code = (
        "import importlib.metadata as m, json\nout = {}\n"
        "for p in ('implicit', 'irspack'):\n"
        "    try: out[p] = m.version(p)\n"
        "    except m.PackageNotFoundError: out[p] = None\n"
        "print(json.dumps(out))"
    )
    import numba
    import numpy
    import scipy
    import sklearn

    from recsys_helpers import __version__

    python = os.environ.get("BENCH_PYTHON", sys.executable)
    peers = json.loads(
        subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    )
    own = {"recsys_helpers": __version__, "numpy": numpy.__version__, "scipy": scipy.__version__}
    own |= {"numba": numba.__version__, "scikit-learn": sklearn.__version__}
    return {
        "date": time.strftime("%Y-%m-%d"), "cpu": cpu, "cores": os.cpu_count(),
        "load_average": [round(x, 2) for x in os.getloadavg()], "system": platform.platform(),
        "python": platform.python_version(), "versions": own | peers,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=[], help=f"{', '.join(PLAN)}; default all but gowalla")
    parser.add_argument("--rounds", type=int, default=3, help="at most")
    parser.add_argument("--gowalla", help="the file with the check-ins")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, shape, k = options.measure
        print("\n" + json.dumps(measure(name, shape, int(k))))
        return
    unknown = set(options.parts) - set(PLAN)
    if unknown:
        parser.error(f"parts: got {sorted(unknown)}; expected some of {list(PLAN)}")
    if "gowalla" in options.parts and not options.gowalla:
        parser.error("gowalla: got no file; expected --gowalla PATH")
    for part in options.parts or [part for part in PLAN if part != "gowalla"]:
        about = machine()

        def save(found, part=part, about=about):
            # Read again: another run may have written its own part meanwhile.
            results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            results[part] = found | {"machine": about}
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")

        run_part(part, options.rounds, options.gowalla, save)
        if RESULTS.exists() and part in (results := json.loads(RESULTS.read_text())):
            print_table(part, results[part])


def print_table(part, result):
    import pandas as pd

    print(f"\n{part}: {result['machine']['cpu']}, load {result['machine']['load_average']}")
    print(pd.DataFrame(result["rows"]).to_string())
    for name, why in result["missing"].items():
        print(f"left out: {name}: {why}")


if __name__ == "__main__":
    main()
