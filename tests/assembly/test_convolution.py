"""The filters are torch's Conv1d on each document by itself."""

import pytest
import torch
from torch import nn

from lamoid.assembly.batch import Batch
from lamoid.assembly.cache import Cache
from lamoid.assembly.convolution import ConvolutionSpec
from lamoid.assembly.initialise import initialise
from lamoid.assembly.layout import plan_layout
from lamoid.assembly.scope import Scope
from lamoid.assembly.sight import BidirectionalSpec, CausalSpec

WIDTH, HIDDEN = 6, 5
SEGMENTS = torch.tensor([[1, 1, 1, 2, 2, 3, 3, 3], [1, 2, 2, 2, 2, 2, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0]])


@pytest.fixture(params=[(1, True), (2, True), (5, True), (1, False), (3, False), (4, False), (9, False)], ids=str)
def pair(request):
    """Our mixer, and a function of one document that torch's modules compute from the same weights."""
    kernel, is_causal = request.param
    sees = CausalSpec() if is_causal else BidirectionalSpec()
    ours = ConvolutionSpec(kernel=kernel, hidden=HIDDEN, sees=sees, activation="tanh").build(Scope(WIDTH, 9, 16))
    theirs = nn.Conv1d(HIDDEN, HIDDEN, kernel, groups=HIDDEN, padding=kernel - 1 if is_causal else "same")
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.normal_()
        theirs.weight.copy_(ours.taps[:, None])
        theirs.bias.copy_(ours.bias)

    def reference(x):
        filtered = theirs(ours.value(x).T[None])[0].T[: len(x)]
        return ours.output(torch.tanh(filtered))

    return ours, reference, theirs


def layout_of(segments=None, cache=None, shape=(3, 8)):
    return plan_layout(Batch(torch.zeros(shape, dtype=torch.long), segments), cache)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(
    "segments", [torch.ones_like(SEGMENTS), SEGMENTS, SEGMENTS[2:]], ids=["whole", "pack", "padded"]
)
def test_it_is_torchs_module_on_each_document_gradients_too(pair, segments):
    ours, reference, theirs = pair
    x = torch.randn(*segments.shape, WIDTH)
    answers, slope = ours(x, layout_of(segments, shape=segments.shape)), torch.randn(*segments.shape, WIDTH)
    (answers * slope)[segments != 0].sum().backward()
    found = ours.taps.grad.clone(), ours.bias.grad.clone()
    for row, marks in enumerate(segments):
        for number in marks.unique()[marks.unique() != 0]:
            alone = reference(x[row, marks == number])
            torch.testing.assert_close(answers[row, marks == number], alone, rtol=1e-4, atol=1e-5)
            (alone * slope[row, marks == number]).sum().backward()
    torch.testing.assert_close(found[0], theirs.weight.grad[:, 0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[1], theirs.bias.grad, rtol=1e-4, atol=1e-4)
    assert torch.isfinite(answers).all()


@torch.no_grad()
def test_the_cache_keeps_the_last_real_inputs():
    spec = ConvolutionSpec(kernel=4)
    ours = spec.build(Scope(WIDTH, 9, 16))
    for parameter in ours.parameters():
        parameter.normal_()
    x, lengths = torch.randn(3, 8, WIDTH), [5, 2, 0]
    cache = Cache([20] * 3)
    ours(x, layout_of((torch.arange(8) < torch.tensor(lengths)[:, None]).long(), cache))
    (kept,) = cache.kept(ours).tensors
    for row, length in enumerate(lengths):
        inputs = torch.cat((torch.zeros(3, WIDTH), ours.value(x[row, :length])))
        torch.testing.assert_close(kept[row], inputs[-3:])


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["whole", "pack"])
def test_bf16(segments):
    ours = ConvolutionSpec(kernel=3, hidden=HIDDEN).build(Scope(WIDTH, 9, 16))
    initialise(ours, seed=0, deviation=0.5)
    x = torch.randn(3, 8, WIDTH)
    wanted = ours(x, layout_of(segments))
    answers = ours.to(torch.bfloat16)(x.bfloat16(), layout_of(segments))
    assert answers.dtype == torch.bfloat16
    torch.testing.assert_close(answers.float(), wanted, rtol=0.05, atol=0.05)
    answers.float().square().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in ours.parameters())


@torch.no_grad()
def test_fresh_filters_keep_the_variance():
    ours = ConvolutionSpec(kernel=16, hidden=4096).build(Scope(WIDTH, 9, 16))
    initialise(ours, seed=0)
    assert abs(ours.taps.std() * 4 - 1) < 0.02
    assert not ours.bias.any()
