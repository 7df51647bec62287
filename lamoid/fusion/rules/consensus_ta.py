"""Consensus task arithmetic: keep what several tasks need (Wang et al., 2024, arXiv 2405.07813)."""

import math
from collections.abc import Sequence

from torch import Tensor

from lamoid.fusion.rules.mixing import base_of, mix_around_base, sum_of
from lamoid.fusion.rules.numbers import sum_to_divide_by, within
from lamoid.fusion.rules.rule import Combine, Passes, Piece
from lamoid.fusion.rules.task_vectors import TaskOptions


class ConsensusTaOptions(TaskOptions, frozen=True):
    """``threshold``: the paper's lambda of a task's mask; ``needed``: how many tasks must need an element."""

    threshold: float = 0.6
    needed: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        within("threshold", self.threshold, 0.0)
        within("needed", self.needed, 0, 1_000_000)


def consensus_ta(passes: Passes, weights: Sequence[float], options: ConsensusTaOptions) -> Combine:
    """Give B + lambda S [c >= needed] with S = sum_i w_i D_i, D_i = M_i - B.

    c counts the tasks whose mask |w_i D_i| > threshold |S - w_i D_i| holds the element: what one task alone needs, or
    none, is left out. ``normalize`` divides S by sum_i w_i.
    """

    total = sum_to_divide_by(weights, math.fsum(weights)) if options.normalize else 1.0
    shares = [weight / total for weight in weights]
    if passes.members == 1:
        return mix_around_base([options.lambda_ * shares[0] if options.needed <= 1 else 0.0])

    def combine(piece: Piece) -> Tensor:
        parts = [delta.mul_(share) for delta, share in zip(piece.deltas(), shares, strict=True)]
        whole = sum_of(parts)
        masks = [part.abs().gt_((whole - part).abs_().mul_(options.threshold)) for part in parts]
        wanted = sum_of(masks).ge_(float(options.needed))
        return base_of(piece).add(whole * wanted, alpha=options.lambda_)

    return combine
