"""RoBERTa (Liu et al., 2019): BERT's build, positions counted from behind the padding token's id, heads of its own.

transformers gives padding tokens no position. Here they stand at the end and no answer depends on them.
"""

from typing import Any

from lamoid.assembly.families.encoder import Words, encoder_table, masked_token, pooler
from lamoid.assembly.families.family import Architecture, Family, Rename
from lamoid.assembly.families.fields import Fields
from lamoid.assembly.families.sizes import Sizes
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
from lamoid.assembly.position import LearnedPositionSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.task_heads import FirstSpec

WORDS = Words()
PADDING = 1


def _read(fields: Fields, architecture: Architecture) -> ModelSpec:
    return WORDS.read(fields, architecture, fields.whole("pad_token_id", PADDING, low=0) + 1)


def _write(spec: ModelSpec) -> dict[str, Any] | None:
    positions, words = spec.embedding.positions, WORDS.write(spec)
    if words is None or not isinstance(positions, LearnedPositionSpec) or not positions.offset:
        return None
    return words | {"pad_token_id": positions.offset - 1}


def _sizes(sizes: Sizes, vocab: int) -> dict[str, Any]:
    return WORDS.sizes(sizes, vocab) | {"max_position_embeddings": sizes.context + PADDING + 1}


def _masked(fields: Fields) -> Heads:
    return masked_token(fields, "gelu", WORDS.read_epsilon(fields))


ARCHITECTURES = (
    Architecture("RobertaForMaskedLM", _masked, next_token_words),
    Architecture("RobertaForSequenceClassification", answers(FirstSpec(), transform=pooler), answer_words),
    Architecture("RobertaForTokenClassification", tags(), tag_words),
    Architecture("RobertaForQuestionAnswering", span, span_words),
)
TABLE = (
    *encoder_table("roberta."),
    *answer_rows("classifier.out_proj", "classifier.dense"),
    Rename(("heads.masked_token.transform.linear",), "lm_head.dense"),
    Rename(("heads.masked_token.transform.norm",), "lm_head.layer_norm"),
    Rename(("heads.masked_token",), "lm_head"),
    # transformers has a second bias for an output of its own, which it never uses.
    Rename(("heads.masked_token.linear",), "lm_head.decoder", also=("lm_head.bias",)),
    Rename(("heads.tags.linear",), "classifier"),
    Rename(("heads.span.linear",), "qa_outputs"),
)
IGNORED = (r"(roberta\.)?embeddings\.position_ids", r"(roberta\.)?pooler\.dense\.(weight|bias)")
COPIES = (("lm_head.bias", "lm_head.decoder.bias"),)
ROBERTA = Family("roberta", ARCHITECTURES, _read, _write, TABLE, "roberta.", _sizes, IGNORED, COPIES)
