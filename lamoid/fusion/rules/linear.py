"""The linear rule: parameters sum_i w_i M_i (Wortsman et al., 2022, arXiv 2203.05482, with weights)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lamoid.weighing.sum import weighted_sum


def linear(members: Sequence[Tensor], weights: Sequence[float], out: Tensor) -> Tensor:
    """Average one stretch of the members' parameters into ``out``; the weights come to 1.

    Equal members give that member bit for bit: what has at most 32 bits is summed wider, so only float64 needs asking.
    """
    if out.dtype == torch.float64 and all(torch.equal(members[0], member) for member in members[1:]):
        return out.copy_(members[0])
    return weighted_sum(members, weights, out=out)
