"""The texts that a fusion is measured and judged on, and what each model scored on them."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from lamoid.errors import InputError
from lamoid.evaluation.identity import hash_model
from lamoid.evaluation.perplexity import Loss
from lamoid.evaluation.report import Figures, Measured
from lamoid.evaluation.units import BLOCK_BYTES, are_few, halve, split_units
from lamoid.recipes.fusion_plan import Plan
from lamoid.recipes.measuring import Measuring, Paths, Texts, name_paths, read_texts
from lamoid.weights.folder import ModelFolder

UNIFORM, FUSED = "\0uniform", "\0fused"
"""What the two are called among paths: no path holds NUL, but a member may well be called fused."""


@dataclass
class Trial:
    """Losses by model: a path, ``UNIFORM`` or ``FUSED``; ``judging`` is the other half, or a text of its own."""

    measuring: Texts
    judging: Texts
    reader: Measuring
    seed: int
    notes: list[str]
    measured: dict[str, list[Loss]] = field(default_factory=dict)
    judged: dict[str, list[Loss]] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)

    def run(self, plan: Plan) -> None:
        """Measure the members on the one half; judge them and the base on the other. One model is open at a time."""
        for path in dict.fromkeys(folder.path for folder in plan.members):
            self.measured[str(path)], self.judged[str(path)] = self.reader.losses(path, self.measuring, self.judging)
            self.hashes[str(path)] = hash_model(path)
        if plan.base is not None:
            self.judge(str(plan.base.path), plan.base.path)

    def judge(self, name: str, path: Path) -> None:
        """Score the judging text with the model at ``path``."""
        self.judged[name] = self.reader.losses(path, self.judging, label=name.lstrip("\0"))[0]
        self.hashes[name] = hash_model(path)

    def measured_loss(self, folder: ModelFolder) -> float:
        """Give a member's mean loss on the measuring half, in nats a token."""
        losses = self.measured[str(folder.path)]
        tokens = sum(loss.tokens for loss in losses)
        if not tokens:
            raise InputError(folder.path, "scores no token of the measuring half", "give more text")
        return math.fsum(loss.nats for loss in losses) / tokens

    @property
    def unit(self) -> str:
        """Name what is resampled."""
        return f"blocks of {BLOCK_BYTES} bytes" if self.judging.in_blocks else "documents"

    def figures(self) -> tuple[list[str], Measured, dict[str, Figures]]:
        """Give the names of what was judged, all their losses, and each one's figures."""
        names = list(self.judged)
        measured = Measured.of([self.judged[name] for name in names], self.seed)
        if not measured.nats.shape[1]:
            raise InputError("judge", "the judging text holds no token that the models score", "give more text")
        return names, measured, dict(zip(names, measured.figures(), strict=True))


def read_trial(
    on: Paths, judge: Paths | None, reader: Measuring, seed: int, *, separator: str | None, field: str
) -> Trial:
    """Read the texts and halve those of ``on``; ``judge`` takes the place of the second half.

    Fewer than 30 documents are cut into blocks of 4096 bytes, which are halved; from 30 on documents stay whole.
    """
    texts = read_texts(on, separator=separator, field=field)
    measuring, other = halve(split_units(texts), name=name_paths(on))
    # 30 to 59 documents are halved whole, but too few of them are left to be resampled: each is read whole, and its
    # blocks are the units. Halving has made blocks of fewer documents already, and blocks of blocks are themselves.
    judging, notes = Texts(other, in_blocks=are_few(texts) or are_few(other)), []
    if judge is not None:
        texts = read_texts(judge, separator=separator, field=field)
        judging = Texts(texts, in_blocks=are_few(texts))
        shared = len(set(measuring) & {*texts, *split_units(texts)})
        if shared:
            notes.append(
                f"{shared} texts of {name_paths(judge)} were also measured on: its figures flatter the result."
            )
    return Trial(Texts(measuring), judging, reader, seed, notes)
