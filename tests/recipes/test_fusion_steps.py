"""Intermediate results: used by their names, written beside the output, gone at the end."""

import json
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.errors import InputError
from lamoid.recipes.fuse import fuse, run_fusion
from lamoid.recipes.fusion_file import read_fusion_recipe
from lamoid.recipes.fusion_recipe import FusionRecipe, MemberTable, StepTable, TaskTable
from lamoid.recipes.fusion_steps import check_steps, run_steps
from lamoid.text.training import train_tokenizer
from lamoid.verbs.llama import Llama

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


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models and a text, in the working folder."""
    monkeypatch.chdir(tmp_path)
    texts = [f"document {n}: the {('quick', 'lazy', 'sly')[n % 3]} fox.\n" for n in range(60)]
    (tmp_path / "on.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    tokenizer = train_tokenizer(texts, vocab=270)
    for seed, name in enumerate("ab"):
        model = LanguageModel(Shape(width=8, layers=1, heads=2, kv_heads=2, context=16).spec(tokenizer.vocab))
        initialise(model, seed)
        Llama(model, tokenizer).save(tmp_path / name)
    return tmp_path


def test_steps_are_stored_as_their_members_are_and_only_the_last_result_in_the_dtype_asked_for(place: Path) -> None:
    two = "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}, {model: %s, parameters: {weight: 1}}]\n"
    text = f"name: middle\ndtype: float16\n{two % 'b'}---\ndtype: bfloat16\n{two % 'middle'}"
    (place / "multi.yml").write_text(text)
    result = fuse([place / "multi.yml"], out="out")
    a, b, out = (load_file(place / name / "model.safetensors") for name in ("a", "b", "out"))
    assert set(out) == set(a)
    for name, tensor in out.items():
        assert torch.equal(tensor, (0.75 * a[name] + 0.25 * b[name]).bfloat16())
    assert "dtype of middle" in " ".join(result.notes)
    assert read_fusion_recipe(place / "out" / "fusion.toml", out="again").notes == result.notes[1:2]


def test_a_recipe_that_was_saved_through_a_linked_folder_runs_again(place: Path) -> None:
    (place / "deep" / "er").mkdir(parents=True)
    (place / "link").symlink_to(place / "deep" / "er")
    (place / "linked").symlink_to(place / "b")
    fuse(["a", "linked"], weights="1,3", out="link/out")
    fuse(["link/out/fusion.toml"], out="again")
    out, again = (place / name / "model.safetensors" for name in ("deep/er/out", "again"))
    assert out.read_bytes() == again.read_bytes()


def test_a_step_is_given_the_text_that_its_rule_needs_and_is_not_drawn(place: Path) -> None:
    steps = [StepTable("middle", [MemberTable("a"), MemberTable("b")], rule="fisher")]
    members = [MemberTable("a", 1.0), MemberTable("middle", 1.0)]
    tasks = [TaskTable("text", "on.jsonl")]
    recipe = FusionRecipe("out", members, weights="given", steps=steps, tasks=tasks, between=True)
    result = run_fusion(recipe)
    assert result.fused is not None
    done: list[FusionRecipe] = []
    with run_steps(recipe, done.append) as rest:
        assert (done[0].tasks, done[0].between, rest.between) == (tasks, False, True)
    whole = msgspec.structs.replace(
        recipe, steps=[msgspec.structs.replace(steps[0], members=[MemberTable(x, statistics="s") for x in "ab"])]
    )
    with run_steps(whole, done.append):
        assert done[1].tasks == []


def test_what_a_killed_fusion_with_steps_left_is_cleared_by_one_without(tmp_path: Path) -> None:
    left = [tmp_path / f".out.{purpose}.tmp-0123456789ab" for purpose in ("steps", "statistics")]
    for folder in left:
        (folder / "middle").mkdir(parents=True)
    with run_steps(FusionRecipe(str(tmp_path / "out"), [MemberTable("a")]), lambda _: None):
        assert not list(tmp_path.iterdir())


def test_a_step_that_is_used_before_it_is_made_is_named(tmp_path: Path) -> None:
    first, second = StepTable("first", [MemberTable("second")]), StepTable("second", [MemberTable("a")])
    own = StepTable("own", [MemberTable("a")], base="own")
    last = [MemberTable(name) for name in ("first", "second", "own")]
    for steps, said in (([first, second], r"steps\[0\].*second.*not made"), ([second, own], r"steps\[1\].*own")):
        with pytest.raises(InputError, match=said):
            check_steps(FusionRecipe(str(tmp_path / "out"), last, steps=steps))
    check_steps(FusionRecipe(str(tmp_path / "out"), last, steps=[second, first]))


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
