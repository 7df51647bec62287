"""DARE: drop task vectors' elements at random and rescale the rest (Yu et al., 2024, arXiv 2311.03099)."""

from collections.abc import Sequence

from torch import Tensor

from lamoid.fusion.rules.numbers import each_member
from lamoid.fusion.rules.rule import Combine, Passes, Piece
from lamoid.fusion.rules.task_vectors import (
    ElectedOptions,
    Keep,
    Rescale,
    ThinOptions,
    difference,
    rescale_factors,
    sum_elected,
    sum_thinned,
    sum_whole,
)


class DareOptions(ThinOptions, frozen=True):
    """DARE's own: what is kept is divided by the share that is kept; half of it, for the paper names no one share."""

    density: float | list[float] = 0.5
    rescale: Rescale | bool = True
    own_rescale = "prob"


class DareTiesOptions(ElectedOptions, frozen=True):
    """DARE's own, with the mean of what agrees."""

    density: float | list[float] = 0.5
    rescale: Rescale | bool = True
    normalize: bool = True
    own_rescale = "prob"


class MergekitDareOptions(ThinOptions, frozen=True):
    """mergekit 0.1.5: nothing is dropped unless a density is given, and rescaling keeps the L1 norm."""

    rescale: Rescale | bool = True


class MergekitDareTiesOptions(ElectedOptions, frozen=True):
    """mergekit 0.1.5: nothing is dropped unless a density is given, and what agrees is summed."""

    rescale: Rescale | bool = True


def keep_at_random(densities: Sequence[float]) -> Keep:
    """Keep each element with the probability ``density``, by the piece's own draws."""

    def keep(piece: Piece, member: int) -> Tensor:
        delta = difference(piece, member)
        if densities[member] >= 1.0:
            return delta
        return delta.mul_(piece.chosen(member, densities[member]))

    return keep


def dare_linear(passes: Passes, weights: Sequence[float], options: ThinOptions) -> Combine:
    """Give B + lambda sum_i w_i D_i, where D_i is M_i - B with each element kept with the probability ``density``.

    Divided by that probability, D_i is M_i - B on the average, as in the paper, PEFT and FusionBench; mergekit keeps
    the L1 norm instead (``dare_linear@mergekit``).
    """
    densities = each_member("density", options.density, passes.members)
    if min(densities) >= 1.0:
        return sum_whole(weights, options)
    keep = keep_at_random(densities)
    return sum_thinned(weights, options, keep, rescale_factors(passes, keep, options.rescaling(), densities))


def dare_ties(passes: Passes, weights: Sequence[float], options: ElectedOptions) -> Combine:
    """Give the same with elected signs, as in TIES; the mean of what agrees, in ``dare_ties@mergekit`` its sum."""
    densities = each_member("density", options.density, passes.members)
    if passes.members == 1 and densities == [1.0]:
        return sum_whole(weights, options)
    keep = keep_at_random(densities)
    factors = rescale_factors(passes, keep, options.rescaling(), densities)
    return sum_elected(weights, options, keep, factors, options.election())
