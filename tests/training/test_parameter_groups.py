"""Groups of parameters by rule."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from lamoid.assembly.block import BlockSpec
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.surgery import replace
from lamoid.errors import InputError
from lamoid.training.adafactor import AdafactorSpec
from lamoid.training.adamw import AdamWSpec
from lamoid.training.muon import MuonSpec
from lamoid.training.optimizer import Optimizer
from lamoid.training.optimizers import OptimizerSpec
from lamoid.training.parameter_groups import GroupSpec, trained_parameters
from lamoid.training.sgd import SGDSpec


def make_model(layers: int = 4) -> LanguageModel:
    model = LanguageModel(Shape(family="gpt2", width=16, layers=layers, heads=2, context=8).spec(11))
    initialise(model, 3)
    return model


def settings(optimizer: Optimizer) -> dict[str, tuple[float, float]]:
    """Give each parameter's peak learning rate and decay."""
    return {
        path: (group["peak"], group["weight_decay"])
        for part in optimizer.parts
        for group in part.param_groups
        for path in group["param_names"]
    }


def is_in(path: str, place: str) -> bool:
    return path == place or path.startswith(f"{place}.")


@pytest.mark.parametrize(
    "kind",
    [
        lambda groups: AdamWSpec(learning_rate=0.01, weight_decay=0.1, groups=groups),
        lambda groups: SGDSpec(learning_rate=0.01, weight_decay=0.1, groups=groups),
        lambda groups: AdafactorSpec(learning_rate=0.01, weight_decay=0.1, groups=groups),
        lambda groups: MuonSpec(
            learning_rate=0.01, weight_decay=0.1, groups=groups, rest=AdamWSpec(learning_rate=0.01, weight_decay=0.1)
        ),
    ],
)
def test_the_first_group_that_names_a_parameter_has_it(kind: Callable) -> None:
    groups = (
        GroupSpec(("blocks.1.mixer.query", "embedding"), learning_rate=0.5),
        GroupSpec(("blocks.:2",), factor=0.1, weight_decay=0.3),
        GroupSpec(("blocks.*.norm_mixer", "norm.weight", "blocks.-1:"), weight_decay=0.0),
    )
    found = settings(kind(groups).build(trained_parameters(make_model())))
    assert found.keys() == {path for path, _ in make_model().named_parameters()}
    for path, parameter in make_model().named_parameters():
        decay = 0.1 if parameter.ndim > 1 else 0.0
        if is_in(path, "blocks.1.mixer.query") or is_in(path, "embedding"):
            wanted = (0.5, decay)
        elif is_in(path, "blocks.0") or is_in(path, "blocks.1"):
            wanted = (0.01 * 0.1, 0.3)
        elif is_in(path, "blocks.3") or path == "norm.weight" or ".norm_mixer." in path:
            wanted = (0.01, 0.0)
        else:
            wanted = (0.01, decay)
        assert found[path] == pytest.approx(wanted), path


def test_a_group_with_a_rate_of_its_own_moves_by_it() -> None:
    model, twin = make_model(), make_model()
    slow = AdamWSpec(groups=(GroupSpec(("blocks.0",), factor=0.25),)).build(trained_parameters(model))
    plain = AdamWSpec().build(trained_parameters(twin))
    before = {path: value.clone() for path, value in model.state_dict().items()}
    for parameter, other in zip(model.parameters(), twin.parameters(), strict=True):
        parameter.grad = torch.randn_like(parameter)
        other.grad = parameter.grad.clone()
    for optimizer in (slow, plain):
        optimizer.set_share(0.5)
        optimizer.step()
    for path, value in twin.state_dict().items():
        step = (value - before[path]) * (0.25 if path.startswith("blocks.0.") else 1.0)
        torch.testing.assert_close(model.state_dict()[path] - before[path], step, rtol=1e-3, atol=1e-6, msg=path)


@pytest.mark.parametrize("path", ["blocks.9", "blocks.0.mixer.quer", "heads.nothing", "blocks.0.norm.weight.x", "7:9"])
def test_a_path_that_matches_nothing_is_named(path: str) -> None:
    spec = AdamWSpec(groups=(GroupSpec(("norm",)), GroupSpec(("embedding", path), factor=0.1)))
    with pytest.raises(InputError, match=rf"optimizer\.groups\[1\]\.paths.*{path}"):
        spec.build(trained_parameters(make_model()))


def test_a_group_that_others_took_before_is_named() -> None:
    spec = AdamWSpec(groups=(GroupSpec(("blocks",)), GroupSpec(("blocks.0",))))
    with pytest.raises(InputError, match=r"optimizer\.groups\[1\]"):
        spec.build(trained_parameters(make_model()))


def test_what_is_frozen_is_named_too() -> None:
    model = make_model()
    model.blocks[0].requires_grad_(False)
    with pytest.raises(InputError, match=r"'blocks\.0' matches no trained parameter"):
        AdamWSpec(groups=(GroupSpec(("blocks.0",)),)).build(trained_parameters(model))


@pytest.mark.parametrize(
    "bad",
    [
        {"paths": ()},
        {"paths": ("",)},
        {"paths": ("a..b",)},
        {"paths": ("(a+)+$",)},
        {"paths": ("../x",)},
        {"paths": ("a" * 2000,)},
        {"paths": ("a",), "factor": 0.0},
        {"paths": ("a",), "factor": float("nan")},
        {"paths": ("a",), "learning_rate": -1.0},
        {"paths": ("a",), "learning_rate": 0.1, "factor": 2.0},
        {"paths": ("a",), "weight_decay": -0.1},
    ],
)
def test_groups_that_say_nonsense_are_refused(bad: dict) -> None:
    with pytest.raises(InputError, match="groups"):
        GroupSpec(**bad)


@pytest.mark.parametrize("spec", [AdamWSpec, MuonSpec, SGDSpec, AdafactorSpec])
def test_surgery_keeps_groups_and_leaves_out_those_that_are_gone(spec: type[OptimizerSpec]) -> None:
    model = make_model()
    groups = (GroupSpec(("blocks.0.mixer.query",), factor=0.5), GroupSpec(("blocks.1.mixer.query.bias",), factor=0.1))
    optimizer = spec(groups=groups).build(trained_parameters(model))
    block = Shape(family="llama", width=16, layers=4, heads=2, context=8).spec(11).blocks[1]
    assert isinstance(block, BlockSpec), "its attention has no biases"
    change = replace(model, "blocks.1.mixer", block.mixer)
    optimizer.apply(change, model)
    found = settings(optimizer)
    assert found.keys() == {path for path, _ in model.named_parameters()}
    assert "blocks.1.mixer.query.bias" not in found
    rate = settings(spec().build(trained_parameters(model)))
    assert found["blocks.0.mixer.query.weight"][0] == pytest.approx(0.5 * rate["blocks.0.mixer.query.weight"][0])


def test_groups_of_a_module_without_blocks() -> None:
    layer = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    optimizer = SGDSpec(groups=(GroupSpec(("1:",), factor=2.0),)).build(trained_parameters(layer))
    assert {path: peak for path, (peak, _) in settings(optimizer).items()} == {
        "0.weight": 0.1,
        "0.bias": 0.1,
        "1.weight": 0.2,
        "1.bias": 0.2,
    }
