"""Intervals and comparisons by a paired bootstrap over documents (Efron and Tibshirani, 1993; Koehn, 2004)."""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
GATHERED = 1 << 22

Interval = tuple[float, float]


def resample_ratios(sums: np.ndarray, sizes: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """Give sum(sums) / sum(sizes) of ``resamples`` draws of the documents, (models, resamples) in float64.

    ``sums`` and ``sizes`` are (models, documents). Every model sees the same draws, so that rows can be subtracted.
    The same seed gives the same bits. At most about ``GATHERED`` numbers are gathered at once.
    """
    models, documents = sums.shape
    generator = np.random.default_rng(seed)
    stacked = np.concatenate([sums, sizes]).astype(np.float64)
    rows = max(1, GATHERED // (2 * models * documents))
    pieces = []
    for begin in range(0, resamples, rows):
        drawn = generator.integers(0, documents, (min(rows, resamples - begin), documents))
        totals = stacked[:, drawn].sum(axis=2)
        pieces.append(totals[:models] / totals[models:])
    return np.concatenate(pieces, axis=1)


def ratio(sums: Sequence[float], sizes: Sequence[float]) -> float:
    """Give the sum of ``sums`` over the sum of ``sizes``."""
    return float(np.sum(np.asarray(sums, np.float64)) / np.sum(np.asarray(sizes, np.float64)))


def interval(draws: np.ndarray, documents: int) -> Interval | None:
    """Give the 2.5th and the 97.5th percentile; a single document tells nothing of the spread: None."""
    if documents < 2:
        return None
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)
