"""Draws a fusion's result from its plan and its losses."""

from lamoid.evaluation.picture import NO_MATPLOTLIB, can_draw
from lamoid.evaluation.report import Figures, Origin, Report
from lamoid.evaluation.units import hash_texts
from lamoid.fusion.verdict import NOT_JUDGED, describe_verdict, describe_weights, give_verdict
from lamoid.recipes.fusion_plan import Plan
from lamoid.recipes.fusion_result import Fusion, Judged, Member
from lamoid.recipes.fusion_trial import FUSED, UNIFORM, Trial

FEW_UNITS = 10


def summarise(plan: Plan, trial: Trial | None, command: str) -> Fusion:
    """Give the result of a fusion; without a trial nothing but the weights is known."""
    weights = plan.weights or []
    if trial is None:
        members = [Member(str(folder.path), weight) for folder, weight in zip(plan.members, weights, strict=True)]
        note = "The weights were given, and without --on nothing was measured or judged."
        return Fusion(
            str(plan.out), plan.rule, members, verdict=NOT_JUDGED, notes=[note, *_told(plan), *_tokenizer_notes(plan)]
        )
    names, measured, figures = trial.figures()
    best = min((str(folder.path) for folder in plan.members), key=lambda name: figures[name].nats_per_token)
    difference, interval = measured.difference(names.index(FUSED), names.index(best))
    verdict = give_verdict(interval)
    units = measured.nats.shape[1]
    return Fusion(
        str(plan.out),
        plan.rule,
        [_member(str(f.path), w, trial.measured_loss(f), figures) for f, w in zip(plan.members, weights, strict=True)],
        verdict=verdict,
        notes=[
            describe_verdict(verdict, best, difference, interval),
            *_overtaken(plan, figures),
            *_notes(plan, trial, units),
        ],
        tau=plan.tau if plan.is_measured else None,
        base=None if plan.base is None else _judged(str(plan.base.path), figures[str(plan.base.path)]),
        uniform=_judged("uniform", figures.get(UNIFORM, figures[FUSED])),
        best_member=best,
        fused=_judged(str(plan.out), figures[FUSED]),
        difference=difference,
        difference_interval=interval,
        units=units,
        unit=trial.unit,
        reports=_reports(trial, figures, Origin(hash_texts(trial.judging.texts), units, trial.seed, command)),
    )


def _told(plan: Plan) -> list[str]:
    """Say what was read otherwise than written."""
    return [f"{folder.path}: {remark}." for folder in plan.models for remark in folder.remarks]


def _member(path: str, weight: float, loss: float, figures: dict[str, Figures]) -> Member:
    found = figures[path]
    return Member(
        path,
        weight,
        loss,
        found.nats_per_token,
        found.nats_per_token_interval,
        found.bits_per_byte,
        found.bits_per_byte_interval,
    )


def _judged(path: str, found: Figures) -> Judged:
    return Judged(
        path, found.nats_per_token, found.nats_per_token_interval, found.bits_per_byte, found.bits_per_byte_interval
    )


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


def _notes(plan: Plan, trial: Trial, units: int) -> list[str]:
    notes = [*trial.notes, *dict.fromkeys(trial.reader.remarks)]
    notes += _told(plan)
    if plan.is_measured:
        losses = [trial.measured_loss(folder) for folder in plan.members]
        near_uniform = describe_weights(plan.weights or [], losses, plan.tau)
        notes += [near_uniform] if near_uniform else []
    else:
        notes.append("The weights were given, not measured.")
    if UNIFORM not in trial.judged:
        notes.append("The weights are uniform: the fused model is the uniform average.")
    if units < FEW_UNITS:
        notes.append(f"The intervals rest on few {trial.unit} ({units}): take them with care.")
    if not can_draw():
        notes.append(NO_MATPLOTLIB)
    return notes


def _reports(trial: Trial, figures: dict[str, Figures], origin: Origin) -> tuple[Report, ...]:
    return tuple(
        report
        for name, found in figures.items()
        for report in origin.reports(name.lstrip("\0"), trial.hashes[name], found)
    )
