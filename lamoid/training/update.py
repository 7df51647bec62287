"""One change of the parameters: judge the step, clip the gradients, set the learning rate, step."""

import math
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from lamoid.training.guard import Guard, GuardSpec, TrainingDiverged
from lamoid.training.schedule import ScheduleSpec
from lamoid.training.state import TrainingState


@dataclass(frozen=True)
class Update:
    """Clips the gradients' joint norm to ``clip`` (0: not at all) and steps at the learning rate of ``schedule``.

    A step that ``guard`` does not allow changes no parameter, and drops the gradient. A loss that is a tensor, as on a
    CUDA device, is read only if the guard may have more to say than to end the run: nothing waits for the device, and
    a run that lost its numbers ends when its losses are next read, which a checkpoint does.
    """

    schedule: ScheduleSpec
    clip: float = 1.0
    guard: Guard = field(default_factory=lambda: Guard(GuardSpec()))

    def __call__(self, state: TrainingState, loss: float | Tensor | None) -> None:
        """Change the parameters once, after a batch of this ``loss``; ``None`` for one without a target."""
        state.share = self.schedule.share(state.step, state.steps) * self.schedule.level(state.validations)
        parameters = list(state.optimizer.parameters)
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if isinstance(loss, Tensor) and not self.guard.spec.has_memory and state.scale is None:
            state.gradient_norm = norm
            state.judge = partial(self._judge, state)
        elif not self._allows(state, None if loss is None else float(loss), norm.item()):
            drop_gradients(state)
            return
        # Well below the limit the factor, limit / (norm + 1e-6), is 1; a device is not waited for to know it.
        if self.clip and (norm.device.type != "cpu" or norm.item() + 1e-6 > 0.99 * self.clip):
            nn.utils.clip_grads_with_norm_(parameters, self.clip, norm)
        state.optimizer.set_share(state.share)
        state.optimizer.step()

    def _allows(self, state: TrainingState, loss: float | None, norm: float) -> bool:
        """Say whether the step may be made; a gradient that overflowed float16 alone is no concern of the guard."""
        state.gradient_norm = norm
        if state.scale is not None and loss is not None and math.isfinite(loss) and not state.scale.takes(norm):
            return False
        return self.guard.allows(state, loss, norm)

    def _judge(self, state: TrainingState, step: int, loss: float, norm: float) -> None:
        """Raise ``TrainingDiverged`` for a step that was made with numbers that are none."""
        for name, value in (("loss", loss), ("norm of the gradient", norm)):
            if not math.isfinite(value):
                rate = state.optimizer.learning_rates[0] * (state.share or 1.0)
                raise TrainingDiverged(step, rate, f"{name} is {value}")


def drop_gradients(state: TrainingState) -> None:
    """Forget the gradients of a step that is not made."""
    for parameter in state.optimizer.parameters:
        parameter.grad = None
