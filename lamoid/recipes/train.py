"""Training by a recipe: data, model, loop and hooks are put together here and nowhere else."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import msgspec

from lamoid.assembly.heads import NextTokenSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.recipes.averaging import AverageResult, save_average
from lamoid.recipes.joined_models import parted
from lamoid.recipes.progress import Progress
from lamoid.recipes.read_recipe import read_recipe, recipe_tree
from lamoid.recipes.rolling_back import roll_back
from lamoid.recipes.row_gathering import measure_rows
from lamoid.recipes.run_folder import claim_folder
from lamoid.recipes.training_adapter import whole
from lamoid.recipes.training_recipe import TrainingRecipe
from lamoid.recipes.training_result import RESULT, TrainingResult, read_result
from lamoid.recipes.training_run import (
    Run,
    assemble_run,
    check_run,
    resume_run,
    save_run_adapter,
    sayer,
    set_damaged_aside,
)
from lamoid.recipes.watching import Watch, resume_energy, watch
from lamoid.training.curve import draw_curve
from lamoid.training.figures_written import Figures
from lamoid.training.guard import RollBack, log_incidents
from lamoid.training.hooks import evaluate, log, measure_loss
from lamoid.training.incident import Incident
from lamoid.training.interrupt import heed_signals, stop_when_asked
from lamoid.training.json_lines import JsonLines
from lamoid.training.loop import Hook, train_loop
from lamoid.training.meter import own_parameters
from lamoid.training.move_report import MoveReport
from lamoid.training.moves import apply_moves, raise_gates
from lamoid.training.parameter_groups import trained_parameters
from lamoid.training.peak import measure_peak
from lamoid.training.saver import Saver
from lamoid.training.state import TrainingState
from lamoid.training.update import Update
from lamoid.weights.durable import MANIFEST, durable_file, durable_folder
from lamoid.weights.folder import save_model


def train(
    recipe: Annotated[Path | str | Mapping[str, Any] | TrainingRecipe, "recipe, a TOML file"],
    *,
    set: Annotated[Sequence[str], "override a key of the recipe: key.path=value; may be given often"] = (),
    out: Annotated[Path | str | None, "folder of the run; default runs/NAME of the recipe"] = None,
    resume: Annotated[bool, "go on from the newest whole checkpoint in the folder"] = False,
    device: Annotated[str | None, "cpu, cuda or cuda:N; default the recipe's"] = None,
    dtype: Annotated[
        str | None, "float32, bfloat16, or on CUDA float16, for the products; default the recipe's"
    ] = None,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train a model by a recipe, or go on with one; the finished model is a folder that transformers loads too.

    Going on with a run that ended makes no step: the result that it stored is given unchanged.
    """
    asked = {"device": device, "dtype": dtype}
    overrides = [*set, *(f"{key}={value!r}" for key, value in asked.items() if value is not None)]
    place = Path(out) if out is not None else Path("runs") / _name(recipe)
    return train_recipe(read_recipe(recipe, overrides), place, resume=resume, progress=progress)


def train_recipe(
    recipe: TrainingRecipe,
    place: Path,
    *,
    resume: bool = False,
    progress: Progress | None = None,
    watchers: Sequence[Callable[[int, Figures], None]] = (),
) -> TrainingResult:
    """Train by a recipe that was read into the folder ``place``; ``watchers`` are told all figures on the way."""
    check_run(recipe)
    begun = time.perf_counter()
    with claim_folder(place, recipe, resume=resume) as claim:
        told = set_damaged_aside(place, progress) if resume else []
        with claim.given_up_on_refusal():
            run = assemble_run(recipe, place, progress)
        run.remarks += told
        resumed_from = resume_run(run, claim, progress) if resume else 0
        if run.state.step == run.state.steps and (stored := _ended(place)) is not None:
            return stored
        _train(run, progress, watchers)
        result = _finish(run, resumed_from, time.perf_counter() - begun)
        durable_file(place / RESULT, msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    return result


def _ended(out: Path) -> TrainingResult | None:
    """Give the result of a run whose model is there; without it, the end of the run is made again."""
    ends = ("model", "adapter")
    return read_result(out) if any((out / name / MANIFEST).is_file() for name in ends) else None


def _train(run: Run, progress: Progress | None, watchers: Sequence[Callable[[int, Figures], None]]) -> None:
    """Make the steps that are left, also those that going back to a checkpoint makes necessary again."""
    checkpoints, state = run.checkpoints, run.state
    told = resume_energy(run.meter.energy, run.out)
    if progress is not None:
        progress.say(told)
    if run.recipe.log.price and run.meter.energy is None:
        run.remarks.append(told)
    with (
        Saver(checkpoints, background=run.recipe.checkpoint.background) as saver,
        heed_signals(tell=progress is not None) as asked,
    ):
        if run.recipe.guard.rolls_back and not checkpoints.list():
            saver.save_now(state)
        endings: list[Hook] = [(1, stop_when_asked(asked, saver.save_now))]
        keeps_best = run.recipe.evaluation.keep_best
        while True:
            try:
                _make_steps(run, progress, watchers, saver, endings)
                break
            except RollBack as back:
                saver.join()
                say = sayer(run, progress)
                roll_back(state, checkpoints, run.recipe.guard, back, say, keeps_best=keeps_best)
    if progress is not None:
        progress.finish()


def _make_steps(
    run: Run,
    progress: Progress | None,
    watchers: Sequence[Callable[[int, Figures], None]],
    saver: Saver,
    endings: Sequence[Hook],
) -> None:
    """Train to the end from the step of the moment, after the incidents that led back to it, if any did."""
    recipe, state = run.recipe, run.state
    watching = watch(run.out, recipe.log, after=state.step, settings=recipe_tree(recipe))
    run.remarks += [remark for remark in watching.remarks if remark not in run.remarks]
    if progress is not None:
        progress.start("training", state.steps - state.step, "steps")
    try:
        for incident in state.incidents:
            if incident.to == state.step:  # as of the step to come: a run that goes on from before drops the line
                watching.lines(state.step + 1, {"incident": msgspec.to_builtins(incident)})
        hooks = [*_hooks(run, progress, watchers, watching, saver), *endings]
        update = Update(recipe.schedule, recipe.training.clip, run.guard)
        batches = run.feed.steps(run.loader, recipe.training.accumulation)
        train_loop(state, batches, recipe.objective.objective(), update, hooks)
    finally:
        watching.close()


def _hooks(
    run: Run,
    progress: Progress | None,
    watchers: Sequence[Callable[[int, Figures], None]],
    watching: Watch,
    saver: Saver,
) -> list[Hook]:
    """List what happens beside the training; a checkpoint comes last, so that it holds the evaluation too."""
    recipe, state = run.recipe, run.state
    shown = [*watching.writers, *watchers, *([] if progress is None else [_Shown(progress, state.step)])]
    hooks: list[Hook] = [
        (1, saver.check),
        *_moves(run, watching.lines, progress),
        *_incidents(run, watching.lines, progress),
        (1, run.meter.sample),
        (recipe.log.every, log(run.meter, recipe.log.every, shown)),
    ]
    if run.feed.validation is not None:
        keep = partial(_save, run, "best") if recipe.evaluation.keep_best else None
        hook = evaluate(run.feed.validation, recipe.objective.objective(), shown, keep)
        hooks.append((recipe.evaluation.every, hook))
    if run.stopping is not None:
        hooks.append((recipe.evaluation.every, run.stopping))
    if run.average is not None:
        hooks.append((1, run.average))
    hooks.append((recipe.checkpoint.every, saver.save))
    return hooks


def _moves(run: Run, lines: JsonLines, progress: Progress | None) -> list[Hook]:
    """Make the hooks that change the model, which come before all others; nothing for a run without moves."""
    if not run.plan.moves:
        return []
    objective = run.recipe.objective.objective()

    def measure(state: TrainingState) -> float:
        return measure_loss(state, islice(run.feed.sample(), 1), objective)

    def write(report: MoveReport) -> None:
        lines(report.step, {"move": msgspec.to_builtins(report)})
        if progress is not None:
            progress.say(report.line())

    return [(1, apply_moves(run.plan.moves, measure, [write])), (1, raise_gates(run.plan.raisings))]


def _incidents(run: Run, lines: JsonLines, progress: Progress | None) -> list[Hook]:
    """Make the hook that writes down the steps that were skipped."""

    def write(incident: Incident) -> None:
        lines(incident.step, {"incident": msgspec.to_builtins(incident)})
        if progress is not None:
            progress.say(incident.line())

    return [(1, log_incidents([write]))] if run.recipe.guard.has_memory else []


class _Shown:
    """Shows figures as progress; evaluations get a line of their own."""

    def __init__(self, progress: Progress, step: int) -> None:
        self.progress, self.step = progress, step

    def __call__(self, step: int, figures: Figures) -> None:
        if "validation_loss" in figures:
            parts = {name.removeprefix("validation_loss/"): loss for name, loss in figures.items() if "/" in name}
            told = f" ({', '.join(f'{name} {loss:.4f}' for name, loss in parts.items())})" if len(parts) > 1 else ""
            self.progress.say(f"step {step}: validation loss {figures['validation_loss']:.4f}{told}")
            return
        named = {key: figures[key] for key in ("loss", "tokens_per_second")}
        share = f"{100 * figures['share_of_peak']:.1f} %"
        self.progress.advance(step - self.step, **named, of_peak=share)
        self.step = step


def _save(run: Run, name: str, state: TrainingState) -> str:
    """Save the model of the moment as a folder in the run's, and those trained beside it; give the first.

    Of an adapted model the adapter is saved too, and the model merged, if the recipe says so.
    """
    if run.recipe.adapter is not None:
        adapter = "adapter" if name == "model" else f"{name}-adapter"
        save_run_adapter(run, adapter, state.model)
        if not run.recipe.adapter.merge:
            return str(run.out / adapter)
    for place, model in parted(state.model, name).items():
        with durable_folder(run.out / place, overwrite=True) as draft:
            files = run.data.tokenizer.files()
            save_model(whole(model), draft, generation=run.generation, tokenizer_files=files, family=run.family)
    return str(run.out / name)


def _save_models(run: Run) -> AverageResult | None:
    """Save the model, and the average of the recipe beside it or as it."""
    average, feed, objective = run.average, run.feed, run.recipe.objective.objective()
    is_final = run.recipe.average is not None and run.recipe.average.final
    saved = None
    if average is not None:
        examples = feed.validation
        measure = None if examples is None else lambda state: measure_loss(state, examples(), objective)
        save = partial(_save, run, "model" if is_final else "average")
        saved = save_average(run.state, average, measure, save, is_final=is_final)
        if saved is None:
            run.remarks.append("no average: the run ended before there was anything in it")
    if saved is None or not is_final:
        _save(run, "model", run.state)
    return saved


def _finish(run: Run, resumed_from: int, seconds: float) -> TrainingResult:
    """Save the model, draw the curve and sum up."""
    state = run.state
    average = _save_models(run)
    curve = run.out / "curve.png" if run.recipe.log.curve else None
    title = f"{run.out.name}: {own_parameters(state.model.spec):,} parameters"
    if curve is not None and not draw_curve(state, curve, title):
        run.remarks.append("no picture of the losses: pip install 'lamoid[eval]'")
        curve = None
    # Again, for the first one may have met a machine that was busy with something else.
    peak = max(run.meter.peak, measure_peak(state.model.device, state.dtype))
    figures = replace(run.meter, peak=peak).figures(state, run.recipe.log.every)
    metrics = measure_rows(run.recipe, run.data, state.model)
    best, adapter = state.best, run.recipe.adapter
    merges = adapter is None or adapter.merge
    return TrainingResult(
        out=str(run.out),
        model=str(run.out / ("model" if merges else "adapter")),
        parameters=own_parameters(state.model.spec),
        trained_parameters=sum(parameter.numel() for _, parameter in trained_parameters(state.model)),
        steps=state.steps,
        resumed_from=resumed_from,
        loss=figures["loss"],
        validation_loss=_validation_loss(run, average),
        best_validation_loss=None if best is None else best[1],
        best_step=None if best is None else best[0],
        tokens=state.tokens,
        seconds=state.seconds,
        seconds_in_all=seconds,
        tokens_per_second=figures["tokens_per_second"],
        share_of_peak=figures["share_of_peak"],
        memory_peak=figures["memory_peak"],
        energy_joules=figures.get("energy_joules"),
        cost=figures.get("cost"),
        peak_flops=peak,
        curve=None if curve is None else str(curve),
        remarks=run.remarks,
        go_on=_go_on(run, run.out / "model"),
        moves=state.moves,
        metrics=metrics,
        incidents=state.incidents,
        average=average,
        ended_early=None if run.stopping is None else run.stopping.reason(state),
    )


def _validation_loss(run: Run, average: AverageResult | None) -> float | None:
    """Give the loss of the model that the run ends with: the last step's, or the average's where that is it."""
    if average is not None and run.recipe.average is not None and run.recipe.average.final:
        return average.validation_loss
    return run.state.validations[-1][1] if run.state.validations else None


def _go_on(run: Run, model: Path) -> str:
    """Give a command to try next: a model that does not write is looked at."""
    adapter, spec = run.recipe.adapter, run.state.model.spec
    can_write = (
        isinstance(spec, ModelSpec)
        and spec.not_causal is None
        and isinstance(next(iter(spec.heads.values())), NextTokenSpec)
    )
    if adapter is not None and not adapter.merge:
        return f"lamoid adapter info {run.out / 'adapter'}"
    return f"lamoid generate {model} --prompt TEXT" if can_write else f"lamoid info {model}"


def _name(recipe: object) -> str:
    return Path(recipe).stem if isinstance(recipe, Path | str) else "train"
