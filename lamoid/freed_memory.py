"""Memory that is freed: whether the C library keeps it for what is asked for next, or gives it back."""

import contextlib
import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""What ``mallopt`` calls its parameters (malloc.h of glibc)."""
_KEEPING = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1}
_USUAL = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 64 << 20}
"""glibc's own, but for the thresholds: those are where its moving ones end after the first large block."""


def give_freed_memory_back() -> None:
    """Give what is free in the heaps of all threads back to the system; without glibc this does nothing."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Keep what is freed inside with the process, and give it back at the end; without glibc this does nothing.

    A training step frees and asks for the same hundreds of megabytes as the one before. glibc maps large blocks one by
    one and cuts off the end of its heap, so that every page is zeroed and mapped anew (mallopt(3)).
    """
    library = ctypes.CDLL(None)
    try:
        mallopt = library.mallopt
    except AttributeError:
        yield
        return
    try:
        for parameter, value in _KEEPING.items():
            mallopt(parameter, value)
        yield
    finally:
        for parameter, value in _USUAL.items():
            mallopt(parameter, value)
        give_freed_memory_back()
