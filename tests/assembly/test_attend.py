"""The products that are compiled, block by block, mix what torch's kernel mixes, and their gradients are its own."""

import math

import pytest
import torch
from torch import nn

from lamoid.assembly.attend import LEAST_BLOCK, _attend_grouped
from lamoid.assembly.layout import Sight


@pytest.mark.parametrize("tokens", [1, 24, LEAST_BLOCK, 2 * LEAST_BLOCK, 3 * LEAST_BLOCK + 1, 5 * LEAST_BLOCK, 6 * 128])
@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize("causal", [True, False])
def test_blocks_of_queries_mix_what_torchs_kernel_mixes(tokens: int, heads: int, groups: int, causal: bool) -> None:
    """Lengths of one block, of several, of more than there may be, and such as no block divides."""
    torch.manual_seed(tokens)
    shapes = [(2, heads, tokens, 8), (2, groups, tokens, 8), (2, groups, tokens, 8)]
    ours, theirs = ([torch.randn(shape, generator=draw).requires_grad_() for shape in shapes] for draw in twice())
    mixed = _attend_grouped(ours[0], ours[1], ours[2], Sight(None, causal), 1 / math.sqrt(8))
    wanted = nn.functional.scaled_dot_product_attention(*theirs, is_causal=causal, enable_gqa=heads != groups)
    assert torch.allclose(mixed, wanted, atol=1e-5)
    weights = torch.randn_like(wanted)
    (mixed * weights).sum().backward()
    (wanted * weights).sum().backward()
    for mine, its in zip(ours, theirs, strict=True):
        assert torch.allclose(mine.grad, its.grad, atol=1e-4)  # pyright: ignore[reportArgumentType]


def twice() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)]
