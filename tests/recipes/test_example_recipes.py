"""The ready recipes on the text they are made for: they run, and start and size are as they say.

How far they come in all their steps is measured by running them whole; the figures stand in docs/curves.
"""

import json
import math
import tomllib
from pathlib import Path

import pytest

from lamoid.errors import InputError
from lamoid.recipes.train import train

EXAMPLES = Path(__file__).parents[2] / "examples" / "recipes"


def moved_forward(path: Path, step: int) -> list[str]:
    """Give the override that has all moves of a recipe made after ``step``, so that a short run has them too."""
    moves = tomllib.loads(path.read_text(encoding="utf-8")).get("moves", [])
    tables = [
        ", ".join(f"{key} = {json.dumps(value)}" for key, value in {**move, "step": step}.items()) for move in moves
    ]
    return [f"moves=[{', '.join(f'{{{table}}}' for table in tables)}]"] if moves else []


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("shakespeare_*.toml")), ids=lambda path: path.stem)
def test_an_example_recipe_begins_to_learn_shakespeare(path: Path, data_folder: Path, tmp_path: Path) -> None:
    text = f"data.train={data_folder / 'tinyshakespeare' / 'input.txt'}"
    short = ["training.steps=20", "schedule.warmup=5", "data.hold_out=0.005", "log.every=1", "log.tensorboard=false"]
    result = train(path, out=tmp_path / "run", set=[text, *short, *moved_forward(path, 10)])
    assert result.parameters <= 820_000
    assert result.validation_loss is not None
    assert result.validation_loss < math.log(66) - 0.5  # 66 equally likely tokens are where it starts


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("shakespeare_*.toml")), ids=lambda path: path.stem)
def test_without_its_text_an_example_says_how_to_give_one(path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tinyshakespeare.txt: names no file. Give the text with --set data.train="):
        train(path, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
