"""One vector and one query take ways of their own: they give what the general ways give, and leave no switch turned."""

import pytest
import torch
from torch import nn

from lamoid.assembly.attend import attend
from lamoid.assembly.layout import Sight
from lamoid.assembly.linear import multiply


@pytest.mark.parametrize("shape", [(1, 1, 96), (1, 96), (96,), (1, 2, 96)])
@pytest.mark.parametrize("is_biased", [False, True])
def test_a_bf16_vector_is_multiplied_as_in_float64(shape: tuple[int, ...], is_biased: bool) -> None:
    x, weight = torch.randn(shape).bfloat16(), torch.randn(70, 96).bfloat16()
    bias = torch.randn(70).bfloat16() if is_biased else None
    with torch.inference_mode():
        ours = multiply(x, weight, bias)
    wanted = nn.functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
    torch.testing.assert_close(ours.double(), wanted, rtol=2**-7, atol=2**-5)


def test_the_switch_is_as_it_was_even_after_an_error() -> None:
    was = torch.backends.mkldnn.enabled
    with torch.inference_mode(), pytest.raises(RuntimeError):
        multiply(torch.randn(1, 8).bfloat16(), torch.randn(4, 9).bfloat16())
    assert torch.backends.mkldnn.enabled == was


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("is_ragged", [False, True])
def test_one_query_sees_what_a_query_of_many_sees(groups: int, is_ragged: bool) -> None:
    queries = torch.randn(3, 4, 1, 6)
    keys, values = torch.randn(3, groups, 9, 6), torch.randn(3, groups, 9, 6)
    visible = torch.arange(9) < torch.tensor([9, 1, 4])[:, None] if is_ragged else None
    mask = None if visible is None else visible[:, None, None]
    ours = attend(queries, keys, values, Sight(mask, causal=False))
    wide_keys, wide_values = keys.repeat_interleave(4 // groups, 1), values.repeat_interleave(4 // groups, 1)
    scores = queries @ wide_keys.mT / 6**0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    torch.testing.assert_close(ours, scores.softmax(-1) @ wide_values)
