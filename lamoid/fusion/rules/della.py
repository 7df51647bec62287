"""DELLA: drop at random, the smaller the likelier (Deep et al., 2024, arXiv 2406.11617)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lamoid.fusion.rules.numbers import each_member, within
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


class DellaLinearOptions(ThinOptions, frozen=True):
    """``epsilon``: the probabilities of a row go from density - epsilon to density + epsilon."""

    density: float | list[float] = 0.5
    epsilon: float | list[float] = 0.15
    rescale: Rescale | bool = True
    own_rescale = "prob"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_epsilon(self.density, self.epsilon)


class DellaOptions(ElectedOptions, frozen=True):
    """``epsilon``: as for ``della_linear``; the mean of what agrees."""

    density: float | list[float] = 0.5
    epsilon: float | list[float] = 0.15
    rescale: Rescale | bool = True
    normalize: bool = True
    own_rescale = "prob"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_epsilon(self.density, self.epsilon)


class MergekitDellaLinearOptions(DellaLinearOptions, frozen=True):
    """mergekit 0.1.5: nothing is dropped unless a density is given, and rescaling keeps the L1 norm."""

    density: float | list[float] = 1.0
    own_rescale = "l1"


class MergekitDellaOptions(DellaOptions, frozen=True):
    """mergekit 0.1.5: nothing is dropped unless a density is given; the mean of what agrees."""

    density: float | list[float] = 1.0
    own_rescale = "l1"


def check_epsilon(density: float | list[float], epsilon: float | list[float]) -> None:
    """Raise ``ValueError`` unless all probabilities lie between 0 and 1; a density of 1 drops nothing."""
    within("epsilon", epsilon, 0.0, 0.5)
    for share in density if isinstance(density, list) else [density]:
        for reach in epsilon if isinstance(epsilon, list) else [epsilon]:
            if share < 1.0 and not (share - reach > 0.0 and share + reach < 1.0):
                limits = f"above 0 and below {min(share, 1.0 - share):g} with a density of {share:g}"
                raise ValueError(f"epsilon is {reach}, must be {limits}")


def keep_by_rank(densities: Sequence[float], epsilons: Sequence[float], *, divide: bool) -> Keep:
    """Keep each element of a row with the probability density - epsilon + 2 epsilon (r - 1) / (width - 1).

    r is the rank of its magnitude in its row, 1 for the smallest; in a row of one element the probability is the
    density, where mergekit divides 0 by 0. ``divide`` what is kept by its probability.
    """

    def keep(piece: Piece, member: int) -> Tensor:
        delta = difference(piece, member)
        density, epsilon = densities[member], epsilons[member]
        if density >= 1.0:
            return delta
        width = delta.shape[-1]
        slope = 2.0 * epsilon / (width - 1) if width > 1 else 0.0
        ladder = (density - (epsilon if width > 1 else 0.0)) + slope * torch.arange(width, dtype=delta.dtype)
        order = delta.abs().argsort(dim=-1, stable=True)
        chances = torch.empty_like(delta).scatter_(-1, order, ladder.to(delta.device).expand_as(delta))
        kept = delta.mul_((piece.draw(member) - chances).lt_(0.0))
        return kept.div_(chances) if divide else kept

    return keep


def della_linear(passes: Passes, weights: Sequence[float], options: DellaLinearOptions) -> Combine:
    """Give B + lambda sum_i w_i D_i, where D_i is M_i - B with each element kept by the rank of its magnitude in its
    row (``keep_by_rank``; a vector is one row) and divided by its probability, as in the paper.

    mergekit keeps the L1 norm instead (``della_linear@mergekit``).
    """
    densities = each_member("density", options.density, passes.members)
    if min(densities) >= 1.0:
        return sum_whole(weights, options)
    keep, factors = _thin(passes, options, options.epsilon, densities)
    return sum_thinned(weights, options, keep, factors)


def della(passes: Passes, weights: Sequence[float], options: DellaOptions) -> Combine:
    """Give the same with elected signs, as in TIES: the mean of what agrees."""
    densities = each_member("density", options.density, passes.members)
    if passes.members == 1 and densities == [1.0]:
        return sum_whole(weights, options)
    keep, factors = _thin(passes, options, options.epsilon, densities)
    return sum_elected(weights, options, keep, factors, options.election())


def _thin(
    passes: Passes, options: ThinOptions, epsilon: float | list[float], densities: Sequence[float]
) -> tuple[Keep, list[float]]:
    how = options.rescaling()
    keep = keep_by_rank(densities, each_member("epsilon", epsilon, passes.members), divide=how == "prob")
    return keep, rescale_factors(passes, keep, "none" if how == "prob" else how, densities)
