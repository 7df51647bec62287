"""Heads: several by name on one trunk, the kinds beside transformers' own, and what stands for a text."""

import msgspec
import pytest
import torch
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertLMPredictionHead, BertPooler

from lamoid.assembly.attention import AttentionSpec, SoftCapSpec
from lamoid.assembly.batch import Batch
from lamoid.assembly.block import BlockSpec
from lamoid.assembly.embedding import EmbeddingSpec
from lamoid.assembly.feedforward import PlainSpec
from lamoid.assembly.heads import NextTokenSpec, TiedSpec, TransformSpec
from lamoid.assembly.linear import DenseSpec
from lamoid.assembly.norm import LayerNormSpec
from lamoid.assembly.scope import Scope
from lamoid.assembly.sight import BidirectionalSpec
from lamoid.assembly.spec import ModelSpec, decode_spec, encode_spec, encode_toml, read_spec
from lamoid.assembly.task_heads import (
    AverageSpec,
    ClassesSpec,
    FirstSpec,
    ItemSpec,
    LabelsSpec,
    LastSpec,
    NextSentenceSpec,
    RegressionSpec,
    SpanSpec,
    TagsSpec,
    pool,
)
from lamoid.errors import InputError

WIDTH, VOCAB = 8, 23
HEADS = {
    "masked": NextTokenSpec(TiedSpec(bias=True), TransformSpec(norm=LayerNormSpec())),
    "next": NextTokenSpec(cap=SoftCapSpec(3.0), scale=0.5),
    "follows": NextSentenceSpec(),
    "topic": ClassesSpec(count=4, names=("a", "b", "c", "d"), pool=AverageSpec()),
    "about": LabelsSpec(count=5, pool=LastSpec(), linear=DenseSpec()),
    "score": RegressionSpec(transform=TransformSpec(6, "relu")),
    "tags": TagsSpec(count=3),
    "answer": SpanSpec(),
    "item": ItemSpec(count=9),
}
SHAPES = {"masked": (3, 6, VOCAB), "next": (3, 6, VOCAB), "follows": (3, 2), "topic": (3, 4), "about": (3, 5)}
SHAPES |= {"score": (3, 1), "tags": (3, 6, 3), "answer": (3, 6, 2), "item": (3, 6, 9)}


def spec(heads):
    mixer = AttentionSpec(heads=2, kv_heads=2, head_width=4, sees=BidirectionalSpec())
    return ModelSpec(WIDTH, VOCAB, 16, EmbeddingSpec(), (BlockSpec(mixer, PlainSpec(12)),), LayerNormSpec(), heads)


def padded(laws, lengths):
    batch = laws.batch(lengths)
    return Batch(batch.ids, batch.segments)


def test_all_heads_answer_from_one_trunk_and_teach_it(laws, tmp_path):
    path = tmp_path / "spec.toml"
    path.write_bytes(encode_toml(spec(HEADS)))
    assert decode_spec(encode_spec(spec(HEADS)), file="spec.json") == read_spec(path) == spec(HEADS)
    model = laws.made(spec(HEADS))
    assert model.spec.parameters() == sum(parameter.numel() for parameter in model.parameters())
    batch = padded(laws, [6, 2, 4])
    hidden = model.hidden(batch)
    for name in HEADS:
        model.zero_grad()
        answers = model(batch, head=name)
        assert answers.shape == SHAPES[name]
        assert torch.equal(answers, model.answer(hidden, batch, name))
        answers.float().square().sum().backward()
        learned = {other for other in HEADS if any(p.grad is not None for p in model.heads[other].parameters())}
        assert learned == {name}
        assert model.blocks[0].mixer.query.weight.grad.abs().max() > 0
    assert torch.equal(model(batch), model(batch, head="masked"))
    with pytest.raises(InputError, match="masked, next"):
        model(batch, head="mask")


@torch.no_grad()
def test_a_text_is_answered_alike_whatever_stands_beside_it(laws):
    model, lengths = laws.made(spec(HEADS)), [6, 2, 4]
    batch = padded(laws, lengths)
    for name in HEADS:
        together = model(batch, head=name)
        for row, length in enumerate(lengths):
            alone = model(batch.ids[row : row + 1, :length], head=name)[0]
            ours = together[row, :length] if together.ndim == 3 else together[row]
            torch.testing.assert_close(ours, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pooling(dtype):
    hidden, segments = (
        torch.randn(3, 700, WIDTH).to(dtype),
        (torch.arange(700) < torch.tensor([[611], [1], [700]])).long(),
    )
    lengths = [611, 1, 700]
    for row, length in enumerate(lengths):
        found = {type(kind): pool(hidden, segments, kind)[row] for kind in (FirstSpec(), LastSpec(), AverageSpec())}
        assert torch.equal(found[FirstSpec], hidden[row, 0])
        assert torch.equal(found[LastSpec], hidden[row, length - 1])
        mean = hidden[row, :length].double().mean(0)
        torch.testing.assert_close(found[AverageSpec].double(), mean, rtol=4e-3, atol=1e-6)
        assert found[AverageSpec].dtype == dtype
    with pytest.raises(InputError, match="several documents"):
        pool(hidden, segments * 2, FirstSpec())


@torch.no_grad()
def test_berts_own_heads():
    config = BertConfig(hidden_size=WIDTH, vocab_size=VOCAB, num_attention_heads=2, hidden_act="gelu")
    theirs, pooler = BertLMPredictionHead(config), BertPooler(config)
    for parameter in [*theirs.parameters(), *pooler.parameters()]:
        parameter.normal_()
    masked = NextTokenSpec(TiedSpec(bias=True), TransformSpec(norm=LayerNormSpec(1e-12))).build(Scope(WIDTH, VOCAB, 16))
    masked.bias.copy_(theirs.bias)
    masked.transform.linear.load_state_dict(theirs.transform.dense.state_dict())
    masked.transform.norm.load_state_dict(theirs.transform.LayerNorm.state_dict())
    hidden, table = torch.randn(2, 5, WIDTH), theirs.decoder.weight
    wanted = torch.nn.functional.linear(theirs.transform(hidden), table, theirs.bias)
    torch.testing.assert_close(masked(hidden, table), wanted, rtol=1e-4, atol=1e-4)
    follows = NextSentenceSpec().build(Scope(WIDTH, VOCAB, 16))
    for parameter in follows.parameters():
        parameter.normal_()
    follows.transform.linear.load_state_dict(pooler.dense.state_dict())
    torch.testing.assert_close(follows(hidden, table), follows.linear(pooler(hidden)))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: ClassesSpec(count=2, names=("a",)), "classes.names"),
        (lambda: LabelsSpec(count=2, names=("a", "a")), "labels.names"),
        (lambda: TagsSpec(count=0), "tags.count"),
        (lambda: spec({"1st": NextTokenSpec()}), "heads"),
        (lambda: msgspec.structs.replace(spec(HEADS), heads={}), "number of heads"),
    ],
)
def test_a_bad_head_is_named(make, named):
    with pytest.raises(InputError, match=named):
        make()
