"""Prefix language modelling (Raffel et al., 2020): a text's first part is seen from everywhere, the rest is said."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from lamoid.assembly.likelihood import IGNORED
from lamoid.data.draws import drawn_for
from lamoid.data.loader import NextTokens, TrainingBatch, Windows


@dataclass(frozen=True)
class PrefixView:
    """Reads ``context`` tokens; each document of a row is parted at a place drawn evenly, and what follows is said."""

    context: int

    @property
    def length(self) -> int:
        """A window holds the last target too."""
        return self.context + 1

    @property
    def stride(self) -> int:
        """Each token is met once."""
        return self.context

    def __call__(self, windows: Windows) -> TrainingBatch:
        """Give ids, segments, the stream ``prefix`` and targets, all (B, context)."""
        example = NextTokens(self.context)(windows)
        marks = np.stack(
            [_prefix(documents, key) for documents, key in zip(windows.documents, windows.keys, strict=True)]
        )
        # The token that follows a marked one is said only if it is not itself seen from everywhere.
        targets = torch.where(torch.from_numpy(marks[:, 1:]) == 1, IGNORED, example.targets)
        batch = replace(example.batch, streams={"prefix": torch.from_numpy(marks[:, :-1].copy())})
        return replace(example, batch=batch, targets=targets)


def _prefix(documents: NDArray[np.int64], key: str) -> NDArray[np.int64]:
    """Mark the prefix of each document in a row: at least a token of it, and all but one at most."""
    draws = drawn_for("prefix", key)
    marks = np.zeros(len(documents), np.int64)
    firsts = np.flatnonzero(np.diff(documents, prepend=0))
    for first, end in zip(firsts, [*firsts[1:], len(documents)], strict=True):
        length = int((documents[first:end] != 0).sum())
        if length > 1:
            marks[first : first + int(draws.integers(1, length))] = 1
    return marks
