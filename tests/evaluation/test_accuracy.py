"""Accuracies and their differences: intervals beside the normal law's, and pairing that takes the texts' share away."""

import numpy as np
import pytest

from lamoid.evaluation.accuracy import accuracy, accuracy_difference


def test_an_interval_is_about_that_of_the_binomial_law() -> None:
    right = np.random.default_rng(1).random(2000) < 0.7
    share, interval = accuracy(right)
    assert share == right.mean()
    assert interval is not None
    wide = 1.96 * (share * (1 - share) / 2000) ** 0.5
    assert interval == pytest.approx((share - wide, share + wide), abs=0.1 * wide)


def test_a_paired_difference_is_told_where_single_intervals_overlap() -> None:
    generator = np.random.default_rng(2)
    theirs = generator.random((3, 1000)) < 0.7
    ours = theirs | (generator.random((3, 1000)) < 0.05)
    (_, ours_interval), (_, theirs_interval) = accuracy(ours), accuracy(theirs)
    difference, interval = accuracy_difference(ours, theirs)
    assert ours_interval is not None
    assert theirs_interval is not None
    assert interval is not None
    assert ours_interval[0] < theirs_interval[1]
    assert 0 < interval[0] < difference < interval[1]
    assert difference == pytest.approx(ours.mean() - theirs.mean())


def test_runs_that_differ_widen_the_interval() -> None:
    even = np.tile(np.arange(100) % 2, (3, 1))
    uneven = np.stack([np.zeros(100), np.arange(100) % 2, np.ones(100)])
    widths = []
    for right in (even, uneven):
        share, interval = accuracy(right)
        assert share == 0.5
        assert interval is not None
        widths.append(interval[1] - interval[0])
    assert widths[1] > 2 * widths[0]
    assert accuracy_difference(even, even) == (0.0, (0.0, 0.0))
    assert accuracy(np.ones(1)) == (1.0, None)
