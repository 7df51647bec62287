"""The temperature of softmax weights with the lowest loss: golden section over its logarithm."""

import math
from collections.abc import Callable

LOW, HIGH = 1e-3, 1e2
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


def search_tau(loss: Callable[[float], float], *, tries: int = 16) -> float:
    """Give the tau of LOW to HIGH with the lowest ``loss`` among ``tries`` that are looked at.

    A coarse grid, both ends among it, finds where to look: between its best place and the neighbours the golden section
    narrows the logarithm. The ends stand for the best member alone and for the uniform average.
    """
    coarse = max(3, tries // 2)
    places = [math.log(LOW) + (math.log(HIGH) - math.log(LOW)) * k / (coarse - 1) for k in range(coarse)]
    seen = {place: loss(math.exp(place)) for place in places}
    middle = min(range(coarse), key=lambda k: seen[places[k]])
    low, high = places[max(0, middle - 1)], places[min(coarse - 1, middle + 1)]
    for _ in range(max(0, tries - coarse) // 2):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        seen |= {place: loss(math.exp(place)) for place in (left, right)}
        low, high = (low, right) if seen[left] <= seen[right] else (left, high)
    return math.exp(min(seen, key=lambda place: seen[place]))
