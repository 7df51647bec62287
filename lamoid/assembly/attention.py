"""Causal self-attention with grouped key-value heads (Vaswani et al., 2017; Ainslie et al., 2023)."""

import msgspec
from torch import Tensor, nn

from lamoid.assembly.bounds import MOST_WIDTH, whole
from lamoid.assembly.cache import Memory
from lamoid.assembly.layout import Layout
from lamoid.assembly.linear import DenseSpec, LinearSpec
from lamoid.assembly.position import NoPositionSpec, RotarySpec, rotate
from lamoid.errors import InputError


class AttentionSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="attention"):
    """``heads`` queries of ``head_width`` numbers read ``kv_heads`` keys and values, heads / kv_heads of them each."""

    heads: int
    kv_heads: int
    head_width: int
    position: RotarySpec | NoPositionSpec = RotarySpec()
    query: LinearSpec = DenseSpec()
    key: LinearSpec = DenseSpec()
    value: LinearSpec = DenseSpec()
    output: LinearSpec = DenseSpec()

    def __post_init__(self) -> None:
        whole("attention.heads", self.heads, 1, MOST_WIDTH)
        whole("attention.kv_heads", self.kv_heads, 1, MOST_WIDTH)
        whole("attention.head_width", self.head_width, 1, MOST_WIDTH)
        whole("attention.heads x head_width", self.heads * self.head_width, 1, MOST_WIDTH)
        if self.heads % self.kv_heads:
            problem = f"is {self.kv_heads}, does not divide heads {self.heads}"
            raise InputError("attention.kv_heads", problem, "choose a divisor of heads")
        if isinstance(self.position, RotarySpec) and self.head_width % 2:
            problem = f"is {self.head_width}, must be even for rotary positions"
            raise InputError("attention.head_width", problem, "choose an even width")

    def build(self, width: int) -> "Attention":
        return Attention(self, width)

    def parameters(self, width: int) -> int:
        inner, shared = self.heads * self.head_width, self.kv_heads * self.head_width
        ends = self.query.parameters(width, inner) + self.output.parameters(inner, width)
        return ends + self.key.parameters(width, shared) + self.value.parameters(width, shared)

    def flops(self, width: int, context: int) -> int:
        """Operations for one token, averaged over a text of ``context`` tokens of which each sees those before it."""
        inner, shared = self.heads * self.head_width, self.kv_heads * self.head_width
        ends = self.query.flops(width, inner) + self.output.flops(inner, width)
        products = 2 * inner * (context + 1)
        return ends + self.key.flops(width, shared) + self.value.flops(width, shared) + products

    def cache_numbers(self) -> int:
        """Count the numbers kept for one token."""
        return 2 * self.kv_heads * self.head_width


class Attention(nn.Module):
    """(B, T, C) to (B, T, C)."""

    def __init__(self, spec: AttentionSpec, width: int) -> None:
        super().__init__()
        inner, shared = spec.heads * spec.head_width, spec.kv_heads * spec.head_width
        self.spec = spec
        self.query = spec.query.build(width, inner)
        self.key = spec.key.build(width, shared)
        self.value = spec.value.build(width, shared)
        self.output = spec.output.build(inner, width)

    def forward(self, x: Tensor, layout: Layout, memory: Memory | None) -> Tensor:
        spec = self.spec
        rows, tokens, _ = x.shape
        queries = self.query(x).view(rows, tokens, spec.heads, spec.head_width).transpose(1, 2)
        keys = self.key(x).view(rows, tokens, spec.kv_heads, spec.head_width).transpose(1, 2)
        values = self.value(x).view(rows, tokens, spec.kv_heads, spec.head_width).transpose(1, 2)
        if isinstance(spec.position, RotarySpec):
            cosines, sines = layout.rotation(spec.position, spec.head_width, queries.dtype)
            queries, keys = rotate(queries, cosines, sines), rotate(keys, cosines, sines)
        if memory is not None:
            keys, values = memory.extend(keys, values)
        mixed = attend(queries, keys, values, layout)
        return self.output(mixed.transpose(1, 2).reshape(rows, tokens, -1))


def attend(queries: Tensor, keys: Tensor, values: Tensor, layout: Layout) -> Tensor:
    """Mix (B, G, S, D) values for (B, H, T, D) queries, H / G of them to a key head, as ``layout`` lets them see."""
    rows, heads, tokens, width = queries.shape
    groups = keys.shape[1]
    if tokens == 1:
        # The queries of one key head stand where times would: nothing is repeated, and no kernel is made anew for
        # every length, as oneDNN does for plain products.
        grouped = queries.reshape(rows, groups, heads // groups, width)
        mixed = nn.functional.scaled_dot_product_attention(grouped, keys, values, attn_mask=layout.visible)
        return mixed.reshape(rows, heads, 1, width)
    return nn.functional.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=layout.visible,
        is_causal=layout.causal and layout.visible is None,
        enable_gqa=heads != groups,
    )
