"""What happens every so many steps beside the training itself: each hook is made here and handed to the loop."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from lamoid.errors import InputError
from lamoid.training.figures_written import Figures, Writer
from lamoid.training.meter import Meter
from lamoid.training.objectives import Example, Objective
from lamoid.training.state import TrainingState
from lamoid.training.term_losses import source_of


@dataclass(frozen=True)
class Measured:
    """The objective's ``loss`` over examples, and its parts: each term's, named TERM and with sources SOURCE/TERM."""

    loss: float
    parts: Figures


def log(meter: Meter, every: int, writers: Iterable[Writer]) -> Callable[[TrainingState], None]:
    """Make the hook that hands each writer the step and its figures."""

    def hook(state: TrainingState) -> None:
        figures = meter.figures(state, every)
        for write in writers:
            write(state.step, figures)

    return hook


def evaluate(
    examples: Callable[[], Iterable[Example]],
    objective: Objective,
    writers: Iterable[Writer],
    keep: Callable[[TrainingState], object] | None = None,
) -> Callable[[TrainingState], None]:
    """Make the hook that measures the validation loss and hands the model to ``keep`` when it is the best so far."""

    def hook(state: TrainingState) -> None:
        measured = measure(state, examples(), objective)
        state.validations.append((state.step, measured.loss))
        parts = {f"validation_loss/{name}": loss for name, loss in measured.parts.items()}
        for write in writers:
            write(state.step, {"validation_loss": measured.loss, **parts})
        if keep is not None and state.best == (state.step, measured.loss):
            keep(state)

    return hook


def measure_loss(state: TrainingState, examples: Iterable[Example], objective: Objective) -> float:
    """Give the objective's loss over all ``examples``, in the run's own arithmetic; sums and counts are added first."""
    return measure(state, examples, objective).loss


@torch.no_grad()
def measure(state: TrainingState, examples: Iterable[Example], objective: Objective) -> Measured:
    """Give the loss over all ``examples``, in the run's own arithmetic, and its parts; sums and counts come first."""
    sums: dict[tuple[str, str], float] = {}
    counts: dict[tuple[str, str], int] = {}
    reader = state.reader
    reader.eval()
    for example in examples:
        terms = objective.terms(reader, example)
        source = source_of(example)
        for name, term in terms.items():
            for key in dict.fromkeys([("", name), (source, name)]):
                sums[key] = sums.get(key, 0.0) + term.weight * term.sum.item()
                counts[key] = counts.get(key, 0) + term.count
    if not counts or not all(count for (source, _), count in counts.items() if not source):
        raise InputError("validation", "has no token to be said", "give a longer text")
    parts = {"/".join(filter(None, key)): sums[key] / count for key, count in counts.items() if count}
    return Measured(sum(total / counts[key] for key, total in sums.items() if not key[0]), parts)
