"""Training from a recipe to a model folder: end to end, resumed after a kill, and refused when it cannot work."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from safetensors.torch import load_file

from lamoid.data.prepare import prepare
from lamoid.data.sources import read_documents
from lamoid.errors import InputError
from lamoid.recipes.progress import Progress
from lamoid.recipes.train import train
from lamoid.text.tokenizer import Tokenizer
from lamoid.text.training import train_tokenizer
from lamoid.training.guard import TrainingDiverged
from lamoid.training.meter import MEASURED
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import load_model, open_folder

TEXT = "the quick brown fox jumps over the lazy dog, and the dog does not mind.\n" * 60


@pytest.fixture
def recipe(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "text.txt").write_text(TEXT)
    return {
        "model": {"family": "llama", "width": 32, "layers": 2, "heads": 2, "context": 32},
        "tokenizer": {"kind": "characters", "closed": True},
        "data": {"train": str(tmp_path / "text.txt"), "hold_out": 0.1},
        "training": {"steps": 30, "batch": 4},
        "optimizer": {"learning_rate": 0.01},
        "schedule": {"warmup": 5},
        "evaluation": {"every": 10, "keep_best": True},
        "checkpoint": {"every": 10},
        "log": {"every": 5, "tensorboard": False, "curve": False},
    }


def figures(out: Path) -> list[dict[str, float]]:
    """Read the logged lines, without what a clock measured."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in MEASURED} for line in lines]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_model_is_trained_and_saved_for_everybody(recipe: dict, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    shown = io.StringIO()
    out = tmp_path / "run"
    result = train(recipe, out=out, set=["log.curve=true"], progress=Progress(shown, interval=0.0))
    assert result.loss < 2.5
    assert result.validation_loss is not None
    assert result.validation_loss < 2.5
    assert result.parameters == sum(p.numel() for p in load_model(open_folder(out / "model")).parameters())
    assert result.tokens == 30 * 4 * 32
    assert 0 < result.share_of_peak < 1
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((out / "result.json").read_text())["validation_loss"] == result.validation_loss
    assert "validation loss" in shown.getvalue()
    assert "left" in shown.getvalue()
    assert any("validation loss" in line for line in result.lines())
    assert [line["step"] for line in figures(out) if "validation_loss" in line] == [10, 20, 30]
    ids = Tokenizer.read(out / "model").prompt("the quick")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(out / "model")
    assert transformers.AutoTokenizer.from_pretrained(out / "model")("the quick").input_ids == ids
    ours = load_model(open_folder(out / "model"))(torch.tensor([ids]))
    torch.testing.assert_close(ours, theirs(torch.tensor([ids])).logits, rtol=1e-4, atol=1e-4)


def test_the_validation_loss_is_that_of_every_target_once(recipe: dict, tmp_path: Path) -> None:
    result = train(recipe, out=tmp_path / "run")
    model = load_model(open_folder(tmp_path / "run" / "model"))
    tokenizer = Tokenizer.read(tmp_path / "run" / "model")
    held_out = TEXT[int(len(TEXT) * 0.9) :]
    assert tokenizer.start is not None
    assert tokenizer.end is not None
    ids = [tokenizer.start, *tokenizer.encode(held_out), tokenizer.end]
    nats = 0.0
    with torch.no_grad():
        for begin in range(0, len(ids) - 1, 32):
            window = torch.tensor(ids[begin : begin + 33])
            logits = model(window[None, :-1])[0]
            nats += torch.nn.functional.cross_entropy(logits, window[1:], reduction="sum").item()
    assert result.validation_loss == pytest.approx(nats / (len(ids) - 1), rel=1e-5)


def test_the_same_seed_gives_the_same_model_and_another_does_not(recipe: dict, tmp_path: Path) -> None:
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    for out, seed in ((first, 1), (again, 1), (other, 2)):
        train(recipe, out=out, set=[f"seed={seed}", "training.steps=6"])
    assert contents(first / "model") == contents(again / "model")
    assert figures(first) == figures(again)
    assert contents(first / "model") != contents(other / "model")


def test_accumulation_changes_nothing_but_the_order_of_sums(recipe: dict, tmp_path: Path) -> None:
    train(recipe, out=tmp_path / "one", set=["training.steps=6", "training.batch=8"])
    train(recipe, out=tmp_path / "two", set=["training.steps=6", "training.batch=2", "training.accumulation=4"])
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)


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


@pytest.mark.parametrize(
    "optimizer", [{"kind": "adamw", "learning_rate": 0.01}, {"kind": "muon", "learning_rate": 0.02}]
)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(recipe: dict, tmp_path: Path, optimizer: dict) -> None:
    recipe["optimizer"] = optimizer
    train(recipe, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(recipe, out=tmp_path / "parted", progress=Kill(15))
    result = train(recipe, out=tmp_path / "parted", resume=True)
    assert result.resumed_from == 10
    assert result.tokens == 30 * 4 * 32
    for part in ("model", "best"):
        assert contents(tmp_path / "whole" / part) == contents(tmp_path / "parted" / part), part
    last = [tmp_path / name / "checkpoints/step-00000030/model.safetensors" for name in ("whole", "parted")]
    assert last[0].read_bytes() == last[1].read_bytes()
    assert figures(tmp_path / "whole") == figures(tmp_path / "parted")


def test_going_on_with_a_run_that_ended_changes_nothing(recipe: dict, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = train(recipe, out=out)
    before = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    assert train(recipe, out=out, resume=True) == first
    assert {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()} == before


def test_an_end_that_was_not_written_is_made_again_with_all_tokens_counted(recipe: dict, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = train(recipe, out=out)
    model = contents(out / "model")
    (out / "result.json").write_bytes(b"{")
    again = train(recipe, out=out, resume=True)
    assert (again.resumed_from, again.tokens, again.seconds) == (30, first.tokens, first.seconds)
    assert again.tokens_per_second == pytest.approx(first.tokens_per_second)
    shutil.rmtree(out / "model")
    assert train(recipe, out=out, resume=True).loss == first.loss
    assert contents(out / "model") == model
    assert json.loads((out / "result.json").read_text())["tokens"] == first.tokens


def test_a_killed_process_leaves_nothing_half_and_its_run_goes_on(recipe: dict, tmp_path: Path) -> None:
    recipe["checkpoint"] = {"every": 1}
    recipe["training"]["steps"] = 120
    path, out = tmp_path / "recipe.toml", tmp_path / "killed"
    path.write_text(tomli_w.dumps(recipe))
    script = "import sys; import torch; torch.set_num_threads(1); from lamoid.recipes.train import train; "
    process = subprocess.Popen([sys.executable, "-c", f"{script} train(sys.argv[1], out=sys.argv[2])", path, out])
    while not (out / "checkpoints" / "step-00000020").exists() and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    visible = [folder for folder in (out / "checkpoints").iterdir() if not folder.name.startswith(".")]
    assert visible
    assert all((folder / "manifest.json").is_file() for folder in visible)
    result = train(path, out=out, resume=True)
    assert 20 <= result.resumed_from < 120
    assert result.remarks == [f"going on from step {result.resumed_from}"]
    train(path, out=tmp_path / "whole")
    assert contents(out / "model") == contents(tmp_path / "whole" / "model")
    assert figures(out) == figures(tmp_path / "whole")


def test_going_on_with_another_recipe_is_refused_by_key(recipe: dict, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(recipe, out=out, set=["training.steps=6"])
    with pytest.raises(InputError, match=r"other settings: optimizer.learning_rate, training.steps"):
        train(recipe, out=out, set=["optimizer.learning_rate=1"], resume=True)
    (out / "result.json").unlink()
    result = train(recipe, out=out, set=["training.steps=6", "log.every=1", "checkpoint.keep=3"], resume=True)
    assert result.resumed_from == 6


def test_other_data_than_the_run_had_is_refused(recipe: dict, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    tokenizer = train_tokenizer([TEXT], kind="characters", closed=True)
    prepare(read_documents([tmp_path / "text.txt"]), tokenizer, shards, folder=durable_folder)
    del recipe["tokenizer"]
    recipe["data"] = {"train": str(shards)}
    train(recipe, out=tmp_path / "run", set=["training.steps=6"])
    (tmp_path / "text.txt").write_text(TEXT.upper().lower()[:-100])
    prepare(read_documents([tmp_path / "text.txt"]), tokenizer, shards, folder=durable_folder, overwrite=True)
    with pytest.raises(InputError, match=r"other settings: data.train"):
        train(recipe, out=tmp_path / "run", set=["training.steps=6"], resume=True)


def test_shards_and_text_of_the_same_words_train_the_same_model(recipe: dict, tmp_path: Path) -> None:
    train(recipe, out=tmp_path / "text", set=["data.hold_out=0", "training.steps=6"])
    tokenizer = Tokenizer.read(tmp_path / "text" / "model")
    prepare(read_documents([tmp_path / "text.txt"]), tokenizer, tmp_path / "shards", folder=durable_folder)
    del recipe["tokenizer"]
    shards = f"data.train={tmp_path / 'shards'}"
    train(recipe, out=tmp_path / "tokens", set=[shards, "data.hold_out=0", "training.steps=6"])
    assert contents(tmp_path / "text" / "model") == contents(tmp_path / "tokens" / "model")
    held_out = train(recipe, out=tmp_path / "part", set=[shards, "training.steps=6"])
    assert held_out.validation_loss is not None


def test_an_expert_is_trained_from_a_model(recipe: dict, tmp_path: Path) -> None:
    base = train(recipe, out=tmp_path / "base")
    (tmp_path / "more.txt").write_text("a lazy fox and a quick dog do not jump.\n" * 60)
    del recipe["tokenizer"]
    recipe["model"] = {"from": base.model}
    recipe["data"]["train"] = str(tmp_path / "more.txt")
    before = contents(Path(base.model))
    expert = train(recipe, out=tmp_path / "expert", set=["training.steps=20", "optimizer.learning_rate=1e-3"])
    untouched = train(
        recipe, out=tmp_path / "other", set=["training.steps=1", "schedule.warmup=0", "optimizer.learning_rate=1e-9"]
    )
    assert expert.validation_loss is not None
    assert untouched.validation_loss is not None
    assert expert.validation_loss < untouched.validation_loss
    assert contents(Path(base.model)) == before
    assert open_folder(expert.model).spec == open_folder(base.model).spec


def test_a_spec_file_and_a_tokenizer_folder(recipe: dict, tmp_path: Path) -> None:
    first = train(recipe, out=tmp_path / "first", set=["training.steps=2", "schedule.warmup=0"])
    recipe["model"] = {"spec": str(Path(first.model) / "spec.json")}
    recipe["tokenizer"] = {"from": first.model}
    second = train(recipe, out=tmp_path / "second", set=["training.steps=2", "schedule.warmup=0"])
    assert contents(Path(first.model)) == contents(Path(second.model))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["training.context=64"], "training.context: is 64, the model's context is 32"),
        (["model.heads=3"], "model.heads: is 3, does not divide width 32"),
        (["model.width=0"], "model.width: is 0, must lie from 1"),
        (["device=cuda:77"], "device: is 'cuda:77', and torch sees"),
        (["data.train=nowhere.txt"], "nowhere.txt: names no file. Give the text with --set data.train=PATH"),
        (["model={from = 'nowhere'}", "tokenizer={}"], "tokenizer"),
        (["tokenizer={from = 'nowhere'}"], "nowhere"),
        (["training.context=32", "data.hold_out=0.9999"], "data.hold_out"),
        (["data.validation=empty.txt", "data.hold_out=0"], "empty.txt"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(
    recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(InputError, match=message):
        train(recipe, out=tmp_path / "run", set=changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("family", "named"), [("bert", "sees later tokens"), ("t5", "reads the stream 'source'")], ids=["bert", "t5"]
)
def test_a_model_that_cannot_learn_from_a_text_alone_is_refused(
    recipe: dict, tmp_path: Path, family: str, named: str
) -> None:
    recipe["model"]["family"] = family
    with pytest.raises(InputError, match=named):
        train(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_model_is_saved_as_the_family_it_was_made_as(recipe: dict, tmp_path: Path) -> None:
    """A Mistral without a window is a LLaMA by its spec."""
    recipe["model"]["family"] = "mistral"
    train(recipe, out=tmp_path / "run", set=["training.steps=6"])
    assert open_folder(tmp_path / "run" / "model").config["model_type"] == "mistral"
    train({**recipe, "model": {"from": str(tmp_path / "run" / "model")}, "tokenizer": None}, out=tmp_path / "on")
    assert open_folder(tmp_path / "on" / "model").config["model_type"] == "mistral"


def test_an_output_folder_that_holds_something_is_refused(recipe: dict, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(InputError, match="run: "):
            train(recipe, out=out, resume=resume)
    assert contents(out) == {"mine.txt": b"mine"}
    with pytest.raises(InputError, match="is a file"):
        train(recipe, out=out / "mine.txt")


def test_a_text_too_short_for_a_window_is_refused(recipe: dict, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("short")
    with pytest.raises(InputError, match="a window takes 33"):
        train(recipe, out=tmp_path / "run", set=["data.hold_out=0"])


def test_a_run_that_diverges_says_so_and_keeps_its_checkpoints(recipe: dict, tmp_path: Path) -> None:
    changes = ["optimizer.learning_rate=1e12", "optimizer.epsilon=1e-12", "schedule.warmup=0", "training.clip=0"]
    with pytest.raises(TrainingDiverged, match="Lower the learning rate"):
        train(recipe, out=tmp_path / "run", set=[*changes, "checkpoint.every=1"])
    assert list((tmp_path / "run" / "checkpoints").iterdir())
    assert not (tmp_path / "run" / "model").exists()


def test_the_whole_run_in_bfloat16(recipe: dict, tmp_path: Path) -> None:
    result = train(recipe, out=tmp_path / "run", dtype="bfloat16")
    assert result.loss < 2.5
    assert open_folder(result.model).config["dtype"] == "float32"


def test_event_files_can_be_read_by_tensorboard(recipe: dict, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    script = (
        "import sys; from tensorboard.backend.event_processing.event_accumulator import EventAccumulator; "
        "events = EventAccumulator(sys.argv[1]); events.Reload(); "
        "print([event.step for event in events.Scalars('validation_loss')], sorted(events.Tags()['scalars']))"
    )
    train(recipe, out=tmp_path / "run", set=["log.tensorboard=true"])
    command = [sys.executable, "-c", script, tmp_path / "run" / "tensorboard"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith("[10, 20, 30] ")
    assert "'loss'" in said


def test_missing_extras_are_said_once_and_are_no_error(
    recipe: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = train(recipe, out=tmp_path / "run", set=["log.tensorboard=true", "log.curve=true"])
    assert [remark.split(":")[0] for remark in result.remarks] == [
        "no event files for TensorBoard",
        "no picture of the losses",
    ]
    assert result.curve is None
