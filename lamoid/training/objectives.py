"""What is minimised: named terms, each a sum, a count and a weight, so that batches may be cut anywhere."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from lamoid.assembly.batch import Batch
from lamoid.assembly.likelihood import IGNORED, token_nats
from lamoid.assembly.model import LanguageModel


class Example(Protocol):
    """What a loader gives: a batch to read, and for each of its tokens the one to be said, (B, T)."""

    @property
    def batch(self) -> Batch: ...

    @property
    def targets(self) -> Tensor: ...


@dataclass(frozen=True)
class Term:
    """A scalar ``sum`` with a gradient over ``count`` things; it enters the loss as weight x sum / count."""

    sum: Tensor
    count: int
    weight: float = 1.0


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
    """Score each next token: nats of (B, T) targets, those marked ``IGNORED`` left out."""
    targets = example.targets.to(model.device)
    nats = token_nats(model.hidden(example.batch.to(model.device)), model.logits, targets)
    return {"next_token": Term(nats.sum(), count_targets(example)["next_token"])}


def count_targets(example: Example) -> dict[str, int]:
    """Count the tokens to be said."""
    return {"next_token": int((example.targets != IGNORED).sum())}


OBJECTIVES = {"causal": Objective(causal, count_targets)}
