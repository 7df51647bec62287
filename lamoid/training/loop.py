"""The training loop: state, batches, objective, update, hooks."""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import torch

from lamoid.errors import InputError
from lamoid.training.objectives import Example, Objective
from lamoid.training.state import TrainingState
from lamoid.training.update import check_finite

Hook = tuple[int, Callable[[TrainingState], None]]


def train_loop(
    state: TrainingState,
    batches: Iterator[Sequence[Example]],
    objective: Objective,
    update: Callable[[TrainingState], None],
    hooks: Sequence[Hook],
) -> None:
    """Train until ``state.step`` is ``state.steps``; each of ``batches`` is a global batch, in parts that fit memory.

    A hook ``(every, function)`` is called with the state after each ``every``-th step and after the last; 0 for
    ``every`` means after the last step only. Raise ``TrainingDiverged``.
    """
    while state.step < state.steps:
        begun = time.perf_counter()
        state.model.train()
        parts = next(batches)
        loss = compute_gradients(state, parts, objective)
        update(state)
        state.losses.append(loss)
        state.step += 1
        state.tokens += sum(part.batch.ids.numel() for part in parts)
        state.seconds += time.perf_counter() - begun
        for every, hook in hooks:
            if state.step == state.steps or (every and state.step % every == 0):
                hook(state)


def compute_gradients(state: TrainingState, parts: Sequence[Example], objective: Objective) -> float:
    """Add the gradient of the global batch's loss to the parameters; give the loss."""
    totals = objective.total(parts)
    if not all(totals.values()):
        raise InputError("data", f"the batch of step {state.step + 1} has no target", "use longer documents")
    loss = 0.0
    for part in parts:
        with state.arithmetic():
            terms = objective.terms(state.model, part)
            share = torch.stack([term.weight * term.sum / totals[name] for name, term in terms.items()]).sum()
        share.backward()
        loss += share.item()
    check_finite(state, "loss", loss)
    return loss


def grouped(examples: Iterator[Example], size: int) -> Iterator[Sequence[Example]]:
    """Join every ``size`` parts into one global batch."""
    while parts := tuple(islice(examples, size)):
        if len(parts) < size:
            raise InputError("data", "ended within a step", "give a loader that repeats")
        yield parts
