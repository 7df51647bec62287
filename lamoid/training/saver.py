"""Saving beside the training: a copy of the moment is written by a thread, and its failure comes with the next step."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType

import torch
from torch import Tensor

from lamoid.training.checkpoint import Checkpoints
from lamoid.training.state import TrainingState


class Saver:
    """Writes a run's checkpoints, in the background or while the training waits; to be used in a ``with`` block.

    In the background there is one at a time: the next one waits for the last one's end. The copies are kept for the
    next time, so the state is held twice in memory.
    """

    def __init__(self, checkpoints: Checkpoints, *, background: bool) -> None:
        self.checkpoints = checkpoints
        self._background = background
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: tuple[int, Future[None]] | None = None
        self._copies: dict[str, Tensor] = {}
        self._saved: int | None = None

    def save(self, state: TrainingState) -> None:
        """Save this moment: a hook. Raise ``NotCommitted`` or ``DurabilityUncertain``, also those of the one before."""
        self.join()
        snapshot = self.checkpoints.take(state)
        if not self._background:
            self.checkpoints.commit(snapshot)
            self._saved = state.step
            return
        copied = replace(snapshot, tensors=self._copied(snapshot.tensors))
        self._pending = state.step, self._thread.submit(self.checkpoints.commit, copied)

    def save_now(self, state: TrainingState) -> None:
        """Save this moment if that was not done, and wait until it is."""
        self.join()
        if self._saved != state.step:
            self.save(state)
            self.join()

    def check(self, state: TrainingState) -> None:
        """Raise the failure of a save that has ended meanwhile: a hook, to be called after every step."""
        if self._pending is not None and self._pending[1].done():
            self.join()

    def join(self) -> None:
        """Wait for a save in the background, and raise its failure."""
        if self._pending is not None:
            (step, future), self._pending = self._pending, None
            future.result()
            self._saved = step

    def __enter__(self) -> "Saver":
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """Wait for the last save; what else went wrong comes before its failure."""
        try:
            self.join()
        except OSError as error:
            if value is None:
                raise
            value.add_note(f"Also, a checkpoint was not saved: {error}")
        finally:
            self._thread.shutdown()

    def _copied(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copy into the memory of the last time where it fits; pinned, where the copies come from a GPU."""
        fresh: dict[str, Tensor] = {}
        for name, value in tensors.items():
            place = self._copies.get(name)
            if place is None or place.shape != value.shape or place.dtype != value.dtype:
                place = torch.empty(value.shape, dtype=value.dtype, pin_memory=value.device.type == "cuda")
            fresh[name] = place.copy_(value.detach(), non_blocking=True)
        self._copies = fresh
        if any(value.device.type == "cuda" for value in tensors.values()):
            torch.cuda.synchronize()
        return fresh
