"""Training on several sources: exact by source, the same under resume, and refused by key where it cannot work."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lamoid.data.loader import NextTokens, sequential
from lamoid.data.shards import open_shards
from lamoid.errors import InputError
from lamoid.recipes.read_recipe import read_recipe
from lamoid.recipes.train import train, train_recipe
from lamoid.training.hooks import measure_loss
from lamoid.training.meter import MEASURED
from lamoid.training.objectives import OBJECTIVES
from lamoid.training.optimizers import AdamWSpec
from lamoid.training.parameter_groups import trained_parameters
from lamoid.training.state import TrainingState
from lamoid.weights.folder import load_model, open_folder

FOX = "the quick brown fox jumps over the lazy dog, and the dog does not mind.\n" * 40
DOG = "a lazy fox and a quick dog do not jump; so much for both of them!\n" * 40


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "fox.txt").write_text(FOX)
    (tmp_path / "dog.txt").write_text(DOG)
    return {
        "model": {"family": "llama", "width": 16, "layers": 1, "heads": 2, "context": 32},
        "tokenizer": {"kind": "characters", "closed": True},
        "data": {
            "sources": {
                "fox": {"train": str(tmp_path / "fox.txt"), "hold_out": 0.1, "weight": 3.0},
                "dog": {"train": [str(tmp_path / "dog.txt")], "hold_out": 0.2},
            }
        },
        "training": {"steps": 12, "batch": 4, "accumulation": 2},
        "optimizer": {"learning_rate": 0.01},
        "evaluation": {"every": 4},
        "checkpoint": {"every": 6},
        "log": {"every": 1, "tensorboard": False, "curve": False},
    }


def lines(out: Path) -> list[dict[str, float]]:
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in MEASURED} for line in found]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_losses_of_sources_and_terms_add_up_to_the_loss(recipe: dict, tmp_path: Path) -> None:
    train(recipe, out=tmp_path / "run")
    for line in lines(tmp_path / "run"):
        whole, parts = line.get("loss"), {name: value for name, value in line.items() if name.startswith("loss/")}
        if whole is None:
            continue
        assert line["loss/next_token"] == pytest.approx(whole, rel=1e-5)
        # Rows are whole windows of 32 targets but for the ends of documents: 6 of 8 are the fox's.
        assert set(parts) == {"loss/next_token", "loss/fox/next_token", "loss/dog/next_token"}
        mixed = 0.75 * line["loss/fox/next_token"] + 0.25 * line["loss/dog/next_token"]
        assert mixed == pytest.approx(whole, rel=0.01)


def test_the_validation_loss_of_a_source_is_that_of_its_text_alone(recipe: dict, tmp_path: Path) -> None:
    result = train(recipe, out=tmp_path / "run")
    last = next(line for line in reversed(lines(tmp_path / "run")) if "validation_loss" in line)
    model = load_model(open_folder(tmp_path / "run" / "model"), dtype=torch.float32)
    state = TrainingState(model, AdamWSpec().build(trained_parameters(model)), 1)
    counts = {}
    for name in ("fox", "dog"):
        shards = open_shards(tmp_path / "run" / "data" / name / "validation")
        counts[name] = len(shards) - 1
        alone = measure_loss(state, sequential(shards, NextTokens(32), batch=7), OBJECTIVES["causal"])
        assert last[f"validation_loss/{name}/next_token"] == pytest.approx(alone, rel=1e-5)
    whole = sum(counts[name] * last[f"validation_loss/{name}/next_token"] for name in counts) / sum(counts.values())
    assert result.validation_loss == pytest.approx(whole, rel=1e-5)


def test_a_run_of_several_sources_goes_on_bit_for_bit(recipe: dict, tmp_path: Path) -> None:
    def stop(step: int, figures: object) -> None:
        if step == 8:
            raise KeyboardInterrupt

    train(recipe, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_recipe(read_recipe(recipe), tmp_path / "parted", watchers=[stop])
    result = train(recipe, out=tmp_path / "parted", resume=True)
    assert result.resumed_from == 6
    assert contents(tmp_path / "whole" / "model") == contents(tmp_path / "parted" / "model")
    assert lines(tmp_path / "whole") == lines(tmp_path / "parted")
    last = [tmp_path / name / "checkpoints/step-00000012/model.safetensors" for name in ("whole", "parted")]
    assert last[0].read_bytes() == last[1].read_bytes()


def test_other_data_in_one_source_is_refused_when_going_on(recipe: dict, tmp_path: Path) -> None:
    train(recipe, out=tmp_path / "run", set=["training.steps=2"])
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(InputError, match=r"other settings: data.sources.dog.weight"):
        train(recipe, out=tmp_path / "run", set=["training.steps=2", "data.sources.dog.weight=2"], resume=True)


def test_prepared_sources_bring_their_tokenizer(recipe: dict, tmp_path: Path) -> None:
    train(recipe, out=tmp_path / "text", set=["training.steps=3"])
    del recipe["tokenizer"]
    for name, table in recipe["data"]["sources"].items():
        folder = tmp_path / "text" / "data" / name
        table.update(train=str(folder / "train"), validation=str(folder / "validation"), hold_out=0)
    train(recipe, out=tmp_path / "shards", set=["training.steps=3"])
    assert contents(tmp_path / "text" / "model") == contents(tmp_path / "shards" / "model")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.train=a.txt"], r"recipe: data.sources: stands beside train"),
        (["data.sources.fox.weight=0"], r"data.sources.fox.weight: is 0.0, must be above 0"),
        (["data.sources.fox.weight=inf"], r"weight: is inf"),
        (["data.sources.fox.train=[]"], r"train: is empty"),
        (["data.sources.fox.hold_out=1.5"], r"hold_out: is 1.5"),
        (["data.sources.fox.heft=2"], r"data.sources.fox.heft: is no key"),
        (["data.sources.fox=3"], r"data.sources"),
        (['data.sources={"../x" = {train = "a.txt"}}'], r"data.sources: has the name '../x'"),
        (["data.sources.fox.train=nowhere.txt"], r"nowhere.txt: names no file. .* data.sources.fox.train=PATH"),
        (["data.sources.fox.hold_out=0.99999"], r"data.sources.fox.hold_out: of"),
    ],
)
def test_what_cannot_be_mixed_is_refused_by_key(recipe: dict, tmp_path: Path, changes: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train(recipe, out=tmp_path / "run", set=changes)
    assert not (tmp_path / "run").exists()
