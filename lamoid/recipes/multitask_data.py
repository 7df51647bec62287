"""The texts of a training over tasks as tables of token ids, and the models that read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from lamoid.assembly.group import GroupSpec, checked_group
from lamoid.assembly.heads import NextTokenSpec, TiedSpec
from lamoid.assembly.spec import HeadSpec, ModelSpec, read_spec
from lamoid.assembly.task_heads import AverageSpec, ClassesSpec
from lamoid.data.labelled import Labelled, hold_out, number_labels, read_labelled
from lamoid.data.sources import read_documents
from lamoid.data.task_rows import TaskRows, label_rows, next_token_rows
from lamoid.errors import InputError
from lamoid.evaluation.units import hash_texts
from lamoid.recipes.multitask_recipe import MultitaskRecipe, TaskTable
from lamoid.recipes.training_recipe import CharactersTokenizer, FolderTokenizer, ShapeModel
from lamoid.text.tokenizer import Tokenizer
from lamoid.text.training import train_tokenizer
from lamoid.weights.durable import durable_folder


@dataclass(frozen=True)
class TaskData:
    """A task's rows to train and to measure on; ``names`` are its labels, none where tokens are said."""

    train: TaskRows
    test: TaskRows
    names: tuple[str, ...]
    data_hash: str


@dataclass(frozen=True)
class Texts:
    """A task's texts, before there are tokens."""

    train: list[Labelled]
    test: list[Labelled]

    @property
    def data_hash(self) -> str:
        """A hash of all texts and labels, in order."""
        return hash_texts([part for entry in (*self.train, *self.test) for part in (entry.text, entry.label)])


def read_texts(name: str, table: TaskTable) -> Texts:
    """Read a task's files; ``InputError`` names the file and line, or the task."""
    read = _read_documents if table.objective == "causal" else _read_labelled
    train = read(table.train, table)
    if table.test:
        return Texts(train, read(table.test, table))
    try:
        return Texts(*hold_out(train, table.hold_out))
    except InputError as error:
        raise InputError(f"tasks.{name}.{error.culprit}", error.problem, error.cure) from error


def open_tokenizer(recipe: MultitaskRecipe, texts: Sequence[Texts], place: Path) -> Tokenizer:
    """Read the recipe's tokenizer, or learn one from all texts to train on, which is kept at ``place``."""
    table = recipe.tokenizer
    if isinstance(table, FolderTokenizer):
        return Tokenizer.read(table.from_)
    if not place.is_dir():
        pieces = (entry.text for task in texts for entry in task.train)
        controls: dict[str, Any] = {"vocab": table.vocab, "mask": table.mask, "sentinels": table.sentinels}
        if isinstance(table, CharactersTokenizer):
            learned = train_tokenizer(pieces, kind="characters", closed=table.closed, **controls)
        else:
            learned = train_tokenizer(pieces, kind="bytes", **controls)
        with durable_folder(place) as draft:
            for name, data in learned.files().items():
                draft.write(name, data)
    return Tokenizer.read(place)


def encode_task(name: str, table: TaskTable, texts: Texts, tokenizer: Tokenizer, context: int) -> TaskData:
    """Turn a task's texts into rows of at most ``context`` tokens."""
    train, test = (tokenizer.encode_many([entry.text for entry in side]) for side in (texts.train, texts.test))
    if table.objective == "causal":
        rows = next_token_rows(name, train, context)
        return TaskData(rows, next_token_rows(name, test, context), (), texts.data_hash)
    names, numbers, wanted = number_labels(texts.train, texts.test)
    rows = label_rows(name, train, numbers, context, table.keep)
    return TaskData(rows, label_rows(name, test, wanted, context, table.keep), names, texts.data_hash)


def trunk_spec(recipe: MultitaskRecipe, vocab: int) -> ModelSpec:
    """Give the build of all tasks' models; its heads are replaced by each task's own."""
    if isinstance(recipe.model, ShapeModel):
        return recipe.model.spec(vocab)
    spec = read_spec(recipe.model.spec)
    if spec.vocab < vocab:
        problem = f"has {vocab} tokens, the model's vocab is {spec.vocab}"
        raise InputError("tokenizer", problem, "choose a smaller tokenizer or a larger vocab")
    return spec


def group_spec(recipe: MultitaskRecipe, trunk: ModelSpec, labels: dict[str, tuple[str, ...]]) -> GroupSpec:
    """Give every task the trunk with its own head; ``InputError`` names the recipe's key."""
    models = {}
    for name, table in recipe.tasks.items():
        if table.objective == "causal" and trunk.not_causal is not None:
            problem = f"is causal, but the model's {trunk.not_causal} sees later tokens"
            raise InputError(f"tasks.{name}.objective", problem, "take a causal model, or say classes")
        names, heads = labels[name], dict[str, HeadSpec]()
        if table.objective == "causal":
            heads["next_token"] = NextTokenSpec(linear=TiedSpec())
        else:
            heads["classes"] = ClassesSpec(count=len(names), names=names, pool=AverageSpec())
        models[name] = msgspec.structs.replace(trunk, heads=heads)
    return checked_group(models, recipe.sharing, "recipe")


def _read_labelled(path: str, table: TaskTable) -> list[Labelled]:
    return read_labelled(path, text=table.text, label=table.label)


def _read_documents(path: str, table: TaskTable) -> list[Labelled]:
    return [Labelled(each.text, "", each.name) for each in read_documents([path], field=table.text)]
