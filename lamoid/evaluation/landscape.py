"""Pictures of the losses between two or three models: along the line, or over the triangle, of their weights."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lamoid.evaluation.picture import COLOURS, as_png, shorten

Points = Mapping[tuple[float, ...], float]
"""Losses by weights that come to 1, one a member."""


def draw_between(points: Points, names: Sequence[str], *, chosen: tuple[float, ...] | None, axis: str) -> bytes:
    """Draw losses between two models as a curve, between three as a triangle of levels; a PNG.

    ``points`` hold at least the corners and one more; ``chosen`` is the mixture that was taken, marked if it is among
    them. Raise ``ValueError`` for another number of models.
    """
    from matplotlib.figure import Figure

    if len(names) not in (2, 3):
        raise ValueError(f"losses between {len(names)} models cannot be drawn")
    figure = Figure(figsize=(7.0, 4.5 if len(names) == 2 else 6.0), layout="constrained")
    axes = figure.subplots()
    draw = _draw_line if len(names) == 2 else _draw_triangle
    draw(figure, axes, dict(sorted(points.items())), [shorten(name) for name in names], axis)
    if chosen is not None and chosen in points:
        place = (chosen[1], points[chosen]) if len(names) == 2 else _place(chosen)
        axes.plot(*([number] for number in place), "*", color=COLOURS["fused"], markersize=16, label="fused")
        axes.legend(loc="upper right")
    return as_png(figure)


def _draw_line(figure: Any, axes: Any, points: Points, names: Sequence[str], axis: str) -> None:
    places = sorted((weights[1], loss) for weights, loss in points.items())
    axes.plot([place for place, _ in places], [loss for _, loss in places], "o-", color=COLOURS["member"])
    axes.set_xticks([0.0, 0.25, 0.5, 0.75, 1.0], [f"1: {names[0]}", "0.25", "0.5", "0.75", f"1: {names[1]}"])
    for label in axes.get_xticklabels():
        label.set_parse_math(False)
    axes.set_xlabel(f"weight of {names[1]}", parse_math=False)
    axes.set_ylabel(axis)
    axes.grid(alpha=0.3)


def _draw_triangle(figure: Any, axes: Any, points: Points, names: Sequence[str], axis: str) -> None:
    places = [_place(weights) for weights in points]
    across, up, losses = [x for x, _ in places], [y for _, y in places], list(points.values())
    if max(losses) > min(losses):
        figure.colorbar(axes.tricontourf(across, up, losses, levels=12, cmap="viridis_r"), ax=axes, label=axis)
    axes.plot(across, up, ".", color="black", markersize=3)
    corners = ((0.0, 0.0), (1.0, 0.0), (0.5, math.sqrt(0.75)))
    for (x, y), name, low in zip(corners, names, (True, True, False), strict=True):
        axes.annotate(
            name,
            (x, y),
            xytext=(0, -14 if low else 8),
            textcoords="offset points",
            ha="center",
            parse_math=False,
        )
    axes.set_xlim(-0.15, 1.15)
    axes.set_ylim(-0.1, 1.0)
    axes.set_aspect("equal")
    axes.set_axis_off()


def _place(weights: Sequence[float]) -> tuple[float, float]:
    """Give the point of a triangle with sides of 1 that has these weights on its corners."""
    return weights[1] + weights[2] / 2.0, weights[2] * math.sqrt(0.75)
