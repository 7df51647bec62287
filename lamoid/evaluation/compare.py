"""Intervals and comparisons by a paired bootstrap over documents (Efron and Tibshirani, 1993; Koehn, 2004)."""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
ROWS = 16
"""Resamples that are counted and summed at once; the memory taken is 8 * ROWS bytes a document."""

Interval = tuple[float, float]


def resample_sums(values: np.ndarray, *, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """Give the sum of each row of ``values``, (rows, documents), over each draw: (rows, resamples) in float64.

    A draw takes as many documents as there are, with replacement: what counts is how often it holds each of them, so
    the sums are one matrix product. All rows see the same draws. The same seed gives the same bits, and equal rows
    have equal sums: each is summed once, since a product may add up one column in another order than its neighbour.
    """
    documents = values.shape[1]
    generator = np.random.default_rng(seed)
    different, places = np.unique(np.asarray(values, np.float64), axis=0, return_inverse=True)
    columns = np.ascontiguousarray(different.T)
    counts = np.empty((min(ROWS, resamples), documents))
    sums = np.empty((resamples, len(different)))
    for begin in range(0, resamples, ROWS):
        part = counts[: resamples - begin]
        for row in part:
            row[:] = np.bincount(generator.integers(0, documents, documents), minlength=documents)
        np.matmul(part, columns, out=sums[begin : begin + len(part)])
    return sums.T[places.reshape(-1)]


def ratio(sums: Sequence[float], sizes: Sequence[float]) -> float:
    """Give the sum of ``sums`` over the sum of ``sizes``."""
    return float(np.sum(np.asarray(sums, np.float64)) / np.sum(np.asarray(sizes, np.float64)))


def interval(draws: np.ndarray, documents: int) -> Interval | None:
    """Give the 2.5th and the 97.5th percentile; a single document tells nothing of the spread: None."""
    if documents < 2:
        return None
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)
