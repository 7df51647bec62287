"""A training recipe from TOML, a mapping and ``--set``; every error names the key it is about as a dotted path."""

import copy
import difflib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec

from lamoid.data.hub_sets import anchored_hub_name, is_hub_name
from lamoid.errors import InputError
from lamoid.recipes.training_recipe import TrainingRecipe
from lamoid.recipes.wanted_value import wanted

_ANY = "[...]"
_PAGE = "docs/recipe.md"
MOST_RECIPE_BYTES = 1 << 20
PATH_KEYS = (
    ("model", "from"),
    ("model", "spec"),
    ("model", "vectors"),
    ("tokenizer", "from"),
    ("data", "train"),
    ("data", "validation"),
)


def read_recipe(
    recipe: Path | str | Mapping[str, Any] | TrainingRecipe, overrides: Sequence[str] = ()
) -> TrainingRecipe:
    """Read a recipe from a TOML file, a nested mapping or a finished one, with ``key.path=value`` overrides.

    Paths in a file are taken from the file's own folder, paths in overrides and mappings from the working folder.
    """
    name = str(recipe) if isinstance(recipe, Path | str) else "recipe"
    if isinstance(recipe, TrainingRecipe):
        tree = recipe_tree(recipe)
    elif isinstance(recipe, Mapping):
        tree = msgspec.to_builtins(dict(recipe))
    else:
        tree = read_tree(Path(recipe))
    for override in overrides:
        tree = _spelt_out(tree)
        _override(tree, override)
    return _convert(_with_kinds(_anchored(tree, Path())), name)


def recipe_tree(recipe: msgspec.Struct) -> dict[str, Any]:
    """Give the recipe as nested plain values, what is absent left out, as TOML can hold it."""
    return _without_none(msgspec.to_builtins(recipe))


def read_tree(path: Path) -> dict[str, Any]:
    """Read a recipe, or a part of one, as nested plain values, its paths made absolute."""
    try:
        if path.stat().st_size > MOST_RECIPE_BYTES:
            raise InputError(path, f"is larger than {MOST_RECIPE_BYTES} bytes", "a recipe is a short text")
        tree = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise InputError(path, error.strerror or str(error), "name a readable recipe in TOML") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(path, f"is not TOML: {error}", "mend the place named") from error
    return _anchored(tree, path.parent)


def _anchored(tree: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make the paths of a recipe absolute, taking relative ones from ``folder``."""
    for table, key in PATH_KEYS:
        entries = tree.get(table)
        if isinstance(entries, dict) and entries.get(key, "") != "":
            tree = {**tree, table: {**entries, key: _absolute(folder, entries[key])}}
    return _with_sources(tree, lambda value: _absolute(folder, value))


def _with_sources(tree: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """Change the paths of every source of ``data.sources``; what is no table is left for the types to refuse."""
    data = tree.get("data")
    sources = data.get("sources") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(sources, dict):
        return tree
    changed = {name: _changed(table, change) if isinstance(table, dict) else table for name, table in sources.items()}
    return {**tree, "data": {**data, "sources": changed}}


def _changed(table: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    return {key: change(value) if key in ("train", "validation") else value for key, value in table.items()}


def _absolute(folder: Path, value: Any) -> Any:
    """Anchor a path, or each path of a list; what is no text is left for the types to refuse."""
    if isinstance(value, list):
        return [_absolute(folder, part) for part in value]
    if isinstance(value, str) and is_hub_name(value):
        return anchored_hub_name(value, folder)
    return str((folder / value).resolve()) if isinstance(value, str) else value


def _spelt_out(tree: dict[str, Any]) -> dict[str, Any]:
    """Make a table of an objective of which the kind alone is said."""
    kind = tree.get("objective")
    return {**tree, "objective": {"kind": kind}} if isinstance(kind, str) else tree


def _override(tree: dict[str, Any], override: str) -> None:
    """Set ``a.b=c`` in ``tree``; c is a TOML value, or else a text."""
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise InputError(f"--set {override}", "is not of the form key.path=value", "write for instance --set seed=2")
    for key in keys[:-1]:
        inner = tree.setdefault(key, {})
        if not isinstance(inner, dict):
            raise InputError(f"--set {override}", f"goes through {key!r}, which is no table", "shorten the path")
        tree = inner
    try:
        tree[keys[-1]] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        tree[keys[-1]] = text.strip()


def _with_kinds(tree: dict[str, Any]) -> dict[str, Any]:
    """Write out what a recipe may leave unsaid: the kind of a choice, or all but it, and the list around one path."""
    tree = {key: dict(value) if isinstance(value, dict) else value for key, value in _spelt_out(tree).items()}
    unsaid_kinds = {
        "model": "shape",
        "tokenizer": None,
        "optimizer": "adamw",
        "objective": "causal",
        "average": None,
        "data": "text",
    }
    for table, unsaid in unsaid_kinds.items():
        entries = tree.get(table)
        if isinstance(entries, dict) and "kind" not in entries:
            kind = "folder" if "from" in entries else "spec" if "spec" in entries else unsaid
            if kind is None:
                raise InputError(f"{table}.kind", "is missing", f"choose one of {', '.join(_choices(f'{table}.kind'))}")
            entries["kind"] = kind
    data = tree.get("data")
    if isinstance(data, dict):
        for key in ("train", "validation"):
            if isinstance(data.get(key), str):
                data[key] = [data[key]]
    return _with_sources(tree, lambda value: [value] if isinstance(value, str) else value)


def _convert(tree: dict[str, Any], name: str) -> TrainingRecipe:
    try:
        return msgspec.convert(tree, TrainingRecipe)
    except msgspec.ValidationError as error:
        text, place = _parted(error)
        entry = _entry(tree, error)
        if isinstance(error.__cause__, InputError):
            cause = error.__cause__
            where = ".".join(part for part in (_in_entry(place, entry), cause.culprit) if part)
            raise InputError(f"{name}: {where}", cause.problem, cause.cure) from error
        raise _explain(text, place, name, _value_at(tree, _in_entry(place, entry)), entry) from error


def _parted(error: msgspec.ValidationError) -> tuple[str, str]:
    """Give the library's message and the dotted place that it is about."""
    text, _, place = str(error).partition(" - at `$")
    return text, place.rstrip("`").lstrip(".")


def _entry(tree: dict[str, Any], error: msgspec.ValidationError) -> str:
    """Find what is called ``[...]`` in a message about a table of any names: the first that is wrong when alone."""
    place, mark, _ = _parted(error)[1].partition(_ANY)
    *tables, last = place.split(".")
    if not mark:
        return ""
    whole = copy.deepcopy(tree)
    home: dict[str, Any] = whole
    for table in tables:
        home = home[table]
    for name, value in home[last].items():
        home[last] = {name: value}
        try:
            msgspec.convert(whole, TrainingRecipe)
        except msgspec.ValidationError as alone:
            if str(alone) == str(error):
                return name
    return ""


def _in_entry(place: str, entry: str) -> str:
    """Give the place as a person wrote it, the name of the entry in it."""
    return place.replace(_ANY, f".{entry}", 1) if entry else place


def _without_numbers(place: str) -> str:
    """Give the place as keys are listed: those of every entry of a list alike."""
    return re.sub(r"\[(\d+|\.\.\.)\]", "", place)


def _value_at(tree: Any, place: str) -> str:
    """Show what stands at a dotted place of the recipe, shortened; nothing where the place is not a key's."""
    for key in place.split("."):
        if not isinstance(tree, dict) or key not in tree:
            return ""
        tree = tree[key]
    return f"is {str(tree)[:80]!r}, " if isinstance(tree, str) else f"is {str(tree)[:80]}, "


def _explain(text: str, place: str, name: str, value: str, entry: str) -> InputError:
    """Turn the library's message about the key at ``place``, in the ``entry`` of a table, into an error with a cure."""
    field = re.search(r"(unknown|required) field `(.*)`", text)
    written = _in_entry(place, entry)
    if field is None:
        problem, cure = _told(text, place, written)
        if choices := _choices(place):
            problem, cure = "which is not known" if value else problem, f"choose one of {', '.join(choices)}"
        return InputError(f"{name}: {written or 'recipe'}", value + problem, cure)
    plain = _without_numbers(".".join(part for part in (place, field[2]) if part))
    key = ".".join(part for part in (written, field[2]) if part)
    if field[1] == "required":
        return InputError(f"{name}: {key}", "is missing", "add it")
    near = _nearest(plain)
    if near == plain:
        return InputError(
            f"{name}: {key}", "is a key of another kind of this table", f"set {written}.kind, or leave it out"
        )
    if near and entry:
        head = place.partition(_ANY)[0]
        near = near.replace(f"{head}.", f"{head}.{entry}.", 1)
    cure = f"perhaps you mean {near}" if near else f"known here: {', '.join(_known_beside(place))}"
    return InputError(f"{name}: {key}", "is no key of a training recipe", cure)


def _told(text: str, place: str, written: str) -> tuple[str, str]:
    """Give problem and cure of a value of a wrong type, from the library's message."""
    plain = _without_numbers(place)
    of_tables = any(_structs(kind) for path, kind in _known(TrainingRecipe) if path == plain)
    told = wanted(text, written, _default(plain), of_tables=of_tables)
    return told or (text[0].lower() + text[1:], f"give another value, see {_PAGE}")


def _nearest(key: str) -> str | None:
    """Find the known key that looks most like ``key``, or that is its last word in another table."""
    is_move = key.startswith("moves")
    known = sorted({path for path, _ in _known(TrainingRecipe) if path.startswith("moves") == is_move})
    same = [path for path in known if path.rpartition(".")[2] == key.rpartition(".")[2]]
    return next(iter(same or difflib.get_close_matches(key, known, n=1, cutoff=0.7)), None)


def _known_beside(place: str) -> list[str]:
    table = _without_numbers(place)
    return sorted({path for path, _ in _known(TrainingRecipe) if path.rpartition(".")[0] == table})


def _choices(place: str) -> list[str]:
    """List the words that the key at ``place`` may be, if it is such a key."""
    kinds = {kind for path, kind in _known(TrainingRecipe) if path == _without_numbers(place)}
    return sorted({str(word) for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)})


def _default(plain: str) -> Any:
    """Give what the key is where nobody says it; ``None`` where it must be said."""
    table, _, key = plain.rpartition(".")
    structs = (
        [TrainingRecipe]
        if not table
        else [x for p, kind in _known(TrainingRecipe) if p == table for x in _structs(kind)]
    )
    fields = [field for struct in structs for field in msgspec.structs.fields(struct) if field.encode_name == key]
    return next((field.default for field in fields if field.default is not msgspec.NODEFAULT), None)


def _known(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """List every key of a struct and of the structs in it as a dotted path, with its type."""
    config = struct.__struct_config__
    if config.tag_field:
        yield f"{prefix}{config.tag_field}", Literal[config.tag]  # pyright: ignore[reportInvalidTypeForm]
    for field in msgspec.structs.fields(struct):
        yield f"{prefix}{field.encode_name}", field.type
        for inner in _structs(field.type):
            yield from _known(inner, f"{prefix}{field.encode_name}.")


def _structs(kind: Any) -> list[type[msgspec.Struct]]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [found for option in get_args(kind) for found in _structs(option)]


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(part) for key, part in value.items() if part is not None}
    return [_without_none(part) for part in value] if isinstance(value, list | tuple) else value
