"""LLaMA (Touvron et al., 2023): RMSNorm, rotary positions, grouped heads, gated feed-forward."""

from collections.abc import Mapping
from typing import Any

from lamoid.assembly.attention import AttentionSpec
from lamoid.assembly.block import BlockSpec
from lamoid.assembly.bounds import MOST_LAYERS
from lamoid.assembly.embedding import EmbeddingSpec
from lamoid.assembly.families.family import ACTIVATIONS, FOREIGN_ACTIVATIONS, INERT, Family, Fields, Rename
from lamoid.assembly.families.rotary import read_rotary, write_rotary
from lamoid.assembly.feedforward import GatedSpec
from lamoid.assembly.heads import NextTokenSpec, TiedSpec
from lamoid.assembly.linear import DenseSpec
from lamoid.assembly.norm import RMSNormSpec
from lamoid.assembly.position import RotarySpec
from lamoid.assembly.spec import ModelSpec


def spec(config: Mapping[str, Any], file: str) -> ModelSpec:
    """Read a ``LlamaForCausalLM`` configuration of transformers 4 or 5."""
    fields = Fields(config, file)
    width, heads, vocab = fields.whole("hidden_size"), fields.whole("num_attention_heads"), fields.whole("vocab_size")
    bias, norm = DenseSpec(fields.flag("attention_bias", False)), RMSNormSpec(fields.number("rms_norm_eps", 1e-6))
    inner = DenseSpec(fields.flag("mlp_bias", False))
    if fields.take("head_dim") is None and width % heads:
        fields.refuse("num_attention_heads", heads, f"a divisor of hidden_size {width}, or a head_dim beside it")
    position, context = read_rotary(fields)
    kv_heads, head_width = fields.whole("num_key_value_heads", heads), fields.whole("head_dim", max(1, width // heads))
    parts = dict.fromkeys(("query", "key", "value", "output"), bias)
    mixer = AttentionSpec(heads=heads, kv_heads=kv_heads, head_width=head_width, position=position, **parts)
    activation, hidden = fields.choice("hidden_act", ACTIVATIONS, "silu"), fields.whole("intermediate_size")
    block = BlockSpec(mixer, GatedSpec(hidden, activation, inner, inner, inner), norm, norm)
    blocks = (block,) * fields.whole("num_hidden_layers", high=MOST_LAYERS)
    head = TiedSpec() if fields.flag("tie_word_embeddings", False) else DenseSpec()
    fields.finish(INERT)
    return ModelSpec(width, vocab, context, EmbeddingSpec(), blocks, norm, {"next_token": NextTokenSpec(head)})


def config(spec: ModelSpec) -> dict[str, Any] | None:
    """Write the configuration of a spec that is a LLaMA's."""
    block, head = spec.blocks[0], next(iter(spec.heads.values()))
    mixer, feedforward, position = block.mixer, block.feedforward, block.mixer.position
    if not isinstance(feedforward, GatedSpec) or not isinstance(position, RotarySpec):
        return None
    return {
        "hidden_size": spec.width,
        "vocab_size": spec.vocab,
        "num_hidden_layers": len(spec.blocks),
        "num_attention_heads": mixer.heads,
        "num_key_value_heads": mixer.kv_heads,
        "head_dim": mixer.head_width,
        "intermediate_size": feedforward.hidden,
        "hidden_act": FOREIGN_ACTIVATIONS[feedforward.activation],
        "rms_norm_eps": spec.norm.epsilon,
        "attention_bias": mixer.query.bias,
        "mlp_bias": feedforward.up.bias,
        "tie_word_embeddings": isinstance(head.linear, TiedSpec),
        **write_rotary(position, spec.context),
    }


TABLE = (
    Rename(("embedding.tokens",), "model.embed_tokens"),
    Rename(("blocks.{}.norm_mixer",), "model.layers.{}.input_layernorm"),
    Rename(("blocks.{}.mixer.query",), "model.layers.{}.self_attn.q_proj"),
    Rename(("blocks.{}.mixer.key",), "model.layers.{}.self_attn.k_proj"),
    Rename(("blocks.{}.mixer.value",), "model.layers.{}.self_attn.v_proj"),
    Rename(("blocks.{}.mixer.output",), "model.layers.{}.self_attn.o_proj"),
    Rename(("blocks.{}.norm_feedforward",), "model.layers.{}.post_attention_layernorm"),
    Rename(("blocks.{}.feedforward.gate",), "model.layers.{}.mlp.gate_proj"),
    Rename(("blocks.{}.feedforward.up",), "model.layers.{}.mlp.up_proj"),
    Rename(("blocks.{}.feedforward.down",), "model.layers.{}.mlp.down_proj"),
    Rename(("norm",), "model.norm"),
    Rename(("heads.next_token.linear",), "lm_head"),
)
LLAMA = Family("llama", "LlamaForCausalLM", spec, config, TABLE, "model.", (r".*\.rotary_emb\.inv_freq",))
