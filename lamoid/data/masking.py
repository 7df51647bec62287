"""Masked language modelling (Devlin et al., 2019): some tokens are hidden, and what they were is to be said."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from lamoid.assembly.batch import Batch
from lamoid.assembly.likelihood import IGNORED
from lamoid.data.draws import drawn_for
from lamoid.data.loader import TrainingBatch, Windows, text_batch
from lamoid.data.word_starts import WordStarts
from lamoid.errors import InputError
from lamoid.text.tokenizer import Tokenizer

Row = NDArray[np.int64]


@dataclass(frozen=True)
class MaskedTokens(TrainingBatch):
    """A masked batch; ``draws`` (B, T) are numbers from 0 to 1 for whoever puts something else in the masked places."""

    draws: torch.Tensor = field(kw_only=True)


@dataclass(frozen=True)
class Masking:
    """Which of a row's tokens are to be said, and what is read in their place.

    Of the ``share`` chosen, ``hidden`` are read as the mask token, ``random`` as any token of the text's vocabulary,
    and the rest as they are: 15 %, and of these 80, 10 and 10 %, in BERT. With ``words``, whole words are chosen, each
    of its tokens then drawn for by itself. Control tokens are neither chosen nor drawn.

    The number is share x tokens, rounded up or down at random so that it is exact on average, and at least 1; BERT
    rounds to the nearest, which at 64 tokens is 15.6 %.
    """

    mask: int
    controls: NDArray[np.int64]
    ordinary: NDArray[np.int64]
    share: float = 0.15
    hidden: float = 0.8
    random: float = 0.1
    words: WordStarts | None = None

    @classmethod
    def of(
        cls, tokenizer: Tokenizer, *, share: float = 0.15, hidden: float = 0.8, random: float = 0.1, words: bool = False
    ) -> "Masking":
        """Make the masking of a tokenizer; ``InputError`` if it has no mask token."""
        if tokenizer.mask is None:
            cure = "learn one from the text with tokenizer.mask = true, or name one that has [MASK]"
            raise InputError("tokenizer", "has no mask token", cure)
        found = np.array(sorted(tokenizer.controls), np.int64)
        known = [number for number, piece in enumerate(tokenizer.pieces()) if piece is not None]
        starts = WordStarts.of(tokenizer) if words else None
        ordinary = np.setdiff1d(np.array(known, np.int64), found)
        return cls(tokenizer.mask, found, ordinary, share, hidden, random, starts)

    def apply(self, tokens: Row, documents: Row, draws: np.random.Generator) -> tuple[Row, Row]:
        """Give what is read and what should be said of a row, both (L,); what is not asked is ``IGNORED``."""
        may = np.flatnonzero((documents != 0) & ~np.isin(tokens, self.controls))
        chosen = self._choose(tokens, documents, may, draws)
        targets = np.full(len(tokens), IGNORED, np.int64)
        targets[chosen] = tokens[chosen]
        fate = draws.random(len(chosen))
        others = self.ordinary[draws.integers(len(self.ordinary), size=len(chosen))]
        is_random = fate < self.hidden + self.random
        read = tokens.copy()
        read[chosen] = np.where(fate < self.hidden, self.mask, np.where(is_random, others, tokens[chosen]))
        return read, targets

    def _choose(self, tokens: Row, documents: Row, may: Row, draws: np.random.Generator) -> Row:
        """Give the places to be said, in order."""
        if not len(may):
            return may
        count = max(1, min(len(may), int(self.share * len(may) + draws.random())))
        if self.words is None:
            return np.sort(draws.permutation(may)[:count])
        # Numbered over the whole row: a control token between two tokens parts them.
        number = np.cumsum(self.words.starts(tokens, documents))[may]
        first = np.flatnonzero(np.diff(number, prepend=-1))
        sizes = np.diff(first, append=len(may))
        return np.sort(may[_whole_words(first, sizes, count, draws)])


def _whole_words(first: Row, sizes: Row, count: int, draws: np.random.Generator) -> Row:
    """Choose words at random until ``count`` tokens are; a word that would be too many is passed over.

    Where all are, the shortest is chosen, so that there is a target.
    """
    chosen: list[int] = []
    left = count
    for word in draws.permutation(len(first)).tolist():
        if sizes[word] <= left:
            chosen.append(word)
            left -= int(sizes[word])
            if not left:
                break
    chosen = chosen or [int(np.argmin(sizes))]
    return np.concatenate([first[word] + np.arange(int(sizes[word])) for word in chosen])


@dataclass(frozen=True)
class MaskedView:
    """Reads windows of ``context`` tokens, some of them masked."""

    context: int
    masking: Masking

    @property
    def length(self) -> int:
        """What is said stands in the window itself."""
        return self.context

    @property
    def stride(self) -> int:
        """Each token is met once."""
        return self.context

    def __call__(self, windows: Windows) -> MaskedTokens:
        """Give ids, segments and targets (B, context)."""
        draws = [drawn_for("mask", key) for key in windows.keys]
        rows = [
            self.masking.apply(tokens, documents, drawn)
            for tokens, documents, drawn in zip(windows.tokens, windows.documents, draws, strict=True)
        ]
        batch = text_batch(np.stack([read for read, _ in rows]), windows.documents)
        return masked_tokens(batch, [targets for _, targets in rows], draws)


def masked_tokens(batch: Batch, targets: Sequence[Row], draws: Sequence[np.random.Generator]) -> MaskedTokens:
    """Put masked rows together, with a number drawn for each place."""
    found = torch.from_numpy(np.stack([drawn.random(len(row)) for row, drawn in zip(targets, draws, strict=True)]))
    return MaskedTokens(batch, torch.from_numpy(np.stack(targets)), draws=found)
