"""A picture of figures with their intervals, as PNG, if matplotlib is there (the extra ``eval``)."""

import importlib.util
import io
import warnings
from collections.abc import Sequence
from typing import NamedTuple

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


def draw_intervals(rows: Sequence[Row], *, title: str, axis: str) -> bytes:
    """Draw one line a model, best read from above: a dot at its figure, a bar over its 95 % interval."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 1.2 + 0.45 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
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
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel(axis)
    axes.set_title(title, parse_math=False)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font lacks
        figure.savefig(picture, format="png", dpi=120, metadata={"Software": None})
    return picture.getvalue()


def _label(row: Row) -> str:
    name = row.label if len(row.label) <= 32 else "..." + row.label[-29:]
    return name if row.weight is None else f"{name}  (weight {row.weight:.3f})"
