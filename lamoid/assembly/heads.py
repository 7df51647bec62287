"""Heads: what a model says about the vectors that its trunk gives."""

import msgspec
from torch import Tensor, nn

from lamoid.assembly.linear import DenseSpec, LinearSpec, multiply


class TiedSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="tied"):
    """The output matrix is the token table itself (Press and Wolf, 2017)."""


class NextTokenSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="next_token"):
    """One logit for each token of the vocabulary that may come next."""

    linear: TiedSpec | LinearSpec = DenseSpec()

    def build(self, width: int, vocab: int) -> "NextToken":
        return NextToken(self, width, vocab)

    def parameters(self, width: int, vocab: int) -> int:
        return 0 if isinstance(self.linear, TiedSpec) else self.linear.parameters(width, vocab)

    def flops(self, width: int, vocab: int) -> int:
        return 2 * width * vocab if isinstance(self.linear, TiedSpec) else self.linear.flops(width, vocab)


HeadSpec = NextTokenSpec


class NextToken(nn.Module):
    """(..., C) to (..., vocab); a tied head is handed the token table, which stays the embedding's own."""

    def __init__(self, spec: NextTokenSpec, width: int, vocab: int) -> None:
        super().__init__()
        self.linear = None if isinstance(spec.linear, TiedSpec) else spec.linear.build(width, vocab)

    def forward(self, hidden: Tensor, table: Tensor) -> Tensor:
        return multiply(hidden, table) if self.linear is None else self.linear(hidden)
