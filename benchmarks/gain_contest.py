"""What benchmarks/fusion_gain.py compares: fused models held in memory, and their scores on the domains and tasks."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
import torch

from lamoid.assembly.model import LanguageModel
from lamoid.data.row_batches import TextRows
from lamoid.data.task_rows import by_length
from lamoid.evaluation.perplexity import document_losses
from lamoid.fusion.match import weight_names
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.stream import Source, fuse_in_memory
from lamoid.recipes.fusion_statistics import measure_statistics
from lamoid.recipes.row_data import cut_single
from lamoid.text.tokenizer import Tokenizer
from lamoid.training.supervised import answer
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import ModelFolder, load_model, open_folder
from lamoid.weights.held import HeldTensors
from lamoid.weights.read import Tensors, open_tensors

Scores = dict[str, np.ndarray]
"""By domain or task, one row a unit: (nats, tokens), or (right, 1)."""


@dataclass(frozen=True)
class Members:
    """The models of one seed; ``names`` are the tensors that they have in common."""

    folders: list[ModelFolder]
    base: ModelFolder
    names: list[str]
    seed: int
    statistics: Mapping[str, list[Tensors]] = field(default_factory=dict)

    @classmethod
    def open(cls, paths: Sequence[Path], base: Path, seed: int) -> "Members":
        """Open members and base; tensors that not all have in one shape, such as heads, stay apart."""
        folders, origin = [open_folder(path) for path in paths], open_folder(base)
        names = [
            name
            for name in weight_names(origin)
            if all(name in f.tensors and f.tensors[name].shape == origin.tensors[name].shape for f in folders)
        ]
        return cls(folders, origin, names, seed)

    def fuse(self, rule: str, weights: Sequence[float], options: Mapping[str, object] | None = None) -> dict:
        """Give the fused tensors by name."""
        row = RULES[rule]
        numbers = msgspec.convert(dict(options or {}), row.options)
        known = self.statistics.get(row.statistic or "", [None] * len(self.folders))
        sources = [
            Source(str(folder.path), folder.tensors, statistics=statistic)
            for folder, statistic in zip(self.folders, known, strict=True)
        ]
        base = None if row.base == "none" else Source(str(self.base.path), self.base.tensors)
        return fuse_in_memory(
            sources, base, row, lambda _: (list(weights), numbers), names=self.names, seed=self.seed, threads=1
        )


def measured(folder: ModelFolder, texts: Sequence[str], kind: str, place: Path) -> Tensors:
    """Give a member's statistic on texts of its own, measured once."""
    if not place.is_dir():
        with durable_folder(place) as draft:
            measure_statistics(folder, texts, kind, 256, draft)
    return open_tensors(place)


def labels_of(folder: ModelFolder) -> list[str]:
    """Name a classifier's labels in the order of its logits."""
    return list(next(iter(folder.spec.heads.values())).names)  # type: ignore[union-attr]


def build(folder: ModelFolder, fused: Mapping[str, torch.Tensor]) -> LanguageModel:
    """Give a model of a folder's form with the fused tensors, and its own where they have none."""
    held = {name: fused[name] if name in fused else folder.tensors.tensor(name) for name in folder.tensors}
    return load_model(replace(folder, tensors=HeldTensors(folder.tensors, held)))


def own(folder: ModelFolder) -> dict[str, torch.Tensor]:
    """Give a model's own tensors."""
    return {name: folder.tensors.tensor(name) for name in folder.tensors}


class Texts:
    """Scores language models on a part ("measure", "judge") of each domain, in nats."""

    def __init__(self, place: Path, domains: Sequence[str], part: str, tokenizer: Path, share: int = 1) -> None:
        self.tokenizer = Tokenizer.read(tokenizer)
        self.texts = {domain: read_lines(place / domain / f"{part}.jsonl")[::share] for domain in domains}

    def score(self, model: LanguageModel) -> Scores:
        """Give nats and tokens of each document."""
        return {
            domain: np.array([[loss.nats, loss.tokens] for loss in document_losses(model, self.tokenizer, texts)])
            for domain, texts in self.texts.items()
        }


class Tasks:
    """Scores classifiers on a part of each task: how many answers are wrong."""

    def __init__(self, place: Path, tasks: Mapping[str, list[str]], part: str, tokenizer: Path, most: int) -> None:
        read, self.rows = Tokenizer.read(tokenizer), {}
        for task, names in tasks.items():
            entries = [json.loads(line) for line in (place / task / f"{part}.jsonl").read_text("utf-8").splitlines()]
            entries = entries[:most]
            ids = [cut_single(ids, read, 96, keep_end=True) for ids in read.encode_many([e["text"] for e in entries])]
            targets = torch.tensor([names.index(entry["label"]) for entry in entries])
            self.rows[task] = TextRows(task, [np.asarray(row, np.int64) for row in ids], targets)

    def score(self, model_of: Callable[[str], tuple[LanguageModel, slice]]) -> Scores:
        """Give, for each text, 1 if the answer is wrong; ``model_of`` gives a task's model and its logits' range."""
        found: Scores = {}
        for task, rows in self.rows.items():
            model, logits = model_of(task)
            wrong = np.zeros((len(rows), 2))
            wrong[:, 1] = 1.0
            with torch.inference_mode():
                for places, part in by_length(rows, 64):
                    said = answer(model, part)[1][:, logits].argmax(-1)
                    wrong[places.numpy(), 0] = (said != part.targets).double().numpy()
            found[task] = wrong
        return found


def read_lines(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]


def mean(scores: Scores) -> float:
    """Give the mean over domains or tasks, each counting the same, of nats a token, or of the share of errors."""
    return float(np.mean([part[:, 0].sum() / part[:, 1].sum() for part in scores.values()]))


def resampled(scores: Scores, *, seed: int = 0, draws: int = 1000) -> np.ndarray:
    """Give ``draws`` means over units drawn anew within each domain: the same units for every model."""
    totals = np.zeros(draws)
    for number, part in enumerate(scores.values()):
        rng = np.random.default_rng([seed, number])
        counts = rng.multinomial(len(part), np.full(len(part), 1 / len(part)), size=draws)
        sums = counts @ part
        totals += sums[:, 0] / sums[:, 1] / len(scores)
    return totals
