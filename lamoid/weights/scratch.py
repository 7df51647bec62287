"""Folders for what is needed for a while beside an output: deleted at the end, or by the next one after a kill."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lamoid.weights import durable


@contextmanager
def scratch_folder(target: Path, purpose: str) -> Iterator[Path]:
    """Give an empty hidden folder beside ``target``; what killed holders of the same purpose left is cleared first.

    Missing parents are made. Holders that live are told from killed ones by a lock, as writers are.
    """
    beside = target.absolute().with_name(f"{target.name}.{purpose}")
    beside.parent.mkdir(parents=True, exist_ok=True)
    durable.sweep(beside)
    folder, lock = durable._claim(beside)
    try:
        yield folder
    finally:
        durable._remove(folder)
        durable._release(lock)
