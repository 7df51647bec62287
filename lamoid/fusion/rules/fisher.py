"""Fisher averaging: each number weighs as much as its member's loss hangs on it (Matena and Raffel, 2022,
arXiv 2111.09832).
"""

import math
from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor

from lamoid.fusion.rules.mixing import mix_members
from lamoid.fusion.rules.numbers import sum_to_divide_by, within
from lamoid.fusion.rules.rule import Combine, Options, Passes, Piece


class FisherOptions(Options, frozen=True):
    """``least``: what a number weighs at least; ``normalize``: each member's Fisher information is divided by its norm
    over the whole model, so that members measured on losses of different size count alike.
    """

    least: float = 1e-6
    normalize: bool = True

    def __post_init__(self) -> None:
        within("least", self.least, 0.0)


class SurveyedFisherOptions(FisherOptions, frozen=True):
    """What a pass over the whole model adds: the norm of each member's information."""

    norms: list[float] = msgspec.field(default_factory=list)


def survey_fisher(passes: Passes, weights: Sequence[float], options: FisherOptions) -> Options:
    """Measure each member's information: its Euclidean norm over the whole model."""
    if not options.normalize:
        return options
    squares = passes.totals(lambda piece: [part.double().square() for part in _information(piece)])
    return SurveyedFisherOptions(**msgspec.structs.asdict(options), norms=[math.sqrt(square) for square in squares])


def fisher(passes: Passes, weights: Sequence[float], options: FisherOptions) -> Combine:
    """Give sum_i w_i F_i M_i / sum_i w_i F_i with F_i the mean squared gradient of member i's loss, at least ``least``.

    Numbers without information, as of a tensor that no gradient reaches, are averaged with w_i.
    """
    norms = options.norms if isinstance(options, SurveyedFisherOptions) else [1.0] * passes.members
    shares = [weight / norm if norm else 0.0 for weight, norm in zip(weights, norms, strict=True)]
    total_weight = sum_to_divide_by(weights, math.fsum(weights))
    plain = mix_members([weight / total_weight for weight in weights])

    def combine(piece: Piece) -> Tensor:
        if piece.statistics is None or all(torch.equal(piece.members[0], other) for other in piece.members[1:]):
            return plain(piece)
        known = zip(piece.statistics, weights, shares, strict=True)
        parts = [(part * share).clamp_min_(options.least * weight) for part, weight, share in known]
        total = torch.stack(parts).sum(0)
        mean = sum(part * member for part, member in zip(parts, piece.members, strict=True)) / total
        return torch.where(total > 0.0, mean, plain(piece))

    return combine


def _information(piece: Piece) -> list[Tensor]:
    return piece.statistics or [torch.zeros(()) for _ in piece.members]
