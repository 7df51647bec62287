"""A picture of figures with their intervals, as PNG, if matplotlib is there (the extra ``eval``)."""

import importlib.util
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

NO_MATPLOTLIB = "No picture was drawn: matplotlib is missing (pip install 'lamoid[eval]')."
COLOURS = {"base": "#7f7f7f", "member": "#1f77b4", "uniform": "#9467bd", "fused": "#d62728"}


class Row(NamedTuple):
    """One model: what it is called, its figure, the interval, its kind (a key of ``COLOURS``) and weight."""

    label: str
    value: float
    interval: tuple[float, float] | None
    kind: str = "member"
    weight: float | None = None


def can_draw() -> bool:
    """Say whether matplotlib is installed; it is imported only when something is drawn."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_intervals(panels: Mapping[str, Sequence[Row]], *, axis: str) -> bytes:
    """Draw one line a model: a dot at its figure, a bar over its 95 % interval; a PNG.

    ``panels`` maps titles to rows. Several stand side by side, name the same models and share their labels.
    """
    from matplotlib.figure import Figure

    height = 1.2 + 0.45 * max(map(len, panels.values()))
    figure = Figure(figsize=(8.0 if len(panels) == 1 else 4.0 * len(panels), height), layout="constrained")
    row_of_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, rows) in zip(row_of_axes, panels.items(), strict=True):
        _draw_panel(axes, rows)
        axes.set_title(title, parse_math=False)
        axes.set_xlabel(axis)
    first = next(iter(panels.values()))
    row_of_axes[0].set_yticks(range(len(first)), [_label(row) for row in first])
    row_of_axes[0].invert_yaxis()
    for label in row_of_axes[0].get_yticklabels():
        label.set_parse_math(False)
    return as_png(figure)


def draw_weights(weights: Mapping[str, float], *, title: str) -> bytes:
    """Draw one bar a member, as long as its weight; a PNG. A line marks what each would have in equal shares."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 1.2 + 0.45 * len(weights)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(weights)), list(weights.values()), color=COLOURS["member"], height=0.6)
    axes.axvline(sum(weights.values()) / len(weights), color=COLOURS["uniform"], linestyle="--")
    axes.set_yticks(range(len(weights)), [f"{shorten(name)}  {weight:.3f}" for name, weight in weights.items()])
    axes.invert_yaxis()
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set_title(title, parse_math=False)
    axes.set_xlabel("weight; dashed: equal shares")
    return as_png(figure)


def as_png(figure: Any) -> bytes:
    """Write a figure of matplotlib as a PNG that holds no date and no version."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font lacks
        figure.savefig(picture, format="png", dpi=120, metadata={"Software": None})
    return picture.getvalue()


def _draw_panel(axes: Any, rows: Sequence[Row]) -> None:
    for place, row in enumerate(rows):
        colour = COLOURS[row.kind]
        axes.plot(
            row.interval or (row.value, row.value),
            (place, place),
            color=colour,
            linewidth=3,
            alpha=0.45,
            solid_capstyle="butt",
        )
        axes.plot((row.value,), (place,), "o", color=colour, markersize=7)
    axes.grid(axis="x", alpha=0.3)


def _label(row: Row) -> str:
    name = shorten(row.label)
    return name if row.weight is None else f"{name}  (weight {row.weight:.3f})"


def shorten(name: str) -> str:
    """Cut a long name to its last 29 characters."""
    return name if len(name) <= 32 else "..." + name[-29:]
