"""Linear maps: the spec says how the weights are stored, the composite that owns one says how wide it is."""

import msgspec
import torch
from torch import Tensor, nn

from lamoid.assembly.adapter import Adapters, AdapterSpec, check_adapters


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


class AdaptedSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="adapted"):
    """A ``base`` and named ``adapters`` beside it, of which those read that the model's ``choice`` says."""

    adapters: tuple[AdapterSpec, ...]
    base: DenseSpec = DenseSpec()

    def __post_init__(self) -> None:
        check_adapters(self.adapters, 1)

    @property
    def bias(self) -> bool:
        """Has the base a bias?"""
        return self.base.bias

    def build(self, inputs: int, outputs: int) -> "Adapted":
        """Make the module, its weights not yet set."""
        return Adapted(inputs, outputs, self)

    def parameters(self, inputs: int, outputs: int) -> int:
        """Count the stored numbers, the adapters' too."""
        return self.base.parameters(inputs, outputs) + sum(each.parameters(inputs, outputs) for each in self.adapters)

    def flops(self, inputs: int, outputs: int) -> int:
        """Count the operations for one token that one adapter reads, the costliest."""
        return self.base.flops(inputs, outputs) + max(each.flops(inputs, outputs) for each in self.adapters)


LinearSpec = DenseSpec | AdaptedSpec


def with_bias(spec: LinearSpec) -> LinearSpec:
    """Give the same map with a bias."""
    if isinstance(spec, AdaptedSpec):
        return msgspec.structs.replace(spec, base=DenseSpec(bias=True))
    return DenseSpec(bias=True)


class Dense(nn.Linear):
    """``nn.Linear`` whose weights are left unset: they are loaded, or drawn by ``initialise``."""

    def reset_parameters(self) -> None:
        """Leave the weights as they are: drawing numbers that are replaced at once costs minutes on a large model."""

    def forward(self, input: Tensor) -> Tensor:
        return multiply(input, self.weight, self.bias)


class Adapted(Dense):
    """A dense map, ``weight`` and ``bias`` as there, with ``adapters`` that change its answer."""

    def __init__(self, inputs: int, outputs: int, spec: AdaptedSpec) -> None:
        super().__init__(inputs, outputs, bias=spec.base.bias)
        self.adapters = Adapters(spec.adapters, inputs, outputs)

    def forward(self, input: Tensor) -> Tensor:
        return self.adapters(input, super().forward(input), self.weight, self.bias)


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Give x W^T + b, (..., inputs) to (..., outputs).

    One bf16 vector on the CPU goes past oneDNN: torch's own matrix-vector kernel reads the weights about twice as fast,
    and that reading is all there is to do. The switch is torch's global one; a thread that finds it off leaves it so.
    """
    is_vector = x.numel() == x.shape[-1] and x.dtype == torch.bfloat16 and x.device.type == "cpu"
    if not is_vector or torch.is_grad_enabled() or not torch.backends.mkldnn.enabled:
        return nn.functional.linear(x, weight, bias)
    torch.backends.mkldnn.enabled = False
    try:
        return nn.functional.linear(x, weight, bias)
    finally:
        torch.backends.mkldnn.enabled = True


class Table(nn.Module):
    """A lookup table: integer ids (...) to rows (..., C)."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))

    def forward(self, ids: Tensor) -> Tensor:
        return nn.functional.embedding(ids, self.weight)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"
