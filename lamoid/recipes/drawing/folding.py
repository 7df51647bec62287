"""Finds what repeats in a row of things: one thing several times, or a group of several."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

LONGEST = 12
"""Groups of more are not looked for: no known family has a longer rhythm."""


class Run(NamedTuple):
    """``period`` things from ``start`` on, ``times`` over."""

    start: int
    period: int
    times: int


def runs(row: Sequence[Hashable]) -> list[Run]:
    """Cut a row into runs: at each place the group that covers most, the shorter one if two cover as much."""
    found: list[Run] = []
    start = 0
    while start < len(row):
        best = Run(start, 1, 1)
        for period in range(1, min(LONGEST, (len(row) - start) // 2) + 1):
            run = Run(start, period, _times(row, start, period))
            if run.times > 1 and run.period * run.times > best.period * best.times:
                best = run
        found.append(best)
        start += best.period * best.times
    return found


def _times(row: Sequence[Hashable], start: int, period: int) -> int:
    """Count how often the group at ``start`` stands in a row."""
    first, times = row[start : start + period], 1
    while row[start + times * period : start + (times + 1) * period] == first:
        times += 1
    return times
