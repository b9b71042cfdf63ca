"""The book on a table of your own, from the command line: ``python -m recsys_helpers --help``."""

from __future__ import annotations

import argparse
import sys
import warnings

import pandas as pd

from .data import DataError, DownloadError, download, open_ratings
from .data.problems import problems


def main(arguments=None):
    """Run one command; returns the exit status: 0, or 2 with one line that says what was wrong."""
    options = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"note: {message}", file=sys.stderr)
            options.run(options)
    except (DataError, DownloadError, ValueError, TypeError, OSError, ImportError) as error:
        print(f"recsys_helpers {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


# ---- the commands -----------------------------------------------------------------


def explore(options):
    """Summary and problems."""
    ratings = _ratings(options)
    print(ratings)
    print(ratings.summary().drop("found", errors="ignore").to_string())
    if ratings.notes:
        print("\nFound by itself:")
    for note in ratings.notes:
        print(f"- {note}")
    odd = problems(ratings)
    print("\nWorth knowing:" if odd else "\nNothing odd was found.")
    for sentence in odd:
        print(f"- {sentence}")


def compare(options):
    """The models of the book side by side on these ratings."""
    from .evaluation.contestants import RANKERS, contest, contestants
    from .models.positive import liked_from

    ratings = _ratings(options)
    names = options.models.split(",") if options.models else None
    known = list(contestants(ratings))
    names = None if names is None else [_match(name.strip(), known) for name in names]
    liked = liked_from(ratings) if options.liked is None else options.liked
    common = {
        "protocol": options.protocol, "names": names, "tuned": options.tuned, "seed": options.seed,
        "k": options.n, "threshold": liked,
        "n_jobs": options.jobs, "verbose": sys.stderr.isatty(),
    }  # fmt: skip
    found = contest(ratings, target="ndcg", **common)
    table = found.means().droplevel("protocol")
    if options.tuned and not set(names or known) <= set(RANKERS):
        # Stars and lists want other settings; each column comes from the search for it.
        table["rmse"] = contest(ratings, target="rmse", **common).means().droplevel("protocol")["rmse"]
    table = table[["rmse", "ndcg", "recall", "coverage", "fit_seconds"]].sort_values("ndcg", ascending=False)
    table.loc[table.index.isin(RANKERS), "rmse"] = float("nan")  # their scores are no ratings
    how = "tuned inside each training part" if options.tuned else "with their defaults"
    print(f"{ratings.name}: {len(table)} models {how}, protocol {options.protocol}, lists of {options.n}, "
          f"liked from {liked:g} on")  # fmt: skip
    print(table.round(4).to_string(na_rep=""))


def recommend(options):
    """A list for one user, for somebody with the ratings given, or for nobody known."""
    from .evaluation.contestants import contestants

    ratings = _ratings(options)
    known = contestants(ratings)
    model = known[_match(options.model, list(known))][0].fit(ratings)
    if options.rate:
        told = dict(_rated(text, ratings) for text in options.rate)
        table = model.fold_in(told).recommend(options.n)
    else:
        user = None if options.user is None else _as_id(options.user, ratings.user_ids, "--user")
        table = model.recommend(user, options.n)
    print(table.to_string(index=False))


def page(options):
    """The page that recommends in its reader's browser."""
    from .models import BiasedALS
    from .serving import Questions
    from .serving.export import likes_model, write_page

    ratings = _ratings(options)
    genres = ratings.movies is not None and "genres" in ratings.movies.columns
    model = BiasedALS(16, genres=bool(genres), verbose=sys.stderr.isatty()).fit(ratings)
    likes = likes_model(ratings)
    asking = Questions(model)
    title = options.title or ratings.name
    print(write_page(model, options.out, likes=likes, questions=asking, title=title))


def fetch(options):
    """Download an edition of MovieLens."""
    print(download(options.edition, folder=options.folder, checksum=options.checksum))


def warm(options):
    """Compile everything now, and keep it."""
    from .evaluation.warming import warm
    from .kernels.compiling import folder

    warm(report=lambda name, seconds: print(f"{name:24} {seconds:6.1f} s", flush=True))
    print(f"kept in {folder()}" if folder() else "no folder can be written: nothing is kept")


# ---- arguments --------------------------------------------------------------------


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m recsys_helpers",
        description="Look at a table of ratings, compare recommenders on it, recommend, write a page.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    columns = _column_options()

    def add(name, run, about, **options):
        command = commands.add_parser(name, help=about, description=about, **options)
        command.set_defaults(run=run)
        return command

    file = {"parents": [columns]}
    add("explore", explore, "summary of the ratings, and what is odd about them", **file)
    command = add("compare", compare, "the models of the book side by side on these ratings", **file)
    command.add_argument("--models", help="some of them only, names with commas between")
    command.add_argument("--tuned", action="store_true", help="search settings inside each training part")
    command.add_argument("--protocol", default="random", help="random, 5-fold, leave-last-out or temporal")
    command.add_argument("--liked", type=float, help="ratings from here on are relevant (three quarters up)")
    command.add_argument("-n", type=int, default=10, help="length of the lists (10)")
    command.add_argument("--jobs", type=int, default=1, help="worker processes (1)")
    command.add_argument("--seed", type=int, default=0)
    command = add("recommend", recommend, "a list for one user", **file)
    command.add_argument("--user", help="an id; without it, for somebody of whom nothing is known")
    command.add_argument(
        "--rate", action="append", metavar="ITEM=RATING",
        help="recommend to somebody new with these ratings; may be given more than once",
    )  # fmt: skip
    command.add_argument("-n", type=int, default=10, help="length of the list (10)")
    command.add_argument("--model", default="implicit ALS", help="a name that compare shows (implicit ALS)")
    command = add("page", page, "a page that recommends in its reader's browser, without a server", **file)
    command.add_argument("--out", default="page", help="the folder to write (page)")
    command.add_argument("--title", help="the heading")
    command = add("fetch", fetch, "download an edition of MovieLens")
    command.add_argument("edition", help="100k, 1m, 10m, 20m, 25m, 32m, latest or latest-small")
    command.add_argument("--folder", help="where to put it; RECSYS_DATA, or the book's cache, by default")
    command.add_argument("--checksum", help='"md5:..." or "sha256:..." for the editions that change')
    add("warm", warm, "compile all models now, so that none takes half a minute at its first call")
    return parser


def _column_options():
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument(
        "file", help="CSV, TSV, Parquet or Arrow; a MovieLens folder or zip; or an edition's name"
    )
    group = parent.add_argument_group("how the file is read (found by itself where not given)")
    for role in ("user", "item", "rating", "time"):
        group.add_argument(f"--{role}-column", metavar="NAME")
    group.add_argument("--scale", nargs=2, type=float, metavar=("LOW", "HIGH"))
    group.add_argument("--implicit", action="store_true", default=None, help="every pair counts 1")
    group.add_argument(
        "--duplicates", choices=("error", "last", "mean"), default="last", help="repeated pairs (last)"
    )
    group.add_argument("--separator")
    group.add_argument("--header", action=argparse.BooleanOptionalAction, default=None)
    group.add_argument("--encoding")
    group.add_argument("--decimal", choices=(".", ","))
    group.add_argument("--layout", help="a published layout: book-crossing, jester, amazon, netflix, lists")
    group.add_argument("--items", metavar="FILE", help="a CSV of items: their ids, title, genres")
    return parent


def _ratings(options):
    items = None if options.items is None else _items(options.items)
    return open_ratings(
        options.file, user=options.user_column, item=options.item_column, rating=options.rating_column,
        timestamp=options.time_column, scale=options.scale, implicit=options.implicit,
        duplicates=options.duplicates, separator=options.separator, header=options.header,
        encoding=options.encoding, decimal=options.decimal, layout=options.layout, movies=items,
    )  # fmt: skip


def _items(path):
    """A table of items; ids written as text, such as 0123, stay text."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    whole = table.apply(lambda column: column.str.fullmatch(r"-?(0|[1-9]\d{0,17})").all())
    return table.astype({name: "int64" for name in table.columns[whole]})


def _match(name, known):
    """A model's name however it is written."""
    import difflib

    plain = {other.lower().replace(" ", ""): other for other in known}
    key = name.lower().replace(" ", "").replace("-", "").replace("_", "")
    if key in plain:
        return plain[key]
    near = difflib.get_close_matches(key, plain, n=1)
    hint = f"; did you mean {plain[near[0]]!r}" if near else ""
    raise ValueError(f"model: got {name!r}; expected one of {', '.join(known)}{hint}")


def _as_id(text, ids, name):
    """An id from the command line as the table has it: a number where it has numbers."""
    import uuid

    from .data.intake import kind_of

    kind = kind_of(ids)
    try:
        return {"number": int, "UUID": uuid.UUID, "text": str}[kind](text)
    except ValueError:
        raise ValueError(f"{name}: got {text!r}; the table has {kind} ids such as {ids[0]}") from None


def _rated(text, ratings):
    item, equals, value = text.rpartition("=")
    try:
        if not equals:
            raise ValueError
        return _as_id(item, ratings.item_ids, "--rate"), float(value)
    except ValueError as error:
        expected = f"--rate: got {text!r}; expected ITEM=RATING, such as 12=4.5"
        raise ValueError(str(error) if "--rate" in str(error) else expected) from None


if __name__ == "__main__":
    sys.exit(main())
