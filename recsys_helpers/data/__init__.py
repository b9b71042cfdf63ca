"""Tables of ratings: reading, checking, drawing and splitting them."""

from .._lazy import lazily

_HOME = {
    "DataError": "editions",
    "DownloadError": "editions",
    "Ratings": "ratings",
    "data_folder": "places",
    "download": "fetch",
    "load_100k_folds": "movielens",
    "load_movielens": "movielens",
    "load_ratings": "tables",
    "open_ratings": "tables",
    "repository_file": "places",
    "synthetic_ratings": "synthetic",
}
_MODULES = {
    name: name
    for name in (
        "cache", "editions", "fetch", "layouts", "movielens", "places", "ratings", "splits", "tables"
    )
}  # fmt: skip

__getattr__, __dir__, __all__ = lazily(__name__, globals(), _HOME, _MODULES)
