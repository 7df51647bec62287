"""Gzip files (RFC 1952) unpacked as a stream: bounded memory however much they unpack to, errors with the offset."""

import io
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lamoid.errors import InputError

PACKED_SUFFIX = ".gz"
BLOCK = 2**16  # packed bytes read at once
MOST_RATIO = 100  # of a table that must be unpacked as a whole; it is packed in itself, so gzip gains little
SMALL = 2**20
_WRAPPED = zlib.MAX_WBITS | 16  # zlib's word for gzip's header and check sum
_COPY = "take a whole copy of the file"


class Unpacked(io.RawIOBase):
    """The bytes that a gzip file unpacks to, one member after the other; no more is held than is asked for.

    Raise ``InputError`` that gives the offset in the packed file for one that is damaged, cut off, no gzip file, or of
    another length than the ``size`` it had when it was opened.
    """

    def __init__(self, file: BinaryIO, size: int, path: Path) -> None:
        self._file, self._size, self._path = file, size, path
        self._unpacker = zlib.decompressobj(_WRAPPED)
        self._held, self._read = b"", 0
        self._is_whole, self._has_member = True, False  # between members; after the first one

    def readable(self) -> bool:
        """Tell the buffer above that it may read."""
        return True

    def readinto(self, buffer) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Fill ``buffer`` as far as there is anything to fill it with; give the number of bytes."""
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view):
            if not self._held and not self._refill():
                break
            data = self._unpack(len(view) - done)
            view[done : done + len(data)] = data
            done += len(data)
        return done

    def _refill(self) -> bool:
        self._held = self._file.read(BLOCK)
        self._read += len(self._held)
        if self._held:
            return True
        if self._read != self._size:
            problem = f"changed while it was read: {self._size} bytes at first, {self._read} read"
            raise InputError(self._path, problem, "try again on a copy")
        if not self._is_whole or not self._has_member:
            what = "ends in the middle of its packed data" if self._read else "is empty, which no gzip file is"
            raise InputError(self._path, f"{what}, at byte offset {self._read}", _COPY)
        return False

    def _unpack(self, most: int) -> bytes:
        """Unpack at most ``most`` bytes of what is held; zeros behind the last member are filling."""
        if self._is_whole:
            if self._has_member:
                self._held = self._held.lstrip(b"\0")
                if not self._held:
                    return b""
            self._unpacker, self._is_whole = zlib.decompressobj(_WRAPPED), False
        try:
            data = self._unpacker.decompress(self._held, most)
        except zlib.error as error:
            offset = self._read - len(self._held)
            reason = str(error).partition(": ")[2] or str(error)
            problem = f"is no whole gzip file: {reason}, after byte offset {offset}"
            raise InputError(self._path, problem, _COPY) from error
        self._held = self._unpacker.unconsumed_tail
        if self._unpacker.eof:  # zlib leaves the same bytes in both then
            self._held = self._unpacker.unused_data
            self._is_whole = self._has_member = True
        return data


@contextmanager
def unpacked_whole(source: BinaryIO, size: int, path: Path) -> Iterator[BinaryIO]:
    """Give a temporary file with all that ``source`` unpacks to, for a format that must be read at random places.

    Raise ``InputError`` where that is more than ``MOST_RATIO`` times the packed ``size``.
    """
    most = SMALL + MOST_RATIO * size
    with tempfile.TemporaryFile(prefix="lamoid-") as file:
        raw, done = Unpacked(source, size, path), 0
        while block := raw.read(BLOCK):
            done += len(block)
            if done > most:
                problem = f"unpacks to more than {most} bytes, {MOST_RATIO} times its size"
                raise InputError(path, problem, "unpack it yourself if that is meant")
            file.write(block)
        file.seek(0)
        yield file
