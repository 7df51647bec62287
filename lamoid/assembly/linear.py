"""Linear maps: the spec says how the weights are stored, the composite that owns one says how wide it is."""

import msgspec
import torch
from torch import Tensor, nn


class DenseSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="dense"):
    """y = x W^T + b with W of shape (outputs, inputs), stored whole."""

    bias: bool = False

    def build(self, inputs: int, outputs: int) -> "Dense":
        """Make the module, its weights not yet set."""
        return Dense(inputs, outputs, bias=self.bias)

    def parameters(self, inputs: int, outputs: int) -> int:
        """Count the stored numbers."""
        return inputs * outputs + (outputs if self.bias else 0)

    def flops(self, inputs: int, outputs: int) -> int:
        """Count the operations for one token, a multiply-add as two."""
        return 2 * inputs * outputs


LinearSpec = DenseSpec


class Dense(nn.Linear):
    """``nn.Linear`` whose weights are left unset: they are loaded, or drawn by ``initialise``."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are: drawing numbers that are replaced at once costs minutes on a large model."""


class Table(nn.Module):
    """A lookup table: integer ids (...) to rows (..., C)."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))

    def forward(self, ids: Tensor) -> Tensor:
        return nn.functional.embedding(ids, self.weight)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"
