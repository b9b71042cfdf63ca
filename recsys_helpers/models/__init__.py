"""The models of the book, one file a family."""

from .._lazy import lazily

_HOME = {
    "BPR": "pairwise",
    "BayesianMF": "bayes",
    "BiasModel": "baselines",
    "BiasedALS": "als",
    "EASE": "item_weights",
    "FunkSVD": "svd",
    "GlobalMean": "baselines",
    "GradientMF": "gradient",
    "ImplicitALS": "implicit",
    "ImputedSVD": "svd",
    "ItemKNN": "neighbors",
    "LikesKNN": "likes_neighbors",
    "LikesUserKNN": "likes_neighbors",
    "NMF": "nmf",
    "NuclearNormCompletion": "completion",
    "Popularity": "baselines",
    "PureSVD": "svd",
    "Recommender": "base",
    "SLIM": "item_weights",
    "SVDpp": "svd",
    "UserKNN": "neighbors",
    "complete": "completion",
    "load_model": "storage",
    "NewUser": "newcomer",
    "DivergenceError": "training",
    "nuclear_norm_cvxpy": "conic",
}
_MODULES = {
    name: name
    for name in (
        "als", "automatic", "base", "baselines", "bayes", "completion", "conic", "documented", "factors",
        "gibbs", "gradient", "held_out", "implicit", "item_weights", "liked", "likes_neighbors", "neighbors",
        "newcomer", "nmf", "nuclear", "pairwise", "positive", "spectrum", "storage", "svd", "training",
    )
}  # fmt: skip

__getattr__, __dir__, __all__ = lazily(__name__, globals(), _HOME, _MODULES)
