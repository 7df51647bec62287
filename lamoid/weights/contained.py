"""Finds and opens the files of a model folder, and refuses what leads out of it or is no plain file."""

import os
import re
import stat
from pathlib import Path

from lamoid.errors import InputError

_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def contained(folder: Path, name: str) -> Path:
    """Gives the real path of ``folder/name``: a plain file inside the folder.

    A link may stay inside the folder or lead to a blob of the Hugging Face cache that the folder is a snapshot of
    (``models--x/snapshots/<revision>/name -> ../../blobs/<hash>``). Raises InputError for anything else.
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
    """Opens a plain file for reading; gives its descriptor and its size in bytes.

    A folder, pipe, socket or device is refused by InputError, without waiting for a writer.
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
        raise InputError(culprit, "it is a folder, pipe or device, not a plain file", "Give a plain file")
    return descriptor, status.st_size


def read_whole(path: Path, *, limit: int) -> bytes:
    """Reads a plain file of at most ``limit`` bytes; the size is checked before anything is read."""
    descriptor, size = open_plain(path)
    with os.fdopen(descriptor, "rb") as file:
        if size > limit:
            raise InputError(path, f"{size} bytes, the limit for this kind of file is {limit}", "Check the file")
        try:
            return file.read(limit + 1)[:limit]
        except OSError as error:
            raise InputError(path, f"reading failed ({error.strerror})", "Check the disk") from None
