"""The picture of a run: training and validation loss over steps."""

import io
from collections.abc import Sequence
from pathlib import Path

from lamoid.training.state import TrainingState
from lamoid.weights.durable import durable_file


def draw_curve(state: TrainingState, path: Path, title: str) -> bool:
    """Write the losses of ``state`` as a PNG; false without the extra that draws."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=(8, 5), dpi=120)
    axes = figure.add_subplot()
    span = max(1, len(state.losses) // 200)
    axes.plot(range(1, len(state.losses) + 1), state.losses, color="#b8cbe0", linewidth=0.5)
    axes.plot(*_smoothed(state.losses, span), color="#2a6099", label=f"training, mean of {span} steps")
    if state.validations:
        steps, losses = zip(*state.validations, strict=True)
        label = f"validation, {losses[-1]:.4f} at the end"
        axes.plot(steps, losses, color="#c1440e", marker="o", markersize=3, label=label)
    axes.set(xlabel="step", ylabel="loss, nats a token", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    durable_file(path, picture.getvalue())
    return True


def _smoothed(losses: Sequence[float], span: int) -> tuple[list[int], list[float]]:
    """Average every ``span`` losses; a point stands at the middle of its steps."""
    starts = range(0, len(losses) - span + 1, span)
    return [start + (span + 1) // 2 for start in starts], [sum(losses[i : i + span]) / span for i in starts]
