"""Searches beside brute force, on losses whose lowest place is known."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lamoid.fusion.search.fold import pack
from lamoid.fusion.search.simplex import descend_simplex, search_simplex
from lamoid.fusion.search.soup import greedy_soup
from lamoid.fusion.search.tau import HIGH, LOW, search_tau

POINTS = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [3.0, 3.0]])
TARGET = np.array([0.35, 0.3])


def loss(weights: Sequence[float]) -> float:
    """The distance of a weighted average of points from a target."""
    assert math.fsum(weights) == pytest.approx(1.0)
    assert min(weights) >= 0.0
    return float(np.square(np.asarray(weights) @ POINTS - TARGET).sum())


def gradient(weights: Sequence[float]) -> list[float]:
    return list(2.0 * POINTS @ (np.asarray(weights) @ POINTS - TARGET))


LOSSES = [loss(row) for row in np.eye(4)]


def test_the_soup_is_what_trying_by_hand_gives() -> None:
    kept: list[int] = []
    best = math.inf
    for index in sorted(range(4), key=LOSSES.__getitem__):
        tried = [1.0 / (len(kept) + 1) if i in (*kept, index) else 0.0 for i in range(4)]
        if loss(tried) < best:
            kept, best = [*kept, index], loss(tried)
    soup = greedy_soup(LOSSES, loss)
    assert [i for i, w in enumerate(soup) if w] == sorted(kept)
    assert loss(soup) == pytest.approx(best)
    assert 3 not in kept
    assert greedy_soup([1.0, 1.0], lambda _: 1.0) == [1.0, 0.0]  # what is not better does not stay


def test_the_fold_is_no_worse_than_each_member_and_than_the_soup_of_two() -> None:
    weights = pack(LOSSES, loss)
    assert loss(weights) <= min(LOSSES)
    first, second = sorted(range(4), key=LOSSES.__getitem__)[:2]
    pair = min(
        loss([c if i == first else 1 - c if i == second else 0.0 for i in range(4)]) for c in np.linspace(0, 1, 21)
    )
    assert loss(weights) <= pair + 1e-12
    asked = []
    pack(LOSSES, lambda w: asked.append(w) or loss(w))  # type: ignore[func-returns-value]
    assert len(asked) == 1 + 3 * 20


@pytest.mark.parametrize("search", [greedy_soup, pack])
def test_no_weights_that_were_tried_are_better_than_those_that_are_given(search: Any) -> None:
    """Under a rule that trims, weights of one member alone are not that member: their loss is another one."""
    tried = []

    def trimmed(weights: Sequence[float]) -> float:
        found = loss(weights) + 5.0 * (max(weights) == 1.0)
        tried.append(found)
        return found

    found = search(LOSSES, trimmed)
    assert trimmed(found) == min(tried)
    assert max(found) < 1.0


@pytest.mark.parametrize("start", [[0.25] * 4, [0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]])
def test_searches_on_the_simplex_come_near_to_the_best_of_a_fine_grid(start: list[float]) -> None:
    grid = [np.array(p) / 20 for p in itertools.product(range(21), repeat=4) if sum(p) == 20]
    best = min(loss(point) for point in grid)
    found = search_simplex(loss, start, budget=200)
    assert loss(found) <= best + 2e-3
    assert loss(found) <= loss(start)
    assert search_simplex(loss, start, budget=200) == found
    if min(start) > 0.0:
        assert loss(descend_simplex(loss, gradient, start, steps=200)) <= best + 2e-3


@pytest.mark.parametrize("seed", range(8))
def test_descending_needs_few_tries_and_each_gradient_once(seed: int) -> None:
    drawn = np.random.default_rng(seed)
    size = int(drawn.integers(2, 5))
    rows, wanted = 0.15 * drawn.normal(size=(size + 2, size)), 0.3 * drawn.normal(size=size + 2)
    tried, asked = [], []

    def value(w: Sequence[float]) -> float:
        tried.append(tuple(w))
        return float(0.5 * np.sum((rows @ np.array(w) - wanted) ** 2))

    def slopes(w: Sequence[float]) -> list[float]:
        asked.append(tuple(w))
        return [float(slope) for slope in rows.T @ (rows @ np.array(w) - wanted)]

    found = descend_simplex(value, slopes, [1 / size] * size)
    assert len(tried) <= 31
    assert len(asked) == len(set(asked)) <= len(tried)
    grid = (np.array(p) / 40 for p in itertools.product(range(41), repeat=size) if sum(p) == 40)
    assert value(found) <= min(value(point) for point in grid) + 1e-4


def test_descending_to_a_corner_takes_a_handful_of_steps_and_leaves_one() -> None:
    tried = []

    def fall(w: Sequence[float]) -> float:
        tried.append(w)
        return 0.2 * w[0]

    assert descend_simplex(fall, lambda _: [0.2, 0.0], [1.0, 0.0])[1] > 0.999
    assert len(tried) <= 10
    tried.clear()
    assert descend_simplex(fall, lambda _: [0.2, 0.0], [0.0, 1.0])[1] > 0.999
    assert len(tried) == 1


def test_a_search_keeps_to_its_budget() -> None:
    asked = []
    search_simplex(lambda w: asked.append(w) or loss(w), [0.25] * 4, budget=17)  # type: ignore[func-returns-value]
    assert len(asked) <= 17


@pytest.mark.parametrize("best", [0.01, 0.3, 1.0, 20.0])
def test_tau_is_found_wherever_it_is(best: float) -> None:
    asked = []

    def bowl(tau: float) -> float:
        asked.append(tau)
        return (math.log(tau) - math.log(best)) ** 2

    assert search_tau(bowl, tries=24) == pytest.approx(best, rel=0.35)
    assert len(asked) <= 24
    assert search_tau(lambda tau: tau) == pytest.approx(LOW)
    assert search_tau(lambda tau: -tau) == pytest.approx(HIGH)
