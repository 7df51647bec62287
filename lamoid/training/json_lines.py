"""Figures as lines of JSON, in a file that a run which goes on goes on with."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from lamoid.training.figures_written import figures_written
from lamoid.weights.durable import durable_file


class JsonLines:
    """Appends one JSON object a line to a file; a line is written in one call, or taken back."""

    def __init__(self, path: Path, *, after: int) -> None:
        """Keep the whole lines of up to step ``after`` of an earlier run, drop the rest."""
        self.path = path
        kept = [line for line in _lines(path) if _step(line) <= after] if after else []
        durable_file(path, b"".join(kept))

    def __call__(self, step: int, figures: Mapping[str, Any]) -> None:
        """Append the figures of one step."""
        line = msgspec.json.encode({"step": step, **figures}) + b"\n"
        with figures_written(self.path):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                before = os.fstat(descriptor).st_size
                if os.write(descriptor, line) < len(line):
                    os.ftruncate(descriptor, before)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            finally:
                os.close(descriptor)


def last_value(path: Path, name: str) -> float:
    """Give the latest value of a figure that stands in a file of lines, 0 if none does."""
    values = (_entry(line).get(name) for line in reversed(_lines(path)))
    return next((float(value) for value in values if isinstance(value, int | float)), 0.0)


def last_step(path: Path) -> int:
    """Give the highest step that a file of such lines names, 0 without one."""
    steps = [_entry(line).get("step") for line in _lines(path)]
    return max((step for step in steps if isinstance(step, int)), default=0)


def _lines(path: Path) -> list[bytes]:
    """Give the whole lines of a file, without a last one that was torn."""
    data = path.read_bytes() if path.exists() else b""
    return [line for line in data.splitlines(keepends=True) if line.endswith(b"\n")]


def _step(line: bytes) -> float:
    """Give a line's step; one that is no such JSON counts as later than any."""
    step = _entry(line).get("step")
    return step if isinstance(step, int) else float("inf")


def _entry(line: bytes) -> dict[str, Any]:
    """Give the object in a line, an empty one for what is none."""
    try:
        entry: Any = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) else {}
