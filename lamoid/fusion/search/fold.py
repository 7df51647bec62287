"""PackLLM's fold: one member after the other, each with the best of a grid of shares (Mavromatis et al., 2024,
arXiv 2404.11531)."""

from collections.abc import Callable, Sequence

GRID = 21


def pack(losses: Sequence[float], loss: Callable[[Sequence[float]], float], *, grid: int = GRID) -> list[float]:
    """Give weights found by folding in one member after the other, the best of them by ``losses`` first.

    The members so far keep the share c of 0, 1 / (grid - 1), ..., 1 that has the lowest ``loss``, the next gets 1 - c;
    of equal losses the largest c counts. It asks for at most (grid - 1) losses a member; the first are the best
    member's weights alone, which need not be that member under every rule.
    """
    order = sorted(range(len(losses)), key=lambda index: losses[index])
    weights = [1.0 if index == order[0] else 0.0 for index in range(len(losses))]
    best = loss(weights)
    for index in order[1:]:
        chosen = weights
        for step in range(grid - 2, -1, -1):
            share = step / (grid - 1)
            tried = [share * weight for weight in weights]
            tried[index] = 1.0 - share
            found = loss(tried)
            if found < best:
                chosen, best = tried, found
        weights = chosen
    return weights
