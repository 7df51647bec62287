"""Which module of a family's files each linear map of a model is part of: adapters are named by these modules."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from lamoid.assembly.families.family import Rename
from lamoid.assembly.heads import TiedSpec
from lamoid.assembly.paths import part_at
from lamoid.assembly.rewrite import linear_maps, without_adapters
from lamoid.assembly.spec import ModelSpec
from lamoid.weights.names import Naming, Shape, parameter_shapes

WEIGHT = ".weight"


@dataclass(frozen=True)
class Member:
    """One linear map of a model in a module of the files, (outputs, inputs); ``path`` is that of the spec."""

    path: str
    outputs: int
    inputs: int


@dataclass(frozen=True)
class FileModule:
    """A linear module of the files: its ``name``, the maps that are joined in it, and how."""

    name: str
    members: tuple[Member, ...]
    row: Rename

    @property
    def outputs(self) -> int:
        """The rows of all its maps."""
        return sum(member.outputs for member in self.members)


@dataclass(frozen=True)
class Layout:
    """How the files call the base of an adapted model: its tensors, and the linear modules among them by name."""

    rows: tuple[Rename, ...]
    shapes: Mapping[str, Shape]
    modules: Mapping[str, FileModule]

    def row(self, name: str) -> Rename | None:
        """Give the row of a tensor of the files."""
        return next((row for row in self.rows if name == row.theirs or name in row.also), None)


def file_layout(spec: ModelSpec, naming: Naming) -> Layout:
    """Work out the layout of a model's base in the files of a family, or under lamoid's own names."""
    base = without_adapters(spec)
    shapes = parameter_shapes(base)
    rows = naming.rows(base, shapes)
    maps = dict(linear_maps(base))
    found = [_module(row, maps, shapes) for row in rows if row.theirs.endswith(WEIGHT)]
    for path, linear in maps.items():
        if isinstance(linear, TiedSpec):
            head = part_at(base, path.removesuffix(".linear"))
            inputs = head.transform.width_out(base.trunk.width)
            theirs = naming.file_name(f"{path}{WEIGHT}")
            found.append(_named(Rename((f"{path}{WEIGHT}",), theirs), (Member(path, base.vocab, inputs),)))
    return Layout(rows, shapes, {module.name: module for module in found if module is not None})


def bare_naming(naming: Naming, names: Iterable[str]) -> Naming:
    """Give the naming in which these names are: with or without the trunk's prefix."""
    is_bare = bool(naming.prefix) and not any(name.startswith(naming.prefix) for name in names)
    return replace(naming, is_bare=is_bare)


def module_path(spec: ModelSpec, path: str) -> str:
    """Give the path of the module that has a map's adapters, for the path at which its spec stands."""
    if isinstance(part_at(spec, path), TiedSpec):
        return path.removesuffix(".linear")
    return path.replace("embedding.table.linear", "embedding.widen")


def _module(row: Rename, maps: Mapping[str, object], shapes: Mapping[str, Shape]) -> FileModule | None:
    """Give the module that a tensor is the matrix of; ``None`` where it is no linear map's."""
    stems = [name.removesuffix(WEIGHT).replace("embedding.widen", "embedding.table.linear") for name in row.ours]
    if not all(stem in maps for stem in stems):
        return None
    pairs = zip(stems, row.ours, strict=True)
    return _named(row, tuple(Member(stem, shapes[name][0], shapes[name][1]) for stem, name in pairs))


def _named(row: Rename, members: tuple[Member, ...]) -> FileModule:
    return FileModule(row.theirs.removesuffix(WEIGHT), members, row)
