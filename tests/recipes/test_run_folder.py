"""The folder of a run: one process at a time, whoever comes in between, and nothing deleted but one's own."""

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from lamoid.errors import InputError
from lamoid.recipes import run_folder
from lamoid.recipes.read_recipe import read_recipe
from lamoid.recipes.run_folder import claim_folder
from lamoid.recipes.train import train
from lamoid.weights.durable import MANIFEST, durable_folder


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "text.txt").write_text("the dog does not mind the quick brown fox.\n" * 20)
    return {
        "model": {"family": "llama", "width": 16, "layers": 1, "heads": 2, "context": 16},
        "tokenizer": {"kind": "characters", "closed": True},
        "data": {"train": str(tmp_path / "text.txt"), "hold_out": 0.1},
        "training": {"steps": 30, "batch": 2},
        "log": {"tensorboard": False, "curve": False},
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_second_starter_changes_nothing_of_the_first(
    recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    real = run_folder.fcntl.flock
    first: list[dict[str, bytes]] = []

    def late(descriptor: int, operation: int) -> None:
        if not first:
            first.append({})
            train(recipe, out=out, set=["training.steps=6"])  # a whole run, before the second one has its lock
            first.append(contents(out / "model") | {"recipe.toml": (out / "recipe.toml").read_bytes()})
        real(descriptor, operation)

    monkeypatch.setattr(run_folder.fcntl, "flock", late)
    with pytest.raises(InputError, match="holds something already"):
        train(recipe, out=out, set=["training.steps=7"])
    assert contents(out / "model") | {"recipe.toml": (out / "recipe.toml").read_bytes()} == first[1]


def test_a_folder_given_up_while_another_waits_for_it_is_made_anew(
    recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    real = run_folder.fcntl.flock
    calls: list[int] = []

    def late(descriptor: int, operation: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            out.rmdir()
        real(descriptor, operation)

    monkeypatch.setattr(run_folder.fcntl, "flock", late)
    checked = read_recipe(recipe)
    with claim_folder(out, checked, resume=False) as claim:
        assert claim.is_made
        with pytest.raises(InputError, match="in use"), claim_folder(out, checked, resume=True):
            pass
    assert (out / "recipe.toml").is_file()


def test_a_refused_run_takes_away_only_what_it_made(recipe: dict, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    short = {**recipe, "data": {"train": str(tmp_path / "text.txt"), "hold_out": 0.9999}}
    with pytest.raises(InputError, match=r"data.hold_out|window"):
        train(short, out=out)
    assert list(out.iterdir()) == []
    checked = read_recipe(recipe)
    with claim_folder(out, checked, resume=False) as claim:
        (out / "mine.txt").write_text("mine")
        with pytest.raises(InputError, match="no input"), claim.given_up_on_refusal():
            raise InputError("it", "is no input", "give another")
    assert contents(out) == {"mine.txt": b"mine"}


def test_a_link_that_leads_nowhere_is_refused(recipe: dict, tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="link that leads nowhere"):
        train(recipe, out=tmp_path / "run")


def test_a_run_of_before_a_key_goes_on_if_the_key_says_what_was_done_then(recipe: dict, tmp_path: Path) -> None:
    """A key, a table and a kind that an earlier version had not; what stands there counts, not today's default."""
    out = tmp_path / "run"
    train(recipe, out=out)
    (out / "result.json").unlink()
    shutil.rmtree(out / "model")
    tree = tomllib.loads((out / "recipe.toml").read_text())
    for table in ("guard", "compute", "moves"):
        del tree[table]
    for table, key in (("data", "kind"), ("evaluation", "least_gain"), ("optimizer", "groups")):
        del tree[table][key]
    (out / "recipe.toml").write_text(tomli_w.dumps(tree))
    folder = max((out / "checkpoints").iterdir())
    files = contents(folder)
    saved = json.loads(files["state.json"])
    saved["identity"]["recipe"] = {key: value for key, value in tree.items() if key not in ("checkpoint", "log")}
    with durable_folder(folder, overwrite=True) as draft:
        for name in files.keys() - {MANIFEST}:
            draft.write(name, json.dumps(saved).encode() if name == "state.json" else files[name])
    shutil.copytree(out, tmp_path / "other")
    steps = recipe["training"]["steps"]
    assert train(recipe, out=out, resume=True).resumed_from == steps
    assert tomllib.loads((out / "recipe.toml").read_text())["guard"]["on_spike"] == "ignore"
    with pytest.raises(InputError, match=r"other settings: guard\.on_spike\. Set"):
        train(recipe, out=tmp_path / "other", resume=True, set=["guard.on_spike=skip"])
    tree["training"]["bacth"] = 3
    (tmp_path / "other" / "recipe.toml").write_text(tomli_w.dumps(tree))
    with pytest.raises(InputError, match=r"other settings: .*training\.bacth"):
        train(recipe, out=tmp_path / "other", resume=True)


def test_more_steps_are_another_run_and_the_cure_says_which(recipe: dict, tmp_path: Path) -> None:
    train(recipe, out=tmp_path / "run")
    with pytest.raises(InputError, match=r"training\.steps\. .*model\.from = .*run/model"):
        train(recipe, out=tmp_path / "run", set=["training.steps=99"], resume=True)
