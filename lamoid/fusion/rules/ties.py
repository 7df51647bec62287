"""TIES: trim, elect a sign, average what agrees (Yadav et al., 2023, arXiv 2306.01708)."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from lamoid.fusion.rules.consensus import Divide, Elect
from lamoid.fusion.rules.numbers import each_member
from lamoid.fusion.rules.rule import Combine, Options, Passes
from lamoid.fusion.rules.task_vectors import (
    ElectedOptions,
    rescale_factors,
    sum_elected,
    sum_whole,
)
from lamoid.fusion.rules.trimming import keep_above, keep_largest, kept_elements, magnitudes


class TiesOptions(ElectedOptions, frozen=True):
    """``scope``: whether the largest are sought in each tensor or in the whole model."""

    density: float | list[float] = 0.2
    normalize: bool = True
    scope: Literal["tensor", "global"] = "tensor"


class MergekitTiesOptions(TiesOptions, frozen=True):
    """mergekit 0.1.5: nothing is trimmed unless a density is given."""

    density: float | list[float] = 1.0


class PaperTiesOptions(TiesOptions, frozen=True):
    """The paper's own code: trimmed over the whole model, signs elected by unweighted sums, divided by the number."""

    scope: Literal["tensor", "global"] = "global"
    elect: Elect = "unweighted"
    divide: Divide = "count"


class PeftTiesOptions(TiesOptions, frozen=True):
    """PEFT's ``ties``: trimmed by tensor, signs elected by unweighted sums, weighted, divided by the number."""

    elect: Elect = "unweighted"
    divide: Divide = "count"


class FusionBenchTiesOptions(TiesOptions, frozen=True):
    """FusionBench's: trimmed over the whole model, what agrees is summed and scaled by 0.3."""

    normalize: bool = False
    lambda_: float = msgspec.field(default=0.3, name="lambda")
    scope: Literal["tensor", "global"] = "global"
    elect: Elect = "unweighted"


class SurveyedTiesOptions(TiesOptions, frozen=True):
    """What a pass over the whole model adds: the least magnitude that is kept of each member."""

    least: list[float] = msgspec.field(default_factory=list)


def survey_ties(passes: Passes, weights: Sequence[float], options: TiesOptions) -> Options:
    """Find what is kept of each member of the whole model, if that is the scope; of equal magnitudes all are."""
    if options.scope == "tensor":
        return options
    densities = each_member("density", options.density, passes.members)
    counts = [kept_elements(density, passes.elements) for density in densities]
    least = [cut.least for cut in passes.largest(magnitudes(range(passes.members)), counts)]
    return SurveyedTiesOptions(**msgspec.structs.asdict(options), least=least)


def ties(passes: Passes, weights: Sequence[float], options: TiesOptions) -> Combine:
    """Give B + lambda D: each M_i - B keeps its max(1, int(density n)) largest elements, the first among equals; D is
    the mean, weighted with w_i, of what has the elected sign.

    The default keeps 20 % as the paper does, of each tensor, and elects and divides by weighted sums as mergekit does:
    with equal weights the paper's mean. ``ties@mergekit``, ``@paper``, ``@peft`` and ``@fusionbench`` are theirs.
    """
    densities = each_member("density", options.density, passes.members)
    if passes.members == 1 and densities == [1.0]:
        return sum_whole(weights, options)
    least = options.least if isinstance(options, SurveyedTiesOptions) else None
    keep = keep_above(least) if least else keep_largest(passes, densities)
    factors = rescale_factors(passes, keep, options.rescaling(), densities)
    return sum_elected(weights, options, keep, factors, options.election())
