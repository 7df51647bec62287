"""Task arithmetic: the base plus weighted task vectors (Ilharco et al., 2023, arXiv 2212.04089)."""

from collections.abc import Sequence

from lamoid.fusion.rules.rule import Combine, Passes
from lamoid.fusion.rules.task_vectors import TaskOptions, ThinOptions, sum_whole


class MergekitTaskOptions(ThinOptions, frozen=True):
    """As mergekit's: ``density`` and ``rescale`` are read and change nothing, for this rule thins nothing."""


def task_arithmetic(passes: Passes, weights: Sequence[float], options: TaskOptions) -> Combine:
    """Give B + lambda sum_i w_i (M_i - B), divided by sum_i w_i if normalised.

    It is computed as (1 - sum_i c_i) B + sum_i c_i M_i, which gives a single member of weight 1 bit for bit, in float32
    or wider; mergekit computes the differences in the stored dtype unless told otherwise. Raises ``InputError`` for
    weights that sum to 0 and are to be normalised; mergekit divides by 1 then.
    """
    return sum_whole(weights, options)
