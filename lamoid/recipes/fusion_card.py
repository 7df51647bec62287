"""The model card of a fusion, and its recipe as it is saved beside the weights."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import tomli_w

from lamoid.evaluation.text_table import show
from lamoid.recipes.fusion_recipe import FusionRecipe, MemberTable, TaskTable
from lamoid.recipes.fusion_result import Fusion, Member

RECIPE, CARD = "fusion.toml", "README.md"


def write_card(result: Fusion, command: str, pictures: Sequence[str]) -> bytes:
    """Write a model card: what was fused how, what it came to, and how to make it again."""
    parts = ["---", "tags:", "- merge", "- lamoid", "base_model:"]
    parts += [f"- {_quoted(_name(Path(member.path)))}" for member in result.members]
    parts += ["---", f"# {Path(result.out).name}", "", _sentence(result), ""]
    parts += ["| model | weight | measured | judged | bits a byte |", "|---|---|---|---|---|"]
    parts += [_row(kind, model) for kind, model in result.models()]
    parts.append("")
    if result.fused is not None:
        text = "Losses are nats a token, lower is better, with 95 % intervals: measured on the half that weights were"
        parts += [f"{text} found on, judged on {result.units} {result.unit}.", ""]
    if result.comparisons:
        parts += ["| the fused model beside | difference | verdict |", "|---|---|---|"]
        parts += [
            f"| {_cell(each.other)} | {_flat(each.difference, each.interval)} | {each.verdict} |"
            for each in result.comparisons
        ]
        parts.append("")
    for metric in result.metrics:
        parts += [f"| {_cell(metric.name)} ({metric.verdict}) | mean |", "|---|---|"]
        parts += [f"| {_cell(row.model)} | {_flat(row.value, row.interval)} |" for row in metric.judged]
        parts.append("")
    parts += [f"- {_cell(note)}" for note in result.notes]
    parts += ["", *(f"![{name}]({name})" for name in pictures), *([""] if pictures else [])]
    parts += ["Made by", "", f"    {command}", "", f"or again by `lamoid fuse {RECIPE} --out FOLDER`.", ""]
    return "\n".join(parts).encode()


def _name(path: Path) -> str:
    """Give a model's name; what a training saved is called by the run's folder, for all of them end in "model"."""
    return path.parent.name if path.name == "model" and path.parent.name else path.name


def write_recipe(recipe: FusionRecipe) -> bytes:
    """Write the recipe as TOML: what is not as it is anyway, and paths as they are seen from the saved folder.

    Links are followed first: ".." behind a linked folder leads elsewhere than its name says.
    """
    out = Path(os.path.realpath(Path(recipe.out).absolute().parent)) / Path(recipe.out).name
    steps = {step.name for step in recipe.steps}

    def seen(path: str) -> str:
        return path if path in steps else os.path.relpath(os.path.realpath(path), out)

    def members(entries: Sequence[MemberTable]) -> list[MemberTable]:
        return [
            msgspec.structs.replace(
                each,
                model=seen(each.model),
                statistics=None if each.statistics is None else seen(each.statistics),
                on=texts(each.on),
            )
            for each in entries
        ]

    def texts(paths: str | list[str] | None) -> str | list[str] | None:
        return seen(paths) if isinstance(paths, str) else paths and [seen(path) for path in paths]

    def task(table: TaskTable) -> TaskTable:
        return msgspec.structs.replace(table, on=texts(table.on), judge=texts(table.judge))

    moved = msgspec.structs.replace(
        recipe,
        members=members(recipe.members),
        base=None if recipe.base is None else seen(recipe.base),
        steps=[
            msgspec.structs.replace(
                step, members=members(step.members), base=None if step.base is None else seen(step.base)
            )
            for step in recipe.steps
        ],
        tasks=[task(table) for table in recipe.tasks],
    )
    tree = _changed(moved)
    tree.pop("out")
    return tomli_w.dumps(tree).encode()


def _changed(struct: msgspec.Struct) -> dict[str, object]:
    """Give the fields that are not at their default."""
    tree: dict[str, object] = {}
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        if value is not None and value != default:
            tree[field.encode_name] = _plain(value)
    return tree


def _plain(value: object) -> object:
    if isinstance(value, msgspec.Struct):
        return _changed(value)
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return value


def _sentence(result: Fusion) -> str:
    how = "the members' own weights" if result.weights == "given" else f"weights by {result.weights}"
    if result.weights == "none":
        how = "no weights"
    what = f"{len(result.members)} models of one shape fused by the rule {result.rule}, {how}"
    what += "" if result.tau is None else f" (tau {result.tau:.3g})"
    return f"{what}. Saved: {result.saved}. Verdict beside the best member: {result.verdict}."


def _row(kind: str, model: object) -> str:
    if isinstance(model, Member):
        cells = [_cell(model.path), show(model.weight), show(model.nats_per_token)]
    else:
        cells = [_cell(getattr(model, "path", "")) if kind == "base" else kind, "-", "-"]
    judged, bits = (getattr(model, name) for name in ("judged", "bits_per_byte"))
    spreads = (getattr(model, name) for name in ("interval", "bits_per_byte_interval"))
    cells += [_flat(value, spread) for value, spread in zip((judged, bits), spreads, strict=True)]
    return f"| {' | '.join(cells)} |"


def _flat(value: float | None, interval: tuple[float, float] | None) -> str:
    return show(value, interval).replace("\n", " ")


def _cell(text: str) -> str:
    """Keep a name from being read as a table's bar, a tag or a line."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _quoted(name: str) -> str:
    return msgspec.json.encode(name).decode()
