"""Figures as TensorBoard's event files."""

from collections.abc import Callable
from pathlib import Path

from lamoid.training.figures_written import Figures, Writer, figures_written


def tensorboard(folder: Path, *, after: int) -> tuple[Writer, Callable[[], None]] | None:
    """Make a writer of TensorBoard's event files and the function that closes it; ``None`` without the extra."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    with figures_written(folder):
        events = SummaryWriter(str(folder), purge_step=after + 1 if after else None)

    def write(step: int, figures: Figures) -> None:
        with figures_written(folder):
            for name, value in figures.items():
                events.add_scalar(name, value, step)

    def close() -> None:
        with figures_written(folder):
            events.close()

    return write, close
