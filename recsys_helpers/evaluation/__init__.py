"""How good a model is: metrics, rankings, protocols, tuning and comparisons."""

from .._lazy import lazily

_HOME = {
    "Comparison": "comparison",
    "PROTOCOLS": "protocols",
    "TARGETS": "metrics",
    "Tuned": "tuning",
    "compare": "comparison",
    "contest": "contestants",
    "cross_validate": "comparison",
    "grid_search": "tuning",
    "holm": "statistics",
    "list_summary": "ranking",
    "mae": "metrics",
    "model_bytes": "measuring",
    "moved_grid": "tuning",
    "mse": "metrics",
    "paired_differences": "statistics",
    "pareto_front": "statistics",
    "protocol_splits": "protocols",
    "rank_model": "ranking",
    "rank_newcomers": "ranking",
    "relevance": "ranking",
    "rmse": "metrics",
    "rmse_interval": "statistics",
    "running_comparison": "comparison",
    "strong_generalization": "protocols",
}
_MODULES = {"contestants": "contestants", "metrics": "metrics"}

__getattr__, __dir__, __all__ = lazily(__name__, globals(), _HOME, _MODULES)
