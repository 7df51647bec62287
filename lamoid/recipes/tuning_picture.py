"""The picture of a search: the losses in their order, and over each key that was searched."""

import io
import warnings
from collections.abc import Sequence
from typing import Any

from lamoid.recipes.tuning_space import SearchedKey
from lamoid.recipes.tuning_study import Trial


def draw_tuning(keys: Sequence[SearchedKey], trials: Sequence[Trial]) -> bytes:
    """Draw the trials that have a loss as dots, the lowest so far as a line, and one panel a key; a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.0 * (1 + len(keys)), 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    first, *rest = figure.subplots(1, 1 + len(keys), sharey=True, squeeze=False)[0]
    done = [trial for trial in trials if trial.state == "done" and trial.loss is not None]
    _draw_order(first, trials, done)
    for axes, key in zip(rest, keys, strict=True):
        _draw_key(axes, key, done)
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a value in a script that the font lacks
        figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()


def _draw_order(axes: Any, trials: Sequence[Trial], done: Sequence[Trial]) -> None:
    losses = [trial.loss for trial in done if trial.loss is not None]
    axes.plot([trial.number for trial in done], losses, "o", color="#2a6099", label="run")
    given_up = [(trial.number, trial.losses[-1][1]) for trial in trials if trial.state == "abandoned"]
    if given_up:
        axes.plot(*zip(*given_up, strict=True), "x", color="#999999", label="given up on the way")
    lowest = [min(losses[: index + 1]) for index in range(len(losses))]
    axes.step([trial.number for trial in done], lowest, where="post", color="#c1440e", label="lowest so far")
    axes.set(xlabel="run", ylabel="validation loss, nats")
    axes.grid(alpha=0.3)
    axes.legend()


def _draw_key(axes: Any, key: SearchedKey, done: Sequence[Trial]) -> None:
    known = [trial for trial in done if trial.values]
    values = [trial.values[key.key] for trial in known]
    places = [key.choices.index(str(value)) for value in values] if key.choices else values
    colours = [trial.number for trial in known]
    axes.scatter(places, [trial.loss for trial in known], c=colours, cmap="viridis_r", edgecolor="#444444")
    if key.choices:
        axes.set_xticks(range(len(key.choices)), key.choices)
        for label in axes.get_xticklabels():
            label.set_parse_math(False)
    elif key.is_log:
        axes.set_xscale("log")
    axes.set_xlabel(key.key, parse_math=False)
    axes.grid(alpha=0.3)
