"""The recommendations of the book as an app. Start it with `make app`."""

import re

import altair as alt
import engine
import streamlit as st

from recsys_helpers.plots import PALETTE
from recsys_helpers.serving.feedback import FeedbackFileError
from recsys_helpers.serving.ids import SESSION

KINDS = ["film", "rated low", "rated high", "you"]


@st.cache_resource(show_spinner="Reading the ratings …")
def ratings():
    return engine.load()


@st.cache_resource(show_spinner="Looking up the films …")
def catalog():
    return engine.Catalog(ratings())


@st.cache_resource(show_spinner="Training a model; this happens once …")
def model(name):
    return engine.fit(name, ratings())


@st.cache_resource(show_spinner=False)
def store():
    return engine.open_store(ratings())


# ---- who and what ---------------------------------------------------------------


def session():
    """The id in the page's address, so that a reload and a bookmark keep it; a new one otherwise."""
    given = st.query_params.get("session", "")
    if not re.fullmatch(SESSION[1:-1], given) or len(given) > 40:
        given = engine.new_session()
        st.query_params["session"] = given
    return given


def tell(who, movie, event, stars=None):
    """Store one event, and say so; everything below is computed anew with it."""
    try:
        store().add(who, movie, event, stars)
    except (OSError, FeedbackFileError) as error:
        st.session_state["trouble"] = f"Not stored: {error}"
        return
    words = {"like": "You like", "dislike": "You do not like"}
    words |= {"hide": "Not shown again:", "clear": "Taken back:"}
    said = words.get(event) or f"{escape(engine.in_words(stars, ratings().scale))} for"
    st.toast(f"{said} {escape(name_of(movie))}")


def rate(who):
    """The button of the rating form."""
    movie, stars = st.session_state["film"], st.session_state["stars"]
    if movie is not None:
        tell(who, movie, "rating", stars)
        st.session_state["film"] = None


def digits():
    """Decimals of a prediction: one for stars, two for thumbs, none from 0 to 100."""
    low, high = ratings().scale
    return 0 if high - low > 30 else 1 if high - low > 2 else 2


def name_of(movie):
    # A file of feedback may know films of another edition of the data.
    return catalog().title.get(movie) or str(ratings().titles([movie])[0])


# ---- the parts of the page --------------------------------------------------------


def sidebar(id_):
    """Who is asking, and what may be shown. Returns the store's key, the given ratings and the choices."""
    with st.sidebar:
        kind = st.radio("Who are you?", ["Somebody new", "A user of the data"], key="kind")
        known = {}
        who = id_
        if kind == "A user of the data":
            user = st.selectbox("User", ratings().user_ids.tolist(), key="user")
            known = engine.known_ratings(ratings(), user)
            who = engine.session_as(id_, user)
        st.divider()
        names = list(engine.MODELS)
        chosen = st.multiselect("Models", names, default=names, key="models")
        n = st.slider("Films in a list", 3, 20, 6, key="n")
        least = st.select_slider(
            "Ratings a film must have", [0, 5, 10, 20, 50, 100], 20, key="least",
            help="Few ratings say little: a film that two people loved is not yet a good film.",
        )  # fmt: skip
        genres = st.multiselect("Only these genres", catalog().all_genres, key="genres")
        st.divider()
        st.caption(
            "What you say is kept in this app's own file, under the session in the address of this page. "
            "Keep the address to come back."
        )
        if st.button("Forget what I said", key="forget", icon=":material/delete:"):
            store().forget(who)
            st.toast("Forgotten")
    return who, known, chosen, n, least, genres


def rating_tab(who, given, hidden):
    st.selectbox(
        "Film", catalog().by_popularity, index=None, format_func=name_of, key="film",
        placeholder="Type a part of the title",
    )  # fmt: skip
    values = engine.scale_values(ratings())
    st.select_slider("Rating", values, engine.start_value(values), key="stars")
    st.button("Rate", key="rate", type="primary", on_click=rate, args=(who,))
    if not given:
        st.info("Rate a few films, and every list follows. Five are a good start.")
    else:
        st.subheader(f"Said here: {len(given)}")
    for movie, stars in reversed(given.items()):
        with st.container(horizontal=True, vertical_alignment="center"):
            value = escape(engine.in_words(stars, ratings().scale))
            st.markdown(f"**{value}** · {escape(name_of(movie))}", width="stretch")
            st.button(
                "Take back", key=f"clear-{movie}", on_click=tell, args=(who, movie, "clear"), type="tertiary"
            )

    if hidden:
        st.subheader(f"Hidden: {len(hidden)}")
    for movie in sorted(hidden, key=name_of):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(escape(name_of(movie)), width="stretch")
            st.button(
                "Show again", key=f"show-{movie}", on_click=tell, args=(who, movie, "clear"), type="tertiary"
            )


def list_of(name, who, stars, hidden, n, allowed):
    """One model's recommendations."""
    st.subheader(name)
    st.caption(engine.MODELS[name].about)
    personal, films = engine.recommend(model(name), catalog(), stars, hidden, n=n, allowed=allowed)
    if not films:
        st.info("No film is left. Allow more genres, or films with fewer ratings.")
    elif not personal:
        st.caption(
            "The same for everybody." if stars else "The same for everybody, until you rate something."
        )
    for film in films:
        with st.container(border=True):
            if name == "Popular":
                facts = f"{catalog().counts[catalog().code[film['movieId']]]} ratings"
            else:
                facts = f"{film['score']:.{digits()}f} expected"
            st.markdown(f"**{escape(film['title'])}**")
            st.caption(" · ".join(filter(None, [facts, catalog().genres_of(film["movieId"])])))
            for reason in film["because"]:
                st.caption(
                    f"+{reason['contribution']:.2f} because you gave {reason['rating']:g} to "
                    f"{escape(reason['title'])}"
                )
            with st.container(horizontal=True, gap="small"):
                for event, label, icon in (
                    ("like", "Like", ":material/thumb_up:"),
                    ("dislike", "Dislike", ":material/thumb_down:"),
                    ("hide", "Hide", ":material/visibility_off:"),
                ):
                    st.button(
                        label, key=f"{event}-{name}-{film['movieId']}", icon=icon, on_click=tell,
                        args=(who, film["movieId"], event), help=f"{label}: {film['title']}", type="tertiary",
                    )  # fmt: skip


def neighbors_tab(stars, least):
    films = [m for m in reversed(stars) if m in catalog().title]
    start = (films or catalog().by_popularity)[0]
    movie = st.selectbox(
        "Neighbors of", catalog().by_popularity, index=catalog().by_popularity.index(start),
        format_func=name_of, key="center",
    )  # fmt: skip
    named = [name for name in engine.MODELS if model(name).verbs()["similar_items"] is True]
    for name, column in zip(named, st.columns(len(named)), strict=True):
        with column:
            st.subheader(name)
            try:
                table = engine.similar_films(model(name), movie, min_ratings=max(least, 1))
            except ValueError as error:
                st.info(str(error))
                continue
            table = table.drop(columns=ratings().item_name) if "title" in table else table
            st.dataframe(table.round(3), hide_index=True, key=f"near-{name}")
    st.subheader("People")
    if films:
        people = engine.nearest_people(model(engine.FACTORS), stars)
        st.caption("Users of the data whose factors point your way.")
        st.dataframe(people.round(3), hide_index=True, key="people")
    else:
        st.info("Rate something to see who is like you.")


def map_tab(stars):
    frame = engine.factor_map(model(engine.FACTORS), catalog(), stars)
    bare = alt.Axis(labels=False, grid=False, ticks=False)
    picture = (
        alt.Chart(frame)
        .mark_point(filled=True)
        .encode(
            x=alt.X("x", title="first principal axis of the films", axis=bare),
            y=alt.Y("y", title="second principal axis", axis=bare),
            color=alt.Color(
                "kind", title=None, sort=KINDS,
                scale=alt.Scale(domain=KINDS, range=[PALETTE[4], PALETTE[3], PALETTE[2], PALETTE[5]]),
                legend=alt.Legend(orient="top"),
            ),
            shape=alt.Shape(
                "kind", sort=KINDS, title=None,
                scale=alt.Scale(domain=KINDS, range=["circle", "triangle-down", "triangle-up", "diamond"]),
            ),
            # The many stay pale, so that the labels on them can be read.
            opacity=alt.Opacity(
                "kind", legend=None, scale=alt.Scale(domain=KINDS, range=[0.35, 0.9, 0.9, 1])
            ),
            size=alt.Size(
                "kind", legend=None, scale=alt.Scale(domain=KINDS, range=[35, 110, 110, 320])
            ),
            tooltip=["title", "kind"],
        )
        .properties(height=460)
    )  # fmt: skip
    label = alt.Chart(frame[frame["label"] != ""]).mark_text(dy=-13, fontSize=12, color="gray").encode(
        x="x", y="y", text="label"
    )  # fmt: skip
    st.altair_chart(
        picture + label, width="stretch", key="map",
        alt="A map of the most rated films in two dimensions, with those you rated and your own direction.",
    )  # fmt: skip
    st.caption(
        "The most rated films, in the plane in which their factors differ most; point at one for its title. "
        "Films that lie in your direction fit your taste. Only two dimensions of many are shown: a hint."
    )


def escape(text):
    """A title as text, whatever signs of Markdown are in it."""
    return re.sub(r"([\\`*_{}\[\]()#+\-.!|~$:<>&])", r"\\\1", text)


def main():
    st.set_page_config("From ratings to recommendations", layout="wide")
    st.header("From ratings to recommendations")
    try:
        store()
    except (OSError, FeedbackFileError) as error:
        st.error(f"The feedback cannot be kept. {error}")
        st.stop()
    who, known, chosen, n, least, genres = sidebar(session())
    if trouble := st.session_state.pop("trouble", None):
        st.error(trouble)
    given, hidden = catalog().said(store(), who)
    stars = known | given
    rate_, lists, neighbors, map_ = st.tabs(["Rate", "Recommendations", "Neighbors", "Map"])
    with rate_:
        if known:
            st.caption(f"This user brings {len(known)} ratings; what is said here is added to them.")
        rating_tab(who, given, hidden)
    with lists:
        allowed = catalog().allowed(least, genres)
        if not chosen:
            st.info("Choose a model at the left.")
        for name, column in zip(chosen, st.columns(max(len(chosen), 1)), strict=bool(chosen)):
            with column:
                list_of(name, who, stars, hidden, n, allowed)
    with neighbors:
        neighbors_tab(stars, least)
    with map_:
        map_tab(stars)


main()
