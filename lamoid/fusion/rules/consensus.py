"""One sign for each element, elected by the members, and the sum of what agrees (TIES: Yadav et al., 2023)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lamoid.fusion.rules.mixing import sum_of

Elect = Literal["weighted", "unweighted", "count"]
Divide = Literal["weights", "count", "none"]


@dataclass(frozen=True)
class Election:
    """How signs are elected and what the sum is divided by.

    The elected sign is that of the sum of the weighted differences (mergekit), of the unweighted ones (the paper,
    PEFT's "total"), or of their signs ("count"); plus where that is 0. What agrees is summed with its weight and
    divided by the sum of its weights (mergekit), by its number (the paper, PEFT), or not at all (FusionBench).
    """

    elect: Elect = "weighted"
    divide: Divide = "weights"


def elected_sum(parts: Sequence[Tensor], weights: Sequence[float], election: Election) -> Tensor:
    """Give the sum of the weighted ``parts`` of the elected sign, divided as told; zeros never agree.

    Where the weights of what agrees sum to 0, it is divided by 1, as mergekit does.
    """
    weighted = [part if weight == 1.0 else part * weight for part, weight in zip(parts, weights, strict=True)]
    votes = {"weighted": weighted, "unweighted": parts}.get(election.elect) or [part.sign() for part in weighted]
    plus = sum_of(votes)
    # copysign would take -0.0 for minus: only where all votes are zeros, which never agree.
    sign = torch.copysign(torch.ones((), dtype=plus.dtype, device=plus.device), plus)
    total, share = torch.zeros_like(sign), torch.zeros_like(sign)
    for vote, part, weight in zip(votes, weighted, weights, strict=True):
        agrees = (vote * sign).clamp_min_(0.0).sign_()
        total.addcmul_(part, agrees)
        share.add_(agrees, alpha=weight if election.divide == "weights" else 1.0)
    if election.divide == "none":
        return total
    counts = election.divide == "count"
    if counts or min(weights) >= 0.0:  # then a share is 0 or at least as large as the least weight
        return total.div_(share.clamp_min_(1.0 if counts else min((w for w in weights if w), default=1.0)))
    return total.div_(share.masked_fill_(share == 0.0, 1.0))
