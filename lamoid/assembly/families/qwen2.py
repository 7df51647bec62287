"""Qwen2 (Yang et al., 2024): LLaMA with biases on queries, keys and values, and windows in its upper layers."""

from typing import Any

import msgspec

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
    """Read a configuration."""
    trunk = read_trunk(fields, kv_heads=32)
    mixer = biased(trunk.mixer, inner=True, output=False)
    reaches = read_upper_reaches(fields, trunk.layers)
    return trunk.spec(fields, architecture, [msgspec.structs.replace(mixer, reach=reach) for reach in reaches])


def config(spec: ModelSpec) -> dict[str, Any] | None:
    """Write the configuration of a spec that is a Qwen2's."""
    words = write_trunk(spec)
    return None if words is None else {**words, **write_upper_reaches(attentions(spec))}


QWEN2 = Family(
    model_type="qwen2",
    architectures=decoder_architectures("Qwen2"),
    reader=read,
    config=config,
    table=DECODER_TABLE,
    prefix="model.",
    sizes=decoder_sizes,
    ignored=ROTARY_BUFFERS,
)
