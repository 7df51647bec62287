"""The copy in 16 bits: the same model, gradients that reach the masters in float32, and a loss that stays float32's."""

import gc
import itertools
import os
import random
import weakref
from pathlib import Path

import pytest
import torch

from lamoid.assembly.adapter import LoraSpec
from lamoid.assembly.batch import Batch
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.linear import AdaptedSpec
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.surgery import replace
from lamoid.assembly.surgery_moves import to_experts
from lamoid.data.loader import TrainingBatch
from lamoid.errors import InputError
from lamoid.recipes.read_recipe import read_recipe
from lamoid.training.checkpoint import Checkpoints
from lamoid.training.guard import TrainingDiverged
from lamoid.training.hooks import measure_loss
from lamoid.training.loop import compute_gradients, train_loop
from lamoid.training.loss_scale import GROWN_AFTER, LossScale
from lamoid.training.objectives import OBJECTIVES
from lamoid.training.optimizers import AdamWSpec
from lamoid.training.parameter_groups import trained_parameters
from lamoid.training.precision import ComputeCopy, Dtype
from lamoid.training.resume import resume
from lamoid.training.schedule import ScheduleSpec
from lamoid.training.state import TrainingState
from lamoid.training.update import Update

CAUSAL = OBJECTIVES["causal"]


@pytest.fixture
def seed() -> int:
    """Draw a seed from the suite's own, another in each run."""
    return random.Random(os.environ.get("LAMOID_SEED", "0")).randrange(2**31)


def make_model(seed: int, *, tied: bool = True) -> LanguageModel:
    model = LanguageModel(
        Shape(family="llama", width=32, layers=2, heads=4, kv_heads=2, context=32, tied=tied).spec(29)
    )
    initialise(model, seed, deviation=0.1)
    return model


def make_state(model: LanguageModel, dtype: Dtype, *, steps: int = 10, rate: float = 0.003) -> TrainingState:
    return TrainingState(model, AdamWSpec(learning_rate=rate).build(trained_parameters(model)), steps, dtype)


def make_parts(seed: int, parts: int = 1, rows: int = 8) -> list[TrainingBatch]:
    """Draw rows in which each token follows from the one before, but for one in four."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 29, (parts * rows, 33), generator=generator)
    for at in range(1, 33):
        strays = torch.rand(len(ids), generator=generator) < 0.25
        ids[:, at] = torch.where(strays, ids[:, at], (5 * ids[:, at - 1] + 2) % 29)
    return [TrainingBatch(Batch(part[:, :-1]), part[:, 1:]) for part in ids.split(rows)]


def gradient(state: TrainingState, parts: list[TrainingBatch]) -> torch.Tensor:
    for parameter in state.model.parameters():
        parameter.grad = None
    compute_gradients(state, parts, CAUSAL)
    return torch.cat([p.grad.flatten() for p in state.model.parameters() if p.grad is not None])


def test_the_copy_is_the_model_rounded_with_parameters_in_one_buffer(seed: int) -> None:
    model = make_model(seed)
    model.blocks[0].requires_grad_(False)
    held = ComputeCopy(model, torch.bfloat16)
    pairs = list(zip(model.named_parameters(), held.model.named_parameters(), strict=True))
    begin, end = held.buffer.data_ptr(), held.buffer.data_ptr() + 2 * held.buffer.numel()
    for (name, master), (other, mine) in pairs:
        assert name == other
        assert torch.equal(mine, master.to(torch.bfloat16))
        assert mine.requires_grad == master.requires_grad
        assert begin <= mine.data_ptr() < end
    ids = make_parts(seed)[0].batch.ids
    assert torch.equal(held.model(ids), make_model(seed).to(torch.bfloat16)(ids))


def test_what_is_shared_is_shared_in_the_copy(seed: int) -> None:
    model = make_model(seed)
    model.blocks[1].feedforward = model.blocks[0].feedforward
    held = ComputeCopy(model, torch.bfloat16).model
    assert held.blocks[1].feedforward is held.blocks[0].feedforward
    assert len(list(held.parameters())) == len(list(model.parameters()))
    assert held.spec is model.spec
    assert held.choice is model.choice


def test_gradients_in_bfloat16_are_those_of_float32_but_for_rounding(seed: int) -> None:
    parts = make_parts(seed)
    whole = gradient(make_state(make_model(seed), "float32"), parts)
    half = gradient(make_state(make_model(seed), "bfloat16"), parts)
    assert half.dtype == torch.float32
    assert (half - whole).norm() <= 0.05 * whole.norm()


def test_parts_of_a_step_are_added_in_float32(seed: int) -> None:
    parts = make_parts(seed, parts=3)
    state = make_state(make_model(seed), "bfloat16")
    alone = []
    for part in parts:
        counted = [TrainingBatch(other.batch, other.targets) for other in parts]
        total = sum(CAUSAL.counts(other)["next_token"] for other in counted)
        reader = state.reader
        (CAUSAL.terms(reader, part)["next_token"].sum / total).backward()
        alone.append(torch.cat([p.grad.float().flatten() for p in reader.parameters() if p.grad is not None]))
        reader.zero_grad()
    assert torch.equal(gradient(state, parts), alone[0] + alone[1] + alone[2])


def test_a_gradient_lies_where_that_of_the_step_before_did_and_has_nothing_of_it(seed: int) -> None:
    state, parts = make_state(make_model(seed), "bfloat16"), make_parts(seed, parts=3)
    gradient(state, parts[:2])
    places = [p.grad.data_ptr() for p in state.model.parameters() if p.grad is not None]
    again = gradient(state, parts[1:])
    assert [p.grad.data_ptr() for p in state.model.parameters() if p.grad is not None] == places
    assert torch.equal(again, gradient(make_state(make_model(seed), "bfloat16"), parts[1:]))


def test_a_backward_pass_without_a_collection_is_added_to(seed: int) -> None:
    """Twice the same gradient is exactly twice the gradient; what was dropped by the reader is gone."""
    state, parts = make_state(make_model(seed), "bfloat16"), make_parts(seed)
    once = gradient(state, parts)
    state.optimizer.parts[0].zero_grad()
    reader = state.reader
    for dropped in (True, False, False):
        term = CAUSAL.terms(reader, parts[0])["next_token"]
        (term.sum / term.count).backward()
        if dropped:
            reader.zero_grad()
    state.collect()
    twice = torch.cat([p.grad.flatten() for p in state.model.parameters() if p.grad is not None])
    assert torch.equal(twice, 2.0 * once)


def test_a_copy_that_nobody_needs_is_gone_at_once(seed: int) -> None:
    model = make_model(seed)
    held = ComputeCopy(model, torch.bfloat16)
    held.model(make_parts(seed)[0].batch.ids).sum().backward()
    held.collect()
    gone = [weakref.ref(parameter) for parameter in held.model.parameters()]
    gc.disable()
    try:
        del held
        alive = [reference() for reference in gone if reference() is not None]
    finally:
        gc.enable()
    assert not alive


def test_frozen_parameters_get_no_gradient_and_adapters_do(seed: int) -> None:
    model = make_model(seed)
    spec = AdaptedSpec(adapters=(LoraSpec(name="one", rank=2, alpha=4.0),))
    replace(model, "blocks.0.mixer.query", spec, seed=seed)
    model.choice.use({"one": 1.0})
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("adapters" in name)
    state = make_state(model, "bfloat16")
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    train_loop(state, itertools.repeat(make_parts(seed)), CAUSAL, Update(ScheduleSpec()), [])
    changed = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {name for name in before if "adapters" in name}


def test_a_run_in_bfloat16_ends_within_a_hundredth_of_float32s_loss(seed: int) -> None:
    ends = []
    for dtype in ("float32", "bfloat16"):
        state = make_state(make_model(seed), dtype, steps=200)
        batches = ([part] for part in itertools.cycle(make_parts(seed, parts=16, rows=4)))
        train_loop(state, batches, CAUSAL, Update(ScheduleSpec()), [])
        assert all(parameter.dtype == torch.float32 for parameter in state.model.parameters())
        ends.append(state.recent_loss(20))
    assert ends[0] < 2.5
    assert ends[1] == pytest.approx(ends[0], rel=0.01)


def test_the_measured_loss_is_that_of_the_rounded_model(seed: int) -> None:
    state, parts = make_state(make_model(seed), "bfloat16"), make_parts(seed)
    rounded = make_model(seed).to(torch.bfloat16)
    wanted = CAUSAL.terms(rounded, parts[0])["next_token"]
    assert measure_loss(state, parts, CAUSAL) == wanted.sum.item() / wanted.count


def test_the_reader_follows_surgery(seed: int) -> None:
    state = make_state(make_model(seed), "bfloat16")
    first = state.reader
    assert state.reader is first
    state.apply(to_experts(state.model, "blocks.1.feedforward", experts=2, seed=seed))
    assert state.reader is not first
    assert [name for name, _ in state.reader.named_parameters()] == [name for name, _ in state.model.named_parameters()]
    train_loop(state, itertools.repeat(make_parts(seed)), CAUSAL, Update(ScheduleSpec()), [])
    assert state.losses[-1] < state.losses[0]


def test_the_reader_follows_parameters_that_are_exchanged_or_freed(seed: int) -> None:
    state = make_state(make_model(seed), "bfloat16")
    state.model.norm.weight = torch.nn.Parameter(torch.full((32,), 3.0))
    assert torch.equal(state.reader.get_parameter("norm.weight"), torch.full((32,), 3.0, dtype=torch.bfloat16))
    state.model.blocks[0].requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in state.reader.blocks[0].parameters())


def test_going_on_in_bfloat16_changes_no_bit(seed: int, tmp_path: Path) -> None:
    def run(state: TrainingState, at: int) -> None:
        batches = ([part] for part in make_parts(seed, parts=8)[at:])
        hooks = [(3, Checkpoints(tmp_path, 2, {}, lambda: state.step).write)] if not at else []
        train_loop(state, batches, CAUSAL, Update(ScheduleSpec()), hooks)

    whole = make_state(make_model(seed), "bfloat16", steps=8)
    run(whole, 0)
    for place in sorted(tmp_path.iterdir())[1:]:
        place.rename(place.with_name(f"aside-{place.name}"))
    parted = make_state(make_model(seed + 1), "bfloat16", steps=8)
    assert resume(parted, Checkpoints(tmp_path, 2, {}, lambda: 0), print) == parted.step > 0
    run(parted, parted.step)
    assert parted.losses == whole.losses
    assert all(map(torch.equal, parted.model.parameters(), whole.model.parameters()))


def test_the_scale_of_the_loss_is_no_part_of_the_gradient(seed: int) -> None:
    parts = make_parts(seed, parts=2)
    found = []
    for value in (1.0, 2.0**10):
        state = make_state(make_model(seed), "float16")
        state.parts["loss_scale"] = LossScale(value)
        found.append(gradient(state, parts))
    whole = gradient(make_state(make_model(seed), "float32"), parts)
    for each in found:
        assert (each - whole).norm() <= 0.05 * whole.norm()


def test_a_step_that_overflows_float16_is_not_made_and_halves_the_scale(seed: int) -> None:
    state = make_state(make_model(seed), "float16", steps=1)
    scale = LossScale(2.0**40)
    state.parts["loss_scale"] = scale
    before = [parameter.detach().clone() for parameter in state.model.parameters()]
    train_loop(state, itertools.repeat(make_parts(seed)), CAUSAL, Update(ScheduleSpec()), [])
    assert scale.value == 2.0**39
    assert all(map(torch.equal, state.model.parameters(), before))
    state.steps = 60
    train_loop(state, itertools.repeat(make_parts(seed)), CAUSAL, Update(ScheduleSpec()), [])
    assert scale.value < 2.0**39
    assert state.losses[-1] < state.losses[0]


def test_the_scale_grows_back_and_is_kept_in_checkpoints() -> None:
    scale = LossScale(8.0)
    assert [scale.takes(1.0) for _ in range(GROWN_AFTER)] == [True] * GROWN_AFTER
    assert scale.value == 16.0
    assert not scale.takes(float("inf"))
    assert (scale.value, scale.good) == (8.0, 0)
    scale.takes(1.0)
    other = LossScale()
    other.load(scale.tensors())
    assert (other.value, other.good) == (8.0, 1)
    with pytest.raises(InputError, match="checkpoint"):
        other.load({})
    assert LossScale(1.0).takes(float("nan")), "the guard's affair"


def test_float16_is_refused_on_a_cpu() -> None:
    recipe = {"model": {"kind": "shape"}, "data": {"train": ["text.txt"]}, "training": {"steps": 1}, "dtype": "float16"}
    with pytest.raises(InputError, match=r"dtype.*CUDA"):
        read_recipe(recipe, [])


@pytest.mark.parametrize("lost", ["loss", "norm"])
def test_a_number_that_nobody_waited_for_is_judged_when_it_is_read(lost: str) -> None:
    state = make_state(make_model(1), "float32")
    update = Update(ScheduleSpec(decay="none"), clip=0.0)
    for step in range(4):
        is_lost = step == 2
        for parameter in state.model.parameters():
            parameter.grad = torch.full_like(parameter, float("nan") if is_lost and lost == "norm" else 1e-6)
        loss = torch.tensor(float("inf") if is_lost and lost == "loss" else 1.0 + step)
        update(state, loss)
        state.note(loss)
        state.step += 1
    with pytest.raises(TrainingDiverged, match="training step 3"):
        _ = state.losses


def test_losses_that_are_read_later_are_the_same(seed: int) -> None:
    runs = []
    for later in (False, True):
        state = make_state(make_model(seed), "float32", steps=0)
        update = Update(ScheduleSpec(decay="none"))
        for part in make_parts(seed, parts=5):
            loss = compute_gradients(state, [part], CAUSAL)
            given = torch.tensor(loss, dtype=torch.float64) if later else loss
            update(state, given)
            state.note(given)
            state.step += 1
        runs.append((state.gradient_norm, state.losses, [p.detach().clone() for p in state.model.parameters()]))
    assert runs[0][:2] == runs[1][:2]
    assert all(map(torch.equal, runs[0][2], runs[1][2]))
