"""A large file written past the page cache: hashed on its way, at a known place, and taken up again where it was left.

Through the page cache every byte costs the processor a page and a copy, and the sync at the end waits for all of them;
straight to the disk (O_DIRECT) neither is paid. Where a file system cannot, the same bytes go the common way.
"""

import errno
import hashlib
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from lamoid.weights.hashed import Entry

GATHERED = 4 << 20
"""Bytes that are written at once; two such buffers are held."""
ALIGNED = 4096
_PACED = 64 << 20
"""Bytes after which a file that goes through the page cache is synced, so that the last sync does not wait for all."""


class PlacedFile:
    """A file of ``size`` bytes that is appended to from byte ``start`` on, where an earlier writer was cut off.

    ``write`` copies into one of two aligned buffers; a thread writes the other one meanwhile. With ``end`` it is one
    writer's part of a file that several write, which is not hashed.
    """

    def __init__(
        self, path: Path, size: int, entries: dict[str, Entry], *, start: int = 0, end: int | None = None
    ) -> None:
        self._path, self._size, self._entries = path, size, entries
        self._end, self._is_part = size if end is None else end, end is not None
        exclusive = os.O_EXCL if start == 0 and not self._is_part else 0
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | exclusive, 0o666)
        self._direct = _open_direct(path)
        self._buffers = [_aligned() for _ in range(2)]
        self._views = [memoryview(buffer) for buffer in self._buffers]
        self._turn, self._filled = 0, start % ALIGNED
        self._base = start - self._filled  # where in the file the buffer in turn begins
        self._first = start  # before it lie other writers' bytes, or our own of an earlier time
        self._hash = None if self._is_part else hashlib.sha256()
        self._unsynced = 0
        self._thread = ThreadPoolExecutor(1, "placed-file")
        self._busy: Future[None] | None = None
        if start and not self._is_part:
            self._take_up(start)

    @property
    def position(self) -> int:
        """The bytes written so far, from the file's beginning."""
        return self._base + self._filled

    def write(self, data: memoryview) -> None:
        """Append bytes; they may be changed afterwards."""
        data = data.cast("B") if data.format != "B" or data.ndim != 1 else data
        if self.position + data.nbytes > self._end:
            raise ValueError(f"{self._path.name}: bytes behind {self._end}, where it was to end")
        if self._hash is not None:
            self._hash.update(data)
        while data.nbytes:
            part = data[: GATHERED - self._filled]
            self._views[self._turn][self._filled : self._filled + part.nbytes] = part
            self._filled += part.nbytes
            data = data[part.nbytes :]
            if self._filled == GATHERED:
                self._hand_over()

    def sync(self) -> int:
        """Put on the disk what has been written, but for a part of a block; give the position that is safe."""
        whole = self._filled - self._filled % ALIGNED
        self._wait()
        self._put(self._views[self._turn][:whole], self._base)
        os.fdatasync(self._descriptor)
        self._unsynced = 0
        return max(self._base + whole, self._first)

    def close(self, *, verify: bool = False) -> None:
        """Write the rest, sync, and note size and hash; ``verify`` reads all back from the disk first."""
        try:
            self._wait()
            if self.position != self._end:
                raise ValueError(f"{self._path.name}: {self.position} of {self._end} bytes were written")
            whole = self._filled - self._filled % ALIGNED
            self._put(self._views[self._turn][:whole], self._base)
            rest = max(whole, self._first - self._base)
            _write_at(self._descriptor, self._views[self._turn][rest : self._filled], self._base + rest)
            if self._hash is not None:
                os.ftruncate(self._descriptor, self._size)
            os.fsync(self._descriptor)
            if self._hash is not None:
                digest = self._hash.hexdigest()
                if verify and hash_from_disk(self._path) != digest:
                    raise OSError(errno.EIO, f"{self._path.name} reads back other than it was written")
                self._entries[self._path.name] = {"size": self._size, "sha256": digest}
        finally:
            self.abandon()

    def end_here(self) -> None:
        """Write and sync what has come of a part: it ends where the next writer's begins."""
        self._end = self.position
        self.close()

    def abandon(self) -> None:
        """Let go of the file as it is; a second time does nothing."""
        self._thread.shutdown(cancel_futures=True)
        for descriptor in (self._direct, self._descriptor):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)
        self._direct, self._descriptor = None, -1
        self._views, self._buffers = [], []

    def _take_up(self, start: int) -> None:
        """Hash what is there, and put the block that ``start`` lies in back into the buffer."""
        done, digest = 0, hashlib.sha256()
        while done < start:
            view = self._views[1][: min(GATHERED, start - done)]
            count = os.preadv(self._descriptor, [view], done)
            if count == 0:
                self.abandon()
                raise OSError(errno.EIO, f"{self._path.name} is shorter than its journal says")
            digest.update(view[:count])
            done += count
        self._hash = digest
        if self._filled:
            os.preadv(self._descriptor, [self._views[0][: self._filled]], self._base)

    def _hand_over(self) -> None:
        self._wait()
        self._busy = self._thread.submit(self._put, self._views[self._turn], self._base)
        self._base += GATHERED
        self._turn, self._filled = 1 - self._turn, 0

    def _wait(self) -> None:
        if self._busy is not None:
            busy, self._busy = self._busy, None
            busy.result()

    def _put(self, view: memoryview, place: int) -> None:
        skipped = max(self._first - place, 0)
        if skipped % ALIGNED:  # the block that another writer ends in: only our bytes of it
            edge = min(skipped - skipped % ALIGNED + ALIGNED, view.nbytes)
            _write_at(self._descriptor, view[skipped:edge], place + skipped)
            skipped = edge
        view, place = view[skipped:], place + skipped
        if self._direct is not None:
            try:
                _write_at(self._direct, view, place)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                os.close(self._direct)  # opened, but not meant: other alignments, other systems
                self._direct = None
            else:
                return
        _write_at(self._descriptor, view, place)
        self._unsynced += view.nbytes
        if self._unsynced >= _PACED:
            os.fdatasync(self._descriptor)
            self._unsynced = 0


def hash_from_disk(path: Path) -> str:
    """Give the sha256 of a synced file as the disk has it, not the page cache: one buffer is read, the other hashed."""
    digest, done = hashlib.sha256(), 0
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    direct = _open_direct(path, os.O_RDONLY)
    source = descriptor if direct is None else direct
    now, ahead = memoryview(_aligned()), memoryview(_aligned())
    try:
        os.fsync(descriptor)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        with ThreadPoolExecutor(1, "read-back") as reader:
            count = os.preadv(source, [now], done)
            while count:
                done += count
                coming = reader.submit(os.preadv, source, [ahead], done)
                digest.update(now[:count])
                count = coming.result()
                now, ahead = ahead, now
    finally:
        for opened in (descriptor, direct):
            if opened is not None:
                os.close(opened)
    return digest.hexdigest()


def _aligned() -> mmap.mmap:
    """Give a buffer that begins at a page, as direct writing needs it."""
    return mmap.mmap(-1, GATHERED, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def _open_direct(path: Path, mode: int = os.O_WRONLY) -> int | None:
    flag = getattr(os, "O_DIRECT", None)
    if flag is None:
        return None
    try:
        return os.open(path, mode | os.O_CLOEXEC | flag)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return None
        raise


def _write_at(descriptor: int, view: memoryview, place: int) -> None:
    while view.nbytes:
        written = os.pwrite(descriptor, view[: 4 << 20], place)
        if written == 0:
            raise OSError(errno.EIO, "the disk takes no more bytes")
        view, place = view[written:], place + written
