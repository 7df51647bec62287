"""The pictures of a fusion: losses, weights, and what lies between two or three members."""

import itertools
from collections.abc import Sequence

from lamoid.evaluation.landscape import draw_between
from lamoid.evaluation.picture import Row, can_draw, draw_intervals, draw_weights
from lamoid.recipes.fusion_candidates import Candidates
from lamoid.recipes.fusion_plan import Plan
from lamoid.recipes.fusion_result import Fusion, Member

LOSSES, METRICS, WEIGHTS, BETWEEN = "fusion.png", "metrics.png", "weights.png", "between.png"
STEPS = {2: 10, 3: 5}
"""Steps along each side of the grid between so many members."""
LEAST_POINTS = {2: 4, 3: 7}


def measure_between(plan: Plan, candidates: Candidates) -> None:
    """Measure the mixtures of a grid between two or three members, the members themselves left out."""
    for weights in grid(len(plan.members)):
        candidates.loss(plan.blend(weights))


def grid(members: int) -> list[tuple[float, ...]]:
    """Give weights in even steps that come to 1."""
    steps = STEPS[members]
    counts = itertools.product(range(steps + 1), repeat=members)
    return [tuple(count / steps for count in row) for row in counts if sum(row) == steps]


def draw_pictures(result: Fusion, chosen: Sequence[float] | None) -> dict[str, bytes]:
    """Draw what there is to draw, by file name; nothing if nothing was judged or matplotlib is missing."""
    if not (result.fused or result.metrics) or not can_draw():
        return {}
    pictures: dict[str, bytes] = {}
    if result.fused is not None:
        pictures[LOSSES] = _draw_losses(result)
    if result.metrics:
        pictures[METRICS] = _draw_metrics(result)
    weights = {f"{index + 1}. {member.path}": member.weight for index, member in enumerate(result.members)}
    known = {name: weight for name, weight in weights.items() if weight is not None}
    if len(known) == len(result.members):
        pictures[WEIGHTS] = draw_weights(known, title=f"Weights ({result.weights})")
    points = {tuple(mixture): loss for mixture, loss in result.mixtures if abs(sum(mixture) - 1.0) < 1e-9}
    count = len(result.members)
    if len(points) >= LEAST_POINTS.get(count, len(points) + 1):
        names = [member.path for member in result.members]
        axis = "nats a token on the measuring text"
        pictures[BETWEEN] = draw_between(points, names, chosen=None if chosen is None else tuple(chosen), axis=axis)
    return pictures


def _draw_losses(result: Fusion) -> bytes:
    rows = [
        Row(
            model.path if kind == "member" else kind,
            model.judged,
            model.interval,
            kind,
            model.weight if isinstance(model, Member) else None,
        )
        for kind, model in result.models()
        if model.judged is not None
    ]
    title = f"Fusion of {len(result.members)} models: {result.verdict}"
    return draw_intervals({title: rows}, axis="nats a token on the judging text, lower is better")


def _draw_metrics(result: Fusion) -> bytes:
    """Draw each metric that was handed in, side by side."""
    kinds = {member.path: "member" for member in result.members} | {result.out: "fused", "uniform": "uniform"}
    panels = {
        f"{metric.name}: {metric.verdict}": [
            Row(row.model, row.value, row.interval, kinds.get(row.model, "base")) for row in metric.judged
        ]
        for metric in result.metrics
    }
    return draw_intervals(panels, axis="mean, more is better")
