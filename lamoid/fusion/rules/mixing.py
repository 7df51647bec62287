"""Weighted sums of pieces, exact where they can be: of one tensor of weight 1, and of equal tensors in a mean."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lamoid.fusion.rules.rule import Combine, Piece

NOTHING = 1e-15
"""A share of the base below which it is rounding of weights that sum to 1."""


def mixing(coefficients: Sequence[float]) -> Callable[[Sequence[Tensor]], Tensor]:
    """Give the function from tensors x_i of one shape to sum_i c_i x_i; what has the coefficient 0 counts not.

    A single x of coefficient 1 comes back as it is, not copied; so do equal ones if the coefficients sum to 1.
    """
    used = [(index, coefficient) for index, coefficient in enumerate(coefficients) if coefficient != 0.0]
    is_mean = math.isclose(math.fsum(coefficients), 1.0, rel_tol=1e-12)

    def mix(tensors: Sequence[Tensor]) -> Tensor:
        if not used:
            return torch.zeros_like(tensors[0])
        (index, coefficient), *others = used
        first = tensors[index]
        if is_mean and all(torch.equal(first, tensors[other]) for other, _ in others):
            return first
        total = first * coefficient
        for other, share in others:
            total.add_(tensors[other], alpha=share)
        return total

    return mix


def mix_members(coefficients: Sequence[float]) -> Combine:
    """Give the rule sum_i c_i M_i."""
    mix = mixing(coefficients)
    return lambda piece: mix(piece.members)


def mix_around_base(coefficients: Sequence[float]) -> Combine:
    """Give the rule B + sum_i c_i (M_i - B), computed as (1 - sum_i c_i) B + sum_i c_i M_i: exact where c is (1,)."""
    rest = 1.0 - math.fsum(coefficients)
    mix = mixing([0.0 if abs(rest) < NOTHING else rest, *coefficients])
    return lambda piece: mix([base_of(piece), *piece.members])


def mix_around_any(coefficients: Sequence[float]) -> Combine:
    """Give the rule around the base where there is one, else the sum of the members."""
    around, plain = mix_around_base(coefficients), mix_members(coefficients)
    return lambda piece: plain(piece) if piece.base is None else around(piece)


def base_of(piece: Piece) -> Tensor:
    """Give the base's piece; raise ``ValueError`` if the rule was planned without one."""
    if piece.base is None:
        raise ValueError("a rule of differences was planned without a base")
    return piece.base


def sum_of(tensors: Sequence[Tensor]) -> Tensor:
    """Give the sum of tensors of one shape, in their order."""
    total = tensors[0].clone()
    for tensor in tensors[1:]:
        total.add_(tensor)
    return total
