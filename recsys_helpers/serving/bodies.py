"""What comes in and goes out over HTTP, for one model's ids and scale. Imports Pydantic."""

from types import SimpleNamespace
from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from .ids import HIGHEST, LONGEST, LOWEST, NUMBER, SESSION, whole
from .service import MAX_FILMS, MAX_RATINGS, MAX_REASONS, SESSION_MARK, USER_MARK

LARGEST = 999_999_999  # of a count
EXACT = 2**53 - 1  # up to here, programs that hold every number of JSON as a float tell whole numbers apart

WHOLE = BeforeValidator(whole)
N = Annotated[int, Field(ge=1, le=MAX_FILMS, description="How many films."), WHOLE]
MinRatings = Annotated[
    int, Field(ge=0, le=LARGEST, description="Leave out films with fewer ratings in the data."), WHOLE
]
NReasons = Annotated[
    int,
    Field(ge=0, le=MAX_REASONS, description="How many of the person's ratings explain each film."),
    WHOLE,
]
SESSION_NAME = rf"({SESSION_MARK})?{SESSION[1:-1]}"
ABOUT_USER = (
    "A user of the data, or a session: 'session:' and a name of 8 to 64 letters, digits, _ and -, the first "
    "a letter."
)


class Body(BaseModel):
    """What comes in. Unknown fields are refused, so that a misspelled one is noticed; "1" is not 1."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Problem(BaseModel):
    error: str
    details: list[str] = []


class Health(BaseModel):
    status: Literal["ok"]
    version: str
    model: str
    users: int
    films: int
    ratings: int
    feedback: int


def bodies_of(service):
    """The types of the requests and answers of one service.

    Parameters
    ----------
    service : Service
        Its ids are numbers or text, and its ratings have a scale and perhaps a step.

    Returns
    -------
    SimpleNamespace
        Annotated types, and Pydantic models named as in the description.
    """
    kinds = _Kinds(service)
    return SimpleNamespace(**vars(kinds), **_requests(kinds), **_answers(kinds))


class _Kinds:
    """Types of single values."""

    def __init__(self, service):
        low, high = service.scale
        step = service.step if service.step and (low / service.step).is_integer() else None
        about = {0.5: "Half-star rating."}.get(step, "Rating.")
        self.Stars = Annotated[float, Field(ge=low, le=high, multiple_of=step, description=about)]
        text = Annotated[str, Field(min_length=1, max_length=LONGEST)]
        key = Annotated[str, Field(pattern=NUMBER)]
        self.item = str if service.text_items else int
        self.ItemId = text if service.text_items else _numbers(service.item_ids)
        self.ItemKey = text if service.text_items else key
        # In an address everything is text: one way to write each number, so that "007" is not taken for 7.
        written = BeforeValidator(lambda value: value if service.text_items else _number(value))
        self.ItemInPath = Annotated[self.ItemId, written]
        longest = LONGEST + len(USER_MARK)
        session = Annotated[str, Field(pattern=f"^{SESSION_NAME}$", description=ABOUT_USER)]
        named = Annotated[str, Field(min_length=1, max_length=longest, description=ABOUT_USER)]
        self.Who = named if service.text_users else _numbers(service.ratings.user_ids) | session
        form = {"pattern": f"^({NUMBER[1:-1]}|{SESSION_NAME})$"}
        if service.text_users:
            form = {"min_length": 1, "max_length": longest}
        self.WhoInQuery = Annotated[str, Query(**form, description=ABOUT_USER)]
        self.StarsByFilm = Annotated[
            dict[self.ItemKey, self.Stars],
            Field(
                max_length=MAX_RATINGS,
                description="Ratings by movieId.",
                # Pydantic refuses keys of another form, but its schema does not say so.
                json_schema_extra={} if service.text_items else {"additionalProperties": False},
            ),
        ]
        # In the examples: the two films that most people rated.
        first = sorted(service.count, key=lambda film: -service.count[film])[:2]
        middle = low + round((high - low) / 2 / (step or 1)) * (step or 1)
        self.example = {str(film): value for film, value in zip(first, (high, middle), strict=False)}


def _numbers(ids):
    """Whole numbers as far as all programs agree on them, or all of 64 bits where the ids need it."""
    low, high = (0 if ids[0] >= 0 else -EXACT), EXACT
    if ids[0] < -EXACT or ids[-1] > EXACT:
        low, high = LOWEST, HIGHEST
    return Annotated[int, Field(ge=low, le=high), WHOLE]


def _number(value):
    if isinstance(value, str) and not value.lstrip("-").isdecimal():
        return value  # for Pydantic to refuse
    if isinstance(value, str) and str(int(value)) != value:
        raise ValueError(f"a whole number, written {int(value)}")
    return value


def _requests(kinds):
    class RecommendBody(Body):
        ratings: kinds.StarsByFilm
        hidden: Annotated[list[kinds.ItemId], Field(max_length=MAX_RATINGS)] = []
        n: N = 10
        min_ratings: MinRatings = 0
        n_reasons: NReasons = 0

        model_config = ConfigDict(json_schema_extra={"example": {"ratings": kinds.example, "n": 3}})

    class FoldInBody(Body):
        ratings: Annotated[kinds.StarsByFilm, Field(min_length=1)]

        model_config = ConfigDict(json_schema_extra={"example": {"ratings": kinds.example}})

    class Said(Body):
        user: kinds.Who
        movieId: kinds.ItemId

    class Rated(Said):
        event: Literal["rating"]
        rating: kinds.Stars

    class Reacted(Said):
        event: Literal["like", "dislike", "hide", "clear"]

    feedback = Annotated[Rated | Reacted, Field(discriminator="event")]
    return {"RecommendBody": RecommendBody, "FoldInBody": FoldInBody, "FeedbackBody": feedback}


def _answers(kinds):
    class Reason(BaseModel):
        movieId: kinds.item
        title: str
        rating: float
        contribution: float

    class Film(BaseModel):
        movieId: kinds.item
        title: str
        score: float
        because: list[Reason]

    class Recommendations(BaseModel):
        personal: bool
        ignored: list[kinds.item]
        films: list[Film]

    class Similar(BaseModel):
        movieId: kinds.item
        title: str
        score: float

    class SimilarFilms(BaseModel):
        movieId: kinds.item
        title: str
        films: list[Similar]

    class FoldIn(BaseModel):
        bias: float | None
        factors: list[float]
        ignored: list[kinds.item]

    class Event(BaseModel):
        id: int
        user: int | str
        movieId: kinds.item
        event: str
        rating: float | None
        time: float

    class Feedback(BaseModel):
        ratings: dict[str, float]
        hidden: list[kinds.item]

    return {
        "Recommendations": Recommendations, "SimilarFilms": SimilarFilms, "FoldIn": FoldIn, "Event": Event,
        "Feedback": Feedback,
    }  # fmt: skip
