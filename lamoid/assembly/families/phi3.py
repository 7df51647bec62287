"""Phi-3 (2024): LLaMA with fused projections, longrope, heads turned in part and a window for every layer."""

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
from lamoid.assembly.families.family import Architecture, Family, Rename
from lamoid.assembly.families.fields import Fields
from lamoid.assembly.families.rotary import SCALINGS, read_rotary
from lamoid.assembly.families.windows import reaching, window_of
from lamoid.assembly.spec import ModelSpec


def read(fields: Fields, architecture: Architecture) -> ModelSpec:
    """Read a Phi-3 or Phi-4-mini configuration."""
    rotary = read_rotary(fields, context=4096, portion=1.0, original=4096, kinds=KINDS)
    trunk = read_trunk(fields, rotary=rotary, epsilon=1e-5)
    for name in ("attention_bias", "mlp_bias", "lm_head_bias"):
        fields.only(name, False)
    for name in ("full_attn_mod", "interpolate_factor"):
        fields.only(name, 1)
    mixer = msgspec.structs.replace(trunk.mixer, reach=reaching(fields.whole_or_none("sliding_window")))
    return trunk.spec(fields, architecture, [mixer] * trunk.layers)


def config(spec: ModelSpec) -> dict[str, Any] | None:
    """Write a Phi-3 configuration, or give ``None`` where the spec is of another build."""
    words = write_trunk(spec)
    if words is None:
        return None
    return {**words, "sliding_window": window_of(attentions(spec)[0])}


# "su" and "yarn" are what the first releases called longrope.
KINDS = {"default": SCALINGS["default"], **dict.fromkeys(("longrope", "su", "yarn"), SCALINGS["longrope"])}
FUSED = ("query", "key", "value", "gate", "up")
TABLE = (
    Rename(
        ("blocks.{}.mixer.query", "blocks.{}.mixer.key", "blocks.{}.mixer.value"),
        "model.layers.{}.self_attn.qkv_proj",
    ),
    Rename(("blocks.{}.feedforward.gate", "blocks.{}.feedforward.up"), "model.layers.{}.mlp.gate_up_proj"),
    *(row for row in DECODER_TABLE if row.ours[0].rpartition(".")[2] not in FUSED),
)
PHI3 = Family(
    model_type="phi3",
    architectures=decoder_architectures("Phi3")[:3],
    reader=read,
    config=config,
    table=TABLE,
    prefix="model.",
    sizes=decoder_sizes,
    ignored=ROTARY_BUFFERS,
)
