"""Adapters and frozen parts by a recipe: what is trained changes, what is frozen does not by a bit, peft reads it."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from lamoid.errors import InputError
from lamoid.recipes.runs import runs
from lamoid.recipes.train import train
from lamoid.verbs.llama import load
from lamoid.weights.folder import load_model, open_folder

FILE = "adapter_model.safetensors"
TEXT = "the quick brown fox jumps over the lazy dog, and the dog does not mind.\n" * 40
OTHER = "a lazy quick dog minds the fox. does it jump over brown dogs? it does not.\n" * 40


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a small model of one text."""
    home = tmp_path_factory.mktemp("base")
    (home / "text.txt").write_text(TEXT + OTHER)
    train(
        {
            "model": {"family": "llama", "width": 32, "layers": 2, "heads": 2, "context": 32},
            "tokenizer": {"kind": "characters", "closed": True},
            "data": {"train": str(home / "text.txt")},
            "training": {"steps": 12, "batch": 4},
            "log": {"tensorboard": False, "curve": False},
        },
        out=home / "run",
    )
    return home / "run" / "model"


@pytest.fixture
def recipe(base: Path, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "other.txt").write_text(OTHER)
    return {
        "model": {"from": str(base)},
        "data": {"train": str(tmp_path / "other.txt"), "hold_out": 0.1},
        "training": {"steps": 20, "batch": 4},
        "optimizer": {"learning_rate": 0.02},
        "evaluation": {"every": 10, "keep_best": True},
        "checkpoint": {"every": 8, "keep": 2},
        "log": {"tensorboard": False, "curve": False},
    }


def logits(folder: Path, ids: torch.Tensor, **words: Any) -> torch.Tensor:
    with torch.no_grad():
        return load(folder, **words).model(ids)


def error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora"])
def test_an_adapter_is_trained_beside_a_model_that_stays(kind: str, recipe: dict, base: Path, tmp_path: Path) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    words = {"kind": kind, "rank": 4, "targets": ["mixer.*", "up"], "also": ["norm"], "name": "other"}
    result = train({**recipe, "adapter": words}, out=tmp_path / "run")
    out = tmp_path / "run"
    assert result.model == str(out / "model")
    assert result.validation_loss < result.loss + 1.0
    ids = torch.randint(0, open_folder(base).spec.vocab, (2, 16))
    plain, wanted = logits(base, ids), logits(out / "model", ids)
    assert error(plain, wanted) > 1e-2
    assert error(logits(base, ids, adapters=[out / "adapter"]), wanted) < 1e-5
    theirs = transformers.AutoModelForCausalLM.from_pretrained(base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.PeftModel.from_pretrained(theirs, out / "adapter").eval()
    assert error(theirs(input_ids=ids).logits.detach(), wanted) < 1e-5
    assert (out / "best-adapter" / "adapter_config.json").is_file()

    held = load_file(next((out / "checkpoints").glob("*20")) / "model.safetensors")
    names = {name.removeprefix("model/") for name in held if name.startswith("model/") and ".adapters." not in name}
    assert names == {"norm.weight"}, "the base is not held"
    before, after = (dict(load_model(open_folder(folder)).named_parameters()) for folder in (base, out / "model"))
    changed = {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"norm", "query", "key", "value", "output", "up"}, "all else is the base's to the bit"
    states = {name.split("/")[1] for name in held if name.startswith("optimizer/")}
    assert not any("embedding" in name for name in states)


def test_a_run_with_an_adapter_goes_on_to_the_bit(recipe: dict, base: Path, tmp_path: Path) -> None:
    words = {**recipe, "adapter": {"kind": "dora", "rank": 2, "dropout": 0.2, "merge": False}}
    whole = train(words, out=tmp_path / "whole")
    assert whole.model == str(tmp_path / "whole" / "adapter")
    assert not (tmp_path / "whole" / "model").exists()
    short = {**words, "training": {"steps": 20, "batch": 4}}
    cut = tmp_path / "cut"
    train(short, out=cut)
    for path in sorted((cut / "checkpoints").glob("step-*20")):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    for file in (cut / "adapter").iterdir():
        file.unlink()
    (cut / "adapter").rmdir()
    again = train(short, out=cut, resume=True)
    assert again.resumed_from == 16
    first, second = (load_file(tmp_path / run / "adapter" / "adapter_model.safetensors") for run in ("whole", "cut"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    moved = tmp_path / "moved"
    shutil.copytree(base, moved)
    train({**short, "model": {"from": str(moved)}}, out=tmp_path / "other")
    (moved / "generation_config.json").unlink()
    for file in moved.glob("*manifest*"):
        file.unlink()
    weights = load_file(moved / "model.safetensors")
    save_file({name: value + 1e-3 for name, value in weights.items()}, moved / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="base"):
        train({**short, "model": {"from": str(moved)}}, out=tmp_path / "other", resume=True)
    with pytest.raises(InputError, match=r"adapter\.rank"):
        train({**short, "adapter": {**short["adapter"], "rank": 3}}, out=cut, resume=True)


@pytest.mark.parametrize(
    ("table", "changed"),
    [
        ({"freeze": {"paths": ["embedding", "blocks.0"]}}, {"blocks.1", "norm"}),
        ({"train_only": {"paths": ["blocks.*.mixer.query", "norm.weight"]}}, {"blocks.0", "blocks.1", "norm"}),
    ],
)
def test_frozen_parts_stay_to_the_bit(table: dict, changed: set[str], recipe: dict, base: Path, tmp_path: Path) -> None:
    train({**recipe, **table}, out=tmp_path / "run")
    before, after = (dict(load_model(open_folder(f)).named_parameters()) for f in (base, tmp_path / "run" / "model"))
    found = {name for name in before if not torch.equal(before[name], after[name])}
    assert {".".join(name.split(".")[: 2 if name.startswith("blocks") else 1]) for name in found} == changed
    if "train_only" in table:
        assert {name.split(".", 2)[2] for name in found if name.startswith("blocks")} == {"mixer.query.weight"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"adapter": {"rank": 0}}, "rank"),
        ({"adapter": {"rank": 10**9}}, "rank"),
        (
            {"adapter": {"rank": 33}},
            r"adapter\.rank: is 33, above 32, the smaller side of blocks\.0\.mixer\.query\. Lower",
        ),
        ({"adapter": {"alpha": float("inf")}}, "alpha"),
        ({"adapter": {"dropout": 1.0}}, "dropout"),
        ({"adapter": {"targets": []}}, "targets"),
        ({"adapter": {"targets": ["(a+)+$"]}}, r"\(a\+\)\+\$"),
        ({"adapter": {"targets": ["q_proj"]}}, "query"),
        ({"adapter": {"name": "../x"}}, "name"),
        ({"adapter": {"name": ""}}, "name"),
        ({"adapter": {"kind": "adalora"}}, "adalora"),
        ({"adapter": {"also": ["nowhere"]}}, "nowhere"),
        ({"adapter": {}, "freeze": {"paths": ["norm"]}}, "freeze"),
        ({"adapter": {}, "moves": [{"kind": "untie", "step": 2, "path": "heads.next_token"}]}, "moves"),
        ({"freeze": {"paths": ["*"]}}, "nothing"),
        ({"freeze": {"paths": ["blocks.7"]}}, r"blocks\.7"),
        ({"freeze": {"paths": ["a b"]}}, "a b"),
        ({"train_only": {"paths": []}}, "paths"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    words: dict, told: str, recipe: dict, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told):
        train({**recipe, **words}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_adapter_needs_a_model(recipe: dict, tmp_path: Path) -> None:
    words = {**recipe, "model": {"family": "llama", "width": 32}, "adapter": {}}
    with pytest.raises(InputError, match=r"model\.from"):
        train(words, out=tmp_path / "run")


def test_a_model_and_what_is_trained_of_it_are_counted_apart(recipe: dict, base: Path, tmp_path: Path) -> None:
    result = train({**recipe, "adapter": {"rank": 32}, "log": {**recipe["log"], "every": 5}}, out=tmp_path / "run")
    assert result.parameters == open_folder(base).spec.parameters() == open_folder(result.model).spec.parameters()
    written = sum(tensor.numel() for tensor in load_file(tmp_path / "run" / "adapter" / FILE).values())
    assert result.trained_parameters == written
    assert f"{result.parameters} parameters ({written} trained), 20 steps" in "\n".join(result.lines())
    assert msgspec.structs.replace(result, remarks=["something"]).lines()[-2:] == [
        "something",
        f"go on: {result.go_on}",
    ]
    assert runs([tmp_path / "run"]).runs[0].parameters == result.parameters
    (tmp_path / "run" / "result.json").unlink()
    assert runs([tmp_path / "run"]).runs[0].parameters == result.parameters
