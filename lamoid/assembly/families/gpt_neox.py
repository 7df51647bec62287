"""GPT-NeoX (Black et al., 2022), Pythia too: both parts read the same stream, heads are turned in part."""

from typing import Any

from lamoid.assembly.attention import AttentionSpec
from lamoid.assembly.block import BlockSpec, ParallelOrderSpec, PreSpec
from lamoid.assembly.bounds import MOST_LAYERS
from lamoid.assembly.embedding import EmbeddingSpec
from lamoid.assembly.families.decoder import (
    DECODER_TABLE,
    ROTARY_BUFFERS,
    attentions,
    decoder_architectures,
    plain_sizes,
    write_shape,
)
from lamoid.assembly.families.family import Architecture, Family, Rename
from lamoid.assembly.families.fields import ACTIVATIONS, Fields
from lamoid.assembly.families.rotary import read_rotary, write_rotary
from lamoid.assembly.families.task_words import BARE, BIASED
from lamoid.assembly.feedforward import PlainSpec
from lamoid.assembly.norm import LayerNormSpec
from lamoid.assembly.position import RotarySpec
from lamoid.assembly.spec import ModelSpec


def read(fields: Fields, architecture: Architecture) -> ModelSpec:
    """Read a GPT-NeoX configuration, in which rotary_emb_base and rotary_pct say what others call otherwise."""
    width, heads = fields.whole("hidden_size"), fields.whole("num_attention_heads")
    if width % heads:
        fields.refuse("num_attention_heads", heads, f"a divisor of hidden_size {width}")
    position, context = read_rotary(fields, portion=0.25, words=("rotary_emb_base", "rotary_pct"))
    parts = dict.fromkeys(("query", "key", "value", "output"), BIASED if fields.flag("attention_bias", True) else BARE)
    mixer = AttentionSpec(heads=heads, kv_heads=heads, head_width=width // heads, position=position, **parts)
    fields.flag("is_decoder", False)
    activation = fields.choice("hidden_act", {**ACTIVATIONS, "gelu_fast": "gelu_tanh"}, "gelu")
    feedforward = PlainSpec(fields.whole("intermediate_size", 24576), activation, BIASED, BIASED)
    norm, vocab = LayerNormSpec(fields.number("layer_norm_eps", 1e-5)), fields.whole("vocab_size")
    order = ParallelOrderSpec() if fields.flag("use_parallel_residual", True) else PreSpec()
    blocks = (BlockSpec(mixer, feedforward, norm, norm, order),) * fields.whole("num_hidden_layers", high=MOST_LAYERS)
    return ModelSpec(width, vocab, context, EmbeddingSpec(), blocks, norm, architecture.heads(fields))


def config(spec: ModelSpec) -> dict[str, Any] | None:
    """Write a GPT-NeoX configuration, or give ``None`` where the spec is of another build."""
    block, norm, mixer = spec.blocks[0], spec.norm, next(iter(attentions(spec)), None)
    if mixer is None or not isinstance(mixer.position, RotarySpec) or not isinstance(norm, LayerNormSpec):
        return None
    if not isinstance(block, BlockSpec) or not isinstance(block.feedforward, PlainSpec):
        return None
    rotary = write_rotary(mixer.position, spec.context)
    return {
        **write_shape(spec, mixer, block.feedforward),
        "layer_norm_eps": norm.epsilon,
        "attention_bias": mixer.query.bias,
        "use_parallel_residual": isinstance(block.order, ParallelOrderSpec),
        "rotary_emb_base": rotary.pop("rope_theta"),
        "rotary_pct": rotary.pop("partial_rotary_factor", 1.0),
        **rotary,
    }


LAYER = "gpt_neox.layers.{}."
QUERY_KEY_VALUE = ("blocks.{}.mixer.query", "blocks.{}.mixer.key", "blocks.{}.mixer.value")
TABLE = (
    Rename(("embedding.tokens",), "gpt_neox.embed_in"),
    Rename(("blocks.{}.norm_mixer",), LAYER + "input_layernorm"),
    Rename(QUERY_KEY_VALUE, LAYER + "attention.query_key_value", by_head=True),
    Rename(("blocks.{}.mixer.output",), LAYER + "attention.dense"),
    Rename(("blocks.{}.norm_feedforward",), LAYER + "post_attention_layernorm"),
    Rename(("blocks.{}.feedforward.up",), LAYER + "mlp.dense_h_to_4h"),
    Rename(("blocks.{}.feedforward.down",), LAYER + "mlp.dense_4h_to_h"),
    Rename(("norm",), "gpt_neox.final_layer_norm"),
    Rename(("heads.next_token.linear",), "embed_out"),
    Rename(("heads.tags.linear",), "classifier"),
    *(row for row in DECODER_TABLE if row.ours[0].startswith("heads.")),
)
ARCHITECTURES = decoder_architectures("GPTNeoX", answering="gpt_neox.")
BUFFERS = (*ROTARY_BUFFERS, r"(gpt_neox\.)?layers\.\d+\.attention\.(bias|masked_bias)")
GPT_NEOX = Family("gpt_neox", ARCHITECTURES, read, config, TABLE, "gpt_neox.", plain_sizes, BUFFERS)
