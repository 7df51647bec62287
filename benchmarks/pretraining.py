"""Pre-trains a small BERT, T5 and ELECTRA and a causal model of the same size on one text, some minutes each.

    python benchmarks/pretraining.py --data a.txt b.txt --scratch scratch [--minutes 5] [--threads 2] [--only BERT T5]

The last of the texts must have several documents: its end is what is measured on.
The settings are those of examples/recipes/{bert,t5,electra}.toml but for the number of steps, which is what the minutes
allow: a few steps are timed first. The causal model is a Llama of BERT's size, and all four read with one tokenizer and
the same tokens. Each ends below the entropy of what it has to say, if that were drawn from the counts of the
training's targets alone (for ELECTRA: its generator's targets; beside them the entropy of how often a token is
replaced). The table is printed and written to benchmarks/results/, the curves to docs/curves/pretraining.png. A nat a
masked token, seen from both sides, is no nat a next token: they are drawn together to be compared with their own lines.
"""

import argparse
import hashlib
import json
import math
import platform
import tomllib
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lamoid.assembly.likelihood import IGNORED
from lamoid.data.loader import sequential
from lamoid.data.shards import open_shards
from lamoid.recipes.read_recipe import read_recipe
from lamoid.recipes.text_objective import TextObjective
from lamoid.recipes.train import train
from lamoid.text.tokenizer import Tokenizer

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "examples" / "recipes"
RUNS = {
    "causal": ("bert", "next_token", {"model": {"family": "llama"}, "objective": {"kind": "causal"}}),
    "BERT": ("bert", "masked", {}),
    "T5": ("t5", "next_token", {}),
    "ELECTRA": ("electra", "masked", {}),
}
"""By name: the recipe, the term that is compared, and what is changed in the recipe."""
CONTROLS = {"mask": True, "sentinels": 100}
SAID = {"causal": "next token", "BERT": "masked", "T5": "cut out", "ELECTRA": "masked, its generator"}
COLOURS = {"causal": "#777777", "BERT": "#2a6099", "T5": "#c1440e", "ELECTRA": "#3a7d44"}
TRIED = 30
"""Steps that are timed."""
EVALUATIONS = 12
_REPLACED = -(0.15 * math.log(0.15) + 0.85 * math.log(0.85))
"""Nats a token of whoever knows of replacements only how often they are, at most: if no sample hits what was there."""


def recipe_of(name: str, arguments: argparse.Namespace, steps: int) -> dict[str, Any]:
    """Give the recipe of one run, on the text or on the tokens that the first run made of it."""
    file, _, changes = RUNS[name]
    tree = tomllib.loads((RECIPES / f"{file}.toml").read_text(encoding="utf-8"))
    tree["objective"] = changes.get("objective", tree["objective"])
    tree["model"] |= changes.get("model", {})
    tree["tokenizer"] |= CONTROLS
    tree["data"] |= {"train": [str(path) for path in arguments.data], "separator": arguments.separator}
    prepared = arguments.scratch / "tokens" / "data"
    if prepared.is_dir():
        tree["data"] = {"train": str(prepared / "train"), "validation": str(prepared / "validation")}
        del tree["tokenizer"]
    tree["training"]["steps"] = steps
    tree["schedule"]["warmup"] = min(tree["schedule"]["warmup"], steps // 8)
    tree["evaluation"]["every"] = max(1, steps // EVALUATIONS)
    tree["checkpoint"]["every"] = 0
    tree["log"] = {"every": max(1, steps // 60), "tensorboard": False, "curve": False}
    return tree


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time a few steps, train as many as the minutes allow, and give what there is to tell."""
    out = arguments.scratch / name.lower()
    if not (out / "result.json").is_file():
        tried = train(recipe_of(name, arguments, TRIED), out=arguments.scratch / f"{name.lower()}-tried")
        steps = max(EVALUATIONS, int(arguments.minutes * 60 * TRIED / tried.seconds))
    else:
        steps = tomllib.loads((out / "recipe.toml").read_text(encoding="utf-8"))["training"]["steps"]
    recipe = read_recipe(recipe_of(name, arguments, steps))
    result = train(recipe, out=out, resume=out.exists())
    term = RUNS[name][1]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    curve = [(line["step"], line[f"validation_loss/{term}"]) for line in lines if f"validation_loss/{term}" in line]
    last = [line for line in lines if "validation_loss" in line][-1]
    entropy = target_entropy(recipe, arguments)
    print(
        f"{name}: {curve[-1][1]:.4f} nats a target, unigrams {entropy:.4f}",
        f"{result.steps} steps, {result.seconds:.0f} s",
        sep="; ",
        flush=True,
    )
    return {
        "model": name,
        "parameters": result.parameters,
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "tokens": result.tokens,
        "term": term,
        "loss": curve[-1][1],
        "unigram_entropy": entropy,
        "is_below": curve[-1][1] < entropy,
        "terms": {key.partition("/")[2]: value for key, value in last.items() if key.startswith("validation_loss/")},
        "curve": curve,
        "training": [(line["step"], line["loss"]) for line in lines if "loss" in line],
    }


def target_entropy(recipe: Any, arguments: argparse.Namespace) -> float:
    """Give the entropy in nats of the targets that the objective makes of the training tokens, by their counts."""
    shards = open_shards(arguments.scratch / "tokens" / "data" / "train")
    objective = recipe.objective
    if not isinstance(objective, TextObjective):
        raise TypeError(f"{objective} is not learnt from a text")
    view = objective.view(Tokenizer.read(shards.folder), recipe.training.context or recipe.model.context)
    counts: Counter[int] = Counter()
    for example in sequential(shards, view, batch=64):
        targets = example.targets[example.targets != IGNORED]
        counts.update(dict(zip(*(part.tolist() for part in targets.unique(return_counts=True)), strict=True)))
    shares = np.array(list(counts.values())) / counts.total()
    return float(-(shares * np.log(shares)).sum())


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw each curve with the line that it must come below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    for row in rows:
        steps, losses = zip(*row["curve"], strict=True)
        minutes = [step * row["seconds"] / row["steps"] / 60 for step in steps]
        colour, what = COLOURS[row["model"]], SAID[row["model"]]
        axes.plot(minutes, losses, color=colour, marker="o", markersize=3, label=f"{row['model']} ({what})")
        axes.axhline(row["unigram_entropy"], color=colour, linewidth=0.8, linestyle=":")
    axes.set(xlabel="minutes of training", ylabel="validation loss, nats a target")
    axes.set_title("Dotted: the entropy of the targets by their counts", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


def main() -> None:
    """Train, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--separator", default="\n \n", help="between documents; as wikitext has it by default")
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the JSON")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "curves" / "pretraining.png")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    if not (arguments.scratch / "tokens" / "result.json").is_file():  # one step, for the tokenizer and the tokens
        train(recipe_of("causal", arguments, 1) | {"schedule": {}}, out=arguments.scratch / "tokens")
    rows = [measure(name, arguments) for name in arguments.only]
    for row in rows:
        if row["model"] == "ELECTRA":
            row["replaced_entropy"] = _REPLACED
    report = {
        "date": date.today().isoformat(),
        "metric": "validation loss in nats a target, after the last step",
        "data_sha256": [hashlib.sha256(path.read_bytes()).hexdigest() for path in arguments.data],
        "minutes": arguments.minutes,
        "threads": arguments.threads,
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "rows": rows,
    }
    print(f"{'model':10} {'parameters':>11} {'steps':>6} {'seconds':>8} {'loss':>8} {'unigrams':>9}")
    for row in rows:
        figures = f"{row['parameters']:11,} {row['steps']:6} {row['seconds']:8.0f} {row['loss']:8.4f}"
        print(f"{row['model']:10} {figures} {row['unigram_entropy']:9.4f}  {row['terms']}")
    (arguments.out / f"pretraining-{report['date']}.json").write_text(json.dumps(report, indent=1) + "\n")
    draw(rows, arguments.picture)


if __name__ == "__main__":
    main()
