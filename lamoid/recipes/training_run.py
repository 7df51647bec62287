"""The parts of a training run, built and checked before the first step."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lamoid.assembly.families.family import Family
from lamoid.assembly.families.table import FAMILIES
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.spec import ModelSpec, read_spec
from lamoid.errors import InputError
from lamoid.recipes.feed import Feed, Positioned, TextData
from lamoid.recipes.progress import Progress
from lamoid.recipes.room import check_room
from lamoid.recipes.run_folder import DATA, fixed_part
from lamoid.recipes.training_data import gather_data
from lamoid.recipes.training_moves import MovePlan, plan_moves
from lamoid.recipes.training_recipe import FolderModel, ShapeModel, TrainingRecipe
from lamoid.recipes.word_vectors import start_from_vectors
from lamoid.training.checkpoint import Checkpoints
from lamoid.training.hooks import Meter
from lamoid.training.peak import measure_peak
from lamoid.training.resume import resume
from lamoid.training.state import TrainingState
from lamoid.weights.folder import load_model, open_folder

TRAINED_BYTES = 12
"""A parameter's number, its gradient, and at least one of the optimiser's."""


@dataclass
class Run:
    """The parts of a run; ``remarks`` gathers what its result will say besides the figures.

    ``family`` is the one that the model is saved as, as long as it fits; ``None`` leaves that to its spec.
    """

    recipe: TrainingRecipe
    out: Path
    data: TextData
    feed: Feed
    loader: Positioned
    state: TrainingState
    meter: Meter
    plan: MovePlan
    generation: dict[str, Any]
    family: Family | None
    remarks: list[str] = field(default_factory=list)

    @property
    def checkpoints(self) -> Checkpoints:
        """Give the run's checkpoints; they hold what may not change when it goes on."""
        identity = {"recipe": fixed_part(self.recipe), "data": self.data.identity()}
        keep = self.recipe.checkpoint.keep
        return Checkpoints(self.out / "checkpoints", keep, identity, lambda: self.loader.position)


def check_run(recipe: TrainingRecipe) -> None:
    """Refuse what can be known to fail before anything is written: device, model, context, moves."""
    count = torch.cuda.device_count() if recipe.device.startswith("cuda") else 0
    if recipe.device != "cpu" and int(recipe.device.partition(":")[2] or 0) >= count:
        problem = f"is {recipe.device!r}, and torch sees {count} such devices"
        raise InputError("device", problem, "name another device, or install a CUDA build of torch")
    for step, spec in _plan(recipe, _spec(recipe, 1)).specs:
        recipe.objective.check(spec)
        if recipe.device == "cpu":
            check_room(spec.parameters(), TRAINED_BYTES, "training it in float32 with its optimiser")
        if recipe.training.context > spec.context:
            after = f" after step {step}" if step else ""
            problem = f"is {recipe.training.context}, the model's context is {spec.context}{after}"
            raise InputError("training.context", problem, "shorten it, or make a model of a longer context")


def assemble_run(recipe: TrainingRecipe, out: Path, progress: Progress | None) -> Run:
    """Build all parts: the tokens, the model in float32 on its device, the loader, and the yardstick of speed."""
    data = gather_data(recipe, out / DATA, progress)
    vocab = _spec(recipe, data.tokenizer.vocab).vocab
    if data.tokenizer.vocab > vocab:
        problem = f"has {data.tokenizer.vocab} tokens, the model's vocab is {vocab}"
        raise InputError("tokenizer", problem, "choose a smaller tokenizer or a larger vocab")
    torch.manual_seed(recipe.seed)
    model, generation, remarks = _build_model(recipe, data)
    context = recipe.training.context or model.spec.context
    batch, measured = recipe.training.batch, recipe.evaluation.batch
    feed = recipe.objective.feed(data, context, batch=batch, measured=measured, seed=recipe.seed)
    state = TrainingState(model, recipe.optimizer.build(model), recipe.training.steps, recipe.dtype)
    plan = _plan(recipe, model.spec)
    meter = Meter(lambda steps: 3.0 * plan.average_flops(context, steps), measure_peak(model.device, recipe.dtype))
    return Run(recipe, out, data, feed, feed.open(None), state, meter, plan, generation, _family(recipe), remarks)


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
    return recipe.model.spec(vocab) if isinstance(recipe.model, ShapeModel) else read_spec(recipe.model.spec)


def _build_model(recipe: TrainingRecipe, data: TextData) -> tuple[LanguageModel, dict[str, Any], list[str]]:
    """Make or load the model, with the generation settings that it will be saved with, and what is to be said of it."""
    generation = {"bos_token_id": data.tokenizer.start, "eos_token_id": data.tokenizer.end}
    if not isinstance(recipe.model, FolderModel):
        model = LanguageModel(_spec(recipe, data.tokenizer.vocab))
        initialise(model, recipe.seed)
        file = recipe.model.vectors
        remarks = [start_from_vectors(model, data.tokenizer, Path(file))] if file else []
        return model.to(recipe.device), generation, remarks
    folder = open_folder(recipe.model.from_)
    model = load_model(folder, dtype=torch.float32)
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()  # a loaded one may be mapped from a file that others may change
    return model.to(recipe.device), {**generation, **folder.generation}, []


def resume_run(run: Run, progress: Progress | None) -> int:
    """Put the run where its newest whole checkpoint was; give the step, 0 if there is none yet."""

    def say(text: str) -> None:
        run.remarks.append(text)
        if progress is not None:
            progress.say(text)

    position = resume(run.state, run.checkpoints, say)
    if position is not None:
        run.loader = run.feed.open(position)
        say(f"going on from step {run.state.step}")
    return run.state.step
