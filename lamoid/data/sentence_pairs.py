"""Pairs of stretches of text: does the second follow the first (BERT), or were they swapped (ALBERT)?"""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from lamoid.assembly.likelihood import IGNORED
from lamoid.data.draws import drawn_for
from lamoid.data.loader import Windows
from lamoid.data.masking import MaskedTokens, Masking, masked_tokens
from lamoid.data.shards import Shards
from lamoid.data.span_corruption import padded
from lamoid.errors import InputError
from lamoid.text.tokenizer import Tokenizer

Row = NDArray[np.int64]
Question = Literal["next", "order"]
_ENDS = (".", "!", "?", "\u2026", "\n", "\u3002", "\uff01", "\uff1f")
_TRIES = 8


@dataclass(frozen=True)
class MaskedPairs(MaskedTokens):
    """Masked pairs, with the answer (B,) to what is asked of them: 0 or 1, IGNORED where nothing can be asked."""

    labels: torch.Tensor = field(kw_only=True)


@dataclass(frozen=True)
class PairView:
    """Reads pairs ``[CLS] A [SEP] B [SEP]``, masked, of at most ``context`` tokens.

    A and B are a stretch of one document, parted behind a sentence drawn among those that end in it. Asked for what
    is ``next``, half of the B are taken from another document, drawn evenly, instead (label 1); asked for the
    ``order``, half of the pairs are swapped (label 1). A document's text is taken without its control tokens.
    """

    context: int
    question: Question
    tokenizer: Tokenizer
    masking: Masking
    ends: NDArray[np.bool_]
    added: int

    @classmethod
    def of(cls, tokenizer: Tokenizer, context: int, question: Question, masking: Masking) -> "PairView":
        """Make the view of a tokenizer; ``InputError`` if nothing would stand between two texts."""
        added = len(tokenizer.whole([], [])[0])
        if not added:
            cure = "learn one from the text with tokenizer.mask = true, or name one with [CLS] and [SEP]"
            raise InputError("tokenizer", "has no template that parts two texts", cure)
        if context < added + 2:
            raise InputError("context", f"is {context}, too short for a pair", f"make it {added + 2} or more")
        ends = [tokenizer.decode([number]).rstrip(" ").endswith(_ENDS) for number in range(tokenizer.vocab)]
        return cls(context, question, tokenizer, masking, np.array(ends), added)

    @property
    def length(self) -> int:
        """What the template leaves of the context."""
        return self.context - self.added

    @property
    def stride(self) -> int:
        """Each token is met once."""
        return self.length

    def __call__(self, windows: Windows) -> MaskedPairs:
        """Give ids, segments, types, targets (B, context) and labels (B,)."""
        draws = [drawn_for(self.question, key) for key in windows.keys]
        pairs = [self._pair(windows, row, drawn) for row, drawn in enumerate(draws)]
        joined = [self.tokenizer.whole(first.tolist(), second.tolist()) for first, second, _ in pairs]
        plain = padded([np.array(ids, np.int64) for ids, _ in joined], self.context)
        types = padded([np.array(kinds, np.int64) for _, kinds in joined], self.context).ids
        segments = torch.ones_like(plain.ids) if plain.segments is None else plain.segments
        rows = [
            self.masking.apply(ids, documents, drawn)
            for ids, documents, drawn in zip(plain.ids.numpy(), segments.numpy(), draws, strict=True)
        ]
        batch = replace(plain, ids=torch.from_numpy(np.stack([read for read, _ in rows])), types=types)
        masked = masked_tokens(batch, [targets for _, targets in rows], draws)
        labels = torch.tensor([label for _, _, label in pairs])
        return MaskedPairs(masked.batch, masked.targets, draws=masked.draws, labels=labels)

    def check(self, shards: Shards) -> None:
        """Raise ``InputError`` where nothing could be paired with a text: in a single document."""
        low, _, high = _documents(shards, 0)
        if self.question == "next" and low == high:
            cure = "give more texts, or part them with data.separator"
            raise InputError(shards.folder, "has one document only, so nothing else could come next", cure)

    def _pair(self, windows: Windows, row: int, draws: np.random.Generator) -> tuple[Row, Row, int]:
        """Give both texts of a row and the label."""
        place, text = self._longest(windows.tokens[row], windows.documents[row])
        is_other = bool(draws.random() < 0.5)
        cut = self._cut(text, draws)
        if self.question == "order":
            if len(text) < 2:
                return text, text[:0], IGNORED
            return (text[cut:], text[:cut], 1) if is_other else (text[:cut], text[cut:], 0)
        if not is_other and len(text) > 1:
            return text[:cut], text[cut:], 0
        if windows.shards is None:
            raise InputError("windows", "do not say where they lie", "read them through a loader")
        first = text[:cut]
        return first, self._elsewhere(windows.shards, windows.begins[row] + place, self.length - len(first), draws), 1

    def _longest(self, tokens: Row, documents: Row) -> tuple[int, Row]:
        """Give the place and the text, without control tokens, of the document that has most of a window."""
        sizes = np.bincount(documents[documents != 0])
        place = int(np.flatnonzero(documents == sizes.argmax())[0])
        return place, self._text(tokens[documents == sizes.argmax()])

    def _text(self, tokens: Row) -> Row:
        return tokens[~np.isin(tokens, self.masking.controls)]

    def _cut(self, text: Row, draws: np.random.Generator) -> int:
        """Draw where a text is parted: behind a sentence, or anywhere in a text without an end of one."""
        if len(text) < 2:
            return len(text)
        behind = np.flatnonzero(self.ends[text[:-1]]) + 1
        return int(behind[draws.integers(len(behind))]) if len(behind) else int(draws.integers(1, len(text)))

    def _elsewhere(self, shards: Shards, place: int, room: int, draws: np.random.Generator) -> Row:
        """Give at most ``room`` tokens of a document other than the one at ``place``, drawn evenly among them."""
        self.check(shards)
        low, own, high = _documents(shards, place)
        found = np.zeros(0, np.int64)
        for _ in range(_TRIES):  # a document may have no text at all
            number = int(draws.integers(low, high))
            number += number >= own
            begin = max(int(shards.starts[number - 1]), shards.first) - shards.first
            end = int(shards.starts[number]) - shards.first if number < high else len(shards)
            if begin < end:
                at = int(draws.integers(begin, max(begin, end - room) + 1))
                found = self._text(shards.window(at, min(room, end - at))[0])
            if len(found):
                break
        return found


def _documents(shards: Shards, place: int) -> tuple[int, int, int]:
    """Give the numbers of the first document, of the one at ``place``, and of the last."""
    at = [shards.first, shards.first + place, shards.last - 1]
    low, own, high = np.searchsorted(shards.starts, at, side="right").tolist()
    return low, own, high
