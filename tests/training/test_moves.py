"""Moves while training: the optimiser follows the parameters, and a run broken off near a move goes on bit for bit."""

import itertools
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from lamoid.assembly.attention import AttentionSpec
from lamoid.assembly.batch import Batch
from lamoid.assembly.block import BlockSpec
from lamoid.assembly.experts import ExpertsSpec
from lamoid.assembly.feedforward import GatedSpec
from lamoid.assembly.heads import NextTokenSpec, TiedSpec
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.norm import LayerNormSpec
from lamoid.assembly.recurrence import LSTMSpec
from lamoid.assembly.sharing import ShareSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.surgery import Change, replace
from lamoid.assembly.surgery_moves import add_expert, insert, set_kv_heads, to_experts, widen
from lamoid.assembly.surgery_sharing import tie, untie
from lamoid.data.loader import TrainingBatch
from lamoid.training.checkpoint import Checkpoints
from lamoid.training.loop import train_loop
from lamoid.training.moves import Move, Raising, apply_moves, raise_gates
from lamoid.training.objectives import OBJECTIVES
from lamoid.training.optimizer import Optimizer
from lamoid.training.optimizers import AdamWSpec, MuonSpec, OptimizerSpec
from lamoid.training.parameter_groups import trained_parameters
from lamoid.training.resume import resume
from lamoid.training.schedule import ScheduleSpec
from lamoid.training.state import TrainingState
from lamoid.training.update import Update

OPTIMIZERS = [AdamWSpec(learning_rate=0.01), MuonSpec(learning_rate=0.02)]
GATED = GatedSpec(hidden=12)
BLOCK = BlockSpec(AttentionSpec(heads=2, kv_heads=1, head_width=4), GATED)
MIXTURE = BlockSpec(BLOCK.mixer, ExpertsSpec(experts=(GATED, GATED), chosen=1))
SHARED = (ShareSpec(("blocks.*.feedforward",)),)
Make = Callable[[LanguageModel], Change]
MOVES: dict[str, tuple[tuple[BlockSpec, ...], tuple[ShareSpec, ...], Make]] = {
    "insert": ((BLOCK, BLOCK), (), lambda model: insert(model, "blocks.1", seed=9)),
    "insert beside shared": ((BLOCK, BLOCK), SHARED, lambda model: insert(model, "blocks.1", seed=9)),
    "widen": ((BLOCK, BLOCK), (), lambda model: widen(model, "blocks.*.feedforward", 20, seed=9)),
    "kv heads": ((BLOCK, BLOCK), (), lambda model: set_kv_heads(model, "blocks.0.mixer", 2)),
    "experts": ((BLOCK, BLOCK), (), lambda model: to_experts(model, "blocks.1.feedforward", 3, seed=9)),
    "add expert": ((MIXTURE, BLOCK), (), lambda model: add_expert(model, "blocks.0.feedforward", seed=9)),
    "untie": ((BLOCK, BLOCK), SHARED, lambda model: untie(model, "sharing.0")),
    "untie head": ((BLOCK,), (), lambda model: untie(model, "heads.next_token")),
    "tie": ((BLOCK, BLOCK), (), lambda model: tie(model, ["blocks.*.mixer"])),
    "lstm": ((BLOCK, BLOCK), (), lambda model: replace(model, "blocks.1.mixer", LSTMSpec(hidden=8), seed=9)),
    "norm": ((BLOCK,), (), lambda model: replace(model, "norm", LayerNormSpec(), seed=9)),
}


def make_model(blocks: tuple[BlockSpec, ...] = (BLOCK, BLOCK), sharing: tuple[ShareSpec, ...] = ()) -> LanguageModel:
    heads = {"next_token": NextTokenSpec(linear=TiedSpec())}
    spec = ModelSpec(width=8, vocab=13, context=16, blocks=blocks, heads=heads, sharing=sharing)
    model = LanguageModel(spec)
    initialise(model, 3)
    return model


def take_steps(model: LanguageModel, optimizer: Optimizer, seeds: range) -> None:
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.set_share(0.5)
        optimizer.step()


def states(optimizer: Optimizer) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Give each entry by its name: the very tensor, and a copy of its numbers."""
    named = {}
    for part in optimizer.parts:
        for group in part.param_groups:
            for path, parameter in zip(group["param_names"], group["params"], strict=True):
                for entry, value in part.state.get(parameter, {}).items():
                    named[f"{entry}/{path}"] = (value, torch.as_tensor(value).clone())
    return named


@pytest.mark.parametrize("spec", OPTIMIZERS, ids=["adamw", "muon"])
@pytest.mark.parametrize("name", MOVES)
def test_what_is_kept_keeps_its_very_state_and_the_rest_starts_by_the_rules(name: str, spec: OptimizerSpec) -> None:
    blocks, sharing, make = MOVES[name]
    model = make_model(blocks, sharing)
    optimizer = spec.build(trained_parameters(model))
    take_steps(model, optimizer, range(3))
    before = states(optimizer)
    change = make(model)
    optimizer.apply(change, model)
    after = states(optimizer)
    names = {new: old for old, new in change.kept.items()}
    for place, (value, numbers) in after.items():
        entry, _, path = place.partition("/")
        if path in names:
            old, was = before[f"{entry}/{names[path]}"]
            assert value is old
            assert torch.equal(numbers, was)
        else:
            old, was = before[f"{entry}/{change.copied[path]}"]
            assert value is not old
            assert torch.equal(numbers, was)
    paths = {place.partition("/")[2] for place in after}
    assert paths == {*names} | {*change.copied}, "drawn ones start afresh, removed ones are gone"
    fresh = spec.build(trained_parameters(model))
    assert [_rules(part) for part in optimizer.parts] == [_rules(part) for part in fresh.parts]
    assert optimizer.learning_rates == fresh.learning_rates
    assert sorted(map(id, optimizer.parameters)) == sorted(map(id, model.parameters()))
    numbers = [parameter.detach().clone() for parameter in model.parameters()]
    take_steps(model, optimizer, range(3, 5))
    assert not any(torch.equal(a, b) for a, b in zip(numbers, model.parameters(), strict=True))


def _rules(part: torch.optim.Optimizer) -> list[tuple[list[str], float]]:
    return [(group["param_names"], group["weight_decay"]) for group in part.param_groups]


@pytest.mark.parametrize("spec", OPTIMIZERS, ids=["adamw", "muon"])
def test_what_a_move_does_not_touch_is_trained_as_if_there_had_been_none(spec: OptimizerSpec) -> None:
    """With the same gradients, the kept parameters' next numbers are those of a model without the move."""
    models = [make_model(), make_model()]
    optimizers = [spec.build(trained_parameters(model)) for model in models]
    for model, optimizer in zip(models, optimizers, strict=True):
        take_steps(model, optimizer, range(3))
    change = replace(models[0], "blocks.1.mixer", LSTMSpec(hidden=8))
    optimizers[0].apply(change, models[0])
    for model, optimizer in zip(models, optimizers, strict=True):
        for step in range(4):
            for name, parameter in model.named_parameters():
                generator = torch.Generator().manual_seed(zlib.crc32(f"{name} {step}".encode()))
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.set_share(0.25)
            optimizer.step()
    for old, new in change.kept.items():
        assert torch.equal(models[0].get_parameter(new), models[1].get_parameter(old)), new


@pytest.mark.parametrize("spec", OPTIMIZERS, ids=["adamw", "muon"])
def test_untied_ones_with_equal_gradients_stay_equal(spec: OptimizerSpec) -> None:
    model = make_model(sharing=SHARED)
    optimizer = spec.build(trained_parameters(model))
    take_steps(model, optimizer, range(3))
    optimizer.apply(untie(model, "sharing.0"), model)
    pairs = list(zip(*(block.feedforward.parameters() for block in model.blocks), strict=True))  # type: ignore[union-attr]
    for first, second in pairs:
        first.grad = torch.randn_like(first)
        second.grad = first.grad.clone()
    optimizer.step()
    assert len(pairs) == 3
    assert all(first is not second and torch.equal(first, second) for first, second in pairs)


class Numbers:
    """A loader in small: batch number n follows from n alone."""

    def __init__(self, position: int = 0) -> None:
        self.position = position

    def __iter__(self) -> Iterator[list[TrainingBatch]]:
        while True:
            generator = torch.Generator().manual_seed(self.position)
            ids = torch.randint(0, 13, (2, 9), generator=generator)
            self.position += 1
            yield [TrainingBatch(Batch(ids[:, :8]), ids[:, 1:])]


def run(place: Path, name: str, spec: OptimizerSpec, *, until: int = 8, going_on: bool = False) -> TrainingState:
    """Train 8 steps with the move after the fourth and a checkpoint after every second; ``until`` breaks it off."""
    blocks, sharing, make = MOVES[name]
    model = make_model(blocks, sharing)
    state, numbers = TrainingState(model, spec.build(trained_parameters(model)), steps=8), Numbers()
    checkpoints = Checkpoints(place, 2, {}, lambda: numbers.position)
    if going_on:
        numbers.position = resume(state, checkpoints, print) or 0

    def kill(state: TrainingState) -> None:
        if state.step == until < 8:
            raise KeyboardInterrupt

    raising = [Raising("blocks.0.feedforward.router.bias", 2, 30.0, 4, 3, 4, 7)] if name == "add expert" else []
    moves = apply_moves([Move(4, name, "", make)], lambda state: 0.0, [])
    hooks = [(1, moves), (1, raise_gates(raising)), (2, checkpoints.write), (1, kill)]
    try:
        train_loop(state, iter(numbers), OBJECTIVES["causal"], Update(ScheduleSpec(warmup=2)), hooks)
    except KeyboardInterrupt:
        assert state.step == until
    return state


@pytest.mark.parametrize("spec", OPTIMIZERS, ids=["adamw", "muon"])
@pytest.mark.parametrize("name", MOVES)
def test_a_run_broken_off_before_at_and_after_a_move_goes_on_bit_for_bit(
    tmp_path: Path, name: str, spec: OptimizerSpec
) -> None:
    whole = run(tmp_path / "whole", name, spec)
    assert len(whole.moves) == 1
    for until in (3, 4, 5):
        run(tmp_path / str(until), name, spec, until=until)
        resumed = run(tmp_path / str(until), name, spec, going_on=True)
        assert resumed.losses == whole.losses
        assert resumed.moves == whole.moves
        assert resumed.model.spec == whole.model.spec
        files = [tmp_path / folder / "step-00000008" / "model.safetensors" for folder in ("whole", str(until))]
        assert files[0].read_bytes() == files[1].read_bytes(), until


def test_a_checkpoint_of_the_moves_step_holds_the_changed_model(tmp_path: Path) -> None:
    run(tmp_path, "insert", AdamWSpec(), until=5)
    model = make_model()
    state = TrainingState(model, AdamWSpec().build(trained_parameters(model)), steps=8)
    resume(state, Checkpoints(tmp_path, 2, {}, lambda: 0), print)
    assert (state.step, len(state.model.spec.blocks)) == (4, 3)
    assert state.model is model
    assert [report.kind for report in state.moves] == ["insert"]


def test_a_gate_rises_evenly_to_the_others() -> None:
    model = make_model((MIXTURE,))
    state = TrainingState(model, AdamWSpec(learning_rate=1e-9).build(trained_parameters(model)), steps=8)
    moves = apply_moves(
        [Move(2, "add_expert", "", lambda model: add_expert(model, "blocks.0.feedforward", below=8.0))],
        lambda _: 0.0,
        [],
    )
    name, below = "blocks.0.feedforward.router.bias", []

    def note(state: TrainingState) -> None:
        if state.step >= 2:
            bias = state.model.get_parameter(name).detach()
            below.append((bias[:2].mean() - bias[2]).item())

    hooks = [(1, moves), (1, raise_gates([Raising(name, 2, 8.0, 2, 4, 2, 6)])), (1, note)]
    train_loop(state, iter(Numbers()), OBJECTIVES["causal"], Update(ScheduleSpec()), hooks)
    assert below == pytest.approx([8.0, 6.0, 4.0, 2.0, 0.0, 0.0, 0.0], abs=1e-4)


def test_gates_that_rise_side_by_side_do_not_hold_each_other_down() -> None:
    model = make_model((MIXTURE,))
    state = TrainingState(model, AdamWSpec().build(trained_parameters(model)), steps=9)
    name = "blocks.0.feedforward.router.bias"
    raise_all = raise_gates([Raising(name, 2, 8.0, 1, 4, 1, 5), Raising(name, 3, 8.0, 3, 4, 3, 7)])
    found = []
    for step in range(1, 8):
        for move in [add_expert] * (step in (1, 3)):
            move(model, "blocks.0.feedforward", below=8.0)
        state.step = step
        raise_all(state)
        found.append(model.get_parameter(name).detach()[2:].tolist())
    assert found == [[-8], [-6], [-4, -8], [-2, -6], [0, -4], [0, -2], [0, 0]]


def test_a_move_reports_names_and_losses() -> None:
    model = make_model()
    state = TrainingState(model, AdamWSpec().build(trained_parameters(model)), steps=3)
    losses, written = itertools.count(), []
    move = Move(2, "replace", "norm", lambda model: replace(model, "norm", LayerNormSpec()))
    hooks = [(1, apply_moves([move], lambda _: float(next(losses)), [written.append]))]
    train_loop(state, iter(Numbers()), OBJECTIVES["causal"], Update(ScheduleSpec()), hooks)
    [report] = state.moves
    assert written == [report]
    assert (report.step, report.kind, report.path, report.is_preserving) == (2, "replace", "norm", False)
    assert (report.loss_before, report.loss_after) == (0.0, 1.0)
    assert (report.added, report.removed) == (("norm.weight", "norm.bias"), ("norm.weight",))
    assert report.kept == len(list(model.parameters())) - 2
    assert "step 2: replace norm (plain): " in report.line()
