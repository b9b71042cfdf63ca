"""The HTTP side of `api`: bodies, routes, limits and the page that describes them. Imports FastAPI."""

import html
import json
from typing import Annotated, Literal

from fastapi import FastAPI, HTTPException, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.routing import Match

from .. import __version__
from .feedback import FeedbackFileError
from .ids import SESSION
from .service import MAX_BODY, MAX_FILMS, MAX_RATINGS, MAX_REASONS, OutOfScaleError, UnknownError


def _whole(value):
    """JSON knows one kind of number: 2.0 is the whole number 2."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


LARGEST = 999_999_999  # of an id; the largest in MovieLens has six digits

Stars = Annotated[float, Field(ge=0.5, le=5, multiple_of=0.5, description="Half-star rating.")]
WHOLE = BeforeValidator(_whole)
MovieId = Annotated[int, Field(ge=0, le=LARGEST), WHOLE]
MovieKey = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,8})$")]
Session = Annotated[str, Field(pattern=SESSION, description="A session: 8 to 64 characters.")]
UserId = Annotated[int, Field(ge=0, le=LARGEST, description="A userId of the data."), WHOLE]
User = Annotated[
    str,
    Query(
        pattern=rf"^([0-9]{{1,9}}|{SESSION[1:-1]})$",
        description="A userId of the data, or a session: 8 to 64 characters, the first a letter.",
    ),
]
N = Annotated[int, Field(ge=1, le=MAX_FILMS, description="How many films."), WHOLE]
MinRatings = Annotated[
    int, Field(ge=0, le=LARGEST, description="Leave out films with fewer ratings in the data."), WHOLE
]
NReasons = Annotated[
    int,
    Field(ge=0, le=MAX_REASONS, description="How many of the person's ratings explain each film."),
    WHOLE,
]
StarsByMovie = Annotated[
    dict[MovieKey, Stars],
    Field(
        max_length=MAX_RATINGS,
        description="Stars by movieId.",
        # Pydantic refuses keys of another form, but its schema does not say so.
        json_schema_extra={"additionalProperties": False},
    ),
]


class Body(BaseModel):
    """What comes in. Unknown fields are refused, so that a misspelled one is noticed; "1" is not 1."""

    model_config = ConfigDict(extra="forbid", strict=True)


class RecommendBody(Body):
    ratings: StarsByMovie
    hidden: Annotated[list[MovieId], Field(max_length=MAX_RATINGS)] = []
    n: N = 10
    min_ratings: MinRatings = 0
    n_reasons: NReasons = 0

    model_config = ConfigDict(json_schema_extra={"example": {"ratings": {"260": 5, "356": 2.5}, "n": 3}})


class FoldInBody(Body):
    ratings: Annotated[StarsByMovie, Field(min_length=1)]

    model_config = ConfigDict(json_schema_extra={"example": {"ratings": {"260": 5, "356": 2.5}}})


class Said(Body):
    user: UserId | Session
    movieId: MovieId


class Rated(Said):
    event: Literal["rating"]
    rating: Stars


class Reacted(Said):
    event: Literal["like", "dislike", "hide", "clear"]


FeedbackBody = Annotated[Rated | Reacted, Field(discriminator="event")]


class Health(BaseModel):
    status: Literal["ok"]
    version: str
    model: str
    users: int
    films: int
    ratings: int
    feedback: int


class Reason(BaseModel):
    movieId: int
    title: str
    rating: float
    contribution: float


class Film(BaseModel):
    movieId: int
    title: str
    score: float
    because: list[Reason]


class Recommendations(BaseModel):
    personal: bool
    ignored: list[int]
    films: list[Film]


class Similar(BaseModel):
    movieId: int
    title: str
    score: float


class SimilarFilms(BaseModel):
    movieId: int
    title: str
    films: list[Similar]


class FoldedIn(BaseModel):
    bias: float
    factors: list[float]
    ignored: list[int]


class Event(BaseModel):
    id: int
    user: int | str
    movieId: int
    event: str
    rating: float | None
    time: float


class Feedback(BaseModel):
    ratings: dict[str, float]
    hidden: list[int]


class Problem(BaseModel):
    error: str
    details: list[str] = []


NO_JSON = "body: got no valid JSON; expected a JSON object"
PROBLEMS = {
    400: "The body is no JSON.",
    404: "No such user or film.",
    413: f"The body has more than {MAX_BODY:,} bytes.",
    422: "A value is missing or out of bounds.",
    503: "The feedback cannot be stored or read now; try again.",
}


def build(service):
    """The application around an `api.Service`."""
    app = FastAPI(
        title="From Ratings to Recommendations",
        summary="Film recommendations from a factor model.",
        version=__version__,
        docs_url=None,  # FastAPI's page loads its scripts from another site
        redoc_url=None,
    )
    app.add_middleware(BodyLimit, limit=MAX_BODY)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(StarletteHTTPException, _refused)
    app.add_exception_handler(UnknownError, _missing)
    app.add_exception_handler(OutOfScaleError, _out_of_scale)
    app.add_exception_handler(OSError, _unavailable)
    app.add_exception_handler(FeedbackFileError, _unavailable)
    _add_routes(app, service)
    page = HTMLResponse(description_page(app.openapi()))

    @app.get("/docs", include_in_schema=False)
    async def docs():
        return page

    return app


def _problems(*codes):
    return {code: {"model": Problem, "description": PROBLEMS[code]} for code in codes}


def _person(user):
    return int(user) if user.isdecimal() else user


def _add_routes(app, service):
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
        user: User, n: Annotated[N, Query()] = 10, min_ratings: Annotated[MinRatings, Query()] = 0,
        n_reasons: Annotated[NReasons, Query()] = 0,
    ) -> Recommendations:  # fmt: skip
        """The best films for a user of the data or for a session, with all feedback given so far."""
        stars, hidden = service.ratings_of(_person(user))
        return service.recommend(stars, hidden, n=n, min_ratings=min_ratings, n_reasons=n_reasons)

    @app.post("/recommend", responses=_problems(400, 413, 422))
    def recommend_for_ratings(body: RecommendBody) -> Recommendations:
        """The best films for the ratings in the request; nothing is stored."""
        stars = _stars(body.ratings)
        service.check_stars(stars)
        return service.recommend(
            stars,
            body.hidden,
            n=body.n,
            min_ratings=body.min_ratings,
            n_reasons=body.n_reasons,
        )

    @app.get("/similar/{movieId}", responses=_problems(404, 422))
    def similar(
        movieId: Annotated[MovieId, Path()], n: Annotated[N, Query()] = 10,
        min_ratings: Annotated[MinRatings, Query()] = 0,
    ) -> SimilarFilms:  # fmt: skip
        """The films whose factors point in the most similar direction; the score is the cosine."""
        films = service.similar(movieId, n, min_ratings=min_ratings)
        return {"movieId": movieId, "title": service.title(movieId), "films": films}

    @app.post("/fold-in", responses=_problems(400, 404, 413, 422))
    def fold_in(body: FoldInBody) -> FoldedIn:
        """The bias and the factors of a person, found with the films held."""
        stars = _stars(body.ratings)
        service.check_stars(stars)
        if (model.train_.encode_items(list(stars)) < 0).all():
            raise UnknownError("ratings: got no film of the data; expected at least one")
        person = model.fold_in(stars)
        return FoldedIn(bias=person.bias, factors=person.factors.tolist(), ignored=person.ignored.tolist())

    @app.post("/feedback", status_code=201, responses=_problems(400, 404, 413, 422, 503))
    def give_feedback(body: FeedbackBody) -> Event:
        """Store one event. It is on disk when the answer arrives, and counts from the next request on."""
        service.title(body.movieId)
        if isinstance(body.user, int):
            service.ratings_of(body.user)
        rating = getattr(body, "rating", None)
        if rating is not None:
            service.check_stars({body.movieId: rating})
        return store.add(body.user, body.movieId, body.event, rating)

    @app.get("/feedback", responses=_problems(404, 422, 503))
    def own_feedback(user: User) -> Feedback:
        """What one user has said that still counts: stars by movieId, and hidden films."""
        person = _person(user)
        if isinstance(person, int):
            service.ratings_of(person)
        return Feedback(
            ratings={str(movie): stars for movie, stars in store.ratings(person).items()},
            hidden=sorted(store.hidden(person)),
        )


def _stars(ratings):
    return {int(movie): stars for movie, stars in ratings.items()}


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


async def _out_of_scale(request: Request, error: OutOfScaleError):
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


# ---- the page -------------------------------------------------------------------

STYLE = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { max-width: 56rem; margin: 0 auto; padding: 1rem }
pre, table { overflow-x: auto; display: block }
pre { padding: .5rem; border: 1px solid #8886 }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top }
h2 { border-top: 1px solid #8886; padding-top: 1rem }
"""


def description_page(schema):
    """The OpenAPI description as one page of plain HTML, which needs no script and no network."""
    text = html.escape
    out = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>{text(schema['info']['title'])}: HTTP interface</title><style>{STYLE}</style>",
        f"<h1>{text(schema['info']['title'])}</h1><p>{text(schema['info']['summary'])} ",
        "The same for machines: <a href=openapi.json>openapi.json</a>.</p>",
    ]
    for path, methods in schema["paths"].items():
        for method, about in methods.items():
            out.append(
                f"<h2><code>{method.upper()} {text(path)}</code></h2><p>{text(about['description'])}</p>"
            )
            rows = [(p["name"], p["schema"], p.get("required", False)) for p in about.get("parameters", [])]
            out.append(_table("Parameters", rows))
            content = about.get("requestBody", {}).get("content", {})
            for media in content.values():
                for one in _alternatives(schema, media["schema"]):
                    needed = one.get("required", [])
                    fields = one.get("properties", {}).items()
                    out.append(_table(f"Body ({one['title']})", [(k, v, k in needed) for k, v in fields]))
                    if "example" in one:
                        out.append(f"<pre>{text(json.dumps(one['example']))}</pre>")
            answers = (f"{code}: {r['description']}" for code, r in about["responses"].items())
            out.append("<p>Answers</p><ul>" + "".join(f"<li>{text(a)}</li>" for a in answers) + "</ul>")
    return "".join(out)


def _alternatives(schema, part):
    """The object schemas behind a reference, or behind a choice of references."""
    if "$ref" in part:
        return _alternatives(schema, schema["components"]["schemas"][part["$ref"].rpartition("/")[2]])
    if "oneOf" in part:
        return [one for choice in part["oneOf"] for one in _alternatives(schema, choice)]
    return [part]


def _table(caption, rows):
    if not rows:
        return ""
    shown = (
        f"<tr><th><code>{html.escape(name)}</code><td>{'required' if needed else 'optional'}"
        f"<td>{html.escape(_limits(kind))}"
        for name, kind, needed in rows
    )
    return f"<p>{caption}</p><table>{''.join(shown)}</table>"


def _limits(kind):
    """The bounds of one value as words."""
    names = {
        "type": "{}", "const": "{!r}", "enum": "one of {}", "pattern": "of the form {}",
        "multipleOf": "in steps of {}", "maxItems": "at most {}", "minProperties": "at least {}",
        "maxProperties": "at most {}", "default": "default {}",
    }  # fmt: skip
    words = [form.format(_whole(kind[name])) for name, form in names.items() if name in kind]
    if "minimum" in kind:
        words.insert(1, f"from {_whole(kind['minimum'])} to {_whole(kind['maximum'])}")
    for inner in (kind.get("items"), *kind.get("patternProperties", {}).values()):
        if inner is not None:
            words.append(f"each {_limits(inner).rstrip('.')}")
    if "anyOf" in kind:
        words.append(" or ".join(_limits(choice).rstrip(".") for choice in kind["anyOf"]))
    return ", ".join(words) + (f". {kind['description']}" if "description" in kind else "")
