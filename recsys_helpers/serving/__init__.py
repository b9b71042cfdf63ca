"""Ways to people: a service over HTTP, a store of feedback, a page that works by itself."""

from .._lazy import lazily

_HOME = {
    "FeedbackStore": "feedback",
    "Questions": "questions",
    "UserId": "ids",
    "coverage": "questions",
    "create_app": "application",
    "estimate_noise": "questions",
    "export_model": "export",
    "simulate_questions": "questions",
}
_MODULES = {
    name: name
    for name in ("application", "export", "feedback", "http", "ids", "questions", "scale", "service")
}

__getattr__, __dir__, __all__ = lazily(__name__, globals(), _HOME, _MODULES)
