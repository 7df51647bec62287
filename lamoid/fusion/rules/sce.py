"""SCE: select by variance, calculate weights, erase minority signs (Wan et al., 2024, arXiv 2408.07990)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lamoid.fusion.rules.consensus import Election, elected_sum
from lamoid.fusion.rules.mixing import base_of, mix_members, sum_of
from lamoid.fusion.rules.numbers import within
from lamoid.fusion.rules.rule import Combine, Options, Passes, Piece


class SceOptions(Options, frozen=True):
    """``select_topk``: the share of the positions at which the members differ that is kept, by variance.

    ``nothing``: mean squares that sum to less are taken as equal.
    """

    select_topk: float = 1.0
    nothing: float = 1e-6

    def __post_init__(self) -> None:
        within("select_topk", self.select_topk, 0.0, 1.0)
        within("nothing", self.nothing, 0.0)


def sce(passes: Passes, weights: Sequence[float], options: SceOptions) -> Combine:
    """Give B + sum_i v_i D_i A_i / sum_i v_i A_i with D_i = M_i - B where the variance over the members is among the
    int(select_topk m) largest, m the number of positions where it is not 0; v_i the share of D_i in the sum of squares;
    and A_i where D_i has the sign of sum_i D_i.

    Where the mean squares of all D_i sum to less than 1e-6, as those of short fine-tuning do, mergekit makes all v_i
    equal; so does this, unless ``nothing`` is 0. Members come in an order of their own, not in that of a set. Of equal
    variances the first are kept.
    """
    if passes.members == 1 and options.select_topk >= 1.0:
        return mix_members([1.0])
    keep = _selected(passes, options.select_topk)
    squares = passes.totals(lambda piece: [part.square_() for part in keep(piece)])
    total = sum(squares)
    is_nothing = total <= 0.0 or total / passes.elements < options.nothing
    shares = [1.0 / passes.members if is_nothing else square / total for square in squares]
    election = Election("unweighted", "weights")
    return lambda piece: elected_sum(keep(piece), shares, election).add_(base_of(piece))


def _selected(passes: Passes, share: float) -> Callable[[Piece], list[Tensor]]:
    if share >= 1.0:
        return Piece.deltas
    varied = passes.totals(lambda piece: [(_variance(piece) != 0.0).to(torch.float64)])[0]
    (cut,) = passes.largest(lambda piece: [_variance(piece)], [int(varied * share)])

    def keep(piece: Piece) -> list[Tensor]:
        mask = cut.mask(piece, _variance(piece))
        return [delta.mul_(mask) for delta in piece.deltas()]

    return keep


def _variance(piece: Piece) -> Tensor:
    """Give the population variance over the members, 0 where they are equal; torch's own is fifty times slower here."""
    first, *others = piece.members
    away = [other - first for other in others]
    mean = sum_of(away).div_(len(piece.members)) if away else torch.zeros_like(first)
    spread = mean.square()
    for each in away:
        spread.add_(each.sub_(mean).square_())
    return spread.div_(len(piece.members))
