"""Going back from a step that must not be made: to the newest checkpoint, with other data, the same after a kill."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lamoid.errors import InputError
from lamoid.recipes import train as recipe_file
from lamoid.recipes import training_run
from lamoid.recipes.train import train
from lamoid.training import loop
from lamoid.training.objectives import Example
from lamoid.training.saver import Saver
from lamoid.training.state import TrainingState


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (recipe_file, training_run):
        monkeypatch.setattr(file, "measure_peak", lambda *_: 1e12)


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog.\n" * 40)
    return {
        "model": {"family": "llama", "width": 16, "layers": 1, "heads": 2, "context": 16},
        "tokenizer": {"kind": "characters", "closed": True},
        "data": {"train": str(tmp_path / "text.txt"), "hold_out": 0.1},
        "training": {"steps": 12, "batch": 2, "accumulation": 2},
        "evaluation": {"every": 5},
        "checkpoint": {"every": 3, "keep": 9},
        "guard": {"on_nonfinite": "roll_back"},
        "log": {"every": 1, "tensorboard": False, "curve": False},
    }


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list of numbers that a batch's ids may add up to; such a batch has a loss that is no number."""
    sums: list[int] = []
    real = loop._add_gradients

    def spoiled(state: TrainingState, parts: Sequence[Example], objective: Any) -> torch.Tensor:
        return real(state, parts, objective) * (math.nan if key(parts) in sums else 1.0)

    monkeypatch.setattr(loop, "_add_gradients", spoiled)
    return sums


def key(parts: Sequence[Example]) -> int:
    """Name a batch by its content."""
    ids = torch.cat([part.batch.ids.flatten() for part in parts])
    return int((ids * torch.arange(1, len(ids) + 1) ** 2).sum())


def seen_by(recipe: dict[str, Any], out: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Train, and give the batches in order."""
    seen: list[int] = []
    real = loop._add_gradients

    def noted(state: TrainingState, parts: Sequence[Example], objective: Any) -> torch.Tensor:
        seen.append(key(parts))
        return real(state, parts, objective)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "_add_gradients", noted)
        train(recipe, out=out)
    return seen


def lines(out: Path) -> list[dict[str, Any]]:
    kept = ("step", "loss", "validation_loss", "incident")
    read = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name in kept} for line in read]


def model(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()


def test_the_data_that_led_there_is_passed_over_and_the_rest_is_as_if_it_had_never_been(
    recipe: dict, tmp_path: Path, poison: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    order = seen_by(recipe, tmp_path / "calm", monkeypatch)
    poison.append(order[7])  # step 8, after the checkpoint of step 6
    after = seen_by(recipe, tmp_path / "back", monkeypatch)
    assert after[:8] == order[:8]
    assert after[8:12] == order[8:12], "steps 7 to 10, made with the data behind step 8's"
    assert len(after) == 8 + 6
    result = json.loads((tmp_path / "back" / "result.json").read_text())
    assert result["incidents"] == [{"step": 8, "action": "roll_back", "what": "loss is nan", "to": 6}]
    logged = lines(tmp_path / "back")
    assert [line["step"] for line in logged if "loss" in line] == list(range(1, 13))
    assert [line for line in logged if "incident" in line] == [
        {"step": 7, "incident": {"step": 8, "action": "roll_back", "what": "loss is nan", "to": 6}}
    ]
    calm = lines(tmp_path / "calm")
    assert [line for line in logged if line["step"] < 7] == [line for line in calm if line["step"] < 7]


@pytest.mark.parametrize("kill", [6, 7, 8, 9, 11])
def test_a_run_killed_around_its_return_ends_the_same(
    recipe: dict, tmp_path: Path, poison: list[int], monkeypatch: pytest.MonkeyPatch, kill: int
) -> None:
    poison.append(seen_by(recipe, tmp_path / "calm", monkeypatch)[7])
    train(recipe, out=tmp_path / "whole")
    calls: list[int] = []
    check = Saver.check

    def die(self: Saver, state: TrainingState) -> None:
        check(self, state)
        calls.append(state.step)
        if len(calls) == kill:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Saver, "check", die)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, out=tmp_path / "parted")
    result = train(recipe, out=tmp_path / "parted", resume=True)
    assert model(tmp_path / "parted") == model(tmp_path / "whole")
    assert lines(tmp_path / "parted") == lines(tmp_path / "whole")
    assert [(found.step, found.to) for found in result.incidents] == [(8, 6)]


def test_before_the_first_checkpoint_it_is_the_start_that_is_gone_back_to(
    recipe: dict, tmp_path: Path, poison: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    order = seen_by(recipe, tmp_path / "calm", monkeypatch)
    poison.append(order[0])
    after = seen_by(recipe, tmp_path / "back", monkeypatch)
    assert after[1:12] == order[1:12]
    plain = {**recipe, "guard": {}}
    poison.clear()
    assert seen_by(plain, tmp_path / "plain", monkeypatch) == order
    assert model(tmp_path / "plain") == model(tmp_path / "calm"), "a guard that finds nothing changes nothing"


def test_a_return_crosses_a_move_and_takes_it_back(
    recipe: dict, tmp_path: Path, poison: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe["moves"] = [{"kind": "widen", "path": "blocks.0.feedforward", "hidden": 96, "step": 7}]
    poison.append(seen_by(recipe, tmp_path / "calm", monkeypatch)[7])
    result = train(recipe, out=tmp_path / "back")
    assert [(found.step, found.to) for found in result.incidents] == [(8, 6)]
    assert [move.step for move in result.moves] == [7]


def test_returns_to_one_checkpoint_are_counted(recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe["guard"]["most_in_a_row"] = 3
    real = loop._add_gradients

    def always(state: TrainingState, parts: Sequence[Example], objective: Any) -> torch.Tensor:
        return real(state, parts, objective) * (math.nan if state.step == 4 else 1.0)

    monkeypatch.setattr(loop, "_add_gradients", always)
    with pytest.raises(InputError, match=r"training step 5: loss is nan, after 3 returns to step 3 already"):
        train(recipe, out=tmp_path / "run")


def test_it_goes_back_to_the_one_before_a_damaged_checkpoint(
    recipe: dict, tmp_path: Path, poison: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe["checkpoint"]["background"] = False
    poison.append(seen_by(recipe, tmp_path / "calm", monkeypatch)[7])
    check = Saver.check

    def damage(self: Saver, state: TrainingState) -> None:
        check(self, state)
        path = tmp_path / "back" / "checkpoints" / "step-00000006" / "state.json"
        if state.step == 7 and path.exists():
            path.write_bytes(b"{}")

    monkeypatch.setattr(Saver, "check", damage)
    result = train(recipe, out=tmp_path / "back")
    assert [(found.step, found.to) for found in result.incidents] == [(8, 3)]
    assert any("step-00000006 is damaged" in remark for remark in result.remarks)
