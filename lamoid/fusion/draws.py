"""Random numbers that hang on seed, member, tensor and element, and on nothing else."""

import hashlib

import numpy as np
import torch
from torch import Tensor

from lamoid.fusion.rules.rule import PIECE

_WORDS = 1 << 16


class Draws:
    """Uniform numbers for the elements of one tensor of one member, by Philox (Salmon et al., 2011, SC '11).

    Its key is a hash of seed, member and tensor, its counter the number of the stretch of PIECE elements. A number is
    (n + r) / 2^16 with 16 bits n of its own and 8 bits r that its stretch shares: u < p has the probability p to
    within 2^-24, over r, at the cost of 16 bits.
    """

    def __init__(self, seed: int, member: str, tensor: str) -> None:
        digest = hashlib.sha256(f"{seed}\0{member}\0{tensor}".encode()).digest()
        self._key = np.frombuffer(digest[:16], dtype="<u8").astype(np.uint64)

    def between(self, first: int, count: int) -> Tensor:
        """Give the numbers of the elements [first, first + count), float32 in [0, 1)."""
        begin, end = first // PIECE, -(-(first + count) // PIECE)
        parts = [self._stretch(number) for number in range(begin, end)]
        joined = parts[0] if len(parts) == 1 else torch.cat(parts)
        return joined[first - begin * PIECE :][:count]

    def _stretch(self, number: int) -> Tensor:
        source = np.random.Philox(key=self._key, counter=[0, number, 0, 0])
        words = source.random_raw(PIECE // 4 + 1)
        shared = float(int(words[-1]) & 255) / 256.0
        own = torch.from_numpy(words[:-1].astype("<u8", copy=False).view(np.uint16))
        return own.to(torch.float32).add_(shared).mul_(1.0 / _WORDS)
