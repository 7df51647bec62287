"""Feed-forward networks: plain (Vaswani et al., 2017) and gated (Shazeer, 2020)."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import msgspec
from torch import Tensor, nn

from lamoid.assembly.bounds import MOST_WIDTH, whole
from lamoid.assembly.layout import Layout
from lamoid.assembly.linear import DenseSpec, LinearSpec

Activation = Literal["silu", "gelu", "gelu_tanh", "quick_gelu", "relu", "relu_squared", "tanh", "sigmoid", "identity"]


class NoFeedForwardSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="none"):
    """Nothing: the block is its mixer alone."""

    def parameters(self, width: int) -> int:
        return 0

    def flops(self, width: int) -> int:
        return 0


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


class Plain(nn.Module):
    """(..., C) to (..., C)."""

    def __init__(self, spec: PlainSpec, width: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[spec.activation]
        self.up = spec.up.build(width, spec.hidden)
        self.down = spec.down.build(spec.hidden, width)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        return self.down(self.activation(self.up(x)))


class Gated(nn.Module):
    """(..., C) to (..., C)."""

    def __init__(self, spec: GatedSpec, width: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[spec.activation]
        self.gate = spec.gate.build(width, spec.hidden)
        self.up = spec.up.build(width, spec.hidden)
        self.down = spec.down.build(spec.hidden, width)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        return self.down(self.activation(self.gate(x)) * self.up(x))


def _quick_gelu(x: Tensor) -> Tensor:
    return x * nn.functional.sigmoid(1.702 * x)


def _relu_squared(x: Tensor) -> Tensor:
    return nn.functional.relu(x).square()


def _identity(x: Tensor) -> Tensor:
    return x


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": nn.functional.silu,
    "gelu": nn.functional.gelu,
    "gelu_tanh": partial(nn.functional.gelu, approximate="tanh"),
    "quick_gelu": _quick_gelu,
    "relu": nn.functional.relu,
    "relu_squared": _relu_squared,
    "tanh": nn.functional.tanh,
    "sigmoid": nn.functional.sigmoid,
    "identity": _identity,
}
