"""Being asked to stop: the first SIGTERM or Ctrl-C ends a run after the step, saved; the second ends it at once."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from lamoid.errors import Stopped
from lamoid.training.state import TrainingState

HEEDED = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
"""The signals, and the handlers that may be taken over: what a program has set up for itself stays."""

_TOLD = b"\nlamoid: stopping after this step; once more to leave at once, without saving\n"


class Asked:
    """Remembers the signal that asked the run to stop, ``None`` if none has."""

    def __init__(self, *, tell: bool) -> None:
        self.by: signal.Signals | None = None
        self._tell = tell

    def heed(self, number: int, frame: FrameType | None) -> None:
        """Remember the first signal; let the second one end the process as if nobody had listened."""
        if self.by is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.by = signal.Signals(number)
        if self._tell:
            os.write(2, _TOLD)  # not through a buffer, which the signal may have found half written


@contextmanager
def heed_signals(*, tell: bool) -> Iterator[Asked]:
    """Listen for SIGTERM and SIGINT within the block, and put their handlers back behind it.

    ``tell`` writes a line to standard error when one comes. Only the main thread of a program may listen: elsewhere,
    as for a signal that is ignored or that the program handles itself, nothing is changed.
    """
    asked = Asked(tell=tell)
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in HEEDED}
        before = {number: handler for number, handler in before.items() if handler == HEEDED[number]}
    try:
        for number in before:
            signal.signal(number, asked.heed)
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_when_asked(asked: Asked, save: Callable[[TrainingState], None]) -> Callable[[TrainingState], None]:
    """Make the hook, to be the last one and called after every step, that saves and leaves with ``Stopped``."""

    def hook(state: TrainingState) -> None:
        if asked.by is None:
            return
        save(state)
        done = f"stopped by {asked.by.name} after step {state.step} of {state.steps}, which is saved"
        raise Stopped(f"{done}. Go on with --resume.", 128 + asked.by)

    return hook
