"""Connections: blocks in series, in parallel and crosswise, nested to any depth."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import msgspec
import torch
from torch import Tensor, nn

from lamoid.assembly.block import BlockSpec
from lamoid.assembly.bounds import MOST_VOCAB, MOST_WIDTH, whole
from lamoid.assembly.embedding import EmbeddingSpec
from lamoid.assembly.layout import Layout, plan_layout
from lamoid.assembly.linear import DenseSpec, LinearSpec
from lamoid.assembly.norm import NoNormSpec, NormSpec
from lamoid.assembly.scope import Scope
from lamoid.errors import InputError

SOURCE = "source"


class SumSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sum"):
    """The branches' outputs added up."""


class MeanSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="mean"):
    """The branches' outputs averaged."""


class ConcatenationSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="concatenation"):
    """The branches' outputs side by side: the widths add up."""


class GateSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="gate"):
    """A mean weighed, token by token, by the softmax of a linear map of all branches' outputs."""

    linear: LinearSpec = DenseSpec(bias=True)


MergeSpec = SumSpec | MeanSpec | ConcatenationSpec | GateSpec


class SerialSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="serial"):
    """Each of ``blocks`` reads what the one before it gives."""

    blocks: tuple["NodeSpec", ...]

    def width_out(self, scope: Scope, path: str) -> int:
        return series_scopes(self.blocks, scope, f"{path}.blocks")[-1].width

    def build(self, scope: Scope) -> "Serial":
        return Serial(self, scope)

    def parameters(self, scope: Scope) -> int:
        return sum(block.parameters(at) for block, at in in_series(self.blocks, scope))

    def flops(self, scope: Scope, context: int) -> int:
        return sum(block.flops(at, context) for block, at in in_series(self.blocks, scope))

    def cache_numbers(self, scope: Scope) -> int:
        return sum(block.cache_numbers(at) for block, at in in_series(self.blocks, scope))

    def state_numbers(self, scope: Scope) -> int:
        return sum(block.state_numbers(at) for block, at in in_series(self.blocks, scope))


class ParallelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="parallel"):
    """Every branch reads the same stream (or, if it is a stack, one of its own); their outputs are merged."""

    branches: dict[str, "NodeSpec"]
    merge: MergeSpec = SumSpec()

    def __post_init__(self) -> None:
        whole("parallel.number of branches", len(self.branches), 1, 1000)
        check_names("parallel.branches", self.branches)

    def width_out(self, scope: Scope, path: str) -> int:
        widths = {name: node.width_out(scope, f"{path}.branches.{name}") for name, node in self.branches.items()}
        if isinstance(self.merge, ConcatenationSpec):
            return sum(widths.values())
        first, *others = widths
        for name in others:
            if widths[name] != widths[first]:
                problem = f"gives {widths[name]} numbers a token, {path}.branches.{first} gives {widths[first]}"
                cure = "make the widths equal with a project, or merge by concatenation"
                raise InputError(f"{path}.branches.{name}", problem, cure)
        return widths[first]

    def build(self, scope: Scope) -> "Parallel":
        return Parallel(self, scope)

    def parameters(self, scope: Scope) -> int:
        gate = 0
        if isinstance(self.merge, GateSpec):
            gate = self.merge.linear.parameters(self._joined(scope), len(self.branches))
        return gate + sum(node.parameters(scope) for node in self.branches.values())

    def flops(self, scope: Scope, context: int) -> int:
        gate = 0
        if isinstance(self.merge, GateSpec):
            gate = self.merge.linear.flops(self._joined(scope), len(self.branches))
        return gate + sum(node.flops(scope, context) for node in self.branches.values())

    def cache_numbers(self, scope: Scope) -> int:
        return sum(node.cache_numbers(scope) for node in self.branches.values())

    def state_numbers(self, scope: Scope) -> int:
        return sum(node.state_numbers(scope) for node in self.branches.values())

    def _joined(self, scope: Scope) -> int:
        return sum(node.width_out(scope, "") for node in self.branches.values())


class StackSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="stack"):
    """A trunk of its own: embeds a ``stream`` of the batch, whatever comes in, and runs its blocks and its norm.

    ``stream`` is "ids", "types", another stream by name, or "source", the batch that an encoder reads. ``width`` and
    ``vocab`` 0 are those of what stands around it.
    """

    blocks: tuple["NodeSpec", ...]
    stream: str = SOURCE
    width: int = 0
    vocab: int = 0
    embedding: EmbeddingSpec = EmbeddingSpec()
    norm: NormSpec = NoNormSpec()

    def __post_init__(self) -> None:
        whole("stack.width", self.width, 0, MOST_WIDTH)
        whole("stack.vocab", self.vocab, 0, MOST_VOCAB)

    def inside(self, scope: Scope) -> Scope:
        """Give the scope of the embedding and the first block."""
        return Scope(self.width or scope.width, self.vocab or scope.vocab, scope.context, scope.memory)

    def width_out(self, scope: Scope, path: str) -> int:
        return series_scopes(self.blocks, self.inside(scope), f"{path}.blocks")[-1].width

    def build(self, scope: Scope) -> "Stack":
        return Stack(self, scope)

    def parameters(self, scope: Scope) -> int:
        inside = self.inside(scope)
        count = self.embedding.parameters(inside) + self.norm.parameters(self.width_out(scope, ""))
        return count + sum(block.parameters(at) for block, at in in_series(self.blocks, inside))

    def flops(self, scope: Scope, context: int) -> int:
        inside = self.inside(scope)
        blocks = sum(block.flops(at, context) for block, at in in_series(self.blocks, inside))
        return self.embedding.flops(inside) + blocks

    def cache_numbers(self, scope: Scope) -> int:
        """Count the numbers kept for one token; a source is read once, and nothing of its stack is kept."""
        if self.stream == SOURCE:
            return 0
        return sum(block.cache_numbers(at) for block, at in in_series(self.blocks, self.inside(scope)))

    def state_numbers(self, scope: Scope) -> int:
        """Count the numbers kept for one text, however long."""
        if self.stream == SOURCE:
            return 0
        return sum(block.state_numbers(at) for block, at in in_series(self.blocks, self.inside(scope)))


class CrossSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="cross"):
    """The cross-attentions of ``reader`` attend to the output of ``memory``.

    ``memory`` is a stack of a stream or source, or any other node, which then reads what comes in.
    """

    memory: "NodeSpec"
    reader: "NodeSpec"

    def facing(self, scope: Scope, path: str = "cross") -> Scope:
        """Give the scope of the reader."""
        memory = self.memory.width_out(scope, f"{path}.memory")
        return replace(scope, memory=memory)

    def width_out(self, scope: Scope, path: str) -> int:
        return self.reader.width_out(self.facing(scope, path), f"{path}.reader")

    def build(self, scope: Scope) -> "Cross":
        return Cross(self, scope)

    def parameters(self, scope: Scope) -> int:
        return self.memory.parameters(scope) + self.reader.parameters(self.facing(scope))

    def flops(self, scope: Scope, context: int) -> int:
        return self.memory.flops(scope, context) + self.reader.flops(self.facing(scope), context)

    def cache_numbers(self, scope: Scope) -> int:
        return self.memory.cache_numbers(scope) + self.reader.cache_numbers(self.facing(scope))

    def state_numbers(self, scope: Scope) -> int:
        return self.memory.state_numbers(scope) + self.reader.state_numbers(self.facing(scope))


class ProjectSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="project"):
    """A linear map to another width."""

    width: int
    linear: LinearSpec = DenseSpec()

    def __post_init__(self) -> None:
        whole("project.width", self.width, 1, MOST_WIDTH)

    def width_out(self, scope: Scope, path: str) -> int:
        return self.width

    def build(self, scope: Scope) -> "Project":
        return Project(self, scope)

    def parameters(self, scope: Scope) -> int:
        return self.linear.parameters(scope.width, self.width)

    def flops(self, scope: Scope, context: int) -> int:
        return self.linear.flops(scope.width, self.width)

    def cache_numbers(self, scope: Scope) -> int:
        return 0

    def state_numbers(self, scope: Scope) -> int:
        return 0


NodeSpec = BlockSpec | SerialSpec | ParallelSpec | CrossSpec | StackSpec | ProjectSpec


def series_scopes(blocks: Sequence[NodeSpec], scope: Scope, path: str) -> list[Scope]:
    """Give the scope before each block and that behind the last; raise ``InputError`` where a block does not fit."""
    scopes = [scope]
    for index, block in enumerate(blocks):
        width = block.width_out(scopes[-1], f"{path}.{index}")
        is_same = width == scopes[-1].width
        scopes.append(scopes[-1] if is_same else replace(scopes[-1], width=width))
    return scopes


def in_series(blocks: Sequence[NodeSpec], scope: Scope) -> Iterable[tuple[NodeSpec, Scope]]:
    """Give each block and the scope in which it stands."""
    return zip(blocks, series_scopes(blocks, scope, "blocks"), strict=False)


def check_names(field: str, names: Iterable[str]) -> None:
    """Refuse names that cannot be a part of a path, or that a dict of modules has already."""
    for name in names:
        if name in _TAKEN:
            raise InputError(field, f"has the name {name!r}, which is taken", "choose another name")
        if not name.isidentifier():
            problem = f"has the name {name[:40]!r}"
            raise InputError(field, problem, "use letters, digits and underscores, no digit first")


class Serial(nn.Module):
    """(B, T, C) to (B, T, C')."""

    def __init__(self, spec: SerialSpec, scope: Scope) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(block.build(at) for block, at in in_series(spec.blocks, scope))

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        for block in self.blocks:
            x = block(x, layout)
        return x


class Parallel(nn.Module):
    """(B, T, C) to (B, T, C')."""

    def __init__(self, spec: ParallelSpec, scope: Scope) -> None:
        super().__init__()
        self.merge = spec.merge
        self.branches = nn.ModuleDict({name: node.build(scope) for name, node in spec.branches.items()})
        if isinstance(spec.merge, GateSpec):
            joined = sum(node.width_out(scope, "") for node in spec.branches.values())
            self.gate = spec.merge.linear.build(joined, len(spec.branches))

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        outputs = [branch(x, layout) for branch in self.branches.values()]
        if isinstance(self.merge, ConcatenationSpec):
            return torch.cat(outputs, dim=-1)
        if isinstance(self.merge, GateSpec):
            shares = self.gate(torch.cat(outputs, dim=-1)).softmax(-1).split(1, dim=-1)
            outputs = [share * output for share, output in zip(shares, outputs, strict=True)]
        total = outputs[0]
        for output in outputs[1:]:
            total = total + output
        return total / len(outputs) if isinstance(self.merge, MeanSpec) else total


class Stack(nn.Module):
    """A stream of the batch to (B, S, C')."""

    def __init__(self, spec: StackSpec, scope: Scope) -> None:
        super().__init__()
        self.stream = spec.stream
        inside = spec.inside(scope)
        self.embedding = spec.embedding.build(inside)
        self.blocks = nn.ModuleList(block.build(at) for block, at in in_series(spec.blocks, inside))
        self.norm = spec.norm.build(spec.width_out(scope, ""))

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        if self.stream == SOURCE:
            return self.read(layout)[0]
        return self._run(layout.batch.stream(self.stream), layout)

    def read(self, layout: Layout) -> tuple[Tensor, Layout]:
        """Read the batch's source by itself, never through the cache; give its output and its layout."""
        source = layout.batch.source
        if source is None:
            raise InputError("batch.source", "is not there, and the model reads it", "give the batch a source")
        apart = plan_layout(source, None)
        apart.balances = layout.balances
        return self._run(source.ids, apart), apart

    def _run(self, ids: Tensor, layout: Layout) -> Tensor:
        x = self.embedding(ids, layout)
        for block in self.blocks:
            x = block(x, layout)
        return self.norm(x)


class Cross(nn.Module):
    """(B, T, C) to (B, T, C')."""

    def __init__(self, spec: CrossSpec, scope: Scope) -> None:
        super().__init__()
        self.memory = spec.memory.build(scope)
        self.reader = spec.reader.build(spec.facing(scope))

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        if isinstance(self.memory, Stack) and self.memory.stream == SOURCE:
            return self.reader(x, layout.towards(*self._source(self.memory, layout)))
        return self.reader(x, layout.towards(self.memory(x, layout), None))

    def _source(self, stack: Stack, layout: Layout) -> tuple[Tensor | None, Layout]:
        """Read the source at the first step; later ones find it in the cache, where cross-attention left it."""
        is_read = layout.cache is not None and max(layout.cache.lengths) > 0
        if is_read and layout.batch.source is None:
            return None, layout
        return stack.read(layout)


class Project(nn.Module):
    """(B, T, C) to (B, T, C')."""

    def __init__(self, spec: ProjectSpec, scope: Scope) -> None:
        super().__init__()
        self.linear = spec.linear.build(scope.width, spec.width)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        return self.linear(x)


_TAKEN = frozenset(dir(nn.ModuleDict()))
