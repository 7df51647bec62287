"""The Karcher mean: the point of the sphere whose squared angles to all members are least (Karcher, 1977)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lamoid.fusion.rules.gram import gram, members_of
from lamoid.fusion.rules.mixing import mix_members
from lamoid.fusion.rules.numbers import above_zero, sum_to_divide_by, within
from lamoid.fusion.rules.rule import Combine, Options, Passes


class KarcherOptions(Options, frozen=True):
    """``max_iter`` steps at most, fewer where a step is shorter than ``tol``."""

    max_iter: int = 10
    tol: float = 1e-5

    def __post_init__(self) -> None:
        within("max_iter", self.max_iter, 0, 10_000)
        above_zero("tol", self.tol)


def karcher(passes: Passes, weights: Sequence[float], options: KarcherOptions) -> Combine:
    """Give the Karcher mean of the directions u_i = M_i / |M_i|, times sum_i w_i |M_i|, the weights summing to 1.

    It starts at the normalised mean of the directions and goes by T = sum_i w_i (W_i / sin W_i)(u_i - <u, u_i> u) to
    u cos|T| + T/|T| sin|T|; W_i is the angle between u and u_i. All of it happens to coefficients of the members, from
    one Gram matrix. mergekit knows equal weights only. A member of a norm up to ``tol`` has no direction;
    where none with a weight has one, the result is 0.
    """
    if passes.members == 1:
        return mix_members([1.0])
    matrix = gram(passes, members_of)
    shares = torch.tensor(weights, dtype=torch.float64)
    shares /= sum_to_divide_by(weights, float(shares.sum()))
    norms = matrix.diagonal().sqrt()
    valid = norms > options.tol
    if not valid.any():
        return mix_members([0.0] * passes.members)
    safe = torch.where(valid, norms, 1.0)
    cosines = matrix / safe / safe[:, None]
    pulls = torch.where(valid, shares, 0.0)
    if abs(float(pulls.sum())) < 1e-12:
        return mix_members([0.0] * passes.members)
    mean = _settle(cosines, pulls / pulls.sum(), options)
    scale = float((shares * norms).sum())
    return mix_members([scale * c / n for c, n in zip(mean.tolist(), safe.tolist(), strict=True)])


def _settle(cosines: Tensor, pulls: Tensor, options: KarcherOptions) -> Tensor:
    """Give the mean's coefficients of the directions, whose inner products are ``cosines``."""
    mean = pulls.clone()
    if _norm(mean, cosines) < options.tol:
        mean = torch.zeros_like(pulls)
        mean[int(pulls.nonzero()[0])] = 1.0
    mean /= _norm(mean, cosines)
    for _ in range(options.max_iter):
        dots = (cosines @ mean).clamp(-1.0, 1.0)
        angles = torch.acos(dots)
        stretch = torch.where(angles < options.tol, 0.0, pulls * angles / torch.sin(angles).clamp_min(1e-300))
        tangent = stretch - (stretch * dots).sum() * mean
        length = _norm(tangent, cosines)
        if length < options.tol:
            break
        mean = torch.cos(length) * mean + torch.sin(length) / length * tangent
        mean /= _norm(mean, cosines)
    return mean


def _norm(coefficients: Tensor, cosines: Tensor) -> Tensor:
    return (coefficients @ cosines @ coefficients).clamp_min(0.0).sqrt()
