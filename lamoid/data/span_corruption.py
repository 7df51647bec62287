"""Span corruption as in T5 (Raffel et al., 2020): stretches of a text are cut out, and what they were is to be said."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from lamoid.assembly.batch import Batch
from lamoid.assembly.likelihood import IGNORED
from lamoid.data.draws import drawn_for
from lamoid.data.loader import TrainingBatch, Windows
from lamoid.errors import InputError
from lamoid.text.tokenizer import Tokenizer

Row = NDArray[np.int64]


def span_lengths(tokens: int, density: float, mean: float) -> tuple[int, int]:
    """Give how many tokens of a text are noise, and in how many spans; from 1 to all but one.

    The sizes of T5's ``random_spans_noise_mask``: both rounded to the nearest, halves to even.
    """
    tokens = max(tokens, 2)
    noise = min(max(round(tokens * density), 1), tokens - 1)
    return noise, min(max(round(noise / mean), 1), noise, tokens - noise)


def corrupted_lengths(tokens: int, density: float, mean: float) -> tuple[int, int]:
    """Give how long input and target are that are made of a text, each with its end token."""
    noise, spans = span_lengths(tokens, density, mean)
    return tokens - noise + spans + 1, noise + spans + 1


def fitting_length(context: int, density: float, mean: float) -> int:
    """Give the longest text whose input and target take at most ``context`` tokens each."""
    length = 0
    while max(corrupted_lengths(length + 1, density, mean)) <= context:
        length += 1
    if length < 2:
        raise InputError("context", f"is {context}, too short for a text with a span cut out", "make it 3 or more")
    return length


def noise_mask(tokens: int, density: float, mean: float, draws: np.random.Generator) -> NDArray[np.bool_]:
    """Draw which of a text's tokens are noise (L,): spans between which others stand, the first token not in one.

    The law of T5's ``random_spans_noise_mask``: noise and rest are each parted into as many stretches, of which every
    way of parting is equally likely, and stand in turn.
    """
    noise, spans = span_lengths(tokens, density, mean)
    lengths = np.stack([_parted(max(tokens, 2) - noise, spans, draws), _parted(noise, spans, draws)], 1).ravel()
    return (np.repeat(np.arange(2 * spans) % 2, lengths) == 1)[:tokens]


def _parted(items: int, parts: int, draws: np.random.Generator) -> Row:
    """Part ``items`` into ``parts`` stretches of one or more: the cuts are any of the places between."""
    cuts = np.sort(draws.permutation(items - 1)[: parts - 1]) + 1
    return np.diff(cuts, prepend=0, append=items)


@dataclass(frozen=True)
class SpanView:
    """Reads texts with spans replaced by a sentinel each, and wants the spans, each behind its sentinel.

    Windows are as long as ``context`` allows for input and target, of which at least one is then full. Documents are
    joined without control tokens, as T5 does.
    """

    context: int
    sentinels: tuple[int, ...]
    controls: NDArray[np.int64]
    start: int
    end: int
    density: float = 0.15
    mean: float = 3.0
    length: int = field(init=False)

    def __post_init__(self) -> None:
        length = fitting_length(self.context, self.density, self.mean)
        object.__setattr__(self, "length", length)
        needed = max(span_lengths(size, self.density, self.mean)[1] for size in range(2, length + 1))
        if needed > len(self.sentinels):
            problem = f"has {len(self.sentinels)} sentinels, and a text of {length} tokens has {needed} spans"
            learn = f"learn one from the text with tokenizer.sentinels = {needed} or more"
            cure = f"{learn}, or name one that has <extra_id_0> and on"
            raise InputError("tokenizer", problem, cure)

    @classmethod
    def of(cls, tokenizer: Tokenizer, context: int, density: float, mean: float) -> "SpanView":
        """Make the view of a tokenizer; ``InputError`` if it lacks sentinels, or a token to end with."""
        if tokenizer.end is None:
            raise InputError("tokenizer", "has no token that ends a text", "learn one with tokenizer.sentinels = 100")
        controls = np.array(sorted(tokenizer.controls), np.int64)
        start = decoder_start(tokenizer)
        return cls(context, tokenizer.sentinels, controls, start, tokenizer.end, density, mean)

    @property
    def stride(self) -> int:
        """Each token is met once."""
        return self.length

    def __call__(self, windows: Windows) -> TrainingBatch:
        """Give a batch whose source is the input (B, S), whose ids and targets are (B, T)."""
        pairs = [
            self.corrupt(tokens[(documents != 0) & ~np.isin(tokens, self.controls)], drawn_for("spans", key))
            for tokens, documents, key in zip(windows.tokens, windows.documents, windows.keys, strict=True)
        ]
        longest, target = corrupted_lengths(self.length, self.density, self.mean)
        source = padded([given for given, _ in pairs], longest)
        said = [wanted for _, wanted in pairs]
        read = padded([np.concatenate([[self.start], wanted[:-1]]) for wanted in said], target)
        targets = np.full((len(said), target), IGNORED, np.int64)
        for row, wanted in enumerate(said):
            targets[row, : len(wanted)] = wanted
        batch = Batch(read.ids, read.segments, source=source)
        return TrainingBatch(batch, torch.from_numpy(targets))

    def corrupt(self, text: Row, draws: np.random.Generator) -> tuple[Row, Row]:
        """Give input and target of a text, both with the end token; of less than two tokens nothing is cut out."""
        if len(text) < 2:
            return np.append(text, self.end), np.array([self.end])
        mask = noise_mask(len(text), self.density, self.mean, draws)
        return np.append(self._with_sentinels(text, mask), self.end), np.append(
            self._with_sentinels(text, ~mask), self.end
        )

    def _with_sentinels(self, text: Row, cut: NDArray[np.bool_]) -> Row:
        """Put a sentinel, the next each time, in place of every stretch that is cut."""
        opens = cut & ~np.concatenate([[False], cut[:-1]])
        marks = np.asarray(self.sentinels, np.int64)[np.maximum(np.cumsum(opens) - 1, 0)]
        return np.where(opens, marks, text)[opens | ~cut]


def decoder_start(tokenizer: Tokenizer) -> int:
    """Give the token that a decoder reads first: padding, as in T5, or else what opens a text."""
    found = tokenizer.start if tokenizer.pad is None else tokenizer.pad
    if found is None:
        raise InputError("tokenizer", "has no token that opens a text", "learn one with tokenizer.sentinels = 100")
    return found


def padded(rows: Sequence[Row], length: int) -> Batch:
    """Put texts into rows of ``length``; where none is shorter, the batch says nothing of segments."""
    ids = np.zeros((len(rows), length), np.int64)
    segments = np.zeros((len(rows), length), np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
        segments[place, : len(row)] = 1
    return Batch(torch.from_numpy(ids), None if segments.all() else torch.from_numpy(segments))
