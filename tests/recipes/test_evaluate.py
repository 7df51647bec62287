"""An evaluation against losses taken one by one."""

import json
import math
from pathlib import Path

import msgspec
import pytest
import torch

import lamoid
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.cli.main import run
from lamoid.errors import InputError
from lamoid.recipes.evaluate import evaluate
from lamoid.text.training import train_tokenizer
from lamoid.verbs.llama import Llama

TEXTS = [f"{n}. Now is the winter of our discontent, {n * n} times.\n" * (1 + n % 3) for n in range(40)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, vocab, seed in (("x", 280, 0), ("y", 280, 1), ("z", 300, 2)):
        tokenizer = train_tokenizer(TEXTS, vocab=vocab)
        model = LanguageModel(Shape(width=16, layers=1, heads=2, context=24).spec(tokenizer.vocab))
        initialise(model, seed, deviation=0.1)
        Llama(model, tokenizer).save(folder / name)
    (folder / "on.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    (folder / "one.txt").write_text("".join(TEXTS) * 4)
    (folder / "empty.txt").write_bytes(b"")
    return folder


@pytest.fixture(autouse=True)
def here(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(models)


def test_figures_are_those_of_the_parts() -> None:
    result = evaluate(["x", "y", "z"], on="on.jsonl")
    for name, found in zip("xyz", result.models, strict=True):
        losses = [lamoid.load(name).loss(text) for text in TEXTS]
        nats, tokens, size = (math.fsum(getattr(x, field) for x in losses) for field in ("nats", "tokens", "bytes"))
        assert (found.tokens, found.bytes) == (tokens, size)
        assert found.nats_per_token == pytest.approx(nats / tokens, rel=1e-6)
        assert found.perplexity == pytest.approx(math.exp(nats / tokens), rel=1e-6)
        assert found.bits_per_byte == pytest.approx(nats / math.log(2) / size, rel=1e-6)
        assert found.interval is not None
        assert found.interval[0] < found.nats_per_token < found.interval[1]
    best = min(result.models, key=lambda model: model.bits_per_byte)
    assert (result.best, best.verdict, best.difference) == (best.path, "best", 0.0)
    assert (result.unit, result.units) == ("documents", 40)


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_the_batch_changes_nothing(batch: int) -> None:
    one, other = evaluate(["x"], on="on.jsonl"), evaluate(["x"], on="on.jsonl", batch=batch)
    assert abs(one.models[0].nats_per_token - other.models[0].nats_per_token) <= 1e-5


def test_one_document_is_read_whole_and_resampled_in_blocks() -> None:
    result = evaluate(["x"], on="one.txt")
    loss = lamoid.load("x").loss(Path("one.txt").read_text())
    assert result.models[0].nats_per_token == pytest.approx(loss.nats / loss.tokens, rel=1e-6)
    assert (result.unit, result.units) == ("blocks of about 4096 bytes", math.ceil(loss.bytes / 4096))


def test_equal_models_cannot_be_told_apart() -> None:
    result = evaluate(["x", "x"], on="on.jsonl")
    assert [model.verdict for model in result.models] == ["best", "not distinguishable"]
    assert any("cannot be told apart" in note for note in result.notes)


def test_a_shorter_context_and_another_dtype() -> None:
    full, short = evaluate(["x"], on="on.jsonl"), evaluate(["x"], on="on.jsonl", context=3)
    assert full.models[0].nats_per_token != short.models[0].nats_per_token
    wide = evaluate(["x"], on="on.jsonl", dtype="float64")
    assert wide.models[0].nats_per_token == pytest.approx(full.models[0].nats_per_token, abs=1e-5)
    assert any(note.startswith("Measured in float64, not as stored: each model's") for note in wide.notes)
    assert not any("not as stored" in note for note in full.notes)


def test_json_and_picture(tmp_path: Path) -> None:
    result = evaluate(["x", "y"], on="on.jsonl", out=tmp_path / "report")
    assert json.loads((tmp_path / "report" / "evaluation.json").read_text()) == json.loads(msgspec.json.encode(result))
    assert (tmp_path / "report" / "evaluation.png").read_bytes().startswith(b"\x89PNG")
    assert len(result.reports) == 6
    assert all(report.count == result.models[0].tokens for report in result.reports)


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"models": []}, "models: none"),
        ({"models": ["none"]}, "none: there is no such folder"),
        ({"on": "none.txt"}, "none.txt"),
        ({"on": "empty.txt"}, "empty.txt"),
        ({"batch": 0}, "batch: is 0"),
        ({"context": 25}, "context: is 25"),
        ({"device": "abacus"}, "device"),
        ({"dtype": "int3"}, "dtype"),
        ({"out": Path("x")}, "x: "),
    ],
)
def test_what_cannot_be_used_is_refused(options: dict, culprit: str) -> None:
    arguments = {"models": ["x"], "on": "on.jsonl", **options}
    with pytest.raises(InputError) as caught:
        evaluate(arguments.pop("models"), **arguments)
    assert culprit in str(caught.value)


def test_a_folder_that_holds_no_model_is_refused_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamoid.recipes.measuring.Measuring.losses", lambda *_: pytest.fail("measured first"))
    with pytest.raises(InputError, match="no-such"):
        evaluate(["x", "no-such"], on="on.jsonl")


def test_a_model_without_finite_losses_is_named(tmp_path: Path) -> None:
    model = lamoid.load("x")
    with torch.no_grad():
        model.model.norm.weight[0] = math.nan
    model.save(tmp_path / "bad")
    with pytest.raises(InputError, match=r"bad: tensor model\.norm\.weight: holds NaN or infinity"):
        evaluate([tmp_path / "bad"], on="on.jsonl")


def test_a_loss_too_large_for_a_perplexity(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = lamoid.load("x")
    with torch.no_grad():
        model.model.norm.weight.mul_(1e7)
    model.save(tmp_path / "steep")
    assert run(["evaluate", str(tmp_path / "steep"), "--on", "on.jsonl", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    found = tree["models"][0]
    assert found["nats_per_token"] > 710
    assert (found["perplexity"], found["perplexity_interval"]) == (None, None)
    assert [report["value"] for report in tree["reports"] if report["metric"] == "perplexity"] == [None]
    assert run(["evaluate", str(tmp_path / "steep"), "--on", "on.jsonl"]) == 0
    assert "beyond 1e308" in capsys.readouterr().out


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "x", "y", "--on", "on.jsonl", "--json", "--batch", "4"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert [model["path"] for model in tree["models"]] == ["x", "y"]
    assert run(["evaluate", "x", "--on", "on.jsonl"]) == 0
    assert "bits a byte" in capsys.readouterr().out
    assert run(["evaluate", "x", "--on", "empty.txt"]) == 2
