"""SmolLM3 (Hugging Face, 2025): LLaMA whose every fourth layer knows no positions."""

from typing import Any

import msgspec

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
from lamoid.assembly.families.windows import read_reaches, read_window, write_reaches
from lamoid.assembly.position import NoPositionSpec, RotarySpec
from lamoid.assembly.spec import ModelSpec


def read(fields: Fields, architecture: Architecture) -> ModelSpec:
    """Read a configuration; in no_rope_layers 1 stands for a layer that is turned, 0 for one that is not."""
    trunk = read_trunk(fields, kv_heads=4, base=2e6, bias=fields.flag("mlp_bias", False))
    bias = fields.flag("attention_bias", False)
    mixer = biased(trunk.mixer, inner=bias, output=bias)
    interval = fields.whole("no_rope_layer_interval", 4)
    turned = fields.several("no_rope_layers", trunk.layers, (0, 1))
    if turned is None:
        turned = [(layer + 1) % interval != 0 for layer in range(trunk.layers)]
    reaches = read_reaches(fields, read_window(fields, None), [not layer for layer in turned])
    positions = [mixer.position if layer else NoPositionSpec() for layer in turned]
    mixers = [
        msgspec.structs.replace(mixer, position=position, reach=reach)
        for position, reach in zip(positions, reaches, strict=True)
    ]
    return trunk.spec(fields, architecture, mixers)


def config(spec: ModelSpec) -> dict[str, Any] | None:
    """Write the configuration of a spec that is a SmolLM3's."""
    words = write_trunk(spec)
    if words is None:
        return None
    mixers = attentions(spec)
    return {
        **words,
        "attention_bias": mixers[0].query.bias,
        "mlp_bias": feedforward_bias(spec),
        "no_rope_layers": [int(isinstance(mixer.position, RotarySpec)) for mixer in mixers],
        **write_reaches(mixers),
    }


SMOLLM3 = Family(
    model_type="smollm3",
    architectures=decoder_architectures("SmolLM3", tied=True),
    reader=read,
    config=config,
    table=DECODER_TABLE,
    prefix="model.",
    sizes=decoder_sizes,
    ignored=ROTARY_BUFFERS,
)
