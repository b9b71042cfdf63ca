"""The service on the network: routes, errors and limits. Imports FastAPI."""

from typing import Annotated

from fastapi import FastAPI, HTTPException, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match

from .. import __version__
from .bodies import Health, MinRatings, N, NReasons, Problem, bodies_of
from .describe import description_page
from .feedback import FeedbackFileError
from .service import MAX_BODY, UnanswerableError, UnknownError

NO_JSON = "body: got no valid JSON; expected a JSON object"
PROBLEMS = {
    400: "The body is no JSON.",
    404: "No such user or film.",
    413: f"The body has more than {MAX_BODY:,} bytes.",
    422: "A value is missing or out of bounds, or the ratings are too few for this model.",
    503: "The feedback cannot be stored or read now; try again.",
}


def build(service):
    """The application around a `service.Service`."""
    app = FastAPI(
        title="From Ratings to Recommendations",
        summary="Recommendations from one fitted model.",
        version=__version__,
        docs_url=None,  # FastAPI's page loads its scripts from another site
        redoc_url=None,
    )
    app.add_middleware(BodyLimit, limit=MAX_BODY)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(StarletteHTTPException, _refused)
    app.add_exception_handler(UnknownError, _missing)
    app.add_exception_handler(UnanswerableError, _unanswerable)
    app.add_exception_handler(OSError, _unavailable)
    app.add_exception_handler(FeedbackFileError, _unavailable)
    types = bodies_of(service)
    _add_lists(app, service, types)
    _add_feedback(app, service, types)
    page = HTMLResponse(description_page(app.openapi()))

    @app.get("/docs", include_in_schema=False)
    async def docs():
        return page

    return app


def _problems(*codes):
    return {code: {"model": Problem, "description": PROBLEMS[code]} for code in codes}


def _add_lists(app, service, types):
    """What is computed, and never stored."""
    model, store = service.model, service.store

    @app.get("/health", responses=_problems(503))
    def health() -> Health:
        """Whether the service answers, and what it serves."""
        users, films = service.ratings.shape
        return Health(
            status="ok",
            version=__version__,
            model=repr(model),
            users=users,
            films=films,
            ratings=len(service.ratings),
            feedback=len(store),
        )

    @app.get("/recommend", responses=_problems(404, 422, 503))
    def recommend(
        user: types.WhoInQuery, n: Annotated[N, Query()] = 10,
        min_ratings: Annotated[MinRatings, Query()] = 0, n_reasons: Annotated[NReasons, Query()] = 0,
    ) -> types.Recommendations:  # fmt: skip
        """The best films for a user of the data or for a session, with all feedback given so far."""
        stars, hidden = service.ratings_of(service.who(user))
        return service.recommend(stars, hidden, n=n, min_ratings=min_ratings, n_reasons=n_reasons)

    @app.post("/recommend", responses=_problems(400, 413, 422))
    def recommend_for_ratings(body: types.RecommendBody) -> types.Recommendations:
        """The best films for the ratings in the request; nothing is stored."""
        return service.recommend(
            _by_film(body.ratings, types),
            body.hidden,
            n=body.n,
            min_ratings=body.min_ratings,
            n_reasons=body.n_reasons,
        )

    # An id that is text may hold a slash, so it is all that follows.
    @app.get("/similar/{movieId:path}", responses=_problems(404, 422))
    def similar(
        movieId: Annotated[types.ItemInPath, Path()], n: Annotated[N, Query()] = 10,
        min_ratings: Annotated[MinRatings, Query()] = 0,
    ) -> types.SimilarFilms:  # fmt: skip
        """The films most like one; with a model of factors, the score is the cosine of their directions."""
        films = service.similar(movieId, n, min_ratings=min_ratings)
        return {"movieId": movieId, "title": service.title[movieId], "films": films}

    @app.post("/fold-in", responses=_problems(400, 404, 413, 422))
    def fold_in(body: types.FoldInBody) -> types.FoldIn:
        """The bias and the factors of a person, found with the films held; empty where a model has none."""
        person, ignored = service.fold_in(_by_film(body.ratings, types))
        if person is None:
            raise UnknownError("ratings: got no film of the data; expected at least one")
        factors = [float(x) for x in getattr(person, "factors", ())]
        return types.FoldIn(bias=getattr(person, "bias", None), factors=factors, ignored=ignored)


def _add_feedback(app, service, types):
    """What is stored."""
    store = service.store

    @app.post("/feedback", status_code=201, responses=_problems(400, 404, 413, 422, 503))
    def give_feedback(body: types.FeedbackBody) -> types.Event:
        """Store one event. It is on disk when the answer arrives, and counts from the next request on."""
        service.check_film(body.movieId)
        who = service.who(body.user)
        service.ratings_of(who)
        event = store.add(who, body.movieId, body.event, getattr(body, "rating", None))
        return event | {"user": body.user}

    @app.get("/feedback", responses=_problems(404, 422, 503))
    def own_feedback(user: types.WhoInQuery) -> types.Feedback:
        """What one user has said that still counts: ratings by movieId, and hidden films."""
        who = service.who(user)
        service.ratings_of(who)
        return types.Feedback(
            ratings={str(film): stars for film, stars in store.ratings(who).items()},
            hidden=sorted(store.hidden(who)),
        )


def _by_film(ratings, types):
    """Keys in JSON are text, whatever the ids are."""
    return {types.item(film): stars for film, stars in ratings.items()}


# ---- errors ---------------------------------------------------------------------


def _problem(status, error, details=(), headers=None):
    content = {"error": error, "details": list(details)}
    return JSONResponse(content, status, headers=headers)


async def _invalid(request: Request, error: RequestValidationError):
    """Say where, what came and what is expected; ASCII and short, whatever came."""
    if any(e["type"] == "json_invalid" for e in error.errors()):
        return _problem(400, NO_JSON)
    details = []
    for e in error.errors()[:20]:
        if isinstance(e.get("input"), bytes):  # FastAPI parses what is declared as JSON
            details = ["body: got another content type; expected application/json"]
            break
        where = ".".join(ascii(part).strip("'") for part in e["loc"])[:200]
        text = f"{where}: got {ascii(e.get('input'))[:80]}; expected: {e['msg']}"
        details.append(text.encode("ascii", "backslashreplace").decode())
    return _problem(422, details[0], details)


async def _refused(request: Request, error: HTTPException):
    if error.status_code == 400:  # what else stops a parser: nesting, huge numbers, no UTF-8
        return _problem(400, NO_JSON)
    headers = error.headers
    if error.status_code == 405:
        # Starlette names the methods of the first route of this path; there may be two.
        here = (route for route in request.app.routes if route.matches(request.scope)[0] != Match.NONE)
        headers = {"Allow": ", ".join(sorted({method for route in here for method in route.methods}))}
    return _problem(error.status_code, str(error.detail), headers=headers)


async def _missing(request: Request, error: UnknownError):
    return _problem(404, str(error))


async def _unanswerable(request: Request, error: UnanswerableError):
    return _problem(422, str(error))


async def _unavailable(request: Request, error: Exception):
    return _problem(503, "feedback: it cannot be stored or read now; nothing was lost, try again")


class BodyLimit:
    """ASGI middleware: refuse a body of more than `limit` bytes, announced or not, before it is parsed."""

    def __init__(self, app, limit):
        self.app, self.limit = app, limit

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body, more = b"", True
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        too_large = announced.isdigit() and int(announced[:19]) > self.limit
        while more and not too_large:
            message = await receive()
            if message["type"] != "http.request":  # the client went away
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            too_large = len(body) > self.limit
        if too_large:
            answer = _problem(413, f"body: got more than {self.limit:,} bytes; expected at most that")
            await answer(scope, receive, send)
            return
        parts = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay():
            return parts.pop() if parts else await receive()

        await self.app(scope, replay, send)


