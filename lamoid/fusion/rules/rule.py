"""What a fusion rule is given and what it gives: a plan from passes over one tensor, then a function of its pieces."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec
from torch import Tensor

PIECE = 1 << 17
"""Elements of a piece: few enough to stay near the processor, many enough that calling torch costs little."""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The numbers of a rule besides the weights, with their defaults; the default rule has none."""


@dataclass(frozen=True)
class Piece:
    """The same stretch of every model, in float32 or wider (float64 where float32 is stored).

    ``members`` and ``base`` are 1-D; (rows, width) for a rule by rows; of the tensor's own shape for a rule by whole
    tensors. ``first`` counts the elements of the tensor before it. ``statistics`` holds a tensor of the same shape a
    member for a rule that asks for one by elements. ``draw(i)`` gives uniform numbers in [0, 1), float32, of the same
    shape, for member i: they hang on seed, member, tensor and element, never on how the tensor is cut.
    """

    members: list[Tensor]
    base: Tensor | None
    first: int
    draw: Callable[[int], Tensor]
    statistics: list[Tensor] | None = None
    choose: Callable[[int, float], Tensor] | None = None
    """Says the same as ``chosen``, sooner."""

    def chosen(self, member: int, share: float) -> Tensor:
        """Give 1 where the member's draw is less than ``share``, 0 elsewhere: whole numbers, or of the draw's dtype."""
        if self.choose is not None:
            return self.choose(member, share)
        return (self.draw(member) - share).lt_(0.0)

    def deltas(self) -> list[Tensor]:
        """Give what each member adds to the base (Ilharco et al., 2023, arXiv 2212.04089)."""
        if self.base is None:
            raise ValueError("a rule of differences was planned without a base")
        return [member - self.base for member in self.members]


class Cut(Protocol):
    """Which elements of a tensor are the largest by some measure: so many of them exactly, the first among equals."""

    def mask(self, piece: Piece, values: Tensor) -> Tensor:
        """Say which elements of a piece are among them (bool), given the piece's ``values`` by the same measure."""
        ...

    @property
    def least(self) -> float:
        """Give the smallest value among them; infinity if there are none."""
        ...


Measure = Callable[[Piece], Sequence[Tensor]]
"""One or several quantities of each element of a piece, each of the piece's shape."""


class Passes(Protocol):
    """One tensor of all models, or all tensors of them, which may be passed over as often as a rule needs."""

    name: str
    shape: tuple[int, ...]
    elements: int
    members: int

    def totals(self, measure: Measure) -> list[float]:
        """Sum each quantity over all elements: pieces in float64, their sums exactly, in no order."""
        ...

    def products(self, measure: Measure, pairs: Sequence[tuple[int, int]]) -> list[float]:
        """Give the inner products of so many pairs of the quantities over all elements, summed almost as in float64."""
        ...

    def columns(self, measure: Measure) -> list[Tensor]:
        """Sum each quantity over the rows of a rule by rows: (width,) each, in float64, piece by piece in order."""
        ...

    def largest(self, measure: Measure, counts: Sequence[int]) -> list[Cut]:
        """Find, for each quantity (none negative), the elements that have its ``counts`` largest values."""
        ...

    def statistic(self, member: int) -> Tensor | None:
        """Give the whole statistic of a member for this tensor, None if there is none for it."""
        ...


Combine = Callable[[Piece], Tensor]
"""Gives the fused piece, in the piece's dtype; it is cast to the stored dtype once, behind it."""

Plan = Callable[[Passes, Sequence[float], Any], Combine]
"""Passes over one tensor as often as needed, with the members' weights and the rule's ``options`` for this tensor."""


@dataclass(frozen=True)
class Rule:
    """A row of the table: what a rule needs, and when it suits."""

    plan: Plan
    says: str
    """One sentence for a person who must choose."""
    options: type[Options] = Options
    base: Literal["needed", "optional", "none"] = "none"
    least: int = 1
    most: int | None = None
    weighted: bool = True
    """Whether it takes a weight a member."""
    unit: Literal["element", "row", "tensor"] = "element"
    statistic: Literal["fisher", "gram", "merged_gram"] | None = None
    survey: Callable[[Passes, Sequence[float], Any], Options] | None = None
    """A pass over the whole model before any tensor, which gives the options that the plans are called with."""
    room: Callable[[tuple[int, ...], int], int] | None = None
    """Bytes that a rule by whole tensors needs for a shape and so many members, besides the slices."""
