"""The models of the book, one file a family."""

from .._lazy import lazily

_HOME = {
    "BiasModel": "baselines",
    "BiasedALS": "als",
    "FunkSVD": "svd",
    "GlobalMean": "baselines",
    "GradientMF": "gradient",
    "ImputedSVD": "svd",
    "ItemKNN": "neighbors",
    "NMF": "nmf",
    "NuclearNormCompletion": "completion",
    "Popularity": "baselines",
    "PureSVD": "svd",
    "Recommender": "base",
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
        "als", "automatic", "base", "baselines", "completion", "conic", "documented", "factors", "gradient",
        "neighbors", "newcomer", "nmf", "nuclear", "storage", "svd", "training",
    )
}  # fmt: skip

__getattr__, __dir__, __all__ = lazily(__name__, globals(), _HOME, _MODULES)
