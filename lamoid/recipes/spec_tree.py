"""A model as a tree of modules and tensors: what each is, what it costs, and what it shares with another."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from torch import nn

from lamoid.assembly.model import LanguageModel
from lamoid.assembly.paths import join
from lamoid.recipes.drawing.folding import runs
from lamoid.recipes.drawing.marks import shared_groups
from lamoid.recipes.drawing.parts import Part, parts_of
from lamoid.recipes.drawing.wording import kind_of, settings


class Node(msgspec.Struct, frozen=True):
    """A module, or a tensor if it has a shape; ``parameters`` counts everything in it.

    ``shares`` is the path of the first that has the same parameters, which is where they are counted. ``flops`` and
    ``cache_numbers`` are for one token, ``None`` where nothing is counted by itself.
    """

    name: str
    kind: str
    parameters: int
    shape: tuple[int, ...] | None = None
    parts: list["Node"] = []
    settings: tuple[str, ...] = ()
    shares: str | None = None
    is_first: bool = False
    flops: int | None = None
    cache_numbers: int | None = None

    def look(self) -> tuple[Any, ...]:
        """Give all that makes it unlike another, where sharing makes alike."""
        words = (self.kind, self.settings, self.shape, self.shares, self.flops, self.cache_numbers)
        if self.shares:
            return words
        return (*words, tuple((part.name, *part.look()) for part in self.parts))


def tree_of(model: LanguageModel) -> Node:
    """Give the tree of a model, whose parameters need not be there."""
    figures = {part.path: part for part in _all(parts_of(model, {}))}
    homes = {path: paths[0] for paths in shared_groups(model) for path in paths}
    return _node("model", "", model, model.spec, _Found(figures, homes, {}))


def tree_lines(node: Node) -> list[str]:
    """Write a tree, one line each; what repeats stands there once."""
    head = f"{'':<46} {'parameters':>15} {'FLOPs a token':>16} {'cached':>8}"
    return [head, *_written(node, 0)]


class _Found(msgspec.Struct):
    """What is known: figures and first sharers by path, and who had a tensor first."""

    figures: Mapping[str, Part]
    homes: Mapping[str, str]
    owners: dict[int, str]


def _all(part: Part) -> Iterator[Part]:
    yield part
    for inner in part.parts:
        yield from _all(inner)


def _node(name: str, path: str, module: nn.Module, spec: Any, found: _Found) -> Node:
    is_spec = isinstance(spec, msgspec.Struct)
    kind = kind_of(spec) if is_spec else type(module).__name__
    figure, home = found.figures.get(path), found.homes.get(path)
    said = settings(spec) if is_spec and path else ()
    costs: dict[str, Any] = {}
    if figure is not None and figure.role not in ("norm", "input"):
        said, costs = figure.notes, {"flops": figure.flops, "cache_numbers": figure.cache_numbers}
    own = dict(module.named_parameters())
    if home not in (None, path) and own and all(id(tensor) in found.owners for tensor in own.values()):
        return Node(name, kind, 0, settings=said, shares=home, **costs)
    parts = []
    for key, tensor in module.named_parameters(recurse=False):
        owner = found.owners.setdefault(id(tensor), join(path, key))
        is_own = owner == join(path, key)
        count, shape = tensor.numel() if is_own else 0, tuple(tensor.shape)
        parts.append(Node(key, "tensor", count, shape, shares=None if is_own else owner))
    for key, child in module.named_children():
        parts.append(_node(key, join(path, key), child, _inside(spec, key), found))
    count = sum(part.parameters for part in parts)
    return Node(name, kind, count, None, parts, said, home, home == path, **costs)


def _inside(spec: Any, key: str) -> Any:
    """Give what a spec has at a module's name, if it has it."""
    if isinstance(spec, msgspec.Struct):
        return getattr(spec, key) if key in spec.__struct_fields__ else None
    if isinstance(spec, tuple):
        return spec[int(key)] if key.isdigit() and int(key) < len(spec) else None
    return spec.get(key) if isinstance(spec, Mapping) else None


def _written(node: Node, depth: int) -> Iterator[str]:
    """Write a node and what is in it; tensors stand beside their module, and what has nothing is left out."""
    tensors = [part for part in node.parts if part.shape is not None]
    shapes = ", ".join(_tensor(part) for part in tensors)
    yield _line(node, depth, shapes)
    inside = [part for part in node.parts if part.shape is None and _has_something(part)]
    looks: dict[Any, int] = {}
    row = [looks.setdefault(part.look() if part.name.isdigit() else part.name, len(looks)) for part in inside]
    for run in runs(row):
        group = inside[run.start : run.start + run.period]
        if run.times > 1:
            yield _line(_together(inside[run.start : run.start + run.period * run.times], run.times), depth + 1, "")
        for part in group:
            yield from _written(part, depth + 1 + (run.times > 1))


def _has_something(node: Node) -> bool:
    return bool(node.parameters or node.shares or node.flops is not None or any(map(_has_something, node.parts)))


def _together(group: list[Node], times: int) -> Node:
    """Give the line that stands for several alike: their sums."""
    flops, cached = (sum(getattr(part, name) or 0 for part in group) for name in ("flops", "cache_numbers"))
    alike = f"{times} times" + (f" these {len(group) // times}" if len(group) > times else "")
    count = sum(part.parameters for part in group)
    return Node(f"{group[0].name} .. {group[-1].name}", alike, count, flops=flops, cache_numbers=cached)


def _tensor(part: Node) -> str:
    shared = f" (= {part.shares})" if part.shares else ""
    return f"{part.name} {' x '.join(map(str, part.shape or ()))}{shared}"


def _line(node: Node, depth: int, shapes: str) -> str:
    kind = "" if not depth or node.kind in ("ModuleList", "ModuleDict") else f": {node.kind}"
    costs = ["" if cost is None else f"{cost:,}" for cost in (node.flops, node.cache_numbers)]
    shared = "" if not node.shares else "shared" if node.is_first else f"= {node.shares}"
    told = "; ".join(text for text in (", ".join(node.settings), shapes, shared) if text)
    label = f"{'  ' * depth}{node.name}{kind}"
    return f"{label:<46} {node.parameters:>15,} {costs[0]:>16} {costs[1]:>8}  {told}".rstrip()
