"""Encoders of BERT's build: learned positions, attention both ways, LayerNorm behind each sum, GELU, heads."""

from dataclasses import dataclass
from typing import Any

from lamoid.assembly.attention import AttentionSpec
from lamoid.assembly.block import BlockSpec, PostSpec
from lamoid.assembly.bounds import MOST_LAYERS
from lamoid.assembly.embedding import EmbeddingSpec, FactoredTableSpec, NoTypesSpec, TypesSpec, WholeTableSpec
from lamoid.assembly.families.family import Architecture, Rename
from lamoid.assembly.families.fields import ACTIVATIONS, FOREIGN_ACTIVATIONS, Fields
from lamoid.assembly.families.sizes import Sizes
from lamoid.assembly.families.task_words import BIASED, Heads
from lamoid.assembly.feedforward import Activation, PlainSpec
from lamoid.assembly.heads import NextTokenSpec, TiedSpec, TransformSpec
from lamoid.assembly.norm import LayerNormSpec, NoNormSpec
from lamoid.assembly.position import LearnedPositionSpec, NoPositionSpec
from lamoid.assembly.sight import BidirectionalSpec
from lamoid.assembly.spec import ModelSpec

EPSILON = 1e-12
ROWS = 128


@dataclass(frozen=True)
class Words:
    """What a family calls the sizes of its trunk; without a word for ``epsilon`` or ``types`` it has no choice.

    With a word for ``rows``, the token table's rows may have a width of their own. Words ``beside`` them say nothing of
    what is computed.
    """

    width: str = "hidden_size"
    layers: str = "num_hidden_layers"
    heads: str = "num_attention_heads"
    hidden: str = "intermediate_size"
    activation: str = "hidden_act"
    epsilon: str | None = "layer_norm_eps"
    types: str | None = "type_vocab_size"
    rows: str | None = None
    beside: tuple[str, ...] = (
        "attention_probs_dropout_prob",
        "directionality",
        "hidden_dropout_prob",
        "pooler_fc_size",
        "pooler_num_attention_heads",
        "pooler_num_fc_layers",
        "pooler_size_per_head",
        "pooler_type",
    )

    def read(self, fields: Fields, architecture: Architecture, offset: int = 0) -> ModelSpec:
        """Read a trunk whose first ``offset`` rows of positions are unused, and the heads of a class."""
        width, heads = fields.whole(self.width), fields.whole(self.heads)
        if width % heads:
            fields.refuse(self.heads, heads, f"a divisor of {self.width} {width}")
        for name in self.beside:
            fields.take(name)
        fields.only("is_decoder", False)
        fields.only("add_cross_attention", False)
        fields.only("position_embedding_type", "absolute")
        parts = dict.fromkeys(("query", "key", "value", "output"), BIASED)
        mixer = AttentionSpec(
            heads=heads,
            kv_heads=heads,
            head_width=width // heads,
            position=NoPositionSpec(),
            sees=BidirectionalSpec(),
            **parts,
        )
        feedforward = PlainSpec(fields.whole(self.hidden), self.read_activation(fields), BIASED, BIASED)
        norm = LayerNormSpec(self.read_epsilon(fields))
        types = NoTypesSpec() if self.types is None else TypesSpec(fields.whole(self.types, 2))
        rows = fields.whole("max_position_embeddings", 512, low=offset + 1)
        return ModelSpec(
            width=width,
            vocab=fields.whole("vocab_size"),
            context=rows - offset,
            embedding=EmbeddingSpec(LearnedPositionSpec(offset), self.read_table(fields), types, norm),
            blocks=(BlockSpec(mixer, feedforward, norm, norm, PostSpec()),)
            * fields.whole(self.layers, high=MOST_LAYERS),
            norm=NoNormSpec(),
            heads=architecture.heads(fields),
        )

    def read_table(self, fields: Fields) -> WholeTableSpec | FactoredTableSpec:
        """Read how wide the rows of the token table are."""
        width = fields.whole(self.width)
        rows = width if self.rows is None else fields.whole(self.rows, ROWS)
        return WholeTableSpec() if rows == width else FactoredTableSpec(rows)

    def read_activation(self, fields: Fields) -> Activation:
        """Read the feed-forward's activation."""
        return fields.choice(self.activation, ACTIVATIONS, "gelu")

    def read_epsilon(self, fields: Fields) -> float:
        """Read what the norms add to the variance."""
        return EPSILON if self.epsilon is None else fields.number(self.epsilon, EPSILON)

    def write(self, spec: ModelSpec) -> dict[str, Any] | None:
        """Write the trunk of a spec that may be of this build."""
        block, embedding = spec.blocks[0], spec.embedding
        if not isinstance(block, BlockSpec) or not isinstance(block.mixer, AttentionSpec):
            return None
        if not isinstance(block.feedforward, PlainSpec) or not isinstance(block.norm_mixer, LayerNormSpec):
            return None
        words = {
            self.width: spec.width,
            self.layers: len(spec.blocks),
            self.heads: block.mixer.heads,
            self.hidden: block.feedforward.hidden,
            self.activation: FOREIGN_ACTIVATIONS[block.feedforward.activation],
            "vocab_size": spec.vocab,
            "max_position_embeddings": embedding.position_rows(spec.context),
        }
        if self.rows is not None:
            words[self.rows] = embedding.row_width(spec.width)
        if self.epsilon is not None:
            words[self.epsilon] = block.norm_mixer.epsilon
        if self.types is not None and isinstance(embedding.types, TypesSpec):
            words[self.types] = embedding.types.count
        return words

    def sizes(self, sizes: Sizes, vocab: int) -> dict[str, Any]:
        """Write a few numbers as a configuration."""
        sizes.refuse_rotary()
        rows = {} if self.rows is None else {self.rows: sizes.width}
        return rows | {
            "vocab_size": vocab,
            self.width: sizes.width,
            self.layers: sizes.layers,
            self.heads: sizes.heads,
            self.hidden: sizes.hidden or 4 * sizes.width,
            "max_position_embeddings": sizes.context,
            "tie_word_embeddings": sizes.tied,
        }


def masked_token(fields: Fields, activation: Activation, epsilon: float, width: int = 0) -> Heads:
    """Read the head that says what a masked token was, from vectors of ``width``, 0 for the trunk's."""
    linear = TiedSpec(bias=True) if fields.flag("tie_word_embeddings", True) else BIASED
    transform = TransformSpec(width, activation, norm=LayerNormSpec(epsilon))
    return {"masked_token": NextTokenSpec(linear, transform)}


def pooler(fields: Fields) -> TransformSpec:
    """Give what BERT does to the first token's vector before it classifies the text by it."""
    return TransformSpec(activation="tanh")


def encoder_table(prefix: str) -> tuple[Rename, ...]:
    """Name the trunk as BERT and RoBERTa do, which differ in its first word only."""
    return (
        Rename(("embedding.tokens",), f"{prefix}embeddings.word_embeddings"),
        Rename(("embedding.positions",), f"{prefix}embeddings.position_embeddings"),
        Rename(("embedding.types",), f"{prefix}embeddings.token_type_embeddings"),
        Rename(("embedding.norm",), f"{prefix}embeddings.LayerNorm"),
        Rename(("blocks.{}.mixer.query",), prefix + "encoder.layer.{}.attention.self.query"),
        Rename(("blocks.{}.mixer.key",), prefix + "encoder.layer.{}.attention.self.key"),
        Rename(("blocks.{}.mixer.value",), prefix + "encoder.layer.{}.attention.self.value"),
        Rename(("blocks.{}.mixer.output",), prefix + "encoder.layer.{}.attention.output.dense"),
        Rename(("blocks.{}.norm_mixer",), prefix + "encoder.layer.{}.attention.output.LayerNorm"),
        Rename(("blocks.{}.feedforward.up",), prefix + "encoder.layer.{}.intermediate.dense"),
        Rename(("blocks.{}.feedforward.down",), prefix + "encoder.layer.{}.output.dense"),
        Rename(("blocks.{}.norm_feedforward",), prefix + "encoder.layer.{}.output.LayerNorm"),
    )
