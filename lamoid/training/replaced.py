"""Replaced-token detection (ELECTRA, Clark et al., 2020): which tokens of a text did a small masked model put there?"""

from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor

from lamoid.assembly.batch import Batch, moved
from lamoid.assembly.group import ModelGroup
from lamoid.assembly.likelihood import token_nats
from lamoid.assembly.model import LanguageModel
from lamoid.training.masked import asked, count_masked
from lamoid.training.objectives import Example, Objective, Term, Terms, balance

DISCRIMINATOR, GENERATOR = "discriminator", "generator"
_NUMBERS_AT_ONCE = 1 << 24


class DrawnExample(Example, Protocol):
    """A masked batch with a number from 0 to 1 for each place, which decides what the generator puts there."""

    @property
    def draws(self) -> Tensor: ...


def replaced(weight: float) -> Objective:
    """Make the objective: the generator's nats of each masked token, the discriminator's of each token, weighed.

    The generator's sample at a place is where the place's number falls in the cumulated probabilities of its softmax:
    the numbers come with the data, so a run that goes on samples the same, and a row's sample is its own. No gradient
    flows through it.
    """

    def terms(model: LanguageModel, example: DrawnExample) -> Terms:
        group = cast("ModelGroup", model)
        generator, discriminator = group.member(GENERATOR), group.member(DISCRIMINATOR)
        batch = example.batch.to(group.device)
        counts = count(example)
        places, targets = (moved(found, group.device) for found in asked(example.targets))
        given = generator.read(batch)
        chosen = given.hidden.flatten(0, 1)[places]
        nats = token_nats(chosen, generator.logits, targets)
        drawn = moved(example.draws.reshape(-1), group.device)[places]
        put, is_other = put_in(batch, places, targets, sample(chosen.detach(), generator, drawn))
        read = discriminator.read(put)
        told = discriminator.answer(read.hidden, put).squeeze(-1)
        found = _detection_nats(told, is_other, batch.segments)
        return {
            "masked": Term(nats.sum(), counts["masked"]),
            "replaced": Term(found.sum(), counts["replaced"], weight),
            **balance(read, counts["balance"]),
        }

    def count(example: Example) -> dict[str, int]:
        counts = count_masked(example)
        return {**counts, "replaced": counts["balance"]}

    # The loop hands on whatever model and examples it was given: here a group, and examples that hold draws.
    return Objective(cast("Callable[[LanguageModel, Example], Terms]", terms), count)


@torch.no_grad()
def sample(hidden: Tensor, generator: LanguageModel, draws: Tensor) -> Tensor:
    """Draw a token (N,) for each of the generator's vectors (N, C), at temperature 1, in pieces."""
    rows = max(1, _NUMBERS_AT_ONCE // generator.spec.vocab)
    found = [
        inverse(generator.logits(part).float().softmax(-1), drawn)
        for part, drawn in zip(hidden.split(rows), draws.split(rows), strict=True)
    ]
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.long, device=hidden.device)


def inverse(shares: Tensor, draws: Tensor) -> Tensor:
    """Give the token (N,) in whose share of the probabilities (N, vocab), laid end to end, each number (N,) falls."""
    ends = shares.double().cumsum(-1)
    # Rounding must not carry a number beyond the last token that has any probability.
    reached = (draws.double() * ends[:, -1]).clamp(max=torch.nextafter(ends[:, -1], ends.new_zeros(())))[:, None]
    return torch.searchsorted(ends, reached, right=True)[:, 0].clamp(max=shares.shape[-1] - 1)


def put_in(batch: Batch, places: Tensor, targets: Tensor, sampled: Tensor) -> tuple[Batch, Tensor]:
    """Give the batch with the samples in the masked places, and where (B, T) that is not the token that was there."""
    ids = batch.ids.flatten().index_copy(0, places, sampled)
    is_other = torch.zeros_like(ids, dtype=torch.bool).index_copy(0, places, sampled != targets)
    changed = Batch(ids.view_as(batch.ids), batch.segments, batch.types, batch.source, batch.streams)
    return changed, is_other.view_as(batch.ids)


def _detection_nats(told: Tensor, is_other: Tensor, segments: Tensor | None) -> Tensor:
    """Give -log p(replaced or not) (B, T) in nats; 0 for padding."""
    nats = torch.nn.functional.binary_cross_entropy_with_logits(told.float(), is_other.float(), reduction="none")
    return nats if segments is None else nats * (segments != 0)
