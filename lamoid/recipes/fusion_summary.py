"""Draws a fusion's result from its plan and its losses."""

from collections.abc import Sequence

import msgspec
import numpy as np

from lamoid.evaluation.accuracy import accuracy, accuracy_difference
from lamoid.evaluation.joined import Joined
from lamoid.evaluation.picture import NO_MATPLOTLIB, can_draw
from lamoid.evaluation.report import Figures, Origin, Report
from lamoid.fusion.verdict import NEGLIGIBLE, NOT_JUDGED, describe_verdict, describe_weights, give_verdict
from lamoid.recipes.fusion_candidates import Candidates
from lamoid.recipes.fusion_plan import Plan
from lamoid.recipes.fusion_result import Comparison, Fusion, Judged, Member, MetricResult, Row, TaskResult
from lamoid.recipes.fusion_trial import FUSED, UNIFORM, Trial
from lamoid.recipes.fusion_weights import Choice
from lamoid.recipes.measuring import known_hash

FEW_UNITS = 10


def summarise(plan: Plan, candidates: Candidates | None, choice: Choice, command: str) -> Fusion:
    """Give the result of a fusion; without candidates, which hold the trial, nothing but the weights is known."""
    members = _members(plan, choice)
    way = plan.recipe.weights if plan.rule.weighted else "none"
    if candidates is None:
        note = "Without a text to measure on (--on) nothing was measured or judged."
        notes = [note, *_told(plan), *_tokenizer_notes(plan)]
        return Fusion(str(plan.out), choice.blend.rule, members, NOT_JUDGED, notes, weights=way)
    trial = candidates.trial
    metrics = [_metric(plan, trial, name) for name in trial.metrics]
    result = Fusion(
        str(plan.out),
        choice.blend.rule,
        members,
        verdict=metrics[0].verdict if metrics else NOT_JUDGED,
        notes=[],
        saved=choice.kind,
        weights=way,
        tau=choice.tau,
        metrics=metrics,
        best_member=metrics[0].best_member if metrics else None,
        mixtures=_mixtures(plan, candidates),
    )
    return _with_losses(result, plan, trial, choice, command) if trial.tasks else _without_losses(result, plan, trial)


def _members(plan: Plan, choice: Choice) -> list[Member]:
    rule_is_weighted = choice.blend.rule != plan.recipe.rule or plan.rule.weighted
    weights = choice.blend.weights if rule_is_weighted else None
    given: Sequence[float | None] = weights if weights is not None else [None] * len(plan.members)
    return [
        Member(str(folder.path), weight, hash=known_hash(folder.path), sample=key)
        for folder, weight, key in zip(plan.members, given, plan.keys, strict=True)
    ]


def _with_losses(result: Fusion, plan: Plan, trial: Trial, choice: Choice, command: str) -> Fusion:
    names, joined, figures = trial.joined()
    best = min((member.path for member in result.members), key=lambda name: figures[name].nats_per_token)
    comparisons = compare(names, joined, plan)
    beside = next(each for each in comparisons if each.other == best)
    changes = {
        "members": [_member(member, trial, figures) for member in result.members],
        "verdict": beside.verdict,
        "base": None if plan.base is None else _judged(str(plan.base.path), trial, figures),
        "uniform": _judged(UNIFORM if UNIFORM in figures else FUSED, trial, figures, "uniform"),
        "best_member": best,
        "fused": _judged(FUSED, trial, figures, str(plan.out)),
        "difference": beside.difference,
        "difference_interval": beside.interval,
        "comparisons": comparisons,
        "units": joined.units if len(trial.tasks) > 1 else joined.parts[0].nats.shape[1],
        "unit": trial.tasks[0].unit if len(trial.tasks) == 1 else "units of the smallest task",
        "tasks": _tasks(names, joined, trial, plan),
        "reports": _reports(joined, names, trial, command),
        "notes": [
            describe_verdict(beside.verdict, best, beside.difference, beside.interval, _lowest(figures)),
            *_overtaken(plan, figures),
            *choice.notes,
            *_notes(plan, trial, choice, joined.units),
        ],
    }
    return msgspec.structs.replace(result, **changes)


def _without_losses(result: Fusion, plan: Plan, trial: Trial) -> Fusion:
    metric = result.metrics[0]
    word = {"better": "better than", "worse": "worse than", "equal": "not to be told apart from"}[metric.verdict]
    verdict = f"By {metric.name} the fused model is {word} the best single member, {metric.best_member}."
    base = None if plan.base is None else Judged(str(plan.base.path), None, None, None, None)
    notes = [verdict, *_told(plan), *_drawing()]
    return msgspec.structs.replace(result, notes=notes, base=base, units=metric.units, unit="examples")


def compare(names: Sequence[str], joined: Joined, plan: Plan) -> list[Comparison]:
    """Compare the fused model with base, members and uniform average by their losses."""
    ours = names.index(FUSED)
    found = []
    for row, name in enumerate(names):
        if name != FUSED:
            difference, interval = joined.difference(ours, row)
            found.append(Comparison(_shown(name, plan), difference, interval, give_verdict(interval, NEGLIGIBLE)))
    return found


def _metric(plan: Plan, trial: Trial, name: str) -> MetricResult:
    """Judge by a metric that was handed in, by the same bootstrap as the losses."""
    scores = {model: np.array(found[name], np.float64) for model, found in trial.scores.items()}
    members = [str(folder.path) for folder in plan.members]
    best = max(members, key=lambda model: scores[model].mean())
    comparisons = []
    for model, values in scores.items():
        if model != FUSED:
            difference, interval = accuracy_difference(scores[FUSED], values, seed=trial.seed)
            turned = None if interval is None else (-interval[1], -interval[0])
            comparisons.append(Comparison(_shown(model, plan), difference, interval, give_verdict(turned)))
    return MetricResult(
        name,
        len(scores[FUSED]),
        [Row(_shown(model, plan), *accuracy(values, seed=trial.seed)) for model, values in scores.items()],
        best,
        comparisons,
        next(each.verdict for each in comparisons if each.other == best),
    )


def _tasks(names: Sequence[str], joined: Joined, trial: Trial, plan: Plan) -> list[TaskResult]:
    found = []
    for task, part in zip(trial.tasks, joined.parts, strict=True):
        alone = Joined([part], [1.0])
        rows = [
            Row(_shown(name, plan), figures.nats_per_token, figures.nats_per_token_interval)
            for name, figures in zip(names, alone.figures(), strict=True)
        ]
        units = part.nats.shape[1]
        found.append(TaskResult(task.name, task.weight, units, task.unit, rows, compare(names, alone, plan)))
    return found


def _mixtures(plan: Plan, candidates: Candidates) -> list[tuple[list[float], float]]:
    """Give all mixtures by the rule that were measured, with weights that are shares: for pictures of what lies
    between the members."""
    singles = [plan.single(index) for index in range(len(plan.members))] if candidates.trial.tasks else []
    found = {blend: candidates.known(blend) for blend in [*singles, *candidates.tried]}
    return [
        (list(blend.weights), loss)
        for blend, loss in found.items()
        if loss is not None and blend.weights is not None and blend.rule == plan.recipe.rule
    ]


def _shown(name: str, plan: Plan) -> str:
    return {UNIFORM: "uniform", FUSED: str(plan.out)}.get(name, name)


def _told(plan: Plan) -> list[str]:
    """Say what was read otherwise than written."""
    return [*plan.recipe.notes, *(f"{folder.path}: {remark}." for folder in plan.models for remark in folder.remarks)]


def _member(member: Member, trial: Trial, figures: dict[str, Figures]) -> Member:
    found = figures[member.path]
    return Member(
        member.path,
        member.weight,
        trial.loss(member.path),
        found.nats_per_token,
        found.nats_per_token_interval,
        found.bits_per_byte,
        found.bits_per_byte_interval,
        trial.hashes[member.path],
        member.sample,
    )


def _judged(name: str, trial: Trial, figures: dict[str, Figures], shown: str = "") -> Judged:
    found = figures[name]
    return Judged(
        shown or name,
        found.nats_per_token,
        found.nats_per_token_interval,
        found.bits_per_byte,
        found.bits_per_byte_interval,
        trial.hashes[name],
    )


def _lowest(figures: dict[str, Figures]) -> str:
    """Name what has the lowest loss."""
    name = min(figures, key=lambda name: figures[name].nats_per_token)
    return {UNIFORM: "the uniform average", FUSED: "the fused model"}.get(name, name)


def _overtaken(plan: Plan, figures: dict[str, Figures]) -> list[str]:
    """Say it when the base or the uniform average has a lower loss than the fused model."""
    fused = figures[FUSED].nats_per_token
    others = {"uniform average": figures.get(UNIFORM)}
    others["base"] = None if plan.base is None else figures[str(plan.base.path)]
    lower = [
        f"the {name} ({found.nats_per_token:.4f})"
        for name, found in others.items()
        if found is not None and found.nats_per_token < fused
    ]
    return [f"Lower losses than the fused model's ({fused:.4f}): {' and '.join(lower)}."] if lower else []


def _tokenizer_notes(plan: Plan) -> list[str]:
    """Say which members' tokens nobody could compare; nothing where all have a tokenizer or none has."""
    if plan.tokenizer is None:
        return []
    return [f"{path} has no tokenizer: it is taken to read the others' tokens." for path in plan.without_tokenizer]


def _notes(plan: Plan, trial: Trial, choice: Choice, units: int) -> list[str]:
    notes = [note for task in trial.tasks for note in task.notes]
    notes += dict.fromkeys(trial.reader.remarks)
    notes += _told(plan)
    losses = [trial.loss(str(folder.path)) for folder in plan.members]
    if choice.tau is not None:
        near_uniform = describe_weights(choice.blend.weights or (), losses, choice.tau)
        notes += [near_uniform] if near_uniform else []
    elif plan.recipe.weights == "given" and plan.rule.weighted and choice.kind == "fused":
        notes.append("The weights were given, not measured.")
        if choice.blend.weights is None:
            notes.append("They change from tensor to tensor.")
    if choice.blend == plan.uniform:
        notes.append("The weights are uniform: the fused model is the uniform average.")
    if units < FEW_UNITS:
        unit = trial.tasks[0].unit if len(trial.tasks) == 1 else "units"
        notes.append(f"The intervals rest on few {unit} ({units}): take them with care.")
    return [*notes, *_drawing()]


def _drawing() -> list[str]:
    return [] if can_draw() else [NO_MATPLOTLIB]


def _reports(joined: Joined, names: Sequence[str], trial: Trial, command: str) -> tuple[Report, ...]:
    reports = []
    for task, part in zip(trial.tasks, joined.parts, strict=True):
        origin = Origin(task.data_hash, part.nats.shape[1], part.seed, command)
        for name, found in zip(names, part.figures(), strict=True):
            rows = origin.reports(name.lstrip("\0"), trial.hashes[name], found)
            reports += (
                rows
                if len(trial.tasks) == 1
                else [msgspec.structs.replace(row, metric=f"{row.metric} of {task.name}") for row in rows]
            )
    return tuple(reports)
