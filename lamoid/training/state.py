"""What changes while training: everything that a checkpoint must hold to go on as if nothing had happened."""

from dataclasses import dataclass, field
from typing import Literal

import torch

from lamoid.assembly.model import LanguageModel
from lamoid.training.move_report import MoveReport
from lamoid.training.optimizers import Optimizer

Dtype = Literal["float32", "bfloat16"]


@dataclass
class TrainingState:
    """A model on its way to ``steps`` optimiser steps, ``step`` of which are done.

    ``losses`` has the loss of every step, ``validations`` pairs of step and validation loss, ``moves`` what was made
    of the model on the way. ``seconds`` and ``tokens`` count all steps that led here, also those before a resume,
    without evaluations and writing.
    In ``bfloat16`` the weights and the optimiser stay in float32 and the products are computed in bfloat16 (autocast).
    """

    model: LanguageModel
    optimizer: Optimizer
    steps: int
    dtype: Dtype = "float32"
    step: int = 0
    losses: list[float] = field(default_factory=list)
    validations: list[tuple[int, float]] = field(default_factory=list)
    moves: list[MoveReport] = field(default_factory=list)
    share: float = 0.0
    gradient_norm: float = 0.0
    seconds: float = 0.0
    tokens: int = 0

    def arithmetic(self) -> torch.autocast:
        """Give the context in which the objective is computed."""
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.dtype == "bfloat16")

    @property
    def best(self) -> tuple[int, float] | None:
        """Give step and loss of the lowest validation loss so far, the earliest of equals."""
        return min(self.validations, key=lambda pair: pair[1], default=None)

    def recent_loss(self, steps: int) -> float:
        """Give the mean loss of the last ``steps`` steps."""
        recent = self.losses[-steps:]
        return sum(recent) / len(recent)
