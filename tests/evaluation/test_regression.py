"""Errors and correlations are numpy's."""

import numpy as np
import pytest
import torch

from lamoid.evaluation.regression import mean_squared_error, pearson


def test_figures_are_those_of_numpy() -> None:
    rng = np.random.default_rng(int(torch.randint(1 << 30, ())))
    for _ in range(10):
        wanted, given = rng.normal(size=(2, 30))
        given += wanted * rng.normal()
        assert pearson(wanted, given) == pytest.approx(np.corrcoef(wanted, given)[0, 1])
        assert mean_squared_error(wanted, given) == pytest.approx(np.square(wanted - given).mean())
    assert pearson([1.0, 1.0], [1.0, 2.0]) == 0.0
