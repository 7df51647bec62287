"""The share of right answers, and how two sets of answers to the same texts differ, with bootstrap intervals."""

import numpy as np

from lamoid.evaluation.compare import RESAMPLES, Interval, interval, resample_sums


def accuracy(right: np.ndarray, *, seed: int = 0) -> tuple[float, Interval | None]:
    """Give the share of right answers, with its 95 % interval.

    ``right`` is (runs, texts), 1 where a run, such as a training with another seed, is right about a text; texts are
    resampled, and with several runs these too, independently of each other.
    """
    right = np.atleast_2d(np.asarray(right, np.float64))
    return float(right.mean()), interval(_draws(right, seed), right.shape[1])


def accuracy_difference(ours: np.ndarray, theirs: np.ndarray, *, seed: int = 0) -> tuple[float, Interval | None]:
    """Give the accuracy of ``ours`` minus that of ``theirs``, paired by run and text: both (runs, texts)."""
    apart = np.atleast_2d(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64))
    return float(apart.mean()), interval(_draws(apart, seed), apart.shape[1])


def _draws(values: np.ndarray, seed: int) -> np.ndarray:
    """Give the mean of each resample of texts and runs."""
    runs, texts = values.shape
    sums = resample_sums(values, seed=seed) / texts
    chosen = np.random.default_rng(seed + 1).integers(0, runs, (RESAMPLES, runs))
    return sums[chosen, np.arange(RESAMPLES)[:, None]].mean(axis=1)
