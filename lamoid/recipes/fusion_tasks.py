"""What a fusion is measured and judged on: texts of several tasks, or functions that were handed in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from lamoid.errors import InputError
from lamoid.evaluation.overlap import hash_runs, shared_part
from lamoid.evaluation.perplexity import Loss
from lamoid.evaluation.units import BLOCK_BYTES, are_few, halve, hash_texts, split_units
from lamoid.recipes.fusion_recipe import FusionRecipe, TaskTable
from lamoid.recipes.measuring import Measuring, Opened, Texts, name_paths, read_texts
from lamoid.verbs.llama import Llama

Score = Callable[[Llama], Sequence[Loss]]
Metric = Callable[[Llama], Sequence[float]]
"""Gives a number an example, the more the better, of the same examples for each model."""
SEEN = 0.01
"""From this part on the judging text counts as measured on: what unlike texts have in common stays below it."""


class HandedTask(NamedTuple):
    """A task that functions measure: each gives a ``Loss`` an example, the same examples for each model.

    ``measure`` decides on weights; ``judge`` must read other examples.
    """

    name: str
    measure: Score
    judge: Score
    weight: float = 1.0


@dataclass(frozen=True)
class Task:
    """A task with its share, all shares coming to 1; losses of the measuring and of the judging half by a model.

    ``unit`` is what the judging half is resampled by; ``data_hash`` names it, empty where a function reads it.
    """

    name: str
    weight: float
    measure: Callable[[Opened], list[Loss]]
    judge: Callable[[Opened], list[Loss]]
    unit: str
    data_hash: str
    reads_text: bool
    notes: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    """The measuring half, where it is text."""
    judging: tuple[str, ...] = ()
    is_halved: bool = True
    """Whether ``texts`` and ``judging`` are the halves of one text."""
    is_seen: bool = False
    """Whether ``judging`` was measured on too, by this task or another."""


def read_tasks(recipe: FusionRecipe, handed: Sequence[HandedTask], reader: Measuring) -> list[Task]:
    """Read the texts of all tasks and make their shares come to 1; raise ``InputError`` for one that cannot be."""
    tables: list[TaskTable | HandedTask] = [*recipe.tasks, *handed]
    names = [table.name for table in tables]
    for index, table in enumerate(tables):
        if not 0.0 < table.weight < float("inf"):
            raise InputError(f"task {table.name}: weight", f"is {table.weight}", "write a number greater than 0")
        if table.name in names[:index]:
            raise InputError("task", f"{table.name!r} stands twice", "give each task a name of its own")
    total = sum(table.weight for table in tables)
    return [
        _handed(table, table.weight / total)
        if isinstance(table, HandedTask)
        else _read(table, table.weight / total, recipe, reader)
        for table in tables
    ]


def _read(table: TaskTable, share: float, recipe: FusionRecipe, reader: Measuring) -> Task:
    """Read a task's texts and halve those of ``on``; ``judge`` takes the place of the second half.

    Fewer than 30 documents are cut into blocks of 4096 bytes, which are halved; from 30 on documents stay whole.
    """
    texts = read_texts(table.on, separator=recipe.separator, field=recipe.field)
    measuring, other = halve(split_units(texts), name=name_paths(table.on))
    # 30 to 59 documents are halved whole, but too few of them are left to be resampled: each is read whole, and its
    # blocks are the units. Halving has made blocks of fewer documents already, and blocks of blocks are themselves.
    judging = Texts(other, in_blocks=are_few(texts) or are_few(other))
    if table.judge is not None:
        texts = read_texts(table.judge, separator=recipe.separator, field=recipe.field)
        judging = Texts(texts, in_blocks=are_few(texts))
    return Task(
        table.name,
        share,
        partial(reader.score, part=Texts(measuring)),
        partial(reader.score, part=judging),
        f"blocks of {BLOCK_BYTES} bytes" if judging.in_blocks else "documents",
        hash_texts(judging.texts),
        reads_text=True,
        texts=tuple(measuring),
        judging=tuple(judging.texts),
        is_halved=table.judge is None,
    )


def mark_seen(tasks: Sequence[Task], others: Sequence[Sequence[str]] = ()) -> list[Task]:
    """Mark and note the tasks whose judging text was also measured on, by any task or by ``others``.

    A whole document or block in common counts, and at least one in a hundred runs of 64 bytes, wherever they begin;
    not what the halves of one text have in common.
    """
    measured = [part for part in dict.fromkeys([*(task.texts for task in tasks), *map(tuple, others)]) if part]
    runs = [hash_runs(part) for part in measured]
    return [_mark(task, measured, runs) for task in tasks]


def _mark(task: Task, measured: Sequence[tuple[str, ...]], runs: Sequence[np.ndarray]) -> Task:
    taken = [index for index, part in enumerate(measured) if not (task.is_halved and part == task.texts)]
    if not task.judging or not taken:
        return task
    units = {unit for index in taken for unit in measured[index] if unit.strip()}
    whole = len(units & {*task.judging, *split_units(task.judging)})
    part = shared_part(hash_runs(task.judging), np.concatenate([runs[index] for index in taken]))
    if not whole and part < SEEN:
        return task
    count = f"{whole} text{'s' if whole > 1 else ''}" if part < SEEN else f"{100 * part:.0f} %"
    note = f"{count} of what {task.name} is judged on was also measured on: its figures may flatter the result."
    return replace(task, is_seen=True, notes=(*task.notes, note))


def _handed(task: HandedTask, share: float) -> Task:
    def by(score: Score, opened: Opened) -> list[Loss]:
        return list(score(as_llama(opened)))

    return Task(task.name, share, partial(by, task.measure), partial(by, task.judge), "examples", "", reads_text=False)


def as_llama(opened: Opened) -> Llama:
    """Give a model that is being measured as the object that a person calls."""
    folder = opened.folder
    return Llama(opened.model, opened.tokenizer, generation=folder.generation, name=opened.name, family=folder.family)
