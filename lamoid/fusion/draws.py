"""Random numbers that hang on seed, member, tensor and element, and on nothing else."""

import hashlib
import math
import threading

import numpy as np
import torch
from torch import Tensor

from lamoid.fusion.rules.rule import PIECE

_WORDS = 1 << 16
_SKIPPED = 18


class Draws:
    """Uniform numbers for the elements of one tensor of one member, by SFC64 (Doty-Humphrey, PractRand).

    Each stretch of PIECE elements has a stream of its own: the state begins with 128 bits of a hash of seed, member and
    tensor and with the stretch's number, and the words that its author skips to mix a seed are skipped. A number is
    (n + r) / 2^16 with 16 bits n of its own and 8 bits r that its stretch shares: u < p has the probability p to
    within 2^-24, over r, at the cost of 16 bits.
    """

    def __init__(self, seed: int, member: str, tensor: str) -> None:
        digest = hashlib.sha256(f"{seed}\0{member}\0{tensor}".encode()).digest()
        self._key = [int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")]
        self._sources = threading.local()

    def between(self, first: int, count: int) -> Tensor:
        """Give the numbers of the elements [first, first + count), float32 in [0, 1)."""
        begin, end = first // PIECE, -(-(first + count) // PIECE)
        parts = []
        for own, shared in map(self._stretch, range(begin, end)):
            parts.append(torch.from_numpy(own).to(torch.float32).add_(shared).mul_(1.0 / _WORDS))
        joined = parts[0] if len(parts) == 1 else torch.cat(parts)
        return joined[first - begin * PIECE :][:count]

    def below(self, first: int, count: int, share: float) -> Tensor:
        """Say which of these numbers are less than ``share``, rounded to float32: uint8, 1 where one is.

        (n + r) / 2^16 < p where n < p 2^16 - r: whole numbers are compared, which costs a fifth.
        """
        begin, end = first // PIECE, -(-(first + count) // PIECE)
        limit = float(np.float32(share)) * _WORDS
        parts = [own < math.ceil(limit - shared) for own, shared in map(self._stretch, range(begin, end))]
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return torch.from_numpy(joined.view(np.uint8)[first - begin * PIECE :][:count])

    def _stretch(self, number: int) -> tuple[np.ndarray, float]:
        """Give n of a stretch, uint16, and its r."""
        source: np.random.SFC64 | None = getattr(self._sources, "own", None)
        if source is None:
            source = self._sources.own = np.random.SFC64(0)
        state = np.array([*self._key, number, 1], dtype=np.uint64)
        source.state = {"bit_generator": "SFC64", "state": {"state": state}, "has_uint32": 0, "uinteger": 0}
        words = source.random_raw(_SKIPPED + 1 + PIECE // 4)
        own = words[_SKIPPED + 1 :].astype("<u8", copy=False).view(np.uint16)
        return own, float(int(words[_SKIPPED]) & 255) / 256.0
