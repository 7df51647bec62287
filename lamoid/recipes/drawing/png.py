"""Draws a picture as PNG with matplotlib, if it is there (the extra ``eval``)."""

import io
import warnings
from typing import Any

from lamoid.errors import InputError
from lamoid.evaluation.picture import can_draw
from lamoid.recipes.drawing.pieces import Box, Item, Piece, Way, flat
from lamoid.recipes.drawing.svg import arrow_head

LONGEST = 16_000
"""Pixels of a side; larger pictures are drawn smaller."""


def to_png(piece: Piece, *, scale: float = 2.0) -> bytes:
    """Give the picture, ``scale`` pixels to a unit; ``InputError`` naming the extra where matplotlib is missing."""
    if not can_draw():
        problem = "needs matplotlib, which is not installed"
        raise InputError("a PNG", problem, "pip install 'lamoid[eval]', or draw an .svg, which needs nothing")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scale = min(scale, LONGEST / max(piece.width, piece.height))
    figure = Figure(figsize=(piece.width / 72, piece.height / 72), dpi=72 * scale)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, piece.width)
    axes.set_ylim(piece.height, 0)
    axes.axis("off")
    for number, item in enumerate(flat(piece)):
        _draw(axes, item, number)
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font lacks
        figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def _draw(axes: Any, item: Item, order: int) -> None:
    from matplotlib.patches import PathPatch, Polygon

    if isinstance(item, Box):
        shape = PathPatch(_outline(item), zorder=order)
        shape.set(facecolor=item.fill, edgecolor=item.edge, linewidth=item.thickness)
        shape.set_linestyle((0, (5, 3)) if item.is_dashed else "solid")
        axes.add_patch(shape)
    elif isinstance(item, Way):
        xs, ys = zip(*item.points, strict=True)
        style = (0, (6, 4)) if item.is_dashed else "solid"
        axes.plot(xs, ys, color=item.colour, linewidth=1.4, linestyle=style, zorder=order)
        if item.is_arrow:
            axes.add_patch(Polygon(arrow_head(item), color=item.colour, linewidth=0, zorder=order))
    else:
        weight = "bold" if item.is_bold else "normal"
        drawn = axes.text(item.x, item.y, item.text, fontsize=item.size * 0.92, color=item.colour, zorder=order)
        drawn.set(horizontalalignment="center", verticalalignment="baseline", fontweight=weight, parse_math=False)


def _outline(box: Box) -> Any:
    """Give a rectangle whose corners are quarters of a circle, each one cubic curve."""
    from matplotlib.path import Path

    radius = min(box.radius, box.width / 2, box.height / 2)
    left, right, top, bottom = box.x, box.x + box.width, box.y, box.y + box.height
    corners = (
        (right, top, -1, 0, 0, 1),
        (right, bottom, 0, -1, -1, 0),
        (left, bottom, 1, 0, 0, -1),
        (left, top, 0, 1, 1, 0),
    )
    points: list[tuple[float, float]] = [(left + radius, top)]
    codes: list[Any] = [Path.MOVETO]
    bend = radius * (1 - 4 / 3 * (2**0.5 - 1))  # how far a curve's handles stay from the corner
    for x, y, in_x, in_y, out_x, out_y in corners:
        points += [(x + radius * in_x, y + radius * in_y), (x + bend * in_x, y + bend * in_y)]
        points += [(x + bend * out_x, y + bend * out_y), (x + radius * out_x, y + radius * out_y)]
        codes += [Path.LINETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    return Path([*points, points[0]], [*codes, Path.CLOSEPOLY])
