"""The HTTP application around one fitted model; see `create_app`."""

from __future__ import annotations

from ..data.ratings import Ratings
from ..models.base import Recommender
from .feedback import FeedbackStore
from .service import Service


def create_app(model, ratings, store=None):
    """A FastAPI application that serves one fitted model.

    The answers are those of the methods of the same names: ``fold_in``, its ``recommend`` and
    ``explain``, and ``similar_items``.

    Parameters
    ----------
    model : Recommender
        Fitted; any model that can fold in (its ``verbs()`` say so), on ratings of any scale with ids of any
        kind.
    ratings : Ratings
        What is known of each user now: often what the model was trained on, perhaps more.
        A known user is folded in from these ratings, so ratings that came after the
        training count at once. They also give each film's number of ratings.
    store : FeedbackStore, optional
        Where feedback goes, on the scale of the ratings. By default into memory, for the life of this
        application.

    Returns
    -------
    fastapi.FastAPI
        Run it with Uvicorn, or in-process with `starlette.testclient.TestClient`. The
        description is at /openapi.json, and as a page without scripts at /docs.

    Raises
    ------
    ImportError
        If FastAPI is not installed.
    TypeError, ValueError
        If an argument is not as documented.

    Notes
    -----
    Nothing is trained at request time. A recommendation by `BiasedALS` costs one fold-in,
    O(l k^2 + k^3) for the l ratings of a person, and one matrix-vector product, O(n k).

    Ids are in JSON what they are in the data, numbers or text; the field movieId holds the id of an item,
    whatever the data calls it. A user of the data is named by their id, a session by "session:" and its name
    (or, where ids are numbers, by its name alone).

    A request gets 404 for a user or film that does not exist, 413 for a body above `service.MAX_BODY`
    bytes, 422 for values out of bounds and for ratings too few for a model without penalties, and 503 when
    feedback cannot be stored; the answer ``{"error": ..., "details": [...]}`` says what came and what was
    expected.

    There are no accounts: who knows a session's name can read and add its feedback. Put the
    service behind something that knows its users before strangers can reach it.
    """
    _check(model, ratings, store)
    try:
        from . import http
    except ImportError as error:
        raise ImportError(
            f"create_app needs FastAPI ({error}); install it with: pip install 'recsys_helpers[app]'"
        ) from error
    if store is None:
        store = FeedbackStore(":memory:", scale=model.train_.scale)
    return http.build(Service(model, ratings, store))


def _check(model, ratings, store):
    if not isinstance(model, Recommender):
        raise TypeError(f"model: got {type(model).__name__}; expected a fitted model that can fold in")
    why = model.verbs()["fold_in"]
    if why is not True:
        raise TypeError(
            f"model: got {type(model).__name__}, which cannot fold in ({why}); expected one that can, for "
            "example BiasedALS or ItemKNN"
        )
    model.score_items()  # raises unless the model is fitted
    if getattr(model, "n_factors", None) == 0:
        raise ValueError("model: got n_factors=0; expected at least 1, as biases alone know no similar films")
    if not isinstance(ratings, Ratings):
        raise TypeError(f"ratings: got {type(ratings).__name__}; expected a Ratings")
    if store is not None and not isinstance(store, FeedbackStore):
        raise TypeError(f"store: got {type(store).__name__}; expected a FeedbackStore or None")
    train = model.train_
    for ours, theirs, what in (
        (train.user_ids, ratings.user_ids, "users"), (train.item_ids, ratings.item_ids, "items"),
    ):  # fmt: skip
        if (ours.dtype.kind in "iu") != (theirs.dtype.kind in "iu"):
            raise ValueError(
                f"ratings: got ids of {what} of type {theirs.dtype}, and a model with ids of type "
                f"{ours.dtype}; expected numbers in both or text in both"
            )
    low, high = train.scale
    for name, scale in (("ratings", ratings.scale), ("store", train.scale if store is None else store.scale)):
        if scale != (low, high):
            raise ValueError(
                f"{name}: got a scale from {scale[0]:g} to {scale[1]:g}; expected {low:g} to {high:g}, that "
                "of the model's own ratings"
            )
