"""What a recipe does by its validation losses: it can only, if there are some."""

from lamoid.errors import InputError
from lamoid.recipes.training_recipe import TrainingRecipe
from lamoid.training.averages import LastSpec


def check_held_out(recipe: TrainingRecipe, *, has_validation: bool) -> None:
    """Raise ``InputError`` naming a key that needs validation losses, if nothing is held out."""
    for key in [] if has_validation else _asking(recipe):
        cure = "name data.validation or a share data.hold_out, or leave it out"
        raise InputError(key, "needs validation losses, and nothing is held out to measure on", cure)


def check_measured(recipe: TrainingRecipe) -> None:
    """Raise ``InputError`` naming a key that needs validation losses on the way, if none are measured in time."""
    every = recipe.evaluation.every
    for key in _asking(recipe):
        if not every or every >= recipe.training.steps:
            problem = f"needs validation losses on the way, and evaluation.every is {every}"
            raise InputError(key, problem, "measure after each so many steps, fewer than the run has")
    average = recipe.average
    if isinstance(average, LastSpec) and average.weights == "losses" and average.every % every:
        problem = f"is {average.every}, no multiple of evaluation.every {every}"
        raise InputError("average.every", problem, "let every model that is averaged be measured")


def check_average(recipe: TrainingRecipe) -> None:
    """Raise ``InputError`` for an average that nothing would be in."""
    average, steps = recipe.average, recipe.training.steps
    if average is None:
        return
    first = (average.start // average.every + 1) * average.every
    if first > steps:
        problem = f"would begin after step {first}, and training.steps is {steps}"
        raise InputError("average", problem, "lower average.start or average.every")


def _asking(recipe: TrainingRecipe) -> list[str]:
    """Name the keys that need validation losses on the way."""
    keys = []
    if recipe.schedule.decay == "plateau":
        keys.append("schedule.decay")
    if recipe.evaluation.patience:
        keys.append("evaluation.patience")
    if isinstance(recipe.average, LastSpec) and recipe.average.weights == "losses":
        keys.append("average.weights")
    return keys
