"""Mixtral (Jiang et al., 2024): each token is read by two of eight gated feed-forwards."""

from typing import Any

import msgspec

from lamoid.assembly.block import BlockSpec
from lamoid.assembly.experts import ExpertsSpec
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
from lamoid.assembly.families.rotary import read_rotary
from lamoid.assembly.families.windows import reaching, window_of
from lamoid.assembly.spec import ModelSpec


def read(fields: Fields, architecture: Architecture) -> ModelSpec:
    """Read a Mixtral configuration; the weight of the balancing term is kept, the noise of routing is not supported."""
    rotary = read_rotary(fields, base=1e6, context=131072)
    trunk = read_trunk(fields, kv_heads=8, rotary=rotary, epsilon=1e-5)
    fields.only("router_jitter_noise", 0.0)
    fields.flag("output_router_logits", False)
    balance = fields.given("router_aux_loss_coef", 0.001)
    experts = ExpertsSpec(
        (trunk.feedforward,) * fields.whole("num_local_experts", 8, high=4096),
        chosen=fields.whole("num_experts_per_tok", 2),
        balance=0.0 if balance == 0 else fields.number("router_aux_loss_coef", 0.001),
    )
    mixer = msgspec.structs.replace(trunk.mixer, reach=reaching(fields.whole_or_none("sliding_window")))
    return trunk.spec(fields, architecture, [mixer] * trunk.layers, experts=experts)


def config(spec: ModelSpec) -> dict[str, Any] | None:
    """Write a Mixtral configuration, or give ``None`` where the spec is of another build."""
    block = spec.blocks[0]
    if not isinstance(block, BlockSpec) or not isinstance(block.feedforward, ExpertsSpec):
        return None
    experts = block.feedforward
    dense = msgspec.structs.replace(block, feedforward=experts.experts[0])
    words = write_trunk(msgspec.structs.replace(spec, blocks=(dense, *spec.blocks[1:])))
    if words is None:
        return None
    return {
        **words,
        "num_local_experts": len(experts.experts),
        "num_experts_per_tok": experts.chosen,
        "router_aux_loss_coef": experts.balance,
        "sliding_window": window_of(attentions(spec)[0]),
    }


INSIDE = "model.layers.{}.block_sparse_moe."
TABLE = (
    Rename(("blocks.{}.feedforward.router",), INSIDE + "gate"),
    Rename(("blocks.{}.feedforward.experts.{}.gate",), INSIDE + "experts.{}.w1"),
    Rename(("blocks.{}.feedforward.experts.{}.down",), INSIDE + "experts.{}.w2"),
    Rename(("blocks.{}.feedforward.experts.{}.up",), INSIDE + "experts.{}.w3"),
    *DECODER_TABLE,
)
ARCHITECTURES = decoder_architectures("Mixtral", answering="model.")
MIXTRAL = Family("mixtral", ARCHITECTURES, read, config, TABLE, "model.", decoder_sizes, ROTARY_BUFFERS)
