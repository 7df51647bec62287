"""SGD with momentum, by its formula."""

import pytest
import torch
from torch import nn

from lamoid.training.adamw import AdamWSpec
from lamoid.training.sgd import SGDSpec


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_twenty_steps_are_those_of_the_formula(momentum: float, nesterov: bool) -> None:
    parameter = nn.Parameter(torch.randn(6, 4, dtype=torch.float64))
    x, v = parameter.detach().clone(), torch.zeros(6, 4, dtype=torch.float64)
    optimizer = SGDSpec(learning_rate=0.1, momentum=momentum, nesterov=nesterov, weight_decay=0.05).build(
        [("blocks.0.weight", parameter)]
    )
    for number in range(20):
        parameter.grad = torch.randn_like(x)
        g = parameter.grad + 0.05 * x
        v = momentum * v + g
        share = 1.0 / (1 + number)
        x = x - 0.1 * share * (g + momentum * v if nesterov else v)
        optimizer.set_share(share)
        optimizer.step()
    torch.testing.assert_close(parameter.detach(), x)


def test_adamw_is_its_formula() -> None:
    parameter = nn.Parameter(torch.randn(6, 4))
    x = parameter.detach().double()
    m, v = torch.zeros_like(x), torch.zeros_like(x)
    optimizer = AdamWSpec(learning_rate=0.01, betas=(0.8, 0.9), weight_decay=0.2).build(
        [("blocks.0.weight", parameter)]
    )
    for number in range(1, 21):
        gradient = torch.randn(6, 4)
        parameter.grad = gradient.clone()
        g = gradient.double()
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g.square()
        x = x * (1 - 0.01 * 0.2) - 0.01 * (m / (1 - 0.8**number)) / ((v / (1 - 0.9**number)).sqrt() + 1e-8)
        optimizer.step()
    torch.testing.assert_close(parameter.detach().double(), x, rtol=1e-4, atol=1e-5)
