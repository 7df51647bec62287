"""Heads over the vocabulary: what comes next, or what was masked."""

import msgspec
import torch
from torch import Tensor, nn

from lamoid.assembly.adapter import Adapters, AdapterSpec, check_adapters
from lamoid.assembly.attention import CapSpec, NoCapSpec, SoftCapSpec
from lamoid.assembly.batch import Batch
from lamoid.assembly.bounds import MOST_WIDTH, positive, whole
from lamoid.assembly.feedforward import ACTIVATIONS, Activation
from lamoid.assembly.linear import DenseSpec, LinearSpec, multiply
from lamoid.assembly.norm import NoNormSpec, NormSpec
from lamoid.assembly.scope import Scope


class TiedSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tied"):
    """The output matrix is the token table itself (Press and Wolf, 2017); ``bias`` and ``adapters`` are the head's own.

    Adapters here change what the head answers and leave the embedding as it is.
    """

    bias: bool = False
    adapters: tuple[AdapterSpec, ...] = ()

    def __post_init__(self) -> None:
        check_adapters(self.adapters, 0)

    def parameters(self, inputs: int, outputs: int) -> int:
        """Count the stored numbers, without the table's."""
        return (outputs if self.bias else 0) + sum(each.parameters(inputs, outputs) for each in self.adapters)

    def flops(self, inputs: int, outputs: int) -> int:
        """Count the operations for one token that one adapter reads, the costliest."""
        more = max((each.flops(inputs, outputs) for each in self.adapters), default=0)
        return DenseSpec().flops(inputs, outputs) + more


class NoTransformSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="none"):
    """The trunk's vectors as they are."""

    def width_out(self, width: int) -> int:
        return width

    def parameters(self, width: int) -> int:
        return 0

    def flops(self, width: int) -> int:
        return 0


class TransformSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="transform"):
    """norm(activation(linear(x))) before the head's own matrix, as in BERT; ``width`` 0 keeps the trunk's."""

    width: int = 0
    activation: Activation = "gelu"
    linear: LinearSpec = DenseSpec(bias=True)
    norm: NormSpec = NoNormSpec()

    def __post_init__(self) -> None:
        whole("transform.width", self.width, 0, MOST_WIDTH)

    def width_out(self, width: int) -> int:
        """Give the width of what comes out."""
        return self.width or width

    def build(self, width: int) -> "Transform":
        return Transform(self, width)

    def parameters(self, width: int) -> int:
        out = self.width_out(width)
        return self.linear.parameters(width, out) + self.norm.parameters(out)

    def flops(self, width: int) -> int:
        return self.linear.flops(width, self.width_out(width))


class NextTokenSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="next_token"):
    """One logit for each token of the vocabulary: cap(linear(scale x transform(x))).

    With a bidirectional trunk it says what a masked token was.
    """

    linear: TiedSpec | LinearSpec = DenseSpec()
    transform: NoTransformSpec | TransformSpec = NoTransformSpec()
    cap: CapSpec = NoCapSpec()
    scale: float = 1.0

    def __post_init__(self) -> None:
        positive("next_token.scale", self.scale)

    def build(self, scope: Scope) -> "NextToken":
        return NextToken(self, scope)

    def parameters(self, scope: Scope) -> int:
        inner = self.transform.width_out(scope.width)
        return self.linear.parameters(inner, scope.vocab) + self.transform.parameters(scope.width)

    def flops(self, scope: Scope) -> int:
        inner = self.transform.width_out(scope.width)
        return self.linear.flops(inner, scope.vocab) + self.transform.flops(scope.width)


class Transform(nn.Module):
    """(..., C) to (..., C')."""

    def __init__(self, spec: TransformSpec, width: int) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[spec.activation]
        self.linear = spec.linear.build(width, spec.width_out(width))
        self.norm = spec.norm.build(spec.width_out(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.activation(self.linear(x)))


def build_transform(spec: NoTransformSpec | TransformSpec, width: int) -> nn.Module:
    """Make the module of a transform that may be none."""
    return spec.build(width) if isinstance(spec, TransformSpec) else nn.Identity()


class NextToken(nn.Module):
    """(..., C) to (..., vocab); a tied head is handed the token table, which stays the embedding's own."""

    def __init__(self, spec: NextTokenSpec, scope: Scope) -> None:
        super().__init__()
        self.transform = build_transform(spec.transform, scope.width)
        inner, self.adapters = spec.transform.width_out(scope.width), None
        if isinstance(spec.linear, TiedSpec):
            self.linear = None
            self.bias = nn.Parameter(torch.empty(scope.vocab)) if spec.linear.bias else None
            if spec.linear.adapters:
                self.adapters = Adapters(spec.linear.adapters, inner, scope.vocab)
        else:
            self.linear = spec.linear.build(inner, scope.vocab)
            self.bias = None
        self.limit = spec.cap.limit if isinstance(spec.cap, SoftCapSpec) else None
        self.scale = spec.scale

    def forward(self, hidden: Tensor, table: Tensor, batch: Batch | None = None) -> Tensor:
        hidden = self.transform(hidden)
        if self.scale != 1.0:
            hidden = hidden * self.scale
        logits = multiply(hidden, table, self.bias) if self.linear is None else self.linear(hidden)
        if self.adapters is not None:
            logits = self.adapters(hidden, logits, table, self.bias)
        return logits if self.limit is None else self.limit * torch.tanh(logits / self.limit)
