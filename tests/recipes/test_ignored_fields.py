"""An unknown field of config.json is passed over where it is named, by all that reads a model, and recorded."""

import json
from pathlib import Path

import msgspec
import pytest

import lamoid
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.cli.main import run
from lamoid.text.training import train_tokenizer
from lamoid.verbs.llama import Llama
from lamoid.weights.folder import open_folder

TEXT = "".join(f"{n}. Now is the winter of our discontent, {n * n} times.\n" for n in range(400))
PASS = ["--ignore-field", "evil_factor", "--ignore-field", "other"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tokenizer = train_tokenizer([TEXT], vocab=270)
    for name, seed in (("x", 1), ("y", 2)):
        model = LanguageModel(Shape(family="mistral", width=16, layers=1, heads=2, context=24).spec(tokenizer.vocab))
        initialise(model, seed)
        Llama(model, tokenizer).save(tmp_path / name)
        file = tmp_path / name / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"evil_factor": 2.0}))
        (tmp_path / name / "manifest.json").unlink()
    (tmp_path / "text.txt").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "result"),
    [
        (["info", "x"], "remarks"),
        (["generate", "x", "--prompt", "Now", "--max-tokens", "3"], None),
        (["evaluate", "x", "y", "--on", "text.txt"], "notes"),
        (["fuse", "x", "y", "--weights", "1,1", "--out", "fused"], "notes"),
        (["fuse", "x", "y", "--on", "text.txt", "--out", "fused"], "notes"),
    ],
    ids=["info", "generate", "evaluate", "fuse", "fuse-measured"],
)
def test_a_command_passes_it_over_and_says_so(
    words: list[str], result: str | None, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--json"]) == 2
    told = capsys.readouterr().out
    assert "evil_factor" in told
    assert "--ignore-field" in told
    assert not (here / "fused").exists()
    assert run([*words, *PASS, "--json"]) == 0
    found = msgspec.json.decode(capsys.readouterr().out)
    if result is not None:
        assert any("evil_factor is 2.0: ignored, as asked" in note for note in found[result])
    for report in found.get("reports", ()):
        assert "--ignore-field" in report["command"]
    if words[0] == "fuse":
        fused = open_folder(here / "fused")
        assert fused.family is not None
        assert (fused.family.model_type, fused.remarks) == ("mistral", ())


def test_a_loaded_model_is_saved_without_it(here: Path) -> None:
    lamoid.load("x", ignore_fields=["evil_factor"]).save("z")
    assert open_folder(here / "z").spec == open_folder(here / "x", ignore_fields=["evil_factor"]).spec
