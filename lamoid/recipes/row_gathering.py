"""Rows of a training recipe put together: read and checked, with a tokenizer and the names of the answers."""

from pathlib import Path
from typing import Any, cast

from lamoid.assembly.families.family import Family
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.spec import ModelSpec
from lamoid.data.labelled import hold_out
from lamoid.data.sources import Document
from lamoid.errors import InputError
from lamoid.recipes.feed import Feed, Gathered, Text
from lamoid.recipes.progress import Progress
from lamoid.recipes.row_data import RowData
from lamoid.recipes.row_objective import RowObjective
from lamoid.recipes.rows_table import RowsTable
from lamoid.recipes.training_data import gather_data, given_tokenizer, learn_tokenizer
from lamoid.recipes.training_recipe import FolderModel, TrainingRecipe
from lamoid.text.tokenizer import Tokenizer
from lamoid.weights.durable import durable_folder


def gather(recipe: TrainingRecipe, folder: Path, progress: Progress | None, spec: ModelSpec) -> Gathered:
    """Find and check the data of a recipe, text or rows; ``spec`` is the model's, as far as it is known before."""
    table = recipe.data
    if not isinstance(recipe.objective, RowObjective) or not isinstance(table, RowsTable):
        return gather_data(recipe, folder, progress)
    objective = cast("RowObjective", recipe.objective)  # one of them: what it reads, it is handed again
    train, remarks = objective.read(table.train, table)
    validation: list[Any] | None = None
    if table.validation:
        validation, more = objective.read(table.validation, table)
        remarks = remarks + more
    elif table.hold_out:
        try:
            train, validation = hold_out(train, table.hold_out)
        except InputError as error:
            raise InputError(f"data.{error.culprit}", error.problem, error.cure) from error
    names = objective.names(train, validation or [], objective.held(spec))
    tokenizer = _tokenizer(recipe, objective, train, folder / "tokenizer", progress)
    return RowData(tokenizer, train, validation, names, spec.reads_source, remarks)


def make_feed(recipe: TrainingRecipe, data: Gathered, context: int) -> Feed:
    """Make what the training reads."""
    sizes = {"batch": recipe.training.batch, "measured": recipe.evaluation.batch, "seed": recipe.seed}
    if isinstance(recipe.objective, RowObjective):
        return recipe.objective.feed(_rows(data), context, **sizes)
    return recipe.objective.feed(_text(data), context, **sizes)


def shaped(recipe: TrainingRecipe, spec: ModelSpec, data: Gathered, family: Family | None) -> ModelSpec:
    """Give the model's spec with the head that the objective needs."""
    return recipe.objective.shaped(spec, _rows(data), family) if isinstance(recipe.objective, RowObjective) else spec


def measure_rows(recipe: TrainingRecipe, data: Gathered, model: LanguageModel) -> dict[str, float]:
    """Give what the objective's answers are measured by, on the rows kept for validation; nothing for text."""
    if not isinstance(recipe.objective, RowObjective) or not isinstance(data, RowData):
        return {}
    context = recipe.training.context or model.spec.context
    return recipe.objective.measure(model, data, context, recipe.evaluation.batch)


def remarks_on(data: Gathered) -> list[str]:
    """Give what was cut or left out."""
    return list(data.remarks) if isinstance(data, RowData) else []


def _tokenizer(
    recipe: TrainingRecipe, objective: RowObjective, train: list[Any], place: Path, progress: Progress | None
) -> Tokenizer:
    """Read the recipe's tokenizer, or learn one from what is said in the rows to train on, which is kept."""
    is_new = not isinstance(recipe.model, FolderModel)
    found = given_tokenizer(recipe)
    if found is None:
        if not place.is_dir():
            documents = (Document(entry.name, objective.said(entry)) for entry in train)
            learned = learn_tokenizer(recipe, lambda: documents, progress)
            with durable_folder(place) as draft:
                for name, data in learned.files().items():
                    draft.write(name, data)
        found = Tokenizer.read(place)
    return objective.fitted(found, is_new=is_new)


def _rows(data: Gathered) -> RowData:
    if not isinstance(data, RowData):
        raise TypeError(f"{type(data).__name__} are no rows")
    return data


def _text(data: Gathered) -> Text:
    if isinstance(data, RowData):
        raise TypeError("rows are no text")
    return data  # pyright: ignore[reportReturnType]  what is gathered is either
