"""The soft tie's penalty beside its formula and autograd, and the strength that the tasks' losses give."""

import math

import pytest
import torch

from lamoid.assembly.attention import AttentionSpec
from lamoid.assembly.block import BlockSpec
from lamoid.assembly.feedforward import GatedSpec
from lamoid.assembly.group import GroupSpec, ModelGroup, initialise_group
from lamoid.assembly.heads import NextTokenSpec
from lamoid.assembly.sharing import ShareSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.errors import InputError
from lamoid.training.soft_tie import SoftTie, SoftTieSpec


def make_group(*names: str, rules: tuple[ShareSpec, ...] = ()) -> ModelGroup:
    block = BlockSpec(mixer=AttentionSpec(heads=2, head_width=8), feedforward=GatedSpec(24))
    model = ModelSpec(16, 13, 12, blocks=(block, block), heads={"next_token": NextTokenSpec()})
    group = ModelGroup(GroupSpec(dict.fromkeys(names, model), rules)).double()
    initialise_group(group, 1)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in group.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return group


def test_the_penalty_and_its_gradient_are_those_of_the_formula() -> None:
    group, losses = make_group("a", "b"), {"a": 0.4, "b": 1.1}
    tie = SoftTie(SoftTieSpec(("*.blocks",), strength=0.3, tau=0.5), group, losses)
    weights = [math.exp(-loss / 0.5) for loss in losses.values()]
    strength = 0.3 * (1 - abs(weights[0] - weights[1]) / sum(weights))
    penalty = tie.penalty(group)
    penalty.backward()
    ours, theirs = (dict(group.member(name).named_parameters()) for name in "ab")
    squares = math.fsum((ours[name] - theirs[name]).square().sum().item() for name in ours if "blocks" in name)
    assert penalty.item() == pytest.approx(strength / 2 * squares, rel=1e-12)
    for name, parameter in ours.items():
        if "blocks" in name:
            wanted = strength * (parameter - theirs[name]).detach()
            torch.testing.assert_close(parameter.grad, wanted, rtol=1e-12, atol=1e-15)
            torch.testing.assert_close(theirs[name].grad, -wanted, rtol=1e-12, atol=1e-15)
        else:
            assert parameter.grad is None
            assert theirs[name].grad is None


def test_the_strength_comes_to_its_most_as_losses_come_together() -> None:
    group, losses = make_group("a", "b"), {"a": 1.0, "b": 1.0}
    tie = SoftTie(SoftTieSpec(("*.norm",), strength=0.7), group, losses)
    found = []
    for gap in (8.0, 1.0, 0.1, 0.001, 0.0):
        losses["b"] = 1.0 + gap
        found.append(tie.strengths()["a", "b"])
    assert found == sorted(found)
    assert found[0] < 0.001
    assert found[-1] == 0.7
    assert found[-2] == pytest.approx(0.7 * (1 - math.tanh(0.0005)), rel=1e-9)  # |w_a - w_b| = tanh(gap / 2 tau)


def test_until_every_task_has_a_loss_they_count_as_equal() -> None:
    group, losses = make_group("a", "b"), {"a": 3.0}
    assert SoftTie(SoftTieSpec(("*.norm",), strength=0.7), group, losses).strengths()["a", "b"] == 0.7


def test_every_pair_counts_once_and_modules_of_one_task_have_the_full_strength() -> None:
    group, losses = make_group("a", "b", "c"), {"a": 0.1, "b": 0.9, "c": 0.5}
    spec = SoftTieSpec(("*.blocks.*.mixer.query",), strength=1.0)
    tie = SoftTie(spec, group, losses)
    strengths = tie.strengths()
    places = [(name, index) for name in "abc" for index in (0, 1)]
    tensors = [group.get_parameter(f"{name}.blocks.{index}.mixer.query.weight") for name, index in places]
    wanted = 0.0
    for i, (one, _) in enumerate(places):
        for j, (other, _) in enumerate(places[:i]):
            strength = 1.0 if one == other else strengths[one, other]
            wanted += strength / 2 * (tensors[i] - tensors[j]).square().sum().item()
    assert tie.penalty(group).item() == pytest.approx(wanted, rel=1e-12)


def test_what_is_shared_adds_nothing() -> None:
    group = make_group("a", "b", rules=(ShareSpec(("*.blocks",)),))
    assert SoftTie(SoftTieSpec(("*.blocks",)), group, {}).penalty(group).item() == 0.0


@pytest.mark.parametrize(
    ("paths", "problem"),
    [
        (("*.block",), "soft.paths: '\\*.block' matches no module"),
        (("a.blocks",), "alone"),
        (("a.blocks.0", "b.norm"), "is not there"),
        (("a", "a.norm"), "circle"),
    ],
)
def test_paths_that_cannot_be_tied_are_refused(paths: tuple[str, ...], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        SoftTie(SoftTieSpec(paths), make_group("a", "b"), {})


@pytest.mark.parametrize("field", ["strength", "tau"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_numbers_without_sense_are_refused(field: str, value: float) -> None:
    with pytest.raises(InputError, match=f"soft.{field}"):
        SoftTieSpec(("*.norm",), **{field: value})


def test_pairs_without_number_are_refused_before_they_are_made() -> None:
    group = make_group(*(f"m{number}" for number in range(40)))
    with pytest.raises(InputError, match="160 modules"):
        SoftTie(SoftTieSpec(("*.blocks.*.norm_mixer", "*.blocks.*.norm_feedforward")), group, {})
