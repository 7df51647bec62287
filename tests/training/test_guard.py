"""Steps that must not be made: what is caught, what is done about it, and that a run which goes on does the same."""

import itertools
import math
import pickle
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lamoid.assembly.batch import Batch
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.likelihood import IGNORED
from lamoid.assembly.model import LanguageModel
from lamoid.data.loader import TrainingBatch
from lamoid.errors import InputError
from lamoid.training.checkpoint import Checkpoints
from lamoid.training.guard import LEAST_LOSSES, Guard, GuardSpec, NoTarget, RollBack, TrainingDiverged, log_incidents
from lamoid.training.incident import Incident
from lamoid.training.loop import train_loop
from lamoid.training.objectives import OBJECTIVES
from lamoid.training.optimizers import AdamWSpec
from lamoid.training.parameter_groups import trained_parameters
from lamoid.training.resume import resume
from lamoid.training.schedule import ScheduleSpec
from lamoid.training.state import TrainingState
from lamoid.training.update import Update

CAUSAL = OBJECTIVES["causal"]
BATCHES = ["good", "good", "empty", "good", "nan", "nan", "good", "good"]


def make_state(steps: int = 8) -> TrainingState:
    model = LanguageModel(Shape(family="llama", width=16, layers=1, heads=2, context=8).spec(11))
    initialise(model, 3)
    return TrainingState(model, AdamWSpec(learning_rate=0.01).build(trained_parameters(model)), steps)


class Planted:
    """Gives batches by name; after a ``nan`` one the model's next answer is no number."""

    def __init__(self, names: list[str], state: TrainingState, position: int = 0) -> None:
        self.names, self.state, self.position = names, state, position

    def __iter__(self) -> Iterator[list[TrainingBatch]]:
        return self

    def __next__(self) -> list[TrainingBatch]:
        name = self.names[self.position % len(self.names)]
        generator = torch.Generator().manual_seed(self.position)
        self.position += 1
        ids = torch.randint(0, 11, (2, 9), generator=generator)
        targets = torch.full((2, 8), IGNORED) if name == "empty" else ids[:, 1:]
        if name == "nan":
            self.state.model.norm.register_forward_hook(_spoil)
        return [TrainingBatch(Batch(ids[:, :8]), targets)]


def _spoil(module: torch.nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
    module._forward_hooks.clear()
    return output * math.nan


def parameters(state: TrainingState) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in state.model.parameters()]


def run(state: TrainingState, names: list[str], guard: Guard, hooks: list | None = None) -> None:
    train_loop(state, Planted(names, state), CAUSAL, Update(ScheduleSpec(warmup=2), guard=guard), hooks or [])


def test_a_skipped_step_counts_and_changes_no_parameter() -> None:
    state, guard = make_state(), Guard(GuardSpec(on_nonfinite="skip"))
    seen = [parameters(state)]
    told: list[Incident] = []
    hooks = [(1, lambda state: seen.append(parameters(state))), (1, log_incidents([told.append]))]
    run(state, BATCHES, guard, hooks)
    still = [all(torch.equal(*pair) for pair in zip(*both, strict=True)) for both in itertools.pairwise(seen)]
    assert still == [name != "good" for name in BATCHES]
    assert state.step == 8
    assert [incident.step for incident in state.incidents] == [3, 5, 6]
    assert told == state.incidents
    assert [incident.what for incident in told][:2] == ["the batch has no target", "loss is nan"]
    assert "the step was skipped" in told[0].line()
    assert [math.isnan(loss) for loss in state.losses] == [name != "good" for name in BATCHES]
    assert state.recent_loss(8) == pytest.approx(statistics.fmean(x for x in state.losses if math.isfinite(x)))
    assert state.recent_loss(1) == state.losses[-1]
    assert all(bool(parameter.isfinite().all()) for parameter in state.model.parameters())


def test_a_run_that_skips_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """Also in the middle of steps that are skipped in a row: their number is a part of the state."""
    states = []
    for until in (None, 5, 6):
        guard = Guard(GuardSpec(on_nonfinite="skip", on_spike="skip", window=16))
        state = make_state()
        state.parts["guard"] = guard
        source = Planted(BATCHES, state)
        place = Checkpoints(tmp_path / str(until), 2, {}, lambda source=source: source.position)
        update = Update(ScheduleSpec(warmup=2), guard=guard)
        if until is not None:
            state.steps = until
            train_loop(state, source, CAUSAL, Update(_stretched(8), guard=guard), [(0, place.write)])
            state, guard = make_state(), Guard(guard.spec)
            state.parts["guard"] = guard
            source = Planted(BATCHES, state, resume(state, place, print))
            update = Update(ScheduleSpec(warmup=2), guard=guard)
        train_loop(state, source, CAUSAL, update, [])
        states.append((state, guard))
    for state, guard in states[1:]:
        whole, judge = states[0]
        assert repr(state.losses) == repr(whole.losses), "the shortest text of a number is exact, and nan equals nan"
        assert state.incidents == whole.incidents
        assert all(torch.equal(*pair) for pair in zip(parameters(state), parameters(whole), strict=True))
        assert guard.recent == judge.recent
        assert guard.in_a_row == judge.in_a_row


def _stretched(whole: int) -> ScheduleSpec:
    """Give the schedule of a run of ``whole`` steps, whatever the state's own number of steps is."""

    class Stretched(ScheduleSpec, frozen=True):
        def share(self, step: int, steps: int) -> float:
            return ScheduleSpec.share(self, step, whole)

    return Stretched(warmup=2)


@pytest.mark.parametrize("batch", ["empty", "nan"])
def test_it_is_raised_unless_the_recipe_says_otherwise(batch: str) -> None:
    state = make_state()
    kind, message = (NoTarget, "step 2 has no target") if batch == "empty" else (TrainingDiverged, "step 2: the loss")
    with pytest.raises(kind, match=message) as caught:
        run(state, ["good", batch], Guard(GuardSpec()))
    assert state.step == 1
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301


def test_more_skips_in_a_row_than_allowed_end_the_run() -> None:
    state = make_state()
    with pytest.raises(TrainingDiverged, match="3 steps in a row were not made"):
        run(state, ["good", "nan", "nan", "nan"], Guard(GuardSpec(on_nonfinite="skip", most_in_a_row=2)))
    assert [incident.step for incident in state.incidents] == [2, 3]
    spared = make_state()
    run(spared, ["nan", "nan", "good"], Guard(GuardSpec(on_nonfinite="skip", most_in_a_row=2)))
    assert len(spared.incidents) == 6


def judge(losses: list[float], spec: GuardSpec) -> list[bool]:
    guard, state = Guard(spec), make_state()
    answers = []
    for loss in losses:
        answers.append(guard.allows(state, loss, 1.0))
        state.step += 1
    return answers


@pytest.mark.parametrize("deviations", [3.0, 6.0])
def test_a_spike_is_so_many_standard_deviations_above_the_mean(deviations: float) -> None:
    """The outside truth: the statistics module's mean and deviation of the window."""
    generator = torch.Generator().manual_seed(5)
    usual = (4.0 + 0.1 * torch.randn(40, generator=generator).clamp(-2, 2)).tolist()
    mean, deviation = statistics.fmean(usual[-20:]), statistics.pstdev(usual[-20:])
    spec = GuardSpec(on_spike="skip", deviations=deviations, window=20)
    for share, is_spike in ((0.999, False), (1.001, True)):
        assert judge([*usual, mean + share * deviations * deviation], spec) == [True] * 40 + [not is_spike]
    assert judge([*usual, mean - 50 * deviation], spec)[-1], "a low loss is no spike"


def test_a_spike_is_not_what_the_next_ones_are_judged_by() -> None:
    usual = [4.0 + 0.01 * (number % 3) for number in range(30)]
    assert judge([*usual, 9.0, 9.0, 4.0], GuardSpec(on_spike="skip"))[-3:] == [False, False, True]


def test_too_few_losses_and_rounding_are_no_spikes() -> None:
    spec = GuardSpec(on_spike="skip")
    assert all(judge([1.0] * (LEAST_LOSSES - 1) + [100.0], spec))
    assert not all(judge([1.0] * LEAST_LOSSES + [100.0], spec))
    assert all(judge([1.0] * 50 + [1.001], spec))
    assert all(judge([1.0] * 50 + [100.0], GuardSpec()))


def test_an_infinite_gradient_is_caught_too() -> None:
    state = make_state()
    weight = state.model.get_parameter("norm.weight")
    weight.register_hook(lambda gradient: gradient * math.inf)
    run(state, ["good"], Guard(GuardSpec(on_nonfinite="skip", most_in_a_row=99)))
    assert [incident.what.partition(" is ")[0] for incident in state.incidents] == ["norm of the gradient"] * 8


def test_going_back_is_asked_for_before_anything_changes() -> None:
    state = make_state()
    with pytest.raises(RollBack) as caught:
        run(state, ["good", "nan"], Guard(GuardSpec(on_nonfinite="roll_back")))
    assert (caught.value.step, caught.value.what, state.step) == (2, "loss is nan", 1)


@pytest.mark.parametrize(
    ("key", "value"), [("deviations", 0.0), ("deviations", math.nan), ("window", 3), ("most_in_a_row", 0)]
)
def test_what_a_guard_may_say(key: str, value: float) -> None:
    with pytest.raises(InputError, match=key):
        GuardSpec(**{key: value})  # type: ignore[arg-type]


def test_a_checkpoint_without_the_guards_losses_is_refused(tmp_path: Path) -> None:
    state = make_state()
    place = Checkpoints(tmp_path, 2, {}, lambda: 0)
    place.write(state)
    guarded = make_state()
    guarded.parts["guard"] = Guard(GuardSpec(on_spike="skip"))
    with pytest.raises(InputError, match="does not hold 'guard'"):
        resume(guarded, place, print)
    place.write(guarded)
    with pytest.raises(InputError, match="holds 'guard', which this run has not"):
        resume(make_state(), place, print)
