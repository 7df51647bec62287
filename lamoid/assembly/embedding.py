"""Token ids to vectors: a learned table, and learned positions where the spec asks for them."""

import msgspec
from torch import Tensor, nn

from lamoid.assembly.batch import Batch
from lamoid.assembly.layout import Layout
from lamoid.assembly.linear import Table
from lamoid.assembly.position import LearnedPositionSpec, NoPositionSpec


class EmbeddingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tokens"):
    """One learned row a token, plus one a position if ``positions`` is learned."""

    positions: NoPositionSpec | LearnedPositionSpec = NoPositionSpec()

    def build(self, vocab: int, width: int, context: int) -> "Embedding":
        rows = context if isinstance(self.positions, LearnedPositionSpec) else 0
        return Embedding(vocab, width, rows)

    def parameters(self, vocab: int, width: int, context: int) -> int:
        return width * (vocab + (context if isinstance(self.positions, LearnedPositionSpec) else 0))


class Embedding(nn.Module):
    """(B, T) ids to (B, T, C)."""

    def __init__(self, vocab: int, width: int, positions: int) -> None:
        super().__init__()
        self.tokens = Table(vocab, width)
        self.positions = Table(positions, width) if positions else None

    def forward(self, batch: Batch, layout: Layout) -> Tensor:
        rows = self.tokens(batch.ids)
        return rows if self.positions is None else rows + self.positions(layout.positions)
