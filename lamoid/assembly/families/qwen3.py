"""Qwen3 (Yang et al., 2025): Qwen2 with queries and keys normalised head by head instead of biases."""

from typing import Any

import msgspec

from lamoid.assembly.attention import HeadNormSpec
from lamoid.assembly.families.decoder import (
    DECODER_TABLE,
    ROTARY_BUFFERS,
    attentions,
    biased,
    decoder_architectures,
    decoder_sizes,
    read_trunk,
    write_trunk,
)
from lamoid.assembly.families.family import Architecture, Family
from lamoid.assembly.families.fields import Fields
from lamoid.assembly.families.windows import read_upper_reaches, write_upper_reaches
from lamoid.assembly.spec import ModelSpec


def read(fields: Fields, architecture: Architecture) -> ModelSpec:
    """Read a configuration; a head is 128 wide where head_dim is absent, whatever the width."""
    trunk = read_trunk(fields, kv_heads=32, head_width=128)
    bias = fields.flag("attention_bias", False)
    mixer = biased(trunk.mixer, inner=bias, output=bias)
    mixer = msgspec.structs.replace(mixer, query_key_norm=HeadNormSpec(trunk.norm))
    reaches = read_upper_reaches(fields, trunk.layers)
    return trunk.spec(fields, architecture, [msgspec.structs.replace(mixer, reach=reach) for reach in reaches])


def config(spec: ModelSpec) -> dict[str, Any] | None:
    """Write the configuration of a spec that is a Qwen3's."""
    words = write_trunk(spec)
    if words is None:
        return None
    mixers = attentions(spec)
    return {**words, "attention_bias": mixers[0].query.bias, **write_upper_reaches(mixers)}


QWEN3 = Family(
    model_type="qwen3",
    architectures=decoder_architectures("Qwen3"),
    reader=read,
    config=config,
    table=DECODER_TABLE,
    prefix="model.",
    sizes=decoder_sizes,
    ignored=ROTARY_BUFFERS,
)
