"""Feed-forward networks: plain (Vaswani et al., 2017) and gated (Shazeer, 2020)."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import msgspec
from torch import Tensor, nn

from lamoid.assembly.bounds import MOST_WIDTH, whole
from lamoid.assembly.linear import DenseSpec, LinearSpec

Activation = Literal["silu", "gelu", "gelu_tanh", "relu"]


class PlainSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="plain"):
    """down(activation(up(x))) through ``hidden`` units."""

    hidden: int
    activation: Activation = "gelu_tanh"
    up: LinearSpec = DenseSpec()
    down: LinearSpec = DenseSpec()

    def __post_init__(self) -> None:
        whole("plain.hidden", self.hidden, 1, 16 * MOST_WIDTH)

    def build(self, width: int) -> "Plain":
        return Plain(self, width)

    def parameters(self, width: int) -> int:
        return self.up.parameters(width, self.hidden) + self.down.parameters(self.hidden, width)

    def flops(self, width: int) -> int:
        return self.up.flops(width, self.hidden) + self.down.flops(self.hidden, width)


class GatedSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="gated"):
    """down(activation(gate(x)) * up(x)) through ``hidden`` units."""

    hidden: int
    activation: Activation = "silu"
    gate: LinearSpec = DenseSpec()
    up: LinearSpec = DenseSpec()
    down: LinearSpec = DenseSpec()

    def __post_init__(self) -> None:
        whole("gated.hidden", self.hidden, 1, 16 * MOST_WIDTH)

    def build(self, width: int) -> "Gated":
        return Gated(self, width)

    def parameters(self, width: int) -> int:
        entries = self.gate.parameters(width, self.hidden) + self.up.parameters(width, self.hidden)
        return entries + self.down.parameters(self.hidden, width)

    def flops(self, width: int) -> int:
        entries = self.gate.flops(width, self.hidden) + self.up.flops(width, self.hidden)
        return entries + self.down.flops(self.hidden, width)


FeedForwardSpec = PlainSpec | GatedSpec


class Plain(nn.Module):
    """(..., C) to (..., C)."""

    def __init__(self, spec: PlainSpec, width: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[spec.activation]
        self.up = spec.up.build(width, spec.hidden)
        self.down = spec.down.build(spec.hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


class Gated(nn.Module):
    """(..., C) to (..., C)."""

    def __init__(self, spec: GatedSpec, width: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[spec.activation]
        self.gate = spec.gate.build(width, spec.hidden)
        self.up = spec.up.build(width, spec.hidden)
        self.down = spec.down.build(spec.hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.gate(x)) * self.up(x))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": nn.functional.silu,
    "gelu": nn.functional.gelu,
    "gelu_tanh": partial(nn.functional.gelu, approximate="tanh"),
    "relu": nn.functional.relu,
}
