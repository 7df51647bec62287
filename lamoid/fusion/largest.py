"""The k largest of many values, found exactly by counting: a sample says where to look, counts say what is there."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lamoid.fusion.rules.rule import Measure, Piece

_WHOLE = 1 << 20
"""Elements up to which all values are gathered at once."""
_SAMPLED, _STRIDE, _MARGIN = 24, 16, 0.015
_MOST_GATHERED = 1 << 23
_DIGIT = 16
_EVERY = 1 << 62
Span = tuple[int, int]
Ends = tuple[np.floating, np.floating]


class LargestCut:
    """The elements above ``least``, and those equal to it before the element ``end`` (the protocol ``Cut``)."""

    def __init__(self, least: float, end: int) -> None:
        self._least, self._end = least, end

    @property
    def least(self) -> float:
        """Give the smallest value among them; infinity if there are none."""
        return self._least

    def mask(self, piece: Piece, values: Tensor) -> Tensor:
        """Say which elements of a piece are among them (bool), given the piece's ``values`` by the same measure."""
        if self._end >= piece.first + values.numel():
            return _compare(values, np.greater_equal, self._least)
        if self._end <= piece.first:
            return _compare(values, np.greater, self._least)
        flat, equal = values.reshape(-1), self._end - piece.first
        parts = [flat[:equal] >= self._least, flat[equal:] > self._least]
        return torch.cat(parts).view(values.shape)


class Cuttable(Protocol):
    """A tensor whose slices can be gone through, by several threads at a time."""

    elements: int
    piece_elements: int
    sample_elements: int
    gathered_bytes: int

    def each(self, work: Callable[[Span], "_Part"], spans: Sequence[Span] | None = None) -> Iterator["_Part"]:
        """Do the work for each slice, or for each of ``spans``; the results come in order."""
        ...

    def pieces(self, span: Span, *, keep: bool = False) -> Iterator[Piece]:
        """Give the pieces of a slice."""
        ...


@dataclass
class _Part:
    """What one slice of a tensor has above the brackets and in them, quantity by quantity."""

    span: Span
    above: list[int]
    within: list[list[np.ndarray]]


@dataclass
class _Found:
    """One quantity: its bracket's ends, numbers of the values' own dtype, and what all slices have."""

    low: np.floating
    high: np.floating
    above: int = 0
    within: list[tuple[int, Span, np.ndarray]] = field(default_factory=list)


def find_largest(parts: Sequence[Cuttable], measure: Measure, counts: Sequence[int]) -> list[LargestCut]:
    """Find each quantity's ``counts`` largest values over all parts; where there are several, all that are equal.

    The bits of a number that is not negative, read as a whole number, are ordered as the numbers are.
    """
    parts = [part for part in parts if part.elements]
    total = sum(part.elements for part in parts)
    wanted = [min(max(count, 0), total) for count in counts]
    if not any(wanted):
        return [LargestCut(math.inf, 0) for _ in wanted]
    kind = _kind_of(parts[0], measure)
    # One quantity's values lie three times in memory while they are joined and parted.
    most = min(_MOST_GATHERED, parts[0].gathered_bytes // (kind.itemsize * (len(wanted) + 2)))
    found = [_Found(*bracket) for bracket in _brackets(parts, measure, wanted, total, kind, most)]
    _gather(parts, measure, found, most)
    cuts = []
    for index, (count, one) in enumerate(zip(wanted, found, strict=True)):
        gathered = sum(values.size for _, _, values in one.within)
        if count and not one.above < count <= one.above + gathered:
            one = _Found(*_narrow(parts, measure, index, count, kind))
            others = [_Found(kind.type(1), kind.type(0)) for _ in counts]
            _gather(parts, measure, [*others[:index], one, *others[index + 1 :]], most)
        cuts.append(_select(parts, measure, index, count, one) if count else LargestCut(math.inf, 0))
    return cuts


def _kind_of(part: Cuttable, measure: Measure) -> np.dtype:
    values = measure(next(part.pieces((0, min(part.piece_elements, part.elements)))))
    return np.dtype(np.float64 if values[0].dtype == torch.float64 else np.float32)


def _numbers(values: Tensor) -> np.ndarray:
    return values.reshape(-1).cpu().numpy()


def _bits(values: Tensor) -> np.ndarray:
    """Give the numbers' bits as whole numbers, 1-D."""
    flat = values.reshape(-1).contiguous()
    return flat.view(torch.int64 if flat.dtype == torch.float64 else torch.int32).cpu().numpy()


def _brackets(
    parts: Sequence[Cuttable], measure: Measure, wanted: Sequence[int], total: int, kind: np.dtype, most: int
) -> list[Ends]:
    """Guess between which numbers the value of rank ``wanted`` lies, from a few pieces."""
    nothing, infinite = kind.type(0.0), kind.type(np.inf)
    if total <= min(_WHOLE, most):
        return [(nothing, infinite) for _ in wanted]
    samples: list[list[np.ndarray]] = [[] for _ in wanted]

    for part in parts:

        def work(span: Span, part: Cuttable = part) -> _Part:
            taken = [[_numbers(x)[::_STRIDE].copy() for x in measure(piece)] for piece in part.pieces(span)]
            return _Part(span, [], [list(column) for column in zip(*taken, strict=True)])

        pieces = -(-part.elements // part.piece_elements)
        share = min(pieces, max(1, round(_SAMPLED * part.elements / total)))
        starts = [pieces * number // share * part.piece_elements for number in range(share)]
        spans = [(first, min(part.sample_elements, part.elements - first)) for first in starts]
        for found in part.each(work, spans):
            for sample, more in zip(samples, found.within, strict=True):
                sample.extend(more)
    brackets = []
    for count, sample in zip(wanted, samples, strict=True):
        values = np.concatenate(sample)
        place = (total - count) / total
        ends = [int((place + side * _MARGIN) * values.size) for side in (-1, 1)]
        inside = [min(max(end, 0), values.size - 1) for end in ends]
        ordered = np.partition(values, inside)
        low = ordered[inside[0]] if ends[0] > 0 else nothing
        high = ordered[inside[1]] if ends[1] < values.size - 1 else infinite
        brackets.append((low, high))
    return brackets


def _gather(parts: Sequence[Cuttable], measure: Measure, found: Sequence[_Found], most: int) -> None:
    """Count what is above the brackets, and take what is in them as long as that is not too much."""
    taken = [0] * len(found)
    for number, part in enumerate(parts):

        def work(span: Span, part: Cuttable = part) -> _Part:
            above = [0] * len(found)
            within: list[list[np.ndarray]] = [[] for _ in found]
            for piece in part.pieces(span, keep=True):
                for index, (one, values) in enumerate(zip(found, measure(piece), strict=True)):
                    if one.low > one.high:
                        continue
                    numbers = _numbers(values)
                    above[index] += int(np.count_nonzero(numbers > one.high))
                    if one.low == one.high:
                        same = int(np.count_nonzero(numbers == one.low))
                        within[index].append(np.broadcast_to(numbers.dtype.type(one.low), same))
                    elif taken[index] <= most:
                        is_within = numbers >= one.low
                        is_within &= numbers <= one.high
                        within[index].append(numbers[is_within])
            return _Part(span, above, within)

        for got in part.each(work):
            for index, one in enumerate(found):
                one.above += got.above[index]
                if one.low == one.high:
                    one.within += [(number, got.span, values) for values in got.within[index]]
                elif got.within[index] and taken[index] <= most:
                    one.within.append((number, got.span, np.concatenate(got.within[index])))
                    taken[index] += one.within[-1][2].size
    for index, one in enumerate(found):
        if taken[index] > most:
            one.within = []


def _narrow(parts: Sequence[Cuttable], measure: Measure, index: int, count: int, kind: np.dtype) -> Ends:
    """Find the value of rank ``count`` by counting digit after digit, the highest first."""
    prefix, width = 0, kind.itemsize * 8
    for shift in range(width - _DIGIT, -1, -_DIGIT):
        table = np.zeros(1 << _DIGIT, dtype=np.int64)
        for part in parts:

            def work(span: Span, part: Cuttable = part, shift: int = shift, prefix: int = prefix) -> _Part:
                counted = np.zeros(1 << _DIGIT, dtype=np.int64)
                for piece in part.pieces(span):
                    bits = _bits(measure(piece)[index])
                    if shift < width - _DIGIT:
                        bits = bits[bits >> (shift + _DIGIT) == prefix]
                    counted += np.bincount(bits >> shift & ((1 << _DIGIT) - 1), minlength=1 << _DIGIT)
                return _Part(span, [], [[counted]])

            for got in part.each(work):
                table += got.within[0][0]
        above = np.cumsum(table[::-1])[::-1]
        digit = int(np.flatnonzero(above >= count)[-1])
        count -= int(above[digit + 1]) if digit + 1 < len(above) else 0
        prefix = prefix << _DIGIT | digit
    value = np.array([prefix], dtype=f"i{kind.itemsize}").view(kind)[0]
    return value, value


def _select(parts: Sequence[Cuttable], measure: Measure, index: int, count: int, one: _Found) -> LargestCut:
    """Find the value of rank ``count``, and the element behind the last of its equals that is among the largest."""
    left, least = count - one.above, one.low
    gathered = [values for _, _, values in one.within]
    if one.low < one.high:
        joined = np.concatenate(gathered)
        least = np.partition(joined, joined.size - left)[joined.size - left]
        left -= int(np.count_nonzero(joined > least))
    equals = [int(np.count_nonzero(values == least)) for values in gathered]
    if len(parts) > 1 or left == sum(equals):
        return LargestCut(float(least), _EVERY)
    for span, here in _by_span(one, equals):
        if left <= here:
            return LargestCut(float(least), _end_of(parts[0], measure, index, span, least, left))
        left -= here
    raise RuntimeError("the values changed between two passes")


def _by_span(one: _Found, equals: Sequence[int]) -> list[tuple[Span, int]]:
    """Add up what the pieces of each slice have."""
    sums: dict[Span, int] = {}
    for (_, span, _), here in zip(one.within, equals, strict=True):
        sums[span] = sums.get(span, 0) + here
    return list(sums.items())


def _end_of(part: Cuttable, measure: Measure, index: int, span: Span, least: np.floating, left: int) -> int:
    """Give the element behind the ``left``-th one of a slice that equals ``least``."""
    for piece in part.pieces(span):
        places = np.flatnonzero(_numbers(measure(piece)[index]) == least)
        if left <= places.size:
            return piece.first + int(places[left - 1]) + 1
        left -= places.size
    raise RuntimeError("the values changed between two passes")


def _compare(values: Tensor, compare: np.ufunc, least: float) -> Tensor:
    """Compare by numpy, which is several times faster at it, where the values are in memory."""
    if values.device.type != "cpu":
        return values >= least if compare is np.greater_equal else values > least
    return torch.from_numpy(np.asarray(compare(values.numpy(), values.numpy().dtype.type(least))))
