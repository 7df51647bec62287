"""Sums of task vectors (Ilharco et al., 2023, arXiv 2212.04089), thinned or whole, with or without elected signs."""

import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import msgspec
from torch import Tensor

from lamoid.fusion.rules.consensus import Divide, Elect, Election, elected_sum
from lamoid.fusion.rules.mixing import base_of, mix_around_base, mixing
from lamoid.fusion.rules.numbers import LARGE, above_zero, sum_to_divide_by, within
from lamoid.fusion.rules.rule import Combine, Options, Passes, Piece

Keep = Callable[[Piece, int], Tensor]
"""Gives what is kept of a member's difference from the base: zeros elsewhere."""
Rescale = Literal["prob", "l1", "l2", "none"]


class TaskOptions(Options, frozen=True):
    """``normalize``: divide by the sum of the weights. ``lambda``: what the sum is multiplied with."""

    normalize: bool = False
    lambda_: float = msgspec.field(default=1.0, name="lambda")

    def __post_init__(self) -> None:
        within("lambda", self.lambda_, -LARGE)


class ThinOptions(TaskOptions, frozen=True):
    """``density``: the share of the elements that is kept, of all members or of each.

    ``rescale`` makes up for the rest: "prob" divides by the share, "l1" and "l2" keep that norm of each tensor; true
    is the rule's own way.
    """

    density: float | list[float] = 1.0
    rescale: Rescale | bool = False
    own_rescale: ClassVar[Rescale] = "l1"

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero("density", self.density, 1.0)

    def rescaling(self) -> Rescale:
        """Give the way that is meant."""
        if isinstance(self.rescale, bool):
            return self.own_rescale if self.rescale else "none"
        return self.rescale


class ElectedOptions(ThinOptions, frozen=True):
    """``elect`` and ``divide``: see ``Election``; without ``normalize`` what agrees is summed."""

    elect: Elect = "weighted"
    divide: Divide = "weights"

    def election(self) -> Election:
        """Give how signs are elected."""
        return Election(self.elect, self.divide if self.normalize else "none")


def difference(piece: Piece, member: int) -> Tensor:
    """Give what one member adds to the base."""
    return piece.members[member] - base_of(piece)


def rescale_factors(passes: Passes, keep: Keep, how: Rescale, densities: Sequence[float]) -> list[float]:
    """Give what each member's kept part is multiplied with; 1 where it or the whole is next to nothing."""
    if how == "none":
        return [1.0] * passes.members
    if how == "prob":
        return [1.0 / density for density in densities]

    def sizes(piece: Piece) -> list[Tensor]:
        both = [part for i in range(passes.members) for part in (difference(piece, i), keep(piece, i))]
        return [part.abs() if how == "l1" else part.square() for part in both]

    norms = [total if how == "l1" else math.sqrt(total) for total in passes.totals(sizes)]
    pairs = zip(norms[::2], norms[1::2], strict=True)
    return [1.0 if min(whole, kept) < 1e-7 else whole / kept for whole, kept in pairs]


def sum_whole(weights: Sequence[float], options: TaskOptions) -> Combine:
    """Give the rule B + lambda sum_i w_i (M_i - B), divided by sum_i w_i if normalised."""
    total = sum_to_divide_by(weights, math.fsum(weights)) if options.normalize else 1.0
    return mix_around_base([options.lambda_ * (weight / total) for weight in weights])


def sum_thinned(weights: Sequence[float], options: TaskOptions, keep: Keep, factors: Sequence[float]) -> Combine:
    """Give the same of thinned differences, each times its factor."""
    total = sum_to_divide_by(weights, math.fsum(weights)) if options.normalize else 1.0
    mix = mixing([weight * factor / total for weight, factor in zip(weights, factors, strict=True)])

    def combine(piece: Piece) -> Tensor:
        mixed = mix([keep(piece, member) for member in range(len(weights))])
        return base_of(piece).add(mixed, alpha=options.lambda_)

    return combine


def sum_elected(
    weights: Sequence[float], options: TaskOptions, keep: Keep, factors: Sequence[float], election: Election
) -> Combine:
    """Give B + lambda times the sum or mean of those differences that have the elected sign."""

    def combine(piece: Piece) -> Tensor:
        parts = [keep(piece, member) for member in range(len(weights))]
        scaled = [part if factor == 1.0 else part * factor for part, factor in zip(parts, factors, strict=True)]
        mixed = elected_sum(scaled, weights, election)
        return base_of(piece).add(mixed, alpha=options.lambda_)

    return combine
