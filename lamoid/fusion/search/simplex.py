"""The weights on the simplex with the lowest loss: by gradient, or by losses alone."""

import math
from collections.abc import Callable, Sequence

Loss = Callable[[Sequence[float]], float]
FLOOR = 1e-6
"""What a weight of 0 starts from: the coordinates are logarithms."""
MOST_RATE = 8.0
"""By how much the logarithms of two weights part in one step at most."""


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
    gain: float = 1e-5,
    steps: int = 30,
) -> list[float]:
    """Give the best weights met by at most ``steps`` exponentiated gradient steps (Kivinen and Warmuth, 1997).

    Each weight is multiplied by exp(-rate x its gradient / the largest difference of gradients) and all are
    normalised. The rate, of 8 at most, doubles where the loss falls and would go on falling, else it is halved; a step
    that does not lower the loss is taken back. It ends where the gradient promises no more than ``gain``: of what is
    left anywhere on the simplex (its mean under the weights less its least, the duality gap of Frank and Wolfe; Jaggi,
    2013), or of a step shorter than one that was too long.
    """
    best = _normal([max(weight, FLOOR) for weight in start])
    lowest, slopes, rate, is_short = loss(best), gradient(best), 0.5, False
    for step in range(steps):
        spread, mean = max(slopes) - min(slopes), _mean(slopes, best)
        if mean - min(slopes) <= gain:
            break
        way = [(mean - slope) / spread for slope in slopes]
        if is_short and -rate * _mean(slopes, best, way) <= gain:
            break
        tried = _normal([weight * math.exp(rate * direction) for weight, direction in zip(best, way, strict=True)])
        found = loss(tried)
        is_short = found >= lowest
        if found < lowest:
            best, lowest = tried, found
            if step == steps - 1:
                break
            slopes = gradient(best)
            is_short = _mean(slopes, best, way) > _mean(slopes, best) * _mean(way, best)
        rate = rate * 0.5 if is_short else min(rate * 2.0, MOST_RATE)
    return best


def _mean(one: Sequence[float], weights: Sequence[float], other: Sequence[float] | None = None) -> float:
    """Give the mean of numbers under weights that come to 1, or of their products with others."""
    others = [1.0] * len(one) if other is None else other
    return math.fsum(a * b * weight for a, b, weight in zip(one, others, weights, strict=True))


def _moved(weights: Sequence[float], index: int, step: float) -> list[float]:
    changed = list(weights)
    changed[index] = max(changed[index], FLOOR) * math.exp(step)
    return _normal(changed)


def _normal(weights: Sequence[float]) -> list[float]:
    total = math.fsum(weights)
    return [weight / total for weight in weights]
