"""How the learning rate moves: a warm-up from nothing, then a decay to a share of the peak, counted in steps."""

import math
from typing import Literal

import msgspec

from lamoid.assembly.bounds import whole
from lamoid.errors import InputError

MOST_STEPS = 10**9


class ScheduleSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``warmup`` steps below the peak, then the peak, then ``decay`` down to ``final`` times the peak.

    The first step after the warm-up has the peak itself and the last step exactly ``final`` times it; a run whose last
    step is the first after the warm-up ends at the peak. Decay ``"none"`` stays at the peak and reads no ``final``.
    """

    warmup: int = 0
    decay: Literal["cosine", "linear", "none"] = "cosine"
    final: float = 0.1

    def __post_init__(self) -> None:
        whole("warmup", self.warmup, 0, MOST_STEPS)
        if not 0.0 <= self.final <= 1.0:
            raise InputError("final", f"is {self.final}, must lie from 0 to 1", "give the share of the peak to end at")

    def share(self, step: int, steps: int) -> float:
        """Give the share of the peak learning rate for step number ``step`` (from 0) of ``steps``.

        Step k of the warm-up has (k + 1) / (warmup + 1), never 0; the cosine is that of Loshchilov and Hutter (2017).
        """
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        done = (step - self.warmup) / max(1, steps - 1 - self.warmup)
        return self.final + (1.0 - self.final) * DECAYS[self.decay](min(done, 1.0))


DECAYS = {
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    "linear": lambda done: 1.0 - done,
    "none": lambda done: 1.0,
}
