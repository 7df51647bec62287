"""What encoders are pre-trained on: masked tokens, and questions about a pair of texts."""

from collections.abc import Callable
from typing import Protocol, cast

from torch import Tensor

from lamoid.assembly.batch import Batch, moved
from lamoid.assembly.likelihood import IGNORED, token_nats
from lamoid.assembly.model import LanguageModel, Reading
from lamoid.assembly.task_heads import NextSentenceSpec
from lamoid.errors import InputError
from lamoid.training.objectives import Example, Objective, Term, Terms, balance, count_targets


class PairExample(Example, Protocol):
    """Texts in pairs, with the answer (B,) to what is asked of each pair."""

    @property
    def labels(self) -> Tensor: ...


def masked(model: LanguageModel, example: Example) -> Terms:
    """Score each masked token: nats of (B, T) targets under the default head; with ``balance``."""
    reading = model.read(example.batch.to(model.device))
    counts = count_masked(example)
    return {"masked": masked_term(model, reading, example), **balance(reading, counts["balance"])}


def masked_term(model: LanguageModel, reading: Reading, example: Example) -> Term:
    """Sum up the nats of the masked tokens; the head sees these alone, which are a seventh of all."""
    places, targets = asked(example.targets)
    chosen = reading.hidden.flatten(0, 1)[moved(places, model.device)]
    return Term(token_nats(chosen, model.logits, moved(targets, model.device)).sum(), len(places))


def asked(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Give the places in the flattened batch that have a target, and these; where the example lies, on the CPU."""
    flat = targets.reshape(-1)
    places = (flat != IGNORED).nonzero()[:, 0]
    return places, flat[places]


def count_masked(example: Example) -> dict[str, int]:
    """Count the masked tokens, and those that are read."""
    counts = count_targets(example)
    return {"masked": counts["next_token"], "balance": counts["balance"]}


def pairs(name: str) -> Objective:
    """Make the objective of masked tokens and a question about each pair, whose term is called ``name``."""

    def terms(model: LanguageModel, example: PairExample) -> Terms:
        batch = example.batch.to(model.device)
        reading = model.read(batch)
        found = {"masked": masked_term(model, reading, example), name: _answered(model, reading, batch, example)}
        return found | balance(reading, count_masked(example)["balance"])

    def counts(example: PairExample) -> dict[str, int]:
        return {**count_masked(example), name: int((example.labels != IGNORED).sum())}

    # The loop hands on the examples that the recipe's view made: here pairs.
    return Objective(
        cast("Callable[[LanguageModel, Example], Terms]", terms), cast("Callable[[Example], dict[str, int]]", counts)
    )


def _answered(model: LanguageModel, reading: Reading, batch: Batch, example: PairExample) -> Term:
    logits = model.answer(reading.hidden, batch, pair_head(model))
    nats = token_nats(logits, _as_they_are, moved(example.labels, model.device))
    return Term(nats.sum(), int((example.labels != IGNORED).sum()))


def _as_they_are(logits: Tensor) -> Tensor:
    return logits


def pair_head(model: LanguageModel) -> str:
    """Give the name of the head that tells of a pair; ``InputError`` if there is none."""
    for name, head in model.spec.heads.items():
        if isinstance(head, NextSentenceSpec):
            return name
    raise InputError("model.heads", "have none that tells of a pair", 'add one of kind "next_sentence"')


MASKED = Objective(masked, count_masked)
NEXT_SENTENCE = pairs("next_sentence")
SENTENCE_ORDER = pairs("sentence_order")
