"""Patience with losses: where it ends, told from the losses alone."""

import pytest

from lamoid.training.stopping import Stopping
from lamoid.training.waiting import falls_of_patience

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("losses", "patience", "gain", "places"),
    [
        ([], 0, 0.0, []),
        ([3.0, 2.0, 1.0], 0, 0.0, []),
        ([3.0, 3.0, 3.0], 0, 0.0, [1, 2]),
        ([3.0, 3.0, 3.0, 2.0, 2.0, 2.0], 1, 0.0, [2, 5]),
        ([3.0, 3.1, 2.9, 3.0, 2.8], 1, 0.0, []),
        ([3.0, 2.9, 2.8, 2.7], 1, 0.15, []),  # against the lowest: 2.8 is lower than 3.0 by more, 2.9 is not
        ([3.0, 2.95, 2.9, 2.8], 1, 0.15, [2]),
        ([3.0, NAN, NAN, INF], 2, 0.0, [3]),
        ([NAN, NAN, 5.0, 4.0], 1, 0.0, [1]),
        ([5.0, 6.0, 6.0, 6.0, 6.0], 1, 0.0, [2, 4]),  # the waiting begins again, the lowest stays
    ],
)
def test_where_patience_ends(losses: list[float], patience: int, gain: float, places: list[int]) -> None:
    assert falls_of_patience(losses, patience, gain) == places


def test_a_run_ends_after_so_many_losses_that_were_not_lower() -> None:
    losses = [3.0, 2.5, 2.6, 2.4, 2.41, 2.42, 2.43, 2.0]
    validations = [(10 * (place + 1), loss) for place, loss in enumerate(losses)]
    for patience, step in ((1, 30), (2, 60), (3, 70), (4, None)):
        stopping = Stopping(patience)
        for number in range(len(validations) + 1):
            wanted = step if step is not None and validations[:number] and validations[number - 1][0] >= step else None
            assert stopping.step(validations[:number]) == wanted
    assert Stopping(3, least_gain=0.2).step(validations) == 50, "2.5 is the last that is lower by so much"
