"""Averages, early stopping, plateaus, groups and the best model in a run by recipe; all exact over a resume."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lamoid.errors import InputError
from lamoid.recipes.read_recipe import read_recipe
from lamoid.recipes.train import train
from lamoid.recipes.training_result import TrainingResult
from lamoid.recipes.training_run import check_run
from lamoid.training.meter import MEASURED
from lamoid.weighing.sum import weighted_sum

TEXT = "the quick brown fox jumps over the lazy dog, and the dog does not mind.\n" * 60


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "text.txt").write_text(TEXT)
    return {
        "model": {"family": "llama", "width": 16, "layers": 1, "heads": 2, "context": 16},
        "tokenizer": {"kind": "characters", "closed": True},
        "data": {"train": str(tmp_path / "text.txt"), "hold_out": 0.1},
        "training": {"steps": 12, "batch": 4},
        "optimizer": {"learning_rate": 0.01},
        "schedule": {"warmup": 2},
        "evaluation": {"every": 2},
        "checkpoint": {"every": 1, "keep": 100},
        "log": {"every": 5, "tensorboard": False, "curve": False},
    }


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def kept_model(out: Path, step: int) -> dict[str, torch.Tensor]:
    """Give the parameters of a checkpoint by the names of a saved model's."""
    held = load_file(out / "checkpoints" / f"step-{step:08}" / "model.safetensors")
    return {name.removeprefix("model/"): value for name, value in held.items() if name.startswith("model/")}


def cut_back(out: Path, step: int, parted: Path) -> None:
    """Copy a run as a kill shortly after ``step`` would have left it."""
    shutil.copytree(out, parted)
    for folder in (parted / "checkpoints").iterdir():
        if int(folder.name.removeprefix("step-")) > step:
            shutil.rmtree(folder)
    for name in ("model", "average", "best"):
        shutil.rmtree(parted / name, ignore_errors=True)
    (parted / "result.json").unlink()


def told(result: TrainingResult) -> dict[str, Any]:
    """Give what a result says that no clock measured, and no place."""
    average = None if result.average is None else (result.average.validation_loss, result.average.weights)
    return {
        "loss": result.loss,
        "steps": result.steps,
        "validation": (result.validation_loss, result.best_validation_loss, result.best_step),
        "average": average,
        "ended_early": result.ended_early,
    }


def figures(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in MEASURED} for line in lines]


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("model", "average", "best"):
        assert (one / name).is_dir() == (other / name).is_dir(), name
        if (one / name).is_dir():
            ours, theirs = weights(one / name), weights(other / name)
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(value, theirs[key]) for key, value in ours.items()), name
    assert figures(one) == figures(other)


CHANGES: dict[str, dict[str, Any]] = {
    "ema": {"average": {"kind": "ema", "decay": 0.8, "start": 3}},
    "last": {"average": {"kind": "last", "every": 3, "keep": 2, "final": True}},
    "by losses": {"average": {"kind": "last", "every": 2, "keep": 3, "weights": "losses", "tau": 0.1}},
    "plateau": {"schedule": {"decay": "plateau", "patience": 0, "least_gain": 0.5, "final": 0.01}},
    "early": {"evaluation": {"every": 2, "patience": 2, "least_gain": 0.3, "keep_best": True}},
    "bfloat16": {"average": {"kind": "ema", "decay": 0.8}, "dtype": "bfloat16", "optimizer": {"kind": "adafactor"}},
    "sgd": {"optimizer": {"kind": "sgd", "groups": [{"paths": ["embedding"], "factor": 0.1}]}},
    "adafactor": {"optimizer": {"kind": "adafactor"}, "evaluation": {"every": 3, "keep_best": True}},
    "muon": {"optimizer": {"kind": "muon"}, "average": {"kind": "ema", "final": True}},
}


@pytest.mark.parametrize(("name", "step"), [*((name, 5) for name in CHANGES), ("by losses", 6), ("early", 6)])
def test_going_on_changes_no_bit(recipe: dict[str, Any], tmp_path: Path, name: str, step: int) -> None:
    changed = {**recipe, **CHANGES[name]}
    whole = train(changed, out=tmp_path / "whole")
    cut_back(tmp_path / "whole", step, tmp_path / "parted")
    if "keep_best" in changed["evaluation"] and whole.best_step is not None and whole.best_step <= step:
        shutil.copytree(tmp_path / "whole" / "best", tmp_path / "parted" / "best")
    resumed = train(changed, out=tmp_path / "parted", resume=True)
    assert told(resumed) == told(whole)
    assert_same_run(tmp_path / "whole", tmp_path / "parted")


def test_the_average_of_the_last_is_the_sum_of_the_checkpoints(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["average"] = {"kind": "last", "every": 3, "keep": 3}
    result = train(recipe, out=tmp_path / "run")
    parts = [kept_model(tmp_path / "run", step) for step in (6, 9, 12)]
    saved = weights(tmp_path / "run" / "average")
    summed = sorted(
        tuple(weighted_sum([part[name] for part in parts], [1 / 3] * 3).flatten().tolist()) for name in parts[0]
    )
    assert sorted(tuple(value.flatten().tolist()) for value in saved.values()) == summed
    assert result.average is not None
    assert result.average.weights == pytest.approx({6: 1 / 3, 9: 1 / 3, 12: 1 / 3})
    assert any("the average of 3 models" in line for line in result.lines())


def test_a_final_average_is_the_runs_model_and_its_loss_is_measured(recipe: dict[str, Any], tmp_path: Path) -> None:
    average = {"kind": "last", "every": 2, "keep": 3}
    beside = train({**recipe, "average": average}, out=tmp_path / "beside")
    final = train({**recipe, "average": {**average, "final": True}}, out=tmp_path / "final")
    train(recipe, out=tmp_path / "plain")
    assert not (tmp_path / "final" / "average").exists()
    ours, theirs = weights(tmp_path / "final" / "model"), weights(tmp_path / "beside" / "average")
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    raw, unchanged = weights(tmp_path / "beside" / "model"), weights(tmp_path / "plain" / "model")
    assert all(torch.equal(value, unchanged[name]) for name, value in raw.items()), "averaging changes no training"
    assert beside.average is not None
    assert final.average is not None
    assert final.average.validation_loss == beside.average.validation_loss != beside.validation_loss
    # Gone on from without a step, the averaged model is measured as it was at the end of its run.
    again = {**recipe, "model": {"from": str(tmp_path / "final" / "model")}, "optimizer": {"learning_rate": 1e-12}}
    del again["tokenizer"]
    again["training"] = {"steps": 1, "batch": 4}
    again["schedule"] = {}
    assert final.average.validation_loss is not None
    assert train(again, out=tmp_path / "again").validation_loss == pytest.approx(
        final.average.validation_loss, abs=1e-4
    )


def test_a_run_whose_loss_ceases_to_fall_ends_early_and_says_so(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["evaluation"] = {"every": 2, "patience": 2, "least_gain": 100.0, "keep_best": True}
    result = train(recipe, out=tmp_path / "run")
    assert result.steps == 6, "the first loss, then two that are not lower by so much"
    assert result.ended_early is not None
    assert "ended early after step 6" in result.ended_early
    assert result.ended_early in result.lines()
    assert result.tokens == 6 * 4 * 16
    assert [line["step"] for line in figures(tmp_path / "run") if "validation_loss" in line] == [2, 4, 6]
    assert train(recipe, out=tmp_path / "run", resume=True) == result
    assert kept_model(tmp_path / "run", 6)
    whole = train({**recipe, "evaluation": {"every": 2}}, out=tmp_path / "whole")
    assert (whole.steps, whole.ended_early) == (12, None)


def test_a_plateau_lowers_the_rate(recipe: dict[str, Any], tmp_path: Path) -> None:
    recipe["schedule"] = {"decay": "plateau", "patience": 0, "least_gain": 100.0, "final": 0.2}
    recipe["log"]["every"] = 1
    train(recipe, out=tmp_path / "run")
    rates = {line["step"]: line["learning_rate"] for line in figures(tmp_path / "run") if "learning_rate" in line}
    wanted = {**dict.fromkeys((1, 2, 3, 4), 1.0), 5: 0.5, 6: 0.5, 7: 0.25, 8: 0.25, 9: 0.2, 10: 0.2, 11: 0.2, 12: 0.2}
    assert rates == pytest.approx({step: 0.01 * share for step, share in wanted.items()})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": {"decay": "plateau"}, "data": "no"}, "schedule.decay: needs validation losses"),
        ({"schedule": {"decay": "plateau"}, "evaluation": {}}, "schedule.decay: .*evaluation.every is 0"),
        ({"evaluation": {"patience": 2}}, "evaluation.patience: .*evaluation.every is 0"),
        ({"evaluation": {"every": 2, "patience": -1}}, "evaluation.patience: is -1"),
        ({"evaluation": {"every": 2, "least_gain": -1.0}}, "evaluation.least_gain: is -1"),
        ({"average": {"kind": "last", "weights": "losses", "every": 3}}, "average.every: is 3, no multiple"),
        ({"average": {"kind": "last"}}, "average: would begin after step 100"),
        ({"average": {"kind": "ema", "start": 12}}, "average: would begin after step 13"),
        ({"average": {"decay": 0.9}}, "average.kind: is missing"),
        ({"average": {"kind": "mean"}}, "average.kind: .*ema, last"),
        ({"average": {"kind": "ema", "decay": 1.0}}, "average.decay: is 1.0"),
        ({"average": {"kind": "ema", "keep": 3}}, "average.keep: is a key of another kind"),
        ({"optimizer": {"kind": "lion"}}, "optimizer.kind: .*adafactor, adamw, muon, sgd"),
        ({"optimizer": {"groups": [{"paths": ["heads.x"]}]}}, r"optimizer.groups\[0\].paths: 'heads.x' matches no"),
        ({"optimizer": {"groups": [{"paths": []}]}}, r"optimizer.groups"),
        ({"optimizer": {"groups": [{"path": ["norm"]}]}}, r"optimizer.groups.*path: is no key"),
        ({"optimizer": {"kind": "sgd", "nesterov": True, "momentum": 0.0}}, "optimizer.nesterov: is set"),
        ({"schedule": {"decay_steps": 12}}, "schedule.decay_steps: makes 12 steps"),
        ({"schedule": {"decay": "none", "decay_steps": 2}}, "schedule.decay_steps: is set"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(
    recipe: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    changed = {**recipe, **changes}
    if changes.get("data") == "no":
        changed["data"] = {"train": recipe["data"]["train"]}
    with pytest.raises(InputError, match=message):
        train(changed, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": {"decay": "plateau"}, "evaluation": {}}, "schedule.decay: .*evaluation.every is 0"),
        ({"evaluation": {"every": 12, "patience": 2}}, "evaluation.patience: .*evaluation.every is 12"),
        ({"average": {"kind": "last", "weights": "losses", "every": 3}}, "average.every: is 3, no multiple"),
    ],
)
def test_losses_that_will_not_be_measured_are_missed_before_the_data_are_read(
    recipe: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    check_run(read_recipe(recipe))
    with pytest.raises(InputError, match=message):
        check_run(read_recipe({**recipe, **changes}))
