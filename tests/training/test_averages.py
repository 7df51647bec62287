"""Averages of parameters: by hand, over a resume, and over surgery."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.surgery_moves import insert, widen
from lamoid.assembly.surgery_sharing import untie
from lamoid.errors import InputError
from lamoid.training.averages import Average, AverageSpec, EmaSpec, LastSpec, exchanged
from lamoid.training.optimizers import AdamWSpec
from lamoid.training.parameter_groups import trained_parameters
from lamoid.training.state import FollowsChange, TrainingState


def make_state() -> TrainingState:
    model = LanguageModel(Shape(family="llama", width=16, layers=2, heads=2, context=8).spec(11))
    initialise(model, 3)
    return TrainingState(model, AdamWSpec().build(trained_parameters(model)), steps=100)


def advance(state: TrainingState, average: Average, steps: int) -> list[dict[str, Tensor]]:
    """Make steps that put drawn numbers into the model, each measured; give the parameters after each."""
    seen = []
    for _ in range(steps):
        state.step += 1
        generator = torch.Generator().manual_seed(state.step)
        with torch.no_grad():
            for parameter in state.model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        state.validations.append((state.step, 3.0 + math.sin(state.step)))
        average(state)
        seen.append({name: value.detach().clone() for name, value in trained_parameters(state.model)})
    return seen


def by_hand(seen: list[dict[str, Tensor]], weights: list[float]) -> dict[str, Tensor]:
    total = sum(weights)
    return {
        name: sum((w / total * part[name].double() for w, part in zip(weights, seen, strict=True)), torch.zeros(()))
        for name in seen[0]
    }


def assert_close(values: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert values.keys() == wanted.keys()
    for name, value in values.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), wanted[name], rtol=1e-5, atol=1e-6, msg=name)


def test_ema_is_its_closed_form() -> None:
    state = make_state()
    average = EmaSpec(decay=0.8, every=2, start=3).begin()
    seen = advance(state, average, 11)
    chosen = [seen[step - 1] for step in (4, 6, 8, 10)]
    assert average.count == 4
    assert_close(average.values(), by_hand(chosen, [0.8**3, 0.8**2, 0.8, 1.0]))


def test_the_last_are_summed_as_by_hand() -> None:
    state = make_state()
    average = LastSpec(every=2, keep=3).begin()
    seen = advance(state, average, 11)
    chosen = [seen[step - 1] for step in (6, 8, 10)]
    assert average.weights() == pytest.approx(dict.fromkeys((6, 8, 10), 1 / 3))
    assert_close(average.values(), by_hand(chosen, [1.0, 1.0, 1.0]))


@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_measured_losses_are_turned_into_weights(tau: float) -> None:
    state = make_state()
    average = LastSpec(every=1, keep=4, weights="losses", tau=tau).begin()
    seen = advance(state, average, 6)
    weights = [math.exp(-(3.0 + math.sin(step)) / tau) for step in (3, 4, 5, 6)]
    found = average.weights()
    assert found == pytest.approx({step: w / sum(weights) for step, w in zip((3, 4, 5, 6), weights, strict=True)})
    assert_close(average.values(), by_hand(seen[2:], weights))


def test_a_model_that_was_not_measured_cannot_be_weighed_by_its_loss() -> None:
    state = make_state()
    state.step = 100
    with pytest.raises(InputError, match=r"average\.weights"):
        LastSpec(weights="losses").begin()(state)
    state.validations = [(100, math.inf)]
    with pytest.raises(InputError, match=r'its loss, which is inf\. Say weights = "equal"'):
        LastSpec(weights="losses").begin()(state)


SPECS: list[AverageSpec] = [EmaSpec(decay=0.7), LastSpec(every=2, keep=3), LastSpec(every=1, keep=2, weights="losses")]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("until", [0, 1, 5])
def test_going_on_changes_no_bit(spec: AverageSpec, until: int) -> None:
    whole, parted = make_state(), make_state()
    one, first, second = spec.begin(), spec.begin(), spec.begin()
    advance(whole, one, 9)
    advance(parted, first, until)
    saved = {name: value.clone() for name, value in first.tensors().items()}
    advance(parted, first, 2)  # what came after the checkpoint is lost
    parted.step, parted.validations = until, parted.validations[:until]
    second.load(saved)
    advance(parted, second, 9 - until)
    assert (one.count, one.weights()) == (second.count, second.weights())
    assert all(torch.equal(value, second.values()[name]) for name, value in one.values().items())
    tensors = second.tensors()
    assert tensors.keys() == one.tensors().keys()
    assert all(torch.equal(value, tensors[name]) for name, value in one.tensors().items())


@pytest.mark.parametrize("spec", SPECS)
def test_a_checkpoint_without_it_is_refused(spec: AverageSpec) -> None:
    with pytest.raises(InputError, match="average"):
        spec.begin().load({})


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(
    "move",
    [
        lambda model: insert(model, "blocks.1"),
        lambda model: widen(model, "blocks.*.feedforward", 80),
        lambda model: untie(model, "heads.next_token"),
    ],
)
def test_it_follows_surgery(spec: AverageSpec, move: Callable) -> None:
    state, average = make_state(), spec.begin()
    advance(state, average, 4)
    before = average.values()
    change = move(state.model)
    assert isinstance(average, FollowsChange)
    average.apply(change, state.model)
    after = average.values()
    parameters = dict(trained_parameters(state.model))
    assert after.keys() == parameters.keys()
    for old, new in change.kept.items():
        assert torch.equal(after[new], before[old]), new
    for new, old in change.copied.items():
        assert torch.equal(after[new], before[old]), new
    for name in set(change.added) - change.copied.keys():
        assert torch.equal(after[name], parameters[name].detach()), name
    advance(state, average, 1)
    assert {name: value.shape for name, value in average.values().items()} == {
        name: value.shape for name, value in parameters.items()
    }


def test_what_is_frozen_is_not_kept() -> None:
    state = make_state()
    state.model.blocks[0].requires_grad_(False)
    average = EmaSpec().begin()
    advance(state, average, 1)
    assert not any(name.startswith("blocks.0.") for name in average.values())


def test_numbers_are_exchanged_for_a_while_and_come_back_even_from_an_error() -> None:
    state = make_state()
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    others = {name: torch.full_like(value, 2.0) for name, value in trained_parameters(state.model)}
    seen = []

    def fail() -> None:
        with exchanged(state.model, others):
            seen.extend(bool((value == 2.0).all()) for _, value in trained_parameters(state.model))
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        fail()
    assert seen
    assert all(seen)
    assert all(torch.equal(value, before[name]) for name, value in state.model.state_dict().items())


@pytest.mark.parametrize(
    ("spec", "bad"),
    [
        (EmaSpec, {"decay": 1.0}),
        (EmaSpec, {"decay": -0.1}),
        (EmaSpec, {"every": 0}),
        (EmaSpec, {"start": -1}),
        (LastSpec, {"keep": 0}),
        (LastSpec, {"keep": 10**6}),
        (LastSpec, {"tau": 0.0}),
        (LastSpec, {"every": 0}),
    ],
)
def test_settings_that_average_nothing_are_refused(spec: type, bad: dict) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        spec(**bad)
