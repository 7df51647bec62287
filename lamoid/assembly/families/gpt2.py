"""GPT-2 (Radford et al., 2019): learned positions, LayerNorm, GELU; its files join QKV and transpose every matrix."""

from dataclasses import replace
from typing import Any

from lamoid.assembly.attention import AttentionSpec
from lamoid.assembly.block import BlockSpec
from lamoid.assembly.bounds import MOST_LAYERS
from lamoid.assembly.embedding import EmbeddingSpec
from lamoid.assembly.families.decoder import HEAD_ROWS, attentions, decoder_architectures
from lamoid.assembly.families.family import Architecture, Family, Rename
from lamoid.assembly.families.fields import ACTIVATIONS, FOREIGN_ACTIVATIONS, Fields
from lamoid.assembly.families.sizes import Sizes
from lamoid.assembly.families.task_words import BIASED
from lamoid.assembly.feedforward import PlainSpec
from lamoid.assembly.norm import LayerNormSpec
from lamoid.assembly.position import LearnedPositionSpec, NoPositionSpec
from lamoid.assembly.spec import ModelSpec


def read(fields: Fields, architecture: Architecture) -> ModelSpec:
    """Read a configuration."""
    width, heads = fields.whole(WIDTH), fields.whole(HEADS)
    if width % heads:
        fields.refuse(HEADS, heads, f"a divisor of {WIDTH} {width}")
    for name, value in {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False}.items():
        fields.only(name, value)
    fields.only("add_cross_attention", False)
    norm, parts = LayerNormSpec(fields.number(EPSILON, 1e-5)), dict.fromkeys(MAPS, BIASED)
    mixer = AttentionSpec(heads=heads, kv_heads=heads, head_width=width // heads, position=NoPositionSpec(), **parts)
    activation = fields.choice(ACTIVATION, ACTIVATIONS, "gelu_new")
    block = BlockSpec(mixer, PlainSpec(fields.whole(HIDDEN, 4 * width), activation, BIASED, BIASED), norm, norm)
    blocks = (block,) * fields.whole(LAYERS, high=MOST_LAYERS)
    vocab, context = fields.whole("vocab_size"), fields.whole(CONTEXT, 1024)
    embedding = EmbeddingSpec(LearnedPositionSpec())
    return ModelSpec(width, vocab, context, embedding, blocks, norm, architecture.heads(fields))


def config(spec: ModelSpec) -> dict[str, Any] | None:
    """Write the configuration of a spec that is a GPT-2's."""
    block, mixers = spec.blocks[0], attentions(spec)
    if not mixers or not isinstance(block, BlockSpec) or not isinstance(block.feedforward, PlainSpec):
        return None
    if not isinstance(spec.norm, LayerNormSpec):
        return None
    values = (spec.width, len(spec.blocks), mixers[0].heads, block.feedforward.hidden, spec.context)
    words = {"vocab_size": spec.vocab, **dict(zip(SIZES, values, strict=True)), EPSILON: spec.norm.epsilon}
    return {**words, ACTIVATION: FOREIGN_ACTIVATIONS[block.feedforward.activation]}


def sizes(numbers: Sizes, vocab: int) -> dict[str, Any]:
    """Write a few numbers as a configuration."""
    numbers.refuse_rotary()
    values = (numbers.width, numbers.layers, numbers.heads, numbers.hidden or 4 * numbers.width, numbers.context)
    return {"vocab_size": vocab, **dict(zip(SIZES, values, strict=True)), "tie_word_embeddings": numbers.tied}


SIZES = WIDTH, LAYERS, HEADS, HIDDEN, CONTEXT = "n_embd", "n_layer", "n_head", "n_inner", "n_positions"
EPSILON, ACTIVATION = "layer_norm_epsilon", "activation_function"
MAPS = ("query", "key", "value", "output")
TABLE = (
    Rename(("embedding.tokens",), "transformer.wte"),
    Rename(("embedding.positions",), "transformer.wpe"),
    Rename(("blocks.{}.norm_mixer",), "transformer.h.{}.ln_1"),
    Rename(tuple(f"blocks.{{}}.mixer.{name}" for name in MAPS[:3]), "transformer.h.{}.attn.c_attn", transposed=True),
    Rename(("blocks.{}.mixer.output",), "transformer.h.{}.attn.c_proj", transposed=True),
    Rename(("blocks.{}.norm_feedforward",), "transformer.h.{}.ln_2"),
    Rename(("blocks.{}.feedforward.up",), "transformer.h.{}.mlp.c_fc", transposed=True),
    Rename(("blocks.{}.feedforward.down",), "transformer.h.{}.mlp.c_proj", transposed=True),
    Rename(("norm",), "transformer.ln_f"),
    Rename(("heads.tags.linear",), "classifier"),
    *HEAD_ROWS,
)
GENERATING, *OTHERS = decoder_architectures("GPT2", tied=True, answering="transformer.")
ARCHITECTURES = (replace(GENERATING, name="GPT2LMHeadModel"), *OTHERS)
BUFFERS = (r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)",)
GPT2 = Family("gpt2", ARCHITECTURES, read, config, TABLE, "transformer.", sizes, BUFFERS)
