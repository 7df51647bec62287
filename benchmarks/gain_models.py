"""Trains what benchmarks/fusion_gain.py fuses: a base, experts and classifiers from it, and what is trained jointly."""

import json
from pathlib import Path
from typing import Any

from gain_data import DOMAINS, TASKS

from lamoid.recipes.train import train

SIZE = {"family": "llama", "width": 128, "layers": 4, "heads": 4, "context": 96}
BASE_STEPS, EXPERT_STEPS, TASK_STEPS = 1200, 400, 300
BATCH = 16
QUIET = {"every": 50, "tensorboard": False, "curve": False}
MUON = {
    "kind": "muon",
    "learning_rate": 0.02,
    "weight_decay": 0.1,
    "rest": {"learning_rate": 3e-3, "betas": [0.9, 0.99], "weight_decay": 0.1},
}
TUNING = {**MUON, "learning_rate": 0.005, "rest": {**MUON["rest"], "learning_rate": 5e-4}}
"""For what goes on from the base."""


def train_base(texts: Path, out: Path, seed: int) -> Path:
    """Train the base on all domains, equal shares of each."""
    tree = _recipe(seed, BASE_STEPS, MUON) | {
        "model": SIZE,
        "tokenizer": {"kind": "bytes", "vocab": 2048},
        "data": {"sources": _sources(texts)},
    }
    return _run(tree, out)


def train_expert(base: Path, texts: Path, domain: str, out: Path, seed: int) -> Path:
    """Train the base further on one domain."""
    tree = _recipe(seed, EXPERT_STEPS, TUNING) | {
        "model": {"from": str(base)},
        "data": {"train": str(texts / domain / "train.jsonl")},
    }
    return _run(tree, out)


def train_jointly(base: Path, texts: Path, out: Path, seed: int) -> Path:
    """Train the base further on all domains, for as many steps as all experts together."""
    tree = _recipe(seed, EXPERT_STEPS * len(DOMAINS), TUNING) | {
        "model": {"from": str(base)},
        "data": {"sources": _sources(texts)},
    }
    return _run(tree, out)


def train_classifier(base: Path, rows: Path, task: str, out: Path, seed: int) -> Path:
    """Train the base further as a classifier of one task, with a head of its own."""
    return _run(_classes(base, rows / task / "train.jsonl", seed, TASK_STEPS), out)


def train_on_all_tasks(base: Path, rows: Path, out: Path, seed: int) -> Path:
    """Train the base further on the rows of all tasks at once, with one head of all labels, TASK/LABEL.

    It makes two fifths of the steps of all classifiers together: its loss no longer falls by then.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    together = out.with_name(f"{out.name}.jsonl")
    lines = []
    for task in TASKS:
        for line in (rows / task / "train.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            lines.append(json.dumps({**row, "label": f"{task}/{row['label']}"}, ensure_ascii=False))
    together.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return _run(_classes(base, together, seed, TASK_STEPS * 2), out)


def _classes(base: Path, rows: Path, seed: int, steps: int) -> dict[str, Any]:
    return _recipe(seed, steps, TUNING) | {
        "model": {"from": str(base)},
        "data": {"kind": "rows", "train": str(rows), "hold_out": 0.02},
        "objective": {"kind": "classes", "head": "new", "keep": "end"},
    }


def _sources(texts: Path) -> dict[str, Any]:
    return {domain.replace(" ", "_"): {"train": str(texts / domain / "train.jsonl")} for domain in DOMAINS}


def _recipe(seed: int, steps: int, optimizer: dict[str, Any]) -> dict[str, Any]:
    return {
        "seed": seed,
        "training": {"steps": steps, "batch": BATCH, "clip": 1.0},
        "optimizer": optimizer,
        "schedule": {"warmup": steps // 20, "decay": "linear", "final": 0.0},
        "checkpoint": {"every": 0},
        "log": QUIET,
    }


def _run(tree: dict[str, Any], out: Path) -> Path:
    """Train, unless that was done, and give the model's folder."""
    if not (out / "model").is_dir():
        train(tree, out=out, resume=(out / "recipe.toml").exists())
    return out / "model"
