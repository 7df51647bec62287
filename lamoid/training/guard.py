"""Steps that must not be made: what is not finite, or stands far above the recent losses, is caught beforehand."""

import math
from collections import deque
from collections.abc import Callable
from typing import Literal

import msgspec
import torch
from torch import Tensor

from lamoid.assembly.bounds import positive, whole
from lamoid.errors import InputError
from lamoid.training.incident import Incident
from lamoid.training.state import TrainingState

LEAST_LOSSES = 16
"""Fewer recent losses than these say too little of what is usual."""

LEAST_DEVIATION = 1e-3
"""The least share of the mean that counts as one deviation: a loss that hardly moves has no spikes of rounding."""


class TrainingDiverged(InputError):  # noqa: N818
    """Says that a step cannot be made: the loss or its gradient is not finite; the parameters are those of before."""

    def __init__(self, step: int, rate: float, what: str) -> None:
        cure = "Lower the learning rate, lengthen the warm-up or clip harder, or go on from an earlier checkpoint"
        super().__init__(f"training step {step}", f"the {what}, at learning rate {rate:g}", cure)
        self.arguments = (step, rate, what)

    def __reduce__(self) -> tuple:
        return type(self), self.arguments


class NoTarget(InputError):  # noqa: N818
    """Says that a batch has nothing to learn from."""

    def __init__(self, step: int) -> None:
        super().__init__("data", f"the batch of step {step} has no target", "use longer documents")
        self.step = step

    def __reduce__(self) -> tuple:
        return type(self), (self.step,)


class RollBack(Exception):  # noqa: N818
    """Asks whoever runs the loop to go back to a checkpoint and on with the data behind this step's."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(step, what)
        self.step, self.what = step, what


class GuardSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do about a loss or gradient that is not finite, a batch without a target, and a spike of the loss.

    A spike stands more than ``deviations`` standard deviations above the mean of the last ``window`` losses that were
    learnt from. ``"raise"`` ends the run; ``"skip"`` drops the gradient and counts the step; ``"roll_back"`` goes back
    to the newest checkpoint that was due and on with the data behind the step; more than ``most_in_a_row`` of these end
    the run.
    """

    on_nonfinite: Literal["raise", "skip", "roll_back"] = "raise"
    on_spike: Literal["ignore", "raise", "skip", "roll_back"] = "ignore"
    deviations: float = 6.0
    window: int = 128
    most_in_a_row: int = 5

    def __post_init__(self) -> None:
        positive("deviations", self.deviations)
        whole("window", self.window, LEAST_LOSSES, 10**6)
        whole("most_in_a_row", self.most_in_a_row, 1, 10**6)

    @property
    def has_memory(self) -> bool:
        """Say whether a guard by this spec must be part of a checkpoint."""
        return self.on_nonfinite != "raise" or self.on_spike != "ignore"

    @property
    def rolls_back(self) -> bool:
        """Say whether it may ask to go back to a checkpoint."""
        return "roll_back" in (self.on_nonfinite, self.on_spike)


class Guard:
    """Judges each step before it is made; a part of the state, for it remembers the recent losses."""

    def __init__(self, spec: GuardSpec) -> None:
        self.spec = spec
        self.recent: deque[float] = deque(maxlen=spec.window)
        self.in_a_row = 0

    def allows(self, state: TrainingState, loss: float | None, norm: float) -> bool:
        """Say whether the step may be made; ``loss`` is ``None`` where the batch has no target.

        A step that is to be skipped is noted in ``state.incidents``. Raise ``TrainingDiverged``, ``NoTarget`` or
        ``RollBack`` as the spec says.
        """
        what, action = self._find(loss, norm)
        if what is None:
            self.in_a_row = 0
            if loss is not None and self.spec.on_spike != "ignore":
                self.recent.append(loss)
            return True
        if action == "roll_back":
            raise RollBack(state.step + 1, what)
        self.in_a_row += 1
        if action == "raise" or self.in_a_row > self.spec.most_in_a_row:
            raise self._refusal(state, loss, what, action)
        state.incidents.append(Incident(state.step + 1, "skip", what))
        return False

    def tensors(self) -> dict[str, Tensor]:
        """Give the recent losses (float64) and how many steps in a row were skipped (int64)."""
        recent = torch.tensor(list(self.recent), dtype=torch.float64)
        return {"recent": recent, "in_a_row": torch.tensor(self.in_a_row)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put back what ``tensors`` gave."""
        if tensors.keys() != {"recent", "in_a_row"}:
            raise InputError("checkpoint", "does not hold the guard's losses", "resume with the recipe of the run")
        self.recent = deque(tensors["recent"].tolist(), maxlen=self.spec.window)
        self.in_a_row = int(tensors["in_a_row"])

    def _find(self, loss: float | None, norm: float) -> tuple[str | None, str]:
        """Give what is wrong, ``None`` for nothing, and what is to be done about it."""
        if loss is None:
            return "the batch has no target", self.spec.on_nonfinite
        for name, value in (("loss", loss), ("norm of the gradient", norm)):
            if not math.isfinite(value):
                return f"{name} is {value}", self.spec.on_nonfinite
        return (None, "") if self.spec.on_spike == "ignore" else (self._spike(loss), self.spec.on_spike)

    def _spike(self, loss: float) -> str | None:
        if len(self.recent) < LEAST_LOSSES:
            return None
        mean = math.fsum(self.recent) / len(self.recent)
        variance = math.fsum((value - mean) ** 2 for value in self.recent) / len(self.recent)
        height = (loss - mean) / max(math.sqrt(variance), LEAST_DEVIATION * abs(mean), 1e-12)
        if height <= self.spec.deviations:
            return None
        return f"loss {loss:.4g} is {height:.1f} deviations above the mean {mean:.4g} of the last {len(self.recent)}"

    def _refusal(self, state: TrainingState, loss: float | None, what: str, action: str) -> InputError:
        if action == "skip":
            what += f", and {self.in_a_row} steps in a row were not made (guard.most_in_a_row)"
        if loss is None and action == "raise":
            return NoTarget(state.step + 1)
        rate = state.optimizer.learning_rates[0] * (state.share or 1.0)
        return TrainingDiverged(state.step + 1, rate, what)


def log_incidents(writers: list[Callable[[Incident], None]]) -> Callable[[TrainingState], None]:
    """Make the hook, to be called after every step, that hands on what happened to the step."""

    def hook(state: TrainingState) -> None:
        for incident in state.incidents:
            if incident.action == "skip" and incident.step == state.step:
                for write in writers:
                    write(incident)

    return hook
