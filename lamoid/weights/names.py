"""Lays a family's table of names over a folder's tensors, and back; every tensor on either side is accounted for."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from lamoid.assembly.families.family import Family, Rename
from lamoid.assembly.heads import TiedSpec
from lamoid.assembly.linear import DenseSpec
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.spec import ModelSpec
from lamoid.errors import InputError
from lamoid.weights.read import Tensors

Shape = tuple[int, ...]
LISTED = 10


@dataclass(frozen=True)
class Part:
    """Says where a parameter lies: rows [first, first + rows) of the file's tensor, turned first if transposed."""

    theirs: str
    transposed: bool
    first: int
    rows: int
    is_whole: bool


@dataclass(frozen=True)
class NameMap:
    """A spec and, for each parameter of its model, the part of the folder's tensors that it is read from."""

    spec: ModelSpec
    parts: dict[str, Part]
    ignored: tuple[str, ...]
    remarks: tuple[str, ...]


def match_names(family: Family | None, spec: ModelSpec, tensors: Tensors, folder: Path) -> NameMap:
    """Find every parameter of ``spec`` among the tensors, and a use for every tensor.

    Whether heads are tied is read from the tensors: one that is absent is tied if the spec says so, one that repeats
    the embedding bit for bit is dropped, another is a head of its own whatever the spec says. Raise InputError that
    lists what is missing, left over or of another shape (up to 10 names and the count).
    """
    if len(spec.blocks) > len(tensors):
        problem = f"it asks for {len(spec.blocks)} blocks, the files hold {len(tensors)} tensors"
        raise InputError(folder / "config.json", problem, "Mend the number of layers, or fetch the weights anew")
    ignored = tuple(name for name in tensors if family is not None and is_ignored(family, name))
    present = set(tensors) - set(ignored)
    loose = _untie(spec)
    shapes = parameter_shapes(loose)
    rows = family_renames(family, loose, shapes)
    if family is not None and not any(name.startswith(family.prefix) for name in present):
        rows = tuple(Rename(row.ours, row.theirs.removeprefix(family.prefix), row.transposed) for row in rows)
    spec, rows, ignored, remarks = _settle_ties(spec, loose, rows, tensors, ignored)
    _check_names(folder, rows, present - set(ignored))
    _check_tensors(folder, rows, shapes, tensors)
    return NameMap(spec, _parts(rows, shapes), ignored, remarks)


def is_ignored(family: Family, name: str) -> bool:
    """Tell whether a tensor of this name carries no weights in files of the family."""
    return any(re.fullmatch(pattern, name) for pattern in family.ignored)


def family_renames(family: Family | None, spec: ModelSpec, shapes: Mapping[str, Shape]) -> tuple[Rename, ...]:
    """Give the table written out for ``spec``; without a family every parameter keeps its name."""
    rows = tuple(Rename((name,), name) for name in shapes) if family is None else family.renames(spec)
    named = [name for row in rows for name in row.ours]
    if sorted(named) != sorted(shapes):
        raise RuntimeError(f"the family's table and the model differ: {sorted(set(named) ^ set(shapes))[:LISTED]}")
    return rows


def parameter_shapes(spec: ModelSpec) -> dict[str, Shape]:
    """Give the shape of every parameter of a model of ``spec``; nothing of their size is allocated."""
    with torch.device("meta"):
        return {name: tuple(parameter.shape) for name, parameter in LanguageModel(spec).named_parameters()}


def joined_shape(row: Rename, shapes: Mapping[str, Shape]) -> Shape:
    """Give the shape of the file's tensor: its parameters joined along the rows, then turned if so declared."""
    first = shapes[row.ours[0]]
    joined = (sum(shapes[name][0] for name in row.ours), *first[1:])
    return joined[::-1] if row.transposed else joined


def _untie(spec: ModelSpec) -> ModelSpec:
    heads = {
        name: msgspec.structs.replace(head, linear=DenseSpec()) if isinstance(head.linear, TiedSpec) else head
        for name, head in spec.heads.items()
    }
    return msgspec.structs.replace(spec, heads=heads)


def _settle_ties(
    spec: ModelSpec, loose: ModelSpec, rows: tuple[Rename, ...], tensors: Tensors, ignored: tuple[str, ...]
) -> tuple[ModelSpec, tuple[Rename, ...], tuple[str, ...], tuple[str, ...]]:
    """Decide for each head that should be tied; give spec, rows, ignored names and remarks that follow."""
    heads, remarks = dict(spec.heads), []
    table = next(row.theirs for row in rows if "embedding.tokens.weight" in row.ours)
    for name, head in spec.heads.items():
        if not isinstance(head.linear, TiedSpec):
            continue
        row = next(row for row in rows if row.ours[0] == f"heads.{name}.linear.weight")
        if row.theirs not in tensors or (table in tensors and _is_equal(tensors, row.theirs, table)):
            rows = tuple(other for other in rows if other is not row)
            ignored += (row.theirs,) if row.theirs in tensors else ()
        else:
            heads[name] = loose.heads[name]
            remarks.append(f"the configuration ties {row.theirs} to {table}, but their numbers differ: read as untied")
    return msgspec.structs.replace(spec, heads=heads), rows, ignored, tuple(remarks)


def _is_equal(tensors: Tensors, first: str, second: str) -> bool:
    one, two = tensors[first], tensors[second]
    if one.dtype != two.dtype or one.shape != two.shape:
        return False
    # As bytes: a NaN is equal to itself, 0.0 is not -0.0.
    return torch.equal(
        tensors.tensor(first).view(-1).view(torch.uint8), tensors.tensor(second).view(-1).view(torch.uint8)
    )


def _check_names(folder: Path, rows: Iterable[Rename], present: set[str]) -> None:
    expected = {row.theirs: row.ours[0] for row in rows}
    missing = [name for name in expected if name not in present]
    unexpected = sorted(present - set(expected))
    if missing and not unexpected and all(expected[name].startswith("heads.") for name in missing):
        problem = f"{missing[0]} is not in the files, and tie_word_embeddings is false in config.json"
        cure = "If the model's output is its embedding, set tie_word_embeddings to true; else fetch the weights anew"
        raise InputError(folder, problem, cure)
    both = (("missing", missing), ("unexpected", unexpected))
    problems = [f"{len(names)} {what}: {_some(names)}" for what, names in both if names]
    if problems:
        cure = "Take config.json and weights of one model; what lamoid does not know it does not load in part"
        raise InputError(folder, f"config.json and tensors differ, {'; '.join(problems)}", cure)


def _check_tensors(folder: Path, rows: Iterable[Rename], shapes: Mapping[str, Shape], tensors: Tensors) -> None:
    rows = tuple(rows)
    wrong = [row for row in rows if tensors[row.theirs].shape != joined_shape(row, shapes)]
    if wrong:
        first = wrong[0]
        found, due = tensors[first.theirs].shape, joined_shape(first, shapes)
        is_vocab = first.ours[0] == "embedding.tokens.weight" and found[1:] == due[1:]
        culprit = f"{folder / 'config.json'}: vocab_size" if is_vocab else f"{folder}: tensor {first.theirs!r}"
        problem = f"{first.theirs} has the shape {found} in the files and {due} by config.json"
        others = f" ({len(wrong)} such: {_some([row.theirs for row in wrong])})" if len(wrong) > 1 else ""
        raise InputError(culprit, problem + others, "Take config.json and weights of one model")
    for row in rows:
        dtype = tensors[row.theirs].dtype
        if dtype not in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
            problem = f"{str(dtype).removeprefix('torch.')} numbers are no plain weights"
            raise InputError(
                f"{folder}: tensor {row.theirs!r}", problem, "Take a version in float32, float16 or bfloat16"
            )


def _parts(rows: Iterable[Rename], shapes: Mapping[str, Shape]) -> dict[str, Part]:
    parts: dict[str, Part] = {}
    for row in rows:
        first = 0
        for name in row.ours:
            parts[name] = Part(row.theirs, row.transposed, first, shapes[name][0], len(row.ours) == 1)
            first += shapes[name][0]
    return parts


def _some(names: list[str]) -> str:
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
