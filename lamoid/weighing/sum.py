"""The weighted sum of tensors, in float32 or wider, cast once."""

from collections.abc import Sequence

import torch
from torch import Tensor

PIECE = 1 << 15


def weighted_sum(tensors: Sequence[Tensor], weights: Sequence[float], *, out: Tensor | None = None) -> Tensor:
    """Give sum_i w_i x_i in the dtype of the tensors, which all have one shape and one floating dtype.

    The sum runs in the order given: in float32 for 16 bits and fewer, in float64 for more, so that weights that come to
    1 give equal tensors of at most 32 bits back bit for bit. Tensors of weight 0 are not looked at, and a single one of
    weight 1 comes back as it is. The work is done in pieces that stay in the processor's cache, so that nothing of the
    tensors' size is made besides the result, ``out`` (contiguous) where one is given.
    """
    out = torch.empty_like(tensors[0], memory_format=torch.contiguous_format) if out is None else out
    parts = [(tensor.reshape(-1), weight) for tensor, weight in zip(tensors, weights, strict=True) if weight != 0.0]
    if len(parts) == 1 and parts[0][1] == 1.0:
        return out.copy_(parts[0][0].view(out.shape))
    wide = torch.float64 if out.element_size() >= 4 else torch.float32
    total, scaled = torch.empty((2, min(PIECE, out.numel())), dtype=wide, device=out.device)
    flat = out.view(-1)
    for begin in range(0, len(flat), PIECE):
        piece = flat[begin : begin + PIECE]
        _sum_piece([(x[begin : begin + PIECE], weight) for x, weight in parts], total[: len(piece)], scaled)
        piece.copy_(total[: len(piece)])
    return out


def _sum_piece(parts: list[tuple[Tensor, float]], total: Tensor, scaled: Tensor) -> None:
    """Leave the weighted sum in ``total``; the first part is put there, not added to 0, so that -0 stays -0."""
    if not parts:
        total.zero_()
    for index, (part, weight) in enumerate(parts):
        if index == 0:
            total.copy_(part).mul_(weight)
        else:
            total.add_(scaled[: len(part)].copy_(part), alpha=weight)
