"""Searches settings of a training recipe: many runs, judged by their validation loss, within a budget."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import tomli_w

from lamoid.errors import InputError
from lamoid.evaluation.picture import NO_MATPLOTLIB, can_draw
from lamoid.evaluation.text_table import build_table, table_lines
from lamoid.recipes.evaluate import Evaluation, evaluate
from lamoid.recipes.progress import Progress
from lamoid.recipes.read_recipe import read_recipe, recipe_tree
from lamoid.recipes.run_folder import DATA, RECIPE, claim_folder
from lamoid.recipes.train import train_recipe
from lamoid.recipes.training_data import is_prepared
from lamoid.recipes.training_recipe import DataTable, FolderModel, FolderTokenizer, TrainingRecipe
from lamoid.recipes.training_run import check_run
from lamoid.recipes.tuning_picture import draw_tuning
from lamoid.recipes.tuning_space import SearchedKey, as_overrides, own_values, read_space
from lamoid.recipes.tuning_study import (
    StoredTrials,
    Trial,
    draw,
    import_optuna,
    is_behind,
    read_trials,
    write_trials,
)
from lamoid.training.guard import TrainingDiverged
from lamoid.training.hooks import Figures
from lamoid.weights.durable import durable_file

RESULT, PICTURE, BEST = "tuning.json", "tuning.png", "best.toml"
METRICS = "metrics.jsonl"
_WEIGHTS = ("checkpoints", "model", "best", "average", "adapter", "generator")
"""The folders of a run that hold weights; of the best model and of the average some go by a longer name."""


class Tuning(msgspec.Struct, frozen=True):
    """All runs of a search; ``loss`` is the best one's, ``given`` that of the recipe as it was, nats on validation.

    ``judged`` compares the two models on documents that neither training nor the search has seen.
    """

    out: str
    best: int
    overrides: list[str]
    loss: float
    given: float | None
    recipe: str
    model: str
    trials: list[Trial]
    seconds: float
    judged: Evaluation | None
    picture: str | None
    remarks: list[str]

    def lines(self) -> list[str]:
        """Give what a person reads."""
        ranked = sorted(self.trials, key=lambda trial: (trial.loss is None, trial.loss or 0.0))
        rows = [
            (
                str(trial.number),
                trial.state if trial.loss is None else f"{trial.loss:.4f}",
                f"{trial.seconds:.0f} s",
                ", ".join(trial.overrides) or "as given",
            )
            for trial in ranked[:10]
        ]
        table = build_table(f"{len(self.trials)} runs, the best first", ("run", "loss", "time", "settings"), rows)
        lines = [*table_lines(table), *([] if self.judged is None else self.judged.lines()), *self.remarks]
        return [*lines, f"The best recipe: {self.recipe}; its model: {self.model}"]


class _Abandoned(Exception):  # noqa: N818
    """Ends a run that is behind; never leaves this file."""


@dataclass
class _Search:
    """A search on its way."""

    source: Path | str | Mapping[str, Any] | TrainingRecipe
    set: list[str]
    keys: list[SearchedKey]
    out: Path
    stored: StoredTrials
    progress: Progress | None
    prune: bool
    remarks: list[str] = field(default_factory=list)

    def recipe(self, overrides: Sequence[str] = ()) -> TrainingRecipe:
        """Give the recipe with further overrides; from its source, so that another kind brings its own defaults."""
        return read_recipe(self.source, [*self.set, *overrides])

    @property
    def trials(self) -> list[Trial]:
        return self.stored.trials

    @property
    def best(self) -> Trial | None:
        """Give the trial of the lowest loss, the earliest of equals."""
        done = [(trial.loss, trial) for trial in self.trials if trial.loss is not None]
        return min(done, key=lambda pair: pair[0])[1] if done else None

    def folder(self, number: int) -> Path:
        return self.out / "runs" / f"{number:04}"


def tune(
    recipe: Annotated[Path | str | Mapping[str, Any] | TrainingRecipe, "recipe, a TOML file"],
    *,
    search: Annotated[Sequence[str], "key and what it may be: KEY=LOW..HIGH or KEY=A|B|C; may be given often"] = (),
    set: Annotated[Sequence[str], "override a key of the recipe in all runs: key.path=value; may be given often"] = (),
    out: Annotated[Path | str, "folder for the runs and what they show"] = Path("tuning"),
    runs: Annotated[int, "runs at most, the recipe as it is among them"] = 20,
    hours: Annotated[float | None, "begin no run after this many hours of training"] = None,
    on: Annotated[str | None, "text to compare the best with the given recipe on, at the end"] = None,
    seed: Annotated[int, "seed of what is tried"] = 0,
    prune: Annotated[bool, "give a run up that is behind the median of the others at the same step"] = True,
    resume: Annotated[bool, "go on with a search that was cut off"] = False,
    progress: Progress | None = None,
) -> Tuning:
    """Search settings of a recipe for the lowest validation loss, on documents that training has not seen.

    Raise ``InputError`` for keys and values that are no recipe's, before anything is trained.
    """
    found = _Search(recipe, [*set], read_space(search), Path(out), StoredTrials([*search], seed, []), progress, prune)
    _check(found, runs, hours)
    import_optuna()
    with claim_folder(found.out, found.recipe(), resume=resume):
        found.stored = _begin(found.out, found.stored)
        _run_all(found, runs, hours)
        return _finish(found, on)


def _check(found: _Search, runs: int, hours: float | None) -> None:
    """Refuse what could never run: each end of each range is tried as a recipe."""
    if runs < 1:
        raise InputError("runs", f"is {runs}, must be at least 1", "allow some runs")
    if hours is not None and not hours > 0.0:
        raise InputError("hours", f"is {hours}, must be above 0", "allow some time, or leave it out")
    base = found.recipe()
    if not base.data.has_validation:
        problem = "keeps no documents to measure on"
        raise InputError("data", problem, "set data.hold_out or data.validation: what was trained on judges nothing")
    check_run(base)
    for key in found.keys:
        for value in key.ends():
            check_run(found.recipe([f"{key.key}={value}"]))


def _begin(out: Path, asked: StoredTrials) -> StoredTrials:
    """Give the trials that a search which was cut off stored, if it was the same."""
    stored = read_trials(out)
    if stored is None:
        write_trials(out, asked)
        return asked
    for name in ("search", "seed"):
        if getattr(stored, name) != getattr(asked, name):
            problem = f"the search was begun with another {name}"
            raise InputError(out, problem, "set it back to go on, or search into another folder")
    return stored


def _run_all(found: _Search, runs: int, hours: float | None) -> None:
    while len(found.trials) < runs:
        spent = sum(trial.seconds for trial in found.trials) / 3600
        if hours is not None and spent >= hours and found.best is not None:
            found.remarks.append(f"The time was up after {len(found.trials)} runs ({spent:.2f} hours).")
            return
        _run_one(found, runs)


def _run_one(found: _Search, runs: int) -> None:
    """Make the next run: first the recipe as it is, then what the trials so far suggest."""
    number = len(found.trials)
    if number == 0:
        values, overrides = own_values(found.keys, found.recipe()) or {}, []
    else:
        values = draw(found.keys, found.trials, found.stored.seed)
        overrides = as_overrides(found.keys, values)
    if found.progress is not None:
        found.progress.say(f"run {number + 1} of {runs}: {', '.join(overrides) or 'the recipe as it is'}")
    before = found.best
    trial = _train_one(found, number, values, overrides)
    found.trials.append(trial)
    write_trials(found.out, found.stored)
    best = found.best
    if found.progress is not None:
        end = f"loss {trial.loss:.4f}" if trial.loss is not None else f"{trial.state}: {trial.note}"
        found.progress.say(f"run {number + 1}: {end}" + (f", lowest so far {best.loss:.4f}" if best else ""))
    _let_go(found, before, best)


def _train_one(found: _Search, number: int, values: dict[str, float | str], overrides: list[str]) -> Trial:
    folder, begun = found.folder(number), time.perf_counter()

    def watch(step: int, figures: Figures) -> None:
        loss = figures.get("validation_loss")
        if loss is not None and found.prune and number and is_behind(found.trials, number, step, loss):
            raise _Abandoned(step)

    def trial(state: Any, loss: float | None, note: str = "") -> Trial:
        losses, seconds = _losses(folder), time.perf_counter() - begun
        return Trial(number, values, overrides, state, loss, losses, seconds, note)

    try:
        recipe = _with_known_tokens(found, found.recipe(overrides))
        is_begun = (folder / RECIPE).exists()
        result = train_recipe(recipe, folder, resume=is_begun, progress=found.progress, watchers=[watch])
    except _Abandoned as end:
        return trial("abandoned", None, f"behind the median of the others at step {end}")
    except TrainingDiverged as error:
        return trial("failed", None, str(error))
    except InputError as error:
        # Values that do not go together are refused before anything is written; a folder that is there is at fault.
        if number == 0 or folder.exists():
            raise
        return trial("failed", None, str(error))
    keeps_best = recipe.evaluation.keep_best
    return trial("done", result.best_validation_loss if keeps_best else result.validation_loss)


def _with_known_tokens(found: _Search, recipe: TrainingRecipe) -> TrainingRecipe:
    """Take the tokens that the first run made of the text, where this one would make the same again."""
    given, made = found.recipe(), found.folder(0) / DATA
    is_alike = (recipe.data, recipe.tokenizer, recipe.objective) == (given.data, given.tokenizer, given.objective)
    if not (is_alike and isinstance(recipe.data, DataTable) and is_prepared((str(made / "train"),))):
        return recipe
    validation = (str(made / "validation"),) if is_prepared((str(made / "validation"),)) else recipe.data.validation
    data = DataTable(train=(str(made / "train"),), validation=validation)
    tokenizer = None if isinstance(recipe.model, FolderModel) else FolderTokenizer(str(made / "train"))
    return msgspec.structs.replace(recipe, data=data, tokenizer=tokenizer)


def _losses(folder: Path) -> list[tuple[int, float]]:
    """Read the validation losses that a run logged, also those of before it was cut off."""
    path = folder / METRICS
    lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()] if path.exists() else []
    return [(line["step"], line["validation_loss"]) for line in lines if "validation_loss" in line]


def _let_go(found: _Search, before: Trial | None, best: Trial | None) -> None:
    """Remove the weights of runs that are beaten; what they logged stays, and so does the given recipe's model."""
    latest = found.trials[-1]
    for trial in (before, latest):
        if trial is None or trial == best or trial.number == 0:
            continue
        folder = found.folder(trial.number)
        for path in [*folder.iterdir()] if folder.is_dir() else ():
            if path.is_dir() and path.name.removeprefix("best-").removeprefix("average-") in _WEIGHTS:
                shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(found.folder(latest.number) / "checkpoints", ignore_errors=True)


def _finish(found: _Search, on: str | None) -> Tuning:
    best, given = found.best, found.trials[0]
    if best is None or best.loss is None:
        notes = "; ".join(dict.fromkeys(trial.note for trial in found.trials))[:300]
        raise InputError("search", f"all {len(found.trials)} runs failed: {notes}", "search gentler values")
    chosen = found.recipe(best.overrides)
    durable_file(found.out / BEST, tomli_w.dumps(recipe_tree(chosen)).encode())
    judged = None
    if on is None:
        found.remarks.append(
            "The best was chosen by this loss, which flatters it; --on TEXT compares it on other documents."
        )
    elif best.number and given.state == "done":
        models = [_model(found, given), _model(found, best)]
        judged = evaluate(models, on=on, device=chosen.device, progress=found.progress)
    picture = found.out / PICTURE if can_draw() else None
    if picture is None:
        found.remarks.append(NO_MATPLOTLIB)
    else:
        durable_file(picture, draw_tuning(found.keys, found.trials))
    result = Tuning(
        out=str(found.out),
        best=best.number,
        overrides=best.overrides,
        loss=best.loss,
        given=given.loss,
        recipe=str(found.out / BEST),
        model=str(_model(found, best)),
        trials=found.trials,
        seconds=sum(trial.seconds for trial in found.trials),
        judged=judged,
        picture=None if picture is None else str(picture),
        remarks=found.remarks,
    )
    durable_file(found.out / RESULT, msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    return result


def _model(found: _Search, trial: Trial) -> Path:
    """Give the folder of the model whose loss a trial states."""
    keeps_best = found.recipe(trial.overrides).evaluation.keep_best
    return found.folder(trial.number) / ("best" if keeps_best else "model")
