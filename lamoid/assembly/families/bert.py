"""BERT (Devlin et al., 2019): an encoder that says what masked tokens were, and whether a sentence follows another."""

from typing import Any

from lamoid.assembly.families.encoder import Words, encoder_table, masked_token, pooler
from lamoid.assembly.families.family import Architecture, Family, Rename
from lamoid.assembly.families.fields import Fields
from lamoid.assembly.families.task_words import (
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
from lamoid.assembly.heads import NextTokenSpec, TiedSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.task_heads import FirstSpec, NextSentenceSpec

WORDS = Words()


def _masked(fields: Fields) -> Heads:
    return masked_token(fields, WORDS.read_activation(fields), WORDS.read_epsilon(fields))


def _next_sentence(fields: Fields) -> Heads:
    return {"next_sentence": NextSentenceSpec()}


def _pretraining(fields: Fields) -> Heads:
    return _masked(fields) | _next_sentence(fields)


def _next_sentence_words(spec: ModelSpec) -> dict[str, Any] | None:
    return None if sole_head(spec, NextSentenceSpec) is None else {}


def _pretraining_words(spec: ModelSpec) -> dict[str, Any] | None:
    head = spec.heads.get("masked_token")
    if set(spec.heads) != {"masked_token", "next_sentence"} or not isinstance(head, NextTokenSpec):
        return None
    return {"tie_word_embeddings": isinstance(head.linear, TiedSpec)}


ARCHITECTURES = (
    Architecture("BertForMaskedLM", _masked, next_token_words),
    Architecture("BertForPreTraining", _pretraining, _pretraining_words),
    Architecture("BertForNextSentencePrediction", _next_sentence, _next_sentence_words),
    Architecture("BertForSequenceClassification", answers(FirstSpec(), transform=pooler), answer_words),
    Architecture("BertForTokenClassification", tags(), tag_words),
    Architecture("BertForQuestionAnswering", span, span_words),
)
TABLE = (
    *encoder_table("bert."),
    *answer_rows("classifier", "bert.pooler.dense"),
    Rename(("heads.masked_token.transform.linear",), "cls.predictions.transform.dense"),
    Rename(("heads.masked_token.transform.norm",), "cls.predictions.transform.LayerNorm"),
    Rename(("heads.masked_token",), "cls.predictions"),
    # transformers has a second bias for an output of its own, which it never uses.
    Rename(("heads.masked_token.linear",), "cls.predictions.decoder", also=("cls.predictions.bias",)),
    Rename(("heads.next_sentence.transform.linear",), "bert.pooler.dense"),
    Rename(("heads.next_sentence.linear",), "cls.seq_relationship"),
    Rename(("heads.tags.linear",), "classifier"),
    Rename(("heads.span.linear",), "qa_outputs"),
)
BERT = Family(
    *("bert", ARCHITECTURES, WORDS.read, WORDS.write, TABLE, "bert.", WORDS.sizes),
    ignored=(r"(bert\.)?embeddings\.position_ids", r"((bert\.)?pooler\.dense|cls\.seq_relationship)\.(weight|bias)"),
    copies=(("cls.predictions.bias", "cls.predictions.decoder.bias"),),
    former=((".gamma", ".weight"), (".beta", ".bias")),
)
