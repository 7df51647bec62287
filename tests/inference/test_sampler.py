"""Draws follow the probabilities, belong to a row alone, and refuse what is no number. Parity is in tests/reference."""

import pytest
import torch

from lamoid.errors import InputError
from lamoid.inference.request import Request, Settings
from lamoid.inference.sampler import Sampler, choose, distribution


def make(**settings: float) -> Sampler:
    return Sampler(Request((1,), Settings(**settings)))  # type: ignore[arg-type]


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, 3.0])
    settings = Settings(temperature=1.5, top_k=4, top_p=0.95)
    sampler = Sampler(Request((1,), settings))
    counts = torch.zeros(5, dtype=torch.float64)
    for _ in range(20_000):
        counts[sampler.choose(logits)] += 1
    probabilities = distribution(logits, settings).double()
    assert (counts[probabilities == 0] == 0).all()
    kept = probabilities > 0
    squares = ((counts - 20_000 * probabilities) ** 2)[kept] / (20_000 * probabilities)[kept]
    assert squares.sum() < 18.5  # chi square with 4 degrees of freedom: 0.1 %


def test_a_seed_gives_the_same_draws_and_another_seed_or_copy_others() -> None:
    logits = torch.randn(500)

    def draws(seed: int, copy: int) -> list[int]:
        sampler = Sampler(Request((1,), Settings(temperature=1.0, seed=seed), copy))
        return [sampler.choose(logits) for _ in range(20)]

    assert draws(7, 0) == draws(7, 0)
    assert len({tuple(draws(seed, copy)) for seed in (7, 8) for copy in (0, 1)}) == 4


@pytest.mark.parametrize("temperature", [1e-30, 5e-324, 1e-7])
def test_hardly_any_temperature_is_greedy(temperature: float) -> None:
    assert make(temperature=temperature).choose(torch.tensor([1.0, 1.0001, 0.5])) == 1


@pytest.mark.parametrize("temperature", [1e30, 1e308])
def test_any_heat_is_even_probabilities(temperature: float) -> None:
    probabilities = distribution(torch.tensor([5.0, -5.0, 0.0, 1.0]), Settings(temperature=temperature))
    assert torch.equal(probabilities, torch.full((4,), 0.25))


def test_of_equal_logits_the_first_is_the_likeliest() -> None:
    assert choose(torch.tensor([[1.0, 2.0, 2.0], [3.0, 2.0, 3.0]]), [make(), make()]) == [1, 0]


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf])
    sampler = make(temperature=1.0)
    assert {sampler.choose(logits) for _ in range(200)} == {1, 3}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_are_refused(temperature: float, bad: float) -> None:
    logits = torch.tensor([[0.0, bad, 1.0]])
    with pytest.raises(InputError, match="not finite"):
        choose(logits, [make(temperature=temperature)])


def test_the_penalty_covers_the_prompt_and_what_was_written() -> None:
    sampler = Sampler(Request((0,), Settings(repetition_penalty=2.0)))
    logits = torch.tensor([3.0, 2.0, 1.8, -5.0])
    assert [sampler.choose(logits) for _ in range(3)] == [1, 2, 0]
