"""Writes a model's description and vocabulary as the metadata of a GGUF file, in llama.cpp's words.

Source: conversion/base.py of https://github.com/ggml-org/llama.cpp (set_gguf_parameters, _set_vocab_*).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lamoid.assembly.position import (
    LinearScalingSpec,
    Llama3ScalingSpec,
    LongRopeScalingSpec,
    RotarySpec,
    YarnScalingSpec,
    rotated_width,
)
from lamoid.assembly.spec import ModelSpec
from lamoid.text.gguf_vocabulary import Vocabulary
from lamoid.weights.gguf_kinds import TensorKind, Value
from lamoid.weights.gguf_plan import Plan

FILE_TYPES = {"f32": 0, "f16": 1, "q8_0": 7, "bf16": 32}
_QUANTIZATION_VERSION = 2


def describe_model(spec: ModelSpec, plan: Plan, kind: TensorKind, name: str) -> dict[str, Value]:
    """Give the metadata that say what the model is."""
    arch, mixer = plan.arch.name, plan.mixer
    counts = {
        "block_count": len(spec.blocks),
        "context_length": plan.context,
        "embedding_length": spec.width,
        "feed_forward_length": plan.feedforward.hidden,
        "attention.head_count": mixer.heads,
        "attention.head_count_kv": mixer.kv_heads,
        "attention.key_length": mixer.head_width,
        "attention.value_length": mixer.head_width,
    }
    if plan.experts is not None:
        counts |= {"expert_count": len(plan.experts.experts), "expert_used_count": plan.experts.chosen}
    if plan.arch.says_vocab:
        counts["vocab_size"] = spec.vocab
    if plan.arch.says_vocab or arch == "phi3":
        counts["rope.dimension_count"] = rotated_width(plan.rotary, mixer.head_width)
    if arch == "phi3":
        counts["attention.sliding_window"] = 0  # its absence means another Phi to llama.cpp
    own = {key: Value("u32", count) for key, count in counts.items()}
    own["attention.layer_norm_rms_epsilon"] = Value("f32", plan.epsilon)
    own["rope.freq_base"] = Value("f32", plan.rotary.base)
    own |= _scaling(plan)
    return {
        "general.architecture": Value("text", arch),
        "general.type": Value("text", "model"),
        "general.name": Value("text", name),
        "general.size_label": Value("text", _size(spec.parameters())),
        "general.file_type": Value("u32", FILE_TYPES[kind.name]),
        "general.quantization_version": Value("u32", _QUANTIZATION_VERSION),
        **{f"{arch}.{key}": value for key, value in own.items()},
    }


def rope_tensors(plan: Plan) -> dict[str, Tensor]:
    """Give the factors, float32, that llama.cpp divides frequencies by, by the names of their tensors."""
    scaling = plan.rotary.scaling
    if isinstance(scaling, LongRopeScalingSpec):
        return {
            f"rope_factors_{name}.weight": torch.tensor(factors)
            for name, factors in (("long", scaling.long), ("short", scaling.short))
        }
    if isinstance(scaling, Llama3ScalingSpec):
        return {"rope_freqs.weight": _llama3_factors(plan.rotary, scaling, plan.mixer.head_width)}
    return {}


def describe_vocabulary(vocabulary: Vocabulary, ends: Sequence[int]) -> dict[str, Value]:
    """Give the metadata of a tokenizer; ``ends`` are the ids at which the model's texts end, its own first."""
    words = {
        "model": Value("text", vocabulary.model),
        "pre": Value("text", vocabulary.pre),
        "tokens": Value("text", vocabulary.tokens),
        "token_type": Value("i32", vocabulary.types),
    }
    if vocabulary.scores is not None:
        words["scores"] = Value("f32", vocabulary.scores)
    if vocabulary.merges is not None:
        words["merges"] = Value("text", vocabulary.merges)
    others = [end for end in ends if end != vocabulary.end]
    end = vocabulary.end if vocabulary.end is not None else others.pop(0) if others else None
    roles = {"bos": vocabulary.start, "eos": end, "unknown": vocabulary.unknown, "padding": vocabulary.pad}
    roles |= dict(zip(("eot", "eom"), others, strict=False))
    words |= {f"{role}_token_id": Value("u32", number) for role, number in roles.items() if number is not None}
    words["add_bos_token"] = Value("bool", vocabulary.adds_start)
    words["add_eos_token"] = Value("bool", vocabulary.adds_end)
    if vocabulary.adds_space is not None:
        words["add_space_prefix"] = Value("bool", vocabulary.adds_space)
    found = {f"tokenizer.ggml.{key}": value for key, value in words.items()}
    if vocabulary.template is not None:
        found["tokenizer.chat_template"] = Value("text", vocabulary.template)
    return found


def _scaling(plan: Plan) -> dict[str, Value]:
    scaling = plan.rotary.scaling
    if isinstance(scaling, LinearScalingSpec):
        return {"rope.scaling.type": Value("text", "linear"), "rope.scaling.factor": Value("f32", scaling.factor)}
    if isinstance(scaling, YarnScalingSpec):
        # llama.cpp works the usual strength out by itself and multiplies it by attn_factor.
        usual = 0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0
        return {
            "rope.scaling.type": Value("text", "yarn"),
            "rope.scaling.factor": Value("f32", scaling.factor),
            "rope.scaling.original_context_length": Value("u32", scaling.original_context),
            "rope.scaling.attn_factor": Value("f32", scaling.attention_factor / usual),
            "rope.scaling.yarn_beta_fast": Value("f32", scaling.beta_fast),
            "rope.scaling.yarn_beta_slow": Value("f32", scaling.beta_slow),
        }
    if isinstance(scaling, LongRopeScalingSpec):
        return {
            "rope.scaling.original_context_length": Value("u32", scaling.original_context),
            "rope.scaling.attn_factor": Value("f32", scaling.attention_factor),
        }
    if plan.arch.name == "phi3":
        return {"rope.scaling.original_context_length": Value("u32", plan.context)}
    return {}


def _llama3_factors(rotary: RotarySpec, scaling: Llama3ScalingSpec, head_width: int) -> Tensor:
    """Give frequency / scaled frequency: 1 for short wavelengths, the factor for long ones, a ramp between."""
    exponents = torch.arange(0, head_width, 2).float() / head_width
    turns = scaling.original_context / rotary.base**exponents / (2 * math.pi)
    low, high = scaling.low_frequency_factor, scaling.high_frequency_factor
    ramp = ((turns - low) / (high - low)).clamp(0, 1)
    return 1 / ((1 - ramp) / scaling.factor + ramp)


def _size(parameters: int) -> str:
    """Write a number of parameters as names of models have it: 260K, 1.1B."""
    for letter, unit in (("T", 10**12), ("B", 10**9), ("M", 10**6), ("K", 10**3)):
        if parameters >= unit:
            share = parameters / unit
            return f"{share:.1f}{letter}" if share < 9.95 else f"{share:.0f}{letter}"
    return str(parameters)
