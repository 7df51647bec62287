"""Norms are transformers' and torch's own, gradients too, in both precisions."""

import pytest
import torch
from torch import nn
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from lamoid.assembly.norm import LayerNormSpec, NoNormSpec, RMSNormSpec

WIDTH = 12
KINDS = {
    "rms": (RMSNormSpec(1e-4), LlamaRMSNorm(WIDTH, eps=1e-4)),
    "unit": (RMSNormSpec(1e-4, unit_offset=True), Gemma2RMSNorm(WIDTH, eps=1e-4)),
    "layer": (LayerNormSpec(1e-4), nn.LayerNorm(WIDTH, eps=1e-4)),
    "layer_bare": (LayerNormSpec(1e-4, bias=False), nn.LayerNorm(WIDTH, eps=1e-4, bias=False)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 5, WIDTH), (2, 3, 5, WIDTH), (1, 1, WIDTH)], ids=str)
@pytest.mark.parametrize("name", KINDS)
def test_it_is_the_reference_gradients_too(name, shape, dtype):
    spec, theirs = KINDS[name]
    ours, theirs = spec.build(WIDTH).to(dtype), theirs.to(dtype)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_()
    ours.load_state_dict(theirs.state_dict())
    theirs.zero_grad()
    x = (3 * torch.randn(shape)).to(dtype)
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    answers, wanted = ours(mine), theirs(other)
    near = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    torch.testing.assert_close(answers, wanted, **near)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), wanted, **near)
    slope = torch.randn(shape).to(dtype)
    (answers * slope).sum().backward()
    (wanted * slope).sum().backward()
    torch.testing.assert_close(mine.grad, other.grad, **near)
    for part, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(part.grad, reference.grad, **near)
    assert spec.parameters(WIDTH) == sum(parameter.numel() for parameter in ours.parameters())


def test_none_is_nothing():
    x = torch.randn(2, 3, WIDTH)
    assert NoNormSpec().build(WIDTH)(x) is x
    assert NoNormSpec().parameters(WIDTH) == 0
