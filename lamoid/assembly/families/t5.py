"""T5 1.0 and 1.1 (Raffel et al., 2020): an encoder and a decoder that attends to it, biases by distance, RMSNorm."""

from typing import Any

from lamoid.assembly.attention import AttentionSpec, CrossAttentionSpec
from lamoid.assembly.bias import RelativeSpec
from lamoid.assembly.block import BlockSpec
from lamoid.assembly.bounds import MOST_LAYERS
from lamoid.assembly.embedding import EmbeddingSpec
from lamoid.assembly.families import encoder_decoder as shared
from lamoid.assembly.families.family import Architecture, Family
from lamoid.assembly.families.fields import Fields
from lamoid.assembly.feedforward import NoFeedForwardSpec
from lamoid.assembly.norm import RMSNormSpec
from lamoid.assembly.sharing import ShareSpec
from lamoid.assembly.sight import BidirectionalSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.wiring import CrossSpec, SerialSpec, StackSpec

ENCODER = "T5ForTokenClassification"


def _read(fields: Fields, architecture: Architecture) -> ModelSpec:
    shared.take_beside(fields)
    parts, feedforward = shared.read_attention(fields), shared.read_feedforward(fields)
    norm = RMSNormSpec(fields.number("layer_norm_epsilon", 1e-6))
    layers = fields.whole("num_layers", high=MOST_LAYERS)
    later = fields.whole("num_decoder_layers", layers, high=MOST_LAYERS)
    blocks = (BlockSpec(AttentionSpec(sees=BidirectionalSpec(), **parts), feedforward, norm, norm),) * layers
    sharing = _one_bias("blocks.*.mixer.position", layers)
    if architecture.name != ENCODER:
        fields.only("is_encoder_decoder", True)
        own = BlockSpec(AttentionSpec(**parts), NoFeedForwardSpec(), norm)
        across = CrossAttentionSpec(**{name: part for name, part in parts.items() if name != "position"})
        reader = SerialSpec((SerialSpec((own, BlockSpec(across, feedforward, norm, norm))),) * later)
        blocks = (CrossSpec(StackSpec(blocks, norm=norm), reader),)
        sharing = (
            ShareSpec(("embedding", "blocks.0.memory.embedding")),
            *_one_bias("blocks.0.memory.blocks.*.mixer.position", layers),
            *_one_bias("blocks.0.reader.blocks.*.blocks.0.mixer.position", later),
        )
    sizes = fields.whole("d_model"), fields.whole("vocab_size"), fields.whole("n_positions", 512)
    return ModelSpec(*sizes, EmbeddingSpec(), blocks, norm, architecture.heads(fields), sharing)


def _one_bias(path: str, layers: int) -> tuple[ShareSpec, ...]:
    return (ShareSpec((path,)),) if layers > 1 else ()


def _write(spec: ModelSpec) -> dict[str, Any] | None:
    cross, blocks, later = spec.blocks[0], spec.blocks, len(spec.blocks)
    if isinstance(cross, CrossSpec) and isinstance(cross.memory, StackSpec) and isinstance(cross.reader, SerialSpec):
        blocks, later = cross.memory.blocks, len(cross.reader.blocks)
    block = blocks[0] if blocks else None
    if not isinstance(block, BlockSpec) or not isinstance(block.mixer, AttentionSpec):
        return None
    bias, norm, words = block.mixer.position, block.norm_mixer, shared.feedforward_words(block.feedforward)
    if words is None or not isinstance(bias, RelativeSpec) or not isinstance(norm, RMSNormSpec):
        return None
    return words | {
        "vocab_size": spec.vocab,
        "n_positions": spec.context,
        "d_model": spec.width,
        "d_kv": block.mixer.head_width,
        "num_heads": block.mixer.heads,
        "num_layers": len(blocks),
        "num_decoder_layers": later,
        "relative_attention_num_buckets": bias.buckets,
        "relative_attention_max_distance": bias.distance,
        "layer_norm_epsilon": norm.epsilon,
        "is_encoder_decoder": isinstance(cross, CrossSpec),
    }


T5 = Family(
    "t5", shared.architectures("T5"), _read, _write, shared.TABLE, "transformer.", shared.sizes, *shared.OTHER_NAMES
)
