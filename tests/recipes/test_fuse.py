"""A fusion from end to end against its parts computed one by one, and what it refuses, with nothing left behind."""

import json
import math
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file

import lamoid
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.cli.main import run
from lamoid.errors import InputError
from lamoid.evaluation.units import halve
from lamoid.fusion.output import Output
from lamoid.recipes import fusion_pictures, fusion_plan, fusion_summary
from lamoid.recipes.fuse import fuse
from lamoid.text.training import train_tokenizer
from lamoid.verbs.llama import Llama
from lamoid.weights.durable import NotCommitted, durable_folder, verify
from lamoid.weights.folder import open_folder, save_model

ADJECTIVES = ("quick", "lazy", "sly", "old")
TEXTS = [f"document {n}: the {ADJECTIVES[n % 4]} fox jumps over {n * 7} dogs.\n" for n in range(60)]
Usage = namedtuple("Usage", "free")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three members around a base, one of them in two shards' dtype, and the text in a JSONL file."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer(TEXTS, vocab=280)
    for index, noise in enumerate((0.0, 0.02, 0.05, 0.2)):
        model = LanguageModel(Shape(width=16, layers=2, heads=4, kv_heads=2, context=32).spec(tokenizer.vocab))
        initialise(model, 0, deviation=0.2)
        generator = torch.Generator().manual_seed(index)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=noise)
        Llama(model, tokenizer).save(folder / ("base" if index == 0 else "abc"[index - 1]))
    lines = [json.dumps({"text": text}) for text in TEXTS]
    (folder / "on.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def place(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh copy of the models, which is also the working folder."""
    shutil.copytree(models, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def mean_loss(model: str, texts: list[str]) -> float:
    losses = [lamoid.load(model).loss(text) for text in texts]
    return sum(loss.nats for loss in losses) / sum(loss.tokens for loss in losses)


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_every_figure_is_what_its_parts_give(place: Path) -> None:
    result = fuse(["a", "b", "c"], on="on.jsonl", out=Path("out"), base=Path("base"), tau=0.5)
    measuring, judging = halve(TEXTS, name="on.jsonl")
    measured = [mean_loss(name, measuring) for name in "abc"]
    powers = [math.exp(-loss / 0.5) for loss in measured]
    for member, loss, power in zip(result.members, measured, powers, strict=True):
        assert member.nats_per_token == pytest.approx(loss, rel=1e-6)
        assert member.weight == pytest.approx(power / sum(powers), rel=1e-5)
        assert member.judged == pytest.approx(mean_loss(member.path, judging), rel=1e-6)
    assert result.fused is not None
    assert result.fused.judged == pytest.approx(mean_loss("out", judging), rel=1e-6)
    assert result.base is not None
    assert result.base.judged == pytest.approx(mean_loss("base", judging), rel=1e-6)
    assert result.best_member == min("abc", key=lambda name: mean_loss(name, judging))
    assert len(judging) == result.units == 30
    parts = [load_file(f"{name}/model.safetensors") for name in "abc"]
    for name, tensor in load_file("out/model.safetensors").items():
        expected = sum((m.weight or 0.0) * part[name].double() for m, part in zip(result.members, parts, strict=True))
        assert torch.allclose(tensor.double(), torch.as_tensor(expected), rtol=1e-6, atol=1e-9)
    for part in parts:
        for tensor in part.values():
            tensor.mul_(1 / 3)
    mean = {name: parts[0][name] + parts[1][name] + parts[2][name] for name in parts[0]}
    shutil.copytree("a", "mean", ignore=shutil.ignore_patterns("manifest.json"))
    save_file(mean, "mean/model.safetensors")
    assert result.uniform is not None
    assert result.uniform.judged == pytest.approx(mean_loss("mean", judging), rel=1e-5)


def test_what_is_saved(place: Path) -> None:
    before = listing(place)
    result = fuse(["a", "b"], on="on.jsonl", out=place / "deep" / "out", base=Path("base"))
    assert [name for name in listing(place) if name not in before and not name.startswith("deep/out/")] == [
        "deep",
        "deep/out",
    ]
    verify(place / "deep" / "out", hashes=True)
    tree = json.loads(Path("deep/out/fusion.json").read_text())
    assert tree == json.loads(msgspec.json.encode(result))
    assert {"members", "base", "uniform", "best_member", "fused", "verdict"} <= set(tree)
    assert set(tree["members"][0]) >= {"path", "nats_per_token", "judged", "bits_per_byte", "weight"}
    assert len({report["model_hash"] for report in tree["reports"]}) == 5
    assert Path("deep/out/fusion.png").read_bytes().startswith(b"\x89PNG")
    for name in ("spec.json", "tokenizer.json", "generation_config.json"):
        assert Path("a", name).read_bytes() == Path("deep/out", name).read_bytes()
    assert any("nats a token" in line for line in result.lines())


def test_twice_the_same_and_no_matter_in_which_order(place: Path) -> None:
    results = [fuse(order, on="on.jsonl", out=Path("out"), overwrite=True) for order in (list("abc"), list("abc"))]
    files = []
    for order in ("abc", "abc", "cab", "bca"):
        fuse(list(order), on="on.jsonl", out=Path("out"), overwrite=True)
        files.append(Path("out/model.safetensors").read_bytes())
    assert msgspec.json.encode(results[0]) == msgspec.json.encode(results[1])
    assert len(set(files)) == 1


def test_one_member_and_equal_members_come_back(place: Path) -> None:
    for members in (["a"], ["a", "a", "a"]):
        result = fuse(members, on="on.jsonl", out=Path("out"), overwrite=True)
        assert Path("out/model.safetensors").read_bytes() == Path("a/model.safetensors").read_bytes()
        assert result.verdict == "equal"
        assert result.uniform is not None
        assert result.uniform.judged == result.members[0].judged


def test_weights_by_hand_need_no_text(place: Path) -> None:
    result = fuse(["a", "b"], out=Path("out"), weights="1,3")
    assert [member.weight for member in result.members] == [0.25, 0.75]
    assert (result.verdict, result.fused, result.best_member) == ("not judged", None, None)
    judged = fuse(["a", "b"], on="on.jsonl", out=Path("judged"), weights="0,2")
    assert Path("judged/model.safetensors").read_bytes() == Path("b/model.safetensors").read_bytes()
    assert judged.fused is not None
    assert judged.fused.judged == judged.members[1].judged


def test_a_text_of_its_own_to_judge_on(place: Path) -> None:
    Path("judge.txt").write_text("---".join(text.upper() for text in TEXTS))
    result = fuse(["a", "b"], on="on.jsonl", judge="judge.txt", separator="---", out=Path("out"))
    assert result.units == 60
    assert result.members[0].judged == pytest.approx(mean_loss("a", [text.upper() for text in TEXTS]), rel=1e-6)
    same = fuse(["a", "b"], on="on.jsonl", judge="on.jsonl", out=Path("same"))
    assert any("50 % of what text is judged on was also measured on" in note for note in same.notes)


def test_few_documents_are_judged_in_blocks(place: Path) -> None:
    Path("one.txt").write_text("".join(TEXTS) * 5)
    result = fuse(["a", "b"], on="one.txt", out=Path("out"))
    assert (result.unit, result.units) == ("blocks of 4096 bytes", 2)
    assert any("intervals rest on few" in note for note in result.notes)


def test_nearly_uniform_weights_are_said(place: Path) -> None:
    assert any("within 5 % of uniform" in note for note in fuse(["a", "b"], on="on.jsonl", out=Path("out")).notes)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
def test_families_shards_and_bf16(place: Path, family: Any, tied: bool) -> None:
    tokenizer = lamoid.load("a").tokenizer
    shape = Shape(family=family, width=16, layers=2, heads=4, context=32, tied=tied)
    for seed, name in enumerate(("one", "two")):
        model = LanguageModel(shape.spec(tokenizer.vocab))
        initialise(model, seed, deviation=0.3)
        with durable_folder(Path(name)) as draft:
            files, size = tokenizer.files(), 2000 if seed else 10**9
            save_model(model.bfloat16(), draft, generation=None, tokenizer_files=files, shard_bytes=size)
    assert len(list(Path("two").glob("*.safetensors"))) > 2
    fuse(["one", "two"], on="on.jsonl", out=Path("out"), measure_dtype="float32", tau=5.0)
    members = fuse(["two", "one"], on="on.jsonl", out=Path("swapped"), measure_dtype="float32", tau=5.0).members
    assert Path("out/model.safetensors").read_bytes() == Path("swapped/model.safetensors").read_bytes()
    parts = [open_folder(Path(member.path)) for member in members]
    fused = open_folder(Path("out"))
    assert fused.spec == parts[0].spec
    assert ("lm_head.weight" in fused.tensors) is not tied
    for name in fused.names.parts:
        exact = sum((m.weight or 0.0) * part.parameter(name).double() for m, part in zip(members, parts, strict=True))
        largest = max(part.parameter(name).abs().max().item() for part in parts)
        assert (fused.parameter(name) - torch.as_tensor(exact)).abs().max() <= largest * 2.0**-8
        assert fused.parameter(name).dtype == torch.bfloat16


def test_models_without_a_start_token(place: Path) -> None:
    for name in "ab":
        for file in ("tokenizer.json", "tokenizer_config.json"):
            path = Path(name, file)
            tree = json.loads(path.read_text())
            for field in ("post_processor", "bos_token", "eos_token", "pad_token", "unk_token", "add_bos_token"):
                tree.pop(field, None)
            for token in tree.get("added_tokens", []):
                token["content"] = "<|plain|>"
            text = json.dumps(tree).replace("<|endoftext|>", "<|plain|>")
            path.write_text(text)
        for file in ("config.json", "generation_config.json"):
            path = Path(name, file)
            path.write_text(json.dumps({**json.loads(path.read_text()), "bos_token_id": None, "eos_token_id": None}))
        Path(name, "manifest.json").unlink()
    result = fuse(["a", "b"], on="on.jsonl", out=Path("out"))
    assert any("no start token: the first token" in note for note in result.notes)


def test_models_without_a_tokenizer_can_be_fused_by_hand(place: Path) -> None:
    for name in "ab":
        for file in Path(name).glob("*tok*"):
            file.unlink()
        Path(name, "manifest.json").unlink()
    fuse(["a", "b"], out=Path("out"), weights="1,1")
    assert lamoid.load("out").spec == lamoid.load("a").spec
    with pytest.raises(InputError, match="a: holds no tokenizer"):
        fuse(["a", "b"], on="on.jsonl", out=Path("other"))


def test_a_member_without_a_tokenizer_among_others_is_said(place: Path) -> None:
    for file in Path("a").glob("*tok*"):
        file.unlink()
    Path("a", "manifest.json").unlink()
    result = fuse(["a", "b"], out=Path("out"), weights="1,1")
    assert any(note.startswith("a has no tokenizer: it is taken") for note in result.notes)
    assert Path("out/tokenizer.json").read_bytes() == Path("b/tokenizer.json").read_bytes()
    with pytest.raises(InputError, match="a: holds no tokenizer"):
        fuse(["a", "b"], on="on.jsonl", out=Path("other"))


def test_members_may_be_called_what_the_results_are(place: Path) -> None:
    plain = fuse(["a", "b"], on="on.jsonl", out=Path("out"))
    Path("a").rename("fused")
    Path("b").rename("uniform")
    named = fuse(["fused", "uniform"], on="on.jsonl", out=Path("out"), overwrite=True)
    assert [member.judged for member in named.members] == [member.judged for member in plain.members]
    assert (named.fused, named.uniform) == (plain.fused, plain.uniform)


def test_a_judged_half_of_few_documents_is_resampled_in_blocks(place: Path) -> None:
    long = [text * 300 for text in TEXTS[:40]]
    Path("forty.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in long))
    result = fuse(["a", "b"], on="forty.jsonl", out=Path("out"))
    judging = halve(long, name="forty.jsonl")[1]
    assert len(judging) == 20
    blocks = sum(math.ceil(len(text.encode()) / 4096) for text in judging)
    assert (result.unit, result.units) == ("blocks of 4096 bytes", blocks)
    assert result.members[0].judged == pytest.approx(mean_loss("a", judging), rel=1e-6)


def test_without_matplotlib_there_is_no_picture(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (fusion_summary, fusion_pictures):
        monkeypatch.setattr(module, "can_draw", lambda: False)
    result = fuse(["a", "b"], on="on.jsonl", out=Path("out"))
    assert not Path("out/fusion.png").exists()
    assert any("matplotlib is missing" in note for note in result.notes)


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"tau": 0.0}, "tau: is 0.0"),
        ({"tau": -1.0}, "tau: is -1.0"),
        ({"tau": math.nan}, "tau: is nan"),
        ({"tau": math.inf}, "tau: is inf"),
        ({"members": []}, "members: none"),
        ({"members": ["a", "none"]}, "none: there is no such folder"),
        ({"members": ["a", "on.jsonl"]}, "on.jsonl: it is a file"),
        ({"on": None}, "on: is not given"),
        ({"on": None, "weights": "1,1", "judge": "on.jsonl"}, "on: is not given, which judge needs"),
        ({"on": None, "weights": "1,1", "base": Path("base")}, "on: is not given, which base needs"),
        ({"on": "none.txt"}, "none.txt"),
        ({"on": "empty.txt"}, "empty.txt"),
        ({"on": "latin.txt"}, "latin.txt"),
        ({"on": "short.txt"}, "short.txt: 1 different documents or blocks of 4096 bytes cannot be halved"),
        ({"judge": "empty.txt"}, "empty.txt"),
        ({"memory": "1MiB"}, "memory: is 1048576 bytes, 2 members need at least"),
        ({"memory": "much"}, "memory: is 'much'"),
        ({"rule": "best"}, "rule: is 'best'"),
        ({"weights": "1"}, "weights: are '1' for 2 members"),
        ({"weights": "1,x"}, "weights: '1,x' is no list"),
        ({"weights": "1,-1"}, "weights: are 1, -1, which come to 0"),
        ({"weights": "0,0"}, "weights: are 0, 0, which come to 0"),
        ({"weights": "1,nan"}, "weights: are '1,nan'"),
        ({"weights": "1,inf"}, "weights: are '1,inf'"),
        ({"context": 33}, "context: is 33"),
        ({"context": 0}, "context: is 0"),
        ({"device": "abacus"}, "device: is 'abacus'"),
        ({"dtype": "int3"}, "dtype: is 'int3'"),
        ({"measure_dtype": "int3"}, "measure_dtype: is 'int3'"),
        ({"out": Path("on.jsonl")}, "on.jsonl: the output is on.jsonl, which is read"),
        ({"out": Path("a")}, "a: the output is a, which is read"),
        ({"out": Path("b/../a"), "overwrite": True}, "the output is a, which is read"),
        ({"out": Path("a/fused")}, "a/fused: the output lies in a"),
        ({"out": Path(), "overwrite": True}, "the output holds a"),
        ({"out": Path("base"), "base": Path("base"), "overwrite": True}, "base: the output is base"),
        ({"out": Path("c")}, "c: the output folder exists already"),
        ({"base": Path("none")}, "none: there is no such folder"),
    ],
)
def test_what_cannot_be_used_is_refused(place: Path, options: dict[str, Any], culprit: str) -> None:
    Path("empty.txt").write_bytes(b"")
    Path("latin.txt").write_bytes("déjà vu".encode("latin-1") * 2000)
    Path("short.txt").write_text("short")
    before = listing(place)
    arguments = {"members": ["a", "b"], "on": "on.jsonl", "out": Path("out"), **options}
    with pytest.raises(InputError) as caught:
        fuse(arguments.pop("members"), **arguments)
    assert culprit in str(caught.value)
    assert listing(place) == before


def test_members_that_do_not_match_are_refused_before_any_text_is_read(place: Path) -> None:
    model = LanguageModel(Shape(width=16, layers=2, heads=4, kv_heads=4, context=32).spec(280))
    initialise(model, 0)
    Llama(model, lamoid.load("a").tokenizer).save("other")
    with pytest.raises(InputError, match=r"other: blocks\[0\]\.mixer\.kv_heads is 4, in a it is 2"):
        fuse(["a", "other"], on="none.txt", out=Path("out"))


def test_other_tokenizers_are_refused(place: Path) -> None:
    path = Path("b/tokenizer.json")
    path.write_text(path.read_text().replace("<|endoftext|>", "<|otherend|>"))
    config = Path("b/tokenizer_config.json")
    config.write_text(config.read_text().replace("<|endoftext|>", "<|otherend|>"))
    Path("b/manifest.json").unlink()
    cases: list[dict[str, Any]] = [{"on": "on.jsonl"}, {"on": "on.jsonl", "weights": "1,1"}, {"weights": "1,1"}]
    for options in cases:
        with pytest.raises(InputError, match="b: its tokenizer differs"):
            fuse(["a", "b"], out=Path("out"), **options)
    with pytest.raises(InputError, match="b: its tokenizer differs"):
        fuse(["a"], base="b", on="on.jsonl", out=Path("out"))


@pytest.mark.parametrize("weights", [None, "1,1"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_member_that_is_not_finite_is_named(place: Path, bad: float, weights: str | None) -> None:
    tensors = load_file("b/model.safetensors")
    tensors["model.norm.weight"][3] = bad
    save_file(tensors, "b/model.safetensors", metadata={"format": "pt"})
    Path("b/manifest.json").unlink()
    before = listing(place)
    with pytest.raises(InputError, match=r"b: tensor model\.norm\.weight: holds NaN or infinity"):
        fuse(["a", "b"], on=None if weights else "on.jsonl", out=Path("out"), weights=weights)
    assert listing(place) == before


def test_a_disk_without_room_is_refused_before_the_work(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion_plan.shutil, "disk_usage", lambda _: Usage(1000))
    with pytest.raises(InputError, match=r"out: the disk has 0\.0 MiB free, the fused model takes"):
        fuse(["a", "b"], on="on.jsonl", out=Path("out"))


@pytest.mark.parametrize("code", [28, 5, 30])
def test_a_disk_that_fails_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    before = listing(place)

    def fail(*_: object) -> None:
        raise OSError(code, "the disk fails")

    monkeypatch.setattr(Output, "finish", fail)
    with pytest.raises(NotCommitted, match="the disk fails"):
        fuse(["a", "b"], on="on.jsonl", out=Path("out"))
    assert listing(place) == before


@pytest.mark.parametrize("which", [1, 2])
def test_a_killed_fusion_leaves_nothing_that_stays(place: Path, which: int) -> None:
    before = listing(place)
    code = (
        "import os, signal\nfrom pathlib import Path\n"
        "from lamoid.fusion.output import Output\nfrom lamoid.recipes import fusion_candidates\n"
        "from lamoid.recipes.fuse import fuse\n"
        "fusion_candidates.memory_beside = lambda plan: None  # the uniform average is written too\n"
        "finish, calls = Output.finish, []\n"
        "def kill(self):\n    calls.append(1)\n"
        f"    os.kill(os.getpid(), signal.SIGKILL) if len(calls) == {which} else finish(self)\n"
        "Output.finish = kill\n"
        "fuse(['a', 'b'], on='on.jsonl', out=Path('out'))\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=place, timeout=120, capture_output=True)
    assert killed.returncode == -9
    assert not Path("out").exists()
    fuse(["a", "b"], on="on.jsonl", out=Path("out"))
    assert {name.split("/")[0] for name in listing(place)} - set(before) == {"out"}


def test_command_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fuse", "a", "b", "--on", "on.jsonl", "--base", "base", "--out", "out", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["verdict"] in ("better", "equal", "worse")
    assert run(["fuse", "a", "b", "--on", "on.jsonl", "--out", "out"]) == 2
    assert "out: the output folder exists already" in capsys.readouterr().err
    assert run(["fuse", "a", "b", "--on", "on.jsonl", "--out", "new", "--tau", "nan"]) == 2
