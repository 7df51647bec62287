"""Training on rows by a recipe: every objective end to end, resumed bit for bit, and refused before anything starts."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lamoid.assembly.task_heads import ClassesSpec
from lamoid.errors import InputError
from lamoid.recipes.progress import Progress
from lamoid.recipes.train import train
from lamoid.text.tokenizer import Tokenizer
from lamoid.weights.folder import load_model, open_folder

GOOD, BAD = ["good", "fine", "great", "lovely"], ["bad", "awful", "poor", "sad"]


def write_rows(folder: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(120):
        words = [str(word) for word in rng.choice((GOOD, BAD)[number % 2], 4)]
        labels = [label for label, holds in (("p", words[0] in GOOD), ("x", len(words[0]) > 4)) if holds]
        said = {"text": " ".join(words), "second": words[0], "label": ["yes", "no"][number % 2], "labels": labels}
        rows.append({**said, "score": sum(map(len, words)) / 10, "source": " ".join(words), "target": words[0]})
    write_lines(folder / "rows.jsonl", rows)
    tagged = ("\n".join(f"{word}\t{'B-G' if word in GOOD else 'O'}" for word in row["text"].split()) for row in rows)
    (folder / "rows.conll").write_text("\n\n".join(tagged))
    answers = [{"question": "first?", "answers": [{"text": row["target"], "answer_start": 0}]} for row in rows]
    texts = [{"context": f"{row['text']} end", "qas": [qa]} for row, qa in zip(rows, answers, strict=True)]
    (folder / "rows.json").write_text(json.dumps({"data": [{"paragraphs": texts}]}))
    chats = [{"prompt": f"say {row['text']}", "completion": row["target"]} for row in rows]
    write_lines(folder / "chats.jsonl", chats)


def write_lines(path: Path, rows: list[Any]) -> None:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def recipe(folder: Path, kind: str, file: str = "rows.jsonl", family: str = "llama", **data: Any) -> dict[str, Any]:
    return {
        "model": {"family": family, "width": 32, "layers": 2, "heads": 2, "context": 64},
        "tokenizer": {"kind": "bytes", "vocab": 300},
        "data": {"kind": "rows", "train": str(folder / file), "hold_out": 0.2, **data},
        "objective": {"kind": kind, **({"overlap": 4} if kind == "spans" else {})},
        "training": {"steps": 40, "batch": 8},
        "optimizer": {"learning_rate": 0.005},
        "checkpoint": {"every": 10},
        "log": {"tensorboard": False, "curve": False, "every": 5},
    }


KINDS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "classes": ({}, ("accuracy",)),
    "labels": ({"label": "labels"}, ("micro_f1", "exact_match")),
    "regression": ({"label": "score"}, ("mean_squared_error", "pearson")),
    "tags": ({"file": "rows.conll"}, ("f1", "accuracy")),
    "spans": ({"file": "rows.json"}, ("exact_match", "f1")),
    "sequence": ({}, ()),
    "chat": ({"file": "chats.jsonl"}, ()),
}


class Kill(Progress):
    """Ends the process's work at a step, as Ctrl-C does."""

    def __init__(self, at: int) -> None:
        super().__init__(io.StringIO(), interval=0.0)
        self.left = at

    def advance(self, by: int, **figures: Any) -> None:
        self.left -= by
        if self.left <= 0:
            raise KeyboardInterrupt


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_learnt_saved_and_resumed_bit_for_bit(kind: str, tmp_path: Path) -> None:
    write_rows(tmp_path)
    data, metrics = KINDS[kind]
    plan = recipe(tmp_path, kind, **data)
    result = train(plan, out=tmp_path / "whole")
    assert set(metrics) <= set(result.metrics)
    for name in metrics:
        assert result.metrics[name] < 0.5 if name == "mean_squared_error" else result.metrics[name] > 0.6
    with pytest.raises(KeyboardInterrupt):
        train(plan, out=tmp_path / "killed", progress=Kill(25))
    again = train(plan, out=tmp_path / "killed", resume=True)
    assert again.resumed_from == 20
    assert contents(tmp_path / "killed" / "model") == contents(tmp_path / "whole" / "model")
    assert again.metrics == result.metrics
    model = load_model(open_folder(tmp_path / "whole" / "model"))
    head = next(iter(model.spec.heads.values()))
    if kind in ("classes", "labels", "tags"):
        assert head.names == {"classes": ("no", "yes"), "labels": ("p", "x"), "tags": ("B-G", "O")}[kind]


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_other_families_learn_too(family: str, tmp_path: Path) -> None:
    """An encoder with BERT's own head and pairs of texts; an encoder-decoder from source to target."""
    transformers = pytest.importorskip("transformers")
    write_rows(tmp_path)
    kind = "sequence" if family == "t5" else "classes"
    plan = recipe(tmp_path, kind, family=family, **({"second": "second"} if family == "bert" else {}))
    result = train(plan, out=tmp_path / "run")
    assert result.validation_loss is not None
    assert result.metrics.get("accuracy", 1.0) > 0.6
    config = transformers.AutoConfig.from_pretrained(tmp_path / "run" / "model")
    names = {"bert": "BertForSequenceClassification", "gpt2": "GPT2ForSequenceClassification"}
    assert config.architectures == [names.get(family, "T5ForConditionalGeneration")]
    if kind == "classes":
        assert config.id2label == {0: "no", 1: "yes"}


def test_a_trained_model_gets_a_head_and_keeps_it(tmp_path: Path) -> None:
    write_rows(tmp_path)
    (tmp_path / "text.txt").write_text(" ".join(GOOD + BAD) * 300)
    first = recipe(tmp_path, "classes")
    text = {**first, "data": {"train": str(tmp_path / "text.txt")}, "training": {"steps": 2, "batch": 2}}
    del text["objective"]
    train(text, out=tmp_path / "base")
    onto = {**first, "model": {"from": str(tmp_path / "base" / "model")}, "optimizer": {"learning_rate": 1e-12}}
    del onto["tokenizer"]
    train(onto, out=tmp_path / "headed", set=["training.steps=1"])
    base, headed = (load_model(open_folder(tmp_path / name / "model")) for name in ("base", "headed"))
    assert isinstance(next(iter(headed.spec.heads.values())), ClassesSpec)
    trunk = dict(base.blocks.named_parameters())
    for name, parameter in headed.blocks.named_parameters():
        torch.testing.assert_close(parameter, trunk[name], rtol=0, atol=1e-6)
    kept = {**onto, "model": {"from": str(tmp_path / "headed" / "model")}}
    train(kept, out=tmp_path / "kept", set=["training.steps=1"])
    train(kept, out=tmp_path / "new", set=["training.steps=1", "objective.head=new", "seed=5"])
    weights = {
        name: load_model(open_folder(tmp_path / name / "model")).heads["classes"].linear.weight
        for name in ("headed", "kept", "new")
    }
    torch.testing.assert_close(weights["kept"], weights["headed"], rtol=0, atol=1e-6)
    assert (weights["new"] - weights["headed"]).square().mean().sqrt() > 1e-3
    rows = [{"text": "good", "label": "maybe"}, {"text": "bad", "label": "no"}, {"text": "sad", "label": "yes"}]
    write_lines(tmp_path / "other.jsonl", rows)
    other = {**kept, "data": {"kind": "rows", "train": str(tmp_path / "other.jsonl")}}
    with pytest.raises(InputError, match=r"other\.jsonl: line 1.*maybe.*no, yes.*objective.head"):
        train(other, out=tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


BAD_ROWS: list[tuple[str, str, Any, str]] = [
    ("classes", "a.jsonl", [{"text": "a", "label": "x"}, {"text": "b"}], r"a\.jsonl: line 2.*'label'"),
    ("classes", "a.jsonl", [{"text": "a", "label": "x"}, {"text": "b", "label": "x"}], "line 1.*same"),
    ("classes", "a.jsonl", [{"text": "a", "label": "x"}, {"text": " ", "label": "y"}], "line 2.*white space"),
    ("labels", "a.jsonl", [{"text": "a", "label": ["x", "x"]}], "line 1: label.*twice"),
    ("labels", "a.jsonl", [{"text": "a", "label": 3}], "line 1: label"),
    ("regression", "a.jsonl", [{"text": "a", "label": "nan"}], "line 1: label.*no finite number"),
    ("regression", "a.jsonl", [{"text": "a", "label": None}], "line 1: label.*no finite number"),
    ("regression", "a.jsonl", [{"text": "a", "label": 1}, {"text": "b", "label": 1e300}], "line 2: label.*1e\\+300"),
    ("tags", "a.jsonl", [{"words": ["a", "b"], "tags": ["O"]}], "line 1.*2 words and 1 tags"),
    ("sequence", "a.jsonl", [{"source": "a", "target": ""}], "line 1: target.*white space"),
    ("chat", "a.jsonl", [{"prompt": "a", "completion": ""}], "line 1: completion"),
    ("chat", "a.jsonl", [{"messages": [{"role": "user", "content": "a"}]}], "line 1.*no message of the assistant"),
    (
        "chat",
        "a.jsonl",
        [{"messages": [{"role": "king", "content": "a"}, {"role": "assistant", "content": "b"}]}],
        "role",
    ),
]


@pytest.mark.parametrize(("kind", "file", "rows", "where"), BAD_ROWS)
def test_a_bad_row_is_named_and_nothing_is_written(
    kind: str, file: str, rows: list, where: str, tmp_path: Path
) -> None:
    write_lines(tmp_path / file, rows)
    plan = recipe(tmp_path, kind, file)
    plan["data"] |= {"hold_out": 0.0}
    with pytest.raises(InputError, match=where):
        train(plan, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


SHORT: dict[str, Any] = {
    "tokenizer": {"kind": "bytes", "vocab": 300, "mask": True},
    "training": {"steps": 4, "context": 2},
}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"objective": "causal"}, r"data\.kind"),
        ({"data": {"train": "x.txt"}}, r"data\.kind"),
        ({"objective": {"kind": "classes", "template": "chatml"}}, r"objective\.template"),
        ({"objective": {"kind": "chat", "template": "xml"}}, r"objective\.template"),
        ({"objective": {"kind": "chat", "long": "forget"}}, r"objective\.long"),
        ({"data": {"kind": "rows", "train": "x", "label": ""}}, "label"),
        ({"data": {"kind": "rows", "train": "x", "colour": ""}}, r"data\.colour"),
        ({"data": {"kind": "rows", "train": []}}, "train"),
        ({"model": {"family": "t5", "width": 32}}, "source"),
        ({"model": {"family": "bert", "width": 32}, **SHORT}, r"training\.context.*2 control tokens"),
        ({"objective": {"kind": "sequence", "joint": "~" * 9}, **SHORT}, r"training\.context.*objective\.joint"),
        ({"model": {"family": "bert", "width": 32}, "objective": "chat"}, "mixer"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_by_its_key(change: dict, where: str, tmp_path: Path) -> None:
    write_rows(tmp_path)
    with pytest.raises(InputError, match=where):
        train({**recipe(tmp_path, "classes"), **change}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_glob_of_rows_is_all_its_files(tmp_path: Path) -> None:
    write_rows(tmp_path)
    lines = (tmp_path / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "part-1.jsonl").write_bytes(b"".join(lines[:50]))
    (tmp_path / "part-2.jsonl").write_bytes(b"".join(lines[50:]))
    found = [
        train(recipe(tmp_path, "classes", file), out=tmp_path / file[0]) for file in ("rows.jsonl", "part-*.jsonl")
    ]
    assert found[0].loss == found[1].loss
    assert found[0].metrics == found[1].metrics


def test_labels_all_out_of_reach_are_an_error(tmp_path: Path) -> None:
    """Nothing of the answers lies within the context: no step would have a target."""
    chat = [{"prompt": "word " * 400, "completion": "yes"}]
    write_lines(tmp_path / "long.jsonl", chat)
    plan = recipe(tmp_path, "chat", "long.jsonl")
    plan["data"] |= {"hold_out": 0.0}
    with pytest.raises(InputError, match=r"long\.jsonl: line 1.*no conversation has an answer"):
        train(plan, out=tmp_path / "run")
    with pytest.raises(InputError, match=r"long\.jsonl: line 1.*objective\.long"):
        train(plan, out=tmp_path / "run", set=["objective.long=refuse"])


def test_a_chat_model_is_saved_with_its_template(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    write_rows(tmp_path)
    train(recipe(tmp_path, "chat", "chats.jsonl"), out=tmp_path / "run", set=["training.steps=1"])
    tokenizer = Tokenizer.read(tmp_path / "run" / "model")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    ids = theirs.apply_chat_template([{"role": "user", "content": "hi"}], add_generation_prompt=True)["input_ids"]
    assert ids == tokenizer.encode("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", control=True)
    assert open_folder(tmp_path / "run" / "model").spec.vocab == tokenizer.vocab
