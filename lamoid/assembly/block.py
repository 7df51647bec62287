"""A block: a mixer over time and a feed-forward over width, each behind a norm and added to the stream."""

import msgspec
from torch import Tensor, nn

from lamoid.assembly.attention import AttentionSpec
from lamoid.assembly.cache import Memory
from lamoid.assembly.feedforward import FeedForwardSpec
from lamoid.assembly.layout import Layout
from lamoid.assembly.norm import NormSpec


class BlockSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="block"):
    """x + mixer(norm(x)), then x + feedforward(norm(x))."""

    norm_mixer: NormSpec
    mixer: AttentionSpec
    norm_feedforward: NormSpec
    feedforward: FeedForwardSpec

    def build(self, width: int) -> "Block":
        return Block(self, width)

    def parameters(self, width: int) -> int:
        norms = self.norm_mixer.parameters(width) + self.norm_feedforward.parameters(width)
        return norms + self.mixer.parameters(width) + self.feedforward.parameters(width)

    def flops(self, width: int, context: int) -> int:
        return self.mixer.flops(width, context) + self.feedforward.flops(width)


class Block(nn.Module):
    """(B, T, C) to (B, T, C)."""

    def __init__(self, spec: BlockSpec, width: int) -> None:
        super().__init__()
        self.norm_mixer = spec.norm_mixer.build(width)
        self.mixer = spec.mixer.build(width)
        self.norm_feedforward = spec.norm_feedforward.build(width)
        self.feedforward = spec.feedforward.build(width)

    def forward(self, x: Tensor, layout: Layout, memory: Memory | None) -> Tensor:
        x = x + self.mixer(self.norm_mixer(x), layout, memory)
        return x + self.feedforward(self.norm_feedforward(x))
