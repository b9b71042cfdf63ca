"""Convex completion: seconds to a certified gap, memory, CVXPY's growth, and accuracy beside ALS.

    python benchmarks/completion.py                        # everything; writes results/completion.json
    python benchmarks/completion.py speed cvxpy            # some parts; the others keep their results
    python benchmarks/completion.py speed accuracy --data 100k     # on the published set
    python benchmarks/completion.py speed accuracy --data 1m

speed     CPU and wall seconds and peak memory to a certified relative gap of 1e-4 and 1e-6, at the shapes
          of ML-100K's u1 (lambda 12) and of nine tenths of ML-1M (lambda 25): our joint problem, ours after
          biases, and softImpute-ALS (Hastie, Mazumder, Lee and Zadeh 2015) after the same biases
path      20 warm-started lambdas at a gap of 1e-3 each
cvxpy     seconds of Clarabel, SCS and ours against the size of a square matrix; agreement at 40 x 60
accuracy  test RMSE over folds, all settings chosen inside each training part: joint, after biases, weighted,
          and BiasedALS with as many settings
peers     fancyimpute's SoftImpute, in the environment whose interpreter PEER_PYTHON names; version 0.7.0
          passes an argument that scikit-learn dropped: pip install fancyimpute "scikit-learn<1.6"

Without --data the data are synthetic ratings of those shapes (speed, path) and the embedded sample in five
folds (accuracy). With --data they are the published ratings, downloaded at the first use: the official u1 to
u5 of 100k; of 1m a random tenth is the test part. Their results stand beside the others, not in their place.

A measurement is a process of its own, after a fit of small data that loads the compiled code. What is
compared takes turns, and medians over rounds are kept. CPU seconds are those of all threads; for
softImpute-ALS they leave out the certificates, which are computed beside its steps.
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
import tracemalloc
import warnings
from importlib.metadata import version
from pathlib import Path
from statistics import median

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
RESULTS = HERE / "results" / "completion.json"
PARTS = ("speed", "path", "cvxpy", "accuracy", "peers")
SHAPES = {"100k": (943, 1_682, 80_000, 12.0), "1m": (6_040, 3_706, 900_000, 25.0)}
GAPS = (1e-4, 1e-6)
BIAS_REG = 3.0
CONTENDERS = ("joint", "after biases", "softImpute-ALS")
PATH = (30.0, 12.0, 20)
SIZES = {"CLARABEL": (10, 20, 30, 40, 50), "SCS": (10, 20, 40, 60, 80, 100, 125, 150)}
ACCURACY = {"CLARABEL": 1e-9, "SCS": 1e-9}
# Entries agree as the root of the objective does, so Clarabel is asked for more there.
AGREEMENT = {"CLARABEL": 1e-10, "SCS": 1e-9}


# ---- data -----------------------------------------------------------------------------


def training(shape, data):
    """The ratings that speed is measured on."""
    from recsys_helpers import splits, synthetic_ratings
    from recsys_helpers.data.movielens import load_100k_folds, load_movielens

    if data is None:
        return synthetic_ratings(*SHAPES[shape][:3], seed=0)
    if data == "100k":
        return next(iter(load_100k_folds()))[0]
    return splits.random_holdout(load_movielens("1m"), 0.1, seed=0).train


def folds(data):
    """(train, test) pairs that accuracy is measured on."""
    from recsys_helpers import splits
    from recsys_helpers.data.movielens import load_100k_folds, load_movielens

    if data is None:
        return splits.k_fold(load_movielens("latest-small"), 5, seed=0)
    if data == "100k":
        return list(load_100k_folds())
    return [splits.random_holdout(load_movielens("1m"), 0.1, seed=0)]


# ---- one process, one contender ---------------------------------------------------------


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def timed(function):
    """(result, wall seconds, CPU seconds) of one call."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    result = function()
    return result, time.perf_counter() - wall, cpu_seconds() - cpu


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def allocated_mb(function):
    """The most memory that Python and NumPy held at once during a call, above what they held before."""
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def warm_up():
    from recsys_helpers import NuclearNormCompletion, synthetic_ratings

    small = synthetic_ratings(60, 80, 1_500, seed=1)
    for joint in (True, False):
        NuclearNormCompletion(3.0, joint=joint, tol=1e-8, verbose=False).fit(small)
    # Large enough for the threads to start.
    wide = synthetic_ratings(900, 1_600, 60_000, seed=1)
    NuclearNormCompletion(14.0, tol=1e-2, verbose=False).fit(wide)


def measure(name, shape, gap, data):
    """Fit one contender to one gap."""
    from recsys_helpers import NuclearNormCompletion

    ratings = training(shape, data)
    ratings.by_user, ratings.by_item  # noqa: B018  Made once and kept by the ratings, whoever fits.
    warm_up()
    before = peak_mb()
    lam = SHAPES[shape][3]
    if name == "softImpute-ALS":
        out = soft_impute_als(ratings, lam, gap)
    else:
        model = NuclearNormCompletion(
            lam, bias_reg=BIAS_REG, joint=name == "joint", tol=gap, max_iter=2_000, verbose=False
        )
        _, wall, cpu = timed(lambda: model.fit(ratings))
        out = {"wall": wall, "cpu": cpu, "gap": model.gap_, "rank": model.rank_, "steps": model.n_iter_}
    if gap == min(GAPS) and name == "joint":
        m, n = ratings.shape
        pair = (m + n) * 16 * -(-(out["rank"] + 2) // 16) * 8
        out |= {
            # Of the process, above the warm-up's peak; and of the arrays, in a second fit.
            "extra_peak_mb": peak_mb() - before,
            "arrays_peak_mb": allocated_mb(lambda: model.fit(ratings)),
            # The ratings as the problem holds them: values, positions in both orientations.
            "data_mb": len(ratings) * (8 + 4 * 4) / 2**20,
            "factor_pair_float64_mb": pair / 2**20,
            "dense_float64_mb": m * n * 8 / 2**20,
        }
    return out


def soft_impute_als(ratings, lam, gap, limit=300.0):
    """Hastie et al. 2015, algorithm 3.1, on the kernels of this package, after the same biases.

    Its rank bound is the optimum's rank plus a tenth, which it could not know. Stops at the gap or after
    `limit` CPU seconds.
    """
    from recsys_helpers import NuclearNormCompletion
    from recsys_helpers.models import nuclear as package

    exact = NuclearNormCompletion(lam, bias_reg=BIAS_REG, joint=False, tol=1e-3, verbose=False).fit(ratings)
    base = exact.mean_ + exact.user_bias_[ratings.user_codes] + exact.item_bias_[ratings.item_codes]
    rank = round(1.1 * exact.rank_)
    from scipy.sparse import csr_array

    residual = csr_array(
        (ratings.values - base, (ratings.user_codes, ratings.item_codes)), shape=ratings.shape
    )
    problem = package.Problem(residual, lam, None, None, None, None)
    spectrum = package.Spectrum(problem, np.random.default_rng(0))
    m, n = ratings.shape
    rng = np.random.default_rng(0)
    total_wall = total_cpu = 0.0
    u = np.linalg.qr(rng.standard_normal((m, rank)))[0]
    v, d = np.zeros((n, rank)), np.ones(rank)
    steps, reached = 0, np.inf

    def sweep():
        nonlocal u, v, d
        for side in (0, 1):
            e = problem.y - problem.sampled(u * d, v * d)
            fixed, moved, turn = (u, v, problem.times_transposed) if side == 0 else (v, u, problem.times)
            # The filled matrix times the fixed side: sparse residual plus low rank.
            product = turn(e, np.ascontiguousarray(fixed)) + moved * d**2
            solved = product * (d / (d**2 + lam))
            left, s, rt = np.linalg.svd(solved * d, full_matrices=False)
            d = np.sqrt(s)
            if side == 0:
                v, u = left, u @ rt.T
            else:
                u, v = left, v @ rt.T

    while reached > gap and total_cpu < limit:
        _, wall, cpu = timed(lambda: [sweep() for _ in range(4)])
        total_wall, total_cpu, steps = total_wall + wall, total_cpu + cpu, steps + 4
        # Its own last step: one soft-threshold of the filled matrix in the span of V.
        e = problem.y - problem.sampled(u * d, v * d)
        filled = problem.times(e, np.ascontiguousarray(v)) + u * d**2
        left, s, rt = np.linalg.svd(filled, full_matrices=False)
        s = np.maximum(s - lam, 0)
        right, kept = v @ rt.T, s > 0
        left, s, right = left[:, kept], s[kept], right[:, kept]
        e = problem.y - problem.sampled(left * s, np.ascontiguousarray(right))
        basis = np.ascontiguousarray(left if spectrum.turned else right)
        certify = package.certifier(problem, e, s, np.zeros(m), np.zeros(n))
        _, high, _ = spectrum.bounds(e, basis, gap, certify)
        reached = certify(high).gap
    problem.close()
    return {"wall": total_wall, "cpu": total_cpu, "gap": reached, "rank": int(kept.sum()), "steps": steps}


def measure_path(data):
    from recsys_helpers import NuclearNormCompletion

    ratings = training("100k", data)
    ratings.by_user  # noqa: B018
    warm_up()
    model = NuclearNormCompletion(bias_reg=BIAS_REG, tol=1e-3, verbose=False)
    (table, _), wall, cpu = timed(lambda: model.path(ratings, np.geomspace(*PATH)))
    return {
        "wall": wall,
        "cpu": cpu,
        "largest_gap": float(table["gap"].max()),
        "ranks": table["rank"].tolist(),
        "lambdas": [round(x, 3) for x in table.index],
    }


# ---- parts --------------------------------------------------------------------------------


def child(*arguments):
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)], capture_output=True, text=True, cwd=HERE.parent
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2_000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def medians(runs):
    keys = runs[0].keys()
    out = {key: median(run[key] for run in runs) for key in keys if isinstance(runs[0][key], int | float)}
    return {key: float(f"{value:.4g}") for key, value in out.items()} | {"runs": len(runs)}


def speed(data, rounds, shapes, contenders, gaps):
    runs = {}
    for turn in range(rounds):
        for shape in shapes:
            for gap in gaps:
                for name in contenders:
                    # The slow contender takes one turn at the large shape.
                    if turn and name == "softImpute-ALS" and shape == "1m":
                        continue
                    result = child("--measure", name, shape, gap, data)
                    print(f"round {turn + 1} {shape} {gap:g} {name}: {json.dumps(result)}", flush=True)
                    runs.setdefault((shape, gap, name), []).append(result)
    return {
        "bias_reg": BIAS_REG,
        "rows": [
            {"shape": shape, "lambda": SHAPES[shape][3], "tol": gap, "model": name, **medians(own)}
            | {"reached": all(run["gap"] <= gap for run in own)}
            | {"date": time.strftime("%Y-%m-%d"), "load_average": round(os.getloadavg()[0], 1)}
            for (shape, gap, name), own in runs.items()
        ],
    }


def path(data, rounds):
    runs = [child("--path", data) for _ in range(rounds)]
    out = medians(runs) | {key: runs[0][key] for key in ("lambdas", "ranks")}
    print(json.dumps(out))
    return out


def small_problem(m, n, seed=0):
    """A corner of the embedded ratings: the m users and n films with the most, after the mean."""
    from recsys_helpers import load_movielens

    ratings = load_movielens("latest-small")
    users = np.sort(np.argsort(-ratings.user_counts, kind="stable")[:m])
    films = np.sort(np.argsort(-ratings.item_counts, kind="stable")[:n])
    keep = np.isin(ratings.user_codes, users) & np.isin(ratings.item_codes, films)
    rows = np.searchsorted(users, ratings.user_codes[keep])
    cols = np.searchsorted(films, ratings.item_codes[keep])
    # Half of the entries, so that there is something to complete.
    half = np.random.default_rng(seed).random(keep.sum()) < 0.5
    values = ratings.values[keep][half].astype(float)
    return values - values.mean(), rows[half], cols[half], (m, n)


def cvxpy_part():
    from recsys_helpers import nuclear_norm_cvxpy
    from recsys_helpers.models.completion import complete

    lam = 2.0
    complete(*small_problem(10, 10), lam, tol=1e-9)
    nuclear_norm_cvxpy(*small_problem(10, 10), lam)
    rows = []
    for solver, sizes in SIZES.items():
        for size in sizes:
            entries = small_problem(size, size)
            theirs, _, their_cpu = timed(
                lambda e=entries, s=solver: nuclear_norm_cvxpy(*e, lam, solver=s, accuracy=ACCURACY[s])
            )
            ours, our_wall, our_cpu = timed(lambda e=entries: complete(*e, lam, tol=1e-9))
            rows.append(
                {
                    "solver": solver,
                    "size": size,
                    "entries": len(entries[0]),
                    "seconds": round(theirs.seconds, 4),
                    "cpu": round(their_cpu, 4),
                    "ours_seconds": round(our_wall, 4),
                    "ours_cpu": round(our_cpu, 4),
                    "relative_objective": abs(ours.certificate.primal - theirs.primal) / theirs.primal,
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    entries = small_problem(40, 60)
    ours = complete(*entries, lam, tol=1e-11)
    agreement = {
        "lambda": lam,
        "entries": len(entries[0]),
        "ours_gap": ours.certificate.gap,
        "rank": ours.rank,
    }
    for solver in SIZES:
        theirs = nuclear_norm_cvxpy(*entries, lam, solver=solver, accuracy=AGREEMENT[solver])
        values, r, c, shape = entries
        theta = np.zeros(shape)
        theta[r, c] = values - theirs.X[r, c]
        theta *= min(1.0, lam / np.linalg.norm(theta, 2))
        at = theta[r, c]
        dual = float(at @ values - at @ at / 2)
        agreement[solver] = {
            "seconds": round(theirs.seconds, 3),
            "accuracy": theirs.accuracy,
            "relative_objective": (theirs.primal - ours.certificate.primal) / theirs.primal,
            "largest_entry_difference": float(np.abs(theirs.X - ours.dense()).max()),
            "relative_gap": (theirs.primal - dual) / theirs.primal,
            "ours_inside_its_gap": bool(dual <= ours.certificate.primal * (1 + 1e-14)),
            "inside_our_gap": bool(ours.certificate.dual <= theirs.primal * (1 + 1e-14)),
        }
    print(json.dumps(agreement))
    return {"accuracy": ACCURACY, "rows": rows, "agreement_40x60": agreement}


# What every model tries: each of these lambdas with each of the bias penalties. Full weights want smaller
# lambdas: theirs are times FULL_WEIGHTS.
LAMBDAS = {
    None: (22.0, 18.0, 15.0, 12.5, 10.5, 9.0, 7.5, 6.0),
    "100k": (22.0, 18.0, 15.0, 12.5, 10.5, 9.0, 7.5, 6.0),
    "1m": (38.0, 32.0, 27.0, 23.0, 19.5, 16.5, 14.0, 12.0),
}
BIAS_REGS = (0.75, 1.5, 3.0, 6.0)
FULL_WEIGHTS = 0.4
POWERS = {"joint": 0.0, "after biases": 0.0, "weighted": 1.0, "softly weighted": 0.3}
ALS_RANK = {None: 64, "100k": 64, "1m": 96}
PEER_ITERATIONS = (5, 10, 20, 40, 80, 160)


def accuracy(data):
    from recsys_helpers import BiasedALS, NuclearNormCompletion, rmse, splits

    lambdas = LAMBDAS[data]
    scores = {}
    for number, (train, test) in enumerate(folds(data)):
        inner = splits.random_holdout(train, 0.1, seed=number)
        for name, power in POWERS.items():
            own = [x * FULL_WEIGHTS if power == 1 else x for x in lambdas]
            options = dict(joint=name != "after biases", weighted=power, tol=1e-3, verbose=False)
            tables = {
                bias_reg: NuclearNormCompletion(bias_reg=bias_reg, **options)
                .path(inner.train, own, inner.test)
                .table["validation_rmse"]
                for bias_reg in BIAS_REGS
            }
            best = min(((errors.min(), b, errors.idxmin()) for b, errors in tables.items()))
            model = NuclearNormCompletion(best[2], bias_reg=best[1], **(options | {"tol": 1e-4})).fit(train)
            scores.setdefault(name, []).append(
                {"rmse": rmse(test.values, model.predict(test)), "reg": float(best[2]), "bias_reg": best[1],
                 "rank": model.rank_, "gap": model.gap_}
            )  # fmt: skip
            print(number, name, scores[name][-1], flush=True)
        best = min(
            (
                min(
                    BiasedALS(ALS_RANK[data], reg, bias_reg=bias_reg, n_sweeps=40, verbose=False)
                    .fit(inner.train, inner.test)
                    .history_["validation_rmse"]
                ),
                bias_reg,
                reg,
            )
            for reg in lambdas
            for bias_reg in BIAS_REGS
        )
        model = BiasedALS(ALS_RANK[data], best[2], bias_reg=best[1], n_sweeps=40, verbose=False).fit(train)
        scores.setdefault("BiasedALS", []).append(
            {"rmse": rmse(test.values, model.predict(test)), "reg": best[2], "bias_reg": best[1],
             "rank": ALS_RANK[data]}
        )  # fmt: skip
        print(number, "BiasedALS", scores["BiasedALS"][-1], flush=True)
    rows = []
    for name, runs in scores.items():
        errors = np.array([run["rmse"] for run in runs])
        rows.append(
            {
                "model": name,
                "rmse": round(float(errors.mean()), 4),
                "se_over_folds": round(float(errors.std(ddof=1) / len(runs) ** 0.5), 4)
                if len(runs) > 1
                else None,
                "settings_tried": len(BIAS_REGS) * len(lambdas),
                "chosen": runs,
            }
        )
    return {"data": data or "latest-small", "folds": len(rows[0]["chosen"]), "rows": rows}


PEER = """
import json, sys, time, warnings
import numpy as np
warnings.simplefilter("ignore")
from importlib.metadata import version
import sklearn.utils.validation, fancyimpute
from fancyimpute import SoftImpute
with np.load(sys.argv[1]) as file:
    x = np.full(tuple(file["shape"]), np.nan)
    x[file["rows"], file["cols"]] = file["values"]
    lam = float(file["lam"])
start = time.process_time()
wall = time.perf_counter()
filled = SoftImpute(shrinkage_value=lam, init_fill_method="zero", max_iters=int(sys.argv[2]),
                    convergence_threshold=1e-6, verbose=False).fit_transform(x)
import resource
np.savez(sys.argv[3], filled=filled)
print(json.dumps({"cpu": time.process_time() - start, "wall": time.perf_counter() - wall,
  "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
  "versions": {name: version(name) for name in ("fancyimpute", "scikit-learn", "numpy")}}))
"""


def peers(data):
    """fancyimpute's SoftImpute on the ratings of 100k's shape after biases, with ever more iterations.

    Ours, to a certified gap of GAPS[0], runs before each of them.
    """
    from recsys_helpers import NuclearNormCompletion

    python = os.environ.get("PEER_PYTHON", sys.executable)
    ratings = training("100k", data)
    lam = SHAPES["100k"][3]
    warm_up()
    options = {"bias_reg": BIAS_REG, "joint": False, "verbose": False}
    exact = NuclearNormCompletion(lam, tol=1e-6, **options).fit(ratings)
    base = exact.mean_ + exact.user_bias_[ratings.user_codes] + exact.item_bias_[ratings.item_codes]
    folder = HERE / "tmp"
    folder.mkdir(exist_ok=True)
    source, target = folder / "completion-peer.npz", folder / "completion-peer-out.npz"
    values = ratings.values - base
    np.savez(
        source, rows=ratings.user_codes, cols=ratings.item_codes, values=values, shape=ratings.shape, lam=lam
    )
    out = {"lambda": lam, "rows": []}
    for limit in PEER_ITERATIONS:
        ours, _, our_cpu = timed(lambda: NuclearNormCompletion(lam, tol=GAPS[0], **options).fit(ratings))
        done = subprocess.run(
            [python, "-c", PEER, str(source), str(limit), str(target)], capture_output=True, text=True
        )
        if done.returncode:
            return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1][:400]}
        row = json.loads(done.stdout.strip().splitlines()[-1])
        out["versions"] = row.pop("versions")
        # It gives back the observed values where there are some, so the objective of what it returns is
        # that of the matrix soft-thresholded once more.
        with np.load(target) as file:
            u, s, vt = np.linalg.svd(file["filled"], full_matrices=False)
        s = np.maximum(s - lam, 0)
        error = values - ((u * s) @ vt)[ratings.user_codes, ratings.item_codes]
        primal = float(error @ error / 2 + lam * s.sum())
        row |= {"iterations": limit, "excess_over_optimum": primal / exact.primal_ - 1}
        row |= {"rank": int((s > 0).sum()), "ours_cpu": our_cpu, "ours_gap": ours.gap_}
        print(json.dumps(row), flush=True)
        out["rows"].append(row)
        if row["excess_over_optimum"] <= GAPS[0] / 10:
            break
    return out


def machine(data):
    cpu = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":")[1].strip()
            break
    import recsys_helpers

    packages = ("numpy", "scipy", "numba", "cvxpy", "clarabel", "scs")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "data": data or "synthetic and latest-small",
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_average": [round(x, 2) for x in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {"recsys_helpers": recsys_helpers.__version__, **{p: version(p) for p in packages}},
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=[], help=f"{PARTS}; default all")
    parser.add_argument(
        "--data", choices=("100k", "1m"), help="the published set instead of synthetic ratings"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shapes", default="100k,1m")
    parser.add_argument("--gaps", default=",".join(map(str, GAPS)))
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--path", nargs=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        name, shape, gap, data = options.measure
        print("\n" + json.dumps(measure(name, shape, float(gap), None if data == "None" else data)))
        return
    if options.path:
        print("\n" + json.dumps(measure_path(None if options.path[0] == "None" else options.path[0])))
        return
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"parts: got {sorted(unknown)}; expected some of {list(PARTS)}")
    data = options.data
    gaps = [float(gap) for gap in options.gaps.split(",")]
    shapes = [data] if data else options.shapes.split(",")
    parts = {
        "speed": lambda: speed(data, options.rounds, shapes, options.contenders.split(","), gaps),
        "path": lambda: path(data, options.rounds),
        "cvxpy": cvxpy_part,
        "accuracy": lambda: accuracy(data),
        "peers": lambda: peers(data),
    }
    for part in options.parts or PARTS:
        about = machine(data)
        found = parts[part]() | {"machine": about}
        # Read again: another run may have written its own part meanwhile.
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        key = part if data is None or part == "cvxpy" else f"{part} {data}"
        if part == "speed" and key in results:
            new = {(row["shape"], row["tol"], row["model"]) for row in found["rows"]}
            kept = [r for r in results[key]["rows"] if (r["shape"], r["tol"], r["model"]) not in new]
            found["rows"] = sorted(kept + found["rows"], key=lambda r: (r["shape"], -r["tol"], r["model"]))
        results[key] = found
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        print(f"{key}: written to {RESULTS.relative_to(HERE.parent)}")


if __name__ == "__main__":
    with warnings.catch_warnings():
        main()
