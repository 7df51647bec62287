"""Gemma 2 (2024): every other layer slides, and scores and logits are softly capped."""

import msgspec

from lamoid.assembly.families.decoder import ROTARY_BUFFERS, decoder_architectures
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
from lamoid.assembly.families.rotary import read_rotary
from lamoid.assembly.spec import ModelSpec


def read(fields: Fields, architecture: Architecture) -> ModelSpec:
    """Read a Gemma 2 configuration."""
    trunk = read_gemma(fields, read_rotary(fields, context=8192))
    mixer = msgspec.structs.replace(trunk.mixer, cap=read_cap(fields, "attn_logit_softcapping", 50.0))
    mixers = [msgspec.structs.replace(mixer, reach=reach) for reach in read_layers(fields, trunk.layers, 2)]
    return put_together(trunk, fields, architecture, mixers, read_cap(fields, "final_logit_softcapping", 30.0))


GEMMA2 = Family(
    model_type="gemma2",
    architectures=decoder_architectures("Gemma2", tied=True)[:3],
    reader=read,
    config=write_gemma,
    table=GEMMA_TABLE,
    prefix="model.",
    sizes=gemma_sizes,
    ignored=ROTARY_BUFFERS,
)
