"""ELECTRA (Clark et al., 2020): BERT's build, rows of a width of their own; it tells which tokens were replaced."""

from typing import Any

from lamoid.assembly.embedding import FactoredTableSpec
from lamoid.assembly.families.encoder import Words, encoder_table, masked_token
from lamoid.assembly.families.family import Architecture, Family, Rename
from lamoid.assembly.families.fields import Fields
from lamoid.assembly.families.task_words import (
    BIASED,
    Heads,
    answer_rows,
    answer_words,
    answers,
    next_token_words,
    sole_head,
    span,
    span_words,
    tag_words,
    tags,
)
from lamoid.assembly.heads import TransformSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.task_heads import FirstSpec, TagsSpec

WORDS = Words(rows="embedding_size", beside=(*Words.beside, "summary_last_dropout"))


def _replaced(fields: Fields) -> Heads:
    transform = TransformSpec(activation=WORDS.read_activation(fields))
    return {"replaced": TagsSpec(count=1, linear=BIASED, transform=transform)}


def _replaced_words(spec: ModelSpec) -> dict[str, Any] | None:
    return None if "replaced" not in spec.heads or sole_head(spec, TagsSpec) is None else {}


def _masked(fields: Fields) -> Heads:
    table = WORDS.read_table(fields)
    width = table.width if isinstance(table, FactoredTableSpec) else 0
    return masked_token(fields, "gelu", WORDS.read_epsilon(fields), width)


def _before_classes(fields: Fields) -> TransformSpec:
    return TransformSpec(activation="gelu")


ARCHITECTURES = (
    Architecture("ElectraForPreTraining", _replaced, _replaced_words),
    Architecture("ElectraForMaskedLM", _masked, next_token_words),
    Architecture("ElectraForSequenceClassification", answers(FirstSpec(), transform=_before_classes), answer_words),
    Architecture("ElectraForTokenClassification", tags(), tag_words),
    Architecture("ElectraForQuestionAnswering", span, span_words),
)
TABLE = (
    *encoder_table("electra."),
    Rename(("embedding.widen",), "electra.embeddings_project"),
    *answer_rows("classifier.out_proj", "classifier.dense"),
    Rename(("heads.replaced.transform.linear",), "discriminator_predictions.dense"),
    Rename(("heads.replaced.linear",), "discriminator_predictions.dense_prediction"),
    Rename(("heads.masked_token.transform.linear",), "generator_predictions.dense"),
    Rename(("heads.masked_token.transform.norm",), "generator_predictions.LayerNorm"),
    Rename(("heads.masked_token",), "generator_lm_head"),
    Rename(("heads.masked_token.linear",), "generator_lm_head"),
    Rename(("heads.tags.linear",), "classifier"),
    Rename(("heads.span.linear",), "qa_outputs"),
)
IGNORED = (r"(electra\.)?embeddings\.position_ids",)
ELECTRA = Family("electra", ARCHITECTURES, WORDS.read, WORDS.write, TABLE, "electra.", WORDS.sizes, IGNORED)
