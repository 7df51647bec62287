"""Training over tasks: the loss and gradients of hand-written sums, state over ties, exact resumes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch.nn.functional import cross_entropy

from lamoid.assembly.attention import AttentionSpec
from lamoid.assembly.batch import Batch
from lamoid.assembly.block import BlockSpec
from lamoid.assembly.feedforward import GatedSpec
from lamoid.assembly.group import GroupSpec, ModelGroup, initialise_group
from lamoid.assembly.heads import NextTokenSpec
from lamoid.assembly.likelihood import IGNORED
from lamoid.assembly.sharing import ShareSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.task_heads import AverageSpec, ClassesSpec
from lamoid.assembly.tying import tie, untie
from lamoid.data.task_rows import TaskBatch, TaskLoader, label_rows
from lamoid.errors import InputError
from lamoid.training.checkpoint import Checkpoints
from lamoid.training.loop import compute_gradients, train_loop
from lamoid.training.moves import apply_moves
from lamoid.training.optimizers import AdamWSpec, MuonSpec, OptimizerSpec
from lamoid.training.parameter_groups import trained_parameters
from lamoid.training.resume import resume
from lamoid.training.schedule import ScheduleSpec
from lamoid.training.soft_tie import SoftTie, SoftTieSpec
from lamoid.training.state import TrainingState
from lamoid.training.task_moves import MoveSpec, TieSpec, UntieSpec, as_moves, check_moves
from lamoid.training.tasks import TASK_OBJECTIVES, Penalty, RunningLosses, TaskBatches, TaskObjective
from lamoid.training.update import Update

BLOCKS, TABLES = ShareSpec(("*.blocks",)), ShareSpec(("*.embedding",))
KINDS = {"news": "classes", "tales": "causal"}


def make_group(*rules: ShareSpec, heads: tuple[str, str] = ("classes", "causal")) -> ModelGroup:
    block = BlockSpec(mixer=AttentionSpec(heads=2, head_width=8), feedforward=GatedSpec(24))
    kinds: dict[str, Any] = {
        "classes": {"classes": ClassesSpec(count=3, pool=AverageSpec())},
        "causal": {"next_token": NextTokenSpec()},
    }
    models = {
        name: ModelSpec(16, 13, 12, blocks=(block, block), heads=kinds[kind])
        for name, kind in zip(KINDS, heads, strict=True)
    }
    group = ModelGroup(GroupSpec(models, rules))
    initialise_group(group, 1)
    return group


def make_examples(rows: int, part: int) -> list[TaskBatch]:
    """Give both tasks' rows in parts: texts of unequal length with a class, and with next tokens."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(0, 13, (2, rows, 12), generator=generator)
    segments = (torch.arange(12) < torch.arange(3, 3 + rows)[:, None].clamp(max=12)).long()
    labels = torch.randint(0, 3, (rows,), generator=generator)
    said = torch.where(segments.roll(-1, 1) * (torch.arange(12) < 11) != 0, ids[1].roll(-1, 1), IGNORED)
    parts = [slice(begin, begin + part) for begin in range(0, rows, part)]
    news = [TaskBatch("news", Batch(ids[0][at], segments[at]), labels[at]) for at in parts]
    return news + [TaskBatch("tales", Batch(ids[1][at], segments[at]), said[at]) for at in parts]


def make_objective(weights: tuple[float, float] = (1.0, 0.25), penalties: tuple[Penalty, ...] = ()) -> TaskObjective:
    objectives = {name: TASK_OBJECTIVES[kind] for name, kind in KINDS.items()}
    return TaskObjective(objectives, dict(zip(KINDS, weights, strict=True)), penalties)


def make_state(group: ModelGroup, *, steps: int = 6, optimizer: OptimizerSpec | None = None) -> TrainingState:
    spec = optimizer or AdamWSpec(learning_rate=0.01)
    return TrainingState(cast(Any, group), spec.build(trained_parameters(group)), steps)


def gradients(group: ModelGroup, parts: list[TaskBatch], objective: TaskObjective) -> tuple[float, dict]:
    loss = compute_gradients(make_state(group), parts, objective.objective())
    return loss, {name: p.grad for name, p in group.named_parameters() if p.grad is not None}


def test_the_loss_is_the_weighed_sum_of_the_tasks_means() -> None:
    """And each shared tensor's gradient is the sum of those that the tasks give it alone."""
    group = make_group(TABLES, BLOCKS)
    parts = make_examples(6, 2)
    loss, found = gradients(group, parts, make_objective())
    whole = make_examples(6, 6)
    wanted = {name: torch.zeros_like(parameter) for name, parameter in group.named_parameters()}
    total = 0.0
    for example, weight in zip(whole, (1.0, 0.25), strict=True):
        group.zero_grad()
        logits = group.member(example.task)(example.batch)
        mean = weight * cross_entropy(logits.flatten(0, -2), example.targets.flatten(), ignore_index=IGNORED)
        mean.backward()
        total += mean.item()
        for name, parameter in group.named_parameters():
            wanted[name] += 0 if parameter.grad is None else parameter.grad
    assert loss == pytest.approx(total, rel=1e-6)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("part", [1, 3])
def test_parts_of_any_size_give_the_same_loss_and_gradients(part: int) -> None:
    def compute(size: int) -> tuple[float, dict]:
        group = make_group(TABLES)
        soft = SoftTie(SoftTieSpec(("*.blocks",), strength=0.5), group, {})
        with torch.no_grad():
            group.member("news").blocks[0].mixer.query.weight.add_(0.1)
        return gradients(group, make_examples(6, size), make_objective(penalties=(Penalty("soft", soft.penalty),)))

    (loss, whole), (other, cut) = compute(6), compute(part)
    assert other == pytest.approx(loss, rel=1e-6)
    assert whole.keys() == cut.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(cut[name], gradient, rtol=1e-4, atol=1e-7)


def test_running_losses_are_means_of_steps_whatever_their_parts() -> None:
    found = []
    for part in (6, 2):
        objective = make_objective()
        with torch.enable_grad():
            for example in make_examples(6, part):
                objective.terms(make_group(), example)
        objective.running.end_step()
        found.append(dict(objective.running.values))
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    assert found[0].keys() == {"news", "tales"}
    running = RunningLosses(keep=0.75, values={"a": 2.0})
    running._sums, running._counts = {("a", "x"): 8.0}, {("a", "x"): 2}
    running.end_step()
    assert running.values == {"a": 0.75 * 2.0 + 0.25 * 4.0}


def make_batches(mode: Any, position: Any = None) -> TaskBatches:
    generator = torch.Generator().manual_seed(9)
    loaders = {}
    for name in KINDS:
        texts = torch.randint(0, 13, (10, 12), generator=generator).tolist()
        place = None if position is None else position[f"task {name}"]
        rows = label_rows(name, texts, [number % 3 for number in range(10)], 12, "start")
        loaders[name] = TaskLoader(rows, batch=4, seed=2, position=place)
    return TaskBatches(loaders, mode, 0 if position is None else position["turn"])


def test_tasks_are_mixed_or_taken_in_turn() -> None:
    mixed, in_turn = make_batches("mixed"), make_batches("in_turn")
    assert [[part.task for part in next(mixed)] for _ in range(2)] == [["news", "tales"]] * 2
    assert [[part.task for part in next(in_turn)] for _ in range(3)] == [["news"], ["tales"], ["news"]]
    ahead = [next(in_turn) for _ in range(5)][-1][0].batch.ids
    again = make_batches(
        "in_turn", position={"turn": 7, **{k: v for k, v in _position_after(7).items() if k != "turn"}}
    )
    assert torch.equal(next(again)[0].batch.ids, ahead)


def _position_after(steps: int) -> dict[str, Any]:
    batches = make_batches("in_turn")
    for _ in range(steps):
        next(batches)
    return batches.position


def step_all(group: ModelGroup, state: TrainingState, seed: int) -> None:
    """Make one optimiser step with gradients drawn by name, the same for a tensor wherever it stands."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in group.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    state.optimizer.step()


@pytest.mark.parametrize("optimizer", [AdamWSpec(learning_rate=0.01), MuonSpec()], ids=["adamw", "muon"])
def test_the_optimisers_state_lasts_over_tie_and_untie(optimizer: OptimizerSpec) -> None:
    group = make_group(TABLES, heads=("classes", "classes"))
    state = make_state(group, optimizer=optimizer)
    step_all(group, state, 1)
    before = {name: value.clone() for name, value in state.optimizer.tensors().items()}
    objects = {name: value.data_ptr() for name, value in state.optimizer.tensors().items() if value.ndim}
    state.optimizer.apply(tie(group, BLOCKS), group)
    tied = state.optimizer.tensors()
    assert set(before) - set(tied) == {name for name in before if "/tales.blocks." in name}
    assert all(torch.equal(before[name], value) for name, value in tied.items())
    assert all(objects[name] == value.data_ptr() for name, value in tied.items() if value.ndim)
    step_all(group, state, 2)
    tied = {name: value.clone() for name, value in state.optimizer.tensors().items()}
    state.optimizer.apply(untie(group, BLOCKS), group)
    untied = state.optimizer.tensors()
    assert set(untied) == set(before)
    for name, value in untied.items():
        assert torch.equal(value, tied[name.replace("/tales.blocks.", "/news.blocks.")])
    twins = [(untied[name], untied[name.replace("/tales", "/news")]) for name in untied if "/tales.blocks" in name]
    assert all(ours.data_ptr() != theirs.data_ptr() for ours, theirs in twins if ours.ndim)


def test_muon_takes_the_matrices_of_every_models_blocks() -> None:
    group = make_group()
    muon = MuonSpec().build(trained_parameters(group)).parts[0]
    names = {id(parameter): name for name, parameter in group.named_parameters()}
    taken = {names[id(parameter)] for entry in muon.param_groups for parameter in entry["params"]}
    assert taken == {name for name, parameter in group.named_parameters() if ".blocks." in name and parameter.ndim == 2}


MOVES: list[MoveSpec] = [TieSpec(2, BLOCKS.paths), UntieSpec(4, BLOCKS.paths), TieSpec(7, ("*.norm",))]


def run(folder: Path, mode: Any, steps: int, *, stop: int = 0) -> ModelGroup:
    """Train ``steps`` steps with moves and a soft tie, going on from what is in ``folder``; ``stop`` breaks off."""
    group = make_group(TABLES, heads=("classes", "classes"))
    state = make_state(group, steps=steps)
    running = RunningLosses()
    soft = SoftTie(SoftTieSpec(("*.blocks",), strength=0.1), group, running.values)
    kinds = dict.fromkeys(KINDS, TASK_OBJECTIVES["classes"])
    objective = TaskObjective(kinds, dict.fromkeys(KINDS, 1.0), [Penalty("soft", soft.penalty)], running)
    source = make_batches(mode)
    checkpoints = Checkpoints(folder, 9, {}, lambda: {"batches": source.position, "running": dict(running.values)})
    position = resume(state, checkpoints, lambda text: None)
    if position is not None:
        source = make_batches(mode, position["batches"])
        running.values.update(position["running"])

    def batches() -> Iterator[Any]:
        while state.step != stop or not stop:
            yield next(source)
        raise KeyboardInterrupt

    hooks = [
        (1, lambda state: running.end_step()),
        (1, apply_moves(as_moves(MOVES), lambda state: 0.0, [])),
        (1, checkpoints.write),
    ]
    try:
        train_loop(state, batches(), objective.objective(), Update(ScheduleSpec()), hooks)
    except KeyboardInterrupt:
        assert state.step == stop
    return group


@pytest.mark.parametrize("mode", ["mixed", "in_turn"])
@pytest.mark.parametrize("stop", [1, 2, 3, 4, 7])
def test_a_run_resumed_anywhere_between_moves_ends_bitwise_alike(mode: str, stop: int, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", mode, 9)
    run(tmp_path / "cut", mode, 9, stop=stop)
    again = run(tmp_path / "cut", mode, 9)
    assert whole.spec == again.spec
    assert whole.spec.sharing == (TABLES, ShareSpec(("*.norm",)))
    wanted, found = dict(whole.named_parameters()), dict(again.named_parameters())
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    files = [
        (folder / "step-00000009" / "model.safetensors").read_bytes()
        for folder in (tmp_path / "whole", tmp_path / "cut")
    ]
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("moves", "problem"),
    [
        ([TieSpec(3, ("*.blok",))], r"moves\[0\]: tie.paths: '\*.blok' matches no module"),
        ([TieSpec(3, ("*.embedding",))], r"moves\[0\]: tie: .* falls under the rule sharing.0"),
        ([UntieSpec(3, ("*.blocks",))], r"moves\[0\]: untie.paths: .* is no rule that holds now"),
        ([UntieSpec(2, ("*.blocks",)), TieSpec(3, ("*.blocks",))], r"moves\[0\]: untie.paths"),
        ([TieSpec(3, ("*.blocks",)), TieSpec(4, ("*.blocks.0",))], r"moves\[1\]: tie: .* falls under"),
        ([TieSpec(10, ("*.blocks",))], r"moves\[0\].step: is 10, not less than steps 10"),
    ],
)
def test_moves_that_cannot_be_made_are_refused_at_the_start(moves: list[MoveSpec], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        check_moves(make_group(TABLES).spec, moves, 10)


def test_moves_that_can_be_made_are_not_refused() -> None:
    check_moves(make_group(TABLES).spec, MOVES, 10)
    for kind in (TieSpec, UntieSpec):
        with pytest.raises(InputError, match="step"):
            kind(0, ("*.blocks",))
