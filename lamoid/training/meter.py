"""The figures of a run at a moment: losses, rates, share of the machine's peak, memory, energy and its cost."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from lamoid.assembly.group import GroupSpec
from lamoid.assembly.rewrite import without_adapters
from lamoid.assembly.spec import ModelSpec
from lamoid.training.energy import Energy
from lamoid.training.memory import memory_figures
from lamoid.training.state import TrainingState

JOULES_PER_KILOWATT_HOUR = 3.6e6
MEASURED = (
    "tokens_per_second",
    "share_of_peak",
    "seconds",
    "seconds_left",
    "time",
    "memory",
    "memory_peak",
    "device_memory",
    "device_memory_peak",
    "energy_joules",
    "cost",
)
"""The figures that a clock or the machine gave: the only ones that differ when a run is made again."""


@dataclass(frozen=True)
class Meter:
    """Works out a log line's figures; ``peak`` is what the machine does in a second.

    ``flops`` gives those of one trained token, averaged over the first so many steps: moves change the model.
    ``price`` is that of a kilowatt-hour, in whatever money; 0 asks for no cost.
    """

    flops: Callable[[int], float]
    peak: float
    energy: Energy | None = None
    price: float = 0.0

    def figures(self, state: TrainingState, steps: int) -> dict[str, float]:
        """Give the figures of this moment; losses are means of the last ``steps`` steps.

        ``loss/TERM`` and ``loss/SOURCE/TERM`` are its parts, ``seconds`` those of all steps, ``seconds_left`` as many
        as the steps still take at the mean rate, ``time`` seconds since 1970. Memory is in bytes.
        """
        speed = state.tokens / state.seconds if state.seconds else 0.0
        return {
            "loss": state.recent_loss(steps),
            **{f"loss/{name}": loss for name, loss in state.terms.means(steps).items()},
            "learning_rate": state.optimizer.learning_rates[0] * state.share,
            "gradient_norm": state.gradient_norm,
            "tokens": state.tokens,
            "parameters": own_parameters(state.model.spec),
            "tokens_per_second": speed,
            "share_of_peak": speed * self.flops(state.step) / self.peak,
            "seconds": state.seconds,
            "seconds_left": state.seconds / state.step * (state.steps - state.step) if state.step else 0.0,
            "time": time.time(),
            **memory_figures(state.model.device),
            **self._energy(),
        }

    def sample(self, state: TrainingState) -> None:
        """Look at the energy counters: a hook for every step, which does so once a second."""
        if self.energy is not None:
            self.energy.sample()

    def _energy(self) -> dict[str, float]:
        joules = None if self.energy is None else self.energy.joules()
        if joules is None:
            return {}
        cost = {"cost": joules / JOULES_PER_KILOWATT_HOUR * self.price} if self.price else {}
        return {"energy_joules": joules, **cost}


def own_parameters(spec: ModelSpec | GroupSpec) -> int:
    """Count the parameters of a model without those of adapters beside its maps."""
    return without_adapters(spec).parameters() if isinstance(spec, ModelSpec) else spec.parameters()
