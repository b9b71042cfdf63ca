"""Time and memory of loading a large ratings.csv, beside a bare polars.read_csv of the same file.

    python benchmarks/loading.py                      32,000,000 ratings, about 2.5 GB in a temporary folder
    python benchmarks/loading.py --ratings 2000000    a smaller file

Every measurement runs in a fresh process, and the rounds interleave what is compared, so that another load on
the machine reaches all of them. The file has been read before, so it is in the page cache for all. "first"
writes the binary cache, "cached" finds it, "uncached" does neither; "frame" is Ratings.from_frame alone, of a
table that is in memory. A cached load maps the columns into memory and reads every page of them once, for the
checksums. "table" is load_ratings of the same file, "text" of one whose ids are text, such as user-0000123
and B000004567, and "bare text" Polars' reading of that one. Peak memory is the largest resident set of the
whole process, interpreter and imports included. Results go to benchmarks/results/loading.json.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What is reached at most, and for the speed-up at least.
TARGETS = {
    "first load / bare read": 2.0,
    "first load, peak GB": 2.5,
    "cached load speed-up": 10.0,
    "load_ratings / bare read": 2.0,
    "load_ratings of text ids / bare read of them": 3.0,
}
TASKS = ("bare", "uncached", "first", "cached", "frame", "table", "bare text", "text")


def peak_gb():
    """Largest resident set of this process so far, in units of 1e9 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def generate(folder, n_ratings):
    """Write ratings.csv and movies.csv in the layout of 32m; return what it took."""
    import polars as pl

    from recsys_helpers import synthetic_ratings

    share = n_ratings / 32_000_000
    shape = max(100, round(200_948 * share)), max(100, round(84_432 * share**0.5))
    synthetic_ratings(50, 50, 500)  # compile
    start = time.perf_counter()
    ratings = synthetic_ratings(*shape, n_ratings, seed=0)
    seconds, peak = time.perf_counter() - start, peak_gb()
    columns = {
        "userId": ratings.user_ids[ratings.user_codes],
        "movieId": ratings.item_ids[ratings.item_codes],
        "rating": ratings.values,
        "timestamp": ratings.timestamps,
    }
    table = pl.DataFrame(columns)
    table.write_csv(Path(folder, "ratings.csv"), float_precision=1)
    table = table.with_columns(
        pl.format("user-{}", pl.col("userId").cast(pl.String).str.zfill(7)).alias("userId"),
        pl.format("B{}", pl.col("movieId").cast(pl.String).str.zfill(9)).alias("movieId"),
    )
    table.write_csv(Path(folder, "text.csv"), float_precision=1)
    films = [f'{i},"Film {i}, The ({1950 + i % 70})",Comedy|Drama\n' for i in ratings.item_ids]
    Path(folder, "movies.csv").write_text("movieId,title,genres\n" + "".join(films), encoding="utf-8")
    return {"n_users": shape[0], "n_items": shape[1], "seconds": seconds, "peak_gb": peak}


def measure(task, folder):
    """One measurement in this process."""
    import polars as pl

    from recsys_helpers import load_movielens, load_ratings

    path = Path(folder, "text.csv" if task.endswith("text") else "ratings.csv")
    before = peak_gb()
    start, cpu = time.perf_counter(), time.process_time()
    if task in ("bare", "bare text"):
        kept = pl.read_csv(path)
    elif task in ("table", "text"):
        kept = load_ratings(path)
    elif task == "frame":
        import pandas as pd

        from recsys_helpers import Ratings

        types = {"userId": pl.Int32, "movieId": pl.Int32, "rating": pl.Float32, "timestamp": pl.Int64}
        frame = pl.read_csv(path, schema=types)
        frame = pd.DataFrame({c: frame.drop_in_place(c).to_numpy() for c in types})
        before = peak_gb()
        start, cpu = time.perf_counter(), time.process_time()
        kept = Ratings.from_frame(frame)
    else:
        kept = load_movielens("32m", folder, cache=task != "uncached")
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_gb": peak_gb(),
        "imports_gb": before,
        "rows": len(kept),
    }


def run(*arguments, data):
    """Call this script in a fresh process and read the JSON that it prints."""
    search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": search, "RECSYS_DATA": str(data)},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ratings", type=int, default=32_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", nargs=2, metavar=("TASK", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        task, folder = options.child
        answer = generate(folder, options.ratings) if task == "generate" else measure(task, folder)
        print(json.dumps(answer))
        return

    import polars

    runs = {task: [] for task in TASKS}
    with tempfile.TemporaryDirectory(prefix="loading-") as scratch:
        folder = Path(scratch, "ml-32m")
        folder.mkdir()
        synthetic = run("--ratings", options.ratings, "--child", "generate", folder, data=scratch)
        os.sync()
        size = Path(folder, "ratings.csv").stat().st_size
        for number in range(options.rounds):
            data = Path(scratch, f"cache{number}")
            for task in runs:  # "first" writes the cache that "cached" finds
                runs[task].append(run("--child", task, folder, data=data))
            os.sync()  # not the next round's business
            cached_bytes = sum(p.stat().st_size for p in data.rglob("*.npy"))
            shutil.rmtree(data)
    median = {
        task: {key: statistics.median(r[key] for r in results) for key in results[0]}
        for task, results in runs.items()
    }
    seconds = {task: m["seconds"] for task, m in median.items()}
    reached = {
        "first load / bare read": seconds["first"] / seconds["bare"],
        "first load, peak GB": median["first"]["peak_gb"],
        "cached load speed-up": seconds["first"] / seconds["cached"],
        "load_ratings / bare read": seconds["table"] / seconds["bare"],
        "load_ratings of text ids / bare read of them": seconds["text"] / seconds["bare text"],
    }
    result = {
        "file": {"ratings": options.ratings, "bytes": size, "cache_bytes": cached_bytes},
        "synthetic_ratings": synthetic,
        "rounds": options.rounds,
        "median": median,
        "runs": runs,
        "reached": reached,
        "first load / bare read, CPU": median["first"]["cpu_seconds"] / median["bare"]["cpu_seconds"],
        "without writing a cache / bare read": seconds["uncached"] / seconds["bare"],
        "cached load speed-up over a load without cache": seconds["uncached"] / seconds["cached"],
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(["python", *sys.argv]),
        "load_ratings / bare read, CPU": median["table"]["cpu_seconds"] / median["bare"]["cpu_seconds"],
        "load_ratings of text ids / bare read of them, CPU": (
            median["text"]["cpu_seconds"] / median["bare text"]["cpu_seconds"]
        ),
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cpus": os.cpu_count(),
            "load_average": os.getloadavg(),
            "python": platform.python_version(),
            "polars": polars.__version__,
        },
    }
    for task, m in median.items():
        print(f"{task:9s} {m['seconds']:7.2f} s   {m['cpu_seconds']:7.2f} s CPU   peak {m['peak_gb']:.2f} GB")
    met = {
        name: value >= TARGETS[name] if name.endswith("speed-up") else value <= TARGETS[name]
        for name, value in reached.items()
    }
    for name, value in reached.items():
        print(f"{name}: {value:.2f} (target {TARGETS[name]:g}: {'met' if met[name] else 'MISSED'})")
    if options.ratings == 32_000_000:
        out = ROOT / "benchmarks" / "results" / "loading.json"
        out.parent.mkdir(exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(not all(met.values()))


if __name__ == "__main__":
    main()
