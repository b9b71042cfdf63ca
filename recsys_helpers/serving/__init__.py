"""Ways to people: a service over HTTP, a store of feedback, a page that works by itself."""

from .._lazy import lazily

_HOME = {
    "FeedbackStore": "feedback",
    "UserId": "ids",
    "create_app": "application",
    "export_model": "export",
}
_MODULES = {name: name for name in ("application", "export", "feedback", "http", "ids", "scale", "service")}

__getattr__, __dir__, __all__ = lazily(__name__, globals(), _HOME, _MODULES)
