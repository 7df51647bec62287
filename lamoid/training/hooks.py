"""What happens every so many steps beside the training itself: each hook is made here and handed to the loop."""

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from lamoid.errors import InputError
from lamoid.training.objectives import Example, Objective
from lamoid.training.state import TrainingState
from lamoid.weights.durable import NotCommitted, durable_file

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Meter:
    """Works out a log line's figures; ``peak`` is what the machine does in a second.

    ``flops`` gives those of one trained token, averaged over the first so many steps: moves change the model.
    """

    flops: Callable[[int], float]
    peak: float

    def figures(self, state: TrainingState, steps: int) -> dict[str, float]:
        """Give loss (the mean of the last ``steps`` steps), rates and share of peak."""
        speed = state.tokens / state.seconds if state.seconds else 0.0
        return {
            "loss": state.recent_loss(steps),
            "learning_rate": state.optimizer.learning_rates[0] * state.share,
            "gradient_norm": state.gradient_norm,
            "tokens_per_second": speed,
            "share_of_peak": speed * self.flops(state.step) / self.peak,
        }


def log(meter: Meter, every: int, writers: Iterable[Callable[[int, Figures], None]]) -> Callable[[TrainingState], None]:
    """Make the hook that hands each writer the step and its figures."""

    def hook(state: TrainingState) -> None:
        figures = meter.figures(state, every)
        for write in writers:
            write(state.step, figures)

    return hook


def evaluate(
    examples: Callable[[], Iterable[Example]],
    objective: Objective,
    writers: Iterable[Callable[[int, Figures], None]],
    keep: Callable[[TrainingState], None] | None = None,
) -> Callable[[TrainingState], None]:
    """Make the hook that measures the validation loss and hands the model to ``keep`` when it is the best so far."""

    def hook(state: TrainingState) -> None:
        loss = measure_loss(state, examples(), objective)
        state.validations.append((state.step, loss))
        for write in writers:
            write(state.step, {"validation_loss": loss})
        if keep is not None and state.best == (state.step, loss):
            keep(state)

    return hook


@torch.no_grad()
def measure_loss(state: TrainingState, examples: Iterable[Example], objective: Objective) -> float:
    """Give the objective's loss over all ``examples``, in the run's own arithmetic; sums and counts are added first."""
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    state.model.eval()
    for example in examples:
        with state.arithmetic():
            terms = objective.terms(state.model, example)
        for name, term in terms.items():
            sums[name] = sums.get(name, 0.0) + term.weight * term.sum.item()
            counts[name] = counts.get(name, 0) + term.count
    if not counts or not all(counts.values()):
        raise InputError("validation", "has no token to be said", "give a longer text")
    return sum(sums[name] / counts[name] for name in sums)


class JsonLines:
    """Appends one JSON object a line to a file; a line is written in one call, or taken back."""

    def __init__(self, path: Path, *, after: int) -> None:
        """Keep the whole lines of up to step ``after`` of an earlier run, drop the rest."""
        self.path = path
        kept = [line for line in _lines(path) if _step(line) <= after] if after else []
        durable_file(path, b"".join(kept))

    def __call__(self, step: int, figures: Mapping[str, Any]) -> None:
        """Append the figures of one step."""
        line = msgspec.json.encode({"step": step, **figures}) + b"\n"
        with _written(self.path):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                before = os.fstat(descriptor).st_size
                if os.write(descriptor, line) < len(line):
                    os.ftruncate(descriptor, before)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(descriptor)


def tensorboard(folder: Path, *, after: int) -> tuple[Callable[[int, Figures], None], Callable[[], None]] | None:
    """Make a writer of TensorBoard's event files and the function that closes it; ``None`` without the extra."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    with _written(folder):
        events = SummaryWriter(str(folder), purge_step=after + 1 if after else None)

    def write(step: int, figures: Figures) -> None:
        with _written(folder):
            for name, value in figures.items():
                events.add_scalar(name, value, step)

    def close() -> None:
        with _written(folder):
            events.close()

    return write, close


@contextmanager
def _written(place: Path) -> Iterator[None]:
    """Turn a disk's error into the one that says so."""
    try:
        yield
    except OSError as error:
        problem = f"{place}: the figures were not written ({error.strerror or error})"
        raise NotCommitted(error.errno, problem) from error


def _lines(path: Path) -> list[bytes]:
    """Give the whole lines of a file, without a last one that was torn."""
    data = path.read_bytes() if path.exists() else b""
    return [line for line in data.splitlines(keepends=True) if line.endswith(b"\n")]


def _step(line: bytes) -> float:
    """Give a line's step; one that is no such JSON counts as later than any."""
    try:
        entry: Any = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return float("inf")
    step = entry.get("step") if isinstance(entry, dict) else None
    return step if isinstance(step, int) else float("inf")
