"""Documents in drawers: what each answers is what it answers alone, and nothing of T x T is made on the way."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lamoid.assembly.attend import attend
from lamoid.assembly.batch import Batch
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.layout import plan_layout
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.packed import pack_documents
from lamoid.assembly.sight import BidirectionalSpec, CausalSpec, EverywhereSpec, PrefixSpec, WindowSpec

ORDERS = [CausalSpec(), BidirectionalSpec()]


def draw_segments(rows: int, tokens: int) -> Tensor:
    """Number documents of random lengths; some rows end in padding, and a number may come again."""
    segments = torch.zeros(rows, tokens, dtype=torch.int64)
    for row in range(rows):
        at, end = 0, tokens if row % 2 else int(torch.randint(1, tokens + 1, ()))
        while at < end:
            length = min(end - at, int(torch.randint(1, tokens // 2 + 2, ())))
            segments[row, at : at + length] = 1 + (int(segments[row, at - 1]) % 2 if at else 0)
            at += length
    return segments


def draw_parts(rows: int, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    queries, keys, values = (torch.randn(rows, heads, tokens, 8).requires_grad_() for heads in (4, 2, 2))
    return queries, keys, values


def layout_of(segments: Tensor) -> Any:
    return plan_layout(Batch(torch.zeros_like(segments), segments), None)


@pytest.mark.parametrize("sees", ORDERS)
@pytest.mark.parametrize("tokens", [1, 2, 7, 33])
def test_packed_attention_and_its_gradient_are_those_with_a_mask(sees: Any, tokens: int) -> None:
    segments, parts = draw_segments(6, tokens), draw_parts(6, tokens)
    is_real = (segments != 0)[:, None, :, None]
    found = []
    for sight in (
        layout_of(segments).sight_apart(sees, EverywhereSpec()),
        layout_of(segments).sight(sees, EverywhereSpec()),
    ):
        answer = attend(*parts, sight) * is_real
        found.append((answer, *torch.autograd.grad((answer * torch.arange(tokens)[:, None]).sum(), parts)))
    for mine, masked in zip(*found, strict=True):
        torch.testing.assert_close(mine, masked, rtol=1e-4, atol=1e-4 * math.sqrt(tokens))


def test_each_token_is_in_one_drawer_and_lengths_differ_by_less_than_two() -> None:
    segments = draw_segments(8, 40)
    layout = layout_of(segments)
    packed = pack_documents(layout.segments, layout.positions)
    taken = torch.cat([drawer.places[drawer.is_there] for drawer in packed.drawers])
    assert torch.equal(taken.sort().values, (segments.flatten() != 0).nonzero()[:, 0])
    for drawer in packed.drawers:
        lengths = drawer.is_there.sum(1)
        assert int(lengths.max()) < 2 * int(lengths.min())
    laid = torch.cat([drawer.places.flatten() for drawer in packed.drawers])
    real = segments != 0
    assert torch.equal(laid[packed.origins[real]], real.flatten().nonzero()[:, 0])


def test_a_row_of_nothing_but_padding_gives_zeros() -> None:
    segments = torch.zeros(2, 5, dtype=torch.int64)
    sight = layout_of(segments).sight_apart(CausalSpec(), EverywhereSpec())
    assert not attend(*draw_parts(2, 5), sight).any()


@pytest.mark.parametrize(("sees", "reach"), [(PrefixSpec(), EverywhereSpec()), (CausalSpec(), WindowSpec(3))])
def test_what_cannot_be_parted_keeps_its_mask(sees: Any, reach: Any) -> None:
    segments = torch.ones(1, 6, dtype=torch.int64)
    layout = plan_layout(Batch(segments, segments, streams={"prefix": segments}), None)
    assert layout.sight_apart(sees, reach).packed is None


class Largest(TorchDispatchMode):
    """Notes the most numbers that any tensor has, made forward or backward."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, tuple | list) else (made,):
            if isinstance(each, Tensor):
                self.numbers = max(self.numbers, each.numel())
        return made


@pytest.mark.parametrize("segments", ["one", "many"])
def test_nothing_of_t_times_t_is_made(segments: str) -> None:
    tokens = 512
    model = LanguageModel(Shape(family="llama", width=16, layers=1, heads=2, context=tokens, hidden=16).spec(16))
    initialise(model, 0)
    ids = torch.randint(0, 16, (1, tokens))
    numbers = None if segments == "one" else (torch.arange(tokens) // 37 + 1)[None]
    with Largest() as largest:
        model(Batch(ids, numbers)).sum().backward()
    assert largest.numbers < tokens * tokens / 4
