"""Arcee fusion: take over the important changes only (as in mergekit)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lamoid.fusion.rules.mixing import base_of
from lamoid.fusion.rules.rule import Combine, Options, Passes, Piece


def arcee_fusion(passes: Passes, weights: Sequence[float], options: Options) -> Combine:
    """Give M where I >= median(I) + 1.5 (q3(I) - q1(I)), else B.

    The importance I is |M - B| times the divergence sum p log(p / q) of its row, p and q being softmax of the row of M
    and of B, plus 1e-8. The quartiles are exact, by counting; mergekit takes them from a sample of 10^6 drawn without a
    seed where a tensor is larger.
    """
    last = passes.elements - 1
    places = [int(share * last) for share in (0.25, 0.5, 0.75)]
    # The element at place p from below is the (last - p + 1)-th largest.
    cuts = passes.largest(lambda piece: [_importance(piece)] * 3, [last - place + 1 for place in places])
    first, median, third = (cut.least for cut in cuts)

    def combine(piece: Piece) -> Tensor:
        importance = _importance(piece)
        taken = importance.ge_(_as_computed(importance, median, third, first))
        return (piece.members[0] * taken).add_(taken.neg().add_(1.0).mul_(base_of(piece)))

    return combine


def _as_computed(like: Tensor, median: float, third: float, first: float) -> Tensor:
    """Give the threshold rounded as the importances are: else what equals it might fall below it."""
    found = torch.tensor([median, third, first], dtype=like.dtype, device=like.device)
    return found[0] + 1.5 * (found[1] - found[2])


def _importance(piece: Piece) -> Tensor:
    new, old = (torch.softmax(rows, -1).add_(1e-8) for rows in (piece.members[0], base_of(piece)))
    divergence = (new * (new / old).log_()).sum(-1, keepdim=True)
    # Below zero by rounding only.
    return piece.deltas()[0].abs_().mul_(divergence.clamp_min_(0.0))
