"""Ending a run early, when its validation loss has ceased to fall."""

from collections.abc import Sequence
from dataclasses import dataclass

from lamoid.training.state import TrainingState
from lamoid.training.waiting import falls_of_patience


@dataclass(frozen=True)
class Stopping:
    """Ends a run after ``patience`` validation losses in a row that were not lower by more than ``least_gain``.

    Whether it does follows from the losses alone, which a checkpoint has: a run that goes on ends at the same step.
    """

    patience: int
    least_gain: float = 0.0

    def step(self, validations: Sequence[tuple[int, float]]) -> int | None:
        """Give the step after which the run ends, ``None`` if it goes on."""
        losses = [loss for _, loss in validations]
        places = falls_of_patience(losses, self.patience - 1, self.least_gain)
        return validations[places[0]][0] if places else None

    def reason(self, state: TrainingState) -> str | None:
        """Say why a run was ended; ``None`` if it was not."""
        step = self.step(state.validations)
        if step is None:
            return None
        best = min((pair for pair in state.validations if pair[0] <= step), key=lambda pair: pair[1])
        gain = f" by more than {self.least_gain:g}" if self.least_gain else ""
        return (
            f"ended early after step {step}: {self.patience} validation losses in a row were not lower{gain}; "
            f"the lowest is {best[1]:.4f}, of step {best[0]}"
        )

    def __call__(self, state: TrainingState) -> None:
        """Make the step of the moment the last one where the run is to end: a hook that follows the evaluation."""
        if self.step(state.validations) == state.step:
            state.steps = state.step
