"""OLMo 2 (2024): norms on the output of each part, and over all queries and all keys at once."""

from typing import Any

import msgspec

from lamoid.assembly.attention import FullNormSpec
from lamoid.assembly.block import OutputSpec
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
from lamoid.assembly.families.family import Architecture, Family, Rename
from lamoid.assembly.families.fields import Fields
from lamoid.assembly.spec import ModelSpec


def read(fields: Fields, architecture: Architecture) -> ModelSpec:
    """Read an OLMo 2 configuration."""
    trunk, bias = read_trunk(fields, epsilon=1e-5), fields.flag("attention_bias", False)
    mixer = msgspec.structs.replace(trunk.mixer, query_key_norm=FullNormSpec(trunk.norm))
    mixers = [biased(mixer, inner=bias, output=bias)] * trunk.layers
    return trunk.spec(fields, architecture, mixers, order=OutputSpec())


def config(spec: ModelSpec) -> dict[str, Any] | None:
    """Write an OLMo 2 configuration, or give ``None`` where the spec is of another build."""
    words = write_trunk(spec)
    return None if words is None else {**words, "attention_bias": attentions(spec)[0].query.bias}


TABLE = (
    Rename(("blocks.{}.norm_mixer",), "model.layers.{}.post_attention_layernorm"),
    Rename(("blocks.{}.norm_feedforward",), "model.layers.{}.post_feedforward_layernorm"),
    *DECODER_TABLE,
)
OLMO2 = Family(
    model_type="olmo2",
    architectures=decoder_architectures("Olmo2")[:2],
    reader=read,
    config=config,
    table=TABLE,
    prefix="model.",
    sizes=decoder_sizes,
    ignored=ROTARY_BUFFERS,
)
