"""TSV-M: the strongest singular directions of each task, made orthogonal (Gargiulo et al., 2025, arXiv 2412.00081)."""

from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor

from lamoid.fusion.rules.mixing import base_of, mix_around_base
from lamoid.fusion.rules.numbers import LARGE, within
from lamoid.fusion.rules.rule import Combine, Options, Passes, Piece


class SpectralOptions(Options, frozen=True):
    """``lambda``: what the merged change is multiplied with."""

    lambda_: float = msgspec.field(default=1.0, name="lambda")

    def __post_init__(self) -> None:
        within("lambda", self.lambda_, -LARGE)


def spectral_room(shape: tuple[int, ...], members: int) -> int:
    """Give the bytes for the singular values of matrices, held whole in float64; other tensors go by elements."""
    if len(shape) != 2:
        return 0
    return 8 * ((members + 16) * shape[0] * shape[1] + 4 * min(shape) * (min(shape) + max(shape)))


def tsv_m(passes: Passes, weights: Sequence[float], options: SpectralOptions) -> Combine:
    """Give B + lambda U' S V'^T: of each D_i = M_i - B = U_i S_i V_i^T the largest rank / N triplets are kept and put
    side by side; U' and V' are the orthogonal matrices nearest to [U_1 ... U_N] and [V_1 ... V_N].

    Tensors that are no matrices get B + lambda mean(D_i). A single member is taken whole.
    """
    count = passes.members
    if len(passes.shape) != 2 or count == 1:
        return mix_around_base([options.lambda_ / count] * count)
    kept = max(1, min(passes.shape) // count)

    def combine(piece: Piece) -> Tensor:
        lefts, values, rights = zip(*(strongest(delta, kept) for delta in piece.deltas()), strict=True)
        left, right = nearest_orthogonal(torch.cat(lefts, 1)), nearest_orthogonal(torch.cat(rights, 0))
        return base_of(piece).add((left * torch.cat(values)) @ right, alpha=options.lambda_)

    return combine


def strongest(matrix: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Give the ``count`` largest singular triplets (rows, count), (count,), (count, columns), and hold no others."""
    found = torch.linalg.svd(matrix, full_matrices=False)
    return found.U[:, :count].clone(), found.S[:count].clone(), found.Vh[:count].clone()


def nearest_orthogonal(matrix: Tensor) -> Tensor:
    """Give the nearest matrix with orthonormal rows or columns (Procrustes)."""
    found = torch.linalg.svd(matrix, full_matrices=False)
    return found.U @ found.Vh
