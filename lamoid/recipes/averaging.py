"""The average of a run's parameters at its end: measured, and saved beside its model or as it."""

from collections.abc import Callable

import msgspec

from lamoid.training.averages import Average, exchanged, put_values
from lamoid.training.state import TrainingState


class AverageResult(msgspec.Struct, frozen=True):
    """The folder of the averaged model, its validation loss in nats a token, and how many models are in it.

    ``weights`` are those of the models by their steps, where they were kept one by one.
    """

    model: str
    validation_loss: float | None
    count: int
    weights: dict[int, float] = {}

    def line(self) -> str:
        """Give what a person reads."""
        loss = "" if self.validation_loss is None else f", validation loss {self.validation_loss:.4f} nats a token"
        return f"{self.model}: the average of {self.count} models{loss}"


def save_average(
    state: TrainingState,
    average: Average,
    measure: Callable[[TrainingState], float] | None,
    save: Callable[[TrainingState], str],
    *,
    is_final: bool,
) -> AverageResult | None:
    """Measure and save the model with averaged parameters, which it keeps if that ``is_final``.

    ``save`` gives the folder. ``None`` if nothing is in the average: nothing is saved then.
    """
    values = average.values()
    if not values:
        return None
    with exchanged(state.model, values):
        loss = None if measure is None else measure(state)
        result = AverageResult(save(state), loss, average.count, average.weights())
    if is_final:
        put_values(state.model, values)
    return result
