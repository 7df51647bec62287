"""Which families llama.cpp runs with the same arithmetic, and what its files call their parts.

Source: conversion/*.py and src/models/*.cpp of https://github.com/ggml-org/llama.cpp (read at llama-cpp-python 0.3.36).
"""

from dataclasses import dataclass

from lamoid.assembly.position import (
    LinearScalingSpec,
    Llama3ScalingSpec,
    LongRopeScalingSpec,
    NoScalingSpec,
    ScalingSpec,
    YarnScalingSpec,
)


@dataclass(frozen=True)
class Arch:
    """One of llama.cpp's graphs.

    ``table`` names the parts by lamoid's names, block numbers left open; parts of one name are joined along their rows,
    a name that ends with ``_exps`` has one matrix an expert. Queries and keys are ``paired`` where the graph turns
    neighbouring dimensions and not the two halves. Only parts in ``biased`` may have a bias. Heads of a graph that
    ``fills`` have the width between them; one that needs its own ``output`` has no tied head.
    """

    name: str
    table: dict[str, str]
    scalings: tuple[type[ScalingSpec], ...]
    paired: bool = False
    biased: frozenset[str] = frozenset()
    fills: bool = False
    needs_output: bool = False
    says_vocab: bool = False


_COMMON = {
    "embedding.tokens": "token_embd",
    "norm": "output_norm",
    "heads.next_token.linear": "output",
    "blocks.{}.norm_mixer": "blk.{}.attn_norm",
    "blocks.{}.mixer.query": "blk.{}.attn_q",
    "blocks.{}.mixer.key": "blk.{}.attn_k",
    "blocks.{}.mixer.value": "blk.{}.attn_v",
    "blocks.{}.mixer.output": "blk.{}.attn_output",
    "blocks.{}.mixer.query_norm": "blk.{}.attn_q_norm",
    "blocks.{}.mixer.key_norm": "blk.{}.attn_k_norm",
    "blocks.{}.norm_feedforward": "blk.{}.ffn_norm",
    "blocks.{}.feedforward.gate": "blk.{}.ffn_gate",
    "blocks.{}.feedforward.up": "blk.{}.ffn_up",
    "blocks.{}.feedforward.down": "blk.{}.ffn_down",
}
_EXPERTS = {
    "blocks.{}.feedforward.router": "blk.{}.ffn_gate_inp",
    "blocks.{}.feedforward.experts.{}.gate": "blk.{}.ffn_gate_exps",
    "blocks.{}.feedforward.experts.{}.up": "blk.{}.ffn_up_exps",
    "blocks.{}.feedforward.experts.{}.down": "blk.{}.ffn_down_exps",
}
_OUTPUT_NORMS = {
    "blocks.{}.norm_mixer": "blk.{}.post_attention_norm",
    "blocks.{}.norm_feedforward": "blk.{}.post_ffw_norm",
}
_FUSED = {
    **dict.fromkeys((f"blocks.{{}}.mixer.{part}" for part in ("query", "key", "value")), "blk.{}.attn_qkv"),
    **dict.fromkeys((f"blocks.{{}}.feedforward.{part}" for part in ("gate", "up")), "blk.{}.ffn_up"),
}
_INNER = frozenset(f"blocks.{{}}.mixer.{part}" for part in ("query", "key", "value"))
_ALL = _INNER | {"blocks.{}.mixer.output"} | {f"blocks.{{}}.feedforward.{part}" for part in ("gate", "up", "down")}
_PLAIN = (NoScalingSpec, LinearScalingSpec, YarnScalingSpec)
_LLAMA = Arch("llama", _COMMON, (*_PLAIN, Llama3ScalingSpec), paired=True, biased=_ALL, says_vocab=True)

ARCHES = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": Arch("llama", {**_COMMON, **_EXPERTS}, _LLAMA.scalings, paired=True, says_vocab=True),
    "qwen2": Arch("qwen2", _COMMON, _PLAIN, biased=_INNER, fills=True),
    "qwen3": Arch("qwen3", _COMMON, _PLAIN, biased=_INNER),
    "smollm3": Arch("smollm3", _COMMON, _PLAIN, paired=True, biased=_INNER, says_vocab=True),
    "olmo2": Arch("olmo2", {**_COMMON, **_OUTPUT_NORMS}, _PLAIN, fills=True, needs_output=True),
    "phi3": Arch("phi3", {**_COMMON, **_FUSED}, (NoScalingSpec, LongRopeScalingSpec), fills=True),
}
"""By the family's model_type; a family that is not here has another graph in llama.cpp, or none."""
