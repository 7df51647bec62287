"""A fusion from a file: our own TOML, or one of mergekit's YAML recipes as it is."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from lamoid.errors import InputError
from lamoid.recipes.fusion_recipe import FusionRecipe, MemberTable, StepTable
from lamoid.recipes.mergekit_recipe import read_mergekit
from lamoid.recipes.wanted_value import wanted

MOST_BYTES = 1 << 20
_PAGE = "docs/fusion_reference.md"
ENDINGS = (".toml", ".yml", ".yaml")


def is_fusion_file(path: Path | str) -> bool:
    """Say whether a path names a recipe rather than a model folder."""
    return str(path).endswith(ENDINGS) and not Path(path).is_dir()


def read_fusion_recipe(path: Path | str, out: Path | str | None = None) -> FusionRecipe:
    """Read a fusion from a file; ``out`` takes the place of the file's own. Paths are taken from the file's folder.

    Raise ``InputError`` naming the key for what is unknown, of another kind, or not supported.
    """
    path = Path(path)
    data = _read(path)
    if path.suffix != ".toml":
        return read_mergekit(data, path, _out(path, out, None))
    try:
        tree = tomllib.loads(data.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(path, f"is not TOML: {error}", "mend the place named") from None
    tree["out"] = _out(path, out, tree.get("out"))
    return _anchored(_convert(tree, path), path.parent)


def _convert(tree: Mapping[str, Any], path: Path) -> FusionRecipe:
    try:
        return msgspec.convert(tree, FusionRecipe)
    except msgspec.ValidationError as error:
        raise _explain(str(error), path) from None


def _explain(text: str, path: Path) -> InputError:
    """Put the library's message in the words of the other recipes, with the key as a dotted path."""
    problem, _, place = text.partition(" - at `$")
    key = place.rstrip("`").lstrip(".")
    found = re.fullmatch(r"Object (contains unknown|missing required) field `(.*)`", problem)
    if found is not None:
        key = f"{key}.{found[2]}" if key else found[2]
        problem = "is not given" if found[1] == "missing required" else "is no key of a fusion"
        return InputError(f"{path}: {key}", problem, f"the keys stand in {_PAGE}")
    told = wanted(problem, key, None, of_tables=key in ("members", "steps", "tasks"))
    problem, cure = told or (problem, f"the keys and their kinds stand in {_PAGE}")
    return InputError(f"{path}: {key}" if key else path, problem, cure)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(path, f"is larger than {MOST_BYTES} bytes", "a recipe is a short text")
        return path.read_bytes()
    except OSError as error:
        raise InputError(path, error.strerror or str(error), "name a readable recipe") from None


def _out(path: Path, given: Path | str | None, own: Any) -> str:
    if given is not None:
        return str(given)
    if not isinstance(own, str) or not own:
        raise InputError(f"{path}: out", "is not given", "name the folder for the result: --out FOLDER")
    return str(path.parent / own)


def _anchored(recipe: FusionRecipe, folder: Path) -> FusionRecipe:
    """Take relative paths from ``folder``; the name of a step is no path."""
    steps = {step.name for step in recipe.steps}

    def anchor(model: str) -> str:
        return model if model in steps else str(folder / model)

    def texts(paths: str | list[str] | None) -> str | list[str] | None:
        return str(folder / paths) if isinstance(paths, str) else paths and [str(folder / each) for each in paths]

    def members(entry: FusionRecipe | StepTable) -> list[MemberTable]:
        return [
            msgspec.structs.replace(
                each,
                model=anchor(each.model),
                statistics=None if each.statistics is None else str(folder / each.statistics),
                on=texts(each.on),
            )
            for each in entry.members
        ]

    def base(entry: FusionRecipe | StepTable) -> str | None:
        return None if entry.base is None else anchor(entry.base)

    return msgspec.structs.replace(
        recipe,
        members=members(recipe),
        base=base(recipe),
        steps=[msgspec.structs.replace(step, members=members(step), base=base(step)) for step in recipe.steps],
        tasks=[msgspec.structs.replace(task, on=texts(task.on), judge=texts(task.judge)) for task in recipe.tasks],
    )
