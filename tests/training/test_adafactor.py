"""Adafactor beside transformers' and torch's."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from transformers.optimization import Adafactor

from lamoid.training.adafactor import AdafactorSpec

SHAPES = {"matrix": (12, 20), "tall": (30, 4), "vector": (9,), "stack": (3, 6, 5)}


def make_named() -> list[tuple[str, nn.Parameter]]:
    return [(name, nn.Parameter(torch.randn(shape))) for name, shape in SHAPES.items()]


def twins_of(named: list[tuple[str, nn.Parameter]]) -> list[nn.Parameter]:
    return [nn.Parameter(parameter.detach().clone()) for _, parameter in named]


def gradients(steps: int) -> Iterator[list[Tensor]]:
    """Give gradients that differ in size between rows, columns and steps."""
    for number in range(steps):
        yield [torch.randn(shape) * torch.rand(shape[-1]) * (1.0 + number) for shape in SHAPES.values()]


def give(parameters: list[nn.Parameter], listed: list[Tensor]) -> None:
    for parameter, gradient in zip(parameters, listed, strict=True):
        parameter.grad = gradient.clone()


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_twenty_steps_are_those_of_transformers(relative: bool, decay: float) -> None:
    named = make_named()
    named = [pair for pair in named if not decay or pair[1].ndim > 1]
    twins = twins_of(named)
    spec = AdafactorSpec(learning_rate=0.03, relative=relative, weight_decay=decay)
    ours = spec.build(named)
    peer = Adafactor(
        twins, lr=0.03, eps=(1e-30, 1e-3), scale_parameter=relative, relative_step=False, weight_decay=decay
    )
    for listed in gradients(20):
        chosen = [gradient for gradient in listed if not decay or gradient.ndim > 1]
        give([parameter for _, parameter in named], chosen)
        give(twins, chosen)
        ours.step()
        peer.step()
    for (name, mine), theirs in zip(named, twins, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5, msg=name)


def test_twenty_steps_are_those_of_torch() -> None:
    named = make_named()
    twins = twins_of(named)
    ours = AdafactorSpec(learning_rate=0.03).build(named)
    peer = torch.optim.Adafactor(twins, lr=0.03)  # its own schedule, 1 / sqrt(step), is above the rate for 1000 steps
    for listed in gradients(20):
        give([parameter for _, parameter in named], listed)
        give(twins, listed)
        ours.step()
        peer.step()
    for (name, mine), theirs in zip(named, twins, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5, msg=name)


def test_the_state_is_a_row_and_a_column() -> None:
    named = make_named()
    optimizer = AdafactorSpec().build(named)
    give([parameter for _, parameter in named], next(gradients(1)))
    optimizer.step()
    numbers = {name: value.numel() for name, value in optimizer.tensors().items() if not name.startswith("step/")}
    assert numbers == {
        "rows/matrix": 12,
        "columns/matrix": 20,
        "rows/tall": 30,
        "columns/tall": 4,
        "moment/vector": 9,
        "rows/stack": 18,
        "columns/stack": 15,
    }


def test_a_tensor_of_zeros_moves_by_the_least_rate_and_no_gradient_moves_nothing() -> None:
    named = [("a", nn.Parameter(torch.zeros(4, 6))), ("b", nn.Parameter(torch.ones(4, 6)))]
    optimizer = AdafactorSpec(learning_rate=0.5, least=0.01).build(named)
    give([parameter for _, parameter in named], [torch.ones(4, 6), torch.zeros(4, 6)])
    optimizer.step()
    torch.testing.assert_close(named[0][1].detach(), torch.full((4, 6), -0.005))
    assert torch.equal(named[1][1].detach(), torch.ones(4, 6))
