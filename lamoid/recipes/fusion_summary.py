"""Draws a fusion's result from its plan and its losses."""

from lamoid.evaluation.picture import NO_MATPLOTLIB, can_draw
from lamoid.evaluation.report import Figures, Origin, Report
from lamoid.evaluation.units import hash_texts
from lamoid.fusion.verdict import NOT_JUDGED, describe_verdict, describe_weights, give_verdict
from lamoid.recipes.fusion_plan import Plan
from lamoid.recipes.fusion_result import Fusion, Judged, Member
from lamoid.recipes.fusion_trial import Trial

FEW_UNITS = 10


def summarise(plan: Plan, trial: Trial | None, seed: int, command: str) -> Fusion:
    """Give the result of a fusion; without a trial nothing but the weights is known."""
    weights = plan.weights or []
    if trial is None:
        members = [Member(str(folder.path), weight) for folder, weight in zip(plan.members, weights, strict=True)]
        note = "The weights were given, and without --on nothing was measured or judged."
        return Fusion(str(plan.out), plan.rule, members, verdict=NOT_JUDGED, notes=[note])
    names, measured, figures = trial.figures(seed)
    best = min((str(folder.path) for folder in plan.members), key=lambda name: figures[name].nats_per_token)
    difference, interval = measured.difference(names.index("fused"), names.index(best), seed)
    verdict = give_verdict(interval)
    units = measured.nats.shape[1]
    return Fusion(
        str(plan.out),
        plan.rule,
        [_member(str(f.path), w, trial.measured_loss(f), figures) for f, w in zip(plan.members, weights, strict=True)],
        verdict=verdict,
        notes=[describe_verdict(verdict, best, difference, interval), *_notes(plan, trial, units)],
        tau=plan.tau if plan.is_measured else None,
        base=None if plan.base is None else _judged(str(plan.base.path), figures[str(plan.base.path)]),
        uniform=_judged("uniform", figures.get("uniform", figures["fused"])),
        best_member=best,
        fused=_judged(str(plan.out), figures["fused"]),
        difference=difference,
        difference_interval=interval,
        units=units,
        unit=trial.unit,
        reports=_reports(trial, figures, Origin(hash_texts(trial.judging.texts), units, seed, command)),
    )


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


def _notes(plan: Plan, trial: Trial, units: int) -> list[str]:
    notes = [*trial.notes, *dict.fromkeys(trial.reader.remarks)]
    notes += [f"{folder.path}: {remark}." for folder in plan.models for remark in folder.remarks]
    if plan.is_measured:
        losses = [trial.measured_loss(folder) for folder in plan.members]
        near_uniform = describe_weights(plan.weights or [], losses, plan.tau)
        notes += [near_uniform] if near_uniform else []
    else:
        notes.append("The weights were given, not measured.")
    if "uniform" not in trial.judged:
        notes.append("The weights are uniform: the fused model is the uniform average.")
    if units < FEW_UNITS:
        notes.append(f"The intervals rest on few {trial.unit} ({units}): take them with care.")
    if not can_draw():
        notes.append(NO_MATPLOTLIB)
    return notes


def _reports(trial: Trial, figures: dict[str, Figures], origin: Origin) -> tuple[Report, ...]:
    return tuple(
        report for name, found in figures.items() for report in origin.reports(name, trial.hashes[name], found)
    )
