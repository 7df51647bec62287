"""The words of the command ``fuse``, and the fusion that they make: of their own, or over one from a file."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from lamoid.errors import InputError
from lamoid.recipes.fusion_file import is_fusion_file, read_fusion_recipe
from lamoid.recipes.fusion_plan import SEARCHES
from lamoid.recipes.fusion_recipe import FusionRecipe, MemberTable, Setting, TaskTable
from lamoid.recipes.fusion_tasks import HandedTask
from lamoid.recipes.measuring import Paths, as_paths

Files = str | Path | Sequence[str | Path]
Members = Annotated[Sequence[str | Path], "Model folders to fuse; or one recipe, TOML or mergekit's YAML."]
On = Annotated[Files | None, "Text to measure and judge on: a file, a folder or a glob."]
Task = Annotated[
    Sequence[str | HandedTask], "A task with its text, NAME=PATH, or with its share NAME:2=PATH; may be repeated."
]
Out = Annotated[str | Path | None, "Folder for the fused model and its report."]
Base = Annotated[str | Path | None, "What the members come from: rules of differences need it; it is judged too."]
Judge = Annotated[Files | None, "Text to judge on, instead of the half of --on that is not measured on."]
RuleName = Annotated[str | None, "Fusion rule (linear)."]
Weights = Annotated[
    str | None,
    "loss (exp(-loss / tau), normalised), uniform, greedy, pack, search, descend, or numbers: 0.2,0.3,0.5 (loss).",
]
Tau = Annotated[str | float | None, "Temperature of the weights by loss, or auto: the best on the measuring half (1)."]
Options = Annotated[Sequence[str], "A number of the rule, such as density=0.2; may be repeated."]
Statistics = Annotated[
    Sequence[str | Path], "Folder of a member's statistics for fisher or regmean, one a member; else it is measured."
]
MemberOn = Annotated[
    Sequence[str | Path], "Text of a member's own that its statistics are measured on, one a member; else all texts."
]
NeverWorse = Annotated[bool, "Save the greedy soup or the best member rather than a model that is worse."]
Budget = Annotated[int | None, "Mixtures that a search may try (50)."]
Between = Annotated[bool, "Draw the losses between two or three members: 9 or 18 mixtures are measured for it."]
Memory = Annotated[str | None, "Bound on memory beyond the interpreter; mapped files do not count (512MiB)."]
Workers = Annotated[int | None, "Processes that share the tensors (1)."]
Verify = Annotated[bool, "Hash what is read, and read back what was written."]
Separator = Annotated[str | None, "What parts the documents of a text file."]
TextField = Annotated[str | None, "Field of a JSONL file that holds the text (text)."]
Context = Annotated[int | None, "Tokens read at once, at most the models' own context."]
Device = Annotated[str | None, "Where it is computed: cpu, cuda (cpu)."]
Dtype = Annotated[str | None, "What the result is stored in, the members' own if not given."]
MeasureDtype = Annotated[
    str | None, "Measure in float32, bfloat16 or float16; holds a model besides --memory, unless stored so."
]
Seed = Annotated[int | None, "Seed of the bootstrap, and of rules that draw (0)."]
ShardSize = Annotated[str | None, "Largest file of weights (5GB)."]
IgnoreField = Annotated[Sequence[str], "Unknown field of config.json to pass over; may be repeated."]
Overwrite = Annotated[bool, "Replace an earlier model at --out."]
Check = Annotated[bool, "Only look: do the members match, what will it take, which rule suits."]

SAME = (
    *("rule", "budget", "memory", "workers", "separator", "field", "context", "device", "dtype", "measure_dtype"),
    *("seed", "shard_size", "never_worse", "between", "verify"),
)
"""Words that are fields of the recipe; None and False leave what stands there."""


def read_words(given: Mapping[str, Any]) -> FusionRecipe:
    """Give the fusion that the words describe; raise ``InputError`` naming one that cannot be used."""
    members = as_paths(given["members"])
    is_file = len(members) == 1 and is_fusion_file(members[0])
    for member in members if len(members) > 1 else ():
        if is_fusion_file(member):
            raise InputError(member, "is a recipe, and stands beside other members", "give the recipe alone")
    if is_file:
        recipe = read_fusion_recipe(members[0], given["out"] or ("fused" if given["check"] else None))
    else:
        if given["out"] is None and not given["check"]:
            raise InputError("out", "is not given", "name the folder for the result: --out FOLDER")
        recipe = FusionRecipe(str(given["out"] or "fused"), [MemberTable(str(member)) for member in members])
    changes = {name: given[name] for name in SAME if given[name] is not None and given[name] is not False}
    changes |= {"ignore_field": [*recipe.ignore_field, *given["ignore_field"]]}
    changes |= {"base": str(given["base"])} if given["base"] is not None else {}
    changes |= {"tau": _tau(given["tau"])} if given["tau"] is not None else {}
    changes |= {"options": {**recipe.options, **_options(given["set"], recipe)}} if given["set"] else {}
    changes |= _weights(given["weights"], recipe) if given["weights"] is not None else {}
    for word, name in (("statistics", "statistics"), ("member_on", "on")):
        if given[word]:
            changes["members"] = _with_each(changes.get("members", recipe.members), name, given[word], word)
    found_by = changes.get("weights", recipe.weights)
    if given["tau"] is not None and found_by != "loss":
        raise InputError("tau", f"is given, and weights {found_by!r} take none", "leave it out, or ask for loss")
    tasks = _tasks(given)
    changes |= {"tasks": tasks} if tasks else {}
    return msgspec.structs.replace(recipe, **changes)


def _with_each(members: Sequence[MemberTable], name: str, paths: Sequence[str | Path], word: str) -> list[MemberTable]:
    if len(paths) != len(members):
        raise InputError(word, f"are {len(paths)} for {len(members)} members", "give one a member, in their order")
    return [msgspec.structs.replace(each, **{name: str(path)}) for each, path in zip(members, paths, strict=True)]


def _tasks(given: Mapping[str, Any]) -> list[TaskTable]:
    found = [_task(word) for word in given["task"] if isinstance(word, str)]
    if given["on"] is not None:
        judge = None if given["judge"] is None else _texts(given["judge"])
        return [TaskTable("text", _texts(given["on"]), judge=judge), *found]
    if given["judge"] is not None:
        raise InputError("on", "is not given, which judge needs", "name a text to measure the members on")
    return found


def _texts(paths: Paths) -> str | list[str]:
    return [str(path) for path in as_paths(paths)] if not isinstance(paths, str | Path) else str(paths)


def _task(word: str) -> TaskTable:
    """Read NAME=PATH or NAME:SHARE=PATH."""
    name, found, path = word.partition("=")
    name, has_share, share = name.partition(":")
    try:
        weight = float(share) if has_share else 1.0
    except ValueError:
        weight = math.nan
    if not found or not name or not path or not 0.0 < weight < math.inf:
        raise InputError("task", f"is {word[:80]!r}", "write NAME=PATH, or NAME:2=PATH with a share greater than 0")
    return TaskTable(name, path, weight)


def _tau(word: str | float) -> Any:
    if word == "auto":
        return word
    try:
        return float(word)
    except ValueError:
        raise InputError("tau", f"is {word!r}", "write a number greater than 0, or auto") from None


def _options(words: Sequence[str], recipe: FusionRecipe) -> dict[str, Setting]:
    """Read options for all members; refuse one that a member has a value of its own for, which would count first."""
    options = dict(map(_option, words))
    for index, member in enumerate(recipe.members):
        for name in options.keys() & member.options.keys():
            problem = f"is given, and members[{index}] has {name} = {member.options[name]} of its own, which counts"
            raise InputError(f"set: {name}", problem, "leave it out, or write it into the recipe")
    return options


def _option(word: str) -> tuple[str, Setting]:
    """Read name=value: a number, true, false, a word, or a list in brackets that changes from block to block."""
    name, found, text = word.partition("=")
    if not found or not name:
        raise InputError("set", f"is {word[:80]!r}", "write name=value, such as density=0.2")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    try:
        return name.strip(), msgspec.convert(value, Setting)
    except msgspec.ValidationError as error:
        raise InputError(f"set: {name}", str(error), "write a number, true, false, a word or a list of these") from None


def _weights(text: str, recipe: FusionRecipe) -> dict[str, Any]:
    """Read a way to find weights, or numbers, one a member."""
    if text in SEARCHES:
        return {"weights": text}
    count = len(recipe.members)
    cure = f"give {count} numbers with commas between, such as {','.join(['1'] * count)}, or {', '.join(SEARCHES)}"
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError("weights", f"{text[:80]!r} is no list of numbers", cure) from None
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise InputError("weights", f"are {text[:80]!r} for {count} members", cure)
    members = zip(recipe.members, numbers, strict=True)
    return {
        "weights": "given",
        "members": [msgspec.structs.replace(member, weight=number) for member, number in members],
    }
