"""Who is told a run's figures: the lines of JSON in its folder always, and what else its recipe asks for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lamoid.recipes.log_table import LogTable
from lamoid.training.energy import Energy
from lamoid.training.figures_written import Writer
from lamoid.training.json_lines import JsonLines, last_value
from lamoid.training.tensorboard_events import tensorboard
from lamoid.training.wandb_run import open_wandb

METRICS = "metrics.jsonl"


@dataclass
class Watch:
    """The writers of a run; ``lines`` also takes what is no number. ``remarks`` says what could not be opened."""

    lines: JsonLines
    writers: list[Writer] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    _closings: list[Callable[[], None]] = field(default_factory=list)

    def add(self, opened: tuple[Writer, Callable[[], None]] | None, missing: str) -> None:
        """Take a writer with the function that closes it, or say what its absence means."""
        if opened is None:
            self.remarks.append(missing)
            return
        self.writers.append(opened[0])
        self._closings.append(opened[1])

    def close(self) -> None:
        """Close every writer, the last opened first, also when one of them fails."""
        while self._closings:
            closing = self._closings.pop()
            try:
                closing()
            finally:
                self.close()


def watch(out: Path, table: LogTable, *, after: int, settings: dict[str, Any]) -> Watch:
    """Open the writers for a run that goes on after step ``after``; ``settings`` is its recipe as nested values."""
    lines = JsonLines(out / METRICS, after=after)
    watch = Watch(lines, [lines])
    try:
        if table.tensorboard:
            opened = tensorboard(out / "tensorboard", after=after)
            watch.add(opened, "no event files for TensorBoard: pip install 'lamoid[track]'")
        if table.wandb != "off":
            opened = open_wandb(out, mode=table.wandb, project=table.project, settings=settings)
            watch.add(opened, "no run at W&B: pip install 'lamoid[track]'")
    except BaseException:
        watch.close()
        raise
    return watch


def resume_energy(energy: Energy | None, out: Path) -> str:
    """Add what the run took before, also for steps that are made again; give what is to be said of the counters.

    Call it before ``watch``, which drops the lines of such steps.
    """
    if energy is None:
        return "no figures of energy: this machine has no counter that can be read"
    energy.before = last_value(out / METRICS, "energy_joules")
    return f"energy is that of {energy.names}, with all that runs there"
