"""Embeddings beside transformers' ALBERT and BERT."""

import pytest
import torch
from transformers import AlbertConfig, BertConfig
from transformers.models.albert.modeling_albert import AlbertEmbeddings
from transformers.models.bert.modeling_bert import BertEmbeddings

from lamoid.assembly.batch import Batch
from lamoid.assembly.embedding import EmbeddingSpec, FactoredTableSpec, TypesSpec
from lamoid.assembly.layout import plan_layout
from lamoid.assembly.norm import LayerNormSpec
from lamoid.assembly.position import LearnedPositionSpec
from lamoid.assembly.scope import Scope

SCOPE = Scope(12, 31, 16)
NAMES = {
    "tokens.weight": "word_embeddings.weight",
    "positions.weight": "position_embeddings.weight",
    "types.weight": "token_type_embeddings.weight",
    "norm.weight": "LayerNorm.weight",
    "norm.bias": "LayerNorm.bias",
}


@torch.no_grad()
@pytest.mark.parametrize("is_factored", [False, True])
@pytest.mark.parametrize("is_typed", [False, True])
def test_it_is_berts_and_alberts(is_factored, is_typed):
    sizes = {"vocab_size": 31, "max_position_embeddings": 16, "hidden_dropout_prob": 0.0, "hidden_size": 12}
    if is_factored:
        theirs = AlbertEmbeddings(AlbertConfig(embedding_size=5, num_attention_heads=2, **sizes))
    else:
        theirs = BertEmbeddings(BertConfig(num_attention_heads=2, **sizes))
    widen = torch.nn.Linear(5, 12) if is_factored else torch.nn.Identity()
    for parameter in theirs.parameters():
        parameter.normal_()
    table = {"table": FactoredTableSpec(5)} if is_factored else {}
    spec = EmbeddingSpec(LearnedPositionSpec(), types=TypesSpec(2), norm=LayerNormSpec(1e-12), **table)
    ours = spec.build(SCOPE)
    weights = {name: theirs.state_dict()[other] for name, other in NAMES.items()}
    ours.load_state_dict(weights | {f"widen.{name}": tensor for name, tensor in widen.state_dict().items()})
    assert spec.parameters(SCOPE) == sum(parameter.numel() for parameter in ours.parameters())
    ids = torch.randint(0, 31, (2, 9))
    types = torch.randint(0, 2, (2, 9)) if is_typed else None
    found = ours(ids, plan_layout(Batch(ids, types=types), None))
    torch.testing.assert_close(found, widen(theirs(ids, token_type_ids=types)), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_multiplier_is_rounded_as_gemmas(dtype):
    ours = EmbeddingSpec(multiplier=12**0.5).build(SCOPE).to(dtype)
    ours.tokens.weight.normal_()
    ids = torch.randint(0, 31, (2, 9))
    wanted = ours.tokens.weight[ids] * torch.tensor(12**0.5, dtype=dtype)
    assert torch.equal(ours(ids, plan_layout(Batch(ids), None)), wanted)
