"""MagMax: of each element the largest change (Marczak et al., 2024, arXiv 2407.06322)."""

from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor

from lamoid.fusion.rules.mixing import base_of, mix_around_base
from lamoid.fusion.rules.numbers import LARGE, within
from lamoid.fusion.rules.rule import Combine, Options, Passes, Piece


class MagmaxOptions(Options, frozen=True):
    """``lambda``: what the largest changes are multiplied with."""

    lambda_: float = msgspec.field(default=0.5, name="lambda")

    def __post_init__(self) -> None:
        within("lambda", self.lambda_, -LARGE)


def magmax(passes: Passes, weights: Sequence[float], options: MagmaxOptions) -> Combine:
    """Give B + lambda D, where D is, element by element, the M_i - B of the largest magnitude.

    Of +d and -d, +d is taken, whichever member has it.
    """

    if passes.members == 1:
        return mix_around_base([options.lambda_])

    def combine(piece: Piece) -> Tensor:
        deltas = piece.deltas()
        top, bottom = deltas[0], deltas[0]
        for delta in deltas[1:]:
            top, bottom = torch.maximum(top, delta), torch.minimum(bottom, delta)
        # The largest magnitude is the greatest or the least; their sum says by its sign which.
        greater = torch.copysign(torch.ones_like(top), top + bottom).clamp_min_(0.0)
        largest = top * greater + bottom * (1.0 - greater)
        return base_of(piece).add(largest, alpha=options.lambda_)

    return combine
