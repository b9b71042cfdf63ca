"""Helpers of the book: data, splits, metrics, models and their compiled kernels.

What is asked for is imported at first use, so that ``import recsys_helpers`` is quick
and compiles nothing.
"""

from ._lazy import lazily

__version__ = "0.2.0"

_HOME = {
    "Ratings": "data",
    "load_movielens": "data",
    "load_ratings": "data",
    "open_ratings": "data",
    "repository_file": "data",
    "synthetic_ratings": "data",
    "BPR": "models",
    "BayesianMF": "models",
    "BiasModel": "models",
    "BiasedALS": "models",
    "EASE": "models",
    "FunkSVD": "models",
    "GlobalMean": "models",
    "GradientMF": "models",
    "ImplicitALS": "models",
    "ImputedSVD": "models",
    "ItemKNN": "models",
    "LikesKNN": "models",
    "LikesUserKNN": "models",
    "NMF": "models",
    "NuclearNormCompletion": "models",
    "Popularity": "models",
    "PureSVD": "models",
    "SLIM": "models",
    "SVDpp": "models",
    "UserKNN": "models",
    "load_model": "models",
    "nuclear_norm_cvxpy": "models",
    "mae": "evaluation",
    "mse": "evaluation",
    "rmse": "evaluation",
    "FeedbackStore": "serving",
    "create_app": "serving",
}
_MODULES = {
    "data": "data",
    "evaluation": "evaluation",
    "kernels": "kernels",
    "models": "models",
    "serving": "serving",
    "checks": "checks",
    "linalg": "linalg",
    "plots": "plots",
    # Rooms inside rooms that readers name most.
    "export": "serving.export",
    "metrics": "evaluation.metrics",
    "splits": "data.splits",
}

__getattr__, __dir__, __all__ = lazily(__name__, globals(), _HOME, _MODULES)
