"""What LLaMA and its descendants have in common: fields, tensor names and classes; each family adds what is its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from lamoid.assembly.attention import AttentionSpec
from lamoid.assembly.block import BlockSpec, OrderSpec, PreSpec
from lamoid.assembly.bounds import MOST_LAYERS
from lamoid.assembly.embedding import EmbeddingSpec
from lamoid.assembly.experts import ExpertsSpec
from lamoid.assembly.families.family import Architecture, Rename
from lamoid.assembly.families.fields import ACTIVATIONS, FOREIGN_ACTIVATIONS, Fields
from lamoid.assembly.families.rotary import read_rotary, write_rotary
from lamoid.assembly.families.sizes import Sizes
from lamoid.assembly.families.task_words import (
    BARE,
    answer_rows,
    answer_words,
    answers,
    next_token,
    next_token_words,
    span,
    span_words,
    tag_words,
    tags,
)
from lamoid.assembly.feedforward import GatedSpec, PlainSpec
from lamoid.assembly.linear import DenseSpec
from lamoid.assembly.norm import RMSNormSpec
from lamoid.assembly.position import RotarySpec
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.task_heads import LastSpec

PRE = PreSpec()


@dataclass(frozen=True)
class Trunk:
    """What a configuration says in the words of all these families; ``mixer`` is without biases, norms or windows."""

    width: int
    vocab: int
    context: int
    layers: int
    mixer: AttentionSpec
    feedforward: GatedSpec
    norm: RMSNormSpec

    def spec(
        self,
        fields: Fields,
        architecture: Architecture,
        mixers: Sequence[AttentionSpec],
        *,
        order: OrderSpec = PRE,
        experts: ExpertsSpec | None = None,
    ) -> ModelSpec:
        """Put blocks with these mixers together, and the heads of a class; ``experts`` replace the feed-forward."""
        feedforward = self.feedforward if experts is None else experts
        blocks = tuple(BlockSpec(mixer, feedforward, self.norm, self.norm, order) for mixer in mixers)
        heads = architecture.heads(fields)
        return ModelSpec(self.width, self.vocab, self.context, EmbeddingSpec(), blocks, self.norm, heads)


def read_trunk(
    fields: Fields,
    *,
    kv_heads: int | None = None,
    head_width: int | None = None,
    base: float = 10000.0,
    rotary: tuple[RotarySpec, int] | None = None,
    activation: tuple[str, str] = ("hidden_act", "silu"),
    epsilon: float = 1e-6,
    bias: bool = False,
) -> Trunk:
    """Read what these families share; the defaults hold where the configuration says nothing.

    ``rotary`` and the context come from a family that has words of its own for them; ``activation`` is the field and
    its default. With ``bias`` the feed-forward's maps have one.
    """
    width, heads = fields.whole("hidden_size"), fields.whole("num_attention_heads")
    if fields.take("head_dim", head_width) is None and width % heads:
        fields.refuse("num_attention_heads", heads, f"a divisor of hidden_size {width}, or a head_dim beside it")
    position, context = read_rotary(fields, base=base) if rotary is None else rotary
    mixer = AttentionSpec(
        heads=heads,
        kv_heads=fields.whole_or_none("num_key_value_heads", kv_heads) or heads,
        head_width=fields.whole("head_dim", head_width or max(1, width // heads)),
        position=position,
    )
    inner, act = DenseSpec(bias), fields.choice(activation[0], ACTIVATIONS, activation[1])
    return Trunk(
        width=width,
        vocab=fields.whole("vocab_size"),
        context=context,
        layers=fields.whole("num_hidden_layers", high=MOST_LAYERS),
        mixer=mixer,
        feedforward=GatedSpec(fields.whole("intermediate_size"), act, inner, inner, inner),
        norm=RMSNormSpec(fields.number("rms_norm_eps", epsilon)),
    )


def write_trunk(spec: ModelSpec) -> dict[str, Any] | None:
    """Write what these families share, or give ``None`` where the spec is of another build."""
    mixers, block = attentions(spec), spec.blocks[0]
    if not mixers or not isinstance(block, BlockSpec) or not isinstance(block.feedforward, GatedSpec):
        return None
    if not isinstance(spec.norm, RMSNormSpec):
        return None
    mixer, rotaries = mixers[0], [x.position for x in mixers if isinstance(x.position, RotarySpec)]
    return {
        **write_shape(spec, mixer, block.feedforward),
        "num_key_value_heads": mixer.kv_heads,
        "head_dim": mixer.head_width,
        "rms_norm_eps": spec.norm.epsilon,
        **write_rotary(rotaries[0] if rotaries else RotarySpec(), spec.context),
    }


def write_shape(spec: ModelSpec, mixer: AttentionSpec, feedforward: GatedSpec | PlainSpec) -> dict[str, Any]:
    """Write the sizes that every decoder names alike, and the activation."""
    return {
        "hidden_size": spec.width,
        "vocab_size": spec.vocab,
        "num_hidden_layers": len(spec.blocks),
        "num_attention_heads": mixer.heads,
        "intermediate_size": feedforward.hidden,
        "hidden_act": FOREIGN_ACTIVATIONS[feedforward.activation],
    }


def attentions(spec: ModelSpec) -> list[AttentionSpec]:
    """Give the mixers of all blocks, none at all if one of them is something else."""
    mixers = [block.mixer for block in spec.blocks if isinstance(block, BlockSpec)]
    found = [mixer for mixer in mixers if isinstance(mixer, AttentionSpec)]
    return found if len(found) == len(spec.blocks) else []


def biased(mixer: AttentionSpec, *, inner: bool, output: bool) -> AttentionSpec:
    """Give queries, keys and values a bias if ``inner``, the output one if ``output``."""
    parts = dict.fromkeys(("query", "key", "value"), DenseSpec(inner))
    return msgspec.structs.replace(mixer, **parts, output=DenseSpec(output))


def feedforward_bias(spec: ModelSpec) -> bool:
    """Have the feed-forward's maps a bias? It is asked of a spec whose trunk ``write_trunk`` has written."""
    block = spec.blocks[0]
    return isinstance(block, BlockSpec) and isinstance(block.feedforward, GatedSpec) and block.feedforward.up.bias


def decoder_architectures(
    name: str, *, tied: bool = False, answering: str = "transformer."
) -> tuple[Architecture, ...]:
    """Give the four classes of a family; ``name`` is what their names begin with.

    ``answering`` is what question answering calls the trunk.
    """
    return (
        Architecture(f"{name}ForCausalLM", next_token(tied=tied), next_token_words),
        Architecture(f"{name}ForSequenceClassification", answers(LastSpec(), BARE), answer_words),
        Architecture(f"{name}ForTokenClassification", tags(), tag_words),
        Architecture(f"{name}ForQuestionAnswering", span, span_words, prefix=answering),
    )


def decoder_sizes(sizes: Sizes, vocab: int) -> dict[str, Any]:
    """Write a few numbers as a configuration of any of these families."""
    return {
        "vocab_size": vocab,
        "hidden_size": sizes.width,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads or sizes.heads,
        "head_dim": sizes.head_width or sizes.width // sizes.heads,
        "intermediate_size": sizes.gated_hidden,
        "max_position_embeddings": sizes.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": sizes.base,
        "tie_word_embeddings": sizes.tied,
    }


def plain_sizes(sizes: Sizes, vocab: int) -> dict[str, Any]:
    """Write a few numbers for a family whose heads share the width evenly, keys like queries, and nothing is gated."""
    msgspec.structs.replace(sizes, base=10000.0).refuse_rotary()
    foreign = ("num_key_value_heads", "head_dim", "rms_norm_eps")
    words = {name: value for name, value in decoder_sizes(sizes, vocab).items() if name not in foreign}
    return {**words, "intermediate_size": sizes.hidden or 4 * sizes.width}


HEAD_ROWS = (
    Rename(("heads.next_token.linear",), "lm_head"),
    *answer_rows("score"),
    Rename(("heads.tags.linear",), "score"),
    Rename(("heads.span.linear",), "qa_outputs"),
)
DECODER_TABLE = (
    Rename(("embedding.tokens",), "model.embed_tokens"),
    Rename(("blocks.{}.norm_mixer",), "model.layers.{}.input_layernorm"),
    Rename(("blocks.{}.mixer.query",), "model.layers.{}.self_attn.q_proj"),
    Rename(("blocks.{}.mixer.key",), "model.layers.{}.self_attn.k_proj"),
    Rename(("blocks.{}.mixer.value",), "model.layers.{}.self_attn.v_proj"),
    Rename(("blocks.{}.mixer.output",), "model.layers.{}.self_attn.o_proj"),
    Rename(("blocks.{}.mixer.query_norm",), "model.layers.{}.self_attn.q_norm"),
    Rename(("blocks.{}.mixer.key_norm",), "model.layers.{}.self_attn.k_norm"),
    Rename(("blocks.{}.norm_feedforward",), "model.layers.{}.post_attention_layernorm"),
    Rename(("blocks.{}.feedforward.gate",), "model.layers.{}.mlp.gate_proj"),
    Rename(("blocks.{}.feedforward.up",), "model.layers.{}.mlp.up_proj"),
    Rename(("blocks.{}.feedforward.down",), "model.layers.{}.mlp.down_proj"),
    Rename(("norm",), "model.norm"),
    *HEAD_ROWS,
)
ROTARY_BUFFERS = (r"(.*\.)?rotary_emb\.inv_freq",)
