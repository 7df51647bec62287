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
    """Part units by a bit of the sha256 of their bytes: equal texts fall into one half, whatever their order.

    Raises ``InputError`` naming the file when a half would be empty.
    """
    halves: tuple[list[str], list[str]] = ([], [])
    for unit in units:
        halves[hashlib.sha256(unit.encode()).digest()[0] & 1].append(unit)
    if not (halves[0] and halves[1]):
        kind = f"blocks of {BLOCK_BYTES} bytes" if are_few(units) else "documents"
        problem = f"its {len(units)} documents or {kind} all fall into one half, two halves are needed"
        raise InputError(name, problem, "give more text, at least 64 KiB or 30 documents")
    return halves


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
