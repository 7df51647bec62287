"""Checkpoints: whole or not there, and a run that goes on from one as if it had never stopped."""

import errno
import fcntl
import hashlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lamoid.assembly.batch import Batch
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.data.loader import TrainingBatch
from lamoid.errors import InputError
from lamoid.training.checkpoint import Checkpoints
from lamoid.training.json_lines import JsonLines
from lamoid.training.loop import train_loop
from lamoid.training.move_report import MoveReport
from lamoid.training.objectives import OBJECTIVES
from lamoid.training.optimizers import AdamWSpec, MuonSpec, OptimizerSpec
from lamoid.training.parameter_groups import trained_parameters
from lamoid.training.resume import differing_keys, resume
from lamoid.training.schedule import ScheduleSpec
from lamoid.training.state import TrainingState
from lamoid.training.update import Update
from lamoid.weights.durable import NotCommitted

IDENTITY = {"recipe": {"optimizer": {"learning_rate": 0.01}, "seed": 1}}


class Numbers:
    """A loader in small: batch number n follows from n alone."""

    def __init__(self, position: int = 0) -> None:
        self.position = position

    def __iter__(self) -> Iterator[list[TrainingBatch]]:
        while True:
            generator = torch.Generator().manual_seed(self.position)
            ids = torch.randint(0, 13, (4, 17), generator=generator)
            self.position += 1
            yield [TrainingBatch(Batch(ids[:, :16]), ids[:, 1:])]


def make_state(spec: OptimizerSpec) -> TrainingState:
    model = LanguageModel(Shape(family="llama", width=16, layers=2, heads=2, context=16).spec(13))
    initialise(model, 3)
    return TrainingState(model, spec.build(trained_parameters(model)), steps=12)


def make_checkpoints(place: Path, numbers: Numbers, identity: dict | None = None) -> Checkpoints:
    return Checkpoints(place / "checkpoints", 2, identity or IDENTITY, lambda: numbers.position)


def run(
    place: Path, spec: OptimizerSpec, *, until: int = 12, going_on: bool = False
) -> tuple[TrainingState, list[str]]:
    """Train with a checkpoint after every third step; ``until`` stops it as a kill would."""
    state, numbers, said = make_state(spec), Numbers(), []
    checkpoints = make_checkpoints(place, numbers)
    if going_on:
        numbers.position = resume(state, checkpoints, said.append) or 0

    def kill(state: TrainingState) -> None:
        if state.step == until < 12:
            raise KeyboardInterrupt

    def draw(state: TrainingState) -> None:  # a run whose objective draws random numbers goes on with the same ones
        state.validations.append((state.step, torch.rand(()).item()))

    hooks = [(1, draw), (3, checkpoints.write), (1, kill)]
    try:
        train_loop(state, iter(numbers), OBJECTIVES["causal"], Update(ScheduleSpec(warmup=3)), hooks)
    except KeyboardInterrupt:
        assert state.step == until
    return state, said


def assert_same(one: TrainingState, other: TrainingState) -> None:
    assert one.losses == other.losses
    assert one.validations == other.validations
    assert one.step == other.step
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name
    assert one.optimizer.tensors().keys() == other.optimizer.tensors().keys()
    for name, value in one.optimizer.tensors().items():
        assert torch.equal(value, other.optimizer.tensors()[name]), name


@pytest.mark.parametrize("spec", [AdamWSpec(learning_rate=0.01), MuonSpec(learning_rate=0.02)])
@pytest.mark.parametrize("until", [5, 9, 12])
def test_stopping_and_going_on_changes_no_bit(tmp_path: Path, spec: OptimizerSpec, until: int) -> None:
    torch.manual_seed(7)
    whole, _ = run(tmp_path / "whole", spec)
    torch.manual_seed(7)
    run(tmp_path / "parted", spec, until=until)
    torch.manual_seed(99)
    resumed, said = run(tmp_path / "parted", spec, going_on=True)
    assert_same(whole, resumed)
    assert said == []
    last = [place / "checkpoints" / "step-00000012" for place in (tmp_path / "whole", tmp_path / "parted")]
    assert (last[0] / "model.safetensors").read_bytes() == (last[1] / "model.safetensors").read_bytes()
    states = [json.loads((folder / "state.json").read_bytes()) for folder in last]
    assert all(found.pop("seconds") > 0 for found in states)
    assert states[0] == states[1]
    assert states[0]["tokens"] == 12 * 4 * 16


def test_the_last_two_are_kept_and_nothing_but_safetensors_and_json(tmp_path: Path) -> None:
    run(tmp_path, AdamWSpec())
    place = tmp_path / "checkpoints"
    assert sorted(path.name for path in place.iterdir()) == ["step-00000009", "step-00000012"]
    assert {path.suffix for folder in place.iterdir() for path in folder.iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize("damage", ["flip", "cut", "delete", "no manifest", "state"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(tmp_path: Path, damage: str) -> None:
    torch.manual_seed(7)
    whole, _ = run(tmp_path / "whole", AdamWSpec())
    torch.manual_seed(7)
    run(tmp_path / "run", AdamWSpec(), until=10)
    newest = tmp_path / "run" / "checkpoints" / "step-00000009"
    tensors = newest / "model.safetensors"
    if damage == "flip":
        data = bytearray(tensors.read_bytes())
        data[len(data) // 2] ^= 1
        tensors.write_bytes(data)
    elif damage == "cut":
        tensors.write_bytes(tensors.read_bytes()[:-1])
    elif damage == "delete":
        tensors.unlink()
    elif damage == "no manifest":
        (newest / "manifest.json").unlink()
    else:
        (newest / "state.json").write_bytes(b"{}")
    resumed, said = run(tmp_path / "run", AdamWSpec(), going_on=True)
    assert len(said) == 1
    assert "step-00000009 is damaged" in said[0]
    assert (tmp_path / "run" / "checkpoints" / "step-00000009.damaged").is_dir()
    assert_same(whole, resumed)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EMFILE, errno.EIO])
@pytest.mark.parametrize("place", ["open", "read", "reach"])
def test_what_the_system_cannot_read_is_an_error_and_not_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, place: str
) -> None:
    run(tmp_path, AdamWSpec(), until=7)
    folder = tmp_path / "checkpoints"
    before = sorted(folder.iterdir())
    said: list[str] = []

    def fail(*arguments: object, **others: object) -> None:
        raise OSError(code, os.strerror(code))

    real = os.open
    with monkeypatch.context() as patched:
        if place == "open":
            patched.setattr(os, "open", lambda path, *rest: (fail if "state.json" in str(path) else real)(path, *rest))
        elif place == "read":
            patched.setattr(hashlib, "file_digest", fail)
        else:
            patched.setattr(Path, "resolve", fail)
        with pytest.raises(InputError, match=f"step-00000006.*cannot be read .{os.strerror(code)}"):
            resume(make_state(AdamWSpec()), make_checkpoints(tmp_path, Numbers()), said.append)
    assert said == []
    assert sorted(folder.iterdir()) == before
    state = make_state(AdamWSpec())
    resume(state, make_checkpoints(tmp_path, Numbers()), said.append)
    assert (state.step, said) == (6, [])


def test_what_killed_writers_left_is_cleared_and_a_live_writers_work_is_not(tmp_path: Path) -> None:
    run(tmp_path, AdamWSpec(), until=7)
    place = tmp_path / "checkpoints"
    for name in (".step-00000001.tmp-aa", ".step-00000008.tmp-bb", ".step-00000002.tmp-cc", ".mine.tmp-dd"):
        (place / name).mkdir()
        (place / name / "model.safetensors").write_bytes(b"half")
    (place / "step-00000003").rename(place / ".step-00000003.old-ee")  # killed between the two steps of replacing
    live = os.open(place / ".step-00000002.tmp-cc", os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(live, fcntl.LOCK_EX)
        found = make_checkpoints(tmp_path, Numbers()).list()
    finally:
        os.close(live)
    assert [path.name for path in found] == ["step-00000003", "step-00000006"]
    names = {path.name for path in place.iterdir()}
    assert names == {"step-00000003", "step-00000006", ".step-00000002.tmp-cc", ".mine.tmp-dd"}


def test_no_whole_checkpoint_is_an_error_and_none_at_all_a_start(tmp_path: Path) -> None:
    state = make_state(AdamWSpec())
    assert resume(state, make_checkpoints(tmp_path, Numbers()), print) is None
    run(tmp_path, AdamWSpec(), until=4)
    (tmp_path / "checkpoints" / "step-00000003" / "state.json").unlink()
    said: list[str] = []
    with pytest.raises(InputError, match="none of its 1 checkpoints is whole"):
        resume(state, make_checkpoints(tmp_path, Numbers()), said.append)
    assert len(said) == 1


def test_another_recipe_is_refused_by_the_names_of_its_keys(tmp_path: Path) -> None:
    run(tmp_path, AdamWSpec(), until=4)
    other = {"recipe": {"optimizer": {"learning_rate": 0.02}, "seed": 1, "device": "cpu"}}
    with pytest.raises(InputError, match=r"other settings: recipe.device, recipe.optimizer.learning_rate"):
        resume(make_state(AdamWSpec()), make_checkpoints(tmp_path, Numbers(), other), print)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    run(tmp_path, AdamWSpec(), until=4)
    model = LanguageModel(Shape(family="llama", width=8, layers=2, heads=2, context=16).spec(13))
    state = TrainingState(model, AdamWSpec().build(trained_parameters(model)), 12)
    with pytest.raises(InputError, match="does not hold this model's state"):
        resume(state, make_checkpoints(tmp_path, Numbers()), print)


def test_differing_keys() -> None:
    assert differing_keys({"a": {"b": 1, "c": [1]}}, {"a": {"b": 1, "c": [1]}}) == []
    assert differing_keys({"a": {"b": 1, "c": [1]}, "d": 0}, {"a": {"b": 2, "c": [2]}}) == ["a.b", "a.c", "d"]


def test_a_write_that_fails_leaves_the_older_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, _ = run(tmp_path, AdamWSpec(), until=7)
    before = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(NotCommitted, match="Free some space"):
        make_checkpoints(tmp_path, Numbers()).write(state)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == before


def test_logged_lines_are_whole_and_stop_where_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path, after=0)
    for step in (1, 2, 3):
        lines(step, {"loss": 1.0 / step})
    with path.open("ab") as file:
        file.write(b'{"step": 4, "lo')
    JsonLines(path, after=2)(3, {"loss": 0.5})
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert entries == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}, {"step": 3, "loss": 0.5}]


def test_a_full_disk_takes_a_torn_line_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path, after=0)
    lines(1, {"loss": 1.0})
    before = path.read_bytes()
    write = __import__("os").write
    monkeypatch.setattr("os.write", lambda descriptor, data: write(descriptor, data[:5]))
    with pytest.raises(NotCommitted, match="the figures were not written"):
        lines(2, {"loss": 0.5})
    assert path.read_bytes() == before


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_validation_loss_that_is_no_number_does_not_spoil_a_checkpoint(tmp_path: Path, loss: float) -> None:
    """JSON has no such number: the checkpoint is whole all the same, and what is measured later may be the best."""
    state, said = make_state(AdamWSpec()), []
    state.validations = [(1, loss), (2, 3.0), (3, loss), (4, 2.5)]
    state.moves = [MoveReport(2, "widen", "blocks.0", True, 1, (), (), loss, 3.0, 9)]
    state.undone = (7, 2.0)
    checkpoints = make_checkpoints(tmp_path, Numbers())
    checkpoints.write(state)
    other = make_state(AdamWSpec())
    assert resume(other, checkpoints, said.append) == 0
    assert said == []
    assert [(step, round(found, 1)) for step, found in other.validations if math.isfinite(found)] == [
        (2, 3.0),
        (4, 2.5),
    ]
    assert math.isnan(other.validations[0][1])
    assert "no number before, 3.0000 after" in other.moves[0].line()
    assert state.best == other.best == (7, 2.0)
    other.undone = None
    assert other.best == (4, 2.5)
    other.validations = other.validations[:1]
    assert other.best is None


def test_an_identity_of_an_earlier_version_is_read_as_one_of_today(tmp_path: Path) -> None:
    state = make_state(AdamWSpec())
    make_checkpoints(tmp_path, Numbers(), {"recipe": {"seed": 1}}).write(state)
    today = {"recipe": {"seed": 1, "new": 0}}
    with pytest.raises(InputError, match=r"other settings: recipe\.new"):
        resume(state, make_checkpoints(tmp_path, Numbers(), today), print)
    checkpoints = Checkpoints(
        tmp_path / "checkpoints", 2, today, lambda: 0, lambda old: {"recipe": {"new": 0, **old["recipe"]}}
    )
    assert resume(state, checkpoints, print) == 0
