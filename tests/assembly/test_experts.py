"""Experts are transformers' Mixtral block, and the balancing term its auxiliary loss."""

import pytest
import torch
from transformers import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock, load_balancing_loss_func

from lamoid.assembly.batch import Batch
from lamoid.assembly.experts import ExpertsSpec
from lamoid.assembly.feedforward import GatedSpec, PlainSpec
from lamoid.assembly.layout import plan_layout

WIDTH, HIDDEN, EXPERTS = 6, 10, 5


@pytest.fixture(params=[1, 2, 5])
def pair(request):
    """Our module and transformers' with the same weights."""
    chosen = request.param
    config = MixtralConfig(
        hidden_size=WIDTH, intermediate_size=HIDDEN, num_local_experts=EXPERTS, num_experts_per_tok=chosen
    )
    config._experts_implementation = "eager"
    theirs = MixtralSparseMoeBlock(config)
    ours = ExpertsSpec((GatedSpec(HIDDEN),) * EXPERTS, chosen, balance=0.02).build(WIDTH)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.normal_(0, 0.7)
        ours.router.weight.copy_(theirs.gate.weight)
        for place, expert in enumerate(ours.experts):
            gate, up = theirs.experts.gate_up_proj[place].chunk(2)
            expert.gate.weight.copy_(gate)
            expert.up.weight.copy_(up)
            expert.down.weight.copy_(theirs.experts.down_proj[place])
    return ours, theirs


def layout_of(x, segments=None):
    return plan_layout(Batch(torch.zeros(x.shape[:2], dtype=torch.long), segments), None)


@pytest.mark.parametrize("shape", [(2, 9), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_mixtrals_block_gradients_too(pair, shape, dtype):
    ours, theirs = (part.to(dtype) for part in pair)
    x = torch.randn(*shape, WIDTH, dtype=dtype)
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    answers, wanted = ours.eval()(mine, layout_of(x)), theirs.eval()(other)
    near = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    torch.testing.assert_close(answers, wanted, **near)
    slope = torch.randn_like(x)
    (answers * slope).sum().backward()
    (wanted * slope).sum().backward()
    torch.testing.assert_close(mine.grad, other.grad, **near)
    if dtype == torch.float32:
        torch.testing.assert_close(ours.router.weight.grad, theirs.gate.weight.grad, rtol=1e-4, atol=1e-4)
        downs = torch.stack([expert.down.weight.grad for expert in ours.experts])
        torch.testing.assert_close(downs, theirs.experts.down_proj.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("is_padded", [False, True])
def test_the_balancing_term_is_mixtrals_auxiliary_loss(pair, is_padded):
    ours, _ = pair
    x = torch.randn(3, 7, WIDTH)
    segments = (torch.arange(7) < torch.tensor([[7], [3], [5]])).long() if is_padded else None
    layout = layout_of(x, segments)
    ours.train()(x, layout)
    (balance,) = layout.balances
    logits = ours.router(x).flatten(0, 1)
    wanted = load_balancing_loss_func((logits,), EXPERTS, ours.spec.chosen, segments)
    torch.testing.assert_close(balance.value, wanted)
    assert (balance.weight, balance.tokens) == (0.02, 21 if segments is None else 15)
    (gradient,) = torch.autograd.grad(balance.value, ours.router.weight)
    (expected,) = torch.autograd.grad(wanted, ours.router.weight)
    torch.testing.assert_close(gradient, expected)
    layout = layout_of(x)
    ours.eval()(x, layout)
    assert not layout.balances


def test_the_shared_expert_is_added_and_weights_may_stay_as_they_are():
    spec = ExpertsSpec((PlainSpec(4), GatedSpec(6), PlainSpec(3)), 2, shared=PlainSpec(7), normalised=False)
    ours = spec.build(WIDTH)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_()
    x = torch.randn(2, 4, WIDTH)
    layout = layout_of(x)
    odds = ours.router(x).softmax(-1)
    third = odds.min(-1, keepdim=True).values
    every = torch.stack([expert(x, layout) for expert in ours.experts], -1)
    wanted = (every * (odds * (odds > third))[..., None, :]).sum(-1) + ours.shared(x, layout)
    torch.testing.assert_close(ours(x, layout), wanted)


def test_an_expert_that_nobody_chose_has_gradients_of_zero():
    ours = ExpertsSpec((GatedSpec(4),) * 4, 1).build(WIDTH)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_()
    x = torch.randn(1, 1, WIDTH)
    ours(x, layout_of(x)).sum().backward()
    busy = [bool(expert.down.weight.grad.any()) for expert in ours.experts]
    assert busy.count(True) == 1
    assert all(parameter.grad is not None for parameter in ours.parameters())
