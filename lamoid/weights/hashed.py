"""Files that are hashed while they are written and synced before they are closed."""

import errno
import hashlib
import io
import os
from pathlib import Path
from typing import BinaryIO

Entry = dict[str, int | str]
_GATHERED = 1 << 20


def open_hashed(path: Path, entries: dict[str, Entry]) -> BinaryIO:
    """Open a new file to append to; when it is closed without an error its size and sha256 go into ``entries``."""
    return _DraftFile(_HashedFile(path, entries))


def write_all(descriptor: int, view: memoryview) -> None:
    """Write every byte: the system may take only some at a time.

    Handing over more than 1 MiB at once makes it look for large free pages, and some calls ten times slower.
    """
    done = 0
    while done < view.nbytes:
        written = os.write(descriptor, view[done : done + _GATHERED])
        if written == 0:
            raise OSError(errno.EIO, "the disk takes no more bytes")
        done += written


def hash_file(path: Path) -> str:
    """Give the sha256 of a file, read through one buffer."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_GATHERED))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


class _HashedFile(io.RawIOBase):
    """Appends to a new file, hashes on the way, and syncs before closing unless abandoned."""

    def __init__(self, path: Path, entries: dict[str, Entry]) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._name, self._entries = path.name, entries
        self._hash, self._size = hashlib.sha256(), 0
        self.abandoned = False

    def writable(self) -> bool:
        """Tell the buffer above that it may write."""
        return True

    def write(self, data) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Write and hash all of ``data``; give its number of bytes."""
        view = memoryview(data)
        if view.nbytes:
            view = view.cast("B")
            write_all(self._descriptor, view)
            self._hash.update(view)
            self._size += view.nbytes
        return view.nbytes

    def close(self) -> None:
        """Sync, close and note size and hash; an abandoned file is only closed."""
        if self.closed:
            return
        super().close()
        try:
            # Here and not at the commit: only the descriptor that wrote is sure to be told of a failed write-back.
            if not self.abandoned:
                os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)
        if not self.abandoned:
            self._entries[self._name] = {"size": self._size, "sha256": self._hash.hexdigest()}


class _DraftFile(io.BufferedWriter):
    """Gathers small writes; after an exception it closes without the cost of syncing what will be thrown away."""

    def __init__(self, raw: _HashedFile) -> None:
        super().__init__(raw, _GATHERED)
        self._hashed = raw

    def __exit__(self, kind, value, trace) -> None:
        self._hashed.abandoned = kind is not None
        super().__exit__(kind, value, trace)
