"""Helpers of the book: data, splits, metrics, models and their compiled kernels.

Submodules are imported at first use, so that ``import recsys_helpers`` is quick
and compiles nothing.
"""

from importlib import import_module

__version__ = "0.1.0"

# Where each public name lives; `__getattr__` imports the module when it is asked for.
_HOME = {
    "Ratings": "ratings",
    "load_movielens": "datasets",
    "synthetic_ratings": "datasets",
    "BiasedALS": "als",
    "GradientMF": "gradient",
    "GlobalMean": "baselines",
    "BiasModel": "baselines",
    "Popularity": "baselines",
    "ItemKNN": "neighbors",
    "UserKNN": "neighbors",
    "FunkSVD": "svd",
    "ImputedSVD": "svd",
    "PureSVD": "svd",
    "SVDpp": "svd",
    "NMF": "nmf",
    "rmse": "metrics",
    "mae": "metrics",
    "mse": "metrics",
}
_MODULES = (
    "als", "baselines", "datasets", "evaluation", "factors", "gradient", "linalg", "metrics", "neighbors",
    "nmf", "plots", "ratings", "splits", "svd",
)  # fmt: skip

__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name):
    if name in _HOME:
        value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    elif name in _MODULES:
        value = import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *__all__])
