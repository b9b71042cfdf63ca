"""Tables about items: checked when they arrive."""

import pandas as pd
import polars as pl
import pytest

from recsys_helpers import BiasedALS, BiasModel, Ratings
from recsys_helpers.data.items import genre_shares

BASE = pd.DataFrame({"userId": [1, 1, 2, 3], "movieId": [10, 20, 10, 30], "rating": [4.0, 3.0, 5.0, 1.0]})
MOVIES = pd.DataFrame({"movieId": [10, 20, 30], "title": ["A", "B", "C"], "genres": ["x|y", "x", "y"]})


def genres_of(movies):
    names, shares = genre_shares(Ratings.from_frame(BASE, movies=movies))
    return names, shares.toarray().tolist()


@pytest.mark.parametrize(
    "movies",
    [
        MOVIES,
        MOVIES.rename(columns={"movieId": "item_id"}),
        MOVIES.assign(genres=[["x", "y"], ["x"], ("y",)]),
        pl.from_pandas(MOVIES),
        pl.DataFrame({"movieId": [10, 20, 30], "title": list("ABC"), "genres": [["x", "y"], ["x"], ["y"]]}),
        MOVIES.iloc[::-1].convert_dtypes(),
        MOVIES.astype({"movieId": float}),
        MOVIES.astype({"movieId": "category"}),
        MOVIES.rename(columns={"title": "Book-Title"}),
    ],
)
def test_tables_in_every_form(movies):
    ratings = Ratings.from_frame(BASE, movies=movies)
    assert BiasModel().fit(ratings).recommend(1)["title"].tolist() == ["C"]
    assert genres_of(movies) == (["x", "y"], [[0.5, 0.5], [1, 0], [0, 1]])


def test_missing_and_repeated_genres():
    names, shares = genres_of(MOVIES.assign(genres=["x|x", None, "(no genres listed)"]))
    assert names == ["x"] and shares == [[1], [0], [0]]
    nothing = Ratings.from_frame(BASE, movies=MOVIES.assign(genres=None))
    with pytest.warns(UserWarning, match="no item of the data has a genre"):
        BiasedALS(2, genres=True, verbose=False).fit(nothing)


@pytest.mark.parametrize(
    ("movies", "words"),
    [
        (pd.concat([MOVIES, MOVIES.iloc[[0]]]), "column movieId: got 10 twice, again in row 3"),
        (MOVIES.set_index("movieId"), r"movieId is the index; .* movies.reset_index\(\)"),
        (MOVIES.drop(columns="movieId").drop(columns="title"), "movies: missing column"),
        (MOVIES.assign(movieId=[10, None, 30]), "movies: column movieId, row 1: got nan"),
        (MOVIES.astype({"movieId": str}), "has text ids such as '10'; the ratings have number ids"),
        (MOVIES.assign(genres=[1, 2, 3]), "column genres, row 0: got 1; expected names"),
    ],
)
def test_bad_tables_are_refused_at_once(movies, words):
    with pytest.raises(ValueError, match=words):
        Ratings.from_frame(BASE, movies=movies)


def test_what_is_no_table():
    with pytest.raises(TypeError, match="movies: got dict"):
        Ratings.from_frame(BASE, movies={10: "A"})


def test_a_table_about_other_items_is_told():
    with pytest.warns(UserWarning, match="movies: none of its 3 ids is in the ratings, for example"):
        Ratings.from_frame(BASE, movies=MOVIES.assign(movieId=[1, 2, 3]))


def test_users_are_checked_too():
    users = pd.DataFrame({"userId": [1, 1], "age": [3, 4]})
    with pytest.raises(ValueError, match="users: column userId: got 1 twice"):
        Ratings.from_frame(BASE, users=users)
