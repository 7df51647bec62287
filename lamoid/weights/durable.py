"""Puts whole folders and files on the disk, or nothing: the only place that writes what must last.

A folder is written in a hidden temporary folder beside its target, every file hashed on its way and synced, then the
manifest; one rename gives it its name. Whenever the process is killed, the target is the old folder or the new one.
A writer holds a lock (flock) on its temporary folder, so that a killed writer's leavings can be told from a live one's.
"""

import ctypes
import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lamoid.contained import contained, open_plain, read_inside
from lamoid.errors import InputError
from lamoid.strict_json import parse_json
from lamoid.weights.hashed import Entry, open_hashed, write_all
from lamoid.weights.journal import Journal, is_journal_of
from lamoid.weights.placed import PlacedFile

MANIFEST = "manifest.json"
_CHANGED = f"Take a whole copy; if the file was changed on purpose, remove {MANIFEST}"
_MANIFEST_LIMIT = 100 * 10**6


class NotCommitted(OSError):  # noqa: N818
    """Says that writing failed and that nothing changed under the final name."""


class DurabilityUncertain(OSError):  # noqa: N818
    """Says that the new content stands under its name, but a power cut might still undo it."""


class Draft:
    """A folder in the making: files are added by name and none is changed afterwards.

    A file that is closed lies whole under ``path``, where it may be read (to judge a model before it is published);
    files that are not added through the draft make the commit fail.
    """

    def __init__(self, path: Path, journal: Journal | None = None) -> None:
        self.path, self.journal = path, journal
        self._entries: dict[str, Entry] = {}

    def open(self, name: str) -> BinaryIO:
        """Open a new file of this name for writing; it must be closed before the draft ends."""
        return open_hashed(self.path / _checked(name), self._entries)

    def place(self, name: str, size: int, *, start: int | None = None) -> PlacedFile:
        """Open a large file of a known size; it goes on from ``start``, else where the journal says that it is safe."""
        if start is None:
            start = self.journal.safe.get(name, 0) if self.journal else 0
        return PlacedFile(self.path / _checked(name), size, self._entries, start=start)

    def write(self, name: str, data: bytes) -> None:
        """Write one whole file."""
        with self.open(name) as file:
            file.write(data)

    def _finish(self) -> None:
        if self.journal is not None:
            self.journal.discard()
        present = {path.name for path in self.path.iterdir()}
        if present != set(self._entries):
            loose = sorted(present ^ set(self._entries))
            raise RuntimeError(f"files of a draft not closed, or not written through it: {', '.join(loose)}")
        manifest = {"files": dict(sorted(self._entries.items()))}
        with open_hashed(self.path / MANIFEST, {}) as file:
            file.write(json.dumps(manifest, indent=1, ensure_ascii=False).encode() + b"\n")
        _sync_folder(self.path)


@contextmanager
def durable_folder(target: Path | str, *, overwrite: bool = False, resume: str | None = None) -> Iterator[Draft]:
    """Give a Draft whose files become the folder ``target`` at once when the block ends without an exception.

    With ``overwrite`` a folder that was written so before is replaced; one that holds anything else is refused.
    ``resume`` says all that the files hang on: this writer goes on with what a killed one of the same has left.
    Raise InputError for a target that may not be written, NotCommitted for a failed write (the target is as it
    was), DurabilityUncertain when only the last sync failed. Missing parents are made.
    """
    target = _absolute(target)
    published = False
    lock = None
    temporary = None
    try:
        _make_folder(target.parent)
        temporary, lock = (None, None) if resume is None else _adopt(target, resume)
        sweep(target)
        check_target(target, overwrite)
        if temporary is None:
            temporary, lock = _claim(target)
        draft = Draft(temporary, None if resume is None else Journal(temporary, resume))
        yield draft
        draft._finish()
        _publish(temporary, target, overwrite)
        published = True
    except (NotCommitted, DurabilityUncertain):
        raise
    except OSError as error:
        raise _not_committed(target, error) from error
    finally:
        if temporary is not None and not published:
            _remove(temporary)
        _release(lock)
    _sync_published(target)
    _remove(temporary)  # after an exchange the replaced folder stands here


def durable_file(target: Path | str, data: bytes, *, overwrite: bool = True) -> None:
    """Write one file with the same care; the old content or the new stands under the name at any time."""
    target = _absolute(target)
    if not overwrite and os.path.lexists(target):
        raise InputError(
            target, "the output exists already", "Choose another name, or overwrite it (--overwrite, overwrite=True)"
        )
    temporary = target.with_name(f".{target.name}.tmp-{secrets.token_hex(6)}")
    descriptor = None
    try:
        _make_folder(target.parent)
        sweep(target)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        _has_lock(descriptor, otherwise=True)
        write_all(descriptor, memoryview(data))
        os.fsync(descriptor)
        if overwrite:
            temporary.replace(target)
        else:
            target.hardlink_to(temporary)  # unlike a rename, it never replaces
    except OSError as error:
        raise _not_committed(target, error) from error
    finally:
        _remove(temporary)
        _release(descriptor)
    _sync_published(target)


def read_manifest(folder: Path) -> dict[str, tuple[int, str]]:
    """Give size and sha256 of each file that the folder's manifest lists."""
    path = folder / MANIFEST
    cure = "The folder was not written to its end: write it anew, or take a whole copy"
    manifest = parse_json(read_inside(folder, MANIFEST, limit=_MANIFEST_LIMIT), file=path)
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict):
        raise InputError(path, 'it has no object "files"', cure)
    result: dict[str, tuple[int, str]] = {}
    for name, entry in files.items():
        size = entry.get("size") if isinstance(entry, dict) else None
        digest = entry.get("sha256") if isinstance(entry, dict) else None
        if type(size) is not int or size < 0 or not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            raise InputError(path, f"the entry of {name[:200]!r} has no whole size and sha256", cure)
        result[name] = (size, digest)
    return result


def verify(folder: Path, *, hashes: bool) -> None:
    """Raise InputError unless every file of the manifest is there with its size and, if asked, its hash."""
    for name, (size, digest) in read_manifest(folder).items():
        path = contained(folder, name)
        descriptor, found = open_plain(path, culprit=folder / name)
        with os.fdopen(descriptor, "rb") as file:
            if found != size:
                problem = f"{found} bytes, the manifest says {size}"
                raise InputError(folder / name, problem, _CHANGED)
            if hashes and hashlib.file_digest(file, "sha256").hexdigest() != digest:
                problem = "its sha256 is not the one in the manifest"
                raise InputError(folder / name, problem, _CHANGED)


def sweep(target: Path | str) -> None:
    """Clear what killed writers of ``target`` left beside it; a live writer's work is never touched.

    If one was killed between moving the old folder aside and naming the new one, the old one gets its name back.
    What cannot be cleared is left for the next time.
    """
    target = _absolute(target)
    drafts, asides = f".{target.name}.tmp-", f".{target.name}.old-"
    with suppress(OSError):
        for path in sorted(target.parent.iterdir()):
            if path.name.startswith((drafts, asides)):
                with suppress(OSError):
                    _sweep_one(path, target, is_aside=path.name.startswith(asides))


def _sweep_one(path: Path, target: Path, *, is_aside: bool) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not _has_lock(descriptor, otherwise=False):
            return
        if is_aside and not os.path.lexists(target):
            path.rename(target)
        else:
            _remove(path)
    finally:
        _release(descriptor)


def _claim(target: Path) -> tuple[Path, int]:
    """Make and lock a temporary folder; try again when a sweeper came between the two."""
    while True:
        temporary = target.with_name(f".{target.name}.tmp-{secrets.token_hex(6)}")
        temporary.mkdir()
        lock = None
        try:
            lock = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            if _has_lock(lock, otherwise=True) and _is_same(lock, temporary):
                return temporary, lock
        except OSError:
            _remove(temporary)
            _release(lock)
            raise
        _release(lock)


def _adopt(target: Path, identity: str) -> tuple[Path | None, int | None]:
    """Lock the draft that a killed writer of the same left, and clear it of all but what its journal says is safe."""
    with suppress(OSError):
        for path in sorted(target.parent.glob(f"{glob.escape(f'.{target.name}.tmp-')}*")):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            if _has_lock(lock, otherwise=False) and _is_same(lock, path) and is_journal_of(path, identity):
                Journal(path, identity).clear()
                return path, lock
            _release(lock)
    return None, None


def check_target(target: Path, overwrite: bool) -> None:
    """Refuse a target that overwriting would destroy: only folders that were written here are replaced."""
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise InputError(
            target,
            "the output folder exists already",
            "Choose another name, or overwrite it (--overwrite, overwrite=True)",
        )
    if target.is_symlink() or not target.is_dir():
        raise InputError(target, "only a folder can be overwritten, this is a file or a link", "Choose another name")
    present = {path.name for path in target.iterdir()}
    if present and MANIFEST not in present:
        raise InputError(target, f"it has no {MANIFEST}, so it was not written by lamoid", "Choose another name")
    foreign = sorted(present - {MANIFEST} - set(read_manifest(target))) if present else []
    if foreign:
        problem = f"overwriting would delete {foreign[0]!r}, which its manifest does not list"
        raise InputError(target, problem, "Move that file away, or choose another name")


def _publish(temporary: Path, target: Path, overwrite: bool) -> None:
    """Give the finished folder its name. A replaced folder ends up under ``temporary``, never deleted before."""
    if not overwrite or not os.path.lexists(target):
        temporary.rename(target)  # fails if a folder that is not empty has appeared
        return
    held = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not _has_lock(held, otherwise=True) or not _is_same(held, target):
            raise BlockingIOError(errno.EAGAIN, "another writer is replacing it at this moment", str(target))
        check_target(target, overwrite)
        if not _exchange(temporary, target):
            _move_aside(temporary, target)
    finally:
        _release(held)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names in one step (Linux renameat2); False where system or file system cannot."""
    swap = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if swap is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if swap(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(first), None, str(second))


def _move_aside(temporary: Path, target: Path) -> None:
    """Replace in two steps; a kill between them is mended by the next ``sweep``."""
    aside = target.with_name(f".{target.name}.old-{secrets.token_hex(6)}")
    target.rename(aside)
    try:
        temporary.rename(target)
    except OSError as error:
        try:
            aside.rename(target)
        except OSError:
            raise OSError(error.errno, f"{error.strerror}; what stood there is now {aside}") from error
        raise
    with suppress(OSError):
        aside.rename(temporary)


def _has_lock(descriptor: int, *, otherwise: bool) -> bool:
    """Take the lock if it is free; ``otherwise`` is the answer on a file system that has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            return otherwise
        raise
    return True


def _release(descriptor: int | None) -> None:
    """Close a descriptor that nothing was written through: whether that succeeds changes no outcome."""
    if descriptor is not None:
        with suppress(OSError):
            os.close(descriptor)


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _absolute(target: Path | str) -> Path:
    target = Path(target).absolute()
    if not _is_file_name(target.name):
        raise InputError(target, "it has no name of its own to write under", "Give a path that ends in a plain name")
    return target


def _checked(name: str) -> str:
    if not _is_file_name(name) or name == MANIFEST:
        raise ValueError(f"{name!r} is no name for a file of a draft: bare, printable and not {MANIFEST!r}")
    return name


def _is_file_name(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and name.isprintable()


def _make_folder(path: Path) -> None:
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(exist_ok=True)
        _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_published(target: Path) -> None:
    try:
        _sync_folder(target.parent)
    except OSError as error:
        reason = f"it is written, but the disk did not confirm it ({error.strerror})"
        failure = DurabilityUncertain(f"{target}: {reason}. Check the disk and write again.")
        failure.errno = error.errno
        raise failure from error


def _remove(path: Path | None) -> None:
    """Delete as far as possible; what stays is swept by the next writer."""
    with suppress(OSError):
        if path is not None and path.is_dir():
            shutil.rmtree(path)
        elif path is not None:
            path.unlink()


def _not_committed(target: Path, error: OSError) -> NotCommitted:
    reason = f"{error.strerror or error} ({errno.errorcode.get(error.errno or 0, 'no code')})"
    cure = _CURES.get(error.errno or 0, "Try again, or choose another disk")
    failure = NotCommitted(f"{target}: nothing was written: {reason}. {cure}.")
    failure.errno = error.errno
    return failure


_CURES = {
    errno.ENOSPC: "Free some space, or choose another disk",
    errno.EDQUOT: "Free some of your quota, or choose another disk",
    errno.EFBIG: "Raise the limit of a file's size, or choose another disk",
    errno.EACCES: "Choose a folder that you may write to",
    errno.EPERM: "Choose a folder that you may write to",
    errno.EROFS: "The disk is read-only: choose another",
    errno.EMFILE: "Raise the limit of open files (ulimit -n)",
    errno.ENOTEMPTY: "Another writer made this folder meanwhile: choose another name",
    errno.EEXIST: "Another writer made it meanwhile: choose another name",
}
