"""The linear rule: parameters sum_i w_i M_i (Wortsman et al., 2022, arXiv 2203.05482, with weights)."""

import math
from collections.abc import Sequence

from lamoid.fusion.rules.mixing import mix_members
from lamoid.fusion.rules.numbers import sum_to_divide_by
from lamoid.fusion.rules.rule import Combine, Options, Passes


class LinearOptions(Options, frozen=True):
    """``normalize``: divide the weights by their sum."""

    normalize: bool = True


def linear(passes: Passes, weights: Sequence[float], options: LinearOptions) -> Combine:
    """Give sum_i w_i M_i, divided by sum_i w_i if normalised; a single member of weight 1 comes back as it is.

    Weights are never rounded to the stored dtype, as mergekit did before 0.1.5. Raises ``InputError`` for weights that
    sum to 0 and are to be normalised.
    """
    total = sum_to_divide_by(weights, math.fsum(weights)) if options.normalize else 1.0
    return mix_members([weight / total for weight in weights])
