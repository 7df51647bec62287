"""What ``[log]`` of a training recipe may say."""

import math
from typing import Literal

import msgspec

from lamoid.assembly.bounds import whole
from lamoid.errors import InputError
from lamoid.training.schedule import MOST_STEPS


class LogTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Figures after each ``every`` steps: as lines of JSON always, for TensorBoard and W&B where they are installed.

    ``project`` is the one at W&B; ``price`` is that of a kilowatt-hour, which makes energy a cost; ``curve`` draws
    the losses as PNG at the end.
    """

    every: int = 10
    tensorboard: bool = True
    wandb: Literal["off", "offline", "online"] = "off"
    project: str = "lamoid"
    price: float = 0.0
    curve: bool = True

    def __post_init__(self) -> None:
        whole("every", self.every, 1, MOST_STEPS)
        if not (math.isfinite(self.price) and self.price >= 0.0):
            raise InputError("price", f"is {self.price}, must be finite and at least 0", "0 asks for no cost")
        if not self.project.strip() or any(mark in self.project for mark in "/\\#?%:") or len(self.project) > 128:
            problem = f"is {self.project[:140]!r}, which W&B takes as no name"
            raise InputError("project", problem, "use 1 to 128 characters, none of / \\ # ? % :")
