"""DistilBERT (Sanh et al., 2019): BERT with half of its layers, without token types and pooler."""

from lamoid.assembly.families.encoder import EPSILON, Words, masked_token
from lamoid.assembly.families.family import Architecture, Family, Rename
from lamoid.assembly.families.fields import Fields
from lamoid.assembly.families.task_words import (
    Heads,
    answer_rows,
    answer_words,
    answers,
    next_token_words,
    span,
    span_words,
    tag_words,
    tags,
)
from lamoid.assembly.heads import TransformSpec
from lamoid.assembly.task_heads import FirstSpec

# A table of sines is stored like a learned one.
BESIDE = ("dropout", "qa_dropout", "seq_classif_dropout", "sinusoidal_pos_embds", "tie_weights_")
WORDS = Words("dim", "n_layers", "n_heads", "hidden_dim", "activation", epsilon=None, types=None, beside=BESIDE)


def _masked(fields: Fields) -> Heads:
    return masked_token(fields, WORDS.read_activation(fields), EPSILON)


def _before_classes(fields: Fields) -> TransformSpec:
    return TransformSpec(activation="relu")


ARCHITECTURES = (
    Architecture("DistilBertForMaskedLM", _masked, next_token_words),
    Architecture("DistilBertForSequenceClassification", answers(FirstSpec(), transform=_before_classes), answer_words),
    Architecture("DistilBertForTokenClassification", tags(), tag_words),
    Architecture("DistilBertForQuestionAnswering", span, span_words),
)
TABLE = (
    Rename(("embedding.tokens",), "distilbert.embeddings.word_embeddings"),
    Rename(("embedding.positions",), "distilbert.embeddings.position_embeddings"),
    Rename(("embedding.norm",), "distilbert.embeddings.LayerNorm"),
    Rename(("blocks.{}.mixer.query",), "distilbert.transformer.layer.{}.attention.q_lin"),
    Rename(("blocks.{}.mixer.key",), "distilbert.transformer.layer.{}.attention.k_lin"),
    Rename(("blocks.{}.mixer.value",), "distilbert.transformer.layer.{}.attention.v_lin"),
    Rename(("blocks.{}.mixer.output",), "distilbert.transformer.layer.{}.attention.out_lin"),
    Rename(("blocks.{}.norm_mixer",), "distilbert.transformer.layer.{}.sa_layer_norm"),
    Rename(("blocks.{}.feedforward.up",), "distilbert.transformer.layer.{}.ffn.lin1"),
    Rename(("blocks.{}.feedforward.down",), "distilbert.transformer.layer.{}.ffn.lin2"),
    Rename(("blocks.{}.norm_feedforward",), "distilbert.transformer.layer.{}.output_layer_norm"),
    *answer_rows("classifier", "pre_classifier"),
    Rename(("heads.masked_token.transform.linear",), "vocab_transform"),
    Rename(("heads.masked_token.transform.norm",), "vocab_layer_norm"),
    Rename(("heads.masked_token",), "vocab_projector"),
    Rename(("heads.masked_token.linear",), "vocab_projector"),
    Rename(("heads.tags.linear",), "classifier"),
    Rename(("heads.span.linear",), "qa_outputs"),
)
IGNORED = (r"(distilbert\.)?embeddings\.position_ids",)
DISTILBERT = Family("distilbert", ARCHITECTURES, WORDS.read, WORDS.write, TABLE, "distilbert.", WORDS.sizes, IGNORED)
