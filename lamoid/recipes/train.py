"""Training by a recipe: data, model, loop and hooks are put together here and nowhere else."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import msgspec

from lamoid.recipes.progress import Progress
from lamoid.recipes.read_recipe import read_recipe
from lamoid.recipes.run_folder import claim_folder
from lamoid.recipes.training_recipe import TrainingRecipe
from lamoid.recipes.training_result import RESULT, TrainingResult, read_result
from lamoid.recipes.training_run import Run, assemble_run, check_run, resume_run
from lamoid.training.curve import draw_curve
from lamoid.training.hooks import Figures, JsonLines, evaluate, log, measure_loss, tensorboard
from lamoid.training.loop import Hook, grouped, train_loop
from lamoid.training.move_report import MoveReport
from lamoid.training.moves import apply_moves, raise_gates
from lamoid.training.peak import measure_peak
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
    dtype: Annotated[str | None, "float32 or bfloat16, for the products; default the recipe's"] = None,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train a model by a recipe, or go on with one; the finished model is a folder that transformers loads too.

    Going on with a run that ended makes no step: the result that it stored is given unchanged.
    """
    asked = {"device": device, "dtype": dtype}
    overrides = [*set, *(f"{key}={value!r}" for key, value in asked.items() if value is not None)]
    checked = read_recipe(recipe, overrides)
    check_run(checked)
    place = Path(out) if out is not None else Path("runs") / _name(recipe)
    begun = time.perf_counter()
    with claim_folder(place, checked, resume=resume) as claim:
        with claim.given_up_on_refusal():
            run = assemble_run(checked, place, progress)
        resumed_from = resume_run(run, progress) if resume else 0
        if run.state.step == run.state.steps and (stored := _ended(place)) is not None:
            return stored
        _train(run, progress)
        result = _finish(run, resumed_from, time.perf_counter() - begun)
        durable_file(place / RESULT, msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    return result


def _ended(out: Path) -> TrainingResult | None:
    """Give the result of a run whose model is there; without it, the end of the run is made again."""
    return read_result(out) if (out / "model" / MANIFEST).is_file() else None


def _train(run: Run, progress: Progress | None) -> None:
    recipe, state = run.recipe, run.state
    close: list[Callable[[], None]] = []
    hooks = _hooks(run, progress, close)
    if progress is not None:
        progress.start("training", state.steps - state.step, "steps")
    try:
        update = Update(recipe.schedule, recipe.training.clip)
        batches = grouped(run.loader, recipe.training.accumulation)
        train_loop(state, batches, recipe.objective.objective(), update, hooks)
    finally:
        for function in close:
            function()
    if progress is not None:
        progress.finish()


def _hooks(run: Run, progress: Progress | None, close: list[Callable[[], None]]) -> list[Hook]:
    """List what happens beside the training; a checkpoint comes last, so that it holds the evaluation too."""
    recipe, state = run.recipe, run.state
    lines = JsonLines(run.out / "metrics.jsonl", after=state.step)
    writers: list[Callable[[int, Figures], None]] = [lines]
    if recipe.log.tensorboard:
        events = tensorboard(run.out / "tensorboard", after=state.step)
        if events is None:
            run.remarks.append("no event files for TensorBoard: pip install 'lamoid[track]'")
        else:
            writers.append(events[0])
            close.append(events[1])
    shown = [*writers, _Shown(progress, state.step)] if progress is not None else writers
    hooks: list[Hook] = [*_moves(run, lines, progress), (recipe.log.every, log(run.meter, recipe.log.every, shown))]
    if run.feed.validation is not None:
        keep = partial(_save, run, "best") if recipe.evaluation.keep_best else None
        hook = evaluate(run.feed.validation, recipe.objective.objective(), shown, keep)
        hooks.append((recipe.evaluation.every, hook))
    hooks.append((recipe.checkpoint.every, run.checkpoints.write))
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


class _Shown:
    """Shows figures as progress; evaluations get a line of their own."""

    def __init__(self, progress: Progress, step: int) -> None:
        self.progress, self.step = progress, step

    def __call__(self, step: int, figures: Figures) -> None:
        if "validation_loss" in figures:
            self.progress.say(f"step {step}: validation loss {figures['validation_loss']:.4f}")
            return
        named = {key: figures[key] for key in ("loss", "tokens_per_second")}
        share = f"{100 * figures['share_of_peak']:.1f} %"
        self.progress.advance(step - self.step, **named, of_peak=share)
        self.step = step


def _save(run: Run, name: str, state: TrainingState) -> None:
    """Save the model of the moment as a folder in the run's."""
    with durable_folder(run.out / name, overwrite=True) as draft:
        files = run.data.tokenizer.files()
        save_model(state.model, draft, generation=run.generation, tokenizer_files=files, family=run.family)


def _finish(run: Run, resumed_from: int, seconds: float) -> TrainingResult:
    """Save the model, draw the curve and sum up."""
    state = run.state
    _save(run, "model", state)
    curve = run.out / "curve.png" if run.recipe.log.curve else None
    title = f"{run.out.name}: {state.model.spec.parameters():,} parameters"
    if curve is not None and not draw_curve(state, curve, title):
        run.remarks.append("no picture of the losses: pip install 'lamoid[eval]'")
        curve = None
    # Again, for the first one may have met a machine that was busy with something else.
    peak = max(run.meter.peak, measure_peak(state.model.device, state.dtype))
    figures = replace(run.meter, peak=peak).figures(state, run.recipe.log.every)
    best = state.best
    return TrainingResult(
        out=str(run.out),
        model=str(run.out / "model"),
        parameters=state.model.spec.parameters(),
        steps=state.steps,
        resumed_from=resumed_from,
        loss=figures["loss"],
        validation_loss=state.validations[-1][1] if state.validations else None,
        best_validation_loss=None if best is None else best[1],
        best_step=None if best is None else best[0],
        tokens=state.tokens,
        seconds=state.seconds,
        seconds_in_all=seconds,
        tokens_per_second=figures["tokens_per_second"],
        share_of_peak=figures["share_of_peak"],
        peak_flops=peak,
        curve=None if curve is None else str(curve),
        remarks=run.remarks,
        moves=state.moves,
    )


def _name(recipe: object) -> str:
    return Path(recipe).stem if isinstance(recipe, Path | str) else "train"
