"""The k largest, found by samples and counts, beside a stable sort."""

import math
from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lamoid.fusion import largest
from lamoid.fusion.largest import find_largest
from lamoid.fusion.rules.rule import Piece

Span = tuple[int, int]


class Numbers:
    """A tensor in slices of three pieces."""

    def __init__(self, numbers: Tensor, piece: int = 32) -> None:
        self.numbers, self.elements, self.passes = numbers, len(numbers), 0
        self.piece_elements = self.sample_elements = piece
        self.gathered_bytes = 1 << 27

    def each(self, work, spans: Sequence[Span] | None = None) -> Iterator:
        self.passes += spans is None
        size = 3 * self.piece_elements
        return map(work, spans or [(at, min(size, self.elements - at)) for at in range(0, self.elements, size)])

    def pieces(self, span: Span, *, keep: bool = False) -> Iterator[Piece]:
        for begin in range(span[0], sum(span), self.piece_elements):
            yield Piece(
                [self.numbers[begin : min(begin + self.piece_elements, sum(span))]],
                None,
                begin,
                lambda member: torch.empty(0),
            )


def expected(numbers: Tensor, count: int) -> Tensor:
    mask = torch.zeros(len(numbers), dtype=torch.bool)
    mask[torch.sort(numbers, descending=True, stable=True).indices[:count]] = True
    return mask


def found(numbers: Tensor, counts: list[int]) -> list[Tensor]:
    part = Numbers(numbers)
    cuts = find_largest([part], lambda piece: [piece.members[0]] * len(counts), counts)
    masks = []
    for cut, count in zip(cuts, counts, strict=True):
        parts = [cut.mask(piece, piece.members[0]) for piece in part.pieces((0, len(numbers)))]
        masks.append(torch.cat(parts))
        assert cut.least == (float(numbers[masks[-1]].min()) if count else math.inf)
    return masks


@pytest.mark.parametrize("way", ["all gathered", "sampled", "counted by digits"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_exact_with_ties_in_element_order(way: str, data: st.DataObject) -> None:
    seed = data.draw(st.integers(0, 10**6))
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(data.draw(st.integers(1, 1000)), generator=generator).abs()
    numbers = numbers * data.draw(st.sampled_from([1e-42, 1e-3, 1.0, 3.0, 1e30]))
    if data.draw(st.booleans()):
        numbers = numbers.round()
    if data.draw(st.booleans()):
        numbers = numbers.sort().values
    if data.draw(st.booleans()):
        numbers[len(numbers) // 5 : len(numbers) // 2] = 0.0
    numbers = numbers.to(data.draw(st.sampled_from([torch.float32, torch.float64])))
    counts = data.draw(st.lists(st.integers(0, len(numbers)), min_size=1, max_size=3))
    with pytest.MonkeyPatch.context() as patch:
        if way != "all gathered":
            patch.setattr(largest, "_WHOLE", 10)
            patch.setattr(largest, "_SAMPLED", 4)
            patch.setattr(largest, "_STRIDE", 2)
        if way == "counted by digits":
            patch.setattr(largest, "_MOST_GATHERED", 0)
        for mask, count in zip(found(numbers, counts), counts, strict=True):
            assert torch.equal(mask, expected(numbers, count))


def test_a_sample_that_fits_needs_one_pass() -> None:
    generator = torch.Generator().manual_seed(0)
    part = Numbers(torch.rand(1 << 21, generator=generator), 1 << 13)
    (cut,) = find_largest([part], lambda piece: [piece.members[0]], [1 << 19])
    assert part.passes == 1
    assert int((part.numbers >= cut.least).sum()) == 1 << 19


def test_of_several_tensors_together_equals_are_all_among_them() -> None:
    parts = [Numbers(torch.tensor([1.0, 5.0, 2.0])), Numbers(torch.tensor([2.0, 0.0, 7.0]))]
    (cut,) = find_largest(parts, lambda piece: [piece.members[0]], [3])
    assert cut.least == 2.0
    masks = [cut.mask(piece, piece.members[0]).tolist() for part in parts for piece in part.pieces((0, 3))]
    assert masks == [[False, True, True], [True, False, True]]


def test_no_more_is_gathered_than_there_is_room_for() -> None:
    part = Numbers(torch.rand(1 << 16, generator=torch.Generator().manual_seed(0)), 1 << 10)
    part.gathered_bytes = 3 * 4 * 500
    (cut,) = find_largest([part], lambda piece: [piece.members[0]], [1 << 15])
    assert int((part.numbers >= cut.least).sum()) == 1 << 15
    assert part.passes > 1  # by digits: the bracket holds more than 500 numbers
