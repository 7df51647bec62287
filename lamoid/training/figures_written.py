"""What a writer of figures is, and how it says that its disk failed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lamoid.weights.durable import NotCommitted

Figures = Mapping[str, float]
Writer = Callable[[int, Figures], None]


@contextmanager
def figures_written(place: Path) -> Iterator[None]:
    """Turn a disk's error into the one that says so."""
    try:
        yield
    except OSError as error:
        problem = f"{place}: the figures were not written ({error.strerror or error})"
        raise NotCommitted(error.errno, problem) from error
