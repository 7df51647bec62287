"""AdaMerging of real small classifiers of two tasks, trained from one base."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lamoid.assembly.batch import Batch
from lamoid.errors import InputError
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.stream import fuse_in_memory
from lamoid.recipes.adamerging import RULE, SurestTrunk, adamerge_classifiers, block_of
from lamoid.recipes.statistic_examples import read_examples
from lamoid.recipes.train import train
from lamoid.text.tokenizer import Tokenizer
from lamoid.weights.folder import load_model

WORDS = {
    "mood": {"glad": ["good", "fine", "great"], "sad": ["bad", "awful", "poor"]},
    "size": {"big": ["tall", "huge", "vast"], "small": ["tiny", "wee", "slim"], "none": ["red", "blue", "teal"]},
}
QUIET: dict[str, Any] = {"checkpoint": {"every": 0}, "log": {"tensorboard": False, "curve": False}}


def rows_of(task: str, seed: int) -> list[dict[str, str]]:
    rng = np.random.default_rng(seed)
    labels = list(WORDS[task])
    drawn = [labels[n % len(labels)] for n in range(90)]
    return [{"text": " ".join(rng.choice(WORDS[task][label], 4)), "label": label} for label in drawn]


def write(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that has read all texts, and a classifier of each task trained from it."""
    folder = tmp_path_factory.mktemp("tasks")
    texts = "\n".join(row["text"] for task in WORDS for row in rows_of(task, 0))
    (folder / "text.txt").write_text(texts * 3)
    base = {
        "model": {"family": "llama", "width": 32, "layers": 2, "heads": 2, "context": 32},
        "tokenizer": {"kind": "bytes", "vocab": 300},
        "data": {"train": str(folder / "text.txt")},
        "training": {"steps": 60, "batch": 8},
        "optimizer": {"learning_rate": 0.005},
    }
    train({**base, **QUIET}, out=folder / "base")
    for task in WORDS:
        tree = {
            "model": {"from": str(folder / "base" / "model")},
            "data": {"kind": "rows", "train": write(folder / f"{task}.jsonl", rows_of(task, 1))},
            "objective": {"kind": "classes", "head": "new"},
            "training": {"steps": 60, "batch": 8},
            "optimizer": {"learning_rate": 0.003},
        }
        train({**tree, **QUIET}, out=folder / task)
    return folder


def right(found: SurestTrunk, settings: Any) -> float:
    """The share of right answers on new rows, over both tasks, of the fused trunk with each one's own head."""
    fused = fuse_in_memory(*found.sources(), RULES[RULE], settings, names=found.names)
    shares = []
    for folder, task in zip(found.members, WORDS, strict=True):
        model = load_model(folder, dtype=torch.float32)
        with torch.no_grad():
            for ours, part in folder.names.parts.items():
                if part.theirs in fused:
                    model.get_parameter(ours).copy_(part.cut(fused[part.theirs]))
        names = list(next(iter(folder.spec.heads.values())).names)  # type: ignore[union-attr]
        new = rows_of(task, 2)
        rows = read_examples(Tokenizer.read(folder.path), [row["text"] for row in new], folder.spec, len(new))
        answers = [names[int(model(Batch(ids)).argmax())] for ids in rows]
        shares.append(np.mean([answer == row["label"] for answer, row in zip(answers, new, strict=True)]))
    return float(np.mean(shares))


def test_the_trunk_is_surer_and_answers_no_worse_on_new_texts(place: Path) -> None:
    members = [place / task / "model" for task in WORDS]
    texts = [[row["text"] for row in rows_of(task, 3)[:40]] for task in WORDS]
    found = adamerge_classifiers(members, place / "base" / "model", texts, start=0.05, steps=60, rate=0.03)
    assert set(found.factors) == {"embedding", "blocks.0", "blocks.1", "norm"}
    assert found.entropy_after < 0.5 * found.entropy_before
    assert {block_of(name) for name in ("blocks.11.mixer.query.weight", "norm.weight")} == {"blocks.11", "norm"}
    options = RULES[RULE].options()
    before = right(found, lambda name: ([0.05, 0.05], options))
    after = right(found, found.settings)
    assert after > before
    assert after > 0.95
    again = adamerge_classifiers(members, place / "base" / "model", texts, start=0.05, steps=60, rate=0.03)
    assert again.factors == found.factors


def test_models_of_next_tokens_are_refused_with_the_reason(place: Path) -> None:
    base = place / "base" / "model"
    with pytest.raises(InputError, match="gives no class: tokens that are sure are tokens that repeat"):
        adamerge_classifiers([base, base], base, [["good"], ["bad"]])
    with pytest.raises(InputError, match="texts: are 1 for 2 members"):
        adamerge_classifiers([base, base], base, [["good"]])
    with pytest.raises(InputError, match="no text of two tokens"):
        adamerge_classifiers([place / "mood" / "model"], base, [[""]])
