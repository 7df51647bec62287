"""Positions as a bias on the scores of attention: T5's relative buckets and ALiBi's slopes."""

import math

import msgspec
import torch
from torch import Tensor

from lamoid.assembly.bounds import MOST_CONTEXT, whole
from lamoid.assembly.layout import Layout
from lamoid.assembly.linear import Table
from lamoid.assembly.sight import CausalSpec, ReachSpec, SeesSpec, WindowSpec
from lamoid.errors import InputError


class RelativeSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="relative"):
    """A learned number for each head and bucket of distances (Raffel et al., 2020).

    Half of the buckets stand for one distance each, the others widen logarithmically up to ``distance`` and beyond.
    Where both directions are seen, each has half of the buckets.
    """

    buckets: int = 32
    distance: int = 128

    def __post_init__(self) -> None:
        whole("relative.buckets", self.buckets, 4, 1 << 16)
        whole("relative.distance", self.distance, 1, MOST_CONTEXT)
        if self.distance <= self.buckets // 2:
            problem = f"is {self.distance}, not above half of the buckets, {self.buckets // 2}"
            raise InputError("relative.distance", problem, "raise it, or use fewer buckets")

    def build(self, heads: int) -> Table:
        return Table(self.buckets, heads)

    def parameters(self, heads: int) -> int:
        return self.buckets * heads


class AlibiSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="alibi"):
    """Scores fall with the distance, by a slope of each head (Press et al., 2022)."""


def relative_bias(spec: RelativeSpec, table: Table, layout: Layout, sees: SeesSpec, reach: ReachSpec) -> Tensor:
    """Give (B or 1, H, T, S): the table's number of each pair's bucket, minus infinity where nothing is seen.

    Pairs are sorted into buckets once a pass, and layers that share a table share its bias too.
    """
    key = ("buckets", spec.buckets, spec.distance, not isinstance(sees, CausalSpec))
    if key not in layout.found:
        layout.found[key] = _buckets(spec, layout.distances(), is_two_way=key[-1])
    mark = ("bias", id(table.weight), key, *_eyes(sees, reach))
    if mark not in layout.found:
        bias = table(layout.found[key]).permute(0, 3, 1, 2)
        layout.found[mark] = _masked(bias, layout, sees, reach)
    return layout.found[mark]


def alibi_bias(heads: int, layout: Layout, dtype: torch.dtype, sees: SeesSpec, reach: ReachSpec) -> Tensor:
    """Give (B or 1, H, T, S): minus slope x distance, minus infinity where nothing is seen."""
    mark = ("alibi", heads, dtype, *_eyes(sees, reach))
    if mark not in layout.found:
        distances = layout.distances().abs().float()
        slopes = torch.tensor(alibi_slopes(heads), device=distances.device)
        bias = (-slopes[:, None, None] * distances[:, None]).to(dtype)
        layout.found[mark] = _masked(bias, layout, sees, reach)
    return layout.found[mark]


def _eyes(sees: SeesSpec, reach: ReachSpec) -> tuple[type, int]:
    """Tell layers that see differently apart in a way that the compiler can look up."""
    return type(sees), reach.tokens if isinstance(reach, WindowSpec) else 0


def _masked(bias: Tensor, layout: Layout, sees: SeesSpec, reach: ReachSpec) -> Tensor:
    sight = layout.sight(sees, reach)
    if sight.mask is not None:
        return bias.masked_fill(~sight.mask, -math.inf)
    return bias.masked_fill((layout.distances() > 0)[:, None], -math.inf) if sight.causal else bias


def alibi_slopes(heads: int) -> list[float]:
    """Give 2^(-8 h / H) for h from 1; for H that is no power of two, the paper's filling from the next larger one."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    return slopes + [2 ** (-4 * (2 * head + 1) / power) for head in range(heads - power)]


def _buckets(spec: RelativeSpec, distances: Tensor, *, is_two_way: bool) -> Tensor:
    """Sort key place - query place into buckets."""
    buckets = spec.buckets // 2 if is_two_way else spec.buckets
    away = distances.abs() if is_two_way else (-distances).clamp(min=0)
    exact = buckets // 2
    ratio = torch.log(away.clamp(min=1).float() / exact) / math.log(spec.distance / exact)
    wide = (exact + (ratio * (buckets - exact)).long()).clamp(max=buckets - 1)
    bucket = torch.where(away < exact, away, wide)
    return bucket + (distances > 0) * buckets if is_two_way else bucket
