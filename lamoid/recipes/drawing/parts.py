"""A spec as a tree of the parts that a picture shows, each with its path, its words, its figures and its marks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from lamoid.assembly.block import BlockSpec, NoMixerSpec, SandwichSpec
from lamoid.assembly.feedforward import NoFeedForwardSpec
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.norm import NoNormSpec
from lamoid.assembly.scope import Scope
from lamoid.assembly.wiring import (
    CrossSpec,
    NodeSpec,
    ParallelSpec,
    ProjectSpec,
    SerialSpec,
    StackSpec,
    in_series,
)
from lamoid.recipes.drawing.folding import runs
from lamoid.recipes.drawing.wording import kind_of, settings


@dataclass(frozen=True)
class Part:
    """``role`` is what it does in the picture, ``kind`` and ``notes`` what is written on it.

    ``mark`` is that of what shares all its parameters with it, ``marks`` are those of what is inside and drawn nowhere.
    ``parameters``, ``flops`` (a token, in a full context) and ``cache_numbers`` (a token) count all that is in it.
    """

    role: str
    path: str
    kind: str
    notes: tuple[str, ...] = ()
    parts: tuple["Part", ...] = ()
    mark: str = ""
    marks: tuple[str, ...] = ()
    times: int = 1
    parameters: int = 0
    flops: int = 0
    cache_numbers: int = 0

    @property
    def title(self) -> str:
        """What it is called in a picture; a head by its name too."""
        if self.role in ("embedding", "branch"):
            return "embedding" if self.role == "embedding" else self.kind
        kind, name = self.kind.replace("_", " "), self.path.removeprefix("heads.")
        return f"{name}: {kind}" if self.role == "head" and name != self.kind else kind

    def look(self) -> tuple[Any, ...]:
        """Give all that a picture shows of it but its path."""
        words = (self.role, self.kind, self.notes, self.mark, self.marks, self.times)
        return (*words, tuple(part.look() for part in self.parts))

    def inside(self, role: str) -> list["Part"]:
        """Give the parts of a role."""
        return [part for part in self.parts if part.role == role]


def parts_of(model: LanguageModel, marks: Mapping[str, str]) -> Part:
    """Give the tree of a whole model, whose parameters need not be there; ``marks`` names what shares them, by path."""
    spec = model.spec
    inner: dict[str, list[str]] = {}
    for path, mark in marks.items():
        pieces = path.split(".")
        for end in range(1, len(pieces)):
            inner.setdefault(".".join(pieces[:end]), []).append(f"{'.'.join(pieces[end:])} {mark}")
    maker = _Maker(spec.context, marks, inner)
    trunk = spec.trunk
    inputs = Part("input", "ids", "ids")
    embedding = maker.leaf("embedding", "embedding", spec.embedding, spec.embedding.parameters(spec.scope))
    embedding = replace(embedding, flops=spec.embedding.flops(spec.scope))
    heads = []
    for name, head in spec.heads.items():
        part = maker.leaf("head", f"heads.{name}", head, head.parameters(trunk))
        heads.append(replace(part, flops=head.flops(trunk)))
    norm = maker.norm("norm", spec.norm, trunk.width)
    parts = (inputs, embedding, *maker.series(spec.blocks, spec.scope, "blocks"), *norm, *heads)
    count = sum(parameter.numel() for parameter in model.parameters())
    figures = (count, spec.flops(), spec.cache_numbers())
    said = (f"width {spec.width}", f"vocab {spec.vocab}", f"context {spec.context}")
    return Part("model", "", "model", said, parts, "", (), 1, *figures)


def folded(part: Part) -> Part:
    """Put a "repeat" part in place of what stands several times in series, at any depth."""
    inside = [folded(inner) for inner in part.parts]
    if part.role not in ("model", "serial", "stack"):
        return replace(part, parts=tuple(inside))
    looks: dict[Any, int] = {}
    row = [looks.setdefault(inner.look(), len(looks)) for inner in inside]
    kept: list[Part] = []
    for run in runs(row):
        group = tuple(inside[run.start : run.start + run.period])
        is_series = all(inner.role not in ("input", "head", "norm", "embedding") for inner in group)
        if run.times > 1 and is_series:
            last = inside[run.start + run.period * run.times - 1]
            path = f"{group[0].path} .. {last.path.rpartition('.')[2]}"
            kept.append(Part("repeat", path, "repeat", (), group, "", (), run.times))
        else:
            kept.extend(inside[run.start : run.start + run.period * run.times])
    return replace(part, parts=tuple(kept))


@dataclass(frozen=True)
class _Maker:
    context: int
    marks: Mapping[str, str]
    inner: Mapping[str, Sequence[str]]

    def leaf(self, role: str, path: str, spec: msgspec.Struct, parameters: int) -> Part:
        """Give a part without parts, with the marks of what is in it."""
        mark, marks = self.marks.get(path, ""), tuple(self.inner.get(path, ()))
        return Part(role, path, kind_of(spec), settings(spec), (), mark, marks, parameters=parameters)

    def norm(self, path: str, spec: msgspec.Struct, width: int) -> list[Part]:
        """Give the norm, or nothing where there is none."""
        return [] if isinstance(spec, NoNormSpec) else [self.leaf("norm", path, spec, spec.parameters(width))]  # type: ignore[attr-defined]

    def series(self, blocks: Sequence[NodeSpec], scope: Scope, path: str) -> list[Part]:
        """Give the parts of blocks in series."""
        return [self.node(block, at, f"{path}.{i}") for i, (block, at) in enumerate(in_series(blocks, scope))]

    def node(self, spec: NodeSpec, scope: Scope, path: str) -> Part:
        """Give the part of any node, with the figures that the spec works out for it."""
        notes: tuple[str, ...] = ()
        if isinstance(spec, BlockSpec):
            parts, notes = self.block(spec, scope, path), (kind_of(spec.order),)
        elif isinstance(spec, SerialSpec):
            parts = self.series(spec.blocks, scope, f"{path}.blocks")
        elif isinstance(spec, ParallelSpec):
            branches = spec.branches.items()
            parts = [self.named(name, self.node(part, scope, f"{path}.branches.{name}")) for name, part in branches]
            notes = (kind_of(spec.merge),)
        elif isinstance(spec, CrossSpec):
            memory = self.node(spec.memory, scope, f"{path}.memory")
            parts = [memory, self.node(spec.reader, spec.facing(scope), f"{path}.reader")]
        elif isinstance(spec, StackSpec):
            parts = self.stack(spec, scope, path)
            notes = (f"stream {spec.stream}", *((f"width {spec.width}",) if spec.width else ()))
        else:
            parts = []
        role = kind_of(spec)
        found = self.leaf(role, path, spec, spec.parameters(scope))
        if not isinstance(spec, ProjectSpec):
            found = replace(found, notes=notes, parts=tuple(parts), marks=())
        figures = {"flops": spec.flops(scope, self.context), "cache_numbers": spec.cache_numbers(scope)}
        return replace(found, **figures)

    def named(self, name: str, part: Part) -> Part:
        """Say the name of a branch."""
        return Part("branch", part.path, name, (), (part,), parameters=part.parameters)

    def block(self, spec: BlockSpec, scope: Scope, path: str) -> list[Part]:
        """Give a block's sublayers, each with its norms."""
        sublayers = []
        for name in ("mixer", "feedforward"):
            part = getattr(spec, name)
            if isinstance(part, NoMixerSpec | NoFeedForwardSpec):
                continue
            if name == "mixer":
                found = self.leaf(name, f"{path}.{name}", part, part.parameters(scope))
                flops = part.flops(scope, self.context)
                found = replace(found, flops=flops, cache_numbers=part.cache_numbers(scope))
            else:
                found = self.leaf(name, f"{path}.{name}", part, part.parameters(scope.width))
                found = replace(found, flops=part.flops(scope.width))
            norms = self.norm(f"{path}.norm_{name}", getattr(spec, f"norm_{name}"), scope.width)
            if isinstance(spec.order, SandwichSpec):
                norms += self.norm(f"{path}.after_{name}", getattr(spec.order, f"after_{name}"), scope.width)
            sublayers.append(replace(found, parts=tuple(norms)))
        return sublayers

    def stack(self, spec: StackSpec, scope: Scope, path: str) -> list[Part]:
        """Give a stack's input, embedding, blocks and norm."""
        inside = spec.inside(scope)
        inputs = Part("input", f"{path}.stream", spec.stream)
        embedding = self.leaf("embedding", f"{path}.embedding", spec.embedding, spec.embedding.parameters(inside))
        blocks = self.series(spec.blocks, inside, f"{path}.blocks")
        return [inputs, embedding, *blocks, *self.norm(f"{path}.norm", spec.norm, spec.width_out(scope, ""))]
