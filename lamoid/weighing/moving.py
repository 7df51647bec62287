"""Averages that move towards new values."""
# pyright: reportPrivateImportUsage=false
# Torch has no other names for its functions that take lists of tensors.

from collections.abc import Sequence

import torch
from torch import Tensor


def decayed_share(decay: float, count: int) -> float:
    """Give what the ``count``-th value weighs in an average in which every value weighs ``decay`` times the next.

    That is (1 - decay) / (1 - decay^count): 1 for the first, so that nothing but values is in the average (the
    correction of Kingma and Ba, 2015), and 1 - decay in the long run.
    """
    return (1.0 - decay) / (1.0 - decay**count)


def move_averages(averages: Sequence[Tensor], values: Sequence[Tensor], share: float) -> None:
    """Move each of ``averages`` by ``share`` of the way towards its value, in place, in one call for all."""
    torch._foreach_lerp_(list(averages), list(values), share)
