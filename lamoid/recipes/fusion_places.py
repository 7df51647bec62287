"""Where a fusion reads and writes: told apart before anything is done, for it may take hours."""

import os
from collections.abc import Iterator
from pathlib import Path

from lamoid.errors import InputError
from lamoid.recipes.fusion_recipe import FusionRecipe, StepTable
from lamoid.weights.durable import check_target


def check_places(recipe: FusionRecipe, *, overwrite: bool) -> None:
    """Raise ``InputError`` for an output that is read by the recipe or one of its steps, or that cannot be written.

    An output that is a model, text or statistic which is read, lies in one or holds one is refused, whatever is to be
    overwritten; so is one that exists, unless it may be overwritten and was written here.
    """
    for name, path in _read(recipe):
        if "\0" in path:
            raise InputError(name, "holds a character that no name of a file can", "write another name")
    out = Path(recipe.out)
    if "\0" in recipe.out:
        raise InputError("out", "holds a character that no name of a file can", "write another name")
    target = Path(os.path.realpath(out))
    for _, path in _read(recipe):
        place = Path(os.path.realpath(path))
        if target == place or place in target.parents or target in place.parents:
            relation = "is" if target == place else "lies in" if place in target.parents else "holds"
            raise InputError(out, f"the output {relation} {path}, which is read", "choose a folder of its own")
    check_target(out, overwrite)
    parent = next(path for path in out.absolute().parents if os.path.lexists(path))
    if not parent.is_dir():
        raise InputError(out, f"{parent} is a file, not a folder", "choose another name")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(out, f"the folder {parent} cannot be written to", "choose a folder that you may write to")


def _read(recipe: FusionRecipe) -> Iterator[tuple[str, str]]:
    """Give what is read, with the key that names it; the names of steps are no paths."""
    steps = {step.name for step in recipe.steps}
    entries: list[tuple[str, FusionRecipe | StepTable]] = [("", recipe)]
    entries += [(f"steps[{number}].", step) for number, step in enumerate(recipe.steps)]
    for where, entry in entries:
        if entry.base is not None and entry.base not in steps:
            yield f"{where}base", entry.base
        for number, member in enumerate(entry.members):
            if member.model not in steps:
                yield f"{where}members[{number}].model", member.model
            if member.statistics is not None:
                yield f"{where}members[{number}].statistics", member.statistics
            yield from ((f"{where}members[{number}].on", path) for path in _paths(member.on))
    for number, task in enumerate(recipe.tasks):
        yield from ((f"tasks[{number}].on", path) for path in _paths(task.on))
        yield from ((f"tasks[{number}].judge", path) for path in _paths(task.judge))


def _paths(texts: str | list[str] | None) -> list[str]:
    return [] if texts is None else [texts] if isinstance(texts, str) else texts
