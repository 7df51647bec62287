"""One change of the parameters: clip the gradients, set the learning rate, step; no step for a gradient not finite."""

import math
from dataclasses import dataclass

from torch import nn

from lamoid.errors import InputError
from lamoid.training.schedule import ScheduleSpec
from lamoid.training.state import TrainingState


class TrainingDiverged(InputError):  # noqa: N818
    """Says that the loss or its gradient is no longer a finite number; the parameters are still those of before."""

    def __init__(self, step: int, rate: float, what: str) -> None:
        cure = "Lower the learning rate, lengthen the warm-up or clip harder, or go on from an earlier checkpoint"
        super().__init__(f"training step {step}", f"the {what}, at learning rate {rate:g}", cure)
        self.arguments = (step, rate, what)

    def __reduce__(self) -> tuple:
        return type(self), self.arguments


@dataclass(frozen=True)
class Update:
    """Clips the gradients' joint norm to ``clip`` (0: not at all) and steps at the learning rate of ``schedule``."""

    schedule: ScheduleSpec
    clip: float = 1.0

    def __call__(self, state: TrainingState) -> None:
        """Change the parameters once."""
        state.share = self.schedule.share(state.step, state.steps)
        parameters = list(state.optimizer.parameters)
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        state.gradient_norm = norm.item()
        check_finite(state, "norm of the gradient", state.gradient_norm)
        if self.clip:
            nn.utils.clip_grads_with_norm_(parameters, self.clip, norm)
        state.optimizer.set_share(state.share)
        state.optimizer.step()


def check_finite(state: TrainingState, what: str, value: float) -> None:
    """Raise ``TrainingDiverged`` for a value that is infinite or no number."""
    if not math.isfinite(value):
        rate = state.optimizer.learning_rates[0] * (state.share or 1.0)
        raise TrainingDiverged(state.step + 1, rate, f"{what} is {value}")
