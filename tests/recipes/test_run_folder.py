"""The folder of a run: one process at a time, whoever comes in between, and nothing deleted but one's own."""

from pathlib import Path
from typing import Any

import pytest

from lamoid.errors import InputError
from lamoid.recipes import run_folder
from lamoid.recipes.read_recipe import read_recipe
from lamoid.recipes.run_folder import claim_folder
from lamoid.recipes.train import train


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
