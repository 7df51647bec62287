"""Optimisers: which parameter falls under which rule, and states that come back bit for bit."""

import copy

import pytest
import torch

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.errors import InputError
from lamoid.training.optimizers import AdafactorSpec, AdamWSpec, MuonSpec, OptimizerSpec, SGDSpec
from lamoid.training.parameter_groups import group_of, trained_parameters

SPECS = [
    AdamWSpec(learning_rate=0.01),
    MuonSpec(learning_rate=0.02),
    MuonSpec(scale="adamw", nesterov=False, rest=AdamWSpec(learning_rate=0.003)),
    SGDSpec(learning_rate=0.01, weight_decay=0.1),
    SGDSpec(learning_rate=0.01, momentum=0.0, weight_decay=0.1),
    SGDSpec(learning_rate=0.01, nesterov=True, weight_decay=0.1),
    AdafactorSpec(weight_decay=0.1),
    AdafactorSpec(relative=False, weight_decay=0.1),
]


def make_model(family: str = "llama") -> LanguageModel:
    model = LanguageModel(Shape(family=family, width=16, layers=2, heads=2, context=8).spec(11))  # type: ignore[arg-type]
    initialise(model, 3)
    return model


def give_gradients(model: LanguageModel, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def test_groups_by_path() -> None:
    groups: dict[str, set[str]] = {}
    for path, parameter in make_model("gpt2").named_parameters():
        groups.setdefault(group_of(path, parameter), set()).add(path)
    assert groups["tables"] == {"embedding.tokens.weight", "embedding.positions.weight"}
    assert all(path.startswith("blocks.") and path.endswith(".weight") for path in groups["block_matrices"])
    assert {"norm.weight", "norm.bias", "blocks.0.mixer.query.bias"} <= groups["vectors"]


@pytest.mark.parametrize("spec", SPECS)
def test_every_parameter_is_changed_once(spec: OptimizerSpec) -> None:
    model = make_model("gpt2")
    optimizer = spec.build(trained_parameters(model))
    assert sorted(map(id, optimizer.parameters)) == sorted(map(id, model.parameters()))
    before = copy.deepcopy(model.state_dict())
    give_gradients(model, 1)
    optimizer.step()
    assert all(not torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("spec", SPECS)
def test_decay_shrinks_matrices_only(spec: OptimizerSpec) -> None:
    model = make_model()
    before = copy.deepcopy(model.state_dict())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    spec.build(trained_parameters(model)).step()
    for name, value in model.state_dict().items():
        ratio = (value.norm() / before[name].norm()).item()
        assert torch.equal(value, before[name]) if value.ndim == 1 else 0.99 < ratio < 1.0, name


def test_muon_steps_by_an_orthogonal_matrix_scaled_by_shape() -> None:
    model = make_model()
    optimizer = MuonSpec(learning_rate=0.02, weight_decay=0.0).build(trained_parameters(model))
    name, parameter = next((n, p) for n, p in model.named_parameters() if n == "blocks.0.mixer.query.weight")
    before = parameter.detach().clone()
    give_gradients(model, 1)
    optimizer.step()
    singular = torch.linalg.svdvals((before - parameter.detach()) / 0.02)
    assert 0.6 < singular.min() < singular.max() < 1.3, name  # five Newton-Schulz steps end near 1, not at it


@pytest.mark.parametrize("spec", SPECS)
def test_a_saved_state_goes_on_bit_for_bit(spec: OptimizerSpec) -> None:
    model = make_model()
    optimizer = spec.build(trained_parameters(model))
    for seed in range(3):
        give_gradients(model, seed)
        optimizer.set_share(0.5)
        optimizer.step()
    twin = make_model()
    twin.load_state_dict(model.state_dict())
    other = spec.build(trained_parameters(twin))
    other.load({name: value.clone() for name, value in optimizer.tensors().items()})
    for seed in range(3, 6):
        for one, its in ((model, optimizer), (twin, other)):
            give_gradients(one, seed)
            its.set_share(0.25)
            its.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert all(torch.equal(value, other.tensors()[name]) for name, value in optimizer.tensors().items())


def test_a_state_of_another_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"blocks\.9"):
        AdamWSpec().build(trained_parameters(make_model())).load({"exp_avg/blocks.9.x": torch.zeros(1)})


@pytest.mark.parametrize(
    ("spec", "bad"),
    [
        (AdamWSpec, {"learning_rate": 0.0}),
        (AdamWSpec, {"learning_rate": -1.0}),
        (AdamWSpec, {"learning_rate": float("nan")}),
        (AdamWSpec, {"learning_rate": float("inf")}),
        (AdamWSpec, {"epsilon": 0.0}),
        (AdamWSpec, {"betas": (0.9, 1.0)}),
        (AdamWSpec, {"weight_decay": -0.1}),
        (MuonSpec, {"learning_rate": 0.0}),
        (MuonSpec, {"momentum": 1.0}),
        (MuonSpec, {"weight_decay": float("nan")}),
        (MuonSpec, {"iterations": 0}),
        (SGDSpec, {"learning_rate": 0.0}),
        (SGDSpec, {"momentum": -0.1}),
        (SGDSpec, {"nesterov": True, "momentum": 0.0}),
        (SGDSpec, {"weight_decay": float("inf")}),
        (AdafactorSpec, {"learning_rate": float("nan")}),
        (AdafactorSpec, {"clip": 0.0}),
        (AdafactorSpec, {"least": -1.0}),
        (AdafactorSpec, {"forgetting": 0.0}),
        (AdafactorSpec, {"epsilon": 0.0}),
    ],
)
def test_settings_that_cannot_train_are_refused(spec: type, bad: dict) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        spec(**bad)


def test_a_model_that_is_frozen_has_no_optimizer() -> None:
    model = make_model().requires_grad_(False)
    with pytest.raises(InputError, match="no parameter to train"):
        AdamWSpec().build(trained_parameters(model))


@pytest.mark.parametrize("spec", SPECS)
def test_what_is_frozen_stays_and_has_no_state(spec: OptimizerSpec) -> None:
    model = make_model()
    model.blocks[0].requires_grad_(False)
    optimizer = spec.build(trained_parameters(model))
    before = copy.deepcopy(model.state_dict())
    give_gradients(model, 1)
    optimizer.step()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) == name.startswith("blocks.0."), name
    assert not any("/blocks.0." in name for name in optimizer.tensors())


def test_tables_among_the_blocks_are_tables_and_a_groups_blocks_are_blocks() -> None:
    matrix = torch.empty(2, 2)
    for path in ("blocks.0.mixer.query.weight", "news.blocks.0.mixer.query.weight", "blocks.1.reader.blocks.0.x"):
        assert group_of(path, matrix) == "block_matrices"
    for path in ("blocks.0.memory.embedding.tokens.weight", "blocks.0.mixer.position.weight", "heads.blocks.weight"):
        assert group_of(path, matrix) == "tables"
    assert group_of("blocks.0.mixer.taps", torch.empty(2, 2, 2)) == "tables"
