"""Passes over one tensor of all models, or over all of them: slice by slice, piece by piece, the same bits anyhow."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from lamoid.fusion.draws import Draws
from lamoid.fusion.finite import check_finite, check_information, is_finite, not_finite_statistic
from lamoid.fusion.largest import find_largest
from lamoid.fusion.memory import whole_room
from lamoid.fusion.pool import Pool
from lamoid.fusion.rules.rule import PIECE, Cut, Measure, Piece, Rule
from lamoid.fusion.source import Source
from lamoid.weights.header import TensorInfo

_STRETCH = 1 << 10
"""Numbers whose products are summed in their own precision: few enough for that, and for BLAS to use one thread."""
_SAMPLE = 1 << 15
"""Elements from one place of a tensor that say something of how large its values are."""
T = TypeVar("T")
Span = tuple[int, int]


@dataclass(frozen=True)
class Reading:
    """What all passes of a fusion share: members in content order, base, rule, and how much is read at once."""

    members: list[Source]
    base: Source | None
    rule: Rule
    slice_elements: int
    pool: Pool
    seed: int = 0
    device: str = "cpu"
    kept_bytes: int = 0
    """What one tensor may take to be kept from one pass to the next."""
    gathered_bytes: int = 1 << 27
    """What the values may take among which the k-th largest is looked for."""
    buffers: threading.local = field(default_factory=threading.local)

    @property
    def models(self) -> list[Source]:
        """Give the members, and the base behind them."""
        return self.members if self.base is None else [*self.members, self.base]

    def unit(self, info: TensorInfo) -> str:
        """Say how a tensor is cut; a rule by whole tensors that needs no room for a shape gets it by elements."""
        if self.rule.unit != "tensor":
            return self.rule.unit
        room = whole_room(self.rule, info, len(self.members), self.members[0].statistics)
        return "element" if room is None else "tensor"

    def spans(self, info: TensorInfo) -> list[Span]:
        """Give first element and number of elements of each slice of a tensor."""
        piece = self.piece(info)
        size = piece * max(1, self.slice_elements // piece) if info.elements else 1
        return [(first, min(size, info.elements - first)) for first in range(0, info.elements, size)]

    def piece(self, info: TensorInfo, size: int = PIECE) -> int:
        """Give the elements of a piece: ``size``, whole rows, or the whole tensor."""
        unit = self.unit(info)
        if unit == "tensor":
            return max(1, info.elements)
        if unit == "row":
            width = max(1, info.shape[-1]) if info.shape else 1
            return width * max(1, size // width)
        return size if self.device == "cpu" else self.slice_elements

    def room(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Give a buffer of this thread; what was in it, under the same name, is gone."""
        wanted = math.prod(shape) * dtype.itemsize
        held: Tensor | None = getattr(self.buffers, name, None)
        if held is None or held.nbytes < wanted:
            held = torch.empty(wanted, dtype=torch.uint8)
            setattr(self.buffers, name, held)
        return held[:wanted].view(dtype).view(shape)


def wide_dtype(dtype: torch.dtype) -> torch.dtype:
    """Give the dtype that numbers stored as ``dtype`` are computed in."""
    return torch.float64 if dtype.itemsize >= 4 else torch.float32


class TensorPasses:
    """One tensor of all models (the protocol ``Passes``)."""

    def __init__(self, reading: Reading, info: TensorInfo, *, keep: bool = True) -> None:
        self.name, self.shape, self.elements = info.name, info.shape, info.elements
        self.members = len(reading.members)
        self.piece_elements, self.sample_elements = reading.piece(info), reading.piece(info, _SAMPLE)
        self.gathered_bytes = reading.gathered_bytes
        self._reading, self._info, self._unit = reading, info, reading.unit(info)
        self._draws = [Draws(reading.seed, member.key, info.name) for member in reading.members]
        self._kept: dict[Span, Tensor] = {}
        self._checked: set[Span] = set()
        stored = info.elements * info.dtype.itemsize * len(reading.models)
        self._is_kept = keep and stored <= reading.kept_bytes and self._unit != "tensor"

    def totals(self, measure: Measure) -> list[float]:
        """Sum each quantity over all elements: pieces in float64, their sums exactly."""

        def work(span: Span) -> list[list[float]]:
            return [[sum_wide(x) for x in measure(piece)] for piece in self.pieces(span, keep=True)]

        sums = [row for rows in self.each(work) for row in rows]
        return [math.fsum(column) for column in zip(*sums, strict=True)]

    def products(self, measure: Measure, pairs: Sequence[tuple[int, int]]) -> list[float]:
        """Give inner products: stretches in the quantities' own precision, pieces in float64, their sums exactly."""

        def work(span: Span) -> list[list[float]]:
            return [dot_wide(measure(piece), pairs) for piece in self.pieces(span, keep=True)]

        sums = [row for rows in self.each(work) for row in rows]
        return [math.fsum(column) for column in zip(*sums, strict=True)]

    def columns(self, measure: Measure) -> list[Tensor]:
        """Sum each quantity over all rows in float64, piece by piece in order."""

        def work(span: Span) -> list[list[Tensor]]:
            return [[x.sum(0, dtype=torch.float64) for x in measure(piece)] for piece in self.pieces(span, keep=True)]

        rows = (row for found in self.each(work) for row in found)
        totals = next(rows)
        for row in rows:
            for total, more in zip(totals, row, strict=True):
                total.add_(more)
        return totals

    def largest(self, measure: Measure, counts: Sequence[int]) -> list[Cut]:
        """Find, for each quantity, the elements with its ``counts`` largest values, exactly."""
        return list(find_largest([self], measure, counts))

    def statistic(self, member: int) -> Tensor | None:
        """Give the whole statistic of a member for this tensor, None if there is none for it."""
        found = self._reading.members[member].statistics
        if found is None or self.name not in found:
            return None
        info = found[self.name]
        flat = torch.empty(info.elements, dtype=info.dtype)
        found.read_into(self.name, 0, flat)
        if not is_finite(flat):
            raise not_finite_statistic(self._reading.members[member].name, self.name)
        return flat.view(info.shape).to(self._reading.device)

    def each(self, work: Callable[[Span], T], spans: Sequence[Span] | None = None) -> Iterator[T]:
        """Do the work for each slice, or for each of ``spans``; the results come in order.

        A whole tensor is worked on here, where torch may use its own threads.
        """
        spans = self._reading.spans(self._info) if spans is None else spans
        if self._unit == "tensor":
            return map(work, spans)
        return self._reading.pool.each(work, spans)

    def pieces(self, span: Span, *, keep: bool = False) -> Iterator[Piece]:
        """Read a slice of every model and give its pieces; each is good until the next is asked for.

        What is kept is not read again.
        """
        reading, size = self._reading, self.piece_elements
        stored = self._stored(span, keep)
        statistics = self._statistics(span)
        is_new = span not in self._checked
        names = [model.name for model in reading.models] if is_new else []
        room, rows = None, []
        if reading.device == "cpu":
            room = reading.room("wide", (len(stored), min(size, span[1])), wide_dtype(self._info.dtype))
            rows = [self._shaped(x) for x in room.unbind()]
        for begin in range(0, span[1], size):
            part = stored[:, begin : begin + size]
            if room is None:
                wide = part.to(reading.device, wide_dtype(self._info.dtype))
            else:
                wide = room if part.shape == room.shape else room[:, : part.shape[1]]
                wide.copy_(part)
            if is_new:
                check_finite(wide, names, self.name)
            models = list(rows) if wide is room else [self._shaped(x) for x in wide.unbind()]
            base = models.pop() if reading.base is not None else None
            taken = None
            if statistics is not None:
                taken = [self._shaped(x[begin : begin + size].to(wide)) for x in statistics]
                if is_new:
                    check_information(taken, names, self.name)
            first = span[0] + begin
            yield Piece(models, base, first, self._drawing(first, wide), taken, self._choosing(first, wide))
        self._checked.add(span)

    def _stored(self, span: Span, keep: bool) -> Tensor:
        """Give the slice of every model as it is stored, one a row."""
        kept = self._kept.get(span)
        if kept is not None:
            return kept
        models = self._reading.models
        if keep and self._is_kept:
            stored = torch.empty((len(models), span[1]), dtype=self._info.dtype)
        else:
            stored = self._reading.room("stored", (len(models), span[1]), self._info.dtype)
        for model, row in zip(models, stored.unbind(), strict=True):
            model.tensors.read_into(self.name, span[0], row)
        if keep and self._is_kept:
            self._kept[span] = stored
        return stored

    def _shaped(self, flat: Tensor) -> Tensor:
        if self._unit == "tensor":
            return flat.view(self.shape)
        return flat.view(-1, self.shape[-1] if self.shape else 1) if self._unit == "row" else flat

    def _drawing(self, first: int, like: Tensor) -> Callable[[int], Tensor]:
        count, device = like.shape[1], like.device

        def draw(member: int) -> Tensor:
            return self._shaped(self._draws[member].between(first, count).to(device))

        return draw

    def _choosing(self, first: int, like: Tensor) -> Callable[[int, float], Tensor]:
        count, device = like.shape[1], like.device

        def choose(member: int, share: float) -> Tensor:
            return self._shaped(self._draws[member].below(first, count, share).to(device))

        return choose

    def _statistics(self, span: Span) -> list[Tensor] | None:
        """Read the members' statistics for a slice, if the rule wants them by elements and all have them."""
        if self._reading.rule.statistic != "fisher":
            return None
        found = []
        for member in self._reading.members:
            if member.statistics is None or self.name not in member.statistics:
                return None
            out = torch.empty(span[1], dtype=member.statistics[self.name].dtype)
            member.statistics.read_into(self.name, span[0], out)
            found.append(out)
        return found


class ModelPasses:
    """All floating tensors of all models as one long tensor (the protocol ``Passes``), for a rule's survey."""

    def __init__(self, parts: Sequence[TensorPasses]) -> None:
        self._parts = list(parts)
        self.name, self.shape = "", ()
        self.elements = sum(part.elements for part in parts)
        self.members = parts[0].members if parts else 0

    def totals(self, measure: Measure) -> list[float]:
        """Sum each quantity over all elements of all tensors."""
        sums = [part.totals(measure) for part in self._parts if part.elements]
        return [math.fsum(column) for column in zip(*sums, strict=True)]

    def products(self, measure: Measure, pairs: Sequence[tuple[int, int]]) -> list[float]:
        """Give inner products over all elements of all tensors."""
        sums = [part.products(measure, pairs) for part in self._parts if part.elements]
        return [math.fsum(column) for column in zip(*sums, strict=True)]

    def columns(self, measure: Measure) -> list[Tensor]:
        """Refuse: the rows of different tensors have different columns."""
        raise ValueError("columns can be summed within one tensor only")

    def largest(self, measure: Measure, counts: Sequence[int]) -> list[Cut]:
        """Find the largest of all tensors; a piece does not say which tensor it is of, so ``least`` is all to use."""
        return list(find_largest(self._parts, measure, counts))

    def statistic(self, member: int) -> Tensor | None:
        """Give nothing: a statistic belongs to a tensor."""
        return None


def sum_wide(values: Tensor) -> float:
    """Sum in float64, by stretches of PIECE numbers, so that it hangs neither on threads nor on the whole's size."""
    flat = values.reshape(-1)
    if flat.numel() <= PIECE:
        return float(flat.sum(dtype=torch.float64))
    return math.fsum(float(part.sum(dtype=torch.float64)) for part in flat.split(PIECE))


def dot_wide(vectors: Sequence[Tensor], pairs: Sequence[tuple[int, int]]) -> list[float]:
    """Give the inner products of pairs of vectors: of stretches in their own precision, and their sum in float64."""
    if vectors[0].device.type != "cpu":
        return [sum_wide(vectors[i] * vectors[j]) for i, j in pairs]
    flat = [vector.reshape(-1).numpy() for vector in vectors]
    whole = flat[0].size - flat[0].size % _STRETCH
    stretches = [numbers[:whole].reshape(-1, _STRETCH) for numbers in flat]
    sums = np.empty((len(pairs), len(stretches[0]) + 1), dtype=flat[0].dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        for row, (i, j) in zip(sums, pairs, strict=True):
            np.vecdot(stretches[i], stretches[j], out=row[:-1])
            row[-1] = np.vecdot(flat[i][whole:], flat[j][whole:])
    return sums.sum(1, dtype=np.float64).tolist()
