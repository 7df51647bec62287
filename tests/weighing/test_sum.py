"""The weighted sum against exact arithmetic in float64, and what must come back bit for bit."""

import pytest
import torch
from torch import Tensor

from lamoid.weighing.sum import PIECE, weighted_sum

DTYPES = [torch.bfloat16, torch.float16, torch.float32]
LENGTHS = [0, 1, 7, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 3]


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes()


def draw(count: int, *shape: int, dtype: torch.dtype) -> list[Tensor]:
    return [torch.randn(shape).to(dtype) for _ in range(count)]


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
@pytest.mark.parametrize("length", LENGTHS)
def test_exact_sum_rounded_once(dtype: torch.dtype, length: int) -> None:
    tensors, weights = draw(3, length, dtype=dtype), [0.2, 0.3, 0.5]
    exact = sum((x.double() * w for x, w in zip(tensors, weights, strict=True)), torch.zeros(length).double())
    found = weighted_sum(tensors, weights)
    assert found.dtype == dtype
    rounding = torch.finfo(dtype).eps
    assert ((found.double() - exact).abs() <= rounding * exact.abs() * 0.51 + 1e-6).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_equal_tensors_come_back(dtype: torch.dtype, count: int) -> None:
    tensor = torch.cat([torch.randn(40_000), torch.tensor([0.0, -0.0, 1e-7, -60000.0])]).to(dtype)
    weights = torch.rand(count).double().softmax(0).tolist()
    assert bits(weighted_sum([tensor] * count, weights)) == bits(tensor)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
def test_one_of_weight_one_comes_back(dtype: torch.dtype) -> None:
    tensors = draw(3, 5, 7, dtype=dtype)
    tensors[0][0, 0] = -0.0
    tensors[1].fill_(float("nan"))
    assert bits(weighted_sum(tensors, [1.0, 0.0, 0.0])) == bits(tensors[0])
    assert bits(weighted_sum(tensors[:1], [1.0])) == bits(tensors[0])


def test_result_is_a_new_tensor_and_out_is_filled() -> None:
    tensors = draw(2, 3, 4, dtype=torch.float32)
    assert weighted_sum(tensors[:1], [1.0]).data_ptr() != tensors[0].data_ptr()
    out = torch.empty(3, 4)
    assert weighted_sum(tensors, [0.5, 0.5], out=out) is out
    assert torch.equal(out, weighted_sum(tensors, [0.5, 0.5]))


def test_pieces_and_views_change_no_bit() -> None:
    tensors = draw(3, 300, 500, dtype=torch.bfloat16)
    weights = [0.1, 0.7, 0.2]
    whole = weighted_sum(tensors, weights)
    rows = [weighted_sum([tensor[row] for tensor in tensors], weights) for row in range(300)]
    assert torch.equal(whole, torch.stack(rows))
    assert torch.equal(whole.t(), weighted_sum([tensor.t() for tensor in tensors], weights))


def test_weights_need_not_come_to_one() -> None:
    tensor = torch.tensor([1.0, 2.0])
    assert torch.equal(weighted_sum([tensor, tensor], [2.0, 3.0]), torch.tensor([5.0, 10.0]))
    assert torch.equal(weighted_sum([tensor, tensor], [0.0, 0.0]), torch.zeros(2))
    with pytest.raises(ValueError, match="argument"):
        weighted_sum([tensor], [0.5, 0.5])
