"""Model stock: how far to go from the base to the mean, by the angle of the members (Jang et al., 2024,
arXiv 2403.19522).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lamoid.fusion.rules.gram import gram, row_gram
from lamoid.fusion.rules.mixing import base_of, mix_around_base, mixing
from lamoid.fusion.rules.rule import Combine, Options, Passes, Piece


class ModelStockOptions(Options, frozen=True):
    """``filter_wise``: an angle for each row; else one for the tensor."""

    filter_wise: bool = False


def model_stock(passes: Passes, weights: Sequence[float], options: ModelStockOptions) -> Combine:
    """Give t mean(M) + (1 - t) B with t = N c / (1 + (N - 1) c), where c is the mean cosine of all pairs M_i - B.

    Where the members do not differ from the base, c is 0 and the result the base; so it is where 1 + (N - 1) c is 0.
    As in mergekit the product of two norms counts as 1e-6 at least: members nearer to the base go less of the way.
    """
    count = passes.members
    if not options.filter_wise:
        ratio = float(_ratio(gram(passes, Piece.deltas)))
        return mix_around_base([ratio / count] * count)
    mix = mixing([1.0 / count] * count)

    def combine(piece: Piece) -> Tensor:
        deltas = piece.deltas()
        return (mix(deltas) * _ratio(row_gram(deltas)).to(deltas[0].dtype)).add_(base_of(piece))

    return combine


def _ratio(products: Tensor) -> Tensor:
    """Give t from the inner products (members, members, ...) of the differences."""
    count = len(products)
    norms = [products[i, i].sqrt() for i in range(count)]
    cosines = [
        (products[i, j] / (norms[i] * norms[j]).clamp_min(1e-6)).clamp(-1.0, 1.0)
        for i in range(count)
        for j in range(i + 1, count)
    ]
    cosine = torch.stack(cosines).mean(0)
    whole = 1.0 + (count - 1) * cosine
    return torch.where(whole.abs() < 1e-6, 0.0, count * cosine / torch.where(whole == 0.0, 1.0, whole))
