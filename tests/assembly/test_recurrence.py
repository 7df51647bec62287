"""Recurrences are torch's own modules on each document, packing is torch's own, fresh weights are the usual ones."""

import pytest
import torch
from torch import nn

from lamoid.assembly.batch import Batch
from lamoid.assembly.block import BlockSpec
from lamoid.assembly.cache import Cache
from lamoid.assembly.documents import pack
from lamoid.assembly.embedding import EmbeddingSpec
from lamoid.assembly.feedforward import NoFeedForwardSpec
from lamoid.assembly.heads import NextTokenSpec
from lamoid.assembly.initialise import initialise
from lamoid.assembly.layout import plan_layout
from lamoid.assembly.linear import DenseSpec
from lamoid.assembly.model import LanguageModel, empty_model
from lamoid.assembly.norm import NoNormSpec
from lamoid.assembly.recurrence import GRUSpec, LSTMSpec, RNNSpec
from lamoid.assembly.scope import Scope
from lamoid.assembly.spec import ModelSpec

WIDTH, HIDDEN = 5, 7
KINDS = {
    "lstm": (LSTMSpec(hidden=HIDDEN, layers=2), nn.LSTM, {}),
    "lstm_bare": (LSTMSpec(hidden=HIDDEN, bias=False), nn.LSTM, {"bias": False}),
    "gru": (GRUSpec(hidden=HIDDEN, layers=3), nn.GRU, {}),
    "rnn": (RNNSpec(hidden=HIDDEN, layers=2), nn.RNN, {}),
    "rnn_relu": (RNNSpec(hidden=HIDDEN, activation="relu"), nn.RNN, {"nonlinearity": "relu"}),
}
SEGMENTS = torch.tensor([[1, 1, 1, 2, 2, 3, 3, 3], [1, 2, 2, 2, 2, 2, 0, 0], [1, 1, 2, 3, 3, 3, 3, 0]])


@pytest.fixture(params=KINDS)
def pair(request):
    """Our module and torch's with the same weights; the output map is the identity."""
    spec, theirs, settings = KINDS[request.param]
    ours = spec.build(Scope(WIDTH, 9, 16))
    reference = theirs(WIDTH, HIDDEN, spec.layers, batch_first=True, **settings)
    names = {"weight_ih": "input.weight", "weight_hh": "recurrent.weight", "bias_ih": "input.bias"}
    names["bias_hh"] = "recurrent.bias"
    weights = {}
    for name, tensor in reference.named_parameters():
        kind, _, layer = name.rpartition("_l")
        weights[f"cells.{layer}.{names[kind]}"] = tensor.detach().clone()
    ours.output = nn.Identity()
    ours.load_state_dict(weights)
    return ours, reference


def layout_of(segments=None, cache=None, shape=(3, 8)):
    return plan_layout(Batch(torch.zeros(shape, dtype=torch.long), segments), cache)


def documents():
    """Give row, begin and end of every document of ``SEGMENTS``."""
    for row, marks in enumerate(SEGMENTS.tolist()):
        for number in sorted({*marks} - {0}):
            places = [place for place, mark in enumerate(marks) if mark == number]
            yield row, places[0], places[-1] + 1


def check_gradients(ours, reference):
    weights = [tensor for cell in ours.cells for tensor in cell.weights()]
    for mine, other in zip(weights, reference.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-5)


def test_it_is_torchs_module_gradients_too(pair):
    ours, reference = pair
    x = torch.randn(3, 8, WIDTH)
    answers, wanted = ours(x, layout_of()), reference(x)[0]
    torch.testing.assert_close(answers, wanted)
    slope = torch.randn_like(wanted)
    (answers * slope).sum().backward()
    (wanted * slope).sum().backward()
    check_gradients(ours, reference)


def test_documents_of_a_pack_start_anew_gradients_too(pair):
    ours, reference = pair
    x = torch.randn(3, 8, WIDTH)
    answers, slope = ours(x, layout_of(SEGMENTS)), torch.randn(3, 8, HIDDEN)
    (answers * slope)[SEGMENTS != 0].sum().backward()
    for row, begin, end in documents():
        alone = reference(x[row : row + 1, begin:end])[0][0]
        torch.testing.assert_close(answers[row, begin:end], alone)
        (alone * slope[row, begin:end]).sum().backward()
    check_gradients(ours, reference)
    assert not answers[SEGMENTS == 0].any()


@torch.no_grad()
def test_the_cache_keeps_the_state_of_the_last_real_token(pair):
    ours, reference = pair
    x, lengths = torch.randn(3, 8, WIDTH), [5, 8, 0]
    cache = Cache([20, 20, 20])
    ours(x, layout_of((torch.arange(8) < torch.tensor(lengths)[:, None]).long(), cache))
    states = cache.kept(ours).tensors
    for row, length in enumerate(lengths):
        end = reference(x[row : row + 1, :length])[1] if length else None
        ends = end if isinstance(end, tuple) else (end,) * len(states)
        for state, wanted in zip(states, ends, strict=True):
            torch.testing.assert_close(state[row], torch.zeros_like(state[row]) if wanted is None else wanted[:, 0])
    cache.select(torch.tensor([1, 0]))
    cache.lengths = [8, 5]
    new = torch.randn(2, 1, WIDTH)
    answers = ours(new, layout_of(cache=cache, shape=(2, 1)))
    for place, row in enumerate([1, 0]):
        wanted = reference(torch.cat((x[row, : lengths[row]], new[place]))[None])[0][0, -1]
        torch.testing.assert_close(answers[place, 0], wanted)


def test_packing_is_torchs_own():
    packing = pack(layout_of(SEGMENTS))
    places = torch.arange(SEGMENTS.numel()).view_as(SEGMENTS)
    parts = sorted((places[row, begin:end] for row, begin, end in documents()), key=len, reverse=True)
    wanted = nn.utils.rnn.pack_sequence(parts)
    assert torch.equal(packing.order, wanted.data)
    assert torch.equal(packing.sizes, wanted.batch_sizes)
    assert packing.rows.tolist() == [int(part[0]) // SEGMENTS.shape[1] for part in parts]


def test_rows_of_one_document_are_read_as_they_stand():
    assert pack(layout_of()) is None
    assert pack(layout_of((torch.arange(8) < torch.tensor([[3], [8], [0]])).long())) is None
    assert pack(layout_of(torch.ones(3, 8, dtype=torch.long), Cache([9] * 3))) is None


def test_padding_alone_is_finite(pair):
    for segments in (torch.zeros(3, 8, dtype=torch.long), SEGMENTS * (torch.arange(3) > 0)[:, None]):
        assert torch.isfinite(pair[0](torch.randn(3, 8, WIDTH), layout_of(segments))).all()
    cache = Cache([9] * 3)
    assert torch.isfinite(
        pair[0](torch.randn(3, 8, WIDTH), layout_of(torch.zeros(3, 8, dtype=torch.long), cache))
    ).all()
    assert not any(state.any() for state in cache.kept(pair[0]).tensors)


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["whole", "pack"])
def test_bf16(pair, segments):
    ours, _ = pair
    x = torch.randn(3, 8, WIDTH)
    wanted = ours(x, layout_of(segments))
    answers = ours.to(torch.bfloat16)(x.bfloat16(), layout_of(segments))
    assert answers.dtype == torch.bfloat16
    torch.testing.assert_close(answers.float(), wanted, rtol=0, atol=0.05)
    answers.float().square().sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in ours.parameters())


def model_spec(mixer, width=12):
    block = BlockSpec(mixer, NoFeedForwardSpec())
    return ModelSpec(width, 9, 16, EmbeddingSpec(), (block,), NoNormSpec(), {"next": NextTokenSpec()})


@torch.no_grad()
def test_fresh_weights():
    model = LanguageModel(model_spec(LSTMSpec(hidden=64, layers=2), width=256))
    initialise(model, seed=0)
    mixer = model.blocks[0].mixer
    for cell in mixer.cells:
        forget = torch.cat((torch.zeros(64), torch.ones(64), torch.zeros(128)))
        assert torch.equal(cell.input.bias, forget)
        assert not cell.recurrent.bias.any()
        for gate in cell.recurrent.weight.split(64):
            torch.testing.assert_close(gate @ gate.T, torch.eye(64), rtol=0, atol=1e-5)
    assert abs(mixer.cells[0].input.weight.std() * 256**0.5 - 1) < 0.03
    model = LanguageModel(model_spec(GRUSpec(hidden=8)))
    initialise(model, seed=0)
    assert not model.blocks[0].mixer.cells[0].input.bias.any()


def test_a_large_one_is_described_without_its_numbers():
    spec = model_spec(LSTMSpec(hidden=1 << 15, layers=4, output=DenseSpec(bias=True)), width=1 << 15)
    assert spec.parameters() == sum(parameter.numel() for parameter in empty_model(spec).parameters()) > 10**10
