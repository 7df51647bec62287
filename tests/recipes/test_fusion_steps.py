"""Intermediate results: used by their names, written beside the output, gone at the end."""

from pathlib import Path

import pytest

from lamoid.errors import InputError
from lamoid.recipes.fusion_file import read_fusion_recipe
from lamoid.recipes.fusion_recipe import FusionRecipe, MemberTable, StepTable
from lamoid.recipes.fusion_steps import run_steps

TOML = """
out = "both"
rule = "linear"
weights = "given"
base = "base"

[[members]]
model = "middle"
weight = 0.5

[[members]]
model = "c"

[[steps]]
name = "middle"
members = [{model = "a", weight = [0.0, 1.0]}, {model = "b"}]

[[tasks]]
name = "prose"
on = ["x.txt", "y.txt"]
"""


def test_each_step_is_run_with_what_came_before_it(tmp_path: Path) -> None:
    (tmp_path / "fusion.toml").write_text(TOML)
    recipe = read_fusion_recipe(tmp_path / "fusion.toml")
    assert recipe.out == str(tmp_path / "both")
    assert recipe.tasks[0].on == [str(tmp_path / "x.txt"), str(tmp_path / "y.txt")]
    done: list[FusionRecipe] = []

    def run(step: FusionRecipe) -> None:
        Path(step.out).mkdir()
        done.append(step)

    with run_steps(recipe, run) as rest:
        assert [member.model for member in done[0].members] == [str(tmp_path / "a"), str(tmp_path / "b")]
        assert done[0].tasks == []
        assert Path(done[0].out).is_dir()
        assert [member.model for member in rest.members] == [done[0].out, str(tmp_path / "c")]
        assert (rest.steps, rest.base, rest.members[0].weight) == ([], str(tmp_path / "base"), 0.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fusion.toml"]


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    steps = [StepTable("s", [MemberTable("a")])]
    recipe = FusionRecipe(str(tmp_path / "out"), [MemberTable("s")], steps=steps)

    def fail(_: FusionRecipe) -> None:
        raise InputError("a", "is no model", "name one")

    with pytest.raises(InputError, match="is no model"), run_steps(recipe, fail):
        raise AssertionError("a step failed and was gone past")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("names", "used", "said"),
    [
        (["s", "s"], "s", "stands twice"),
        (["s"], "t", "used by nothing"),
        (["../s"], "../s", "plain name"),
        ([""], "", "plain name"),
    ],
)
def test_steps_that_make_no_sense_are_named(tmp_path: Path, names: list[str], used: str, said: str) -> None:
    steps = [StepTable(name, [MemberTable("a")]) for name in names]
    recipe = FusionRecipe(str(tmp_path / "out"), [MemberTable(used)], steps=steps)
    with pytest.raises(InputError, match=said), run_steps(recipe, lambda _: None):
        pass


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("out = ", "is not TOML"),
        ('members = [{model = "a"}]', "out.*--out"),
        ('out = "x"', "members"),
        ('out = "x"\nmembers = [{model = "a", wieght = 1}]', r"members\[0\].*wieght"),
        ('out = "x"\nmembers = [{model = 5}]', "members"),
    ],
)
def test_a_file_that_is_no_fusion_is_named_by_key(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "fusion.toml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_fusion_recipe(tmp_path / "fusion.toml")
