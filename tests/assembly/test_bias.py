"""Biases are transformers': ALiBi as Bloom has it, relative buckets as T5 has them; a shared table is read once."""

import pytest
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention

from lamoid.assembly.attention import AttentionSpec
from lamoid.assembly.batch import Batch
from lamoid.assembly.bias import RelativeSpec, alibi_bias, relative_bias
from lamoid.assembly.block import BlockSpec
from lamoid.assembly.embedding import EmbeddingSpec
from lamoid.assembly.feedforward import NoFeedForwardSpec
from lamoid.assembly.heads import NextTokenSpec
from lamoid.assembly.initialise import initialise
from lamoid.assembly.layout import plan_layout
from lamoid.assembly.linear import Table
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.norm import NoNormSpec
from lamoid.assembly.sharing import ShareSpec
from lamoid.assembly.sight import BidirectionalSpec, CausalSpec, EverywhereSpec, PrefixSpec
from lamoid.assembly.spec import ModelSpec

TOKENS = 40


def layout_of(tokens=TOKENS, rows=1):
    return plan_layout(Batch(torch.zeros(rows, tokens, dtype=torch.long)), None)


@pytest.mark.parametrize("heads", [1, 2, 6, 8, 12, 16, 40])
def test_alibi_is_blooms(heads):
    """Bloom leaves out what is the same for all keys of a query, which no softmax sees."""
    theirs = build_alibi_tensor(torch.ones(1, TOKENS), heads, torch.float32).view(heads, 1, TOKENS)
    ours = alibi_bias(heads, layout_of(), torch.float32, CausalSpec(), EverywhereSpec())[0]
    causal = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
    wanted = theirs.expand(-1, TOKENS, -1).masked_fill(~causal, -torch.inf).softmax(-1)
    torch.testing.assert_close(ours.softmax(-1), wanted)


def test_alibi_falls_both_ways():
    ours = alibi_bias(4, layout_of(), torch.float32, BidirectionalSpec(), EverywhereSpec())[0]
    torch.testing.assert_close(ours, ours.mT)
    assert (ours[:, 20, :20].diff() > 0).all()


@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 12), (4, 9), (16, 100)])
@pytest.mark.parametrize("sees", [BidirectionalSpec(), CausalSpec(), PrefixSpec()], ids=str)
def test_relative_buckets_are_t5s(buckets, distance, sees):
    table, tokens = Table(buckets, 3), 300
    with torch.no_grad():
        table.weight.copy_(torch.arange(3 * buckets).view(buckets, 3))
    places = torch.arange(tokens)
    wanted = T5Attention._relative_position_bucket(
        places - places[:, None], not isinstance(sees, CausalSpec), buckets, distance
    )
    batch = Batch(torch.zeros(1, tokens, dtype=torch.long), streams={"prefix": torch.ones(1, tokens)})
    ours = relative_bias(RelativeSpec(buckets, distance), table, plan_layout(batch, None), sees, EverywhereSpec())[0]
    seen = ours > -torch.inf
    assert torch.equal(seen[0], places <= places[:, None] if isinstance(sees, CausalSpec) else torch.ones_like(seen[0]))
    assert torch.equal(ours[seen], table.weight[wanted].permute(2, 0, 1)[seen])


def spec(is_shared):
    mixer = AttentionSpec(heads=2, kv_heads=2, head_width=4, position=RelativeSpec(8, 16))
    blocks = (BlockSpec(mixer, NoFeedForwardSpec()),) * 3
    sharing = (ShareSpec(("blocks.*.mixer.position",)),) if is_shared else ()
    return ModelSpec(8, 11, 16, EmbeddingSpec(), blocks, NoNormSpec(), {"next": NextTokenSpec()}, sharing)


def test_a_shared_table_is_read_once_a_pass_and_learns_from_all_layers(monkeypatch):
    """As T5 has it: the first layer's table for all; its gradient is the sum of what three tables of their own get."""
    shared, apart = LanguageModel(spec(True)), LanguageModel(spec(False))
    initialise(shared, seed=1, deviation=0.5)
    with torch.no_grad():
        for place, block in enumerate(apart.blocks):
            block.load_state_dict(shared.blocks[place].state_dict())
        apart.embedding.load_state_dict(shared.embedding.state_dict())
        apart.heads.load_state_dict(shared.heads.state_dict())
    reads, read = [], Table.forward

    def counted(self, ids):
        reads.append(self.weight.shape)
        return read(self, ids)

    monkeypatch.setattr(Table, "forward", counted)
    ids = torch.randint(0, 11, (2, 9))
    answers = shared(ids)
    assert reads.count(torch.Size([8, 2])) == 1
    wanted = apart(ids)
    assert reads.count(torch.Size([8, 2])) == 4
    torch.testing.assert_close(answers, wanted)
    answers.square().sum().backward()
    wanted.square().sum().backward()
    gradient = sum(block.mixer.position.weight.grad for block in apart.blocks)
    torch.testing.assert_close(shared.blocks[0].mixer.position.weight.grad, gradient)
    assert gradient.abs().max() > 1e-3


def test_bf16_biases_have_the_queries_kind():
    assert alibi_bias(4, layout_of(), torch.bfloat16, CausalSpec(), EverywhereSpec()).dtype == torch.bfloat16
