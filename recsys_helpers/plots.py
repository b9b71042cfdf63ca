"""Figures that more than one chapter draws; each function returns the Axes it drew on."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

# Okabe and Ito's palette, which readers with any common color blindness can tell
# apart, in an order where neighbors also differ in lightness. Yellow is left out:
# it vanishes on a light ground.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def use_book_style():
    """Set Matplotlib to the look of the book: quiet axes, safe colors, sharp text.

    Figures keep a white ground in dark mode, where the page frames them as a card.
    """
    plt.rcParams.update(
        {
            "figure.figsize": (7.0, 3.6),
            "figure.dpi": 110,
            "savefig.dpi": 110,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "axes.facecolor": "white",
            "axes.prop_cycle": plt.cycler(color=PALETTE, marker=MARKERS),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": "#555555",
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.labelsize": 10,
            "axes.grid": True,
            "grid.color": "#e6e6e6",
            "grid.linewidth": 0.8,
            "axes.axisbelow": True,
            "xtick.labelsize": 9,
            "ytick.labelsize": 9,
            "legend.fontsize": 9,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "lines.markersize": 5,
            "font.family": "DejaVu Sans",
        }
    )


def rating_table(matrix, *, rows=None, columns=None, fmt="{:g}", ax=None, cmap="Blues", limits=(0, 6)):
    """Draw a small user x item table; unknown cells stay empty and hatched.

    Parameters
    ----------
    matrix : array-like of float, shape (m, n)
        NaN marks an unknown cell.
    rows, columns : sequence of str, optional
        Labels of users and items.
    fmt : str
        Format of the numbers.
    ax : Axes, optional
    cmap : str
        Colormap; the number stands in each cell, so no reading depends on color.
    limits : tuple of float
        Values at the two ends of the colormap.

    Returns
    -------
    Axes
    """
    matrix = np.asarray(matrix, dtype=float)
    m, n = matrix.shape
    if ax is None:
        _, ax = plt.subplots(figsize=(0.95 * n + 1.2, 0.55 * m + 0.8))
    colors = plt.get_cmap(cmap)
    span = limits[1] - limits[0]
    for (u, i), value in np.ndenumerate(matrix):
        known = np.isfinite(value)
        shade = colors(np.clip((value - limits[0]) / span, 0, 1)) if known else "white"
        ax.add_patch(
            plt.Rectangle(
                (i - 0.47, u - 0.45), 0.94, 0.9, facecolor=shade, edgecolor="#c4c4c4",
                hatch=None if known else "////", linewidth=0.8,
            )
        )  # fmt: skip
        if known:
            dark = np.dot(shade[:3], (0.299, 0.587, 0.114)) < 0.55
            ax.text(
                i, u, fmt.format(value), ha="center", va="center", color="white" if dark else "black",
                fontsize=11,
            )  # fmt: skip
    ax.set(xlim=(-0.55, n - 0.45), ylim=(m - 0.45, -0.55))
    ax.set_xticks(range(n), columns if columns is not None else [f"item {i + 1}" for i in range(n)])
    ax.set_yticks(range(m), rows if rows is not None else [f"user {u + 1}" for u in range(m)])
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.grid(False)
    for side in ax.spines.values():
        side.set_visible(False)
    return ax


def rating_histogram(values, *, step=0.5, scale=(0.5, 5.0), ax=None, **bar):
    """Share of ratings at each step of the scale, as bars.

    Parameters
    ----------
    values : array-like of float
        Ratings, in stars.
    step : float
        Distance of neighboring ratings on the scale.
    scale : tuple of float
        Lowest and highest rating.
    ax : Axes, optional
    **bar
        Passed to ``Axes.bar``.

    Returns
    -------
    Axes
    """
    ax = ax or plt.subplots()[1]
    levels = np.arange(scale[0], scale[1] + step / 2, step)
    counts = np.bincount(
        np.rint((np.asarray(values, dtype=float) - scale[0]) / step).astype(int), minlength=len(levels)
    )
    ax.bar(levels, 100 * counts / counts.sum(), width=0.8 * step, **bar)
    ax.set(xlabel="rating (stars)", ylabel="share of ratings (%)", xticks=levels)
    ax.grid(axis="x", visible=False)
    return ax


def lorenz_curve(counts, *, ax=None, label=None, marker=None, **line):
    """Share of all ratings that the least rated share of items (or users) holds.

    Parameters
    ----------
    counts : array-like of float
        Ratings per item, or per user.
    ax : Axes, optional
        The diagonal of perfect equality is drawn the first time.
    label : str, optional
    marker : str, optional
        Drawn at every tenth part of the curve.
    **line
        Passed to ``Axes.plot``.

    Returns
    -------
    Axes
    """
    c = np.sort(np.asarray(counts, dtype=float))
    x = np.linspace(0, 100, len(c) + 1)
    y = np.concatenate([[0], 100 * np.cumsum(c) / c.sum()])
    ax = ax or plt.subplots(figsize=(4.6, 4.2))[1]
    if not ax.lines:
        ax.plot([0, 100], [0, 100], color="#888888", linestyle="--", linewidth=1, marker="")
        ax.set(xlabel="the least rated, % of all", ylabel="their share of the ratings (%)")
        ax.set(xlim=(0, 100), ylim=(0, 100))
    ax.plot(x, y, label=label, marker=marker or "", markevery=max(1, len(c) // 10), **line)
    return ax


def rank_curve(counts, *, ax=None, label=None, marker=None, **line):
    """Counts from the largest to the smallest, both axes logarithmic.

    Parameters
    ----------
    counts : array-like of int
        Ratings per item, or per user; zeros are left out.
    ax : Axes, optional
    label : str, optional
    marker : str, optional
        Drawn at about ten places, evenly spaced in the logarithm of the rank.
    **line
        Passed to ``Axes.plot``.

    Returns
    -------
    Axes
    """
    c = np.sort(np.asarray(counts))[::-1]
    c = c[c > 0]
    ax = ax or plt.subplots()[1]
    marks = np.unique(np.geomspace(1, len(c), 10).astype(int) - 1)
    ax.loglog(np.arange(1, len(c) + 1), c, label=label, marker=marker or "", markevery=list(marks), **line)
    ax.set(xlabel="rank, most rated first", ylabel="number of ratings")
    return ax


def sparsity_picture(ratings, *, order="counts", cells=(220, 330), ax=None):
    """The user x item matrix as a picture: how many cells of each block are known.

    Parameters
    ----------
    ratings : Ratings
    order : {"counts", "ids"}
        Sort users and items by their number of ratings, or leave them by id.
    cells : tuple of int
        Blocks down and across; a block holds many users and items.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    if order not in ("counts", "ids"):
        raise ValueError(f"order: got {order!r}; expected 'counts' or 'ids'")
    user_at, item_at = np.arange(ratings.n_users), np.arange(ratings.n_items)
    if order == "counts":
        user_at[np.argsort(-ratings.user_counts, kind="stable")] = np.arange(ratings.n_users)
        item_at[np.argsort(-ratings.item_counts, kind="stable")] = np.arange(ratings.n_items)
    down, across = min(cells[0], ratings.n_users), min(cells[1], ratings.n_items)
    picture, _, _ = np.histogram2d(
        user_at[ratings.user_codes], item_at[ratings.item_codes], bins=(down, across),
        range=((0, ratings.n_users), (0, ratings.n_items)),
    )  # fmt: skip
    share = 100 * picture / (ratings.n_users / down * ratings.n_items / across)
    ax = ax or plt.subplots(figsize=(7, 4.4))[1]
    # The square root keeps the thin majority visible beside the dense corner.
    image = ax.imshow(
        share, aspect="auto", cmap="Blues", interpolation="nearest",
        norm=plt.matplotlib.colors.PowerNorm(0.5, vmin=0, vmax=100),
        extent=(0, ratings.n_items, ratings.n_users, 0),
    )  # fmt: skip
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.85, pad=0.02)
    bar.set_label("known cells (%)")
    bar.outline.set_visible(False)
    ax.set(xlabel="films", ylabel="users")
    ax.grid(False)
    return ax


def label_points(ax, x, y, names, *, fontsize=8.5, color="#333333"):
    """Write a name beside each point, where it collides least with names and points.

    Call it last: it measures the text on the finished axes.

    Parameters
    ----------
    ax : Axes
    x, y : array-like of float, shape (N,)
        The points, in data coordinates.
    names : sequence of str
    fontsize : float
    color : str

    Returns
    -------
    list of Annotation

    Notes
    -----
    Greedy: each name takes the best of sixteen places around its point, given those before it.
    """
    ax.figure.draw_without_rendering()
    inside = ax.get_window_extent()
    at = ax.transData.transform(np.column_stack([x, y]).astype(float))
    radius = 0.05 * ax.figure.dpi
    taken = [(p[0] - radius, p[1] - radius, p[0] + radius, p[1] + radius) for p in at]
    places = [(7, 0), (-7, 0), (0, 8), (0, -8), (6, 6), (-6, 6), (6, -6), (-6, -6)]
    labels = []
    for point, name in zip(at, names, strict=True):
        best = None
        for step in (1, 2):
            for dx, dy in places:
                label = ax.annotate(
                    name, ax.transData.inverted().transform(point), xytext=(step * dx, step * dy),
                    textcoords="offset points", fontsize=fontsize, color=color,
                    ha="left" if dx > 0 else "right" if dx < 0 else "center",
                    va="bottom" if dy > 0 else "top" if dy < 0 else "center",
                    bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.5},
                )  # fmt: skip
                box = label.get_window_extent().extents
                cost = sum(_overlap(box, other) for other in taken) + step
                whole = (box[2] - box[0]) * (box[3] - box[1])
                cost += 10 * (whole - _overlap(box, inside.extents))
                if best is None or cost < best[0]:
                    if best is not None:
                        best[1].remove()
                    best = cost, label, box
                else:
                    label.remove()
        labels.append(best[1])
        taken.append(tuple(best[2]))
    return labels


def _overlap(one, other):
    """Common area of two boxes (left, bottom, right, top)."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
