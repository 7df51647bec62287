"""Reinforced agent merging: changes of one member whole, changes of several averaged (arXiv 2601.13572)."""

from collections.abc import Sequence

from torch import Tensor

from lamoid.fusion.rules.mixing import base_of, sum_of
from lamoid.fusion.rules.numbers import LARGE, within
from lamoid.fusion.rules.rule import Combine, Options, Passes, Piece


class RamOptions(Options, frozen=True):
    """``epsilon``: how large a change must be to count."""

    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        within("epsilon", self.epsilon, 0.0)


class RamPlusOptions(RamOptions, frozen=True):
    """``r``: how much what one member alone changes is amplified, by a ratio of at most ``alpha``."""

    r: float = 0.1
    alpha: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        within("r", self.r, -LARGE)
        within("alpha", self.alpha, 0.0)


def ram(passes: Passes, weights: Sequence[float], options: RamOptions) -> Combine:
    """Give B + sum_i D_i A_i / c with D_i = M_i - B, A_i where |D_i| > epsilon, and c their number, at least 1."""
    return _amplified([1.0] * passes.members, options.epsilon)


def ramplus_tl(passes: Passes, weights: Sequence[float], options: RamPlusOptions) -> Combine:
    """Give the same, with what member i alone changes times 1 + r min(s_i / u_i, alpha).

    u_i counts in this tensor what it alone changes, s_i what it changes with others; without any u_i, mergekit divides
    by epsilon, so that the ratio is alpha.
    """

    def counts(piece: Piece) -> list[Tensor]:
        changed = [_changed(delta, options.epsilon) for delta in piece.deltas()]
        number = sum_of(changed)
        shared = [mask * number.gt(1.0) for mask in changed]
        return [*shared, *(mask - both for mask, both in zip(changed, shared, strict=True))]

    totals = passes.totals(counts)
    pairs = zip(totals[: passes.members], totals[passes.members :], strict=True)
    ratios = [both / max(alone, options.epsilon) if both else 0.0 for both, alone in pairs]
    return _amplified([1.0 + options.r * min(ratio, options.alpha) for ratio in ratios], options.epsilon)


def _amplified(factors: Sequence[float], epsilon: float) -> Combine:
    def combine(piece: Piece) -> Tensor:
        deltas, base = piece.deltas(), base_of(piece)
        changed = [_changed(delta, epsilon) for delta in deltas]
        number = sum_of(changed)
        # Of those that changed it the mean, of an element that none changed the base: then no bit is lost to B - B.
        total = base * number.eq(0.0)
        for member, mask in zip(piece.members, changed, strict=True):
            total.addcmul_(member, mask)
        mixed = total.div_(number.clamp_min(1.0))
        alone = number.eq_(1.0)
        for delta, mask, factor in zip(deltas, changed, factors, strict=True):
            if factor != 1.0:
                mixed.add_(delta.mul_(mask).mul_(alone), alpha=factor - 1.0)
        return mixed

    return combine


def _changed(delta: Tensor, epsilon: float) -> Tensor:
    """Give 1 where a change counts, else 0, in its dtype."""
    return delta.abs().gt_(epsilon)
