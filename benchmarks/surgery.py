"""Trains models that change half-way beside the same models trained whole, on tinyshakespeare with three seeds.

    python benchmarks/surgery.py --data tinyshakespeare.txt --scratch scratch [--steps 600] [--seeds 1 2 3]

The settings are those of examples/recipes/shakespeare_llama.toml but for the number of steps. Grown: two layers and,
from half-way on, four, by insertion of blocks that give nothing at first. Turned: four layers whose third turns from
attention to an LSTM half-way. Beside them two and four layers of attention and the hybrid, each trained whole, in the
same run with the same batches. The validation losses, their means with 95 % intervals over the seeds (Student's t), and
the differences by pairs of equal seed are printed and written to benchmarks/results/, the mean curves to
docs/curves/surgery.png. Runs that ended stand in the scratch folder and are not made again.
"""

import argparse
import hashlib
import json
import platform
import statistics
import tomllib
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

from lamoid.assembly.paths import with_part
from lamoid.assembly.recurrence import LSTMSpec
from lamoid.assembly.spec import encode_spec
from lamoid.recipes.train import train
from lamoid.recipes.training_result import TrainingResult
from lamoid.weights.folder import open_folder

ROOT = Path(__file__).parents[1]
SETTINGS = ROOT / "examples" / "recipes" / "shakespeare_llama.toml"
TURNED = "blocks.2.mixer"
LSTM = {"kind": "lstm", "hidden": 128}
RUNS = {
    "two layers": {"layers": 2},
    "two grown to four": {
        "layers": 2,
        "moves": ({"kind": "insert", "path": path} for path in ("blocks.1", "blocks.3")),
    },
    "four layers": {"layers": 4},
    "third turned to LSTM": {"layers": 4, "moves": ({"kind": "replace", "path": TURNED, "spec": LSTM},)},
    "third an LSTM": {"layers": 4, "hybrid": True},
}
RUNS = {name: {**run, "moves": list(run.get("moves", ()))} for name, run in RUNS.items()}
PAIRS = [
    ("two grown to four", "two layers"),
    ("two grown to four", "four layers"),
    ("third turned to LSTM", "four layers"),
    ("third turned to LSTM", "third an LSTM"),
]
PANELS = {
    "Grown half-way": ("two layers", "two grown to four", "four layers"),
    "Turned half-way": ("four layers", "third turned to LSTM", "third an LSTM"),
}
COLOURS = ("#8aa9c8", "#c1440e", "#2a6099")
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Student's t for a two-sided interval of 95 %, by the number of seeds."""


def recipe_of(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Give the recipe of one run; the hybrid's spec is written beside the runs."""
    tree, run, steps = tomllib.loads(SETTINGS.read_text(encoding="utf-8")), RUNS[name], arguments.steps
    tree["seed"] = seed
    tree["model"]["layers"] = run["layers"]
    tree["data"]["train"] = str(arguments.data)
    tree["training"]["steps"] = steps
    tree["schedule"]["warmup"] = min(tree["schedule"]["warmup"], steps // 8)
    tree["evaluation"]["every"] = max(1, steps // 6)
    tree["checkpoint"]["every"] = 0
    tree["log"] = {"every": max(1, steps // 60), "tensorboard": False, "curve": False}
    tree["moves"] = [{"step": steps // 2, **move} for move in run["moves"]]
    if run.get("hybrid"):
        whole = open_folder(arguments.scratch / f"four-layers-{seed}" / "model").spec
        path = arguments.scratch / "hybrid.json"
        path.write_bytes(encode_spec(with_part(whole, TURNED, LSTMSpec(hidden=LSTM["hidden"]))))
        tree["model"] = {"spec": str(path)}
    return tree


def measure(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train once and give what there is to tell."""
    out = arguments.scratch / f"{name.replace(' ', '-')}-{seed}"
    result = train(recipe_of(name, seed, arguments), out=out, resume=out.exists())
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = {
        kind: [(line["step"], line[kind]) for line in lines if kind in line] for kind in ("loss", "validation_loss")
    }
    print(f"{name}, seed {seed}: {result.validation_loss:.4f} nats a token, {result.seconds:.0f} s", flush=True)
    return {"seed": seed, "curves": losses, **_told(result)}


def _told(result: TrainingResult) -> dict[str, Any]:
    moves = [
        {
            "step": move.step,
            "kind": move.kind,
            "path": move.path,
            "is_preserving": move.is_preserving,
            "kept": move.kept,
            "added": len(move.added),
            "removed": len(move.removed),
            "loss_before": move.loss_before,
            "loss_after": move.loss_after,
        }
        for move in result.moves
    ]
    return {
        "validation_loss": result.validation_loss,
        "parameters": result.parameters,
        "seconds": round(result.seconds, 1),
        "tokens": result.tokens,
        "moves": moves,
    }


def interval(values: Sequence[float]) -> dict[str, float]:
    """Give mean and 95 % interval of a few values that are normally distributed."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return {"mean": mean}
    half = T_95.get(len(values), 1.96) * statistics.stdev(values) / len(values) ** 0.5
    return {"mean": mean, "low": mean - half, "high": mean + half}


def sum_up(runs: dict[str, list[dict[str, Any]]], arguments: argparse.Namespace) -> dict[str, Any]:
    """Give the whole report."""
    ends = {name: [run["validation_loss"] for run in found] for name, found in runs.items()}
    rows = [
        {
            "model": name,
            "parameters": found[0]["parameters"],
            "validation_loss": interval(ends[name]),
            "seconds": statistics.median(run["seconds"] for run in found),
        }
        for name, found in runs.items()
    ]
    pairs = [
        {
            "model": one,
            "less": other,
            "difference": interval([a - b for a, b in zip(ends[one], ends[other], strict=True)]),
        }
        for one, other in PAIRS
    ]
    return {
        "date": date.today().isoformat(),
        "metric": "validation loss, nats a token, after the last step",
        "data_sha256": hashlib.sha256(arguments.data.read_bytes()).hexdigest(),
        "settings": str(SETTINGS.relative_to(ROOT)),
        "steps": arguments.steps,
        "seeds": arguments.seeds,
        "threads": arguments.threads,
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "rows": rows,
        "differences": pairs,
        "runs": runs,
    }


def draw(runs: dict[str, list[dict[str, Any]]], half: int, path: Path) -> None:
    """Draw means over seeds: lines for the training loss, points with the seeds' span for the validation loss."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), dpi=120, layout="constrained")
    for axes, (title, names) in zip(figure.subplots(1, 2, sharey=True), PANELS.items(), strict=True):
        for name, colour in zip(names, COLOURS, strict=True):
            steps, means, _ = _over_seeds(runs[name], "loss")
            axes.plot(steps, means, color=colour, linewidth=0.7, alpha=0.6)
            steps, means, spans = _over_seeds(runs[name], "validation_loss")
            axes.errorbar(steps, means, spans, color=colour, marker="o", markersize=4, linewidth=0, elinewidth=1)
            axes.plot([], [], color=colour, marker="o", label=f"{name}: {means[-1]:.4f}")
        axes.axvline(half, color="#999999", linewidth=0.8, linestyle=":")
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        axes.legend(title="validation loss at the end, mean over seeds", loc="upper right")
    # What comes before the first measurement is the same steep fall for all.
    figure.axes[0].set_ylim(top=min(figure.axes[0].get_ylim()[1], 2.8))
    figure.axes[0].set_ylabel("loss, nats a token: lines training, points validation")
    figure.savefig(path)


def _over_seeds(runs: list[dict[str, Any]], kind: str) -> tuple[list[int], list[float], list[list[float]]]:
    """Give the steps of a curve, the means over seeds, and how far the lowest and the highest lie from them."""
    steps = [step for step, _ in runs[0]["curves"][kind]]
    values = list(zip(*([loss for _, loss in run["curves"][kind]] for run in runs), strict=True))
    means = [statistics.mean(at) for at in values]
    below = [mean - min(at) for mean, at in zip(means, values, strict=True)]
    above = [max(at) - mean for mean, at in zip(means, values, strict=True)]
    return steps, means, [below, above]


def show(report: dict[str, Any]) -> None:
    """Print the tables."""
    for row in report["rows"]:
        loss = row["validation_loss"]
        span = f" ({loss['low']:.4f} to {loss['high']:.4f})" if "low" in loss else ""
        print(f"{row['model']:<22}{row['parameters']:>9,} {loss['mean']:.4f}{span} {row['seconds']:>6.0f} s")
    for pair in report["differences"]:
        found = pair["difference"]
        span = f" ({found['low']:+.4f} to {found['high']:+.4f})" if "low" in found else ""
        print(f"{pair['model']} less {pair['less']}: {found['mean']:+.4f}{span}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--curves", type=Path, default=ROOT / "docs" / "curves")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    # By seeds first: what slows the machine for a while slows all models alike.
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in RUNS}
    for seed in arguments.seeds:
        for name in RUNS:
            runs[name].append(measure(name, seed, arguments))
    report = sum_up(runs, arguments)
    show(report)
    path = arguments.results / f"surgery-{report['date']}.json"
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    draw(runs, arguments.steps // 2, arguments.curves / "surgery.png")


if __name__ == "__main__":
    main()
