"""Encoder-decoders of T5's build: the feed-forward in one word, the scaled output, classes, tensor names."""

from typing import Any

import msgspec

from lamoid.assembly.attention import FixedScaleSpec
from lamoid.assembly.bias import RelativeSpec
from lamoid.assembly.block import FeedForwardSpec
from lamoid.assembly.families.family import Architecture, Rename
from lamoid.assembly.families.fields import ACTIVATIONS, FOREIGN_ACTIVATIONS, Fields
from lamoid.assembly.families.sizes import Sizes
from lamoid.assembly.families.task_words import (
    Heads,
    answer_rows,
    answer_words,
    answers,
    sole_head,
    span,
    span_words,
    tag_words,
    tags,
)
from lamoid.assembly.feedforward import GatedSpec, PlainSpec
from lamoid.assembly.heads import NextTokenSpec, TiedSpec, TransformSpec
from lamoid.assembly.linear import DenseSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.task_heads import LastSpec


def take_beside(fields: Fields) -> None:
    """Pass over what does not change what is computed, and refuse a decoder by itself."""
    for name in ("decoder_start_token_id", "dropout_rate", "initializer_factor"):
        fields.take(name)
    fields.flag("is_encoder_decoder", True)
    fields.flag("scale_decoder_outputs", True)
    fields.only("is_decoder", False)


def read_attention(fields: Fields) -> dict[str, Any]:
    """Read what all attentions of the model have: scores are not scaled, and biases go by distance."""
    heads, buckets = fields.whole("num_heads"), fields.whole("relative_attention_num_buckets", 32)
    return {
        "heads": heads,
        "kv_heads": heads,
        "head_width": fields.whole("d_kv", 64),
        "scale": FixedScaleSpec(1.0),
        "position": RelativeSpec(buckets, fields.whole("relative_attention_max_distance", 128)),
    }


def read_feedforward(fields: Fields) -> PlainSpec | GatedSpec:
    """Read ``relu`` or ``gated-gelu``; the gate's GELU is the one with the hyperbolic tangent."""
    word, hidden = fields.take("feed_forward_proj", "relu"), fields.whole("d_ff")
    gate, _, last = word.rpartition("-") if isinstance(word, str) else ("?", "", "")
    name = "gelu_new" if word == "gated-gelu" else last
    if gate not in ("", "gated") or name not in ACTIVATIONS:
        fields.refuse("feed_forward_proj", word, "an activation, or gated- and an activation")
    fields.only("dense_act_fn", name)
    fields.only("is_gated_act", bool(gate))
    activation: Any = ACTIVATIONS[name]
    return GatedSpec(hidden, activation) if gate else PlainSpec(hidden, activation)


def feedforward_words(feedforward: FeedForwardSpec) -> dict[str, Any] | None:
    """Write a feed-forward that has a word; a gate of the exact GELU has none."""
    if not isinstance(feedforward, PlainSpec | GatedSpec):
        return None
    name, is_gated = FOREIGN_ACTIVATIONS[feedforward.activation], isinstance(feedforward, GatedSpec)
    if is_gated and name == "gelu":
        return None
    word = f"gated-{'gelu' if name == 'gelu_new' else name}" if is_gated else name
    return {"d_ff": feedforward.hidden, "feed_forward_proj": word, "dense_act_fn": name, "is_gated_act": is_gated}


def _next_token(fields: Fields) -> Heads:
    """Read the output: 1.0 ties it and scales it by 1 / sqrt(width), 1.1 does neither; transformers 5 parts the two."""
    is_tied = fields.flag("tie_word_embeddings", True)
    scale = fields.whole("d_model") ** -0.5 if fields.flag("scale_decoder_outputs", is_tied) else 1.0
    return {"next_token": NextTokenSpec(TiedSpec() if is_tied else DenseSpec(), scale=scale)}


def _next_token_words(spec: ModelSpec) -> dict[str, Any] | None:
    head = sole_head(spec, NextTokenSpec)
    if head is None:
        return None
    return {"tie_word_embeddings": isinstance(head.linear, TiedSpec), "scale_decoder_outputs": head.scale != 1.0}


def _before_classes(fields: Fields) -> TransformSpec:
    return TransformSpec(activation="tanh")


def _maps(ours: str, theirs: str, names: str) -> list[Rename]:
    """Give a row for each pair in ``names``: ours, theirs, ours, theirs ..."""
    words = names.split()
    return [Rename((f"{ours}.{our}",), f"{theirs}.{their}") for our, their in zip(words[::2], words[1::2], strict=True)]


def _feedforward_rows(ours: str, theirs: str) -> list[Rename]:
    beside_gate = Rename((f"{ours}.up",), f"{theirs}.wi_1", beside=f"{ours}.gate")
    return [beside_gate, *_maps(ours, theirs, "up wi gate wi_0 down wo")]


def _encoder_rows(blocks: str) -> list[Rename]:
    theirs = "transformer.encoder.block.{}.layer."
    return [
        *_maps(f"{blocks}.{{}}.mixer", f"{theirs}0.SelfAttention", ATTENTION),
        *_feedforward_rows(f"{blocks}.{{}}.feedforward", f"{theirs}1.DenseReluDense"),
        Rename((f"{blocks}.{{}}.norm_mixer",), f"{theirs}0.layer_norm"),
        Rename((f"{blocks}.{{}}.norm_feedforward",), f"{theirs}1.layer_norm"),
    ]


def _decoder_rows(ours: str) -> list[Rename]:
    theirs = "transformer.decoder.block.{}.layer."
    return [
        *_maps(f"{ours}.0.mixer", f"{theirs}0.SelfAttention", ATTENTION),
        *_maps(f"{ours}.1.mixer", f"{theirs}1.EncDecAttention", ATTENTION),
        *_feedforward_rows(f"{ours}.1.feedforward", f"{theirs}2.DenseReluDense"),
        Rename((f"{ours}.0.norm_mixer",), f"{theirs}0.layer_norm"),
        Rename((f"{ours}.1.norm_mixer",), f"{theirs}1.layer_norm"),
        Rename((f"{ours}.1.norm_feedforward",), f"{theirs}2.layer_norm"),
    ]


def architectures(name: str) -> tuple[Architecture, ...]:
    """Give the four classes of a family; ``name`` is what their names begin with. The third is an encoder alone."""
    return (
        Architecture(f"{name}ForConditionalGeneration", _next_token, _next_token_words, prefix=""),
        Architecture(f"{name}ForSequenceClassification", answers(LastSpec(), transform=_before_classes), answer_words),
        Architecture(f"{name}ForTokenClassification", tags(), tag_words),
        Architecture(f"{name}ForQuestionAnswering", span, span_words, prefix=""),
    )


def sizes(numbers: Sizes, vocab: int) -> dict[str, Any]:
    """Write a few numbers as a configuration of T5 1.0, or of 1.1 where the output is not tied."""
    msgspec.structs.replace(numbers, head_width=0).refuse_rotary()
    return {
        "vocab_size": vocab,
        "d_model": numbers.width,
        "d_kv": numbers.head_width or numbers.width // numbers.heads,
        "d_ff": numbers.hidden or 4 * numbers.width,
        "num_layers": numbers.layers,
        "num_heads": numbers.heads,
        "n_positions": numbers.context,
        "feed_forward_proj": "relu" if numbers.tied else "gated-gelu",
        "tie_word_embeddings": numbers.tied,
    }


ATTENTION = "query q key k value v output o position relative_attention_bias"
# A model that is an encoder alone has its blocks where others have the cross.
TABLE = (
    Rename(("embedding.tokens",), "transformer.shared"),
    *_encoder_rows("blocks"),
    *_encoder_rows("blocks.0.memory.blocks"),
    *_decoder_rows("blocks.0.reader.blocks.{}.blocks"),
    Rename(("blocks.0.memory.norm",), "transformer.encoder.final_layer_norm"),
    Rename(("norm",), "transformer.decoder.final_layer_norm", beside="blocks.0.memory.norm"),
    Rename(("norm",), "transformer.encoder.final_layer_norm"),
    Rename(("heads.next_token.linear",), "lm_head"),
    *answer_rows("classification_head.out_proj", "classification_head.dense"),
    Rename(("heads.tags.linear",), "classifier"),
    Rename(("heads.span.linear",), "qa_outputs"),
)
UNUSED = (r"(transformer\.)?decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",)
COPIES = tuple(
    tuple(f"{prefix}{name}.weight" for name in ("shared", "encoder.embed_tokens", "decoder.embed_tokens"))
    for prefix in ("", "transformer.")
)
OTHER_NAMES = (UNUSED, COPIES)
