"""How near numbers come to those wanted: mean squared error, and Pearson's correlation."""

import numpy as np
from numpy.typing import ArrayLike


def mean_squared_error(wanted: ArrayLike, given: ArrayLike) -> float:
    """Give the mean of (wanted - given)^2 over all numbers."""
    return float(np.mean((np.asarray(wanted, np.float64) - np.asarray(given, np.float64)) ** 2))


def pearson(wanted: ArrayLike, given: ArrayLike) -> float:
    """Give Pearson's correlation of two rows of numbers; 0 where either does not vary."""
    ours, theirs = (np.asarray(side, np.float64).ravel() for side in (wanted, given))
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    scale = float(np.sqrt((ours @ ours) * (theirs @ theirs)))
    return float(ours @ theirs) / scale if scale else 0.0
