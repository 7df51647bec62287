"""RegMean: the linear maps that answer most like the members on their inputs (Jin et al., 2023, arXiv 2212.09849)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lamoid.fusion.rules.mixing import mix_members
from lamoid.fusion.rules.numbers import sum_to_divide_by, within
from lamoid.fusion.rules.rule import Combine, Options, Passes, Piece


class RegmeanOptions(Options, frozen=True):
    """``alpha``: what the products of different inputs are multiplied with; 0 leaves the inputs' sizes alone."""

    alpha: float = 0.9

    def __post_init__(self) -> None:
        within("alpha", self.alpha, 0.0, 1.0)


def regmean_room(shape: tuple[int, ...], members: int) -> int:
    """Give the bytes for a map of (outputs, inputs) and the products of all members' inputs."""
    if len(shape) != 2:
        return 0
    outputs, inputs = shape
    return (4 * members + 8 * 5) * inputs**2 + 8 * 5 * outputs * inputs


def regmean(passes: Passes, weights: Sequence[float], options: RegmeanOptions) -> Combine:
    """Give W = (sum_i w_i W_i G_i) (sum_i w_i G_i)^-1 with G_i = X_i^T X_i of member i's inputs, which minimises
    sum_i w_i |X_i W^T - X_i W_i^T|^2; what stands off the diagonal of G_i is multiplied with ``alpha``.

    Products of shape (1, width, width) say that the tensor's rows, not its columns, are inputs. Tensors without
    products are averaged with w_i. An input that never varied from 0 is averaged too. RegMean++ (Nguyen et al., 2025,
    arXiv 2508.03121) is the same of inputs behind merged layers.
    """
    shares = [weight / sum_to_divide_by(weights, math.fsum(weights)) for weight in weights]
    products = [passes.statistic(member) for member in range(passes.members)]
    known = [product for product in products if product is not None]
    if len(passes.shape) != 2 or len(known) < passes.members:
        return mix_members(shares)
    flipped = known[0].ndim == 3

    def combine(piece: Piece) -> Tensor:
        if all(torch.equal(piece.members[0], other) for other in piece.members[1:]):
            return piece.members[0]
        width = known[0].shape[-1]
        sizes = sum(share * _square(product).diagonal().double() for product, share in zip(known, shares, strict=True))
        # A little of each diagonal, the same for all: an input that is always 0 becomes the plain mean.
        little = max(float(torch.as_tensor(sizes).mean()), 1e-30) * 1e-6
        total = torch.zeros((width, width), dtype=torch.float64, device=known[0].device)
        wanted = torch.zeros((math.prod(passes.shape) // width, width), dtype=torch.float64, device=known[0].device)
        for member, product, share in zip(piece.members, known, shares, strict=True):
            gram = _square(product).to(torch.float64, copy=True)
            sizes = gram.diagonal().clone()
            gram.mul_(options.alpha).diagonal().copy_(sizes + little)
            total.add_(gram, alpha=share)
            wanted.addmm_((member.T if flipped else member).double(), gram, alpha=share)
        found = torch.linalg.solve(total, wanted, left=False)
        return (found.T if flipped else found).to(piece.members[0].dtype)

    return combine


def _square(product: Tensor) -> Tensor:
    return product.reshape(product.shape[-2:])
