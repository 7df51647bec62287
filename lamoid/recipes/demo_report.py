"""What the demo came to: as a table, as JSON and as a picture."""

import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from lamoid.evaluation.picture import COLOURS, Row, can_draw, draw_intervals
from lamoid.evaluation.text_table import build_table, show, table_lines
from lamoid.recipes.demo_text import DOMAINS
from lamoid.recipes.evaluate import Evaluated, Evaluation, evaluate
from lamoid.recipes.fusion_result import Fusion
from lamoid.recipes.progress import Progress
from lamoid.weights.durable import durable_file


class Sample(msgspec.Struct, frozen=True):
    """What a model wrote behind a prompt."""

    model: str
    prompt: str
    text: str


class Demo(msgspec.Struct, frozen=True):
    """The base, an expert a domain and the fused model, in this order, on held-out text of each domain."""

    out: str
    seed: int
    models: list[str]
    judged: dict[str, Evaluation]
    fusion: Fusion
    samples: list[Sample]
    seconds: float
    peak_bytes: int
    go_on: list[str]

    def rows(self) -> list[tuple[str, ...]]:
        """Give the table: a model's name, its weight in the fusion, bits a byte in each domain and their mean."""
        weights = {member.path: member.weight for member in self.fusion.members}
        rows = []
        for index, model in enumerate(self.models):
            found = [self.judged[domain].models[index] for domain in DOMAINS]
            mean = sum(each.bits_per_byte for each in found) / len(found)
            rows.append((_name(model), show(weights.get(model), digits=3), *map(_cell, found), f"{mean:.3f}"))
        return rows

    def lines(self) -> list[str]:
        """Write the table, what the fusion says of itself, a few written lines, and how to go on."""
        title = "Bits a byte on held-out text (lower is better), with half the width of the 95 % interval"
        table = build_table(title, ("model", "weight", *DOMAINS, "mean"), self.rows())
        lines = [*(line.rstrip() for line in table_lines(table)), *self.fusion.notes, "", "What they write:"]
        lines += [f"  {_name(each.model):<11} {each.prompt!r} -> {each.text!r}" for each in self.samples]
        lines += ["", f"All of it lies in {self.out}; {self.seconds:.0f} s, {self.peak_bytes / 1e9:.1f} GB at most."]
        return [*lines, "Go on:", *(f"  {line}" for line in self.go_on)]


def judge(
    models: Sequence[str], texts: Path, *, device: str, seed: int, progress: Progress | None
) -> dict[str, Evaluation]:
    """Measure all models on the judging text of each domain."""
    return {
        domain: evaluate(models, on=texts / f"{domain}-judge.jsonl", device=device, seed=seed, progress=progress)
        for domain in DOMAINS
    }


def peak_bytes() -> int:
    """The most memory that this process held at a time."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def save(demo: Demo) -> Demo:
    """Write demo.json and, where matplotlib is, demo.png."""
    out = Path(demo.out)
    durable_file(out / "demo.json", msgspec.json.format(msgspec.json.encode(demo), indent=1) + b"\n")
    if can_draw():
        durable_file(out / "demo.png", _draw(demo))
    return demo


def _draw(demo: Demo) -> bytes:
    """Draw one panel a domain, one line a model."""
    panels = {f"on {domain}": [_row(each) for each in demo.judged[domain].models] for domain in DOMAINS}
    return draw_intervals(panels, axis="bits a byte, lower is better")


def _row(each: Evaluated) -> Row:
    name = _name(each.path)
    return Row(name, each.bits_per_byte, each.bits_per_byte_interval, name if name in COLOURS else "member")


def _cell(each: Evaluated) -> str:
    if each.bits_per_byte_interval is None:
        return show(each.bits_per_byte, digits=3)
    low, high = each.bits_per_byte_interval
    return f"{each.bits_per_byte:.3f} ±{(high - low) / 2:.3f}"


def _name(model: str) -> str:
    path = Path(model)
    return path.parent.name if path.name == "model" else path.name
