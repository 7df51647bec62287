"""GPT-2 (Radford et al., 2019): learned positions, LayerNorm, GELU; its files join QKV and transpose every matrix."""

from collections.abc import Mapping
from typing import Any

from lamoid.assembly.attention import AttentionSpec
from lamoid.assembly.block import BlockSpec
from lamoid.assembly.bounds import MOST_LAYERS
from lamoid.assembly.embedding import EmbeddingSpec
from lamoid.assembly.families.family import ACTIVATIONS, FOREIGN_ACTIVATIONS, INERT, Family, Fields, Rename
from lamoid.assembly.feedforward import PlainSpec
from lamoid.assembly.heads import NextTokenSpec, TiedSpec
from lamoid.assembly.linear import DenseSpec
from lamoid.assembly.norm import LayerNormSpec
from lamoid.assembly.position import LearnedPositionSpec, NoPositionSpec
from lamoid.assembly.spec import ModelSpec


def spec(config: Mapping[str, Any], file: str) -> ModelSpec:
    """Read a ``GPT2LMHeadModel`` configuration."""
    fields = Fields(config, file)
    width, heads = fields.whole("n_embd"), fields.whole("n_head")
    if width % heads:
        fields.refuse("n_head", heads, f"a divisor of n_embd {width}")
    fields.only("scale_attn_weights", True)
    fields.only("scale_attn_by_inverse_layer_idx", False)
    fields.only("add_cross_attention", False)
    norm, linear = LayerNormSpec(fields.number("layer_norm_epsilon", 1e-5)), DenseSpec(bias=True)
    parts = dict.fromkeys(("query", "key", "value", "output"), linear)
    mixer = AttentionSpec(heads=heads, kv_heads=heads, head_width=width // heads, position=NoPositionSpec(), **parts)
    activation = fields.choice("activation_function", ACTIVATIONS, "gelu_new")
    block = BlockSpec(mixer, PlainSpec(fields.whole("n_inner", 4 * width), activation, linear, linear), norm, norm)
    embedding = EmbeddingSpec(LearnedPositionSpec())
    head = NextTokenSpec(TiedSpec() if fields.flag("tie_word_embeddings", True) else DenseSpec())
    layers, vocab, context = (
        fields.whole("n_layer", high=MOST_LAYERS),
        fields.whole("vocab_size"),
        fields.whole("n_positions", 1024),
    )
    fields.finish(INERT)
    return ModelSpec(width, vocab, context, embedding, (block,) * layers, norm, {"next_token": head})


def config(spec: ModelSpec) -> dict[str, Any] | None:
    """Write the configuration of a spec that is a GPT-2's."""
    block, head = spec.blocks[0], next(iter(spec.heads.values()))
    if not isinstance(block.feedforward, PlainSpec):
        return None
    return {
        "n_embd": spec.width,
        "vocab_size": spec.vocab,
        "n_positions": spec.context,
        "n_layer": len(spec.blocks),
        "n_head": block.mixer.heads,
        "n_inner": block.feedforward.hidden,
        "activation_function": FOREIGN_ACTIVATIONS[block.feedforward.activation],
        "layer_norm_epsilon": spec.norm.epsilon,
        "tie_word_embeddings": isinstance(head.linear, TiedSpec),
    }


TABLE = (
    Rename(("embedding.tokens",), "transformer.wte"),
    Rename(("embedding.positions",), "transformer.wpe"),
    Rename(("blocks.{}.norm_mixer",), "transformer.h.{}.ln_1"),
    Rename(
        ("blocks.{}.mixer.query", "blocks.{}.mixer.key", "blocks.{}.mixer.value"),
        "transformer.h.{}.attn.c_attn",
        transposed=True,
    ),
    Rename(("blocks.{}.mixer.output",), "transformer.h.{}.attn.c_proj", transposed=True),
    Rename(("blocks.{}.norm_feedforward",), "transformer.h.{}.ln_2"),
    Rename(("blocks.{}.feedforward.up",), "transformer.h.{}.mlp.c_fc", transposed=True),
    Rename(("blocks.{}.feedforward.down",), "transformer.h.{}.mlp.c_proj", transposed=True),
    Rename(("norm",), "transformer.ln_f"),
    Rename(("heads.next_token.linear",), "lm_head"),
)
BUFFERS = (r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)",)
GPT2 = Family("gpt2", "GPT2LMHeadModel", spec, config, TABLE, "transformer.", BUFFERS)
