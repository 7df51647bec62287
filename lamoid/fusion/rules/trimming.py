"""Which elements of task vectors are kept by their magnitude."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lamoid.fusion.rules.rule import Measure, Passes, Piece
from lamoid.fusion.rules.task_vectors import Keep, difference


def kept_elements(density: float, elements: int) -> int:
    """Give how many of so many elements a density keeps: as mergekit at least one."""
    return max(1, int(density * elements))


def magnitudes(members: Sequence[int]) -> Measure:
    """Give the measure of the magnitudes of these members' differences from the base."""
    return lambda piece: [difference(piece, member).abs_() for member in members]


def keep_largest(passes: Passes, densities: Sequence[float]) -> Keep:
    """Keep the largest elements of each member's difference, the first among equals; all where the density is 1."""
    thin = [member for member, density in enumerate(densities) if density < 1.0]
    counts = [kept_elements(densities[member], passes.elements) for member in thin]
    cuts = dict(zip(thin, passes.largest(magnitudes(thin), counts), strict=True)) if thin else {}

    def keep(piece: Piece, member: int) -> Tensor:
        delta = difference(piece, member)
        cut = cuts.get(member)
        return delta if cut is None else _masked(delta, cut.mask(piece, delta.abs()))

    return keep


def keep_above(least: Sequence[float]) -> Keep:
    """Keep what is at least as large as each member's ``least``."""

    def keep(piece: Piece, member: int) -> Tensor:
        delta = difference(piece, member)
        return delta.abs().ge_(least[member]).mul_(delta)

    return keep


def keep_middle(passes: Passes, densities: Sequence[float], gammas: Sequence[float]) -> Keep:
    """Keep a density of the elements, those below the ``gamma`` n largest, of which as many go as the density allows.

    int(density n) are kept, and max(0, n - int(density n) - int(gamma n)) of the smallest go.
    """
    n = passes.elements
    thin = [member for member, density in enumerate(densities) if density < 1.0]
    kept = {member: int(densities[member] * n) for member in thin}
    outer = {member: n - max(0, n - kept[member] - int(gammas[member] * n)) for member in thin}
    counts = [count for member in thin for count in (outer[member], outer[member] - kept[member])]
    cuts = passes.largest(magnitudes([member for member in thin for _ in range(2)]), counts) if thin else []
    pairs = dict(zip(thin, zip(cuts[::2], cuts[1::2], strict=True), strict=True))

    def keep(piece: Piece, member: int) -> Tensor:
        delta = difference(piece, member)
        if member not in pairs:
            return delta
        wide, top = pairs[member]
        sizes = delta.abs()
        return _masked(delta, wide.mask(piece, sizes) ^ top.mask(piece, sizes))

    return keep


def _masked(delta: Tensor, mask: Tensor) -> Tensor:
    """Zero in place what the mask leaves out; read as whole numbers, it is multiplied twice as fast."""
    return delta.mul_(mask.view(torch.uint8))
