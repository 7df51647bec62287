"""What tells members apart: digests of what they hold, so that names and order of listing count for nothing."""

import hashlib
from collections import Counter
from collections.abc import Sequence

import torch

from lamoid.weights.read import Tensors

SAMPLE = 64
PIECE = 1 << 20


def content_keys(members: Sequence[Tensors], given: Sequence[str] = ()) -> list[str]:
    """Give a key for each member that depends on what it holds; equal ones have equal keys.

    A key is a digest of samples, the first and the middle elements of every tensor; only members whose samples are
    equal are read whole. Keys that are ``given`` (not empty) stand as they are.
    """
    given = given or [""] * len(members)
    keys = [key or _digest(member, whole=False) for key, member in zip(given, members, strict=True)]
    counts = Counter(keys)
    return [
        key if known or counts[key] == 1 else f"{key}-{_digest(member, whole=True)}"
        for key, known, member in zip(keys, given, members, strict=True)
    ]


def content_order(members: Sequence[Tensors]) -> list[int]:
    """Give an order of the members that depends on what they hold, not on how they are named or listed.

    Sums run in it, so that permuting the members cannot change a bit.
    """
    keys = content_keys(members)
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
