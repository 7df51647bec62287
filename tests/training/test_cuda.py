"""Training on a CUDA device; skipped where torch sees none."""

import itertools
from pathlib import Path

import pytest
import torch

from lamoid.assembly.batch import Batch
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.data.loader import TrainingBatch
from lamoid.training.checkpoint import Checkpoints
from lamoid.training.compute import ComputeSpec
from lamoid.training.loop import train_loop
from lamoid.training.objectives import OBJECTIVES
from lamoid.training.optimizers import AdamWSpec, MuonSpec, OptimizerSpec
from lamoid.training.parameter_groups import trained_parameters
from lamoid.training.peak import measure_peak
from lamoid.training.resume import resume
from lamoid.training.schedule import ScheduleSpec
from lamoid.training.state import Dtype, TrainingState
from lamoid.training.update import Update

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
SPECS = [AdamWSpec(learning_rate=0.01), MuonSpec(learning_rate=0.02)]


def make_state(spec: OptimizerSpec, dtype: Dtype, steps: int) -> TrainingState:
    model = LanguageModel(Shape(family="llama", width=32, layers=2, heads=2, context=16).spec(13))
    initialise(model, 3)
    model.to("cuda")
    return TrainingState(model, spec.build(trained_parameters(model)), steps, dtype)


def make_batch() -> list[TrainingBatch]:
    ids = torch.randint(0, 13, (4, 17), generator=torch.Generator().manual_seed(5))
    return [TrainingBatch(Batch(ids[:, :16]), ids[:, 1:])]


def checkpoints(place: Path) -> Checkpoints:
    return Checkpoints(place, 2, {}, lambda: 0)


@pytest.mark.parametrize("spec", SPECS)
def test_two_steps_in_bfloat16_lower_the_loss(spec: OptimizerSpec) -> None:
    state = make_state(spec, "bfloat16", 2)
    train_loop(state, itertools.repeat(make_batch()), OBJECTIVES["causal"], Update(ScheduleSpec()), [])
    assert state.losses[1] < state.losses[0]
    assert all(parameter.dtype == torch.float32 for parameter in state.model.parameters())
    assert all(parameter.device.type == "cuda" for parameter in state.model.parameters())


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_going_on_changes_no_bit(tmp_path: Path, spec: OptimizerSpec, dtype: Dtype) -> None:
    def draw(state: TrainingState) -> None:  # the device's random generator goes on too
        state.validations.append((state.step, torch.rand((), device="cuda").item()))

    torch.manual_seed(7)
    whole = make_state(spec, dtype, 4)
    objective, update = OBJECTIVES["causal"], Update(ScheduleSpec())
    hooks = [(1, draw), (2, checkpoints(tmp_path).write)]
    train_loop(whole, itertools.repeat(make_batch()), objective, update, hooks)
    (tmp_path / "step-00000004").rename(tmp_path / "aside")
    torch.manual_seed(99)
    parted = make_state(spec, dtype, 4)
    assert resume(parted, checkpoints(tmp_path), print) == 0
    assert parted.step == 2
    train_loop(parted, itertools.repeat(make_batch()), objective, update, [(1, draw)])
    assert (parted.losses, parted.validations) == (whole.losses, whole.validations)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, parted.model.state_dict()[name]), name
    for name, value in whole.optimizer.tensors().items():
        assert torch.equal(value, parted.optimizer.tensors()[name]), name


def test_the_peak_is_above_that_of_any_cpu() -> None:
    assert measure_peak(torch.device("cuda"), "bfloat16", seconds=0.01) > 1e12


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_does_not_wait_for_the_device(dtype: Dtype) -> None:
    state = make_state(AdamWSpec(), dtype, 2)
    train_loop(state, itertools.repeat(make_batch()), OBJECTIVES["causal"], Update(ScheduleSpec()), [])
    state.steps = 8
    torch.cuda.set_sync_debug_mode("error")
    try:
        train_loop(state, itertools.repeat(make_batch()), OBJECTIVES["causal"], Update(ScheduleSpec()), [])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(state.losses) == 8


def test_float16_with_scaling_learns() -> None:
    state = make_state(AdamWSpec(learning_rate=0.01), "float16", 40)
    train_loop(state, itertools.repeat(make_batch()), OBJECTIVES["causal"], Update(ScheduleSpec()), [])
    assert state.losses[-1] < state.losses[0]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_a_compiled_run_is_the_eager_one_but_for_rounding() -> None:
    ends = []
    for compute in (ComputeSpec(), ComputeSpec(compile=True)):
        state = make_state(AdamWSpec(learning_rate=0.01), "bfloat16", 4)
        state.compute = compute
        train_loop(state, itertools.repeat(make_batch()), OBJECTIVES["causal"], Update(ScheduleSpec()), [])
        ends.append(state.losses)
    assert ends[1] == pytest.approx(ends[0], rel=2e-2)
