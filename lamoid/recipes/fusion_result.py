"""What a fusion gives: the figures of base, members, uniform average and fused model; as JSON, table and sentences."""

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from lamoid.evaluation.report import Report
from lamoid.evaluation.text_table import build_table, show, table_lines
from lamoid.recipes.fusion_check import CheckedFusion

Interval = tuple[float, float]


class Judged(msgspec.Struct, frozen=True):
    """One model on the judging text: ``judged`` in nats a token; ``hash`` names what it holds."""

    path: str
    judged: float | None
    interval: Interval | None
    bits_per_byte: float | None
    bits_per_byte_interval: Interval | None
    hash: str | None = None


class Member(msgspec.Struct, frozen=True):
    """One member: ``nats_per_token`` on the measuring half, the rest on the judging text; null if not measured.

    ``weight`` is null where it changes from tensor to tensor, or the rule takes none. ``hash`` is the sha256 of the
    folder's files, where they were read or a manifest says it; ``sample`` is a digest of samples of the numbers.
    """

    path: str
    weight: float | None
    nats_per_token: float | None = None
    judged: float | None = None
    interval: Interval | None = None
    bits_per_byte: float | None = None
    bits_per_byte_interval: Interval | None = None
    hash: str | None = None
    sample: str | None = None


class Comparison(msgspec.Struct, frozen=True):
    """The fused model's figure minus another model's, with the 95 % interval of pairs, and what it tells."""

    other: str
    difference: float
    interval: Interval | None
    verdict: str


class Row(msgspec.Struct, frozen=True):
    """One model's figure."""

    model: str
    value: float
    interval: Interval | None


class TaskResult(msgspec.Struct, frozen=True):
    """One task: its share in the loss, and each model's nats a token on its judging half, of so many units."""

    name: str
    weight: float
    units: int
    unit: str
    judged: list[Row]
    comparisons: list[Comparison]


class MetricResult(msgspec.Struct, frozen=True):
    """A metric that was handed in, the more the better: each model's mean, and the fused model beside the others."""

    name: str
    units: int
    judged: list[Row]
    best_member: str
    comparisons: list[Comparison]
    verdict: str


class Rejected(msgspec.Struct, frozen=True):
    """What would have been worse than the best member and was not saved."""

    kind: str
    rule: str
    weights: list[float] | None
    measured: float | None
    judged: float | None
    verdict: str


class Fusion(msgspec.Struct, frozen=True):
    """A fusion and what it came to.

    ``verdict`` says how the fused model stands to the best member: "better" or "worse" where the 95 % interval of their
    difference lies on one side of 0; "equal" where it holds 0, so that they cannot be told apart, or where less than
    1e-4 nats a token are won; or "not judged".
    It goes by the loss, all tasks by their shares, or by the first metric where there is no task. ``saved`` is "fused",
    or what was saved so as to be no worse: "greedy soup" or "best member". ``mixtures`` are those that were measured
    on the way, weights and loss. With ``checked`` nothing was fused.
    """

    out: str
    rule: str
    members: list[Member]
    verdict: str
    notes: list[str]
    saved: str = "fused"
    weights: str = "given"
    tau: float | None = None
    base: Judged | None = None
    uniform: Judged | None = None
    best_member: str | None = None
    fused: Judged | None = None
    difference: float | None = None
    difference_interval: Interval | None = None
    comparisons: list[Comparison] = []
    units: int = 0
    unit: str | None = None
    tasks: list[TaskResult] = []
    metrics: list[MetricResult] = []
    rejected: list[Rejected] = []
    mixtures: list[tuple[list[float], float]] = []
    reports: tuple[Report, ...] = ()
    checked: CheckedFusion | None = None

    @property
    def status(self) -> int:
        """Give the exit status: 2 where it was asked whether members match, and they do not."""
        return 2 if self.checked is not None and not self.checked.matches else 0

    def render(self) -> RenderableType:
        """Build the tables and the sentences below them."""
        title = f"{self.out}: {self.rule} fusion"
        if self.fused is not None:
            title += f", judged on {self.units} {self.unit} [95 % intervals]"
        header = ("model", "weight", "measured\nnats a token", "judged\nnats a token", "judged\nbits a byte")
        rows = [_cells(kind, model) for kind, model in self.models()]
        tables = [build_table(title, header, rows)]
        if len(self.tasks) > 1:
            tables += [_rows(f"{task.name}: nats a token, share {task.weight:.3f}", task.judged) for task in self.tasks]
        tables += [_rows(f"{metric.name}: {metric.verdict}", metric.judged) for metric in self.metrics]
        return Group(*tables, *(Text(note) for note in self.notes))

    def lines(self) -> list[str]:
        """Write the same as plain text."""
        return self.checked.lines() if self.checked is not None else table_lines(self.render())

    def models(self) -> list[tuple[str, Judged | Member]]:
        """Give base, members, uniform average and fused model with their kinds, as far as they are known."""
        models: list[tuple[str, Judged | Member]] = [("member", member) for member in self.members]
        others = (("base", self.base), ("uniform", self.uniform), ("fused", self.fused))
        named = {kind: model for kind, model in others if model is not None}
        if "base" in named:
            models.insert(0, ("base", named.pop("base")))
        return [*models, *named.items()]


def _cells(kind: str, model: Judged | Member) -> tuple[str, ...]:
    if isinstance(model, Member):
        name, weight, measured = model.path, show(model.weight), show(model.nats_per_token)
    else:
        name, weight, measured = f"{model.path} (base)" if kind == "base" else kind, "-", "-"
    judged = show(model.judged, model.interval)
    return name, weight, measured, judged, show(model.bits_per_byte, model.bits_per_byte_interval)


def _rows(title: str, rows: list[Row]) -> RenderableType:
    return build_table(title, ("model", "judged"), [(row.model, show(row.value, row.interval)) for row in rows])
