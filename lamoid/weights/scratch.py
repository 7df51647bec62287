"""Folders for what is needed for a while beside an output: deleted at the end, or by the next one after a kill."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lamoid.weights import durable


def clear_scratch(target: Path, purposes: Iterable[str]) -> None:
    """Clear what killed holders left beside ``target``, for these purposes; a live holder's is left alone."""
    for purpose in purposes:
        durable.sweep(_beside(target, purpose))


@contextmanager
def scratch_folder(target: Path, purpose: str) -> Iterator[Path]:
    """Give an empty hidden folder beside ``target``; what killed holders of the same purpose left is cleared first.

    Missing parents are made. Holders that live are told from killed ones by a lock, as writers are.
    """
    beside = _beside(target, purpose)
    beside.parent.mkdir(parents=True, exist_ok=True)
    durable.sweep(beside)
    folder, lock = durable._claim(beside)
    try:
        yield folder
    finally:
        durable._remove(folder)
        durable._release(lock)


def _beside(target: Path, purpose: str) -> Path:
    return target.absolute().with_name(f"{target.name}.{purpose}")
