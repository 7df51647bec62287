"""The training loop: state, batches, objective, update, hooks."""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from lamoid.errors import InputError
from lamoid.freed_memory import keeping_freed_memory
from lamoid.training.guard import NoTarget
from lamoid.training.objectives import Example, Objective
from lamoid.training.state import TrainingState
from lamoid.training.term_losses import source_of

Hook = tuple[int, Callable[[TrainingState], None]]


def train_loop(
    state: TrainingState,
    batches: Iterator[Sequence[Example]],
    objective: Objective,
    update: Callable[[TrainingState, float | Tensor | None], None],
    hooks: Sequence[Hook],
) -> None:
    """Train until ``state.step`` is ``state.steps``; each of ``batches`` is a global batch, in parts that fit memory.

    A hook ``(every, function)`` is called with the state after each ``every``-th step and after the last; 0 for
    ``every`` means after the last step only. A batch without a target has the loss ``None``, and is
    left to ``update`` to refuse, like one whose loss is no number. On a CUDA device the loss is a tensor, and nobody
    waits for it here.
    """
    with keeping_freed_memory():
        while state.step < state.steps:
            begun = time.perf_counter()
            parts = next(batches)
            loss = _loss(state, parts, objective)
            update(state, loss)
            state.note(loss)
            state.terms.end_step()
            state.step += 1
            state.tokens += sum(part.batch.ids.numel() for part in parts)
            state.seconds += time.perf_counter() - begun
            for every, hook in hooks:
                if state.step == state.steps or (every and state.step % every == 0):
                    hook(state)


def _loss(state: TrainingState, parts: Sequence[Example], objective: Objective) -> float | Tensor | None:
    try:
        loss = _add_gradients(state, parts, objective)
    except NoTarget:
        return None
    return loss if loss.is_cuda else loss.item()


def compute_gradients(state: TrainingState, parts: Sequence[Example], objective: Objective) -> float:
    """Add the gradient of the global batch's loss to the parameters; give the loss. Raise ``NoTarget``."""
    return _add_gradients(state, parts, objective).item()


def _add_gradients(state: TrainingState, parts: Sequence[Example], objective: Objective) -> Tensor:
    totals = objective.total(parts)
    if not all(totals.values()):
        raise NoTarget(state.step + 1)
    reader, scale = state.reader, state.scale
    reader.train()
    losses = []
    for part in parts:
        terms = objective.terms(reader, part)
        share = torch.stack([term.weight * term.sum / totals[name] for name, term in terms.items()]).sum()
        (share if scale is None else scale.value * share).backward()
        state.collect()
        state.terms.note(source_of(part), terms)
        losses.append(share.detach().double())
    return torch.stack(losses).sum()


def grouped(examples: Iterator[Example], size: int) -> Iterator[Sequence[Example]]:
    """Join every ``size`` parts into one global batch."""
    while parts := tuple(islice(examples, size)):
        if len(parts) < size:
            raise InputError("data", "ended within a step", "give a loader that repeats")
        yield parts
