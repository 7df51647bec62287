"""Every objective on plain text from a recipe to model folders: end to end, resumed bit for bit, refused by name."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.spec import encode_spec
from lamoid.errors import InputError
from lamoid.recipes.progress import Progress
from lamoid.recipes.train import train
from lamoid.text.tokenizer import Tokenizer
from lamoid.training.meter import MEASURED
from lamoid.weights.folder import load_model, open_folder

WORDS = ("one", "two", "three", "four", "many", "no")
TEXT = "".join(f"{w} quick brown fox jumps over {v} dogs. The {v} dogs do not mind!\n\n" for w in WORDS for v in WORDS)
KINDS = {
    "prefix": ("llama", {}, "LlamaForCausalLM", {"next_token"}),
    "masked": ("bert", {"mask": True}, "BertForMaskedLM", {"masked"}),
    "next_sentence": ("bert", {"mask": True}, "BertForPreTraining", {"masked", "next_sentence"}),
    "sentence_order": ("bert", {"mask": True}, "BertForPreTraining", {"masked", "sentence_order"}),
    "span": ("t5", {"sentinels": 8}, "T5ForConditionalGeneration", {"next_token"}),
    "replaced": ("electra", {"mask": True}, "ElectraForPreTraining", {"masked", "replaced"}),
}
"""By objective: a family, what its tokenizer needs, the class that transformers reads, and the terms."""


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "text.txt").write_text(TEXT)
    return {
        "model": {"width": 16, "layers": 2, "heads": 2, "context": 24},
        "tokenizer": {"kind": "bytes", "vocab": 300},
        "data": {"train": str(tmp_path / "text.txt"), "hold_out": 0.2, "separator": "\n\n"},
        "training": {"steps": 12, "batch": 4},
        "optimizer": {"learning_rate": 0.01},
        "evaluation": {"every": 6, "keep_best": True},
        "checkpoint": {"every": 4},
        "log": {"every": 2, "tensorboard": False, "curve": False},
    }


def of_kind(recipe: dict[str, Any], kind: str, **more: Any) -> dict[str, Any]:
    family, tokenizer, _, _ = KINDS[kind]
    model, learnt = {**recipe["model"], "family": family}, {**recipe["tokenizer"], **tokenizer}
    return {**recipe, "model": model, "tokenizer": learnt, "objective": {"kind": kind, **more}}


def figures(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in lines]


def folders(out: Path) -> dict[str, bytes]:
    models = [path.parent for path in sorted(out.glob("*/model.safetensors"))]
    return {f"{model.name}/{path.name}": path.read_bytes() for model in models for path in sorted(model.iterdir())}


class Kill(Progress):
    """Ends the process's work at a step, as Ctrl-C does."""

    def __init__(self, at: int) -> None:
        super().__init__(io.StringIO())
        self.left: float = at

    def advance(self, n: float = 1, **figures: float | str) -> None:
        if "loss" in figures:
            self.left -= n
            if self.left <= 0:
                raise KeyboardInterrupt


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(kind: str, recipe: dict[str, Any], tmp_path: Path) -> None:
    tree = of_kind(recipe, kind)
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    result = train(tree, out=whole)
    with pytest.raises(KeyboardInterrupt):
        train(tree, out=parted, progress=Kill(6))
    assert train(tree, out=parted, resume=True).resumed_from in (4, 5, 6)
    assert folders(whole) == folders(parted)
    assert {"model", "best"} <= {name.partition("/")[0] for name in folders(whole)}
    assert figures(whole) == figures(parted)
    measured = next(line for line in figures(whole) if "validation_loss" in line)
    assert {key.partition("/")[2] for key in measured if "/" in key} == KINDS[kind][3]
    assert result.validation_loss is not None


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "prefix"])
def test_transformers_reads_what_was_trained(kind: str, recipe: dict[str, Any], tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    train(of_kind(recipe, kind), out=tmp_path / "run", set=["training.steps=2"])
    for name in ("model", "generator") if kind == "replaced" else ("model",):
        folder = tmp_path / "run" / name
        named = KINDS[kind][2] if name == "model" else "ElectraForMaskedLM"
        theirs, report = getattr(transformers, named).from_pretrained(folder, output_loading_info=True)
        assert not report["missing_keys"]
        assert not report["unexpected_keys"]
        assert type(theirs).__name__ == json.loads((folder / "config.json").read_text())["architectures"][0]
        assert load_model(open_folder(folder)).spec.vocab == theirs.config.vocab_size
        assert len(transformers.AutoTokenizer.from_pretrained(folder)) == Tokenizer.read(folder).vocab
    if kind == "span":
        assert open_folder(tmp_path / "run" / "model").generation["decoder_start_token_id"] == 0  # <pad>, as in T5


def test_a_prefix_is_seen_by_a_model_of_lamoids_own(recipe: dict[str, Any], tmp_path: Path) -> None:
    train(of_kind(recipe, "prefix"), out=tmp_path / "run", set=["training.steps=2"])
    model = load_model(open_folder(tmp_path / "run" / "model"))
    assert {block.mixer.sees.__class__.__name__ for block in model.spec.blocks} == {"PrefixSpec"}


def test_the_generator_shares_its_rows_with_the_model(recipe: dict[str, Any], tmp_path: Path) -> None:
    result = train(of_kind(recipe, "replaced", generator=0.5), out=tmp_path / "run")
    model, generator = (load_model(open_folder(tmp_path / "run" / name)) for name in ("model", "generator"))
    ours, theirs = model.embedding, generator.embedding
    for table in ("tokens", "positions", "types"):
        assert torch.equal(getattr(ours, table).weight, getattr(theirs, table).weight)
    assert generator.spec.width == model.spec.width // 2
    shared = sum(getattr(ours, table).weight.numel() for table in ("tokens", "positions", "types"))
    assert result.parameters == model.spec.parameters() + generator.spec.parameters() - shared
    assert (tmp_path / "run" / "best-generator" / "config.json").is_file()


def test_training_goes_on_from_a_folder(recipe: dict[str, Any], tmp_path: Path) -> None:
    train(of_kind(recipe, "replaced"), out=tmp_path / "first")
    tree = of_kind(recipe, "replaced")
    tree["model"] = {"from": str(tmp_path / "first" / "model")}
    del tree["tokenizer"]
    train(tree, out=tmp_path / "second", set=["optimizer.learning_rate=1e-30", "optimizer.weight_decay=0.0"])
    before, after = (load_model(open_folder(tmp_path / name / "model")) for name in ("first", "second"))
    for name, parameter in before.named_parameters():
        torch.testing.assert_close(after.get_parameter(name), parameter)


@pytest.mark.parametrize(
    ("kind", "change", "told"),
    [
        ("masked", {"model": {"family": "llama"}}, 'model: sees no later tokens.*family = "bert"'),
        ("masked", {"tokenizer": {"mask": False}}, "tokenizer: has no mask token.*tokenizer.mask = true"),
        ("masked", {"objective": {"share": 1.5}}, "objective.share: is 1.5, must be above 0 and below 1"),
        ("masked", {"objective": {"mask": 0.9, "random": 0.2}}, "objective.mask, random: are 0.9 and 0.2"),
        ("masked", {"objective": {"shares": 0.1}}, "objective.shares.*objective.share"),
        ("masked", {"model": {"family": "t5"}}, "model: reads the stream 'source'"),
        ("next_sentence", {"data": {"separator": "never"}}, "has one document only.*data.separator"),
        ("next_sentence", {"model": {"context": 4}}, "context: is 4, too short for a pair"),
        ("span", {"model": {"family": "bert"}}, "sees later tokens"),
        ("span", {"model": {"family": "gpt2"}}, 'model: reads no source.*family = "t5"'),
        ("span", {"tokenizer": {"sentinels": 0}}, "has 0 sentinels, and a text of .* tokenizer.sentinels ="),
        ("span", {"objective": {"density": 0.0}}, "objective.density: is 0.0"),
        ("replaced", {"model": {"family": "gpt2"}}, "model: sees no later tokens"),
        ("replaced", {"model": {"family": "t5"}}, "model: reads the stream 'source'"),
        ("replaced", {"objective": {"generator": 0.0}}, "objective.generator: is 0.0"),
        ("replaced", {"moves": [{"kind": "widen", "path": "blocks.0.feedforward", "hidden": 80, "step": 2}]}, "moves"),
        ("replaced", {"freeze": {"paths": ["norm"]}}, "freeze: is for a model that is trained alone"),
        ("replaced", {"train_only": {"paths": ["norm"]}}, "train_only: is for a model that is trained alone"),
        ("prefix", {"model": {"family": "bert"}}, "sees later tokens"),
    ],
)
def test_what_cannot_be_learnt_is_refused_before_anything_starts(
    kind: str, change: dict[str, Any], told: str, recipe: dict[str, Any], tmp_path: Path
) -> None:
    tree = of_kind(recipe, kind)
    for table, entries in change.items():
        tree[table] = {**tree.get(table, {}), **entries} if isinstance(entries, dict) else entries
    with pytest.raises(InputError, match=told):
        train(tree, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_every_source_must_have_something_to_pair_with(recipe: dict[str, Any], tmp_path: Path) -> None:
    """A source of little weight, which the first steps may not read, is looked at too."""
    text = str(tmp_path / "text.txt")
    sources = {"a": {"train": text, "separator": "\n\n"}, "b": {"train": text, "weight": 0.001}}
    with pytest.raises(InputError, match=r"data.b.train: has one document only"):
        train(of_kind({**recipe, "data": {"sources": sources}}, "next_sentence"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(of_kind({**recipe, "data": {"sources": sources}}, "sentence_order"), out=tmp_path / "run")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("prefix", 'has no mixer that sees a prefix.*sees = "prefix"'),
        ("next_sentence", "have none that tells of a pair"),
        ("replaced", "does not give one number for each token"),
    ],
)
def test_a_written_model_must_have_what_it_needs(kind: str, told: str, recipe: dict[str, Any], tmp_path: Path) -> None:
    """A model described by its size gets it; one that is written out is taken at its word."""
    family = "llama" if kind == "prefix" else "bert"
    spec = Shape(family=family, width=16, layers=1, heads=2, context=24).spec(300)
    (tmp_path / "spec.json").write_bytes(encode_spec(spec))
    tree = of_kind(recipe, kind) | {"model": {"spec": str(tmp_path / "spec.json")}}
    with pytest.raises(InputError, match=told):
        train(tree, out=tmp_path / "run")


@pytest.mark.parametrize("name", ["bert", "electra", "t5"])
def test_an_example_recipe_begins_to_learn(name: str, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT * 8)
    path = Path(__file__).parents[2] / "examples" / "recipes" / f"{name}.toml"
    short = ["training.steps=30", "schedule.warmup=2", "log.tensorboard=false", "log.curve=false", "data.hold_out=0.2"]
    small = ["model.width=32", "model.layers=1", "training.batch=8", "log.every=5"]
    train(path, out=tmp_path / "run", set=[f"data.train={tmp_path / 'text.txt'}", *short, *small])
    losses = [line["loss"] for line in figures(tmp_path / "run") if "loss" in line]
    assert losses[-1] < losses[0]
    with pytest.raises(InputError, match=r"text.txt: names no file. Give the text with --set data.train="):
        train(path, out=tmp_path / "without")
