"""Inner products of the members, or of their differences from the base: of whole tensors, or row by row."""

import torch
from torch import Tensor

from lamoid.fusion.rules.rule import Measure, Passes, Piece


def members_of(piece: Piece) -> list[Tensor]:
    """Give the members themselves."""
    return piece.members


def arms_of(piece: Piece) -> list[Tensor]:
    """Give the members' differences from the base where there is one, else the members themselves."""
    return piece.members if piece.base is None else piece.deltas()


def gram(passes: Passes, vectors: Measure) -> Tensor:
    """Give the float64 matrix (members, members) of <x_i, x_j> over the whole tensor, in one pass."""
    pairs = [(i, j) for i in range(passes.members) for j in range(i, passes.members)]
    matrix = torch.empty((passes.members, passes.members), dtype=torch.float64)
    for (i, j), total in zip(pairs, passes.products(vectors, pairs), strict=True):
        matrix[i, j] = matrix[j, i] = total
    return matrix


def row_gram(vectors: list[Tensor]) -> Tensor:
    """Give the float64 inner products (members, members, rows, 1) of each row of vectors (rows, width)."""
    return torch.stack([torch.stack([_products(one, other) for other in vectors]) for one in vectors])


def _products(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(-1, keepdim=True, dtype=torch.float64)
