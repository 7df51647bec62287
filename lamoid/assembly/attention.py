"""Attention with grouped key-value heads (Vaswani et al., 2017; Ainslie et al., 2023), over a text or over a memory."""

import msgspec
import torch
from torch import Tensor, nn

from lamoid.assembly.attend import attend
from lamoid.assembly.bias import AlibiSpec, RelativeSpec, alibi_bias, relative_bias
from lamoid.assembly.bounds import MOST_WIDTH, positive, whole
from lamoid.assembly.layout import Layout, Sight
from lamoid.assembly.linear import DenseSpec, LinearSpec
from lamoid.assembly.norm import NormSpec
from lamoid.assembly.position import NoPositionSpec, RotarySpec, rotate, rotated_width
from lamoid.assembly.scope import Scope
from lamoid.assembly.sight import (
    BidirectionalSpec,
    CausalSpec,
    EverywhereSpec,
    PrefixSpec,
    ReachSpec,
    SeesSpec,
)
from lamoid.errors import InputError


class RootScaleSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="root"):
    """Scores are divided by the square root of the head's width."""


class FixedScaleSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="fixed"):
    """Scores are multiplied by ``value``."""

    value: float

    def __post_init__(self) -> None:
        positive("fixed.value", self.value)


class NoCapSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="none"):
    """Scores as they are."""


class SoftCapSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="soft"):
    """limit x tanh(score / limit)."""

    limit: float

    def __post_init__(self) -> None:
        positive("soft.limit", self.limit)


class NoQueryKeyNormSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="none"):
    """Queries and keys as they are."""


class HeadNormSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="per_head"):
    """Queries and keys are normalised head by head, before positions turn them."""

    norm: NormSpec


class FullNormSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="full_width"):
    """Queries and keys are normalised over all heads at once, before positions turn them."""

    norm: NormSpec


ScaleSpec = RootScaleSpec | FixedScaleSpec
CapSpec = NoCapSpec | SoftCapSpec
QueryKeyNormSpec = NoQueryKeyNormSpec | HeadNormSpec | FullNormSpec
AttentionPositionSpec = RotarySpec | RelativeSpec | AlibiSpec | NoPositionSpec


class HeadsSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What both attentions say: ``heads`` queries read ``kv_heads`` keys and values, each head of ``head_width``.

    ``kv_heads`` 0 is read as ``heads``.
    """

    heads: int
    kv_heads: int = 0
    head_width: int
    query_key_norm: QueryKeyNormSpec = NoQueryKeyNormSpec()
    scale: ScaleSpec = RootScaleSpec()
    cap: CapSpec = NoCapSpec()
    query: LinearSpec = DenseSpec()
    key: LinearSpec = DenseSpec()
    value: LinearSpec = DenseSpec()
    output: LinearSpec = DenseSpec()

    def __post_init__(self) -> None:
        whole("attention.heads", self.heads, 1, MOST_WIDTH)
        whole("attention.kv_heads", self.kv_heads, 0, MOST_WIDTH)
        if not self.kv_heads:
            msgspec.structs.force_setattr(self, "kv_heads", self.heads)
        whole("attention.head_width", self.head_width, 1, MOST_WIDTH)
        whole("attention.heads x head_width", self.heads * self.head_width, 1, MOST_WIDTH)
        if self.heads % self.kv_heads:
            problem = f"is {self.kv_heads}, does not divide heads {self.heads}"
            raise InputError("attention.kv_heads", problem, "choose a divisor of heads")

    @property
    def inner(self) -> int:
        """The queries' width, all heads together."""
        return self.heads * self.head_width

    @property
    def shared(self) -> int:
        """The keys' width, all heads together."""
        return self.kv_heads * self.head_width

    def parameters(self, scope: Scope) -> int:
        read = self.reads(scope)
        ends = self.query.parameters(scope.width, self.inner) + self.output.parameters(self.inner, scope.width)
        both = self.key.parameters(read, self.shared) + self.value.parameters(read, self.shared)
        norms = 0
        if isinstance(self.query_key_norm, HeadNormSpec):
            norms = 2 * self.query_key_norm.norm.parameters(self.head_width)
        elif isinstance(self.query_key_norm, FullNormSpec):
            norms = self.query_key_norm.norm.parameters(self.inner) + self.query_key_norm.norm.parameters(self.shared)
        return ends + both + norms

    def reads(self, scope: Scope) -> int:
        """Give the width of what keys and values are made of."""
        return scope.width

    def cache_numbers(self, scope: Scope) -> int:
        """Count the numbers kept for one token."""
        return 2 * self.shared

    def state_numbers(self, scope: Scope) -> int:
        """Count the numbers kept for one text, however long."""
        return 0

    def flops_of_products(self, scope: Scope) -> int:
        """Count the operations of the four linear maps for one token."""
        read = self.reads(scope)
        ends = self.query.flops(scope.width, self.inner) + self.output.flops(self.inner, scope.width)
        return ends + self.key.flops(read, self.shared) + self.value.flops(read, self.shared)


class AttentionSpec(
    HeadsSpec, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="attention", kw_only=True
):
    """Each token reads the tokens that it ``sees``, as far as it may ``reach``."""

    position: AttentionPositionSpec = RotarySpec()
    sees: SeesSpec = CausalSpec()
    reach: ReachSpec = EverywhereSpec()

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.position, RotarySpec):
            rotated_width(self.position, self.head_width)

    @property
    def is_causal(self) -> bool:
        """Can it read token by token?"""
        return isinstance(self.sees, CausalSpec | PrefixSpec)

    def build(self, scope: Scope) -> "Attention":
        return Attention(self, scope)

    def parameters(self, scope: Scope) -> int:
        table = self.position.parameters(self.heads) if isinstance(self.position, RelativeSpec) else 0
        return super().parameters(scope) + table

    def flops(self, scope: Scope, context: int) -> int:
        """Count the operations for one token, averaged over a text of ``context`` tokens."""
        seen = context if isinstance(self.reach, EverywhereSpec) else min(context, self.reach.tokens)
        behind = seen - seen * (seen - 1) / (2 * context)
        pairs = 2 * behind - 1 if isinstance(self.sees, BidirectionalSpec) else behind
        return self.flops_of_products(scope) + round(4 * self.inner * pairs)


class CrossAttentionSpec(
    HeadsSpec, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="cross_attention", kw_only=True
):
    """Each token reads the memory that a cross puts beside the stream: all of it, or no further than its own place."""

    sees: BidirectionalSpec | CausalSpec = BidirectionalSpec()

    @property
    def is_causal(self) -> bool:
        """Can it read token by token where the memory is made of the same text? A source is there as a whole."""
        return isinstance(self.sees, CausalSpec)

    def build(self, scope: Scope) -> "CrossAttention":
        return CrossAttention(self, scope)

    def reads(self, scope: Scope) -> int:
        return scope.memory

    def flops(self, scope: Scope, context: int) -> int:
        """Count the operations for one token beside a memory of ``context`` tokens."""
        pairs = context if isinstance(self.sees, BidirectionalSpec) else (context + 1) / 2
        return self.flops_of_products(scope) + round(4 * self.inner * pairs)


class Projections(nn.Module):
    """What both attentions are made of: queries of (B, T, C), keys and values of another (B, S, C')."""

    def __init__(self, spec: HeadsSpec, scope: Scope) -> None:
        super().__init__()
        self.query = spec.query.build(scope.width, spec.inner)
        self.key = spec.key.build(spec.reads(scope), spec.shared)
        self.value = spec.value.build(spec.reads(scope), spec.shared)
        self.output = spec.output.build(spec.inner, scope.width)
        norm = spec.query_key_norm
        if isinstance(norm, HeadNormSpec):
            self.query_norm, self.key_norm = norm.norm.build(spec.head_width), norm.norm.build(spec.head_width)
        elif isinstance(norm, FullNormSpec):
            self.query_norm, self.key_norm = norm.norm.build(spec.inner), norm.norm.build(spec.shared)
        else:
            self.query_norm, self.key_norm = nn.Identity(), nn.Identity()
        self.is_full = isinstance(norm, FullNormSpec)
        self.head_width = spec.head_width
        self.factor = spec.scale.value if isinstance(spec.scale, FixedScaleSpec) else None
        self.limit = spec.cap.limit if isinstance(spec.cap, SoftCapSpec) else None

    def queries(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, H, T, D)."""
        return self._normed(self.query(x), self.query_norm)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, C) to keys and values, (B, G, S, D)."""
        return self._normed(self.key(x), self.key_norm), self._heads(self.value(x))

    def answer(self, mixed: Tensor) -> Tensor:
        """(B, H, T, D) to (B, T, C)."""
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _normed(self, x: Tensor, norm: nn.Module) -> Tensor:
        return self._heads(norm(x)) if self.is_full else norm(self._heads(x))

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], -1, self.head_width).transpose(1, 2)


class Attention(Projections):
    """(B, T, C) to (B, T, C)."""

    def __init__(self, spec: AttentionSpec, scope: Scope) -> None:
        super().__init__(spec, scope)
        self.spec = spec
        self.mark = f"{spec.position} {spec.head_width}"
        if isinstance(spec.position, RelativeSpec):
            self.position = spec.position.build(spec.heads)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        spec = self.spec
        queries, (keys, values) = self.queries(x), self.keys_values(x)
        if isinstance(spec.position, RotarySpec):
            cosines, sines = layout.rotation(spec.position, spec.head_width, queries.dtype, self.mark)
            queries, keys = rotate(queries, cosines, sines), rotate(keys, cosines, sines)
        if layout.cache is not None:
            keys, values = layout.cache.key_values(self).extend(keys, values)
        sight = self._sight(layout, queries.dtype)
        return self.answer(attend(queries, keys, values, sight, factor=self.factor, limit=self.limit))

    def _sight(self, layout: Layout, dtype: torch.dtype) -> Sight:
        spec = self.spec
        if isinstance(spec.position, RelativeSpec):
            return Sight(relative_bias(spec.position, self.position, layout, spec.sees, spec.reach), causal=False)
        if isinstance(spec.position, AlibiSpec):
            return Sight(alibi_bias(spec.heads, layout, dtype, spec.sees, spec.reach), causal=False)
        return layout.sight(spec.sees, spec.reach) if self.limit else layout.sight_apart(spec.sees, spec.reach)


class CrossAttention(Projections):
    """(B, T, C) to (B, T, C), reading the layout's memory (B, S, C')."""

    def __init__(self, spec: CrossAttentionSpec, scope: Scope) -> None:
        super().__init__(spec, scope)
        self.spec = spec

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        queries = self.queries(x)
        if layout.facing is None:
            keys, values = self.keys_values(_present(layout.memory))
            if layout.cache is not None:
                keys, values = layout.cache.key_values(self).extend(keys, values)
            mask, causal, _ = layout.sight(self.spec.sees, EverywhereSpec())
        else:
            keys, values, mask = self._source(layout)
            causal = False
        return self.answer(attend(queries, keys, values, Sight(mask, causal), factor=self.factor, limit=self.limit))

    def _source(self, layout: Layout) -> tuple[Tensor, Tensor, Tensor | None]:
        """Give keys, values and mask of a source, which are the same for every step that follows the first."""
        kept = None if layout.cache is None else layout.cache.kept(self)
        if kept is not None and kept.tensors is not None:
            keys, values, *mask = kept.tensors
            return keys, values, mask[0] if mask else None
        keys, values = self.keys_values(_present(layout.memory))
        mask = layout.facing_sight(self.spec.sees).mask
        if kept is not None:
            kept.tensors = (keys, values) if mask is None else (keys, values, mask[:, :, :1])
        return keys, values, mask


def _present(memory: Tensor | None) -> Tensor:
    """Give the memory, or say that the batch has no source to make one of."""
    if memory is None:
        raise InputError("batch.source", "is not there, and the model attends to it", "give the batch a source")
    return memory
