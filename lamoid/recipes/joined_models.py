"""A model and those that are trained beside it: put together before a run, saved apart after it."""

from typing import cast

import torch

from lamoid.assembly.group import ModelGroup, initialise_group
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.spec import ModelSpec
from lamoid.errors import InputError
from lamoid.recipes.replaced_objective import ReplacedTable
from lamoid.recipes.text_objective import TextObjective
from lamoid.recipes.training_recipe import TrainingRecipe
from lamoid.training.replaced import DISCRIMINATOR


def models_beside(recipe: TrainingRecipe, spec: ModelSpec) -> list[ModelSpec]:
    """Give the models that the recipe trains beside one of ``spec``."""
    objective = recipe.objective
    return list(objective.beside(spec).values()) if isinstance(objective, TextObjective) else []


def check_alone(recipe: TrainingRecipe) -> None:
    """Refuse, for a model that another is trained beside, what would have to follow for what they have in common."""
    if not isinstance(recipe.objective, ReplacedTable):
        return
    if recipe.moves:
        problem = "change a model that shares its token table with a generator"
        raise InputError("moves", problem, "change the model in a run before or after this one")
    for key, table in (("adapter", recipe.adapter), ("freeze", recipe.freeze), ("train_only", recipe.train_only)):
        if table is not None:
            problem = "is for a model that is trained alone, and objective.kind 'replaced' trains a generator beside it"
            raise InputError(key, problem, "leave it out, or name another objective")


@torch.no_grad()
def join(model: LanguageModel, objective: object, seed: int) -> LanguageModel:
    """Give the group of ``model`` and a new generator where the objective trains one, else the model itself."""
    if not isinstance(objective, ReplacedTable):
        return model
    group = ModelGroup(objective.group(model.spec))
    initialise_group(group, seed)
    group.to(model.device)
    ours = group.member(DISCRIMINATOR)
    for name, parameter in model.named_parameters():
        ours.get_parameter(name).copy_(parameter)
    # What the loop asks of a model, a group has: its parameters by name, a device, training and evaluation.
    return cast("LanguageModel", group)


def parted(model: LanguageModel, name: str) -> dict[str, LanguageModel]:
    """Give the models that a run saves, each under the name of its folder; ``name`` is that of the run's own."""
    if not isinstance(model, ModelGroup):
        return {name: model}
    others = {other: other if name == "model" else f"{name}-{other}" for other in model.spec.models}
    return {name if other == DISCRIMINATOR else folder: model.member(other) for other, folder in others.items()}
