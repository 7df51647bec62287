"""Muon: beside torch's own, and with parameters that hold several matrices taken apart."""

import math

import pytest
import torch
from torch import Tensor, nn

from lamoid.assembly.block import BlockSpec
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.paths import with_part
from lamoid.assembly.recurrence import GRUSpec, LSTMSpec, RecurrentSpec, RNNSpec
from lamoid.training.muon import MuonSpec, Scale, count_matrices, orthogonalised
from lamoid.training.parameter_groups import trained_parameters

CLOSE = 0.03
"""Of the root mean square of a step: sums in bfloat16, taken in another order, agree no better."""


def rms(tensor: Tensor) -> float:
    return tensor.double().square().mean().sqrt().item()


def make_named(shapes: dict[str, tuple[int, ...]]) -> list[tuple[str, nn.Parameter]]:
    return [(f"blocks.0.{name}", nn.Parameter(torch.randn(shape))) for name, shape in shapes.items()]


def step(named: list[tuple[str, nn.Parameter]], optimizer: torch.optim.Optimizer, gradients: list[Tensor]) -> None:
    for (_, parameter), gradient in zip(named, gradients, strict=True):
        parameter.grad = gradient.clone()
    optimizer.step()


@pytest.mark.parametrize("scale", ["spectral", "adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_twenty_steps_are_those_of_torch(scale: Scale, nesterov: bool) -> None:
    shapes = {"a": (24, 16), "b": (16, 24), "c": (16, 16), "d": (24, 16), "e": (5, 40)}
    named = make_named(shapes)
    twins = [(name, nn.Parameter(parameter.detach().clone())) for name, parameter in named]
    spec = MuonSpec(learning_rate=0.02, scale=scale, nesterov=nesterov)
    ours = spec.build(named).parts[0]
    peer = torch.optim.Muon(
        twins,
        lr=0.02,
        momentum=0.95,
        nesterov=nesterov,
        weight_decay=0.1,
        adjust_lr_fn={"spectral": "original", "adamw": "match_rms_adamw"}[scale],
    )
    starts = [parameter.detach().clone() for _, parameter in named]
    for _ in range(20):
        gradients = [torch.randn(shape) for shape in shapes.values()]
        step(named, ours, gradients)
        step(twins, peer, gradients)
    for (name, mine), (_, theirs), start in zip(named, twins, starts, strict=True):
        assert rms(mine - theirs) < CLOSE * rms(theirs - start), name


def recurrent_model(mixer: RecurrentSpec) -> LanguageModel:
    spec = Shape(family="llama", width=12, layers=2, heads=2, context=8).spec(11)
    block = spec.blocks[1]
    assert isinstance(block, BlockSpec)
    model = LanguageModel(with_part(spec, "blocks.1.mixer", mixer))
    initialise(model, 3)
    return model


@pytest.mark.parametrize(
    ("mixer", "gates"), [(LSTMSpec(hidden=8, layers=2), 4), (GRUSpec(hidden=8), 3), (RNNSpec(hidden=8), 1)]
)
def test_gates_are_stepped_as_matrices_of_their_own(mixer: RecurrentSpec, gates: int) -> None:
    model = recurrent_model(mixer)
    named = trained_parameters(model)
    counts = {path: count for path, count in count_matrices(named).items() if count > 1}
    wanted = {path for path, _ in named if ".cells." in path and path.endswith("weight")} if gates > 1 else set()
    assert counts == dict.fromkeys(wanted, gates)
    optimizer = MuonSpec(learning_rate=0.1, weight_decay=0.0).build(named)
    for _, parameter in named:
        parameter.grad = torch.randn_like(parameter)
    chosen = [(path, parameter) for path, parameter in named if path in wanted]
    before = {path: (parameter.detach().clone(), parameter.grad) for path, parameter in chosen}
    optimizer.step()
    for path, parameter in chosen:
        start, gradient = before[path]
        assert gradient is not None
        apart = [nn.Parameter(part.clone()) for part in start.chunk(gates)]
        peer = torch.optim.Muon(apart, lr=0.1, momentum=0.95, weight_decay=0.0)
        for part, its in zip(apart, gradient.chunk(gates), strict=True):
            part.grad = its.clone()
        peer.step()
        moved = torch.cat([part.detach() for part in apart]) - start
        assert rms(parameter.detach() - start - moved) < CLOSE * rms(moved), path
        fused = nn.Parameter(start.clone())
        fused.grad = gradient.clone()
        torch.optim.Muon([fused], lr=0.1, momentum=0.95, weight_decay=0.0).step()
        assert rms(fused.detach() - start - moved) > 5 * CLOSE * rms(moved), "a fused step would be another one"


def test_stacked_experts_are_stepped_as_matrices_of_their_own() -> None:
    shapes = {"feedforward.experts.up": (3, 20, 12), "feedforward.experts.down": (3, 12, 20)}
    named = make_named(shapes)
    apart = [(f"{name}.{row}", nn.Parameter(part.clone())) for name, stack in named for row, part in enumerate(stack)]
    gradients = [torch.randn(shape) for shape in shapes.values()]
    spec = MuonSpec(learning_rate=0.1)
    step(named, spec.build(named).parts[0], gradients)
    step(apart, spec.build(apart).parts[0], [part for stack in gradients for part in stack])
    joined = torch.cat([stack.detach().flatten() for _, stack in named])
    assert torch.equal(joined, torch.cat([part.detach().flatten() for _, part in apart]))


def test_a_direction_keeps_the_singular_vectors() -> None:
    matrices = torch.randn(4, 10, 30, dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    found = orthogonalised(matrices, 5).double()
    singular = torch.linalg.svdvals(found)
    assert 0.3 < singular.min() < singular.max() < 1.4
    polar = left @ right
    cosine = (found * polar).sum((-2, -1)) / (found.norm(dim=(-2, -1)) * polar.norm(dim=(-2, -1)))
    assert cosine.min() > 0.95


def test_a_step_is_scaled_by_the_shape() -> None:
    for scale, wanted in (("spectral", 2.0), ("adamw", 0.2 * math.sqrt(32))):
        named = make_named({"a": (32, 8)})
        start = named[0][1].detach().clone()
        optimizer = MuonSpec(learning_rate=1.0, weight_decay=0.0, scale=scale).build(named).parts[0]  # type: ignore[arg-type]
        step(named, optimizer, [torch.randn(32, 8)])
        # An orthogonal 32 x 8 matrix has 8 singular values of 1.
        size = (start - named[0][1].detach()).norm().item() / math.sqrt(8)
        assert 0.7 * wanted < size < 1.25 * wanted


def test_the_rest_takes_what_is_no_matrix_of_a_block_and_alone_where_there_is_none() -> None:
    named = [("norm.weight", nn.Parameter(torch.ones(3)))]
    optimizer = MuonSpec().build(named)
    assert [type(part) for part in optimizer.parts] == [torch.optim.AdamW]
    assert optimizer.learning_rates == [1e-3]
