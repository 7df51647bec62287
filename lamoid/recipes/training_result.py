"""What a training run says of itself at its end."""

from pathlib import Path

import msgspec

from lamoid.contained import read_whole
from lamoid.errors import InputError
from lamoid.recipes.averaging import AverageResult
from lamoid.training.incident import Incident
from lamoid.training.move_report import MoveReport

RESULT = "result.json"
_MOST_BYTES = 1 << 20


class TrainingResult(msgspec.Struct, frozen=True):
    """What was trained, how well and how fast; losses are nats (of ``regression`` squares).

    ``loss`` is the mean of the last steps.

    ``tokens``, ``seconds`` and the rates count the training steps of the whole run, also those before a resume;
    ``seconds_in_all`` counts everything that the process which ended it did.
    ``parameters`` are those of the model as ``moves`` left it, without an adapter's; ``trained_parameters`` those that
    were trained, an adapter's among them. ``validation_loss`` is that of the parameters as the
    last step left them; if the ``average`` is the run's model, its loss stands there.
    ``share_of_peak`` is the arithmetic of the steps over ``peak_flops``, a rate measured before and after the run.
    ``metrics`` are what the objective's answers are measured by, on the validation rows, with the last step's model.
    ``memory_peak`` is the process's own, in bytes; energy and its cost stand there where the machine tells.
    """

    out: str
    model: str
    parameters: int
    trained_parameters: int
    steps: int
    resumed_from: int
    loss: float
    validation_loss: float | None
    best_validation_loss: float | None
    best_step: int | None
    tokens: int
    seconds: float
    seconds_in_all: float
    tokens_per_second: float
    share_of_peak: float
    peak_flops: float
    curve: str | None
    remarks: list[str]
    go_on: str
    moves: list[MoveReport] = []
    metrics: dict[str, float] = {}
    incidents: list[Incident] = []
    average: AverageResult | None = None
    ended_early: str | None = None
    memory_peak: float | None = None
    energy_joules: float | None = None
    cost: float | None = None

    def lines(self) -> list[str]:
        """Give what a person reads."""
        lines = [move.line() for move in self.moves]
        lines += [incident.line() for incident in self.incidents]
        trained = "" if self.trained_parameters == self.parameters else f" ({self.trained_parameters} trained)"
        size = f"{self.parameters} parameters{trained}"
        lines.append(f"{self.model}: {size}, {self.steps} steps, training loss {self.loss:.4f}")
        if self.validation_loss is not None:
            best, step = self.best_validation_loss, self.best_step
            told = "none is a number" if best is None else f"best {best:.4f} at step {step}"
            lines.append(f"validation loss {self.validation_loss:.4f} ({told})")
        if self.metrics:
            lines.append(", ".join(f"{name} {value:.4f}" for name, value in self.metrics.items()))
        if self.average is not None:
            lines.append(self.average.line())
        if self.ended_early is not None:
            lines.append(self.ended_early)
        rate = f"{self.tokens_per_second:.0f} tokens/s, {100 * self.share_of_peak:.1f} % of the measured peak"
        lines.append(f"{self.tokens} tokens in {self.seconds:.1f} s, {rate} ({self.peak_flops / 1e9:.0f} GFLOP/s)")
        if self.energy_joules is not None:
            cost = "" if self.cost is None else f", {self.cost:.4f} at the price given"
            lines.append(f"{self.energy_joules:.0f} J{cost}")
        return [*lines, *self.remarks, f"go on: {self.go_on}"]


def read_result(out: Path) -> TrainingResult | None:
    """Give the stored result of a run that ended; ``None`` if there is none, or one that cannot be read."""
    try:
        return msgspec.json.decode(read_whole(out / RESULT, limit=_MOST_BYTES), type=TrainingResult)
    except (InputError, msgspec.MsgspecError):
        return None
