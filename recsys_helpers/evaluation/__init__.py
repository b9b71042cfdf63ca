"""How good a model is: metrics, rankings, protocols, tuning and comparisons."""

from .._lazy import lazily

_HOME = {
    "Comparison": "comparison",
    "Tuned": "comparison",
    "compare": "comparison",
    "cross_validate": "comparison",
    "grid_search": "comparison",
    "holm": "comparison",
    "list_summary": "comparison",
    "mae": "metrics",
    "model_bytes": "comparison",
    "moved_grid": "comparison",
    "mse": "metrics",
    "paired_differences": "comparison",
    "pareto_front": "comparison",
    "protocol_splits": "comparison",
    "rank_model": "comparison",
    "relevance": "comparison",
    "rmse": "metrics",
    "running_comparison": "comparison",
}
_MODULES = {"metrics": "metrics"}

__getattr__, __dir__, __all__ = lazily(__name__, globals(), _HOME, _MODULES)
