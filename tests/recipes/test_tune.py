"""Searching settings: it finds what is planted, goes on exactly where it was cut off, and refuses what cannot be."""

import json
from pathlib import Path
from typing import Any

import pytest

from lamoid.errors import InputError
from lamoid.recipes import tune as module
from lamoid.recipes.read_recipe import read_recipe
from lamoid.recipes.runs import runs
from lamoid.recipes.train import train
from lamoid.recipes.training_recipe import TrainingRecipe
from lamoid.recipes.tune import Tuning, tune
from lamoid.recipes.tuning_space import as_overrides, own_values, read_space
from lamoid.recipes.tuning_study import Trial, draw, is_behind
from lamoid.training.guard import TrainingDiverged

pytest.importorskip("optuna")
TEXT = "the quick brown fox jumps over the lazy dog, and the dog does not mind.\n" * 40


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "text.txt").write_text(TEXT)
    return {
        "model": {"family": "llama", "width": 16, "layers": 1, "heads": 2, "context": 16},
        "tokenizer": {"kind": "characters", "closed": True},
        "data": {"train": str(tmp_path / "text.txt"), "hold_out": 0.2},
        "training": {"steps": 12, "batch": 4},
        "optimizer": {"learning_rate": 1e-5},
        "evaluation": {"every": 4},
        "log": {"every": 5, "tensorboard": False, "curve": False},
    }


RATES = ["optimizer.learning_rate=1e-5..3e-2"]


def without_time(found: Tuning) -> list[tuple]:
    return [(t.number, t.values, t.overrides, t.state, t.loss, t.losses) for t in found.trials]


def test_the_search_finds_a_better_rate_and_its_recipe_gives_the_same_loss(recipe: dict, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(TEXT * 15)
    found = tune(recipe, search=RATES, out=tmp_path / "search", runs=6, on=str(other), seed=3)
    assert len(found.trials) == 6
    assert found.trials[0].overrides == []
    assert found.trials[0].loss == found.given
    assert found.given is not None
    assert found.loss == min(trial.loss for trial in found.trials if trial.loss is not None) < found.given
    assert float(found.overrides[0].partition("=")[2]) > 1e-4  # a first rate of 1e-5 learns nothing in 12 steps
    again = train(found.recipe, out=tmp_path / "again")
    assert again.validation_loss == found.loss
    assert found.judged is not None
    assert [model.verdict for model in found.judged.models] == ["worse", "best"]
    assert json.loads((tmp_path / "search" / "tuning.json").read_bytes())["loss"] == found.loss
    assert found.picture is not None
    assert Path(found.picture).read_bytes().startswith(b"\x89PNG")
    assert [run.state for run in runs([tmp_path / "search"]).runs] == ["searched", *["finished"] * 6]
    kept = {path.parent.name for path in (tmp_path / "search" / "runs").glob("*/model")}
    assert kept == {"0000", f"{found.best:04}"}, "the weights of beaten runs are let go"


def test_a_search_that_was_cut_off_goes_on_as_if_it_had_not(
    recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = [*RATES, "optimizer.kind=adamw|muon", "training.batch=2..5"]
    whole = tune(recipe, search=search, out=tmp_path / "whole", runs=9, seed=1)
    tune(recipe, search=search, out=tmp_path / "parts", runs=2, seed=1)
    real = module.train_recipe

    def cut_off(*values: Any, watchers: Any, **rest: Any) -> Any:
        def die(step: int, figures: Any) -> None:
            if step == 8:
                raise KeyboardInterrupt

        return real(*values, watchers=[*watchers, die], **rest)

    monkeypatch.setattr(module, "train_recipe", cut_off)
    with pytest.raises(KeyboardInterrupt):
        tune(recipe, search=search, out=tmp_path / "parts", runs=9, seed=1, resume=True)
    monkeypatch.setattr(module, "train_recipe", real)
    assert without_time(tune(recipe, search=search, out=tmp_path / "parts", runs=9, seed=1, resume=True)) == (
        without_time(whole)
    )
    with pytest.raises(InputError, match="begun with another seed"):
        tune(recipe, search=search, out=tmp_path / "parts", runs=9, seed=2, resume=True)
    with pytest.raises(InputError, match=r"other settings: training\.steps"):
        tune(recipe, search=search, set=["training.steps=9"], out=tmp_path / "parts", seed=1, resume=True)


def test_a_run_that_diverges_is_recorded_and_the_search_goes_on(
    recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.train_recipe

    def diverge(checked: TrainingRecipe, *values: Any, **rest: Any) -> Any:
        result = real(checked, *values, **rest)
        if checked.optimizer.learning_rate == 0.02:
            raise TrainingDiverged(3, 0.02, "loss is nan")
        return result

    monkeypatch.setattr(module, "train_recipe", diverge)
    search = ["optimizer.learning_rate=0.02|1e-3"]
    found = tune(recipe, search=search, out=tmp_path / "search", runs=6, prune=False)
    states = {(trial.overrides[0].partition("=")[2], trial.state) for trial in found.trials[1:]}
    assert ("0.02", "failed") in states
    assert states <= {("0.02", "failed"), ("1e-3", "done")}
    for trial in found.trials:
        left = {path.name for path in (tmp_path / "search" / "runs" / f"{trial.number:04}").iterdir() if path.is_dir()}
        assert ("model" in left) == (trial.number in (0, found.best))
    with pytest.raises(InputError, match=r"all 1 runs failed: .*loss is nan"):
        tune(recipe, search=search, set=["optimizer.learning_rate=0.02"], out=tmp_path / "none", runs=1)


def test_of_runs_that_are_beaten_no_weights_are_left(recipe: dict, tmp_path: Path) -> None:
    train(recipe, out=tmp_path / "base")
    given = {**recipe, "model": {"from": str(tmp_path / "base" / "model")}, "adapter": {"rank": 2}}
    del given["tokenizer"]
    given["evaluation"] = {"every": 4, "keep_best": True}
    given["average"] = {"kind": "ema", "decay": 0.5}
    found = tune(given, search=["optimizer.learning_rate=1e-6|1e-3"], out=tmp_path / "search", runs=5, prune=False)
    for trial in found.trials:
        left = {path.name for path in (tmp_path / "search" / "runs" / f"{trial.number:04}").iterdir() if path.is_dir()}
        kept = {"model", "best", "average", "adapter", "best-adapter", "average-adapter"}
        assert left - {"data"} == (kept if trial.number in (0, found.best) else set())


def test_values_that_do_not_go_together_are_one_run_that_failed(recipe: dict, tmp_path: Path) -> None:
    """Each may be in range: a width between both ends may be no multiple of the heads."""
    found = tune(recipe, search=["model.width=16..32"], out=tmp_path / "search", runs=7, prune=False)
    states = {int(t.overrides[0].partition("=")[2]) % 4: t.state for t in found.trials[1:]}
    assert states == {rest: "failed" if rest else "done" for rest in states}
    assert "failed" in states.values()
    failed = next(trial for trial in found.trials if trial.state == "failed")
    assert "head" in failed.note
    assert failed.losses == []


def test_a_search_goes_on_behind_a_run_that_was_killed_before_its_recipe_was_written(
    recipe: dict, tmp_path: Path
) -> None:
    tune(recipe, search=RATES, out=tmp_path / "search", runs=1)
    (tmp_path / "search" / "runs" / "0001").mkdir()
    assert len(tune(recipe, search=RATES, out=tmp_path / "search", runs=2, resume=True).trials) == 2


def test_no_run_begins_when_the_time_is_up(recipe: dict, tmp_path: Path) -> None:
    found = tune(recipe, search=RATES, out=tmp_path / "search", runs=50, hours=1e-9)
    assert len(found.trials) == 1
    assert any("time was up after 1 runs" in remark for remark in found.remarks)


def test_a_run_is_behind_when_its_loss_is_above_the_median_at_its_step() -> None:
    trials = [Trial(k, {}, [], "done", 1.0, [(10, float(k)), (20, 0.5)], 1.0) for k in range(1, 6)]
    assert is_behind(trials, 9, 10, 3.1)
    assert not is_behind(trials, 9, 10, 3.0)
    assert not is_behind(trials[:4], 9, 10, 100.0), "fewer than five say nothing"
    assert not is_behind(trials, 9, 15, 100.0), "nobody measured there"


def test_a_space_is_read_and_draws_stay_inside(recipe: dict) -> None:
    keys = read_space(["a.rate=1e-4..1e-1", "a.size=2..9", "a.share=-1..1", "a.word=x|y", "a.flat=1e-4..1e-1:linear"])
    assert [key.is_log for key in keys] == [True, False, False, False, False]
    assert [key.is_whole for key in keys] == [False, True, True, False, False]
    trials: list[Trial] = []
    for number in range(20):
        values = draw(keys, trials, 7)
        assert values == draw(keys, trials, 7)
        assert all(key.low <= values[key.key] <= key.high for key in keys if not key.choices)  # pyright: ignore
        assert values["a.word"] in ("x", "y")
        assert isinstance(values["a.size"], int)
        trials.append(Trial(number, values, as_overrides(keys, values), "done", float(number % 5), [], 1.0))
    assert len({trial.values["a.rate"] for trial in trials}) > 10
    own = read_space(["optimizer.learning_rate=1e-6..1", "training.batch=4|8"])
    assert own_values(own, read_recipe(recipe)) == {"optimizer.learning_rate": 1e-5, "training.batch": "4"}
    for outside in ("optimizer.learning_rate=1e-3..1", "optimizer.weight_decay=0..1"):  # 0.1 is no whole number
        assert own_values(read_space([outside]), read_recipe(recipe)) is None


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ([], "search: names no key"),
        (["seed"], "names no key and what it may be"),
        (["seed=1"], "does not give two or more different values"),
        (["seed=1|1"], "does not give two or more different values"),
        (["seed=5..1"], "goes from 5 to 1"),
        (["seed=a..b"], "has an end that is no number"),
        (["optimizer.learning_rate=nan..1"], "has an end that is no number"),
        (["optimizer.learning_rate=0..1:log"], "has no logarithm at 0"),
        (["optimizer.learning_rate=-1..1"], "learning_rate"),
        (["optimizer.rate=1..2"], "optimizer.rate: is no key"),
        (["optimizer.kind=adamw|guess"], "optimizer.kind"),
        (["seed=1|2", "seed=2|3"], "is given twice"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_a_step(
    search: list[str], message: str, recipe: dict, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        tune(recipe, search=search, out=tmp_path / "search")
    assert not (tmp_path / "search").exists()


def test_without_documents_to_measure_on_nothing_is_searched(recipe: dict, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="keeps no documents to measure on"):
        tune(recipe, search=RATES, set=["data.hold_out=0"], out=tmp_path / "search")
    for change, message in [({"runs": 0}, "runs: is 0"), ({"hours": 0.0}, "hours: is 0.0")]:
        with pytest.raises(InputError, match=message):
            tune(recipe, search=RATES, out=tmp_path / "search", **change)
