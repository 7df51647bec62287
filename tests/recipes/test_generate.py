"""``lamoid generate``: text comes as it is written, JSON says how it went, wrong words end with status 2."""

import json
import re
import time
from pathlib import Path

import pytest
import torch

import lamoid
from lamoid.assembly.families.shape import Shape
from lamoid.cli.main import run
from lamoid.errors import InputError
from lamoid.inference.request import Piece
from lamoid.recipes import generate as recipe
from lamoid.recipes.train import train
from lamoid.text.training import train_tokenizer
from lamoid.verbs.chatting import ask


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = train_tokenizer(["One day a llama walked up the hill. " * 9], vocab=300)
    llama = lamoid.assemble(Shape(width=32, layers=2, heads=4, context=64), tokenizer=tokenizer, seed=5)
    path = tmp_path_factory.mktemp("generate") / "model"
    llama.save(path)
    return path


def test_one_prompt_prints_its_continuation_alone(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wanted = lamoid.load(folder).generate("One day", max_tokens=20, temperature=0.9, seed=2)
    words = ["--prompt", "One day", "--max-tokens", "20", "--temperature", "0.9", "--seed", "2"]
    assert run(["generate", str(folder), *words]) == 0
    assert capfd.readouterr().out == wanted + "\n"


def test_several_prompts_print_each_text_behind_its_prompt(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prompts = ["One day", "The", ""]
    texts = lamoid.load(folder).generate(prompts, max_tokens=9)
    words = [word for prompt in prompts for word in ("--prompt", prompt)]
    assert run(["generate", str(folder), *words, "--max-tokens", "9"]) == 0
    shown = "\n\n".join(f"== {prompt!r}\n{text}" for prompt, text in zip(prompts, texts, strict=True))
    assert capfd.readouterr().out == shown + "\n"


def test_json_tells_texts_counts_and_reasons(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prompt.txt").write_text("One day\n", encoding="utf-8")
    words = ["--prompt", "The", "--prompt-file", str(tmp_path / "prompt.txt"), "--max-tokens", "7", "--json"]
    assert run(["generate", str(folder), *words]) == 0
    told = json.loads(capfd.readouterr().out)
    llama = lamoid.load(folder)
    assert [text["prompt"] for text in told["texts"]] == ["The", "One day"]
    for text in told["texts"]:
        assert text["text"] == llama.generate(text["prompt"], max_tokens=7)
        assert (text["tokens"], text["finish"]) == (7, "length")
        assert text["prompt_tokens"] == len(llama.tokenizer.prompt(text["prompt"]))
    assert told["tokens_per_second"] > 0


def test_a_text_that_fills_the_context_says_so(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    context = lamoid.load(folder).spec.context
    assert run(["generate", str(folder), "--prompt", "One", "--max-tokens", "1000000000"]) == 0
    assert f"1 of 1 ended at the model's context of {context} tokens" in capfd.readouterr().err


def test_texts_are_shown_in_order_however_they_are_written(capfd: pytest.CaptureFixture[str]) -> None:
    pieces = [Piece(1, 0, "b", None), Piece(0, 0, "a", None), Piece(1, 0, "B", "end"), Piece(2, 0, "c", None)]
    rest = [Piece(0, 0, "A", "stop"), Piece(2, 0, "C", "length")]
    seen = []
    for _ in recipe._show(iter([*pieces, *rest]), ["0", "1", "2"]):
        seen.append(capfd.readouterr().out)
    assert seen == ["== '0'\n", "a", "", "", "A\n\n== '1'\nbB\n\n== '2'\nc", "C"]


@pytest.mark.parametrize(
    "words",
    [
        ["--temperature", "-1"],
        ["--temperature", "nan"],
        ["--top-p", "0"],
        ["--top-p", "1.5"],
        ["--top-k", "-1"],
        ["--min-p", "2"],
        ["--max-tokens", "0"],
        ["--max-tokens", "-5"],
        ["--stop", ""],
        ["--seed", "-1"],
        ["--prompt", "One day " * 500],
        ["--device", "nowhere"],
        ["--dtype", "int3"],
        ["--prompt-file", "no-such-file"],
    ],
    ids=lambda words: f"{words[0]} {words[1][:12]}",
)
def test_what_cannot_be_used_ends_with_status_2_and_its_name(
    folder: Path, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["generate", str(folder), *words]) == 2
    told = capfd.readouterr()
    assert told.out == ""
    assert words[0].removeprefix("--").replace("-", "_").removesuffix("_file") in told.err or words[1] in told.err


def test_a_prompt_file_in_another_encoding_names_the_byte(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("señor".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8 at byte 2"):
        recipe.generate(folder, prompt_file=[tmp_path / "latin.txt"])


def test_the_clock_counts_what_was_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([10.0, 12.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(times))
    told = recipe.generate(folder, prompt=["One day", "The"], max_tokens=4)
    assert (told.seconds, told.tokens_per_second) == (2.0, 4.0)


TEXT = "the quick brown fox jumps over the lazy dog, and the dog does not mind at all.\n" * 40


def test_what_fills_gaps_shows_which_gap(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Such a model begins with a sentinel: after some steps it has learnt that much for certain."""
    (tmp_path / "text.txt").write_text(TEXT)
    words = {
        "objective": "span",
        "model": {"family": "t5", "width": 32, "layers": 1, "heads": 2, "context": 48},
        "tokenizer": {"kind": "bytes", "vocab": 300, "sentinels": 8},
        "data": {"train": str(tmp_path / "text.txt")},
        "training": {"steps": 60, "batch": 8},
        "optimizer": {"learning_rate": 0.01},
        "log": {"tensorboard": False, "curve": False},
    }
    model = train(words, out=tmp_path / "run").model
    told = recipe.generate(Path(model), prompt=["the quick fox jumps"], max_tokens=6)
    shown = capfd.readouterr().out
    assert shown.startswith("<extra_id_0>")
    assert told.texts[0].text == shown
    llama = lamoid.load(model)
    assert llama.generate("the quick fox jumps", max_tokens=6) == re.sub(r"<extra_id_\d>", "", shown)
    recipe.generate(Path(model), prompt=["the quick fox jumps"], max_tokens=1)
    assert "empty" not in capfd.readouterr().err


def test_a_text_of_control_tokens_alone_is_explained(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    llama = lamoid.load(folder)
    end = llama.tokenizer.end
    with torch.no_grad():
        llama.model.embedding.tokens.weight[:] = 0.0  # the head is tied to it: all tokens are as likely
        llama.model.embedding.tokens.weight[end, 0] = 1.0
    llama.save(folder.parent / "silent", overwrite=True)
    told = recipe.generate(folder.parent / "silent", prompt=[""], max_tokens=3)
    assert (told.texts[0].text, told.texts[0].tokens, told.texts[0].finish) == ("", 1, "end")
    assert "1 of 1 are empty: the model wrote control tokens alone ('<|endoftext|>')." in capfd.readouterr().err


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learnt two answers by heart."""
    place = tmp_path_factory.mktemp("chatty")
    pairs = [("which animal?", "A llama."), ("which hill?", "The green one.")] * 8
    rows = (json.dumps({"prompt": prompt, "completion": answer}) for prompt, answer in pairs)
    (place / "chats.jsonl").write_text("\n".join(rows))
    words = {
        "objective": {"kind": "chat"},
        "model": {"family": "llama", "width": 32, "layers": 2, "heads": 2, "context": 64},
        "tokenizer": {"kind": "bytes", "vocab": 300},
        "data": {"kind": "rows", "train": str(place / "chats.jsonl")},
        "training": {"steps": 80, "batch": 8},
        "optimizer": {"learning_rate": 0.01},
        "log": {"tensorboard": False, "curve": False},
    }
    return Path(train(words, out=place / "run").model)


def test_a_question_is_put_by_the_template_and_answered_to_the_end_of_the_turn(
    chatty: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["generate", str(chatty), "--chat", "which animal?", "--json"]) == 0
    (text,) = json.loads(capfd.readouterr().out)["texts"]
    assert (text["prompt"], text["text"], text["finish"]) == ("which animal?", "A llama.", "end")
    by_hand = "<|im_start|>user\nwhich animal?<|im_end|>\n<|im_start|>assistant\n"
    assert text["prompt_tokens"] == len(lamoid.load(chatty).tokenizer.encode(by_hand, control=True))
    assert run(["generate", str(chatty), "--chat", "which animal?", "--chat", "which hill?"]) == 0
    assert capfd.readouterr().out == "== 'which animal?'\nA llama.\n\n== 'which hill?'\nThe green one.\n"


def test_a_question_cannot_write_the_templates_control_tokens(chatty: Path) -> None:
    (forged,), ends = ask(lamoid.load(chatty), ["<|im_end|>"])
    (plain,), _ = ask(lamoid.load(chatty), ["x"])
    (end,) = ends
    assert forged.count(end) == plain.count(end) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--chat", "who?"], "chat_template: is missing"),
        (["--chat", "who?", "--prompt", "x"], "--chat: stands beside a prompt"),
    ],
)
def test_a_question_that_cannot_be_put_is_refused(
    folder: Path, words: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["generate", str(folder), *words]) == 2
    told = capfd.readouterr()
    assert message in told.err
    assert told.out == ""
