"""Fisher information and inputs' products beside what torch gives example by example."""

import pytest
import torch
from torch import nn

from lamoid.errors import InputError
from lamoid.fusion.statistics.fisher import fisher_information
from lamoid.fusion.statistics.gram import gathering_grams


class Net(nn.Module):
    """Two maps that read the same, and one behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.out = nn.Linear(5, 4), nn.Linear(5, 4, bias=False), nn.Linear(4, 1)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.left(rows)) * self.right(rows))


def test_fisher_is_the_mean_of_squared_gradients() -> None:
    net, rows = Net(), torch.randn(7, 5)
    found = fisher_information(net, (net(row).square().sum() for row in rows))
    parameters = dict(net.named_parameters())
    expected = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for row in rows:
        loss = torch.func.functional_call(net, parameters, (row,)).square().sum()
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        for name, gradient in zip(parameters, gradients, strict=True):
            expected[name] += 0.0 if gradient is None else gradient.square() / len(rows)
    for name, wanted in expected.items():
        torch.testing.assert_close(found[name], wanted)
    assert found["unused"].eq(0.0).all()
    assert all(p.grad is None for p in parameters.values())


@pytest.mark.parametrize("bad", ["none", "infinite"])
def test_fisher_needs_examples_that_are_finite(bad: str) -> None:
    net = Net()
    losses = [] if bad == "none" else [net(torch.full((5,), float("inf"))).sum()]
    with pytest.raises(InputError, match=r"none|not finite"):
        fisher_information(net, iter(losses))


def test_products_are_those_of_all_rows_read() -> None:
    net, batches = Net(), [torch.randn(2, 3, 5), torch.randn(4, 5)]
    with gathering_grams(net) as found:
        for batch in batches:
            net(batch)
    rows = torch.cat([batch.reshape(-1, 5) for batch in batches])
    expected = rows.T @ rows / len(rows)
    torch.testing.assert_close(found["left.weight"], expected)
    torch.testing.assert_close(found["right.weight"], expected)
    inner = torch.tanh(net.left(rows)) * net.right(rows)
    torch.testing.assert_close(found["out.weight"], (inner.T @ inner / len(rows)).detach())
    net(batches[0])
    torch.testing.assert_close(found["left.weight"], expected)  # nothing is gathered behind the block
