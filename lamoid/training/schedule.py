"""How the learning rate moves: a warm-up from nothing, then a decay to a share of the peak, counted in steps."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from lamoid.assembly.bounds import at_least_zero, whole
from lamoid.errors import InputError
from lamoid.training.waiting import falls_of_patience

MOST_STEPS = 10**9
Decay = Literal["cosine", "linear", "sqrt", "inverse_sqrt", "plateau", "none"]


class ScheduleSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``warmup`` steps below the peak, then the peak, then ``decay`` down to ``final`` times the peak.

    The first step after the warm-up has the peak itself and the last step exactly ``final`` times it; a run whose last
    step is the first after the warm-up ends at the peak. ``decay_share``, of all steps, or ``decay_steps`` keeps the
    decay to so many steps at the end, before which the peak stays (Hu et al., 2024); 0 is all after the warm-up.

    Decay ``"sqrt"`` is 1 - sqrt(share done) (Hägele et al., 2024). ``"inverse_sqrt"`` is sqrt(warmup + 1) / sqrt(steps
    so far), at least ``final`` (Vaswani et al., 2017). ``"plateau"`` multiplies the rate by ``factor``, down to
    ``final``, whenever more than ``patience`` validation losses in a row were not lower than the lowest by more than
    ``least_gain``. ``"none"`` stays at the peak and reads no ``final``.
    """

    warmup: int = 0
    decay: Decay = "cosine"
    final: float = 0.1
    decay_share: float = 0.0
    decay_steps: int = 0
    factor: float = 0.5
    patience: int = 2
    least_gain: float = 0.0

    def __post_init__(self) -> None:
        whole("warmup", self.warmup, 0, MOST_STEPS)
        whole("decay_steps", self.decay_steps, 0, MOST_STEPS)
        whole("patience", self.patience, 0, MOST_STEPS)
        at_least_zero("least_gain", self.least_gain)
        if not 0.0 <= self.final <= 1.0:
            raise InputError("final", f"is {self.final}, must lie from 0 to 1", "give the share of the peak to end at")
        if not 0.0 <= self.decay_share <= 1.0:
            raise InputError("decay_share", f"is {self.decay_share}, must lie from 0 to 1", "give a share of all steps")
        if not 0.0 < self.factor < 1.0:
            raise InputError("factor", f"is {self.factor}, must be above 0 and below 1", "0.5 halves the rate")
        said = "decay_steps" if self.decay_steps else "decay_share" if self.decay_share else ""
        if said and self.decay not in DECAYS:
            cure = f"choose one of {', '.join(sorted(DECAYS))}, or leave it out"
            raise InputError(said, f"is set, and the decay is {self.decay!r}, which has no end part", cure)
        if self.decay_steps and self.decay_share:
            raise InputError("decay_share", "is set beside decay_steps", "choose one of the two")

    def check(self, steps: int, key: str) -> None:
        """Raise ``InputError`` if the parts of the schedule do not fit into the steps that ``key`` asks for."""
        if self.warmup >= steps:
            problem = f"is {self.warmup}, not less than {key} {steps}"
            raise InputError("schedule.warmup", problem, "shorten the warm-up")
        if self.warmup + self._end(steps) >= steps:
            problem = (
                f"makes {self._end(steps)} steps, which with the warm-up's {self.warmup} leave none of {key} {steps}"
            )
            place = "decay_steps" if self.decay_steps else "decay_share"
            raise InputError(f"schedule.{place}", problem, "shorten it, or the warm-up")

    def share(self, step: int, steps: int) -> float:
        """Give the share of the peak learning rate for step number ``step`` (from 0) of ``steps``.

        Step k of the warm-up has (k + 1) / (warmup + 1), never 0; the cosine is that of Loshchilov and Hutter (2017).
        """
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        if self.decay == "inverse_sqrt":
            return max(self.final, math.sqrt((self.warmup + 1) / (step + 1)))
        if self.decay not in DECAYS:
            return 1.0
        length = self._end(steps) or max(1, steps - 1 - self.warmup)
        done = (step - (steps - 1 - length)) / length if self._end(steps) else (step - self.warmup) / length
        return self.final + (1.0 - self.final) * DECAYS[self.decay](min(max(done, 0.0), 1.0))

    def level(self, validations: Sequence[tuple[int, float]]) -> float:
        """Give the share of its schedule that a plateau of the validation losses (step, loss) leaves of the rate.

        It follows from the losses alone, so a run that goes on from a checkpoint, which has them, has the same one.
        """
        if self.decay != "plateau":
            return 1.0
        losses = [loss for step, loss in validations if step > self.warmup]
        falls = falls_of_patience(losses, self.patience, self.least_gain)
        return max(self.final, self.factor ** len(falls))

    def _end(self, steps: int) -> int:
        """Give the number of steps at the end in which the rate decays; 0 if that is all of them."""
        return self.decay_steps or math.ceil(self.decay_share * steps)


DECAYS: dict[str, Callable[[float], float]] = {
    "cosine": lambda done: 0.5 * (1.0 + math.cos(math.pi * done)),
    "linear": lambda done: 1.0 - done,
    "sqrt": lambda done: 1.0 - math.sqrt(done),
}
