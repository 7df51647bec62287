"""Lays a family's table of names over a folder's tensors, and back; every tensor on either side is accounted for."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from lamoid.assembly.block import BlockSpec
from lamoid.assembly.families.family import Architecture, Family, Rename
from lamoid.assembly.heads import NextTokenSpec, TiedSpec
from lamoid.assembly.linear import DenseSpec
from lamoid.assembly.model import empty_model
from lamoid.assembly.paths import walk
from lamoid.assembly.spec import ModelSpec
from lamoid.errors import InputError
from lamoid.weights.read import Tensors

Shape = tuple[int, ...]
LISTED = 10
TABLE = "embedding.tokens.weight"


@dataclass(frozen=True)
class Naming:
    """How files call a model's parameters: by the table of a family's class, or by lamoid's own names.

    Without the trunk's prefix if it ``is_bare``.
    """

    family: Family | None = None
    architecture: Architecture | None = None
    is_bare: bool = False

    def rows(self, spec: ModelSpec, shapes: Mapping[str, Shape]) -> tuple[Rename, ...]:
        """Write the table out for a model; every parameter stands in it once."""
        if self.family is None or self.architecture is None:
            return tuple(Rename((name,), name) for name in shapes)
        dimensions = {name: len(shape) for name, shape in shapes.items()}
        rows = self.family.renames(spec, dimensions, self.architecture)
        named = [name for row in rows for name in row.ours]
        if sorted(named) != sorted(shapes):
            raise RuntimeError(f"the family's table and the model differ: {sorted(set(named) ^ set(shapes))[:LISTED]}")
        return tuple(replace(row, theirs=self._bare(row.theirs)) for row in rows)

    def file_name(self, name: str) -> str:
        """Give what the files call a parameter, which need not be there, that lies by itself."""
        if self.family is None or self.architecture is None:
            return name
        found = self.family.file_name(name, self.architecture)
        if found is None:
            raise RuntimeError(f"the table of {self.family.model_type} has no row for {name}")
        return self._bare(found)

    @property
    def prefix(self) -> str:
        """The trunk's name in the files, empty if it has none."""
        if self.family is None or self.architecture is None:
            return ""
        return self.family.prefix_of(self.architecture)

    def _bare(self, theirs: str) -> str:
        return theirs.removeprefix(self.prefix) if self.is_bare else theirs


@dataclass(frozen=True)
class Part:
    """Says where a parameter lies: rows [first, first + rows) of the file's tensor, turned first if transposed.

    Where the tensor has its rows head by head, ``heads`` is above 1, and first and rows count those of all heads.
    """

    theirs: str
    transposed: bool
    first: int
    rows: int
    is_whole: bool
    heads: int = 1

    def cut(self, tensor: Tensor) -> Tensor:
        """Give the part of the file's tensor: a view, unless its rows lie head by head."""
        turned = tensor.t() if self.transposed else tensor
        if self.is_whole:
            return turned
        if self.heads == 1:
            return turned[self.first : self.first + self.rows]
        first, rows = self.first // self.heads, self.rows // self.heads
        return turned.unflatten(0, (self.heads, -1))[:, first : first + rows].flatten(0, 1)


@dataclass(frozen=True)
class NameMap:
    """A spec and, for each parameter of its model, the part of the folder's tensors that it is read from."""

    spec: ModelSpec
    parts: dict[str, Part]
    ignored: tuple[str, ...]
    remarks: tuple[str, ...]


def match_names(
    family: Family | None, architecture: Architecture | None, spec: ModelSpec, tensors: Tensors, folder: Path
) -> NameMap:
    """Find every parameter of ``spec`` among the tensors, and a use for every tensor.

    Whether heads are tied is read from the tensors: one that is absent is tied if the spec says so, one that repeats
    the embedding bit for bit is dropped, another is a head of its own whatever the spec says. A second name of a tensor
    is dropped too. Raise InputError that lists what is missing, left over or of another shape (up to 10 names and the
    count).
    """
    blocks = sum(isinstance(part, BlockSpec) for _, part in walk(spec.blocks))
    if blocks > len(tensors) and not (family is None and spec.sharing):
        problem = f"it asks for {blocks} blocks, the files hold {len(tensors)} tensors"
        raise InputError(folder / "config.json", problem, "Mend the number of layers, or fetch the weights anew")
    naming = Naming(family, architecture)
    naming = replace(naming, is_bare=not any(name.startswith(naming.prefix) for name in tensors))
    spec, ties, remarks = _settle_ties(spec, naming, tensors)
    shapes = parameter_shapes(spec)
    rows = naming.rows(spec, shapes)
    if family is not None:
        rows, repeated = _settle_names(family, rows, tensors, folder)
        ties += repeated
        remarks += (*_doubles(rows, tensors), *_unused(naming, rows, tensors))
    asked = {row.theirs for row in rows}
    doubles = {name for row in rows for name in row.also}
    buffers = (name for name in tensors if family is not None and (is_ignored(family, name) or name in doubles))
    ignored = tuple(dict.fromkeys(name for name in (*ties, *buffers) if name not in asked and name in tensors))
    _check_names(folder, rows, set(tensors) - set(ignored))
    _check_tensors(folder, rows, shapes, tensors)
    return NameMap(spec, _parts(rows, shapes), ignored, tuple(remarks))


def is_ignored(family: Family, name: str) -> bool:
    """Tell whether a tensor of this name carries no weights in files of the family."""
    return any(re.fullmatch(pattern, name) for pattern in family.ignored)


def parameter_shapes(spec: ModelSpec) -> dict[str, Shape]:
    """Give the shape of every parameter of a model of ``spec``; nothing of their size is allocated."""
    return {name: tuple(parameter.shape) for name, parameter in empty_model(spec).named_parameters()}


def joined_shape(row: Rename, shapes: Mapping[str, Shape]) -> Shape:
    """Give the shape of the file's tensor: its parameters joined along the rows, then turned if so declared."""
    first = shapes[row.ours[0]]
    joined = (sum(shapes[name][0] for name in row.ours), *first[1:])
    return joined[::-1] if row.transposed else joined


def join(row: Rename, parameters: Mapping[str, Tensor]) -> Tensor:
    """Make the file's tensor of a model's parameters."""
    parts = [parameters[name] for name in row.ours]
    if row.heads > 1:
        joined = torch.cat([part.unflatten(0, (row.heads, -1)) for part in parts], dim=1).flatten(0, 1)
    else:
        joined = torch.cat(parts) if len(parts) > 1 else parts[0]
    return joined.t() if row.transposed else joined


def _settle_ties(
    spec: ModelSpec, naming: Naming, tensors: Tensors
) -> tuple[ModelSpec, tuple[str, ...], tuple[str, ...]]:
    """Decide for each head that should be tied; give the spec, and names to ignore and remarks that follow."""
    heads, ignored, remarks = dict(spec.heads), (), ()
    table = naming.file_name(TABLE)
    for name, head in spec.heads.items():
        if not isinstance(head, NextTokenSpec) or not isinstance(head.linear, TiedSpec):
            continue
        theirs = naming.file_name(f"heads.{name}.linear.weight")
        if theirs not in tensors:
            continue
        ignored += (theirs,)
        if table in tensors and not _is_equal(tensors, theirs, table):
            heads[name] = msgspec.structs.replace(head, linear=DenseSpec(head.linear.bias))
            remarks += (f"the configuration ties {theirs} to {table}, but their numbers differ: read as untied",)
    return msgspec.structs.replace(spec, heads=heads), ignored, remarks


def _settle_names(
    family: Family, rows: tuple[Rename, ...], tensors: Tensors, folder: Path
) -> tuple[tuple[Rename, ...], tuple[str, ...]]:
    """Let rows ask for the names that the files have, old ones and copies' too; give the copies to ignore beside."""
    groups = {name: group for group in family.copies for name in group}
    settled, ignored = [], []
    for row in rows:
        known = [name for name in (row.theirs, *groups.get(row.theirs, ())) if name not in row.also]
        group = [name for name in known if name in tensors]
        group += [name for name in _former_names(family, row.theirs) if name in tensors]
        chosen = group[0] if group else row.theirs
        for name in dict.fromkeys(group[1:]):
            if name != chosen and not _is_equal(tensors, name, chosen):
                problem = f"{name} and {chosen} stand for one tensor, but their numbers differ"
                raise InputError(f"{folder}: tensor {name!r}", problem, "Fetch the weights anew")
        ignored += group[1:]
        settled.append(replace(row, theirs=chosen))
    return tuple(settled), tuple(ignored)


def _former_names(family: Family, name: str) -> list[str]:
    return [name.removesuffix(today) + before for before, today in family.former if name.endswith(today)]


def _doubles(rows: Iterable[Rename], tensors: Tensors) -> tuple[str, ...]:
    """Say which tensors that repeat another one do not."""
    return tuple(
        f"{name} is not read, and its numbers differ from {row.theirs}, which is"
        for row in rows
        for name in row.also
        if name in tensors and row.theirs in tensors and not _is_equal(tensors, name, row.theirs)
    )


def _unused(naming: Naming, rows: Iterable[Rename], tensors: Tensors) -> tuple[str, ...]:
    """Say which tensors of other classes are left out: a file of BERT may hold heads that its class does not have."""
    if naming.family is None or naming.architecture is None:
        return ()
    asked = {row.theirs for row in rows} | {name for row in rows for name in row.also}
    known = {f"{row.theirs}.{end}" for row in naming.family.table for end in ("weight", "bias")}
    left = [name for name in tensors if name in known - asked and is_ignored(naming.family, name)]
    return (f"{naming.architecture.name} has no use for {_some(left)}: left out",) if left else ()


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
    if len(missing) == 1 and not unexpected and re.fullmatch(r"heads\.\w+_token\.linear\.weight", expected[missing[0]]):
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
        is_vocab = first.ours[0] == TABLE and found[1:] == due[1:]
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
            parts[name] = Part(row.theirs, row.transposed, first, shapes[name][0], len(row.ours) == 1, row.heads)
            first += shapes[name][0]
    return parts


def _some(names: list[str]) -> str:
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
