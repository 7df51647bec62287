"""Token ids to vectors: a learned table, whole or in two factors, with positions, token types and a norm."""

import msgspec
import torch
from torch import Tensor, nn

from lamoid.assembly.batch import check_range
from lamoid.assembly.bounds import MOST_WIDTH, positive, whole
from lamoid.assembly.layout import Layout
from lamoid.assembly.linear import DenseSpec, LinearSpec, Table
from lamoid.assembly.norm import NoNormSpec, NormSpec
from lamoid.assembly.position import LearnedPositionSpec, NoPositionSpec, SinusoidalPositionSpec, sinusoids
from lamoid.assembly.scope import Scope


class WholeTableSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="whole"):
    """Rows of the stream's own width."""


class FactoredTableSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="factored"):
    """Rows of ``width`` numbers, positions and types too, which a linear map widens to the stream's (ALBERT)."""

    width: int
    linear: LinearSpec = DenseSpec(bias=True)

    def __post_init__(self) -> None:
        whole("factored.width", self.width, 1, MOST_WIDTH)


class NoTypesSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="none"):
    """Tokens have no types."""


class TypesSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="types"):
    """A learned row for each of ``count`` token types is added; a batch without types has type 0 everywhere."""

    count: int = 2

    def __post_init__(self) -> None:
        whole("types.count", self.count, 1, 1 << 16)


class EmbeddingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tokens"):
    """norm(multiplier x token + position + type), one learned row a token."""

    positions: NoPositionSpec | LearnedPositionSpec | SinusoidalPositionSpec = NoPositionSpec()
    table: WholeTableSpec | FactoredTableSpec = WholeTableSpec()
    types: NoTypesSpec | TypesSpec = NoTypesSpec()
    norm: NormSpec = NoNormSpec()
    multiplier: float = 1.0

    def __post_init__(self) -> None:
        positive("tokens.multiplier", self.multiplier)

    def build(self, scope: Scope) -> "Embedding":
        return Embedding(self, scope)

    def row_width(self, width: int) -> int:
        """Give the width of the table's rows where the stream has ``width``."""
        return self.table.width if isinstance(self.table, FactoredTableSpec) else width

    def position_rows(self, context: int) -> int:
        """Count the rows of the table of positions."""
        return context + self.positions.offset if isinstance(self.positions, LearnedPositionSpec) else 0

    def parameters(self, scope: Scope) -> int:
        inner = self.row_width(scope.width)
        types = self.types.count if isinstance(self.types, TypesSpec) else 0
        count = inner * (scope.vocab + self.position_rows(scope.context) + types) + self.norm.parameters(inner)
        if isinstance(self.table, FactoredTableSpec):
            count += self.table.linear.parameters(inner, scope.width)
        return count

    def flops(self, scope: Scope) -> int:
        """Count the operations for one token: lookups cost none."""
        if isinstance(self.table, FactoredTableSpec):
            return self.table.linear.flops(self.table.width, scope.width)
        return 0


class Embedding(nn.Module):
    """(B, T) ids to (B, T, C)."""

    def __init__(self, spec: EmbeddingSpec, scope: Scope) -> None:
        super().__init__()
        inner, rows = spec.row_width(scope.width), spec.position_rows(scope.context)
        self.spec = spec
        self.tokens = Table(scope.vocab, inner)
        self.positions = Table(rows, inner) if rows else None
        self.types = Table(spec.types.count, inner) if isinstance(spec.types, TypesSpec) else None
        self.norm = spec.norm.build(inner)
        table = spec.table
        self.widen = table.linear.build(inner, scope.width) if isinstance(table, FactoredTableSpec) else None

    def forward(self, ids: Tensor, layout: Layout) -> Tensor:
        check_range("batch: ids", ids, len(self.tokens.weight))
        spec, x = self.spec, self.tokens(ids)
        if spec.multiplier != 1.0:
            # Rounded to the weights' own precision first, as Gemma's checkpoints were trained.
            x = x * torch.tensor(spec.multiplier, dtype=x.dtype, device=x.device)
        if self.types is not None:
            x = x + self.types(torch.zeros_like(ids) if layout.batch.types is None else layout.batch.types)
        if isinstance(spec.positions, LearnedPositionSpec) and self.positions is not None:
            x = x + self.positions(layout.positions + spec.positions.offset)
        elif isinstance(spec.positions, SinusoidalPositionSpec):
            x = x + sinusoids(spec.positions, layout.positions, x.shape[-1], x.dtype)
        x = self.norm(x)
        return x if self.widen is None else self.widen(x)
