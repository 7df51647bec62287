"""Iso-C: the sum of all changes with an even spectrum (Marczak et al., 2025, arXiv 2502.04959)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lamoid.fusion.rules.mixing import base_of, mix_around_base, sum_of
from lamoid.fusion.rules.rule import Combine, Passes, Piece
from lamoid.fusion.rules.tsv_m import SpectralOptions


def iso_c(passes: Passes, weights: Sequence[float], options: SpectralOptions) -> Combine:
    """Give B + lambda mean(S) U V^T, where sum_i (M_i - B) = U S V^T: no direction is stronger than another.

    Tensors that are no matrices get B + lambda mean_i (M_i - B).
    """
    count = passes.members
    if len(passes.shape) != 2:
        return mix_around_base([options.lambda_ / count] * count)

    def combine(piece: Piece) -> Tensor:
        found = torch.linalg.svd(sum_of(piece.deltas()), full_matrices=False)
        return base_of(piece).add(found.U @ found.Vh * found.S.mean(), alpha=options.lambda_)

    return combine
