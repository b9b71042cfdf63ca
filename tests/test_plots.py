import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from recsys_helpers import plots


@pytest.fixture(autouse=True)
def fresh_figure():
    with plt.rc_context():
        plots.use_book_style()
        yield
        plt.close("all")


def test_rating_table_writes_the_known_cells_only():
    ax = plots.rating_table([[5, np.nan], [1.5, 2]], rows=["Ada", "Ben"], columns=["Alien", "Brazil"])
    assert sorted(text.get_text() for text in ax.texts) == ["1.5", "2", "5"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["Ada", "Ben"]
    assert sum(patch.get_hatch() is not None for patch in ax.patches) == 1


def test_rating_histogram_is_in_percent():
    ax = plots.rating_histogram([0.5, 5, 5, 4])
    heights = [bar.get_height() for bar in ax.patches]
    assert len(heights) == 10
    assert heights[0] == pytest.approx(25) and heights[-1] == pytest.approx(50)
    assert sum(heights) == pytest.approx(100)


def test_lorenz_curve_by_hand():
    ax = plots.lorenz_curve([3, 1], label="films")
    diagonal, curve = ax.lines
    np.testing.assert_allclose(curve.get_xdata(), [0, 50, 100])
    np.testing.assert_allclose(curve.get_ydata(), [0, 25, 100])
    plots.lorenz_curve([1, 1], ax=ax)
    assert len(ax.lines) == 3, "the diagonal is drawn once"


def test_rank_curve_leaves_zeros_out():
    ax = plots.rank_curve([0, 2, 7])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [7, 2])
    assert ax.get_xscale() == ax.get_yscale() == "log"


def test_sparsity_picture_shows_shares(toy):
    by_id = plots.sparsity_picture(toy, order="ids").images[0].get_array()
    np.testing.assert_allclose(by_id, 100 * (toy.by_user.toarray() > 0))
    by_count = plots.sparsity_picture(toy).images[0].get_array()
    assert (np.diff(by_count.sum(axis=0)) <= 0).all()
    with pytest.raises(ValueError, match="order"):
        plots.sparsity_picture(toy, order="size")


def test_labels_of_points_do_not_collide():
    rng = np.random.default_rng(0)
    x, y = np.exp(rng.uniform(0, 5, 14)), rng.uniform(0.85, 0.9, 14)
    _, ax = plt.subplots(figsize=(7, 4))
    ax.scatter(x, y)
    ax.set(xscale="log")
    labels = plots.label_points(ax, x, y, [f"a model {i}" for i in range(14)])
    assert [label.get_text() for label in labels] == [f"a model {i}" for i in range(14)]
    boxes = [label.get_window_extent().extents for label in labels]
    shared = [plots._overlap(a, b) for n, a in enumerate(boxes) for b in boxes[:n]]
    size = plots._overlap(boxes[0], boxes[0])
    assert sum(shared) < 0.1 * size
    assert len(ax.texts) == 14
    plt.close("all")
