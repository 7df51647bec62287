"""Going back from a step that must not be made: to the newest checkpoint, with other data, the same after a kill."""

import json
import math
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lamoid.errors import InputError, Stopped
from lamoid.recipes import train as recipe_file
from lamoid.recipes import training_run
from lamoid.recipes.train import train
from lamoid.training import hooks, loop
from lamoid.training.hooks import Measured
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


def test_the_best_model_stays_the_best_though_its_step_is_taken_back(
    recipe: dict, tmp_path: Path, poison: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loss is the run's best; when to end early follows from the steps that stand alone."""
    recipe["evaluation"] = {"every": 5, "keep_best": True, "patience": 1}
    recipe["checkpoint"]["every"] = 4
    measured: list[float] = []
    monkeypatch.setattr(hooks, "measure", lambda *_: Measured(measured.pop(0), {}))
    measured[:] = [3.0, 1.0, 2.0]  # after steps 5, 10 and 12
    order = seen_by({**recipe, "evaluation": {"every": 5, "keep_best": True}}, tmp_path / "calm", monkeypatch)
    poison.append(order[10])
    measured[:] = [3.0, 1.0, 2.0, 1.5]  # after steps 5 and 10, and after the return to step 8 steps 10 and 12
    result = train(recipe, out=tmp_path / "back")
    assert [(found.step, found.to) for found in result.incidents] == [(11, 8)]
    assert (result.best_step, result.best_validation_loss, result.validation_loss) == (10, 1.0, 1.5)
    assert (result.steps, result.ended_early) == (12, None)
    best = [(tmp_path / name / "best" / "model.safetensors").read_bytes() for name in ("calm", "back")]
    assert best[0] == best[1]
    (tmp_path / "back" / "result.json").unlink()
    again = train(recipe, out=tmp_path / "back", resume=True)
    assert (again.best_step, again.best_validation_loss) == (10, 1.0)


@pytest.mark.parametrize(("every", "stops", "to"), [(3, [7], 6), (3, [5, 7, 8], 6), (0, [2, 4, 6], 0)])
def test_a_run_that_was_asked_to_stop_goes_back_no_less_far(
    recipe: dict,
    tmp_path: Path,
    poison: list[int],
    monkeypatch: pytest.MonkeyPatch,
    every: int,
    stops: list[int],
    to: int,
) -> None:
    """What is saved on being asked is no place to go back to: a run that nobody stopped has none there."""
    recipe["checkpoint"] = {"every": every, "keep": 2}
    poison.append(seen_by(recipe, tmp_path / "calm", monkeypatch)[8])
    whole = train(recipe, out=tmp_path / "whole")
    check = Saver.check
    for number, stop in enumerate(stops):

        def ask(self: Saver, state: TrainingState, stop: int = stop) -> None:
            check(self, state)
            if state.step == stop:
                signal.raise_signal(signal.SIGTERM)

        with monkeypatch.context() as patched:
            patched.setattr(Saver, "check", ask)
            with pytest.raises(Stopped, match=f"after step {stop} of 12"):
                train(recipe, out=tmp_path / "parted", resume=number > 0)
    result = train(recipe, out=tmp_path / "parted", resume=True)
    assert result.resumed_from == stops[-1]
    assert [(found.step, found.to) for found in result.incidents] == [(9, to)]
    assert result.incidents == whole.incidents
    assert lines(tmp_path / "parted") == lines(tmp_path / "whole")
    assert all_weights(tmp_path / "parted") == all_weights(tmp_path / "whole")


MOVES = [
    {"kind": "insert", "path": "blocks.1", "step": 5},
    {"kind": "widen", "path": "blocks.0.feedforward", "hidden": 96, "step": 7},
    {"kind": "experts", "path": "blocks.1.feedforward", "experts": 2, "step": 8},
    {"kind": "add_expert", "path": "blocks.1.feedforward", "over": 3, "step": 9},
]
TOGETHER: dict[str, dict[str, Any]] = {
    "weighed average": {"average": {"kind": "last", "every": 2, "keep": 3, "weights": "losses", "final": True}},
    "bfloat16": {"average": {"kind": "ema", "decay": 0.8}, "dtype": "bfloat16", "compute": {"recompute": "blocks"}},
    "plateau": {"schedule": {"decay": "plateau", "patience": 0, "least_gain": 0.5, "final": 0.01}},
}


@pytest.mark.parametrize(("name", "kill"), [*((name, 11) for name in TOGETHER), ("bfloat16", 5), ("bfloat16", 14)])
def test_all_at_once_and_killed_it_ends_the_same(
    recipe: dict, tmp_path: Path, poison: list[int], monkeypatch: pytest.MonkeyPatch, name: str, kill: int
) -> None:
    """Moves, a mixture, accumulation, an average, keeping the best and a return over some of the moves."""
    (tmp_path / "dog.txt").write_text("a lazy fox and a quick dog do not jump; so much for both!\n" * 40)
    sources = {"fox": {**recipe["data"], "weight": 3.0}, "dog": {"train": str(tmp_path / "dog.txt"), "hold_out": 0.2}}
    recipe |= {"data": {"sources": sources}, "moves": MOVES, "optimizer": {"kind": "muon"}, **TOGETHER[name]}
    recipe["model"]["layers"] = 2
    recipe["evaluation"] = {"every": 2, "keep_best": True}
    recipe["checkpoint"]["every"] = 6
    poison.append(seen_by(recipe, tmp_path / "calm", monkeypatch)[9])  # step 10, behind all moves but back over some
    whole = train(recipe, out=tmp_path / "whole")
    assert [(found.step, found.to) for found in whole.incidents] == [(10, 6)]
    assert [move.step for move in whole.moves] == [5, 7, 8, 9]
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
    train(recipe, out=tmp_path / "parted", resume=True)
    assert lines(tmp_path / "parted") == lines(tmp_path / "whole")
    ends = [found(tmp_path / run) for found in (all_weights, last_checkpoint) for run in ("whole", "parted")]
    assert ends[0] == ends[1]
    assert ends[2] == ends[3]


def all_weights(out: Path) -> dict[str, bytes]:
    found = {name: out / name / "model.safetensors" for name in ("model", "best", "average")}
    return {name: path.read_bytes() for name, path in found.items() if path.exists()}


def last_checkpoint(out: Path) -> tuple[dict[str, Any], bytes]:
    folder = max((out / "checkpoints").glob("step-*"))
    saved = json.loads((folder / "state.json").read_bytes())
    del saved["seconds"]
    return saved, (folder / "model.safetensors").read_bytes()
