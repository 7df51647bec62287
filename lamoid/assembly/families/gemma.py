"""What Gemma 2 and 3 have in common: unit-offset norms before and behind each part, sliding layers, soft caps."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from lamoid.assembly.attention import AttentionSpec, CapSpec, FixedScaleSpec, NoCapSpec, SoftCapSpec
from lamoid.assembly.block import SandwichSpec
from lamoid.assembly.embedding import EmbeddingSpec
from lamoid.assembly.families.decoder import (
    DECODER_TABLE,
    Trunk,
    attentions,
    biased,
    decoder_sizes,
    read_trunk,
    write_trunk,
)
from lamoid.assembly.families.family import Architecture, Rename
from lamoid.assembly.families.fields import Fields
from lamoid.assembly.families.sizes import Sizes
from lamoid.assembly.families.task_words import sole_head
from lamoid.assembly.families.windows import read_reaches, write_reaches
from lamoid.assembly.heads import NextTokenSpec
from lamoid.assembly.norm import RMSNormSpec
from lamoid.assembly.position import RotarySpec
from lamoid.assembly.sight import ReachSpec
from lamoid.assembly.spec import ModelSpec

ACTIVATION, SCALAR, WINDOW = "gelu_pytorch_tanh", 256, 4096


def read_gemma(fields: Fields, rotary: tuple[RotarySpec, int]) -> Trunk:
    """Read the trunk; its mixer is that of a layer that sees everything."""
    fields.only("hidden_act", fields.take("hidden_activation", ACTIVATION))  # an older word, which means nothing
    fields.only("use_bidirectional_attention", False)
    trunk = read_trunk(fields, kv_heads=4, head_width=256, rotary=rotary, activation=("hidden_activation", ACTIVATION))
    norm, bias = RMSNormSpec(trunk.norm.epsilon, unit_offset=True), fields.flag("attention_bias", False)
    scale = FixedScaleSpec(fields.whole("query_pre_attn_scalar", SCALAR) ** -0.5)
    mixer = biased(msgspec.structs.replace(trunk.mixer, scale=scale), inner=bias, output=bias)
    return replace(trunk, mixer=mixer, norm=norm)


def read_layers(fields: Fields, layers: int, period: int) -> list[ReachSpec]:
    """Give how far each layer sees: where layer_types is absent, all but every ``period``-th slide."""
    usual = [(layer + 1) % period != 0 for layer in range(layers)]
    return read_reaches(fields, fields.whole_or_none("sliding_window", WINDOW), usual)


def read_cap(fields: Fields, name: str, usual: float | None) -> CapSpec:
    """Read a soft cap: null means none, which may not be what holds where the field is absent."""
    limit = fields.number_or_none(name, usual)
    return NoCapSpec() if limit is None else SoftCapSpec(limit)


def put_together(
    trunk: Trunk, fields: Fields, architecture: Architecture, mixers: Sequence[AttentionSpec], cap: CapSpec
) -> ModelSpec:
    """Put a model together; ``cap`` is for the logits of its head over the vocabulary, if it has one."""
    spec = trunk.spec(fields, architecture, mixers, order=SandwichSpec(trunk.norm, trunk.norm))
    heads = {
        name: msgspec.structs.replace(head, cap=cap) if isinstance(head, NextTokenSpec) else head
        for name, head in spec.heads.items()
    }
    return msgspec.structs.replace(spec, embedding=EmbeddingSpec(multiplier=trunk.width**0.5), heads=heads)


def write_gemma(spec: ModelSpec) -> dict[str, Any] | None:
    """Write the fields of both, or give ``None`` where the spec is of another build."""
    words, mixers, head = write_trunk(spec), attentions(spec), sole_head(spec, NextTokenSpec)
    if words is None:
        return None
    activation, reaches = words.pop("hidden_act"), write_reaches(mixers)
    return {
        **words,
        "hidden_activation": ACTIVATION if activation == "gelu_new" else activation,
        "attention_bias": mixers[0].query.bias,
        "query_pre_attn_scalar": _scalar(mixers[0]),
        "layer_types": reaches["layer_types"],
        "sliding_window": reaches["sliding_window"] or WINDOW,  # transformers wants one even where nothing slides
        "attn_logit_softcapping": _limit(mixers[0].cap),
        "final_logit_softcapping": None if head is None else _limit(head.cap),
    }


def gemma_sizes(sizes: Sizes, vocab: int) -> dict[str, Any]:
    """Write a few numbers as a configuration; scores are divided by the root of the head's width."""
    words = decoder_sizes(sizes, vocab)
    return {**words, "query_pre_attn_scalar": words["head_dim"], "rms_norm_eps": 1e-6}


def _limit(cap: CapSpec) -> float | None:
    return cap.limit if isinstance(cap, SoftCapSpec) else None


def _scalar(mixer: AttentionSpec) -> int:
    """Give the number whose root divides the scores; what is no whole number does not read back as the same."""
    value = mixer.scale.value if isinstance(mixer.scale, FixedScaleSpec) else 1.0
    return round(value**-2) if value > 1e-6 else 1


GEMMA_TABLE = (
    Rename(("blocks.{}.after_mixer",), "model.layers.{}.post_attention_layernorm"),
    Rename(("blocks.{}.norm_feedforward",), "model.layers.{}.pre_feedforward_layernorm"),
    Rename(("blocks.{}.after_feedforward",), "model.layers.{}.post_feedforward_layernorm"),
    *DECODER_TABLE,
)
