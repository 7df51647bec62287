"""A weighted mean of directions, with a weighted mean of lengths (mergekit's ``multislerp``)."""

from collections.abc import Sequence

import torch

from lamoid.errors import InputError
from lamoid.fusion.rules.gram import arms_of, gram
from lamoid.fusion.rules.mixing import mix_around_any
from lamoid.fusion.rules.numbers import above_zero, sum_to_divide_by
from lamoid.fusion.rules.rule import Combine, Options, Passes


class MultislerpOptions(Options, frozen=True):
    """``normalize_weights``: divide the weights by their sum. ``eps`` is added to norms."""

    normalize_weights: bool = True
    eps: float = 1e-8

    def __post_init__(self) -> None:
        above_zero("eps", self.eps)


def multislerp(passes: Passes, weights: Sequence[float], options: MultislerpOptions) -> Combine:
    """Give m sum_i w_i |x_i|, with m the direction of sum_i w_i x_i / |x_i|; x_i are the members, or their differences
    from the base, which is added then.

    mergekit states it as a step in the tangent space at m, by v = sum_i w_i (u_i - <u_i, m> m). That step is none: m is
    where the u_i balance, so v is 0 but for rounding. Members come in an order of their own, not in that of a set.
    Two opposed members that cancel are averaged; more are an ``InputError``.
    """
    if passes.members == 1:
        return mix_around_any([1.0])
    matrix = gram(passes, arms_of)
    shares = torch.tensor(weights, dtype=torch.float64)
    if options.normalize_weights:
        shares /= sum_to_divide_by(weights, float(shares.sum()))
    norms = matrix.diagonal().sqrt()
    units = shares / (norms + options.eps)
    length = (units @ matrix @ units).clamp_min(0.0).sqrt()
    if length >= options.eps:
        shares = units / length * (shares * norms).sum()
    elif passes.members > 2 and bool((norms > 0).any()):
        raise InputError(f"tensor {passes.name}", "the weighted directions cancel", "use other weights")
    return mix_around_any(shares.tolist())
