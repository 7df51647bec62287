"""Nearswap: take the member where it is near the base (alchemonaut's QuartetAnemoi, as in mergekit)."""

from collections.abc import Sequence

from torch import Tensor

from lamoid.fusion.rules.mixing import base_of
from lamoid.fusion.rules.numbers import within
from lamoid.fusion.rules.rule import Combine, Options, Passes, Piece


class NearswapOptions(Options, frozen=True):
    """``t``: the distance up to which the member's number is taken."""

    t: float

    def __post_init__(self) -> None:
        within("t", self.t, 0.0)


NEAREST = 1e-6


def nearswap(passes: Passes, weights: Sequence[float], options: NearswapOptions) -> Combine:
    """Give s M + (1 - s) B with s = t / max(|B - M|, 1e-6), at most 1."""

    def combine(piece: Piece) -> Tensor:
        base, member = base_of(piece), piece.members[0]
        share = (base - member).abs_().clamp_min_(NEAREST).reciprocal_().mul_(options.t).clamp_max_(1.0)
        return (share * member).add_(share.neg().add_(1.0).mul_(base))

    return combine
