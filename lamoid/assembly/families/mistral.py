"""Mistral (Jiang et al., 2023): LLaMA whose layers all see a sliding window."""

from typing import Any

import msgspec

from lamoid.assembly.families.decoder import (
    DECODER_TABLE,
    ROTARY_BUFFERS,
    attentions,
    decoder_architectures,
    decoder_sizes,
    read_trunk,
    write_trunk,
)
from lamoid.assembly.families.family import Architecture, Family
from lamoid.assembly.families.fields import Fields
from lamoid.assembly.families.windows import reaching, window_of
from lamoid.assembly.spec import ModelSpec


def read(fields: Fields, architecture: Architecture) -> ModelSpec:
    """Read a configuration; where sliding_window is absent it is 4096, where it is null there is none."""
    trunk = read_trunk(fields, kv_heads=8)
    window = fields.whole_or_none("sliding_window", 4096)
    mixer = msgspec.structs.replace(trunk.mixer, reach=reaching(window))
    return trunk.spec(fields, architecture, [mixer] * trunk.layers)


def config(spec: ModelSpec) -> dict[str, Any] | None:
    """Write the configuration of a spec that is a Mistral's."""
    words = write_trunk(spec)
    return None if words is None else {**words, "sliding_window": window_of(attentions(spec)[0])}


MISTRAL = Family(
    model_type="mistral",
    architectures=decoder_architectures("Mistral", answering="model."),
    reader=read,
    config=config,
    table=DECODER_TABLE,
    prefix="model.",
    sizes=decoder_sizes,
    ignored=ROTARY_BUFFERS,
)
