"""Where sharing helps and where it hurts: two pairs of tasks, each with trunks apart, shared, partly and softly shared.

    python benchmarks/sharing.py [--steps 400] [--seeds 1 2 3] [--scratch FOLDER]

Related: the polarity of film critics' sentences (nltk's sentence_polarity) and of whole reviews (movie_reviews, of
which the last tokens are read). Unrelated: the same sentences and the fields of Chinese papers by their titles
(csl_zh). The data are looked for in the folder that LAMOID_DATA names. A text is held out by the hash of its
characters, so training and test parts are the same in every run; runs of one seed begin with the same trunks and read
the same batches, whatever they share. The settings are the first that learned polarity alone in a trial; none was
chosen by how the modes compare.

A mode's accuracy minus that of separate trunks is taken text by text and seed by seed; its 95 % interval comes from
resampling texts and, independently, seeds. "helps" and "hurts" say that the interval does not hold 0: of 20 such
comparisons one is expected to do so by chance. Written to benchmarks/results/, drawn to docs/curves/sharing.png. Runs
that ended stand in the scratch folder and are not made again. About 15 minutes on two quiet cores.
"""

import argparse
import json
import os
import platform
import zipfile
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from lamoid.assembly.attention import AttentionSpec
from lamoid.assembly.block import BlockSpec
from lamoid.assembly.feedforward import GatedSpec
from lamoid.assembly.group import GroupSpec, ModelGroup, initialise_group
from lamoid.assembly.sharing import ShareSpec
from lamoid.assembly.sight import BidirectionalSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.task_heads import AverageSpec, ClassesSpec
from lamoid.data.labelled import Labelled, hold_out, number_labels, read_labelled
from lamoid.data.task_rows import TaskLoader, TaskRows, label_rows
from lamoid.evaluation.accuracy import accuracy, accuracy_difference
from lamoid.evaluation.units import hash_texts
from lamoid.recipes.multitask import measure
from lamoid.text.training import train_tokenizer
from lamoid.training.loop import train_loop
from lamoid.training.moves import apply_moves
from lamoid.training.optimizers import AdamWSpec
from lamoid.training.parameter_groups import trained_parameters
from lamoid.training.schedule import ScheduleSpec
from lamoid.training.soft_tie import SoftTie, SoftTieSpec
from lamoid.training.state import TrainingState
from lamoid.training.task_moves import MoveSpec, UntieSpec, as_moves
from lamoid.training.tasks import TASK_OBJECTIVES, Penalty, RunningLosses, TaskBatches, TaskObjective
from lamoid.training.update import Update

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("LAMOID_DATA", ROOT.parent / "shared" / "data"))
PAIRS = {"related": ("polarity", "reviews"), "unrelated": ("polarity", "topics")}
HELD_OUT = {"polarity": 0.2, "reviews": 0.4, "topics": 0.2}
VOCAB, CONTEXT, WIDTH, LAYERS, HEADS, BATCH, RATE = 4096, 96, 64, 2, 4, 32, 3e-3
TRUNK = ("*.embedding", "*.blocks", "*.norm")
SOFT = {"strength": 0.1, "tau": 0.5}
COLOURS = ("#555555", "#2a6099", "#3b8f5a", "#8fb339", "#c1440e", "#8a4fa3")


@dataclass(frozen=True)
class Mode:
    """What the two models have in common: from the start, until half-way, or softly."""

    shared: tuple[str, ...] = ()
    until_half: tuple[str, ...] = ()
    soft: tuple[str, ...] = ()

    def rules(self) -> tuple[ShareSpec, ...]:
        return tuple(ShareSpec((path,)) for path in self.shared + self.until_half)

    def moves(self, steps: int) -> list[MoveSpec]:
        return [UntieSpec(max(1, steps // 2), (path,)) for path in self.until_half]


MODES = {
    "separate": Mode(),
    "global": Mode(TRUNK),
    "local: first half": Mode(("*.embedding", f"*.blocks.:{LAYERS // 2}")),
    "local: feed-forwards": Mode(("*.blocks.*.feedforward",)),
    "dynamic: soft tie": Mode(soft=TRUNK),
    "dynamic: untied half-way": Mode(until_half=TRUNK),
}


def polarity() -> list[Labelled]:
    with zipfile.ZipFile(DATA / "nltk" / "sentence_polarity" / "sentence_polarity.zip") as archive:
        sides = {
            side: archive.read(f"sentence_polarity/rt-polarity.{side}").decode("latin-1") for side in ("neg", "pos")
        }
    lines = [(line.strip(), side) for side, text in sides.items() for line in text.splitlines()]
    return [Labelled(line, side, "sentence_polarity") for line, side in lines if line]


def reviews() -> list[Labelled]:
    with zipfile.ZipFile(DATA / "nltk" / "movie_reviews" / "movie_reviews.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".txt"))
        return [Labelled(archive.read(name).decode("latin-1"), name.split("/")[1], name) for name in names]


def topics() -> list[Labelled]:
    parts = [
        read_labelled(DATA / "csl_zh" / f"cls_ctg_{part}.tsv", text="2", label="3") for part in ("train", "dev", "test")
    ]
    return [entry for part in parts for entry in part]


READERS = {"polarity": polarity, "reviews": reviews, "topics": topics}


@dataclass(frozen=True)
class Task:
    """A task's rows, its labels' names, and the hash of its texts."""

    train: TaskRows
    test: TaskRows
    names: tuple[str, ...]
    data_hash: str


@cache
def tasks_of(pair: str) -> tuple[dict[str, Task], int]:
    """Read a pair, with one tokenizer learned from both parts to train on; give the tasks and its size."""
    sides = {name: hold_out(READERS[name](), HELD_OUT[name]) for name in PAIRS[pair]}
    tokenizer = train_tokenizer((entry.text for train, _ in sides.values() for entry in train), vocab=VOCAB)
    found = {}
    for name, (train, test) in sides.items():
        names, numbers, wanted = number_labels(train, test)
        rows = [
            label_rows(name, tokenizer.encode_many([entry.text for entry in side]), labels, CONTEXT, "end")
            for side, labels in ((train, numbers), (test, wanted))
        ]
        texts = [part for entry in (*train, *test) for part in (entry.text, entry.label)]
        found[name] = Task(*rows, names, hash_texts(texts))
    return found, tokenizer.vocab


def make_group(pair: str, mode: Mode) -> ModelGroup:
    tasks, vocab = tasks_of(pair)
    attention = AttentionSpec(heads=HEADS, head_width=WIDTH // HEADS, sees=BidirectionalSpec())
    block = BlockSpec(mixer=attention, feedforward=GatedSpec(2 * WIDTH))
    models = {
        name: ModelSpec(
            WIDTH,
            vocab,
            CONTEXT,
            blocks=(block,) * LAYERS,
            heads={"classes": ClassesSpec(count=len(task.names), names=task.names, pool=AverageSpec())},
        )
        for name, task in tasks.items()
    }
    return ModelGroup(GroupSpec(models, mode.rules()))


def run(pair: str, mode: Mode, seed: int, steps: int) -> dict[str, Any]:
    """Train one group; give parameters, seconds and each task's right answers."""
    tasks, _ = tasks_of(pair)
    group = make_group(pair, mode)
    parameters = sum(parameter.numel() for parameter in group.parameters())
    initialise_group(group, seed)
    state = TrainingState(cast(Any, group), AdamWSpec(learning_rate=RATE).build(trained_parameters(group)), steps)
    running = RunningLosses()
    penalties = [
        Penalty(path, SoftTie(SoftTieSpec((path,), **SOFT), group, running.values).penalty) for path in mode.soft
    ]
    classes, weights = dict.fromkeys(tasks, TASK_OBJECTIVES["classes"]), dict.fromkeys(tasks, 1.0)
    objective = TaskObjective(classes, weights, penalties, running)
    loaders = {name: TaskLoader(task.train, batch=BATCH, seed=seed) for name, task in tasks.items()}
    hooks = [
        (1, lambda state: running.end_step()),
        (1, apply_moves(as_moves(mode.moves(steps)), lambda state: 0.0, [])),
    ]
    update = Update(ScheduleSpec(decay="linear", final=0.0))
    train_loop(state, TaskBatches(loaders, "mixed"), objective.objective(), update, hooks)
    answers = {}
    for name, task in tasks.items():
        loss, right = measure(group.member(name), task.test)
        assert right is not None
        answers[name] = {"loss": loss, "right": "".join(str(int(answer)) for answer in right)}
    return {
        "parameters": parameters,
        "parameters_at_the_end": sum(parameter.numel() for parameter in group.parameters()),
        "seconds": state.seconds,
        "training_losses": dict(running.values),
        "tasks": answers,
    }


def kept_run(scratch: Path | None, pair: str, name: str, seed: int, steps: int) -> dict[str, Any]:
    """Make a run, or read it where it was made already."""
    file = (
        None if scratch is None else scratch / f"{pair}-{name.replace(': ', '-').replace(' ', '_')}-{seed}-{steps}.json"
    )
    if file is not None and file.exists():
        return json.loads(file.read_text())
    found = run(pair, MODES[name], seed, steps)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found))
    return found


def right_answers(runs: list[dict[str, Any]], task: str) -> np.ndarray:
    """Give (seeds, texts), 1 where a run is right."""
    return np.array([[int(answer) for answer in found["tasks"][task]["right"]] for found in runs])


def compare(pair: str, runs: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Give a row for each mode and task, with its difference from separate trunks."""
    rows = []
    for name, made in runs.items():
        for task in PAIRS[pair]:
            ours, apart = right_answers(made, task), right_answers(runs["separate"], task)
            share, interval = accuracy(ours)
            difference, spread = accuracy_difference(ours, apart)
            assert spread is not None
            verdict = "helps" if spread[0] > 0 else "hurts" if spread[1] < 0 else "not told apart"
            rows.append(
                {
                    "pair": pair,
                    "mode": name,
                    "task": task,
                    "accuracy": share,
                    "interval": interval,
                    "by_seed": [float(part.mean()) for part in ours],
                    "loss_by_seed": [found["tasks"][task]["loss"] for found in made],
                    "minus_separate": difference,
                    "minus_separate_interval": spread,
                    "verdict": "-" if name == "separate" else verdict,
                    "texts": int(ours.shape[1]),
                    "parameters": made[0]["parameters"],
                    "parameters_at_the_end": made[0]["parameters_at_the_end"],
                    "seconds_by_seed": [found["seconds"] for found in made],
                }
            )
    return rows


def show(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    below, above = row["minus_separate_interval"]
    apart = f"{100 * row['minus_separate']:+5.1f} [{100 * below:+5.1f}, {100 * above:+5.1f}]"
    return (
        f"{row['pair']:9} {row['mode']:24} {row['task']:8} {100 * row['accuracy']:5.1f} %"
        f" [{100 * low:.1f}, {100 * high:.1f}]  {apart}  {row['verdict']:14}"
        f" {row['parameters']:9,} parameters {np.median(row['seconds_by_seed']):6.1f} s"
    )


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw each mode's accuracy minus that of separate trunks, a panel for each task of each pair."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6), dpi=120, layout="constrained")
    panels = [(pair, task) for pair, tasks in PAIRS.items() for task in tasks]
    for axes, (pair, task) in zip(figure.subplots(2, 2, sharex=True).flat, panels, strict=True):
        here = [row for row in rows if (row["pair"], row["task"]) == (pair, task)]
        alone = here[0]
        for place, (row, colour) in enumerate(zip(here[1:], COLOURS[1:], strict=True)):
            value, (low, high) = row["minus_separate"], row["minus_separate_interval"]
            error = [[100 * (value - low)], [100 * (high - value)]]
            axes.errorbar(100 * value, -place, xerr=error, fmt="o", color=colour, capsize=3)
        axes.set_yticks([-place for place in range(len(here) - 1)], [row["mode"] for row in here[1:]])
        axes.axvline(0.0, color=COLOURS[0], linewidth=0.8)
        axes.set_title(f"{pair} pair: {task} (separate {100 * alone['accuracy']:.1f} %)", fontsize=10)
        axes.grid(alpha=0.3)
    figure.supxlabel("accuracy minus that of separate trunks, percentage points, 95 % intervals")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--pairs", nargs="+", default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument("--scratch", type=Path, default=None, help="folder where runs that ended are kept")
    parser.add_argument("--out", type=Path, default=None, help="default benchmarks/results/sharing-DATE.json")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "curves" / "sharing.png")
    words = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for pair in words.pairs:
        # Seed by seed and mode by mode, so that a machine that grows busier does so for all modes.
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in MODES}
        for seed in words.seeds:
            for name in MODES:
                runs[name].append(kept_run(words.scratch, pair, name, seed, words.steps))
                print(f"{pair} {name} seed {seed}: {runs[name][-1]['seconds']:.1f} s", flush=True)
        rows += compare(pair, runs)
    print("\n".join(show(row) for row in rows))
    settings = {"vocab": VOCAB, "context": CONTEXT, "width": WIDTH, "layers": LAYERS, "batch": BATCH, "rate": RATE}
    result = {
        "date": date.today().isoformat(),
        "command": "python benchmarks/sharing.py",
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "versions": {"torch": torch.__version__},
        "settings": {**settings, "steps": words.steps, "soft": SOFT, "held_out": HELD_OUT},
        "seeds": words.seeds,
        "data": {name: task.data_hash for pair in words.pairs for name, task in tasks_of(pair)[0].items()},
        "rows": rows,
    }
    out = words.out or ROOT / "benchmarks" / "results" / f"sharing-{result['date']}.json"
    out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    if set(words.pairs) == set(PAIRS):
        draw(rows, words.picture)
    print(f"written to {out}")


if __name__ == "__main__":
    main()
