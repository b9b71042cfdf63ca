"""The HTTP interface of the model. Start it with `make api`, or: python server.py --port 8000."""

import argparse

import engine
import uvicorn

from recsys_helpers import create_app


def make():
    """The application: the ratings, a model fitted to them, and the feedback of the app."""
    ratings = engine.load()
    return create_app(engine.fit(engine.FACTORS, ratings), ratings, engine.open_store(ratings))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    # No log of requests: their addresses name sessions.
    uvicorn.run(make(), host=options.host, port=options.port, access_log=False)
