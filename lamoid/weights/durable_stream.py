"""One file written bit by bit that appears under its name only when it is whole; the twin of ``durable_file``."""

import gzip
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from lamoid.errors import InputError
from lamoid.weights import durable
from lamoid.weights.hashed import write_all

_GATHERED = 1 << 20


@contextmanager
def durable_stream(target: Path | str, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Give a file to write to that becomes ``target`` at once when the block ends without an exception.

    Under a name that ends with ``.gz`` it is packed, the same bytes giving the same file. Raise ``InputError`` for a
    target that may not be written, ``NotCommitted`` for a failed write (the target is as it was), and
    ``DurabilityUncertain`` when only the last sync failed.
    """
    target = durable._absolute(target)
    if os.path.lexists(target) and not overwrite:
        cure = "Choose another name, or overwrite it (--overwrite, overwrite=True)"
        raise InputError(target, "the output exists already", cure)
    if target.is_dir():
        raise InputError(target, "is a folder, not a file", "Choose another name")
    temporary = target.with_name(f".{target.name}.tmp-{secrets.token_hex(6)}")
    descriptor = None
    try:
        durable._make_folder(target.parent)
        durable.sweep(target)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        durable._has_lock(descriptor, otherwise=True)
        file = _Gathered(descriptor)
        with ExitStack() as stack:
            packed = target.suffix.lower() == ".gz"
            yield stack.enter_context(_packed(file)) if packed else file  # pyright: ignore[reportReturnType]
        file.drain()
        os.fsync(descriptor)
        if overwrite:
            temporary.replace(target)
        else:
            target.hardlink_to(temporary)  # unlike a rename, it never replaces
    except (durable.NotCommitted, durable.DurabilityUncertain):
        raise
    except OSError as error:
        raise durable._not_committed(target, error) from error
    finally:
        durable._remove(temporary)
        durable._release(descriptor)
    durable._sync_published(target)


class _Gathered:
    """Gathers small writes to a descriptor; nothing is written by itself when it is thrown away."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._held = bytearray()

    def write(self, data: bytes) -> int:
        """Take ``data``; write what has gathered if it is enough."""
        self._held += data
        if len(self._held) >= _GATHERED:
            self.drain()
        return len(data)

    def flush(self) -> None:
        """Leave what is held for later; it is written in the end."""

    def drain(self) -> None:
        """Write what is held."""
        data, self._held = self._held, bytearray()
        write_all(self._descriptor, memoryview(data))


@contextmanager
def _packed(file: _Gathered) -> Iterator[BinaryIO]:
    """Give a gzip file without name and time in its head; after an exception its end is not written."""
    packer = gzip.GzipFile("", "wb", compresslevel=6, fileobj=file, mtime=0)  # pyright: ignore[reportArgumentType]
    yield packer  # pyright: ignore[reportReturnType]
    packer.close()
