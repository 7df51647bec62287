"""A block: a mixer over time and a feed-forward over width, each with its norm, added to the stream."""

from collections.abc import Callable

import msgspec
from torch import Tensor, nn

from lamoid.assembly.attention import AttentionSpec, CrossAttentionSpec
from lamoid.assembly.convolution import ConvolutionSpec
from lamoid.assembly.experts import ExpertsSpec
from lamoid.assembly.feedforward import GatedSpec, NoFeedForwardSpec, PlainSpec
from lamoid.assembly.layout import Layout
from lamoid.assembly.norm import NormSpec, RMSNormSpec
from lamoid.assembly.recurrence import GRUSpec, LSTMSpec, RNNSpec
from lamoid.assembly.scope import Scope
from lamoid.errors import InputError


class NoMixerSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="none"):
    """Nothing: no token sees another, and the block is its feed-forward alone."""

    @property
    def is_causal(self) -> bool:
        """Can it read token by token?"""
        return True

    def parameters(self, scope: Scope) -> int:
        return 0

    def flops(self, scope: Scope, context: int) -> int:
        return 0

    def cache_numbers(self, scope: Scope) -> int:
        return 0

    def state_numbers(self, scope: Scope) -> int:
        return 0


class PreSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="pre"):
    """x + f(norm(x)), as in GPT-2 and LLaMA."""


class PostSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="post"):
    """norm(x + f(x)), as in the first Transformer and BERT."""


class OutputSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="output"):
    """x + norm(f(x)), as in OLMo 2."""


class ParallelOrderSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="parallel"):
    """x + mixer(norm(x)) + feedforward(norm(x)), each with its own norm, as in GPT-NeoX."""


class SandwichSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sandwich"):
    """x + after(f(norm(x))), as in Gemma 2."""

    after_mixer: NormSpec = RMSNormSpec()
    after_feedforward: NormSpec = RMSNormSpec()


MixerSpec = AttentionSpec | CrossAttentionSpec | LSTMSpec | GRUSpec | RNNSpec | ConvolutionSpec | NoMixerSpec
FeedForwardSpec = PlainSpec | GatedSpec | ExpertsSpec | NoFeedForwardSpec
OrderSpec = PreSpec | PostSpec | OutputSpec | ParallelOrderSpec | SandwichSpec


class BlockSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="block"):
    """A mixer, then a feed-forward; what is "none" is left out, its norms too."""

    mixer: MixerSpec = NoMixerSpec()
    feedforward: FeedForwardSpec = NoFeedForwardSpec()
    norm_mixer: NormSpec = RMSNormSpec()
    norm_feedforward: NormSpec = RMSNormSpec()
    order: OrderSpec = PreSpec()

    def __post_init__(self) -> None:
        if isinstance(self.mixer, NoMixerSpec) and isinstance(self.feedforward, NoFeedForwardSpec):
            raise InputError("block", "has neither a mixer nor a feedforward", "give it one of them")

    def width_out(self, scope: Scope, path: str) -> int:
        """Give the width of what comes out; raise ``InputError`` if the block does not fit where it stands."""
        if isinstance(self.mixer, CrossAttentionSpec) and not scope.memory:
            problem = "attends to a memory, but no cross is around it"
            raise InputError(f"{path}.mixer", problem, 'put the block into the reader of a "cross"')
        return scope.width

    def build(self, scope: Scope) -> "Block":
        return Block(self, scope)

    def parameters(self, scope: Scope) -> int:
        count, width = 0, scope.width
        sandwich = self.order if isinstance(self.order, SandwichSpec) else None
        if not isinstance(self.mixer, NoMixerSpec):
            count += self.norm_mixer.parameters(width) + self.mixer.parameters(scope)
            count += sandwich.after_mixer.parameters(width) if sandwich else 0
        if not isinstance(self.feedforward, NoFeedForwardSpec):
            count += self.norm_feedforward.parameters(width) + self.feedforward.parameters(width)
            count += sandwich.after_feedforward.parameters(width) if sandwich else 0
        return count

    def flops(self, scope: Scope, context: int) -> int:
        return self.mixer.flops(scope, context) + self.feedforward.flops(scope.width)

    def cache_numbers(self, scope: Scope) -> int:
        """Count the numbers kept for one token."""
        return self.mixer.cache_numbers(scope)

    def state_numbers(self, scope: Scope) -> int:
        """Count the numbers kept for one text, however long."""
        return self.mixer.state_numbers(scope)


class Block(nn.Module):
    """(B, T, C) to (B, T, C)."""

    def __init__(self, spec: BlockSpec, scope: Scope) -> None:
        super().__init__()
        order, width = spec.order, scope.width
        self.mixer, self.feedforward = None, None
        if not isinstance(spec.mixer, NoMixerSpec):
            self.norm_mixer = spec.norm_mixer.build(width)
            self.mixer = spec.mixer.build(scope)
            self.after_mixer = order.after_mixer.build(width) if isinstance(order, SandwichSpec) else None
        if not isinstance(spec.feedforward, NoFeedForwardSpec):
            self.norm_feedforward = spec.norm_feedforward.build(width)
            self.feedforward = spec.feedforward.build(width)
            self.after_feedforward = order.after_feedforward.build(width) if isinstance(order, SandwichSpec) else None
        self.add = _ORDERS[type(order)]
        self.is_parallel = isinstance(order, ParallelOrderSpec)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        start = x
        if self.mixer is not None:
            x = self.add(x, self.mixer, self.norm_mixer, self.after_mixer, layout)
        if self.feedforward is not None:
            if self.is_parallel:
                return x + self.feedforward(self.norm_feedforward(start), layout)
            x = self.add(x, self.feedforward, self.norm_feedforward, self.after_feedforward, layout)
        return x


Add = Callable[[Tensor, nn.Module, nn.Module, nn.Module | None, Layout], Tensor]


def _pre(x: Tensor, part: nn.Module, norm: nn.Module, after: nn.Module | None, layout: Layout) -> Tensor:
    return x + part(norm(x), layout)


def _post(x: Tensor, part: nn.Module, norm: nn.Module, after: nn.Module | None, layout: Layout) -> Tensor:
    return norm(x + part(x, layout))


def _output(x: Tensor, part: nn.Module, norm: nn.Module, after: nn.Module | None, layout: Layout) -> Tensor:
    return x + norm(part(x, layout))


def _sandwich(x: Tensor, part: nn.Module, norm: nn.Module, after: nn.Module | None, layout: Layout) -> Tensor:
    answer = part(norm(x), layout)
    return x + (answer if after is None else after(answer))


_ORDERS: dict[type, Add] = {
    PreSpec: _pre,
    PostSpec: _post,
    OutputSpec: _output,
    ParallelOrderSpec: _pre,
    SandwichSpec: _sandwich,
}
