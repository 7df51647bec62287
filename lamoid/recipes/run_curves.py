"""The losses of runs as curves, thinned so that a picture of a million steps is small; and as a PNG."""

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

from lamoid.errors import InputError
from lamoid.recipes.recorded_metrics import TRAINING, VALIDATION, Point
from lamoid.recipes.recorded_run import RecordedRun

Over = Literal["steps", "tokens", "hours"]
OVERS: tuple[Over, ...] = ("steps", "tokens", "hours")
COLOURS = ("#2a6099", "#c1440e", "#3a7d34", "#8a4fa8", "#a8812a", "#2b8a8a", "#a83a63", "#555555")
_MOST_POINTS = 500
_SETTLED = 0.05
"""The first share of a run, whose high losses may stand above the picture."""


class Curve(NamedTuple):
    """One line of a picture: ``kind`` is training or validation, ``points`` are places on the axis with losses."""

    name: str
    kind: Literal["training", "validation"]
    colour: str
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Picture:
    """The curves over one axis; ``low`` and ``high`` bound the losses that are shown."""

    over: Over
    curves: list[Curve]
    low: float
    high: float

    @property
    def end(self) -> float:
        """Give the last place on the axis."""
        return max(x for curve in self.curves for x, _ in curve.points)


def picture(runs: Mapping[str, RecordedRun], over: Over) -> Picture | None:
    """Gather the curves of runs, by the names they are shown under; ``None`` if none has one over this axis."""
    curves: list[Curve] = []
    for number, (name, run) in enumerate(runs.items()):
        colour = COLOURS[number % len(COLOURS)]
        training = _points(run.metrics.curves[TRAINING], over)
        validation = _points(run.metrics.curves[VALIDATION], over)
        if training:
            curves.append(Curve(name, "training", colour, thinned(training)))
        if validation:
            curves.append(Curve(name, "validation", colour, thinned(validation)))
    if not curves:
        return None
    settled = [loss for curve in curves for loss in _settled(curve.points)]
    low, high = min(settled), max(settled)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return Picture(over, curves, low - margin, high + margin)


def thinned(points: Sequence[tuple[float, float]], most: int = _MOST_POINTS) -> list[tuple[float, float]]:
    """Average neighbours until at most ``most`` points are left; the last point stays as it is."""
    if len(points) <= most:
        return list(points)
    edges = [round(at * (len(points) - 1) / (most - 1)) for at in range(most)]
    buckets = [points[begin:end] for begin, end in pairwise(edges)]
    means = [(sum(x for x, _ in b) / len(b), sum(y for _, y in b) / len(b)) for b in buckets]
    return [*means, points[-1]]


def draw_png(shown: Picture, title: str) -> bytes:
    """Draw a picture as PNG; ``InputError`` without the extra that draws."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("--png", "matplotlib is missing", "pip install 'lamoid[eval]', or ask for --html") from error
    figure = Figure(figsize=(9, 5.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for curve in shown.curves:
        style: dict[str, Any] = (
            {"linewidth": 0.9, "alpha": 0.55} if curve.kind == "training" else {"marker": "o", "markersize": 3}
        )
        places, losses = zip(*curve.points, strict=True)
        # A name that begins with an underscore would be kept out of the legend.
        axes.plot(places, losses, color=curve.colour, label=f"\u200b{curve.name}, {curve.kind}", **style)
    axes.set(xlabel=shown.over, ylabel="loss", ylim=(shown.low, shown.high))
    axes.set_title(title, parse_math=False)
    axes.grid(alpha=0.3)
    for text in axes.legend(fontsize=8).get_texts():
        text.set_parse_math(False)
    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in a script that the font lacks
        figure.savefig(data, format="png", metadata={"Software": None})
    return data.getvalue()


def _points(curve: Sequence[Point], over: Over) -> list[tuple[float, float]]:
    places = [{"steps": point.step, "tokens": point.tokens, "hours": point.hours}[over] for point in curve]
    return [(place, point.loss) for place, point in zip(places, curve, strict=True) if place is not None]


def _settled(points: Sequence[tuple[float, float]]) -> list[float]:
    return [loss for _, loss in points[int(len(points) * _SETTLED) :]]
