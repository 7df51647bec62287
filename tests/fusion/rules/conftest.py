"""Two roads to a fused tensor: the engine, by slices and pieces, and the rule on the whole tensor in plain torch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest
import torch
from torch import Tensor

from lamoid.fusion.rules.rule import Cut, Measure, Options, Piece
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.stream import Source, fuse_in_memory
from lamoid.weights.header import TensorInfo


@dataclass
class Sorted:
    """The first elements of a stable sort (the protocol ``Cut``)."""

    kept: Tensor
    least: float

    def mask(self, piece: Piece, values: Tensor) -> Tensor:
        return self.kept.view(values.shape)


class Whole:
    """One tensor of all models as a single piece (the protocol ``Passes``)."""

    def __init__(self, members: list[Tensor], base: Tensor | None, unit: str, draws: Sequence[Tensor]) -> None:
        first = members[0]
        self.name, self.shape, self.elements, self.members = "whole", tuple(first.shape), first.numel(), len(members)
        wide = torch.float64 if first.element_size() >= 4 else torch.float32
        shape = {"element": (-1,), "row": (-1, first.shape[-1] if first.ndim else 1), "tensor": first.shape}[unit]
        stretched = [member.to(wide).view(shape) for member in members]
        self.piece = Piece(
            stretched,
            None if base is None else base.to(wide).view(shape),
            0,
            lambda member: draws[member].clone().view(shape),
        )

    def totals(self, measure: Measure) -> list[float]:
        return [float(x.sum(dtype=torch.float64)) for x in measure(self.piece)]

    def products(self, measure: Measure, pairs: Sequence[tuple[int, int]]) -> list[float]:
        found = [x.double().reshape(-1) for x in measure(self.piece)]
        return [float(torch.dot(found[i], found[j])) for i, j in pairs]

    def columns(self, measure: Measure) -> list[Tensor]:
        return [x.sum(0, dtype=torch.float64) for x in measure(self.piece)]

    def largest(self, measure: Measure, counts: Sequence[int]) -> list[Cut]:
        return [self._cut(x.reshape(-1), count) for x, count in zip(measure(self.piece), counts, strict=True)]

    def _cut(self, values: Tensor, count: int) -> Cut:
        order = values.argsort(descending=True, stable=True)[:count]
        kept = torch.zeros(values.numel(), dtype=torch.bool)
        kept[order] = True
        return Sorted(kept, float(values[order[-1]]) if count else float("inf"))

    def statistic(self, member: int) -> Tensor | None:
        return None


class Held(Mapping[str, TensorInfo]):
    """Tensors in memory, read as from files."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors

    def __getitem__(self, name: str) -> TensorInfo:
        tensor = self.tensors[name]
        return TensorInfo(name, tensor.dtype, tuple(tensor.shape), 0, tensor.nbytes, Path("memory"))

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def read_into(self, name: str, first: int, out: Tensor) -> None:
        out.copy_(self.tensors[name].reshape(-1)[first : first + out.numel()])


def options_of(rule: str, options: Mapping[str, Any]) -> Options:
    return msgspec.convert(dict(options), RULES[rule].options)


class FuseWhole(Protocol):
    def __call__(
        self,
        rule: str,
        members: list[Tensor],
        base: Tensor | None = None,
        weights: Sequence[float] | None = None,
        options: Mapping[str, Any] = {},
        draws: Sequence[Tensor] = (),
    ) -> Tensor: ...


class FuseByEngine(Protocol):
    def __call__(
        self,
        rule: str,
        members: list[dict[str, Tensor]],
        base: dict[str, Tensor] | None = None,
        weights: Sequence[float] | None = None,
        options: Mapping[str, Any] = {},
        **how: Any,
    ) -> dict[str, Tensor]: ...


@pytest.fixture
def fuse_whole() -> FuseWhole:
    """Fuses one tensor in plain torch; the result is in the dtype that is computed in."""

    def fuse(
        rule: str,
        members: list[Tensor],
        base: Tensor | None = None,
        weights: Sequence[float] | None = None,
        options: Mapping[str, Any] = {},
        draws: Sequence[Tensor] = (),
    ) -> Tensor:
        row, given = RULES[rule], options_of(rule, options)
        passes = Whole(members, base, row.unit, draws)
        weights = weights or [1.0] * len(members)
        if row.survey is not None:
            given = row.survey(passes, weights, given)
        return row.plan(passes, weights, given)(passes.piece).view(members[0].shape)

    return fuse


@pytest.fixture
def settings_of() -> Callable[..., Any]:
    """Gives the same weights and numbers for every tensor."""

    def settings(rule: str, weights: Sequence[float], options: Mapping[str, Any]) -> Callable[[str], Any]:
        given = options_of(rule, options)
        return lambda name: (weights, given)

    return settings


@pytest.fixture
def fuse_by_engine() -> FuseByEngine:
    """Fuses models in memory by the engine's slices and pieces."""

    def fuse(
        rule: str,
        members: list[dict[str, Tensor]],
        base: dict[str, Tensor] | None = None,
        weights: Sequence[float] | None = None,
        options: Mapping[str, Any] = {},
        **how: Any,
    ) -> dict[str, Tensor]:
        given, weights = options_of(rule, options), weights or [1.0] * len(members)
        sources = [Source(f"member{i}", Held(member)) for i, member in enumerate(members)]  # type: ignore[arg-type]
        grounds = None if base is None else Source("base", Held(base))  # type: ignore[arg-type]
        return fuse_in_memory(sources, grounds, RULES[rule], lambda name: (weights, given), **how)

    return fuse


@pytest.fixture
def held() -> type[Held]:
    """Gives a model in memory."""
    return Held
