"""Rotary positions in Hugging Face's words: rope_theta and rope_scaling (transformers 4), rope_parameters (5)."""

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

from lamoid.assembly.families.fields import Fields
from lamoid.assembly.families.windows import FULL, SLIDING
from lamoid.assembly.position import (
    DynamicScalingSpec,
    LinearScalingSpec,
    Llama3ScalingSpec,
    LongRopeScalingSpec,
    NoScalingSpec,
    RotarySpec,
    ScalingSpec,
    YarnScalingSpec,
)


def read_rotary(
    fields: Fields,
    *,
    base: float = 10000.0,
    context: int = 2048,
    portion: float | None = None,
    original: int | None = None,
    kinds: "Mapping[str, ScalingReader] | None" = None,
    words: tuple[str, str] = ("rope_theta", "partial_rotary_factor"),
) -> tuple[RotarySpec, int]:
    """Give the rotary spec and the context in tokens; a dynamic scaling's context is the stretched one.

    ``base``, ``context``, ``portion`` and ``original`` (the context before scaling) are what the family assumes where
    its configuration says nothing; a family with no ``portion`` turns whole heads. ``kinds`` are the scalings it has,
    ``words`` what it calls base and portion, beside what most do.
    """
    context = fields.whole("max_position_embeddings", context)
    fields.only("rope_interleaved", False)
    old, new = fields.part("rope_scaling"), fields.part("rope_parameters")
    part = old if old.config else new
    base = part.number("rope_theta", _either(fields, words[0], "rope_theta", base))
    if old.config and new.config and dict(new.config) != {**old.config, "rope_theta": base}:
        fields.refuse("rope_parameters", dict(new.config), "the same as rope_scaling, or only one of the two")
    if portion is None:
        part.only("partial_rotary_factor", 1.0)
        fields.only("partial_rotary_factor", 1.0)
    else:
        portion = part.number("partial_rotary_factor", _either(fields, words[1], "partial_rotary_factor", portion))
    if fields.take("original_max_position_embeddings", original) is not None:
        original = fields.whole("original_max_position_embeddings", original)
        part.only("original_max_position_embeddings", original)
    return read_turns(part, base, portion or 1.0, context, original or context, kinds or SCALINGS)


def read_turns(
    part: Fields,
    base: float,
    portion: float,
    context: int,
    original: int,
    kinds: "Mapping[str, ScalingReader]",
) -> tuple[RotarySpec, int]:
    """Read the scaling in ``part``, down to its last field; give the rotary spec and the context."""
    kind = part.take("rope_type", part.take("type", "default"))
    reader = kinds.get(kind) if isinstance(kind, str) else None
    if reader is None:
        part.refuse("rope_type", kind, "one of " + ", ".join(kinds))
    other = part.take("type", kind)
    if not isinstance(other, str) or kinds.get(other) is not reader:
        part.refuse("type", other, f"the same as rope_type {kind!r}")
    scaling = reader(part, context, original)
    part.finish()
    if isinstance(scaling, DynamicScalingSpec):
        context = int(context * scaling.factor)
    return RotarySpec(base, scaling, portion), context


def read_layered(fields: Fields, base: float, local: float, context: int) -> tuple[RotarySpec, RotarySpec, int]:
    """Read how layers that see everything turn, how sliding ones do, and the context; ``local`` is the latter's base.

    transformers 4 scales the former only; 5 has an object for each in rope_parameters.
    """
    context = fields.whole("max_position_embeddings", context)
    old, new = fields.part("rope_scaling"), fields.part("rope_parameters")
    if old.config and new.config:
        fields.refuse("rope_parameters", dict(new.config), "nothing beside rope_scaling")
    far, near = old if old.config else new.part(FULL), new.part(SLIDING)
    new.seen |= {FULL, SLIDING}
    new.finish()
    base = far.number("rope_theta", fields.number("rope_theta", base))
    local = near.number("rope_theta", fields.number("rope_local_base_freq", local))
    kinds = {name: reader for name, reader in SCALINGS.items() if name != "longrope"}
    turns, stretched = read_turns(far, base, 1.0, context, context, kinds)
    return turns, read_turns(near, local, 1.0, context, context, kinds)[0], stretched


def write_layered(far: RotarySpec, near: RotarySpec, context: int) -> dict[str, Any]:
    """Write both; where sliding layers are scaled too, only the words of transformers 5 can say so."""
    words = write_rotary(far, context)
    if isinstance(near.scaling, NoScalingSpec):
        return {**words, "rope_local_base_freq": near.base}
    parts = {
        name: {"rope_type": "default", **(write_scaling(part.scaling, context) or {}), "rope_theta": part.base}
        for name, part in ((FULL, far), (SLIDING, near))
    }
    return {"max_position_embeddings": words["max_position_embeddings"], "rope_parameters": parts}


def write_rotary(spec: RotarySpec, context: int) -> dict[str, Any]:
    """Give max_position_embeddings, rope_theta and rope_scaling, which transformers 4 and 5 both read.

    Beside them stand partial_rotary_factor and original_max_position_embeddings where the spec needs them.
    """
    scaling, words = spec.scaling, write_scaling(spec.scaling, context)
    beside: dict[str, Any] = {} if spec.portion == 1.0 else {"partial_rotary_factor": spec.portion}
    if isinstance(scaling, DynamicScalingSpec):
        context = scaling.original_context
    elif isinstance(scaling, LongRopeScalingSpec):
        beside["original_max_position_embeddings"] = scaling.original_context
    return {"max_position_embeddings": context, "rope_theta": spec.base, "rope_scaling": words, **beside}


def write_scaling(scaling: ScalingSpec, context: int) -> dict[str, Any] | None:
    """Give rope_scaling, ``None`` where the angles are as they are."""
    if isinstance(scaling, LinearScalingSpec | DynamicScalingSpec):
        kind = "linear" if isinstance(scaling, LinearScalingSpec) else "dynamic"
        return {"rope_type": kind, "factor": scaling.factor}
    if isinstance(scaling, Llama3ScalingSpec):
        return {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_frequency_factor,
            "high_freq_factor": scaling.high_frequency_factor,
            "original_max_position_embeddings": scaling.original_context,
        }
    if isinstance(scaling, YarnScalingSpec):
        return {
            "rope_type": "yarn",
            "factor": scaling.factor,
            "attention_factor": scaling.attention_factor,
            "beta_fast": scaling.beta_fast,
            "beta_slow": scaling.beta_slow,
            "truncate": scaling.truncate,
            "original_max_position_embeddings": scaling.original_context,
        }
    if isinstance(scaling, LongRopeScalingSpec):
        # Under these three names alone transformers 4 takes it; what it computes itself is left out.
        words = {"type": "longrope", "short_factor": list(scaling.short), "long_factor": list(scaling.long)}
        is_usual = scaling.attention_factor == _strength(context / scaling.original_context, scaling.original_context)
        return words if is_usual else {**words, "attention_factor": scaling.attention_factor}
    return None


def _either(fields: Fields, name: str, other: str, usual: float) -> float:
    """Read a number that goes by two names; where both are there, they must say the same."""
    value = fields.number(name, fields.number(other, usual))
    if fields.number(other, value) != value:
        fields.refuse(other, fields.take(other), f"{value}, which is {name}")
    return value


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


def _longrope(part: Fields, context: int, original: int) -> ScalingSpec:
    original = part.whole("original_max_position_embeddings", original)
    factor = part.number("factor", context / original)
    if factor > 1 and original < 2:
        part.refuse("original_max_position_embeddings", original, "at least 2")
    return LongRopeScalingSpec(
        short=_factors(part, "short_factor"),
        long=_factors(part, "long_factor"),
        original_context=original,
        attention_factor=part.number("attention_factor", _strength(factor, original)),
    )


def _factors(part: Fields, name: str) -> tuple[float, ...]:
    value = part.take(name)
    is_list = isinstance(value, list) and all(type(factor) in (int, float) for factor in value)
    if not is_list or not all(0 < factor <= sys.float_info.max for factor in value):
        part.refuse(name, value, "a list of finite numbers above 0")
    return tuple(float(factor) for factor in value)


def _strength(factor: float, original: int) -> float:
    """Give LongRoPE's attention factor, the scaling of equation 3 of the paper as Phi-3 has it."""
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))


def _temperature(factor: float, strength: float) -> float:
    """Give YaRN's attention temperature, equation 22 of the paper."""
    return 1.0 if factor <= 1 else 0.1 * strength * math.log(factor) + 1.0


ScalingReader = Callable[[Fields, int, int], ScalingSpec]
SCALINGS: dict[str, ScalingReader] = {
    "default": _none,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}
