"""A model that no machine holds is refused before anything of its size is made."""

from pathlib import Path

import pytest

from lamoid.errors import InputError
from lamoid.recipes.assemble import assemble
from lamoid.recipes.room import check_room
from lamoid.recipes.train import train

SPEC = """
width = 1048576
vocab = 1048576
context = 64
[[blocks]]
repeat = 1000
mixer = { kind = "attention", heads = 8, head_width = 64 }
[heads]
next_token = { kind = "next_token" }
"""


def test_what_fits_is_let_pass_and_what_cannot_fit_is_not() -> None:
    check_room(1000, 4, "it")
    with pytest.raises(InputError, match="has 1,000,000,000,000,000 parameters, it takes 4,000,000,000,000,000 bytes"):
        check_room(10**15, 4, "it")


def test_assembling_and_training_say_it_first(tmp_path: Path) -> None:
    (tmp_path / "big.toml").write_text(SPEC)
    (tmp_path / "text.txt").write_text("some text " * 100)
    with pytest.raises(InputError, match="and this machine has"):
        assemble(tmp_path / "big.toml")
    recipe = {
        "model": {"spec": str(tmp_path / "big.toml")},
        "tokenizer": {"kind": "characters"},
        "data": {"train": str(tmp_path / "text.txt")},
        "training": {"steps": 2},
    }
    with pytest.raises(InputError, match="training it in float32"):
        train(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
