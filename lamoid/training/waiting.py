"""Patience with losses that do not fall."""

import math
from collections.abc import Sequence


def falls_of_patience(losses: Sequence[float], patience: int, least_gain: float) -> list[int]:
    """Give the places in ``losses`` where more than ``patience`` in a row had brought nothing new.

    A loss is new if it is lower than the lowest before it by more than ``least_gain``; after each of the places the
    waiting begins again. A loss that is no number is never new.
    """
    lowest, waited, places = math.inf, 0, []
    for place, loss in enumerate(losses):
        if loss < lowest - least_gain or (lowest == math.inf and math.isfinite(loss)):
            lowest, waited = loss, 0
            continue
        waited += 1
        if waited > patience:
            places.append(place)
            waited = 0
    return places
