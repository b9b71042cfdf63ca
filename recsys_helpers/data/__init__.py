"""Tables of ratings: reading, checking, drawing and splitting them."""

from .._lazy import lazily

_HOME = {
    "DataError": "movielens",
    "DownloadError": "movielens",
    "Ratings": "ratings",
    "data_folder": "movielens",
    "download": "movielens",
    "load_100k_folds": "movielens",
    "load_movielens": "movielens",
    "load_ratings": "tables",
    "open_ratings": "tables",
    "synthetic_ratings": "movielens",
}
_MODULES = {name: name for name in ("layouts", "movielens", "ratings", "splits", "tables")}

__getattr__, __dir__, __all__ = lazily(__name__, globals(), _HOME, _MODULES)
