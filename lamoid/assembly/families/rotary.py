"""Rotary positions in Hugging Face's words: rope_theta and rope_scaling (transformers 4), rope_parameters (5)."""

import math
from typing import Any

from lamoid.assembly.families.family import Fields
from lamoid.assembly.position import (
    DynamicScalingSpec,
    LinearScalingSpec,
    Llama3ScalingSpec,
    NoScalingSpec,
    RotarySpec,
    ScalingSpec,
    YarnScalingSpec,
)


def read_rotary(fields: Fields) -> tuple[RotarySpec, int]:
    """Give the rotary spec and the context in tokens; a dynamic scaling's context is the stretched one."""
    context = fields.whole("max_position_embeddings", 2048)
    fields.only("rope_interleaved", False)
    old, new = fields.part("rope_scaling"), fields.part("rope_parameters")
    part = old if old.config else new
    base = part.number("rope_theta", fields.number("rope_theta", 10000.0))
    if old.config and new.config and dict(new.config) != {**old.config, "rope_theta": base}:
        fields.refuse("rope_parameters", dict(new.config), "the same as rope_scaling, or only one of the two")
    kind = part.take("rope_type", part.take("type", "default"))
    if part.take("type", kind) != kind:
        part.refuse("type", part.take("type"), f"the same as rope_type {kind!r}")
    reader = SCALINGS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        part.refuse("rope_type", kind, "one of " + ", ".join(SCALINGS))
    part.only("partial_rotary_factor", 1.0)
    fields.only("partial_rotary_factor", 1.0)
    scaling = reader(part, context, fields.whole("original_max_position_embeddings", context))
    part.finish()
    if isinstance(scaling, DynamicScalingSpec):
        context = int(context * scaling.factor)
    return RotarySpec(base, scaling), context


def write_rotary(spec: RotarySpec, context: int) -> dict[str, Any]:
    """Give max_position_embeddings, rope_theta and rope_scaling, which transformers 4 and 5 both read."""
    scaling = spec.scaling
    words: dict[str, Any] | None = None
    if isinstance(scaling, LinearScalingSpec):
        words = {"rope_type": "linear", "factor": scaling.factor}
    elif isinstance(scaling, DynamicScalingSpec):
        words, context = {"rope_type": "dynamic", "factor": scaling.factor}, scaling.original_context
    elif isinstance(scaling, Llama3ScalingSpec):
        words = {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_frequency_factor,
            "high_freq_factor": scaling.high_frequency_factor,
            "original_max_position_embeddings": scaling.original_context,
        }
    elif isinstance(scaling, YarnScalingSpec):
        words = {
            "rope_type": "yarn",
            "factor": scaling.factor,
            "attention_factor": scaling.attention_factor,
            "beta_fast": scaling.beta_fast,
            "beta_slow": scaling.beta_slow,
            "truncate": scaling.truncate,
            "original_max_position_embeddings": scaling.original_context,
        }
    return {"max_position_embeddings": context, "rope_theta": spec.base, "rope_scaling": words}


def _none(part: Fields, context: int, original: int) -> ScalingSpec:
    part.take("factor")
    return NoScalingSpec()


def _linear(part: Fields, context: int, original: int) -> ScalingSpec:
    return LinearScalingSpec(part.number("factor"))


def _dynamic(part: Fields, context: int, original: int) -> ScalingSpec:
    return DynamicScalingSpec(part.number("factor"), context)


def _llama3(part: Fields, context: int, original: int) -> ScalingSpec:
    return Llama3ScalingSpec(
        factor=part.number("factor"),
        low_frequency_factor=part.number("low_freq_factor"),
        high_frequency_factor=part.number("high_freq_factor"),
        original_context=part.whole("original_max_position_embeddings", original),
    )


def _yarn(part: Fields, context: int, original: int) -> ScalingSpec:
    original = part.whole("original_max_position_embeddings", original)
    factor = part.number("factor", context / original)
    strength = [part.take("mscale"), part.take("mscale_all_dim")]
    if all(strength):
        default = _temperature(factor, part.number("mscale")) / _temperature(factor, part.number("mscale_all_dim"))
    else:
        default = _temperature(factor, 1.0)
    return YarnScalingSpec(
        factor=factor,
        original_context=original,
        attention_factor=part.number("attention_factor", default),
        beta_fast=part.number("beta_fast", 32.0),
        beta_slow=part.number("beta_slow", 1.0),
        truncate=part.flag("truncate", True),
    )


def _temperature(factor: float, strength: float) -> float:
    """Give YaRN's attention temperature, equation 22 of the paper."""
    return 1.0 if factor <= 1 else 0.1 * strength * math.log(factor) + 1.0


SCALINGS = {"default": _none, "linear": _linear, "dynamic": _dynamic, "llama3": _llama3, "yarn": _yarn}
