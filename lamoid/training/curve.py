"""The picture of a run: training and validation loss over steps, and below it the terms of the loss."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lamoid.training.state import TrainingState
from lamoid.weights.durable import durable_file


def draw_curve(state: TrainingState, path: Path, title: str) -> bool:
    """Write the losses of ``state`` as a PNG, its terms in a panel of their own if there are several.

    Give false without the extra that draws.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    terms = state.terms.curves()
    panels = 2 if len(terms) > 1 else 1
    figure = Figure(figsize=(8, 5 * panels), dpi=120)
    axes = figure.add_subplot(panels, 1, 1)
    span = max(1, len(state.losses) // 200)
    axes.plot(range(1, len(state.losses) + 1), state.losses, color="#b8cbe0", linewidth=0.5)
    axes.plot(*_smoothed(state.losses, span), color="#2a6099", label=f"training, mean of {span} steps")
    if state.validations:
        steps, losses = zip(*state.validations, strict=True)
        label = f"validation, {losses[-1]:.4f} at the end"
        axes.plot(steps, losses, color="#c1440e", marker="o", markersize=3, label=label)
    axes.set(xlabel="step", ylabel="loss, nats a token" if panels == 1 else "loss")
    axes.set_title(title, parse_math=False)
    axes.grid(alpha=0.3)
    axes.legend()
    if panels > 1:
        _draw_terms(figure.add_subplot(panels, 1, 2), terms)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    durable_file(path, picture.getvalue())
    return True


def _draw_terms(axes: Any, terms: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """Draw the loss of each term over the steps that have it, so that together they are the whole."""
    for name, points in terms.items():
        span = max(1, len(points) // 200)
        places, losses = _smoothed([loss for _, loss in points], span)
        axes.plot([points[place - 1][0] for place in places], losses, label=name)
    axes.set(xlabel="step", ylabel="term of the loss, weighed")
    axes.grid(alpha=0.3)
    for text in axes.legend().get_texts():
        text.set_parse_math(False)


def _smoothed(losses: Sequence[float], span: int) -> tuple[list[int], list[float]]:
    """Average every ``span`` losses; a point stands at the middle of its steps."""
    starts = range(0, len(losses) - span + 1, span)
    return [start + (span + 1) // 2 for start in starts], [sum(losses[i : i + span]) / span for i in starts]
