"""Iso-CTS: directions of all changes and of each task alone, all equally strong (Marczak et al., 2025,
arXiv 2502.04959)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lamoid.fusion.rules.mixing import base_of, mix_around_base, sum_of
from lamoid.fusion.rules.numbers import within
from lamoid.fusion.rules.rule import Combine, Passes, Piece
from lamoid.fusion.rules.tsv_m import SpectralOptions, nearest_orthogonal, strongest


class IsoCtsOptions(SpectralOptions, frozen=True):
    """``common_space_fraction``: the share of directions that come from the sum; the rest is shared among members."""

    common_space_fraction: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        within("common_space_fraction", self.common_space_fraction, 0.0, 1.0)


def iso_cts(passes: Passes, weights: Sequence[float], options: IsoCtsOptions) -> Combine:
    """Give B + lambda mean(S) U' V'^T: the strongest triplets of sum_i D_i with D_i = M_i - B = U S V^T, beside the
    strongest of each D_i - U U^T D_i; U' and V' are the orthogonal matrices nearest to all their directions.

    Each member adds as many directions as come nearest to an even share of what the common space leaves of the rank.
    Tensors that are no matrices get B + lambda mean_i D_i.
    """
    count = passes.members
    if len(passes.shape) != 2:
        return mix_around_base([options.lambda_ / count] * count)
    rank = min(passes.shape)
    own = min(rank // count, round((rank - int(rank * options.common_space_fraction)) / count))
    common = rank - own * count

    def combine(piece: Piece) -> Tensor:
        deltas = piece.deltas()
        triplets = [strongest(sum_of(deltas), common)]
        shared = triplets[0][0]
        if own:
            triplets += [strongest(delta - shared @ (shared.T @ delta), own) for delta in deltas]
        lefts, values, rights = zip(*triplets, strict=True)
        left, right = nearest_orthogonal(torch.cat(lefts, 1)), nearest_orthogonal(torch.cat(rights, 0))
        return base_of(piece).add(left @ right * torch.cat(values).mean(), alpha=options.lambda_)

    return combine
