"""LLaMA (Touvron et al., 2023): RMSNorm, rotary positions, grouped heads, gated feed-forward."""

from typing import Any

from lamoid.assembly.families.decoder import (
    DECODER_TABLE,
    ROTARY_BUFFERS,
    attentions,
    biased,
    decoder_architectures,
    decoder_sizes,
    feedforward_bias,
    read_trunk,
    write_trunk,
)
from lamoid.assembly.families.family import Architecture, Family
from lamoid.assembly.families.fields import Fields
from lamoid.assembly.spec import ModelSpec


def read(fields: Fields, architecture: Architecture) -> ModelSpec:
    """Read a configuration of transformers 4 or 5."""
    trunk = read_trunk(fields, bias=fields.flag("mlp_bias", False))
    bias = fields.flag("attention_bias", False)
    return trunk.spec(fields, architecture, [biased(trunk.mixer, inner=bias, output=bias)] * trunk.layers)


def config(spec: ModelSpec) -> dict[str, Any] | None:
    """Write the configuration of a spec that is a LLaMA's."""
    words = write_trunk(spec)
    if words is None:
        return None
    return {**words, "attention_bias": attentions(spec)[0].query.bias, "mlp_bias": feedforward_bias(spec)}


LLAMA = Family(
    model_type="llama",
    architectures=decoder_architectures("Llama"),
    reader=read,
    config=config,
    table=DECODER_TABLE,
    prefix="model.",
    sizes=decoder_sizes,
    ignored=ROTARY_BUFFERS,
)
