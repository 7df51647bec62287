"""What is resampled and halved: documents, or blocks of 4096 bytes where there are few documents."""

import hashlib
from collections.abc import Iterator, Sequence

from lamoid.errors import InputError

FEW_DOCUMENTS = 30
BLOCK_BYTES = 4096


def are_few(documents: Sequence[str]) -> bool:
    """Say whether there are too few documents to resample them as they are."""
    return len(documents) < FEW_DOCUMENTS


def split_units(documents: Sequence[str]) -> list[str]:
    """Give the documents, or, where they are few, their blocks of at most 4096 bytes, no character cut in two."""
    if not are_few(documents):
        return list(documents)
    return [block for document in documents for block in _blocks(document)]


def halve(units: Sequence[str], *, name: str) -> tuple[list[str], list[str]]:
    """Part units in the order of the sha256 of their bytes: the lower half of the different hashes, and the upper.

    Equal texts fall into one half, and the order in which the units come changes nothing but the order within a half.
    Raises ``InputError`` naming the file when there are not two different units.
    """
    hashes = [hashlib.sha256(unit.encode()).digest() for unit in units]
    ordered = sorted(set(hashes))
    if len(ordered) < 2:
        problem = f"{len(ordered)} different documents or blocks of {BLOCK_BYTES} bytes cannot be halved"
        raise InputError(name, problem, "give more text: at least two documents or blocks, better 30 and more")
    lower = set(ordered[: len(ordered) // 2])
    first = [unit for unit, digest in zip(units, hashes, strict=True) if digest in lower]
    return first, [unit for unit, digest in zip(units, hashes, strict=True) if digest not in lower]


def hash_texts(texts: Sequence[str]) -> str:
    """Give the sha256 of texts in their order, each with its length before it."""
    digest = hashlib.sha256()
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def _blocks(document: str) -> Iterator[str]:
    data = document.encode()
    begin = 0
    while begin < len(data):
        end = min(begin + BLOCK_BYTES, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        yield data[begin:end].decode()
        begin = end
