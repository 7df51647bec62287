"""What statistics are measured on: windows from all texts, and classifiers asked without labels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lamoid.assembly.batch import Batch
from lamoid.errors import InputError
from lamoid.fusion.statistics.fisher import fisher_information
from lamoid.recipes.fusion_statistics import statistics
from lamoid.recipes.statistic_examples import losses_of, read_examples
from lamoid.recipes.train import train
from lamoid.text.tokenizer import Tokenizer
from lamoid.weights.folder import load_model, open_folder

WORDS = (["good", "fine", "great"], ["bad", "awful", "poor"])


def write_rows(folder: Path) -> list[str]:
    rng = np.random.default_rng(0)
    rows = [{"text": " ".join(rng.choice(WORDS[n % 2], 4)), "label": ["yes", "no"][n % 2]} for n in range(60)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return [row["text"] for row in rows]


def make(folder: Path, family: str, **tables: Any) -> Path:
    tree = {
        "model": {"family": family, "width": 16, "layers": 2, "heads": 2, "context": 8},
        "training": {"steps": 3, "batch": 4},
        "log": {"tensorboard": False, "curve": False},
        "checkpoint": {"every": 0},
    }
    train({**tree, **tables}, out=folder / "run")
    return folder / "run" / "model"


def make_classifier(folder: Path, family: str) -> Path:
    data = {"kind": "rows", "train": str(folder / "rows.jsonl")}
    return make(folder, family, data=data, objective={"kind": "classes"}, tokenizer={"kind": "bytes", "vocab": 290})


@pytest.mark.parametrize("family", ["llama", "bert"])
def test_a_classifier_is_asked_for_each_answer_it_may_give(family: str, tmp_path: Path) -> None:
    texts = write_rows(tmp_path)
    path = make_classifier(tmp_path, family)
    folder = open_folder(path)
    model = load_model(folder, dtype=torch.float32)
    rows = read_examples(Tokenizer.read(path), texts, folder.spec, 5)
    found = fisher_information(model, losses_of(model, rows))
    parameters = dict(model.named_parameters())
    expected = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for row in rows:
        shares = model(Batch(row))[0].log_softmax(-1)
        for nats in shares:
            grads = torch.autograd.grad(-nats, list(parameters.values()), retain_graph=True, allow_unused=True)
            for name, grad in zip(parameters, grads, strict=True):
                expected[name] += 0.0 if grad is None else nats.detach().exp() * grad.square() / len(rows)
    for name, wanted in expected.items():
        torch.testing.assert_close(found[name], wanted, rtol=1e-4, atol=1e-9)
    assert sum(bool(part.any()) for part in found.values()) > len(found) / 2
    statistics(path, on=tmp_path / "rows.jsonl", out=tmp_path / "grams", kind="gram", examples=4)
    names = [name for name in load_file(tmp_path / "grams" / "model.safetensors") if "score" in name or "class" in name]
    assert names  # the head was asked too


def test_windows_come_from_all_texts_in_turn(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("abcdefgh" * 40)
    path = make(tmp_path, "llama", data={"train": str(tmp_path / "text.txt")}, tokenizer={"kind": "characters"})
    tokenizer, spec = Tokenizer.read(path), open_folder(path).spec
    texts = [letter * 30 for letter in "abcdefgh"]

    def letters(examples: int) -> str:
        return "".join(
            tokenizer.decode(row[0, -1:].tolist()) for row in read_examples(tokenizer, texts, spec, examples)
        )

    assert letters(4) == "aceg"
    assert letters(10) == "abcdefghab"
    assert len(letters(1000)) == 8 * 4  # all there is, in windows of at most the context
    assert max(row.shape[1] for row in read_examples(tokenizer, texts, spec, 1000)) == 9
    with pytest.raises(InputError, match="no text of two tokens"):
        read_examples(tokenizer, [""], spec, 4)


def test_an_encoder_has_products_and_no_loss_on_text(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the quick brown fox\n" * 20)
    data, tokenizer = {"train": str(tmp_path / "text.txt")}, {"kind": "bytes", "vocab": 290, "mask": True}
    path = make(tmp_path, "bert", data=data, tokenizer=tokenizer, objective={"kind": "masked"})
    found = statistics(path, on=tmp_path / "text.txt", out=tmp_path / "grams", kind="gram")
    assert found.tensors >= 2 * 6
    with pytest.raises(InputError, match="sees later tokens"):
        statistics(path, on=tmp_path / "text.txt", out=tmp_path / "fisher")
    assert not (tmp_path / "fisher").exists()
