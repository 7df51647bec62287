"""The order in which members are summed: given by what they hold."""

import hashlib
from collections import Counter
from collections.abc import Sequence

import torch

from lamoid.weights.read import Tensors

SAMPLE = 64
PIECE = 1 << 20


def content_order(members: Sequence[Tensors]) -> list[int]:
    """Give an order of the members that depends on what they hold, not on how they are named or listed.

    Sums run in it, so that permuting the members cannot change a bit. Members are told apart by a digest of samples,
    the first and the middle elements of every tensor; only those whose samples are equal are read whole.
    """
    samples = [_digest(member, whole=False) for member in members]
    counts = Counter(samples)
    keys = [
        (sample, _digest(m, whole=True) if counts[sample] > 1 else "")
        for sample, m in zip(samples, members, strict=True)
    ]
    return sorted(range(len(members)), key=lambda index: keys[index])


def _digest(tensors: Tensors, *, whole: bool) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        info = tensors[name]
        digest.update(f"{name} {info.dtype} {info.shape} ".encode())
        starts = range(0, info.elements, PIECE) if whole else (0, info.elements // 2)
        for first in starts:
            part = torch.empty(min(PIECE if whole else SAMPLE, info.elements - first), dtype=info.dtype)
            tensors.read_into(name, first, part)
            digest.update(part.view(torch.uint8).numpy().data)
    return digest.hexdigest()
