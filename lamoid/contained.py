"""Finds and opens the files of a folder that may be a stranger's; refuses what leads out of it or is no plain file."""

import os
import re
import stat
from pathlib import Path

from lamoid.errors import InputError

_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def contained(folder: Path, name: str) -> Path:
    """Give the real path of ``folder/name``: a plain file inside the folder.

    A link may stay inside the folder or lead to a blob of the Hugging Face cache that the folder is a snapshot of
    (``models--x/snapshots/<revision>/name -> ../../blobs/<hash>``). Raise InputError for anything else.
    """
    culprit = folder / name
    if name in ("", ".", "..") or not name.isprintable() or re.search(r"[/\\:]", name):
        raise InputError(folder, f"{name[:200]!r} is not the name of a file in this folder", "Use a bare file name")
    try:
        home = folder.resolve(strict=True)
        real = culprit.resolve(strict=True)
    except FileNotFoundError:
        raise InputError(culprit, "the file does not exist", "Fetch the folder anew, or mend the link") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise InputError(culprit, f"the file cannot be reached ({error})", "Mend the link") from None
    if real.parent != home and not _is_cache_blob(home, real):
        raise InputError(culprit, f"the link leads out of the folder, to {real}", "Copy the file into the folder")
    return real


def _is_cache_blob(home: Path, real: Path) -> bool:
    in_snapshot = home.parent.name == "snapshots"
    return in_snapshot and real.parent == home.parent.parent / "blobs" and _BLOB.fullmatch(real.name) is not None


def open_plain(path: Path, *, culprit: object = None) -> tuple[int, int]:
    """Open a plain file for reading; give its descriptor and its size in bytes.

    A folder, pipe, socket or device is refused by InputError that says which, without waiting for a writer.
    """
    culprit = culprit or path
    descriptor = None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        status = os.fstat(descriptor)
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        raise InputError(culprit, f"the file cannot be opened ({error.strerror})", "Check path and rights") from None
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise InputError(culprit, f"it is a {kind}, not a plain file", "Put a plain file there")
    return descriptor, status.st_size


def read_whole(path: Path, *, limit: int, culprit: object = None) -> bytes:
    """Read a plain file of at most ``limit`` bytes; the size is checked before anything is read.

    An error names ``culprit``, by default the path.
    """
    culprit = culprit or path
    descriptor, size = open_plain(path, culprit=culprit)
    with os.fdopen(descriptor, "rb") as file:
        if size > limit:
            raise InputError(culprit, f"{size} bytes, the limit for this kind of file is {limit}", "Check the file")
        try:
            return file.read(limit + 1)[:limit]
        except OSError as error:
            raise InputError(culprit, f"reading failed ({error.strerror})", "Check the disk") from None


def read_inside(folder: Path, name: str, *, limit: int) -> bytes:
    """Read the plain file ``folder/name`` of at most ``limit`` bytes, as ``contained`` finds it."""
    return read_whole(contained(folder, name), limit=limit, culprit=folder / name)


def is_there(folder: Path, name: str) -> bool:
    """Tell whether the folder has anything of this name, be it a link that leads nowhere."""
    return os.path.lexists(folder / name)


_KINDS = {
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "pipe (FIFO)",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
