"""Progress of long work, on standard error: a bar on a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self, TextIO

import rich.console
import rich.progress


class Progress:
    """Shows one piece of work at a time: how far, how fast, how long still, and the latest figures.

    ``start(label, total, unit)``, then ``advance(n, loss=2.1)`` as often as wanted, then ``finish()``.
    """

    def __init__(self, stream: TextIO | None = None, *, interval: float = 5.0) -> None:
        self.stream = stream or sys.stderr
        self.interval = interval
        self._bar: rich.progress.Progress | None = None
        self._is_running = False

    def start(self, label: str, total: int | None = None, unit: str = "") -> None:
        """Begin a piece of work of ``total`` units; an unknown total is ``None``."""
        self.finish()
        self._label, self._total, self._unit = label, total, unit
        self._done, self._text = 0, ""
        self._began = self._shown = time.monotonic()
        self._is_running = True
        if self.stream.isatty():
            self._bar = _bar(rich.console.Console(file=self.stream))
            self._task = self._bar.add_task(label, total=total, figures="")
            self._bar.start()

    def advance(self, n: float = 1, **figures: float | str) -> None:
        """Count ``n`` more units as done; ``figures`` are shown beside them."""
        if not self._is_running:
            return
        self._done += n
        if figures:
            self._text = "  ".join(f"{name.replace('_', ' ')} {_short(value)}" for name, value in figures.items())
        now = time.monotonic()
        if self._bar:
            self._bar.update(self._task, completed=self._done, figures=f"{self._speed(now)}  {self._text}")
        elif now - self._shown >= self.interval:
            self._shown = now
            self.say(self._line(now))

    def finish(self) -> None:
        """End the piece of work, if there is one, with its last line."""
        if not self._is_running:
            return
        self._is_running = False
        if self._bar:
            self._bar.stop()
            self._bar = None
        else:
            self.say(self._line(time.monotonic()))

    def say(self, text: str) -> None:
        """Print one line, above the bar if there is one."""
        if self._bar:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self.stream, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self.finish()
        elif self._bar:
            self._bar.stop()

    def _speed(self, now: float) -> str:
        return f"{_short(self._done / max(now - self._began, 1e-9))} {self._unit}/s".replace(" /", "/")

    def _line(self, now: float) -> str:
        of = f"/{self._total}" if self._total is not None else ""
        parts = [f"{self._label}: {self._done}{of} {self._unit}".rstrip(), self._speed(now)]
        if self._total is not None and 0 < self._done < self._total:
            parts.append(f"{_clock((now - self._began) * (self._total - self._done) / self._done)} left")
        else:
            parts.append(f"{_clock(now - self._began)} taken")
        return "  ".join([*parts, self._text] if self._text else parts)


def _bar(console: rich.console.Console) -> rich.progress.Progress:
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(bar_width=24),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeRemainingColumn(),
        rich.progress.TextColumn("{task.fields[figures]}"),
        console=console,
    )


def _short(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
