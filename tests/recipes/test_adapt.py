"""Domain adaptation: what the table says is what `evaluate` says, nothing held out is trained on, and it goes on."""

import json
import random
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from lamoid.errors import InputError
from lamoid.recipes.adapt import Adaptation, adapt
from lamoid.recipes.adapt_text import part_domain
from lamoid.recipes.evaluate import evaluate
from lamoid.recipes.runs import runs
from lamoid.recipes.train import train
from lamoid.weights.folder import load_model, open_folder

OLD = ["the", "a", "quick", "brown", "fox", "dog", "jumps", "runs", "over", "under", "lazy"]
NEW = ["let", "x", "y", "be", "one", "zero", "plus", "times", "equals", "sum", "of", "all"]


def sentences(words: list[str], count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choice(words) for _ in range(12)) + "." for _ in range(count)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the texts of two domains, a base trained on the first, and a recipe for going on."""
    place = tmp_path_factory.mktemp("adapt")
    for name, words in (("old", OLD), ("new", NEW)):
        lines = (json.dumps({"text": text}) for text in sentences(words, 300, len(name)))
        (place / f"{name}.jsonl").write_text("\n".join(lines))
    base: dict[str, Any] = {
        "model": {"family": "llama", "width": 32, "layers": 2, "heads": 2, "context": 64},
        "tokenizer": {"kind": "characters"},
        "data": {"train": str(place / "old.jsonl")},
        "training": {"steps": 60, "batch": 8},
        "optimizer": {"learning_rate": 0.01},
        "log": {"tensorboard": False, "curve": False},
    }
    train(base, out=place / "base")
    recipe = {**base, "training": {"steps": 30, "batch": 8}, "optimizer": {"learning_rate": 0.003}}
    for key in ("model", "tokenizer", "data"):
        del recipe[key]
    (place / "recipe.toml").write_text(tomli_w.dumps(recipe))
    return place


def run(place: Path, out: Path, **more: Any) -> Adaptation:
    texts = {"to": [place / "new.jsonl"], "old": [place / "old.jsonl"]}
    return adapt(place / "base" / "model", **texts, out=out, recipe=place / "recipe.toml", **more)


def test_gain_and_forgetting_are_differences_of_what_evaluate_measures(place: Path, tmp_path: Path) -> None:
    found = run(place, tmp_path / "out", methods=["full", "fused"])
    base, full, fused = found.rows
    assert [row.method for row in found.rows] == ["base", "full", "fused"]
    models = [row.model for row in found.rows]
    for name, values in (("new", [row.new for row in found.rows]), ("old", [row.old for row in found.rows])):
        measured = evaluate(models, on=tmp_path / "out" / "text" / name / "held-out.jsonl")
        assert [model.bits_per_byte for model in measured.models] == pytest.approx(values, rel=1e-9)
    for row in found.rows:
        assert row.gain == pytest.approx(base.new - row.new, abs=1e-12)
        assert row.forgetting == pytest.approx(row.old - base.old, abs=1e-12)
    assert full.gain_interval is not None
    assert full.gain_interval[0] > 0.5  # another language of other words
    assert full.forgetting > 0.1
    assert fused.forgetting < full.forgetting
    parameters = open_folder(models[0]).spec.parameters()
    assert [row.trained_parameters for row in found.rows] == [0, parameters, 0]
    halves = [dict(load_model(open_folder(model)).named_parameters()) for model in models]
    for name, value in halves[2].items():
        assert (value - (halves[0][name] + halves[1][name]) / 2).abs().max() < 1e-6
    assert json.loads((tmp_path / "out" / "adapt.json").read_bytes())["rows"][1]["gain"] == full.gain
    assert found.picture is not None
    assert Path(found.picture).read_bytes().startswith(b"\x89PNG")
    listed = runs([tmp_path / "out"]).runs
    assert [(one.name, one.state) for one in listed] == [("out", "adapted"), ("full", "finished")]
    again = run(place, tmp_path / "out", methods=["full", "fused"], resume=True)
    assert again.rows[1].new == full.new
    with pytest.raises(InputError, match=r"text.new: was made with other settings: hold_out\."):
        run(place, tmp_path / "out", hold_out=0.3, resume=True)
    texts = {"to": [place / "new.jsonl"], "old": [place / "new.jsonl"]}
    with pytest.raises(InputError, match=r"text.old: was made with other settings: old\."):
        adapt(place / "base" / "model", **texts, out=tmp_path / "out", recipe=place / "recipe.toml", resume=True)


def test_with_adapters_and_with_replay_less_is_forgotten(place: Path, tmp_path: Path) -> None:
    _, full, lora, replay = run(place, tmp_path / "out", methods=["full", "lora", "replay"], replay=0.5).rows
    assert lora.trained_parameters < full.trained_parameters / 3
    assert lora.gain > 0.0
    assert replay.forgetting < full.forgetting
    assert replay.gain > 0.0


@pytest.mark.parametrize("count", [3, 200])
def test_the_parts_of_a_domain_share_nothing_and_lose_nothing(count: int, tmp_path: Path) -> None:
    texts = sentences(OLD, count, 1)
    if count == 3:
        texts = [" ".join(sentences(OLD, 200, seed)) for seed in range(3)]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    domain = part_domain(tmp_path / "a.jsonl", tmp_path / "parts", share=0.2, culprit="to")
    sides = [
        [json.loads(line)["text"] for line in path.read_text().splitlines()] for path in (domain.train, domain.held_out)
    ]
    if count == 3:
        assert [train + rest for train, rest in zip(*sides, strict=True)] == texts
        assert all(0.15 < len(rest) / len(text) < 0.4 for rest, text in zip(sides[1], texts, strict=True))
    else:
        assert sorted(sides[0] + sides[1]) == sorted(texts)
        assert 0.1 < len(sides[1]) / count < 0.3
        assert not set(sides[0]) & set(sides[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["guess"]}, "methods: is 'guess'. Choose from full, lora, replay, fused"),
        ({"methods": []}, "methods: names none"),
        ({"replay": 1.0}, "replay: is 1.0"),
        ({"hold_out": 0.0}, "hold_out: is 0.0"),
        ({"set": ["training.stepps=3"]}, "training.stepps: is no key"),
        ({"set": ["model.from=elsewhere"]}, "--set model.from=elsewhere: names another model. Name the folder"),
        ({"set": ["data.train=x.txt"]}, "--set data.train=x.txt: names other text. Name the texts with --to"),
        ({"to": ["nowhere.txt"]}, "nowhere.txt"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(change: dict, message: str, place: Path, tmp_path: Path) -> None:
    texts = {"to": [place / "new.jsonl"], "old": [place / "old.jsonl"]}
    with pytest.raises(InputError, match=message):
        adapt(place / "base" / "model", **(texts | change), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("[model]\nwidth = 8", r"own\.toml: model: names another model. Name the folder"),
        ("[data]\ntrain = 'x.txt'", r"own\.toml: data\.train: names other text. Name the texts with --to"),
        ("[data.sources.a]\ntrain = 'x.txt'", r"own\.toml: data\.sources: names other text"),
    ],
)
def test_a_recipe_of_its_own_names_neither_model_nor_text(
    words: str, message: str, place: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.toml").write_text(words)
    texts = {"to": [place / "new.jsonl"], "old": [place / "old.jsonl"]}
    with pytest.raises(InputError, match=message):
        adapt(place / "base" / "model", **texts, out=tmp_path / "out", recipe=tmp_path / "own.toml")
    assert not (tmp_path / "out").exists()


def test_few_steps_have_a_shorter_warm_up(place: Path, tmp_path: Path) -> None:
    """The warm-up is ours where nothing is said of it, and must fit into any number of steps."""
    words = {"to": [place / "new.jsonl"], "old": [place / "old.jsonl"]}
    quick = ["log.tensorboard=false", "log.curve=false", "training.batch=2"]
    for steps, more, warmup in ((1, [], 0), (5, [], 2), (5, ["schedule.warmup=4"], 4)):
        out = tmp_path / f"{steps} {len(more)}"
        adapt(place / "base" / "model", **words, out=out, set=[*quick, f"training.steps={steps}", *more])
        assert tomllib.loads((out / "full" / "recipe.toml").read_text())["schedule"]["warmup"] == warmup
    with pytest.raises(InputError, match=r"schedule\.warmup: is 5, not less than training.steps 5"):
        adapt(place / "base" / "model", **words, out=tmp_path / "x", set=["training.steps=5", "schedule.warmup=5"])
