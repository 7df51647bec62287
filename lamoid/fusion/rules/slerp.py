"""Spherical interpolation between the base and one model (Shoemake, 1985, SIGGRAPH '85), a tensor as one vector."""

import math
from collections.abc import Sequence

from torch import Tensor

from lamoid.fusion.rules.mixing import base_of, mix_around_base, mixing
from lamoid.fusion.rules.numbers import above_zero, within
from lamoid.fusion.rules.rule import Combine, Options, Passes, Piece


class SlerpOptions(Options, frozen=True):
    """``t``: 0 is the base, 1 the member. ``eps``: a norm up to which a vector counts as nothing."""

    t: float
    eps: float = 1e-8

    def __post_init__(self) -> None:
        within("t", self.t, 0.0, 1.0)
        above_zero("eps", self.eps)


NEARLY_PARALLEL = 0.9995


def slerp(passes: Passes, weights: Sequence[float], options: SlerpOptions) -> Combine:
    """Give [sin((1-t)W) B + sin(tW) M] / sin W, where W is the angle between base B and member M.

    Where |cos W| > 0.9995, (1-t) B + t M. Norms and the angle are sums over the whole tensor in float64, so it is
    the same on every device (mergekit sums in float32).
    """
    t = options.t

    def both(piece: Piece) -> list[Tensor]:
        return [base_of(piece), piece.members[0]]

    squares = passes.products(both, [(0, 0), (1, 1), (0, 1)])
    norms = [norm if (norm := math.sqrt(square)) > options.eps else 1.0 for square in squares[:2]]
    cosine = max(-1.0, min(1.0, squares[2] / norms[0] / norms[1]))
    if abs(cosine) > NEARLY_PARALLEL:
        return mix_around_base([t])
    angle = math.acos(cosine)
    mix = mixing([math.sin((1.0 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)])
    return lambda piece: mix([base_of(piece), piece.members[0]])
