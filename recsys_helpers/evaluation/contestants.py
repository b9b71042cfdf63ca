"""The models of the book as they enter a comparison, each with the first grid of its search.

One rule serves all. A model has a grid of `SETTINGS` settings around its defaults. Where it has factors,
the rank begins at 16 and 64, whatever the family; the two truncated SVDs, which have nothing else to
choose, begin at eight ranks around the same middle. A search tries the grid inside the training part, moves
it so that the winner lies in its middle, and tries again, until a round brings nothing better, or there were
`ROUNDS` (`grid_search`). So every family can reach ranks from 8 to 128. SLIM alone, whose fits with small
penalties take minutes, has a search of its own, for both penalties on a fifth of the training likes.
"""

from __future__ import annotations

import importlib.util
import numbers

from sklearn.base import clone

from ..checks import check_choice, check_positive_int
from ..data.ratings import Ratings
from ..models import (
    BPR,
    EASE,
    NMF,
    SLIM,
    BiasedALS,
    BiasModel,
    FunkSVD,
    GlobalMean,
    GradientMF,
    ImplicitALS,
    ImputedSVD,
    ItemKNN,
    LikesKNN,
    LikesUserKNN,
    NuclearNormCompletion,
    Popularity,
    PureSVD,
    SVDpp,
    UserKNN,
)
from .comparison import compare
from .metrics import TARGETS
from .tuning import Tuned

SETTINGS = 8  # of each model, in each round
ROUNDS = 2  # at most
RANK = 32  # in the middle of every first grid
# Whose scores are no ratings.
RANKERS = ("PureSVD", "implicit ALS", "EASE", "SLIM", "likes neighbors", "likes of neighbors", "BPR")
MOST_ITEMS = 20_000  # for models with a matrix of items by items
_SPAN = 4.5  # of the scale, half a star to five, on which the defaults were found


def around(center, n, step):
    """An axis of n values, each `step` times the one before, with the center in its middle."""
    values = [center * step ** (j - (n - 1) / 2) for j in range(n)]
    return [round(v) if isinstance(center, numbers.Integral) else float(f"{v:.3g}") for v in values]


def contestants(ratings):
    """The models that can learn from these ratings, unfitted, with the first grid of each.

    Parameters
    ----------
    ratings : Ratings
        Who takes part depends on whether films have genres and ratings can be negative, and where the
        grids lie on the numbers of users and films and on the scale: penalties on factors are in the unit
        of the ratings. Adam takes part where JAX is installed.

    Returns
    -------
    dict of str to (Recommender, dict of lists or None)
        By the name to show. None for a model that has nothing to choose, or
        chooses by itself.
    """
    if not isinstance(ratings, Ratings):
        raise TypeError(f"ratings: got {type(ratings).__name__}; expected a Ratings")
    quiet = {"verbose": False}
    low, high = ratings.scale
    unit = (high - low) / _SPAN
    ranks = {"n_factors": around(RANK, 2, 4)}
    many_ranks = {"n_factors": around(RANK, 8, 1.4)}
    squares = ranks | {"reg": around(10.0 * unit, 2, 2), "bias_reg": around(3.0, 2, 2)}
    out = {
        "global mean": (GlobalMean(), None),
        "biases": (BiasModel(), {"user_damping": around(5.0, 4, 2), "item_damping": around(5.0, 2, 2)}),
        "popularity": (Popularity(), {"damping": around(5.0, 8, 2)}),
        "user neighbors": (UserKNN(**quiet), _neighbors("centered_cosine")),
        "item neighbors": (ItemKNN(**quiet), _neighbors("adjusted_cosine")),
        "imputed SVD": (ImputedSVD(), many_ranks),
        "PureSVD": (PureSVD(), many_ranks),
        "FunkSVD": (
            FunkSVD(**quiet),
            ranks | {"reg": around(0.08 * unit, 2, 2), "n_epochs": around(40, 2, 2)},
        ),
        "SVD++": (SVDpp(**quiet), ranks | {"reg": around(0.05 * unit, 2, 2), "n_epochs": around(65, 2, 2)}),
        "NMF": (NMF(**quiet), ranks | {"reg": around(0.15 * unit, 4, 1.5)}),
        "ALS": (BiasedALS(n_sweeps=15, tol=0, **quiet), squares),
        # Weighted by numbers of ratings, the penalties have another unit: the middle is what chapter 4 found.
        "ALS, weighted": (
            BiasedALS(weighted=True, n_sweeps=15, tol=0, **quiet),
            ranks | {"reg": around(0.15 * unit, 2, 2), "bias_reg": around(0.15, 2, 2)},
        ),
        "ALS, genres": (BiasedALS(genres=True, n_sweeps=15, tol=0, **quiet), squares),
        "Adam": (GradientMF(**quiet), squares),
        "nuclear norm": (
            NuclearNormCompletion(**quiet),
            {"reg": around(12.0 * unit, 4, 1.5), "bias_reg": around(3.0, 2, 2)},
        ),
    }
    out |= {
        "implicit ALS": (
            ImplicitALS(n_sweeps=12, tol=0, **quiet),
            ranks | {"reg": around(0.01, 2, 3), "unobserved_weight": around(0.1, 2, 3)},
        ),
        "EASE": (EASE(), {"reg": around(300.0, 8, 2)}),
        # A fit with small penalties takes minutes, so it keeps to the search of its own ("auto").
        "SLIM": (SLIM(), None),
        "likes neighbors": (LikesKNN(), {"similarity": ["cosine", "bm25"], "n_neighbors": around(100, 4, 2)}),
        "likes of neighbors": (
            LikesUserKNN(), {"similarity": ["cosine", "tfidf"], "n_neighbors": around(100, 4, 2)}
        ),
        "BPR": (BPR(**quiet), ranks | {"reg": around(0.02, 2, 4), "loss": ["bpr", "warp"]}),
    }
    few = ratings.n_items <= MOST_ITEMS
    able = {
        "EASE": few,
        "SLIM": few,
        "NMF": low >= 0,
        "ALS, genres": _has_genres(ratings),
        "Adam": importlib.util.find_spec("optax"),
    }
    out = {label: entry for label, entry in out.items() if able.get(label, True)}
    largest = min(ratings.n_users, ratings.n_items) // 2
    return {label: (model, _within(axes, largest)) for label, (model, axes) in out.items()}


def contest(
    ratings, protocol="random", *, tuned=True, target="rmse", names=None, rounds=ROUNDS, seed=0, **options
):  # fmt: skip
    """Compare the models of the book on any ratings.

    Parameters
    ----------
    ratings : Ratings
    protocol
        As in `protocol_splits`.
    tuned : bool
        Whether each model searches inside every training part; otherwise it has its defaults.
    target : {"rmse", "ndcg"}
        What is searched for, errors in stars or lists. Models whose scores are no ratings take part in lists
        only.
    names : sequence of str, optional
        Some of the `contestants`; by default all.
    rounds : int
        Of each search, at most.
    seed : int
        Of the protocol.
    **options
        As in `compare`. Searches for lists take its k and threshold, too.

    Returns
    -------
    Comparison
    """
    check_choice("target", target, TARGETS)
    check_positive_int("rounds", rounds)
    entered = contestants(ratings)
    for name in names or ():
        check_choice("names", name, tuple(entered))
    # A search cuts its training part in the way of the whole.
    inner = "temporal" if isinstance(protocol, str) and protocol == "temporal" else "random"
    search = {"target": target, "inner": inner, "rounds": rounds}
    search |= {name: options[name] for name in ("k", "threshold") if name in options}
    models = {}
    for label, (model, axes) in entered.items():
        if (names and label not in names) or (target == "rmse" and label in RANKERS):
            continue
        models[label] = Tuned(model, axes, **search) if tuned and axes is not None else clone(model)
    if not models:
        raise ValueError(
            f"names: got {list(names)}; expected a model whose scores are ratings for target='rmse'"
        )
    return compare(models, ratings, protocol, seed=seed, **options)


def _neighbors(other_likeness):
    return {
        "similarity": ["cosine", other_likeness],
        "shrink": [0.0, 20.0],
        "n_neighbors": around(40, 2, 2),
    }


def _has_genres(ratings):
    if ratings.movies is None or "genres" not in ratings.movies.columns:
        return False
    return ratings.movies["genres"].notna().any()


def _within(axes, largest):
    """The grid with ranks that a small table has, each once."""
    if not axes or "n_factors" not in axes:
        return axes
    ranks = dict.fromkeys(min(rank, max(1, largest)) for rank in axes["n_factors"])
    return axes | {"n_factors": list(ranks)}
