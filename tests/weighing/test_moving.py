"""Moving averages beside their closed form."""

import torch

from lamoid.weighing.moving import decayed_share, move_averages


def test_an_average_is_the_sum_that_the_decay_says() -> None:
    values = torch.randn(30, 4, dtype=torch.float64)
    for decay in (0.0, 0.5, 0.9, 0.999):
        averages = [torch.full((4,), 7.0, dtype=torch.float64)]
        for count, value in enumerate(values, 1):
            move_averages(averages, [value], decayed_share(decay, count))
            weights = torch.tensor([decay ** (count - 1 - place) for place in range(count)], dtype=torch.float64)
            torch.testing.assert_close(averages[0], weights @ values[:count] / weights.sum())


def test_the_first_value_is_taken_as_it_is_and_equal_ones_stay() -> None:
    value = torch.randn(5)
    averages = [torch.randn(5)]
    for count in range(1, 10):
        move_averages(averages, [value], decayed_share(0.99, count))
        assert torch.equal(averages[0], value)
