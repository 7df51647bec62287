"""Gemma 3 (2025), its text model: five layers of six slide and turn by a base of their own; queries are normalised."""

from typing import Any

import msgspec

from lamoid.assembly.attention import HeadNormSpec
from lamoid.assembly.families.decoder import ROTARY_BUFFERS, attentions, decoder_architectures
from lamoid.assembly.families.family import Architecture, Family
from lamoid.assembly.families.fields import Fields
from lamoid.assembly.families.gemma import (
    GEMMA_TABLE,
    gemma_sizes,
    put_together,
    read_cap,
    read_gemma,
    read_layers,
    write_gemma,
)
from lamoid.assembly.families.rotary import read_layered, write_layered
from lamoid.assembly.position import RotarySpec
from lamoid.assembly.sight import EverywhereSpec
from lamoid.assembly.spec import ModelSpec


def read(fields: Fields, architecture: Architecture) -> ModelSpec:
    """Read a Gemma 3 text configuration; transformers knows attn_logit_softcapping too, but caps no scores."""
    far, near, context = read_layered(fields, FAR.base, NEAR.base, 131072)
    trunk = read_gemma(fields, (far, context))
    if fields.take("attn_logit_softcapping") is not None:
        fields.refuse("attn_logit_softcapping", fields.take("attn_logit_softcapping"), "null, all that is supported")
    period = fields.whole("sliding_window_pattern", fields.whole("_sliding_window_pattern", 6))
    norm = HeadNormSpec(trunk.norm)
    mixers = [
        msgspec.structs.replace(
            trunk.mixer, query_key_norm=norm, reach=reach, position=far if isinstance(reach, EverywhereSpec) else near
        )
        for reach in read_layers(fields, trunk.layers, period)
    ]
    return put_together(trunk, fields, architecture, mixers, read_cap(fields, "final_logit_softcapping", None))


def config(spec: ModelSpec) -> dict[str, Any] | None:
    """Write a Gemma 3 text configuration, or give ``None`` where the spec is of another build."""
    words, far, near = write_gemma(spec), FAR, NEAR
    if words is None:
        return None
    for mixer in attentions(spec):
        if isinstance(mixer.position, RotarySpec):
            is_far = isinstance(mixer.reach, EverywhereSpec)
            far, near = (mixer.position, near) if is_far else (far, mixer.position)
    kept = {name: value for name, value in words.items() if name not in ("rope_theta", "rope_scaling")}
    return {**kept, **write_layered(far, near, spec.context)}


FAR, NEAR = RotarySpec(1e6), RotarySpec(1e4)
GEMMA3 = Family(
    model_type="gemma3_text",
    architectures=(decoder_architectures("Gemma3", tied=True)[0], decoder_architectures("Gemma3Text")[1]),
    reader=read,
    config=config,
    table=GEMMA_TABLE,
    prefix="model.",
    sizes=gemma_sizes,
    ignored=ROTARY_BUFFERS,
)
