"""The lines of figures that a run wrote, read back: the latest of each, and the curves of the losses."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from lamoid.contained import open_plain
from lamoid.errors import InputError

MOST_BYTES = 256 << 20
MOST_LINE_BYTES = 1 << 20
MOST_NAMES = 1000
TRAINING, VALIDATION = "loss", "validation_loss"


class Point(NamedTuple):
    """A loss after ``step`` steps; ``None`` where the lines do not tell how many tokens or hours those were."""

    step: int
    tokens: float | None
    hours: float | None
    loss: float


@dataclass
class Metrics:
    """What the lines hold: the latest value of each figure, both curves, and what could not be read.

    ``started`` is when the first step began, in seconds since 1970; ``rates`` are tokens and seconds of a step.
    """

    latest: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[Point]] = field(default_factory=lambda: {TRAINING: [], VALIDATION: []})
    started: float | None = None
    step: int = 0
    rates: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, entry: dict[str, Any]) -> None:
        """Take the figures of one line; what is no finite number is left out."""
        step = entry.get("step")
        if type(step) is not int or step < 0:
            return
        figures = {name: float(value) for name, value in entry.items() if _is_number(value)}
        self.step = max(self.step, step)
        for name, value in figures.items():
            if name in self.latest or (len(self.latest) < MOST_NAMES and len(name) <= 200):
                self.latest[name] = value
        self.rates |= {name: figures[name] / step for name in ("tokens", "seconds") if name in figures and step}
        if self.started is None and "time" in figures:
            self.started = figures["time"] - figures.get("seconds", 0.0)
        for name, curve in self.curves.items():
            if name in figures:
                seconds = self._so_far("seconds", step)
                hours = None if seconds is None else seconds / 3600
                curve.append(Point(step, self._so_far("tokens", step), hours, figures[name]))

    def _so_far(self, name: str, step: int) -> float | None:
        """Give tokens or seconds after ``step`` at the mean rate so far: lines of an evaluation do not say them."""
        return self.rates[name] * step if name in self.rates else None


def read_metrics(path: Path) -> Metrics:
    """Read the lines of ``path``; a last one that is torn is still being written, any other one is named.

    A file that cannot be read, or is larger than 256 MiB, is named and read no further.
    """
    metrics = Metrics()
    if not os.path.lexists(path):
        return metrics
    try:
        broken = _read_into(metrics, path)
    except InputError as error:
        metrics.problems.append(str(error))
        return metrics
    except OSError as error:
        metrics.problems.append(f"{path}: reading failed ({error.strerror})")
        return metrics
    if broken:
        metrics.problems.append(f"{path}: {len(broken)} of its lines are no figures, the first is line {broken[0]}")
    return metrics


def _read_into(metrics: Metrics, path: Path) -> list[int]:
    """Add up the lines; give the numbers of those that are no JSON objects."""
    broken: list[int] = []
    for number, line in _lines(path):
        try:
            entry: Any = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError):
            broken.append(number)
            continue
        if isinstance(entry, dict):
            metrics.add(entry)
        else:
            broken.append(number)
    return broken


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    descriptor, size = open_plain(path)
    with os.fdopen(descriptor, "rb") as file:
        if size > MOST_BYTES:
            raise InputError(path, f"{size} bytes, the limit is {MOST_BYTES}", "log less often")
        number = 0
        while line := file.readline(MOST_LINE_BYTES):
            number += 1
            if line.endswith(b"\n"):
                yield number, line
            elif len(line) == MOST_LINE_BYTES:
                raise InputError(path, f"line {number} is longer than {MOST_LINE_BYTES} bytes", "check the file")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)
