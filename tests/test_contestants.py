"""The models that enter a comparison, and the effort that each may make."""

import numpy as np
import pandas as pd
import pytest
from conftest import make_ratings
from sklearn.base import clone

from recsys_helpers import Ratings, evaluation, load_movielens
from recsys_helpers.evaluation import tuning
from recsys_helpers.evaluation.contestants import (
    RANK,
    RANKERS,
    ROUNDS,
    SETTINGS,
    around,
    contest,
    contestants,
)


@pytest.fixture(scope="module")
def entered():
    return contestants(load_movielens())


def numeric(axis):
    return len(axis) > 1 and not isinstance(axis[0], str)


def test_one_rule_of_tuning_for_every_model(entered):
    for name, (model, axes) in entered.items():
        assert not hasattr(model, "train_"), name
        if axes is None:
            # Without settings there is nothing to try; SLIM searches its two penalties itself.
            own = {"l1": "auto", "l2": "auto"} if name == "SLIM" else model.get_params()
            assert own.items() <= model.get_params().items() and (own == {} or name == "SLIM"), name
            continue
        first = tuning._settings(axes)
        assert len(first) == SETTINGS, name
        for winner in first:
            both = first + tuning._settings(evaluation.moved_grid(axes, winner))
            assert len(both) == 2 * SETTINGS
            tried = [clone(model).set_params(**setting).get_params() for setting in both]
            assert all(one != other for n, one in enumerate(tried) for other in tried[:n]), name


def test_ranks_begin_alike_in_all_families(entered):
    ranks = {name: axes["n_factors"] for name, (_, axes) in entered.items() if axes and "n_factors" in axes}
    assert {name for name, axis in ranks.items() if axis == [16, 64]} == {
        "FunkSVD", "SVD++", "NMF", "ALS", "ALS, weighted", "ALS, genres", "Adam", "implicit ALS", "BPR"
    }  # fmt: skip
    for axis in ranks.values():
        assert np.sqrt(min(axis) * max(axis)) == pytest.approx(RANK, rel=0.02)
    for toward, reached in ((max, 128), (min, 8)):
        axis = {"n_factors": [16, 64]}
        for _ in range(ROUNDS - 1):
            axis = evaluation.moved_grid(axis, {"n_factors": toward(axis["n_factors"])})
        assert toward(axis["n_factors"]) == reached, "what the module says of all families"


def test_the_other_grids_lie_around_the_defaults(entered):
    for name, (model, axes) in entered.items():
        if name == "ALS, weighted":  # the default is for penalties in the other unit
            continue
        for parameter, axis in (axes or {}).items():
            default = type(model)().get_params()[parameter]
            if parameter == "n_factors" or default == "auto":  # found from the ratings
                continue
            if axis[0] == 0 or not numeric(axis):
                assert default == axis[0], (name, parameter)
            else:
                assert np.sqrt(min(axis) * max(axis)) == pytest.approx(default, rel=0.05), (name, parameter)


def test_around():
    assert around(10, 2, 4) == [5, 20]
    assert around(1.0, 4, 2) == [0.354, 0.707, 1.41, 2.83]


def test_who_takes_part_depends_on_the_data(medium):
    frame = medium.to_frame()
    assert "ALS, genres" not in contestants(medium), "without genres"
    movies = pd.DataFrame({"movieId": medium.item_ids, "genres": "Drama|Comedy"})
    assert "ALS, genres" in contestants(Ratings.from_frame(frame, movies=movies))
    below = Ratings.from_frame(frame.assign(rating=frame["rating"] - 3), scale=(-3.0, 3.0))
    assert "NMF" not in contestants(below) and "NMF" in contestants(medium)
    wide = Ratings.from_frame(frame.assign(rating=frame["rating"] * 20), scale=(10.0, 100.0))
    for name in ("ALS", "NMF", "nuclear norm"):
        own, other = contestants(medium)[name][1], contestants(wide)[name][1]
        np.testing.assert_allclose(np.divide(other["reg"], own["reg"]), 20, rtol=0.01)
    with pytest.raises(TypeError, match="ratings: got DataFrame"):
        contestants(frame)


def test_penalties_follow_the_scale(medium):
    """Stars times twenty with the penalty times twenty is the same model."""
    frame = medium.to_frame()
    wide = Ratings.from_frame(frame.assign(rating=frame["rating"] * 20), scale=(10.0, 100.0))
    small, large = (
        contest(ratings, names=["ALS"], rounds=1, verbose=False).means()["rmse"].item()
        for ratings in (medium, wide)
    )
    assert large == pytest.approx(20 * small, rel=0.03), "but for the random start, which keeps its size"
    model, grid = contestants(medium)["ALS"]
    unmoved = evaluation.Tuned(model, grid)
    found = evaluation.compare({"ALS": unmoved}, wide, "random", verbose=False).means()["rmse"].item()
    assert abs(found - large) > 0.1 * large, "with the grid for stars it is another model"


def test_a_small_table_gets_ranks_it_has():
    rng = np.random.default_rng(0)
    pairs = [(u, i) for u in range(12) for i in range(9) if rng.random() < 0.7]
    ratings = make_ratings([(u, i, float(rng.integers(1, 6))) for u, i in pairs])
    for model, axes in contestants(ratings).values():
        assert max((axes or {}).get("n_factors", [1])) <= 4, type(model)
    found = contest(ratings, names=["PureSVD", "imputed SVD", "ALS"], target="ndcg", rounds=1, verbose=False)
    assert found.means()["ndcg"].between(0, 1).all()


def test_contest(medium):
    plain = contest(medium, tuned=False, names=["biases", "popularity", "PureSVD"], verbose=False)
    assert list(plain.means().index) == [("random", "biases"), ("random", "popularity")], (
        "no stars from PureSVD"
    )
    assert "PureSVD" in RANKERS and plain.chosen.empty
    train, test = evaluation.protocol_splits(medium, "random")[0]
    biases = contestants(medium)["biases"][0].fit(train)
    direct = evaluation.rmse(test.values, biases.predict(test))
    assert plain.means().loc[("random", "biases"), "rmse"] == direct
    late = contest(medium, "temporal", target="ndcg", names=["biases", "PureSVD"], rounds=1, verbose=False)
    assert set(late.chosen["model"]) == {"biases", "PureSVD"}
    train = evaluation.protocol_splits(medium, "temporal")[0].train
    grid = contestants(medium)["biases"][1]
    search = evaluation.grid_search(biases, grid, train, protocol="temporal", target="ndcg")
    assert late.chosen.set_index("model").loc["biases", "settings"] == search.attrs["best"]
    low = contest(medium, target="ndcg", names=["PureSVD"], rounds=1, threshold=2.0, k=3, verbose=False)
    train = evaluation.protocol_splits(medium, "random")[0].train
    model, grid = contestants(medium)["PureSVD"]
    search = evaluation.grid_search(model, grid, train, target="ndcg", threshold=2.0, k=3)
    assert low.chosen["settings"].item() == search.attrs["best"], "searched for the lists that are scored"
    for change, words in (
        ({"names": ["bias"]}, "names: got 'bias'.*did you mean 'biases'"),
        ({"target": "mae"}, "target: got 'mae'"),
        ({"names": ["PureSVD"]}, r"names: got \['PureSVD'\]; expected a model whose scores are ratings"),
        ({"rounds": 0}, "rounds: got 0"),
    ):
        with pytest.raises(ValueError, match=words):
            contest(medium, **change)
