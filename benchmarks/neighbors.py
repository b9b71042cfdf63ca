"""The neighborhood models beside their peers: speed, memory and accuracy.

    python benchmarks/neighbors.py                  all parts, about half an hour
    python benchmarks/neighbors.py --parts graph    one of graph, predict, rank, growth, accuracy

Needs scikit-surprise, lenskit, implicit and scikit-learn beside this package.

graph     the item graph with K = 50 on data of ML-1M's shape (6,040 x 3,706, 1,000,209 ratings)
predict   100,000 pairs on the same data
rank      scores of all items for all users of the same data, and for one user at a time
growth    the graph of 200,948 x 84,432 films, for an eighth up to all of 32,000,000 ratings, each in
          a fresh process, of which the peak memory is taken
accuracy  5 folds of the embedded data, each library with the same number of settings tried on a
          held-out fifth of each training part

Rounds interleave what is compared, after one round that is not counted; figures are medians. CPU seconds
are those of all threads of the process. Results go to benchmarks/results/neighbors.json.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the peers' own advice: their threads are above BLAS

import numpy as np
from scipy.sparse import csr_matrix

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from recsys_helpers import BiasModel, ItemKNN, UserKNN, load_movielens, rmse, splits, synthetic_ratings  # noqa: E402
from recsys_helpers.kernels import neighbors as kernels  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "neighbors.json"
K = 50
ROUNDS = 5
PARTS = ("graph", "predict", "rank", "growth", "accuracy")


def timed(function):
    """(wall seconds, CPU seconds, result) of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def interleaved(contestants, rounds):
    """Median seconds of each contestant; `rounds` may give fewer to the slow ones."""
    taken = {name: [] for name in contestants}
    for name, function in contestants.items():
        if rounds.get(name, ROUNDS) > 1:
            function()  # compiles, loads libraries
    for r in range(ROUNDS):
        for name, function in contestants.items():
            if r < rounds.get(name, ROUNDS):
                taken[name].append(timed(function)[:2])
    table = {
        name: {
            "wall": float(np.median([t[0] for t in runs])),
            "cpu": float(np.median([t[1] for t in runs])),
            "rounds": len(runs),
        }
        for name, runs in taken.items()
    }
    for name, row in table.items():
        print(f"  {name:42s} {row['wall']:8.3f} s  {row['cpu']:8.3f} s CPU", flush=True)
    return table


def item_knn(**options):
    """ItemKNN whose baseline costs nothing beside the graph: only the graph is compared."""
    return ItemKNN(n_neighbors=40, graph_size=K, verbose=False, **options)


def ml1m_shape():
    return synthetic_ratings(6040, 3706, 1_000_209, seed=0, name="synthetic, shape of ML-1M")


def surprise_trainset(ratings):
    from surprise import Dataset, Reader

    reader = Reader(rating_scale=ratings.scale)
    frame = ratings.to_frame()[["userId", "movieId", "rating"]]
    return Dataset.load_from_df(frame, reader).build_full_trainset()


def lenskit_dataset(ratings):
    from lenskit.data import from_interactions_df

    frame = ratings.to_frame()[["userId", "movieId", "rating"]]
    return from_interactions_df(frame, user_col="userId", item_col="movieId", rating_col="rating")


def graph_part():
    """Seconds to the item graph; only what computes similarities is timed, not reading data."""
    import implicit
    from implicit.nearest_neighbours import CosineRecommender
    from lenskit.knn import ItemKNNScorer
    from sklearn.neighbors import NearestNeighbors
    from surprise import KNNBaseline

    ratings = ml1m_shape()
    by_item, by_user = ratings.by_item, ratings.by_user
    as_csr = csr_matrix(by_user.astype(np.float64))
    dataset, trainset = lenskit_dataset(ratings), surprise_trainset(ratings)
    dataset.interactions().matrix().scipy("rating")  # its own cache
    unit = csr_matrix(by_item)
    unit = csr_matrix(unit.multiply(1 / np.sqrt(unit.multiply(unit).sum(axis=1))))

    def ours(**options):
        model = item_knn(**options)
        model.baseline_ = baseline
        return lambda: model._build_graph(by_item, by_user)

    baseline = BiasModel().fit(ratings)

    def lenskit(save_nbrs):
        return lambda: ItemKNNScorer(max_nbrs=40, save_nbrs=save_nbrs).train(dataset)

    def implicit_cosine():
        model = CosineRecommender(K=K + 1)  # it counts the item itself
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", implicit.utils.ParameterWarning)
            model.fit(as_csr, show_progress=False)

    def scipy_product():
        product = (unit @ unit.T).tocsr()
        for i in range(product.shape[0]):
            row = product.data[product.indptr[i] : product.indptr[i + 1]]
            if len(row) > K:
                np.argpartition(row, len(row) - K)

    def surprise(name, **more):
        options = {"name": name, "user_based": False} | more
        return lambda: KNNBaseline(sim_options=options, verbose=False).fit(trainset)

    contestants = {
        "ItemKNN cosine": ours(similarity="cosine", shrink=0),
        "ItemKNN cosine, whole fit": lambda: item_knn(similarity="cosine", shrink=0).fit(ratings),
        "implicit CosineRecommender": implicit_cosine,
        "ItemKNN centered_cosine": ours(similarity="centered_cosine", shrink=0),
        "LensKit ItemKNN, save_nbrs=50": lenskit(K),
        "LensKit ItemKNN, all neighbors": lenskit(None),
        "ItemKNN centered_cosine, shrink=50": ours(similarity="centered_cosine", shrink=50),
        "ItemKNN pearson_baseline": ours(similarity="pearson_baseline", shrink=100),
        "ItemKNN pearson": ours(similarity="pearson", shrink=50),
        "scipy.sparse product and argpartition": scipy_product,
        "scikit-learn NearestNeighbors (brute, cosine)": lambda: NearestNeighbors(
            n_neighbors=K + 1, metric="cosine", algorithm="brute"
        )
        .fit(unit)
        .kneighbors(unit),
        "Surprise KNNBaseline, cosine": surprise("cosine"),
        "Surprise KNNBaseline, pearson_baseline": surprise("pearson_baseline"),
    }
    slow = {name: 2 for name in contestants if name.startswith(("scikit", "scipy"))}
    slow |= {name: 1 for name in contestants if name.startswith("Surprise")}
    table = interleaved(contestants, slow)
    own, own_centered = table["ItemKNN cosine"], table["ItemKNN centered_cosine"]
    same = dict.fromkeys(
        (
            "implicit CosineRecommender",
            "scipy.sparse product and argpartition",
            "scikit-learn NearestNeighbors (brute, cosine)",
        ),
        own,
    ) | {"LensKit ItemKNN, save_nbrs=50": own_centered}
    single, grouped = steps(ratings)
    return {
        "data": repr(ratings),
        "K": K,
        "seconds": table,
        "multiply_adds": single,
        "vector_steps": grouped,
        "same graph, times faster (wall)": {n: table[n]["wall"] / o["wall"] for n, o in same.items()},
        "same graph, times faster (CPU)": {n: table[n]["cpu"] / o["cpu"] for n, o in same.items()},
        "whole fit, times faster than implicit's (CPU)": table["implicit CosineRecommender"]["cpu"]
        / table["ItemKNN cosine, whole fit"]["cpu"],
        "pearson_baseline, times faster than Surprise (CPU)": table["Surprise KNNBaseline, pearson_baseline"][
            "cpu"
        ]
        / table["ItemKNN pearson_baseline"]["cpu"],
    }


def steps(ratings):
    """Multiply-adds row by row, and vector steps in groups of 16 rows."""
    by_item, by_user = ratings.by_item, ratings.by_user
    order = np.argsort(-np.diff(by_item.indptr), kind="stable").astype(np.int32)
    single, grouped = kernels.count_steps(order, by_item.indptr, by_item.indices, by_user.indptr)
    return int(single.sum()), int(grouped.sum())


def predict_part():
    """Seconds for 100,000 pairs; the models are fitted before."""
    from lenskit.data import ItemList, RecQuery
    from lenskit.knn import ItemKNNScorer
    from surprise import KNNBaseline

    train, test = splits.random_holdout(ml1m_shape(), test_fraction=0.1, seed=0)
    test = test[:100_000]
    options = {"name": "pearson_baseline", "user_based": False}
    surprise = KNNBaseline(k=40, sim_options=options, verbose=False).fit(surprise_trainset(train))
    pairs = list(test.to_frame()[["userId", "movieId", "rating"]].itertuples(index=False, name=None))
    own = {
        f"ItemKNN, graph_size={size}": ItemKNN(
            40, similarity="pearson_baseline", shrink=50, graph_size=size, verbose=False
        ).fit(train)
        for size in (50, 500)
    }
    lenskit = ItemKNNScorer(max_nbrs=40)
    lenskit.train(lenskit_dataset(train))
    history = {u: ItemList(item_ids=f["movieId"].to_numpy(), rating=f["rating"].to_numpy())
               for u, f in train.to_frame().groupby("userId")}  # fmt: skip
    asked = {u: ItemList(item_ids=f["movieId"].to_numpy()) for u, f in test.to_frame().groupby("userId")}
    contestants = {name: lambda m=model: m.predict(test) for name, model in own.items()}
    contestants["UserKNN, graph_size=500"] = lambda: user.predict(test)
    user = UserKNN(40, similarity="centered_cosine", shrink=50, graph_size=500, verbose=False).fit(train)

    def lenskit_scores():
        for u, items in asked.items():
            lenskit(RecQuery(user_id=u, user_items=history[u]), items)

    contestants["LensKit ItemKNN"] = lenskit_scores
    contestants["Surprise KNNBaseline"] = lambda: surprise.test(pairs)
    table = interleaved(contestants, {"Surprise KNNBaseline": 1})
    return {
        "pairs": len(test),
        "seconds": table,
        "times faster than Surprise (wall)": {
            name: table["Surprise KNNBaseline"]["wall"] / row["wall"] for name, row in table.items()
        },
    }


def rank_part():
    """Seconds to score all items for all users, in blocks as `recommend` takes them, and for 50 singly."""
    ratings = ml1m_shape()
    models = {cls.__name__: cls(verbose=False).fit(ratings) for cls in (ItemKNN, UserKNN)}
    users, step = ratings.user_ids, 1_000

    def all_at_once(model):
        for first in range(0, len(users), step):
            model.score_items(users[first : first + step])

    def singly(model):
        for user in users[:50]:
            model.score_items(user)

    contestants = {f"{name}, all users": lambda m=m: all_at_once(m) for name, m in models.items()}
    contestants |= {f"{name}, 50 users one by one": lambda m=m: singly(m) for name, m in models.items()}
    table = interleaved(contestants, dict.fromkeys(contestants, 3))
    return {"data": repr(ratings), "graph_size": models["ItemKNN"].graph_size, "seconds": table}


def growth_child(share):
    """One size, in this process: the graph's time and the peak of everything."""
    ratings = synthetic_ratings(200_948, 84_432, 32_000_000, seed=0)
    ratings = ratings[ratings.user_codes < share * ratings.n_users]
    item_knn(similarity="cosine", shrink=0).fit(synthetic_ratings(50, 50, 500))  # compile
    out = {"ratings": len(ratings), "users": int(np.count_nonzero(ratings.user_counts))}
    ratings.by_item  # noqa: B018 - both orientations exist before the clock starts
    out["peak_gb_before"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    single, grouped = steps(ratings)
    model = item_knn(similarity="cosine", shrink=0)
    wall, cpu, _ = timed(lambda: model._build_graph(ratings.by_item, ratings.by_user))
    out |= {"wall": wall, "cpu": cpu, "multiply_adds": single, "vector_steps": grouped}
    out["multiply_adds_per_cpu_second"] = single / cpu
    out["vector_steps_per_cpu_second"] = grouped / cpu
    out["peak_gb_graph"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    if share == 1:
        out["fit_wall"], out["fit_cpu"], model = timed(
            lambda: item_knn(similarity="centered_cosine", shrink=50).fit(ratings)
        )
        out["fit_stages"] = model.history_
        out["peak_gb_fit"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        out["dense_matrix_gb"] = 4 * ratings.n_items**2 / 1e9
    print(json.dumps(out))


def growth_part():
    rows = []
    for share in (1 / 8, 1 / 4, 1 / 2, 1):
        command = [sys.executable, __file__, "--growth-child", str(share)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]) | {"load_average": os.getloadavg()})
        print(" ", rows[-1], flush=True)
    x, y = (np.log([row[name] for row in rows]) for name in ("ratings", "cpu"))
    return {"K": K, "rows": rows, "cpu grows as ratings to the power": float(np.polyfit(x, y, 1)[0])}


def accuracy_part():
    """RMSE over 5 folds; each library chooses among 12 settings on a held-out fifth of each training part.

    A fit serves all numbers of neighbors: the functions yield (setting, predictions).
    """
    from lenskit.data import ItemList, RecQuery
    from lenskit.knn import ItemKNNScorer
    from surprise import KNNBaseline

    ks = (20, 40, 80)

    def ours(train, test, kinds):
        for similarity, shrink in kinds:
            model = ItemKNN(ks[0], similarity=similarity, shrink=shrink, graph_size=2000, verbose=False)
            model.fit(train)
            for k in ks:
                yield (similarity, shrink, k), model.set_params(n_neighbors=k).predict(test)

    def surprise(train, test, kinds):
        rows = list(test.to_frame()[["userId", "movieId"]].itertuples(index=False, name=None))
        for similarity, shrink in kinds:
            options = {"name": similarity, "user_based": False} | ({"shrinkage": shrink} if shrink else {})
            model = KNNBaseline(sim_options=options, bsl_options={"method": "als"}, verbose=False)
            model.fit(surprise_trainset(train))
            for k in ks:
                model.k = k
                found = [model.predict(u, i, clip=False).est for u, i in rows]
                yield (similarity, shrink, k), np.array(found)

    def lenskit(train, test, kinds):
        fallback = BiasModel().fit(train).predict(test)  # where it gives no prediction
        frame, log = test.to_frame(), train.to_frame()
        asked = {u: rows for u, rows in frame.groupby("userId").indices.items() if u in set(log["userId"])}
        films, queries = frame["movieId"].to_numpy(), {}
        for u, own in log.groupby("userId"):
            history = ItemList(item_ids=own["movieId"].to_numpy(), rating=own["rating"].to_numpy())
            queries[u] = RecQuery(user_id=u, user_items=history)
        for save_nbrs, min_nbrs in kinds:
            model = ItemKNNScorer(max_nbrs=ks[0], min_nbrs=min_nbrs, save_nbrs=save_nbrs)
            model.train(lenskit_dataset(train))
            for k in ks:
                model.config.max_nbrs = k
                out = fallback.copy()
                for u, rows in asked.items():
                    scores = model(queries[u], ItemList(item_ids=films[rows])).scores()
                    out[rows] = np.where(np.isnan(scores), out[rows], scores)
                yield (save_nbrs, min_nbrs, k), out

    libraries = {
        "ItemKNN": (
            ours,
            [("cosine", 0), ("centered_cosine", 50), ("adjusted_cosine", 50), ("pearson_baseline", 100)],
        ),
        "LensKit ItemKNN": (lenskit, [(save, low) for save in (None, 500) for low in (1, 2)]),
        "Surprise KNNBaseline (items)": (
            surprise,
            [("msd", 0), ("cosine", 0), ("pearson_baseline", 20), ("pearson_baseline", 100)],
        ),
    }
    ratings = load_movielens("latest-small")
    fold = np.random.default_rng(0).permutation(len(ratings)) % 5
    out = {"data": repr(ratings), "folds": 5, "settings_tried_each": 12}
    for name, (predictions, kinds) in libraries.items():
        settings, errors = [], []
        for f in range(5):
            train, test = ratings[fold != f], ratings[fold == f]
            inner, held = splits.random_holdout(train, test_fraction=0.2, seed=1)
            tried = {setting: rmse(held.values, p) for setting, p in predictions(inner, held, kinds)}
            settings.append(min(tried, key=tried.get))
            again = dict(predictions(train, test, [settings[-1][:2]]))
            errors.append(rmse(test.values, again[settings[-1]]))
        spread = float(np.std(errors, ddof=1) / np.sqrt(5))
        out[name] = {"rmse": float(np.mean(errors)), "se": spread, "folds": errors, "settings": settings}
        print(f"  {name:30s} {out[name]['rmse']:.4f} ± {spread:.4f}  {settings}", flush=True)
    return out


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--growth-child", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.growth_child:
        return growth_child(options.growth_child)
    result = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for part in options.parts:
        print(part, flush=True)
        measured = globals()[f"{part}_part"]()
        measured |= {"date": time.strftime("%Y-%m-%d"), "load_average": os.getloadavg()}
        result[part] = measured
        packages = (
            "numpy", "numba", "scipy", "scikit-learn", "scikit-surprise", "lenskit", "implicit", "pandas"
        )  # fmt: skip
        result["machine"] = {
            "processor": platform.processor() or platform.machine(),
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "packages": {name: version(name) for name in packages},
        }
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
