"""Loss scaling: float16 has no numbers for small gradients, so those of a multiple of the loss are taken."""

import math

import torch
from torch import Tensor

from lamoid.errors import InputError

GROWN_AFTER = 2000
MOST = 2.0**24


class LossScale:
    """The factor ``value``, a power of two; a part of the state (dynamic scaling, Micikevicius et al., 2018).

    It is halved after a step whose gradient overflowed, which is not made, and doubled after so many that did not.
    """

    def __init__(self, value: float = 2.0**16) -> None:
        self.value = value
        self.good = 0

    def takes(self, norm: float) -> bool:
        """Say whether a step with a gradient of this norm is to be made, and learn from it.

        At factor 1 the scale has nothing to do with it: it takes all, and the run's guard is to judge.
        """
        if not math.isfinite(norm):
            self.good = 0
            if self.value == 1.0:
                return True
            self.value = max(1.0, self.value / 2.0)
            return False
        self.good += 1
        if self.good == GROWN_AFTER:
            self.value, self.good = min(MOST, 2.0 * self.value), 0
        return True

    def tensors(self) -> dict[str, Tensor]:
        """Give the factor (float64) and how many steps in a row did not overflow (int64)."""
        return {"value": torch.tensor(self.value, dtype=torch.float64), "good": torch.tensor(self.good)}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put back what ``tensors`` gave."""
        if tensors.keys() != {"value", "good"}:
            raise InputError("checkpoint", "does not hold the loss's scale", "resume with the recipe of the run")
        self.value, self.good = float(tensors["value"]), int(tensors["good"])
