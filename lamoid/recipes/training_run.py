"""The parts of a training run, built and checked before the first step."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lamoid.assembly.families.family import Family
from lamoid.assembly.families.table import FAMILIES
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.spec import ModelSpec, read_spec
from lamoid.data.span_corruption import decoder_start
from lamoid.errors import InputError
from lamoid.evaluation.identity import hash_model
from lamoid.recipes.feed import Feed, Gathered, Positioned
from lamoid.recipes.held_out import check_average, check_held_out, check_measured
from lamoid.recipes.joined_models import check_alone, join, models_beside
from lamoid.recipes.progress import Progress
from lamoid.recipes.room import check_room
from lamoid.recipes.row_gathering import gather, make_feed, remarks_on, shaped
from lamoid.recipes.row_heads import put_heads
from lamoid.recipes.row_objective import RowObjective
from lamoid.recipes.run_folder import DATA, Claim, check_died_early, fixed_part, renewed
from lamoid.recipes.text_objective import TextObjective
from lamoid.recipes.training_adapter import check_tuning, new_heads, save_tuned, set_trained, tuned
from lamoid.recipes.training_moves import MovePlan, plan_moves
from lamoid.recipes.training_recipe import FolderModel, ShapeModel, TrainingRecipe
from lamoid.recipes.watching import METRICS
from lamoid.recipes.word_vectors import start_from_vectors
from lamoid.training.averages import Average
from lamoid.training.checkpoint import Checkpoints
from lamoid.training.energy import find_energy
from lamoid.training.guard import Guard, GuardSpec
from lamoid.training.json_lines import last_step
from lamoid.training.meter import Meter
from lamoid.training.parameter_groups import trained_parameters
from lamoid.training.peak import measure_peak
from lamoid.training.resume import resume, set_aside_damaged
from lamoid.training.state import TrainingState
from lamoid.training.stopping import Stopping
from lamoid.training.wandb_run import check_wandb
from lamoid.weights.folder import load_model, open_folder

TRAINED_BYTES = 12
"""A parameter's number, its gradient, and at least one of the optimiser's."""

COPIED_BYTES = 4
"""A parameter's number in 16 bits, and its gradient."""


@dataclass
class Run:
    """The parts of a run; ``remarks`` gathers what its result will say besides the figures.

    ``base`` is the hash of a model of which a part is frozen, which checkpoints do not hold.
    ``family`` is the one that the model is saved as, as long as it fits; ``None`` leaves that to its spec.
    """

    recipe: TrainingRecipe
    out: Path
    data: Gathered
    feed: Feed
    loader: Positioned
    state: TrainingState
    meter: Meter
    plan: MovePlan
    generation: dict[str, Any]
    family: Family | None
    remarks: list[str] = field(default_factory=list)
    average: Average | None = None
    guard: Guard = field(default_factory=lambda: Guard(GuardSpec()))
    base: str = ""

    @property
    def stopping(self) -> Stopping | None:
        """Give what ends the run early, ``None`` if the recipe lets it go on."""
        table = self.recipe.evaluation
        return Stopping(table.patience, table.least_gain) if table.patience else None

    @property
    def checkpoints(self) -> Checkpoints:
        """Give the run's checkpoints; they hold what may not change when it goes on."""
        identity: dict[str, Any] = {"recipe": fixed_part(self.recipe), "data": self.data.identity()}
        if self.base:
            identity["base"] = self.base
        table = self.recipe.checkpoint
        again = partial(renewed, kind=TrainingRecipe)
        place = self.out / "checkpoints"
        return Checkpoints(place, table.keep, identity, lambda: self.loader.position, again, table.every)


def check_run(recipe: TrainingRecipe) -> None:
    """Refuse what can be known to fail before anything is written: device, model, context, moves."""
    check_average(recipe)
    check_measured(recipe)
    check_alone(recipe)
    check_wandb(recipe.log.wandb)
    count = torch.cuda.device_count() if recipe.device.startswith("cuda") else 0
    if recipe.device != "cpu" and int(recipe.device.partition(":")[2] or 0) >= count:
        problem = f"is {recipe.device!r}, and torch sees {count} such devices"
        raise InputError("device", problem, "name another device, or install a CUDA build of torch")
    recipe.compute.check(recipe.device)
    for step, spec in _plan(recipe, _spec(recipe, 1)).specs:
        recipe.objective.check(spec)
        spec = check_tuning(spec, recipe.adapter, recipe.freeze, recipe.train_only)
        if recipe.device == "cpu":
            copies = 0 if recipe.average is None else recipe.average.copies
            count = spec.parameters() + sum(other.parameters() for other in models_beside(recipe, spec))
            each = TRAINED_BYTES + 4 * copies + (0 if recipe.dtype == "float32" else COPIED_BYTES)
            check_room(count, each, "training it in float32 with its optimiser")
        if recipe.training.context > spec.context:
            after = f" after step {step}" if step else ""
            problem = f"is {recipe.training.context}, the model's context is {spec.context}{after}"
            raise InputError("training.context", problem, "shorten it, or make a model of a longer context")


def assemble_run(recipe: TrainingRecipe, out: Path, progress: Progress | None) -> Run:
    """Build all parts: the tokens, the model in float32 on its device, the loader, and the yardstick of speed."""
    data = gather(recipe, out / DATA, progress, _spec(recipe, 1))
    vocab = _spec(recipe, data.tokenizer.vocab).vocab
    if data.tokenizer.vocab > vocab:
        problem = f"has {data.tokenizer.vocab} tokens, the model's vocab is {vocab}"
        raise InputError("tokenizer", problem, "choose a smaller tokenizer or a larger vocab")
    torch.manual_seed(recipe.seed)
    model, generation, remarks = _build_model(recipe, data)
    model = tuned(model, recipe.adapter, seed=recipe.seed)
    spec = model.spec
    model, context = join(model, recipe.objective, recipe.seed), recipe.training.context or spec.context
    set_trained(model, recipe.adapter, recipe.freeze, recipe.train_only, _new_heads(recipe, spec))
    feed = make_feed(recipe, data, context)
    remarks = remarks + remarks_on(data)
    check_held_out(recipe, has_validation=feed.validation is not None)
    optimizer, steps = recipe.optimizer.build(trained_parameters(model)), recipe.training.steps
    state = TrainingState(model, optimizer, steps, recipe.dtype, compute=recipe.compute)
    average = None if recipe.average is None else recipe.average.begin()
    if average is not None:
        state.parts["average"] = average
    state.parts["terms"] = state.terms
    guard = Guard(recipe.guard)
    if recipe.guard.has_memory:
        state.parts["guard"] = guard
    plan = _plan(recipe, spec)
    beside = sum(other.flops(context) for other in models_beside(recipe, spec))
    meter = Meter(
        lambda steps: 3.0 * (plan.average_flops(context, steps) + beside),
        measure_peak(model.device, recipe.dtype),
        find_energy(model.device),
        recipe.log.price,
    )
    family, loader = _family(recipe), feed.open(None)
    return Run(
        recipe, out, data, feed, loader, state, meter, plan, generation, family, remarks, average, guard, _base(recipe)
    )


def _base(recipe: TrainingRecipe) -> str:
    """Give the hash of the model that a run with frozen parts goes on from."""
    is_frozen = any((recipe.adapter, recipe.freeze, recipe.train_only))
    return hash_model(Path(recipe.model.from_)) if is_frozen and isinstance(recipe.model, FolderModel) else ""


def _new_heads(recipe: TrainingRecipe, spec: ModelSpec) -> list[str]:
    """Give the paths of the heads that the model did not bring: those are trained, whatever else is frozen."""
    return new_heads(spec, open_folder(recipe.model.from_).spec.heads) if isinstance(recipe.model, FolderModel) else []


def save_run_adapter(run: "Run", name: str, model: LanguageModel) -> None:
    """Write the adapter of a run as a folder in it that peft reads."""
    recipe = run.recipe
    if recipe.adapter is not None and isinstance(recipe.model, FolderModel):
        new = _new_heads(recipe, model.spec)
        save_tuned(model, run.out / name, recipe.adapter, family=run.family, base=recipe.model.from_, new=new)


def _family(recipe: TrainingRecipe) -> Family | None:
    """Give the family that the model comes from."""
    if isinstance(recipe.model, FolderModel):
        return open_folder(recipe.model.from_).family
    return FAMILIES[recipe.model.family] if isinstance(recipe.model, ShapeModel) else None


def _plan(recipe: TrainingRecipe, spec: ModelSpec) -> MovePlan:
    return plan_moves(recipe.moves, spec, steps=recipe.training.steps, seed=recipe.seed)


def _spec(recipe: TrainingRecipe, vocab: int) -> ModelSpec:
    """Give the model's spec; a shape takes the tokenizer's ``vocab``, the others bring their own."""
    if isinstance(recipe.model, FolderModel):
        return open_folder(recipe.model.from_).spec
    if not isinstance(recipe.model, ShapeModel):
        return read_spec(recipe.model.spec)
    spec = recipe.model.spec(vocab)
    return recipe.objective.shaped(spec) if isinstance(recipe.objective, TextObjective) else spec


def _build_model(recipe: TrainingRecipe, data: Gathered) -> tuple[LanguageModel, dict[str, Any], list[str]]:
    """Make or load the model, with the generation settings that it will be saved with, and what is to be said of it."""
    generation = {"bos_token_id": data.tokenizer.start, "eos_token_id": data.tokenizer.end}
    if data.tokenizer.pad is not None:
        generation["pad_token_id"] = data.tokenizer.pad
    spec = shaped(recipe, _spec(recipe, data.tokenizer.vocab), data, _family(recipe))
    if spec.reads_source:
        generation["decoder_start_token_id"] = decoder_start(data.tokenizer)
    if not isinstance(recipe.model, FolderModel):
        model = LanguageModel(spec)
        initialise(model, recipe.seed)
        file = recipe.model.vectors
        remarks = [start_from_vectors(model, data.tokenizer, Path(file))] if file else []
        return model.to(recipe.device), generation, remarks
    folder = open_folder(recipe.model.from_)
    model = load_model(folder, dtype=torch.float32)
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()  # a loaded one may be mapped from a file that others may change
    if isinstance(recipe.objective, RowObjective) and recipe.objective.needs_new_head(model.spec, spec):
        put_heads(model, spec, seed=recipe.seed)
    return model.to(recipe.device), {**generation, **folder.generation}, []


def set_damaged_aside(out: Path, progress: Progress | None) -> list[str]:
    """Verify what a run has written beside its checkpoints: prepared data and models; give what is to be said.

    Damaged data are made again from the text, a damaged model at the end of the run.
    """
    told: list[str] = []
    written = {path.parent for path in sorted((out / DATA).rglob("*")) if path.is_file()}
    written |= {out / name for name in ("best", "average", "adapter", "model") if os.path.lexists(out / name)}
    for folder in sorted(folder for folder in written if ".damaged" not in str(folder.relative_to(out))):
        set_aside_damaged(folder, told.append)
    if progress is not None:
        for text in told:
            progress.say(text)
    return told


def resume_run(run: Run, claim: Claim, progress: Progress | None) -> int:
    """Put the run where its newest whole checkpoint was; give the step, 0 if it died before there was one."""
    say = sayer(run, progress)
    position = resume(run.state, run.checkpoints, say)
    if position is not None:
        run.loader = run.feed.open(position)
        if run.stopping is not None:
            run.stopping(run.state)
        say(f"going on from step {run.state.step}")
    else:
        every, last = run.recipe.checkpoint.every, last_step(run.out / METRICS)
        check_died_early(claim, every=every, steps=run.state.steps, last=last)
        say("the run ended before its first checkpoint, so it begins again with step 1")
    return run.state.step


def sayer(run: Run, progress: Progress | None) -> Callable[[str], None]:
    """Make the function that says something now and in the result."""

    def say(text: str) -> None:
        run.remarks.append(text)
        if progress is not None:
            progress.say(text)

    return say
