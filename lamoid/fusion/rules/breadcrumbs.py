"""Model breadcrumbs: without the smallest and the largest changes (Davari and Belilovsky, 2023, arXiv 2312.06795)."""

from collections.abc import Sequence

from lamoid.fusion.rules.numbers import each_member, within
from lamoid.fusion.rules.rule import Combine, Passes
from lamoid.fusion.rules.task_vectors import (
    ElectedOptions,
    ThinOptions,
    rescale_factors,
    sum_elected,
    sum_thinned,
    sum_whole,
)
from lamoid.fusion.rules.trimming import keep_middle


class BreadcrumbsOptions(ThinOptions, frozen=True):
    """``gamma``: the share of the largest changes that goes; of the smallest go as many as ``density`` asks."""

    density: float | list[float] = 0.9
    gamma: float | list[float] = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        within("gamma", self.gamma, 0.0, 1.0)


class BreadcrumbsTiesOptions(ElectedOptions, frozen=True):
    """``gamma``: as for ``breadcrumbs``; signs are elected."""

    density: float | list[float] = 0.9
    gamma: float | list[float] = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        within("gamma", self.gamma, 0.0, 1.0)


class MergekitBreadcrumbsOptions(BreadcrumbsOptions, frozen=True):
    """mergekit 0.1.5: nothing goes unless a density is given."""

    density: float | list[float] = 1.0


class MergekitBreadcrumbsTiesOptions(BreadcrumbsTiesOptions, frozen=True):
    """mergekit 0.1.5: nothing goes unless a density is given."""

    density: float | list[float] = 1.0


def breadcrumbs(passes: Passes, weights: Sequence[float], options: BreadcrumbsOptions) -> Combine:
    """Give B + lambda sum_i w_i D_i, where D_i is M_i - B without its int(gamma n) largest elements and so many of the
    smallest that int(density n) are left; if those are more, fewer of the largest go.

    mergekit before 0.1.5 gave zeros for a gamma of 0; ``breadcrumbs@mergekit`` differs in the default density only.
    """
    densities = each_member("density", options.density, passes.members)
    if min(densities) >= 1.0:
        return sum_whole(weights, options)
    keep = keep_middle(passes, densities, each_member("gamma", options.gamma, passes.members))
    return sum_thinned(weights, options, keep, rescale_factors(passes, keep, options.rescaling(), densities))


def breadcrumbs_ties(passes: Passes, weights: Sequence[float], options: BreadcrumbsTiesOptions) -> Combine:
    """Give the same with elected signs, as in TIES."""
    densities = each_member("density", options.density, passes.members)
    if passes.members == 1 and densities == [1.0]:
        return sum_whole(weights, options)
    keep = keep_middle(passes, densities, each_member("gamma", options.gamma, passes.members))
    factors = rescale_factors(passes, keep, options.rescaling(), densities)
    return sum_elected(weights, options, keep, factors, options.election())
