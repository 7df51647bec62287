"""The command in a report gives the report's figures again."""

import json
import shlex
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.cli.main import run
from lamoid.recipes.evaluate import evaluate
from lamoid.recipes.fuse import fuse
from lamoid.recipes.reported_command import report_command
from lamoid.text.training import train_tokenizer
from lamoid.verbs.llama import Llama

TEXTS = [f"{n}. Now is the winter of our discontent, {n * n} times.\n" * (1 + n % 3) for n in range(40)]
SEPARATOR = "\n--'x\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer(TEXTS, vocab=280)
    for seed, name in enumerate(("x", "y", "base")):
        model = LanguageModel(Shape(width=16, layers=1, heads=2, context=24).spec(tokenizer.vocab))
        initialise(model, seed, deviation=0.1)
        Llama(model, tokenizer).save(folder / name)
    for field in ("text", "body of it"):
        lines = (json.dumps({field: text}) for text in TEXTS)
        (folder / ("on.jsonl" if field == "text" else "other.jsonl")).write_text("\n".join(lines))
    (folder / "apart.txt").write_text(SEPARATOR.join(text.upper() for text in TEXTS))
    return folder


@pytest.fixture(autouse=True)
def here(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)


def call_again(command: str, capsys: pytest.CaptureFixture[str]) -> Any:
    program, *words = shlex.split(command)
    assert program == "lamoid"
    assert run([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"context": 7, "batch": 3, "dtype": "bfloat16", "seed": 5, "device": "cpu"},
        {"on": ["apart.txt", "on.jsonl"], "separator": SEPARATOR, "field": "text"},
        {"on": "other.jsonl", "field": "body of it"},
    ],
)
def test_an_evaluation(options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    result = evaluate(["x", "y"], **{"on": "on.jsonl", **options})
    assert call_again(result.reports[0].command, capsys) == json.loads(msgspec.json.encode(result))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"context": 9, "dtype": "bfloat16", "seed": 4, "device": "cpu", "memory": "64MiB", "tau": 0.3},
        {"judge": ["apart.txt", "on.jsonl"], "separator": SEPARATOR, "base": "base", "weights": "1,3"},
        {"on": "other.jsonl", "field": "body of it", "overwrite": True},
    ],
)
def test_a_fusion(tmp_path: Path, options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    result = fuse(["x", "y"], **{"on": "on.jsonl", "out": out, **options})
    out.rename(tmp_path / "first")
    assert call_again(result.reports[0].command, capsys) == json.loads(msgspec.json.encode(result))
    weights = [folder / "model.safetensors" for folder in (out, tmp_path / "first")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_defaults_are_left_out_and_what_looks_like_an_option_is_none() -> None:
    values = {"models": ["-x", Path("y z")], "on": "a'b", "seed": 0, "batch": 4, "overwrite": True}
    known = dict.fromkeys(("out", "separator", "context", "dtype", "progress"))
    command = report_command(evaluate, {**known, "field": "text", "device": "cpu", "ignore_field": (), **values})
    assert shlex.split(command) == [
        "lamoid", "evaluate", "--on=a'b", "--batch=4", "--overwrite", "--", "-x", "y z"
    ]  # fmt: skip
