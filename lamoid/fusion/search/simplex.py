"""The weights on the simplex with the lowest loss: by gradient, or by losses alone."""

import math
from collections.abc import Callable, Sequence

Loss = Callable[[Sequence[float]], float]
FLOOR = 1e-6
"""What a weight of 0 starts from: the coordinates are logarithms."""


def search_simplex(loss: Loss, start: Sequence[float], budget: int = 50) -> list[float]:
    """Give the best weights found with at most ``budget`` losses: a pattern search in the logarithms of the weights.

    From ``start`` (of at least 0, it comes to 1) one weight after the other is multiplied or divided by a factor, and
    the rest fits itself; what lowers the loss stays, and where nothing does the factor shrinks (Hooke and Jeeves,
    1961). Deterministic; the result is never worse by ``loss`` than ``start``.
    """
    best = _normal(start)
    lowest, left, step = loss(best), budget - 1, math.log(4.0)
    while left > 0 and step > 0.02 and len(best) > 1:
        moved = False
        for index in range(len(best)):
            for sign in (1.0, -1.0):
                if left <= 0:
                    return best
                tried = _moved(best, index, sign * step)
                left -= 1
                found = loss(tried)
                if found < lowest:
                    best, lowest, moved = tried, found, True
                    break
        step *= 1.0 if moved else 0.5
    return best


def descend_simplex(
    loss: Loss,
    gradient: Callable[[Sequence[float]], Sequence[float]],
    start: Sequence[float],
    *,
    rate: float = 0.5,
    steps: int = 30,
) -> list[float]:
    """Give the best weights met by exponentiated gradient steps (Kivinen and Warmuth, 1997).

    Each weight is multiplied by exp(-rate x its gradient / the largest difference of gradients) and all are
    normalised; a step that does not lower the loss is taken back and the rate halved.
    """
    best = _normal(start)
    lowest = loss(best)
    for _ in range(steps):
        slopes = list(gradient(best))
        spread = max(slopes) - min(slopes)
        if spread == 0.0 or rate < 1e-3:
            break
        mean = math.fsum(slope * weight for slope, weight in zip(slopes, best, strict=True))
        tried = _normal([w * math.exp(-rate * (s - mean) / spread) for w, s in zip(best, slopes, strict=True)])
        found = loss(tried)
        if found < lowest:
            best, lowest = tried, found
        else:
            rate *= 0.5
    return best


def _moved(weights: Sequence[float], index: int, step: float) -> list[float]:
    changed = list(weights)
    changed[index] = max(changed[index], FLOOR) * math.exp(step)
    return _normal(changed)


def _normal(weights: Sequence[float]) -> list[float]:
    total = math.fsum(weights)
    return [weight / total for weight in weights]
