"""How far the large files of a draft have safely come: what a killed writer of the same work goes on from."""

import os
from contextlib import suppress
from pathlib import Path

import msgspec

JOURNAL = ".journal"
_LIMIT = 16 << 20


class _Line(msgspec.Struct, omit_defaults=True):
    identity: str = ""
    work: str = ""
    file: str = ""
    safe: int = 0


class Journal:
    """Lines of JSON, each synced when it is written; the last of a file counts, and a torn last line does not.

    ``identity`` is what the writer was asked for, ``work`` what it found that to be. ``part`` tells the journals of
    several writers apart.
    """

    def __init__(self, folder: Path, identity: str, *, part: int = 0) -> None:
        self.identity, self._part = identity, part
        self._path = folder / (f"{JOURNAL}-{part}" if part else JOURNAL)
        lines = _read(self._path)
        is_same = bool(lines) and lines[0].identity == identity
        self.safe: dict[str, int] = {line.file: line.safe for line in lines if line.file} if is_same else {}
        self._work = next((line.work for line in lines if line.work), "") if is_same else ""
        if not is_same:
            self._path.unlink(missing_ok=True)
            self._append(_Line(identity=identity))

    def begin(self, work: str) -> None:
        """Say what the work is; what earlier writers left of another one is removed, by the writer of no part."""
        if work == self._work:
            return
        if not self._part:
            for name in self._safe_anywhere():
                (self._path.parent / name).unlink(missing_ok=True)
            self.discard()
        self._path.unlink(missing_ok=True)
        self.safe, self._work = {}, work
        self._append(_Line(identity=self.identity))
        self._append(_Line(work=work))

    def note(self, name: str, position: int) -> None:
        """Note that the first ``position`` bytes of a file are on the disk."""
        self.safe[name] = position
        self._append(_Line(file=name, safe=position))

    def discard(self) -> None:
        """Remove the journals of all writers: there is nothing left to go on with."""
        for path in self._path.parent.glob(f"{JOURNAL}*"):
            path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove what is safe by no writer's journal."""
        kept = self._safe_anywhere()
        for path in self._path.parent.iterdir():
            if path.name not in kept and not path.name.startswith(JOURNAL):
                path.unlink()

    def _safe_anywhere(self) -> set[str]:
        lines = [line for path in self._path.parent.glob(f"{JOURNAL}*") for line in _read(path)]
        return {line.file for line in lines if line.safe}

    def _append(self, line: _Line) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            os.write(descriptor, b"\n" + msgspec.json.encode(line) + b"\n")  # the first ends a torn line
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def is_journal_of(folder: Path, identity: str) -> bool:
    """Say whether a writer with this identity left the folder."""
    lines = _read(folder / JOURNAL)
    return bool(lines) and lines[0].identity == identity


def _read(path: Path) -> list[_Line]:
    """Give the whole lines of a journal that is our own, none where it cannot be read."""
    try:
        if path.is_symlink() or path.stat().st_size > _LIMIT:
            return []
        data = path.read_bytes()
    except OSError:
        return []
    found = []
    for line in data.split(b"\n"):
        with suppress(msgspec.DecodeError):
            if line:
                found.append(msgspec.json.decode(line, type=_Line))
    return found
