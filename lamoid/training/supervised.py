"""Objectives that learn what people said about texts: classes, labels, tags, spans and numbers.

Each is answered by the model's default head. What is written, an answer or a target text, is the causal objective's.
"""

from torch import Tensor, nn

from lamoid.assembly.batch import Batch, moved
from lamoid.assembly.likelihood import IGNORED, token_nats
from lamoid.assembly.model import LanguageModel, Reading
from lamoid.training.objectives import OBJECTIVES, Example, Objective, Term, Terms, balance, count_targets

_NEVER = -1e9
"""The logit of a place that is no answer: finite, for -inf times a gradient of 0 is no number."""


def classes(model: LanguageModel, example: Example) -> Terms:
    """Score each text's class: nats of (B,) class numbers."""
    reading, _, nats = read_classes(model, example)
    return {"classes": Term(nats.sum(), len(nats)), **balance(reading, count_classes(example)["balance"])}


def read_classes(model: LanguageModel, example: Example) -> tuple[Reading, Tensor, Tensor]:
    """Give what the trunk read, the logits (B, count), and the nats (B,) of the targets."""
    reading, logits = answer(model, example)
    return reading, logits, token_nats(logits, _as_they_are, moved(example.targets, model.device))


def count_classes(example: Example) -> dict[str, int]:
    """Count the texts, and the tokens that are read."""
    return {"classes": len(example.targets), "balance": _read(example)}


def labels(model: LanguageModel, example: Example) -> Terms:
    """Score each label of each text: nats of (B, count) targets, 1 where the label holds, under sigmoids."""
    reading, logits = answer(model, example)
    targets = moved(example.targets, model.device)
    nats = nn.functional.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="sum")
    return {"labels": Term(nats, targets.numel()), **balance(reading, _read(example))}


def count_labels(example: Example) -> dict[str, int]:
    """Count the labels of all texts, and the tokens that are read."""
    return {"labels": example.targets.numel(), "balance": _read(example)}


def regression(model: LanguageModel, example: Example) -> Terms:
    """Score each number: squares of the distances to (B, count) targets."""
    reading, numbers = answer(model, example)
    targets = moved(example.targets, model.device)
    squares = (numbers.float() - targets.float()).square().sum()
    return {"regression": Term(squares, targets.numel()), **balance(reading, _read(example))}


def count_numbers(example: Example) -> dict[str, int]:
    """Count the numbers, and the tokens that are read."""
    return {"regression": example.targets.numel(), "balance": _read(example)}


def tags(model: LanguageModel, example: Example) -> Terms:
    """Score each tag: nats of (B, T) tag numbers, those marked ``IGNORED`` left out."""
    reading, logits = answer(model, example)
    nats = token_nats(logits, _as_they_are, moved(example.targets, model.device))
    return {"tags": Term(nats.sum(), count_tags(example)["tags"]), **balance(reading, _read(example))}


def count_tags(example: Example) -> dict[str, int]:
    """Count the tokens that have a tag, and those that are read."""
    return {"tags": int((example.targets != IGNORED).sum()), "balance": _read(example)}


def spans(model: LanguageModel, example: Example) -> Terms:
    """Score where each answer begins and ends: nats of (B, 2) places among a row's tokens, each half the loss.

    As Devlin et al. (2019) do, an answer that is not there is at the first token. Padding is no place.
    """
    reading, logits = span_logits(model, example)
    targets = moved(example.targets, model.device)
    terms: Terms = {}
    for side, name in enumerate(("begin", "end")):
        nats = token_nats(logits[..., side], _as_they_are, targets[:, side])
        terms[name] = Term(nats.sum(), len(nats), 0.5)
    return terms | balance(reading, _read(example))


def span_logits(model: LanguageModel, example: Example) -> tuple[Reading, Tensor]:
    """Give what the trunk read, and (B, T, 2) logits that are never chosen where padding is."""
    reading, logits = answer(model, example)
    segments = example.batch.segments
    if segments is not None:
        logits = logits.float().masked_fill(moved(segments == 0, logits.device)[..., None], _NEVER)
    return reading, logits


def count_spans(example: Example) -> dict[str, int]:
    """Count the answers, and the tokens that are read."""
    return {"begin": len(example.targets), "end": len(example.targets), "balance": _read(example)}


def answer(model: LanguageModel, example: Example) -> tuple[Reading, Tensor]:
    """Give what the trunk read, and what the default head says of it."""
    batch: Batch = example.batch.to(model.device)
    reading = model.read(batch)
    return reading, model.answer(reading.hidden, batch)


def _read(example: Example) -> int:
    return count_targets(example)["balance"]


def _as_they_are(logits: Tensor) -> Tensor:
    return logits


SUPERVISED = {
    "classes": Objective(classes, count_classes),
    "labels": Objective(labels, count_labels),
    "regression": Objective(regression, count_numbers),
    "tags": Objective(tags, count_tags),
    "spans": Objective(spans, count_spans),
    "sequence": OBJECTIVES["causal"],
    "chat": OBJECTIVES["causal"],
}
