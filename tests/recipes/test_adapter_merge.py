"""``lamoid adapter merge``, ``lamoid adapter info`` and ``lamoid generate --adapter`` on one small model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lamoid.errors import InputError
from lamoid.recipes.adapter_info import adapter_info
from lamoid.recipes.adapter_merge import adapter_merge
from lamoid.recipes.generate import generate
from lamoid.recipes.train import train
from lamoid.verbs.llama import load

TEXT = "the quick brown fox jumps over the lazy dog, and the dog does not mind.\n" * 40


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a base and two adapters of it."""
    home = tmp_path_factory.mktemp("home")
    (home / "text.txt").write_text(TEXT)
    common = {
        "data": {"train": str(home / "text.txt")},
        "training": {"steps": 8, "batch": 4},
        "optimizer": {"learning_rate": 0.05},
        "log": {"tensorboard": False, "curve": False},
    }
    shape = {"family": "gpt2", "width": 32, "layers": 2, "heads": 2, "context": 32}
    train({**common, "model": shape, "tokenizer": {"kind": "characters"}}, out=home / "base")
    for name, kind in (("law", "lora"), ("news", "dora")):
        words = {"kind": kind, "rank": 3, "targets": ["all"], "name": name, "merge": False}
        model = {"from": str(home / "base" / "model")}
        train({**common, "model": model, "adapter": words, "seed": len(name)}, out=home / name)
    return home


def test_merging_is_applying(home: Path, tmp_path: Path) -> None:
    base, law, news = home / "base" / "model", home / "law" / "adapter", home / "news" / "adapter"
    ids = torch.randint(0, 20, (2, 9))
    for weights in ([1.0], [0.5, 2.0]):
        llama = load(base, adapters=[law, news])
        llama.use(dict(zip(("law", "news"), weights, strict=False)))
        out = tmp_path / f"merged{len(weights)}"
        result = adapter_merge(base, [law, news][: len(weights)], out=out, weight=weights)
        assert result.parameters == load(base).spec.parameters()
        assert "x" in result.lines()[0]
        with torch.no_grad():
            wanted, found, plain = llama.model(ids), load(out).model(ids), load(base).model(ids)
        assert float((found - wanted).norm() / wanted.norm()) < 1e-5
        assert float((plain - wanted).norm() / wanted.norm()) > 1e-3
    assert json.loads((out / "config.json").read_text())["model_type"] == "gpt2"


def test_what_cannot_be_merged(home: Path, tmp_path: Path) -> None:
    base, law = home / "base" / "model", home / "law" / "adapter"
    with pytest.raises(InputError, match="one for each"):
        adapter_merge(base, [law], out=tmp_path / "out", weight=[1.0, 2.0])
    with pytest.raises(InputError, match="at least one"):
        adapter_merge(base, [], out=tmp_path / "out")
    with pytest.raises(InputError, match="finite"):
        adapter_merge(base, [law], out=tmp_path / "out", weight=[float("nan")])
    assert not (tmp_path / "out").exists()


def test_info_says_what_it_is(home: Path) -> None:
    found = adapter_info(home / "news" / "adapter")
    assert found.kind == "DoRA"
    assert found.base == str(home / "base" / "model")
    # Queries, keys and values are one module in the files, so their ranks add up.
    assert sorted(set(found.ranks.values())) == [3, 9]
    assert "DoRA of rank 3 to 9 on 8 modules" in found.lines()[0]
    assert found.parameters > 0


def test_a_text_is_written_with_an_adapter(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = home / "base" / "model"
    plain = generate(base, prompt=["the"], max_tokens=12, temperature=1.0).texts[0].text
    law = (
        generate(base, prompt=["the"], max_tokens=12, temperature=1.0, adapter=[home / "law" / "adapter"]).texts[0].text
    )
    assert law == load(base, adapters=[home / "law" / "adapter"]).generate("the", max_tokens=12, temperature=1.0)
    assert law != plain
    capsys.readouterr()


def test_the_commands_run(home: Path, tmp_path: Path) -> None:
    base, law, out = home / "base" / "model", home / "law" / "adapter", tmp_path / "out"
    words = ["merge", str(base), str(law), "--out", str(out), "--weight", "0.5", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "lamoid", "adapter", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["weights"] == {"law": 0.5}
    assert (out / "config.json").is_file()
