"""What rules need of members, measured on each member's own text: against statistics that were measured apart."""

import json
from pathlib import Path
from typing import Any

import pytest

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.cli.main import run
from lamoid.errors import InputError
from lamoid.evaluation.units import halve
from lamoid.recipes.fuse import fuse
from lamoid.recipes.fusion_statistics import statistics
from lamoid.text.training import train_tokenizer
from lamoid.verbs.llama import Llama

TEXTS = {
    "a": [f"document {n}: the {('quick', 'lazy', 'sly')[n % 3]} fox jumps over {n * 7} dogs.\n" for n in range(40)],
    "b": [f"{n * n} is the square of {n}, said {('she', 'he', 'it')[n % 3]}; so it is.\n" for n in range(40)],
}
ALL = "was measured on all texts"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models, a.jsonl and b.jsonl with a text for each, and a-half.jsonl and b-half.jsonl with what is measured."""
    monkeypatch.chdir(tmp_path)
    tokenizer = train_tokenizer([*TEXTS["a"], *TEXTS["b"]], vocab=270)
    for seed, (name, texts) in enumerate(TEXTS.items()):
        model = LanguageModel(Shape(width=16, layers=1, heads=2, context=32).spec(tokenizer.vocab))
        initialise(model, seed, deviation=0.2)
        Llama(model, tokenizer).save(Path(name))
        for file, part in ((name, texts), (f"{name}-half", halve(texts, name="")[0])):
            Path(f"{file}.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in part))
    return tmp_path


def weights_of(folder: str) -> bytes:
    return Path(folder, "model.safetensors").read_bytes()


@pytest.mark.parametrize(("rule", "kind"), [("fisher", "fisher"), ("regmean", "gram")])
def test_each_member_is_measured_on_the_half_of_its_own_text(rule: str, kind: str) -> None:
    arguments: dict[str, Any] = {"rule": rule, "weights": "1,1"}
    for name in "ab":
        statistics(Path(name), on=f"{name}-half.jsonl", out=Path(f"of-{name}"), kind=kind)
    fuse(["a", "b"], out="given", statistics=["of-a", "of-b"], **arguments)
    tasks = ["a=a.jsonl", "b=b.jsonl"]
    own = fuse(["a", "b"], out="own", task=tasks, member_on=["a.jsonl", "b.jsonl"], **arguments)
    shared = fuse(["a", "b"], out="shared", task=tasks, **arguments)
    assert weights_of("own") == weights_of("given")
    assert weights_of("own") != weights_of("shared")
    assert not any(ALL in note or "also measured on" in note for note in own.notes)
    assert any(f"What {rule} needs {ALL} for every member" in note for note in shared.notes)


def test_a_recipe_names_the_texts_and_so_does_what_it_saves() -> None:
    words = ["--member-on", "a.jsonl", "--member-on", "b.jsonl", "--rule", "regmean_plusplus", "--weights", "1,2"]
    assert run(["fuse", "a", "b", "--out", "words", *words]) == 0
    Path("deep").mkdir()
    Path("deep/recipe.toml").write_text(
        'rule = "regmean_plusplus"\nweights = "given"\n[[members]]\nmodel = "../a"\nweight = 1.0\non = "../a.jsonl"\n'
        '[[members]]\nmodel = "../b"\nweight = 2.0\non = ["../b.jsonl"]\n'
    )
    fuse(["deep/recipe.toml"], out="recipe")
    fuse(["recipe/fusion.toml"], out="again")
    fuse(["a", "b"], out="turned", rule="regmean_plusplus", weights="1,2", member_on=["b.jsonl", "a.jsonl"])
    assert weights_of("words") == weights_of("recipe") == weights_of("again") != weights_of("turned")


def test_a_step_measures_its_members_on_their_own_texts_and_the_verdict_knows() -> None:
    Path("recipe.toml").write_text(
        'weights = "uniform"\nmembers = [{model = "a"}, {model = "middle"}]\n'
        '[[tasks]]\nname = "t"\non = "b.jsonl"\njudge = "a.jsonl"\n'
        '[[steps]]\nname = "middle"\nrule = "fisher"\n'
        'members = [{model = "a", on = "a.jsonl"}, {model = "b", on = "b.jsonl"}]\n'
    )
    result = fuse(["recipe.toml"], out="out")
    assert any("of what t is judged on was also measured on" in note for note in result.notes)


def test_a_member_without_a_text_of_its_own_is_named() -> None:
    Path("recipe.toml").write_text(
        'rule = "fisher"\nweights = "uniform"\nmembers = [{model = "a", on = "a.jsonl"}, {model = "b"}]\n'
    )
    result = fuse(["recipe.toml"], on="b.jsonl", out="out")
    assert any(f"What fisher needs {ALL} for b: " in note for note in result.notes)
    with pytest.raises(InputError, match=r"members\[1\]\.statistics: is not given, which fisher needs"):
        fuse(["recipe.toml"], out="none")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"rule": "linear"}, r"members\[0\].on: is given, and linear measures nothing of members"),
        ({"statistics": ["of-a", "of-a"]}, r"members\[0\].on: is given beside statistics"),
        ({"member_on": ["a.jsonl"]}, "member_on: are 1 for 2 members"),
        ({"member_on": ["a.jsonl", "none.jsonl"]}, "none.jsonl"),
    ],
)
def test_what_cannot_be_measured_is_refused_before(options: dict[str, Any], problem: str) -> None:
    arguments = {"rule": "fisher", "weights": "1,1", "member_on": ["a.jsonl", "b.jsonl"], **options}
    with pytest.raises(InputError, match=problem):
        fuse(["a", "b"], out="out", **arguments)
    assert not Path("out").exists()
