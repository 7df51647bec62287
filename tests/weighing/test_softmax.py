"""Losses to weights: against the formula in exact arithmetic, and its laws."""

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamoid.weighing.softmax import softmax_weights

LOSSES = st.lists(st.floats(0, 50), min_size=1, max_size=8)


def test_formula() -> None:
    losses, tau = [1.5, 2.0, 3.25], 0.7
    powers = [Fraction(math.exp(-loss / tau)) for loss in losses]
    expected = [float(power / sum(powers)) for power in powers]
    assert softmax_weights(losses, tau) == pytest.approx(expected, rel=1e-14)


def test_siblings_of_a_tenth_of_a_nat_are_nearly_uniform() -> None:
    assert softmax_weights([2.0, 2.1]) == pytest.approx([0.52498, 0.47502], abs=1e-5)


@given(LOSSES, st.floats(1e-3, 1e3))
def test_weights_come_to_one_and_follow_the_losses(losses: list[float], tau: float) -> None:
    weights = softmax_weights(losses, tau)
    assert math.fsum(weights) == pytest.approx(1.0, abs=1e-12)
    order = sorted(range(len(losses)), key=lambda index: losses[index])
    assert all(weights[a] >= weights[b] for a, b in pairwise(order))


@given(st.permutations([0.3, 1.7, 1.7, 2.9, 40.0]))
def test_order_changes_no_bit(losses: list[float]) -> None:
    found = dict(zip(losses, softmax_weights(losses), strict=True))
    assert found == dict(zip([0.3, 1.7, 1.7, 2.9, 40.0], softmax_weights([0.3, 1.7, 1.7, 2.9, 40.0]), strict=True))


def test_extremes() -> None:
    assert softmax_weights([5.0]) == [1.0]
    assert softmax_weights([1e6, 1e6 + 1e5]) == [1.0, 0.0]
    assert softmax_weights([1.0, math.inf]) == [1.0, 0.0]
    assert softmax_weights([1.0, 2.0], 1e-300) == [1.0, 0.0]
    assert softmax_weights([1.0, 2.0], 1e300) == [0.5, 0.5]


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_impossible_tau(tau: float) -> None:
    with pytest.raises(ValueError, match="tau"):
        softmax_weights([1.0, 2.0], tau)


@pytest.mark.parametrize("losses", [[], [math.nan], [1.0, math.nan], [math.inf, math.inf], [-math.inf]])
def test_impossible_losses(losses: list[float]) -> None:
    with pytest.raises(ValueError, match="losses"):
        softmax_weights(losses)
