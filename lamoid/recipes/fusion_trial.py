"""The texts that a fusion is measured and judged on, and what each model scored on them."""

from dataclasses import dataclass, field
from pathlib import Path

from lamoid.evaluation.identity import hash_model
from lamoid.evaluation.perplexity import Loss
from lamoid.evaluation.report import Figures, Measured, Origin, Report
from lamoid.evaluation.units import are_few, halve, hash_texts, split_units
from lamoid.fusion.match import check_tokenizers
from lamoid.recipes.fusion_plan import Plan
from lamoid.recipes.measuring import Measuring, Paths, Texts, name_paths, read_texts
from lamoid.text.tokenizer import Tokenizer


@dataclass
class Trial:
    """Losses by model: a path, "uniform" or "fused"; ``judging`` is the other half, or a text of its own."""

    name: str
    unit: str
    measuring: Texts
    judging: Texts
    reader: Measuring
    notes: list[str]
    measured: dict[str, list[Loss]] = field(default_factory=dict)
    judged: dict[str, list[Loss]] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)

    def run(self, plan: Plan) -> None:
        """Measure the members on the one half; judge them and the base on the other. One model is open at a time."""
        paths = [folder.path for folder in plan.models]
        tokenizers = [Tokenizer.read(path) for path in paths]
        check_tokenizers(paths, tokenizers)
        if tokenizers[0].start is None:
            self.notes.append("The models have no start token: the first token of each text is not scored.")
        for folder in plan.members:
            self.measured[str(folder.path)], self.judged[str(folder.path)] = self.reader.losses(
                folder.path, self.measuring, self.judging
            )
        if plan.base is not None:
            self.judge(str(plan.base.path), plan.base.path)

    def judge(self, name: str, path: Path) -> None:
        """Score the judging text with the model at ``path``."""
        self.judged[name] = self.reader.losses(path, self.judging, label=name)[0]
        self.hashes[name] = hash_model(path)

    def figures(self, seed: int) -> tuple[list[str], Measured, dict[str, Figures]]:
        """Give the names of what was judged, all their losses, and each one's figures."""
        names = list(self.judged)
        measured = Measured.of([self.judged[name] for name in names])
        return names, measured, dict(zip(names, measured.figures(seed), strict=True))
