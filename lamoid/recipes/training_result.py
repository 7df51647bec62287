"""What a training run says of itself at its end."""

from pathlib import Path

import msgspec

from lamoid.contained import read_whole
from lamoid.errors import InputError
from lamoid.training.move_report import MoveReport

RESULT = "result.json"
_MOST_BYTES = 1 << 20


class TrainingResult(msgspec.Struct, frozen=True):
    """What was trained, how well and how fast; losses are nats a token, ``loss`` the mean of the last steps.

    ``tokens``, ``seconds`` and the rates count the training steps of the whole run, also those before a resume;
    ``seconds_in_all`` counts everything that the process which ended it did.
    ``parameters`` are those of the model as ``moves`` left it.
    ``share_of_peak`` is the arithmetic of the steps over ``peak_flops``, a rate measured before and after the run.
    """

    out: str
    model: str
    parameters: int
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
    moves: list[MoveReport] = []

    def lines(self) -> list[str]:
        """Give what a person reads."""
        lines = [move.line() for move in self.moves]
        lines.append(f"{self.model}: {self.parameters} parameters, {self.steps} steps, training loss {self.loss:.4f}")
        if self.validation_loss is not None:
            best = f"best {self.best_validation_loss:.4f} at step {self.best_step}"
            lines.append(f"validation loss {self.validation_loss:.4f} nats a token ({best})")
        rate = f"{self.tokens_per_second:.0f} tokens/s, {100 * self.share_of_peak:.1f} % of the measured peak"
        lines.append(f"{self.tokens} tokens in {self.seconds:.1f} s, {rate} ({self.peak_flops / 1e9:.0f} GFLOP/s)")
        lines.append(f"go on: lamoid generate {self.model} --prompt TEXT")
        return lines + self.remarks


def read_result(out: Path) -> TrainingResult | None:
    """Give the stored result of a run that ended; ``None`` if there is none, or one that cannot be read."""
    try:
        return msgspec.json.decode(read_whole(out / RESULT, limit=_MOST_BYTES), type=TrainingResult)
    except (InputError, msgspec.MsgspecError):
        return None
