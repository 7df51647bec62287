"""What a recipe of training over tasks may say, and how it is read from TOML."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from lamoid.assembly.bounds import MOST_CONTEXT, positive, whole
from lamoid.assembly.sharing import ShareSpec
from lamoid.assembly.written import read_written
from lamoid.assembly.written_file import read_tree
from lamoid.data.task_rows import Keep
from lamoid.errors import InputError
from lamoid.recipes.training_recipe import (
    BytesTokenizer,
    CharactersTokenizer,
    CheckpointTable,
    FolderTokenizer,
    ShapeModel,
    SpecModel,
)
from lamoid.training.optimizers import AdamWSpec, OptimizerSpec
from lamoid.training.schedule import MOST_STEPS, ScheduleSpec
from lamoid.training.soft_tie import SoftTieSpec
from lamoid.training.task_moves import MoveSpec
from lamoid.training.tasks import Mode


class TaskTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="task"):
    """One task: ``train`` and ``test`` are a ``.tsv``, ``.csv`` or ``.jsonl`` file, or a folder of a folder a class.

    Without ``test``, ``hold_out`` is the share of the texts, chosen by their hashes, to measure on. ``text`` and
    ``label`` name columns or fields. ``objective`` "classes" says the label; "causal" says the text, of text files, and
    has no labels. A task's loss enters with ``weight``; of a text longer than the context the ``keep`` is read.
    """

    train: str
    test: str = ""
    hold_out: float = 0.1
    text: str = "text"
    label: str = "label"
    objective: Literal["classes", "causal"] = "classes"
    weight: float = 1.0
    keep: Keep = "start"

    def __post_init__(self) -> None:
        positive("task.weight", self.weight)
        if not self.train:
            raise InputError("task.train", "is empty", "name a file or a folder")
        if not 0.0 < self.hold_out < 1.0:
            raise InputError("task.hold_out", f"is {self.hold_out}, must lie between 0 and 1", "0.1 keeps a tenth")


class MultitaskRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="multitask"):
    """One training of several tasks' models, of one build but for the heads, that have modules in common.

    A step reads ``batch`` rows of every task ("mixed"), or of one after the other ("in_turn"), each of at most
    ``context`` tokens (0: the model's). ``sharing`` holds from the start, ``moves`` tie and untie after steps, ``soft``
    draws modules to each other. The test sets are measured after each ``evaluate_every`` steps (0: at the end only).
    """

    tasks: dict[str, TaskTable]
    model: ShapeModel | SpecModel
    tokenizer: CharactersTokenizer | BytesTokenizer | FolderTokenizer
    steps: int
    mode: Mode = "mixed"
    batch: int = 32
    context: int = 0
    sharing: tuple[ShareSpec, ...] = ()
    moves: tuple[MoveSpec, ...] = ()
    soft: tuple[SoftTieSpec, ...] = ()
    optimizer: OptimizerSpec = AdamWSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    clip: float = 1.0
    evaluate_every: int = 0
    checkpoint: CheckpointTable = CheckpointTable()
    log_every: int = 10
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, low, high in (("steps", 1, MOST_STEPS), ("batch", 1, 1 << 20), ("context", 0, MOST_CONTEXT)):
            whole(name, getattr(self, name), low, high)
        whole("evaluate_every", self.evaluate_every, 0, MOST_STEPS)
        whole("log_every", self.log_every, 1, MOST_STEPS)
        whole("seed", self.seed, 0, 2**63 - 1)
        if not 0.0 <= self.clip < float("inf"):
            raise InputError("clip", f"is {self.clip}, must be finite and at least 0", "0 switches clipping off")
        if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", self.device):
            raise InputError("device", f"is {self.device!r}, must be cpu, cuda or cuda:N", "name one of these")
        if self.model.vectors:
            raise InputError("model.vectors", "is set, but models of several tasks start from a draw", "leave it out")
        if not self.tasks:
            raise InputError("tasks", "are none", "write a table [tasks.NAME] for each")
        self.schedule.check(self.steps, "steps")
        if self.schedule.decay == "plateau":
            problem = "is 'plateau', and several tasks have no one validation loss"
            raise InputError("schedule.decay", problem, "choose a decay that is counted in steps")


def read_multitask(recipe: Path | str | Mapping[str, Any] | MultitaskRecipe) -> MultitaskRecipe:
    """Read a recipe from a TOML file, a nested mapping or a finished one; errors name the key.

    Paths in a file are taken from the file's own folder, those in mappings from the working folder.
    """
    if isinstance(recipe, MultitaskRecipe):
        return recipe
    if isinstance(recipe, Mapping):
        tree, name, folder = msgspec.to_builtins(dict(recipe)), "recipe", Path()
        tree = msgspec.json.decode(msgspec.json.encode(tree))
    else:
        tree, name, folder = read_tree(Path(recipe)), str(recipe), Path(recipe).parent
    if not isinstance(tree, dict):
        raise InputError(name, "holds no tables", "write a recipe in TOML")
    return read_written(_anchored(_with_kinds(tree), folder), MultitaskRecipe, name)


def _with_kinds(tree: dict[str, Any]) -> dict[str, Any]:
    """Write out the kinds that the other keys of a table say."""
    tree = dict(tree)
    for table, unsaid in (("model", "shape"), ("tokenizer", ""), ("optimizer", "adamw")):
        entries = tree.get(table)
        if isinstance(entries, dict) and "kind" not in entries:
            kind = "folder" if "from" in entries else "spec" if "spec" in entries else unsaid
            tree[table] = {**entries, "kind": kind} if kind else entries
    return tree


def _anchored(tree: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make the paths of a recipe absolute, taking relative ones from ``folder``."""
    tasks = tree.get("tasks")
    if isinstance(tasks, dict):
        tree = {**tree, "tasks": {name: _absolute(table, ("train", "test"), folder) for name, table in tasks.items()}}
    for table, keys in (("model", ("spec",)), ("tokenizer", ("from",))):
        if table in tree:
            tree = {**tree, table: _absolute(tree[table], keys, folder)}
    return tree


def _absolute(table: Any, keys: tuple[str, ...], folder: Path) -> Any:
    if not isinstance(table, dict):
        return table
    paths = {key: table[key] for key in keys if isinstance(table.get(key), str) and table[key]}
    table = {**table, **{key: str((folder / path).resolve()) for key, path in paths.items()}}
    return {"from_" if key == "from" else key: value for key, value in table.items()}  # a word of Python's
