"""How good a model is: metrics, rankings, protocols, tuning and comparisons."""

from .._lazy import lazily

_HOME = {
    "Comparison": "compare",
    "Tuned": "compare",
    "compare": "compare",
    "cross_validate": "compare",
    "grid_search": "compare",
    "holm": "compare",
    "list_summary": "compare",
    "mae": "metrics",
    "model_bytes": "compare",
    "moved_grid": "compare",
    "mse": "metrics",
    "paired_differences": "compare",
    "pareto_front": "compare",
    "protocol_splits": "compare",
    "rank_model": "compare",
    "relevance": "compare",
    "rmse": "metrics",
    "running_comparison": "compare",
}
_MODULES = {"metrics": "metrics"}

__getattr__, __dir__, __all__ = lazily(__name__, globals(), _HOME, _MODULES)
