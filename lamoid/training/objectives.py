"""What is minimised: named terms, each a sum, a count and a weight, so that batches may be cut anywhere."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lamoid.assembly.batch import Batch, moved
from lamoid.assembly.likelihood import IGNORED, token_nats
from lamoid.assembly.model import LanguageModel, Reading


class Example(Protocol):
    """What a loader gives: a batch to read, and for each of its tokens the one to be said, (B, T)."""

    @property
    def batch(self) -> Batch: ...

    @property
    def targets(self) -> Tensor: ...


@dataclass(frozen=True)
class Term:
    """A scalar ``sum`` with a gradient over ``count`` things; it enters the loss as weight x sum / count.

    Where ``is_additive`` is false, the sum of a batch's parts is not the sum of the whole: that a batch may be cut
    anywhere is promised without such terms.
    """

    sum: Tensor
    count: int
    weight: float = 1.0
    is_additive: bool = True


Terms = dict[str, Term]


@dataclass(frozen=True)
class Objective:
    """``terms`` computes; ``counts`` says beforehand, without the model, how many things each term will count.

    The counts of a global batch are known before its first part is computed: that makes accumulation exact.
    """

    terms: Callable[[LanguageModel, Example], Terms]
    counts: Callable[[Example], dict[str, int]]

    def total(self, parts: Sequence[Example]) -> dict[str, int]:
        """Add up the counts of all parts of a global batch."""
        totals: dict[str, int] = {}
        for part in parts:
            for name, count in self.counts(part).items():
                totals[name] = totals.get(name, 0) + count
        return totals


def causal(model: LanguageModel, example: Example) -> Terms:
    """Score each next token: nats of (B, T) targets, those marked ``IGNORED`` left out; with ``balance``."""
    targets = moved(example.targets, model.device)
    reading = model.read(example.batch.to(model.device))
    nats = token_nats(reading.hidden, model.logits, targets)
    counts = count_targets(example)
    return {"next_token": Term(nats.sum(), counts["next_token"]), **balance(reading, counts["balance"])}


def count_targets(example: Example) -> dict[str, int]:
    """Count the tokens to be said, and those that are read."""
    batch = example.batch
    read = batch.ids.numel() if batch.segments is None else int((batch.segments != 0).sum())
    return {"next_token": int((example.targets != IGNORED).sum()), "balance": read}


def balance(reading: Reading, tokens: int) -> Terms:
    """Give the term that layers add to keep their experts equally busy, already weighed; none without such layers.

    It is worked out over each part of a batch by itself, so it is not additive: parts enter by their ``tokens``.
    """
    if not reading.balances:
        return {}
    weighed = torch.stack([part.weight * part.value for part in reading.balances]).sum()
    return {"balance": Term(weighed * tokens, tokens, is_additive=False)}


OBJECTIVES = {"causal": Objective(causal, count_targets)}
