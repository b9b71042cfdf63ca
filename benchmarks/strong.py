"""Lists for people whom no model has seen, in the split of Liang et al. (2018).

    make leaderboard DATA=20m-strong              # ml-20m, downloaded or brought along (RECSYS_DATA)
    make leaderboard DATA=path/to/ml-20m-strong   # any file or folder, with "-strong" after its name

Four stars and more are likes; the rest is dropped, and with it users with fewer than five likes. On other
scales likes are the upper quarter, and of counts everything. Twice 10,000 people, or a tenth of a smaller
table, are set aside whole: the first to choose settings by NDCG@100, the second to be judged. Each tells four
fifths of the likes; the lists are judged by the last fifth, among all items that the training people like.
Recall is over min(K, likes), as there.

Each model climbs over a grid of one or two axes from its middle, on the first people; factors are searched
with `--search-factors` and fitted with `--factors`. Differences from the best are paired over the second
people.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from recsys_helpers import (  # noqa: E402
    EASE,
    SLIM,
    ImplicitALS,
    LikesKNN,
    LikesUserKNN,
    Popularity,
    PureSVD,
    evaluation,
)
from recsys_helpers.data import open_ratings  # noqa: E402
from recsys_helpers.evaluation import rank_newcomers, strong_generalization  # noqa: E402
from recsys_helpers.models.held_out import climb  # noqa: E402
from recsys_helpers.models.positive import settled_threshold  # noqa: E402

FEWEST = 5
ASIDE = 10_000
LENGTHS = (20, 50, 100)
COLUMNS = ["capped_recall@20", "capped_recall@50", "ndcg@100"]
# On ML-20M, as published: recall@20, recall@50, NDCG@100.
PUBLISHED = {
    "EASE (Steck 2019, table 1)": (0.391, 0.521, 0.420),
    "iALS, tuned (Rendle et al. 2022, table 2)": (0.395, 0.532, 0.425),
}


def models(factors):
    """Name -> (a model, unfitted, as a function of its settings; the axes of the search; where it begins)."""
    return {
        "popularity": (lambda: Popularity(), (), ()),
        "PureSVD": (lambda k: PureSVD(k), ([32, 64, 128, 256],), (1,)),
        "likes neighbors": (
            lambda n, kind: LikesKNN(n, similarity=kind, threshold=None),
            ([50, 100, 200, 400], ["cosine", "bm25"]), (1, 0),
        ),
        "likes of neighbors": (
            lambda n, kind: LikesUserKNN(n, similarity=kind, threshold=None),
            ([50, 100, 200, 400], ["cosine", "tfidf"]), (1, 0),
        ),
        "EASE": (lambda reg: EASE(reg, threshold=None), ([100.0, 200.0, 400.0, 800.0, 1600.0],), (2,)),
        "SLIM": (
            lambda l1, l2: SLIM(l1, l2, threshold=None),
            ([0.3, 1.0, 3.0, 10.0], [50.0, 100.0, 200.0, 400.0]), (1, 1),
        ),
        "implicit ALS": (
            lambda w, reg: ImplicitALS(
                factors, unobserved_weight=w, reg=reg, threshold=None, solver="subspace", tol=0,
                verbose=False,
            ),
            ([0.01, 0.03, 0.1, 0.3, 1.0], [0.001, 0.003, 0.01, 0.03, 0.1]), (2, 1),
        ),
    }  # fmt: skip


def split(ratings, seed=0):
    """(train, (known, test) of the people to choose by, the same of those to judge by)."""
    likes = ratings[ratings.values >= settled_threshold(ratings)]
    likes = likes[likes.user_counts[likes.user_codes] >= FEWEST]
    people = np.count_nonzero(likes.user_counts)
    aside = min(ASIDE, people // 10)
    if aside < 2:
        raise SystemExit(f"{people} people have {FEWEST} likes or more; expected at least 20")
    train, known, test = strong_generalization(likes, users=2 * aside, seed=seed)
    familiar = train.item_counts > 0
    known, test = (part[familiar[part.item_codes]] for part in (known, test))
    newcomers = np.unique(known.user_codes)
    first = np.isin(np.arange(ratings.n_users), np.random.default_rng(seed).permutation(newcomers)[:aside])
    halves = [[part[mask[part.user_codes]] for part in (known, test)] for mask in (first, ~first)]
    return train, *halves


def judged(model, people):
    """The lists; all that is left of the table are likes."""
    return rank_newcomers(model, *people, k=LENGTHS, threshold=float(people[1].values.min()))


def chosen(make, axes, start, train, people):
    """(settings, trials): a climb over the lattice by NDCG@100."""
    tried = {}

    def quality(*settings):
        if settings not in tried:
            tried[settings] = judged(make(*settings).fit(train), people).means()["ndcg@100"]
            print("   ", settings, round(tried[settings], 4), flush=True)
        return tried[settings]

    return (climb(quality, list(start), axes) if axes else ()), len(tried)


def main(words=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="20m", help="an edition's name, or a file or folder")
    parser.add_argument("--models", help="some of them, separated by ';'; by default all but SLIM")
    parser.add_argument("--factors", type=int, default=256, help="of implicit ALS (256)")
    parser.add_argument("--search-factors", type=int, default=64, help="while its settings are searched (64)")
    parser.add_argument("--out", type=Path, help="the file for the results")
    options = parser.parse_args(words)
    final, trial = models(options.factors), models(options.search_factors)
    names = options.models.split(";") if options.models else [name for name in final if name != "SLIM"]
    if unknown := set(names) - set(final):
        parser.error(f"--models: got {sorted(unknown)}; expected some of {list(final)}")
    ratings = open_ratings(options.data)
    train, choosers, judges = split(ratings)
    facts = {
        "data": ratings.name, "people": int(np.count_nonzero(train.user_counts)),
        "items": int(np.count_nonzero(train.item_counts)), "likes": len(train),
        "judged": len(np.unique(judges[1].user_codes)), "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip
    print(facts, flush=True)
    rows, users = {}, []
    for name in names:
        print(name, flush=True)
        began = time.process_time()
        settings, trials = chosen(trial[name][0], *trial[name][1:], train, choosers)
        searched = time.process_time()
        model = final[name][0](*settings).fit(train)
        fitted = time.process_time()
        found = judged(model, judges)
        rows[name] = found.means()[COLUMNS].to_dict() | {
            "settings": list(settings), "trials": trials, "search_cpu": round(searched - began, 1),
            "fit_cpu": round(fitted - searched, 1),
        }  # fmt: skip
        users.append(_as_users(found, name))
    table = pd.DataFrame(rows).T.sort_values("ndcg@100", ascending=False)
    users = pd.concat(users, ignore_index=True)
    paired = evaluation.paired_differences(users, table.index[0], metric="ndcg")
    columns = ["difference", "low_all", "high_all"]
    table[["behind", "low", "high"]] = paired.loc[table.index, columns]
    print(table.to_string(float_format="{:.4f}".format))
    if ratings.name.removeprefix("ml-") == "20m":
        print(pd.DataFrame(PUBLISHED, index=COLUMNS).T.to_string())
    label = ratings.name.removeprefix("ml-").replace("/", "-")
    target = options.out or ROOT / "benchmarks" / "tmp" / f"strong-{label}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    result = facts | {"factors": options.factors, "rows": json.loads(table.to_json(orient="index"))}
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(f"Written: {target}")


def _as_users(found, name):
    """One row a person, as `paired_differences` takes it."""
    values = found.values["ndcg@100"].dropna()
    facts = {"model": name, "protocol": "strong", "fold": 0, "ratings": 1, "squared_error": 0.0}
    return pd.DataFrame({"userId": values.index.to_numpy(), "ndcg": values.to_numpy(), **facts})


if __name__ == "__main__":
    main()
