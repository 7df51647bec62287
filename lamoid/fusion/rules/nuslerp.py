"""Spherical interpolation between two models, or their differences from a base (mergekit's ``nuslerp``)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lamoid.fusion.rules.gram import arms_of, gram, row_gram
from lamoid.fusion.rules.mixing import mix_around_any
from lamoid.fusion.rules.rule import Combine, Options, Passes, Piece


class NuslerpOptions(Options, frozen=True):
    """``nuslerp_flatten``: a tensor is one vector; else each row is one with ``nuslerp_row_wise``, each column without.

    A vector has one row, whatever is asked.
    """

    nuslerp_flatten: bool = True
    nuslerp_row_wise: bool = False


class MergekitNuslerpOptions(NuslerpOptions, frozen=True):
    """As mergekit 0.1.5 reads them: ``nuslerp_row_wise`` goes by columns, its absence by rows."""


SHORT, PARALLEL = 1e-7, 1e-8


def nuslerp(passes: Passes, weights: Sequence[float], options: NuslerpOptions) -> Combine:
    """Give [sin((1-t)W) x_1 + sin(tW) x_2] / sin W with t = w_2 / (w_1 + w_2), 1/2 if the sum is 0.

    x are the members, or their differences from the base, which is added then; W is their angle. Where |sin W| < 1e-8,
    (1-t) x_1 + t x_2. mergekit takes columns for rows; ``nuslerp@mergekit`` does so too.
    """
    total = weights[0] + weights[1]
    share = 0.5 if abs(total) < 1e-6 else weights[1] / total
    if options.nuslerp_flatten or len(passes.shape) < 2:
        return mix_around_any([float(each) for each in _shares(gram(passes, arms_of), share)])
    by_rows = options.nuslerp_row_wise != isinstance(options, MergekitNuslerpOptions)
    columns = None if by_rows else _shares(_column_gram(passes), share)

    def combine(piece: Piece) -> Tensor:
        one, other = arms_of(piece)
        first, second = columns or _shares(row_gram([one, other]), share)
        mixed = (one * first.to(one.dtype)).add_(other * second.to(one.dtype))
        return mixed if piece.base is None else mixed.add_(piece.base)

    return combine


def _shares(matrix: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Give the coefficients of both, from inner products (2, 2, ...) in float64."""
    norms = [matrix[i, i].sqrt().clamp_min(SHORT) for i in range(2)]
    cosine = (matrix[0, 1] / norms[0] / norms[1]).clamp(-1.0, 1.0)
    is_parallel = 1.0 - cosine.square() <= PARALLEL**2
    angle = torch.acos(torch.where(is_parallel, 0.0, cosine))
    first, second = torch.sin((1.0 - t) * angle) / torch.sin(angle), torch.sin(t * angle) / torch.sin(angle)
    return torch.where(is_parallel, 1.0 - t, first), torch.where(is_parallel, t, second)


def _column_gram(passes: Passes) -> Tensor:
    """Give the inner products (2, 2, width) of each column."""

    def products(piece: Piece) -> list[Tensor]:
        one, other = arms_of(piece)
        return [one * one, one * other, other * other]

    first, cross, second = passes.columns(products)
    return torch.stack([torch.stack([first, cross]), torch.stack([cross, second])])
