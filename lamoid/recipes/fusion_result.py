"""What a fusion gives: the figures of base, members, uniform average and fused model; as JSON, table and picture."""

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from lamoid.evaluation.picture import Row, can_draw, draw_intervals
from lamoid.evaluation.report import Report
from lamoid.evaluation.text_table import build_table, show, table_lines

Interval = tuple[float, float]


class Judged(msgspec.Struct, frozen=True):
    """One model on the judging text: ``judged`` in nats a token."""

    path: str
    judged: float
    interval: Interval | None
    bits_per_byte: float
    bits_per_byte_interval: Interval | None


class Member(msgspec.Struct, frozen=True):
    """One member: ``nats_per_token`` on the measuring half, the rest on the judging text; null if not measured."""

    path: str
    weight: float
    nats_per_token: float | None = None
    judged: float | None = None
    interval: Interval | None = None
    bits_per_byte: float | None = None
    bits_per_byte_interval: Interval | None = None


class Fusion(msgspec.Struct, frozen=True):
    """A fusion and what it came to.

    ``verdict`` says how the fused model stands to the best member: "better" or "worse" where the 95 % interval of their
    difference lies on one side of 0; "equal" where it holds 0, so that they cannot be told apart; or "not judged".
    """

    out: str
    rule: str
    members: list[Member]
    verdict: str
    notes: list[str]
    tau: float | None = None
    base: Judged | None = None
    uniform: Judged | None = None
    best_member: str | None = None
    fused: Judged | None = None
    difference: float | None = None
    difference_interval: Interval | None = None
    units: int = 0
    unit: str | None = None
    reports: tuple[Report, ...] = ()

    def render(self) -> RenderableType:
        """Build the table and the sentences below it."""
        title = f"{self.out}: {self.rule} fusion"
        if self.fused is not None:
            title += f", judged on {self.units} {self.unit} [95 % intervals]"
        header = ("model", "weight", "measured\nnats a token", "judged\nnats a token", "judged\nbits a byte")
        table = build_table(title, header, [_cells(kind, model) for kind, model in self._models()])
        return Group(table, *(Text(note) for note in self.notes))

    def lines(self) -> list[str]:
        """Write the same as plain text."""
        return table_lines(self.render())

    def picture(self) -> bytes | None:
        """Draw the judged losses as PNG; None if nothing was judged or matplotlib is missing."""
        if self.fused is None or not can_draw():
            return None
        rows = [
            Row(
                model.path if kind == "member" else kind,
                model.judged,
                model.interval,
                kind,
                model.weight if isinstance(model, Member) else None,
            )
            for kind, model in self._models()
            if model.judged is not None
        ]
        title = f"Fusion of {len(self.members)} models: {self.verdict}"
        return draw_intervals({title: rows}, axis="nats a token on the judging text, lower is better")

    def _models(self) -> list[tuple[str, Judged | Member]]:
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
