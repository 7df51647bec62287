"""Counts worked out from a spec are those of the model: its tensors, torch's FLOP counter, the numbers in its cache."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lamoid.assembly.attention import Attention, AttentionSpec, CrossAttention, CrossAttentionSpec
from lamoid.assembly.batch import Batch
from lamoid.assembly.bias import AlibiSpec
from lamoid.assembly.block import BlockSpec, NoMixerSpec
from lamoid.assembly.cache import KeyValues
from lamoid.assembly.convolution import ConvolutionSpec
from lamoid.assembly.embedding import EmbeddingSpec, FactoredTableSpec
from lamoid.assembly.experts import ExpertsSpec
from lamoid.assembly.feedforward import GatedSpec, NoFeedForwardSpec, PlainSpec
from lamoid.assembly.heads import NextTokenSpec, TransformSpec
from lamoid.assembly.initialise import initialise
from lamoid.assembly.linear import DenseSpec
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.norm import RMSNormSpec
from lamoid.assembly.recurrence import GRUSpec, LSTMSpec, RNNSpec
from lamoid.assembly.sight import BidirectionalSpec, CausalSpec, WindowSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.task_heads import ClassesSpec, TagsSpec
from lamoid.assembly.wiring import CrossSpec, GateSpec, ParallelSpec, ProjectSpec, SerialSpec, StackSpec

WIDTH, VOCAB, TOKENS = 8, 23, 10
NOTHING = NoFeedForwardSpec()


def attention(**fields):
    return AttentionSpec(heads=4, kv_heads=2, head_width=6, **fields)


def facing(sees):
    return BlockSpec(CrossAttentionSpec(heads=2, kv_heads=1, head_width=4, sees=sees), NOTHING)


PARTS = {
    "causal": BlockSpec(attention(output=DenseSpec(bias=True)), NOTHING),
    "window": BlockSpec(attention(position=AlibiSpec(), reach=WindowSpec(4)), NOTHING),
    "both_ways": BlockSpec(attention(sees=BidirectionalSpec()), NOTHING),
    "both_ways_window": BlockSpec(attention(sees=BidirectionalSpec(), reach=WindowSpec(4)), NOTHING),
    "lstm": BlockSpec(LSTMSpec(hidden=6, layers=3), NOTHING),
    "gru": BlockSpec(GRUSpec(hidden=6, bias=False), NOTHING),
    "rnn": BlockSpec(RNNSpec(hidden=6, layers=2), NOTHING),
    "convolution": BlockSpec(ConvolutionSpec(kernel=3, hidden=6), NOTHING),
    "plain": BlockSpec(NoMixerSpec(), PlainSpec(12)),
    "gated": BlockSpec(NoMixerSpec(), GatedSpec(12)),
    "experts": BlockSpec(NoMixerSpec(), ExpertsSpec((GatedSpec(12),) * 4, 2, shared=PlainSpec(5))),
    "source": CrossSpec(
        StackSpec((BlockSpec(attention(sees=BidirectionalSpec()), NOTHING),)), facing(BidirectionalSpec())
    ),
    "text": CrossSpec(BlockSpec(GRUSpec(hidden=3), NOTHING), facing(CausalSpec())),
    "stream": StackSpec((BlockSpec(attention(), PlainSpec(4)),), "other", width=4, vocab=30),
    "gate": ParallelSpec({"a": ProjectSpec(4), "b": SerialSpec((ProjectSpec(6), ProjectSpec(4)))}, GateSpec()),
}
HEADS = {
    "transform": NextTokenSpec(transform=TransformSpec(5)),
    "tags": TagsSpec(count=7),
    "classes": ClassesSpec(count=TOKENS),
}


def spec_of(part, head=None):
    embedding = EmbeddingSpec(table=FactoredTableSpec(3))
    return ModelSpec(WIDTH, VOCAB, 64, embedding, (part,), RMSNormSpec(), {"head": head or NextTokenSpec()})


def made(spec):
    """A model in float64, whose products all go through kernels that the counter knows."""
    model = LanguageModel(spec)
    initialise(model, seed=0)
    return model.double().eval()


def batch_of(rows=2, tokens=TOKENS):
    ids = torch.randint(0, VOCAB, (rows, tokens))
    return Batch(ids, source=Batch(torch.randint(0, VOCAB, (rows, tokens))), streams={"other": ids})


def pairs(mixer):
    """Count the pairs of a query and a key that it sees in one text, and the operations of one: counted by nobody."""
    reach = mixer.reach.tokens if isinstance(mixer, AttentionSpec) and isinstance(mixer.reach, WindowSpec) else TOKENS
    near = [(i, j) for i in range(TOKENS) for j in range(TOKENS) if abs(i - j) < reach]
    seen = [(i, j) for i, j in near if j <= i or isinstance(mixer.sees, BidirectionalSpec)]
    return len(seen) * 4 * mixer.heads * mixer.head_width


@torch.no_grad()
@pytest.mark.parametrize("name", [*PARTS, *HEADS])
def test_parameters_and_flops(name):
    spec = spec_of(PARTS[name]) if name in PARTS else spec_of(PARTS["plain"], HEADS[name])
    model, batch = made(spec), batch_of()
    assert spec.parameters() == sum(parameter.numel() for parameter in model.parameters())
    with FlopCounterMode(display=False) as counter:
        model(batch)
    counts = {str(operation): count for operation, count in counter.get_flop_counts()["Global"].items()}
    known = sum(counts.get(f"aten.{kind}", 0) for kind in ("mm", "addmm", "convolution"))
    assert set(counts) <= {"aten.mm", "aten.addmm", "aten.convolution"}
    mixers = [part.spec for part in model.modules() if isinstance(part, Attention | CrossAttention)]
    total = known + 2 * sum(pairs(mixer) for mixer in mixers)
    assert abs(total - 2 * TOKENS * spec.flops(TOKENS)) <= 2 * TOKENS * 0.5 * (len(mixers) + (name == "classes"))


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in PARTS if spec_of(PARTS[name]).not_causal is None])
def test_what_a_cache_keeps(name):
    """Numbers for each token of two texts and their sources, and numbers for each text, however long it is."""
    spec = spec_of(PARTS[name])
    model = made(spec)
    for tokens in (3, 6):
        cache = model.new_cache([tokens] * 2)
        model.step(batch_of(tokens=tokens), cache)
        kept, state = 0, 0
        for layer, found in cache.layers.items():
            if isinstance(found, KeyValues):
                kept += found.keys.numel() + found.values.numel()
            elif isinstance(layer, CrossAttention):
                kept += sum(tensor.numel() for tensor in found.tensors)
            else:
                state += sum(tensor.numel() for tensor in found.tensors)
        assert (kept, state) == (2 * tokens * spec.cache_numbers(), 2 * spec.state_numbers())
    assert spec.cache_numbers() + spec.state_numbers() > 0 or name in ("plain", "gated", "experts", "gate")
