"""What a member is asked when its statistics are measured: windows of text, or texts one by one, and their losses."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from lamoid.assembly.batch import Batch
from lamoid.assembly.heads import NextTokenSpec
from lamoid.assembly.likelihood import token_nats
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.spec import HeadSpec, ModelSpec
from lamoid.assembly.task_heads import ClassesSpec
from lamoid.errors import InputError
from lamoid.evaluation.perplexity import check_readable
from lamoid.recipes.row_data import cut_single
from lamoid.text.tokenizer import Tokenizer

WINDOW = 1024


def check_measurable(spec: ModelSpec, kind: str) -> None:
    """Raise ``InputError`` for a model that a text alone says nothing of, or gives no loss for ``fisher``."""
    if spec.reads_source or (kind == "fisher" and not isinstance(_head(spec), ClassesSpec)):
        check_readable(spec)


def read_examples(tokenizer: Tokenizer, texts: Sequence[str], spec: ModelSpec, examples: int) -> list[Tensor]:
    """Give at most ``examples`` rows of ids (1, T), evenly from all texts; raise ``InputError`` if there are none.

    A model that says what comes next reads windows of its context, any other the beginning of each text; at most
    ``WINDOW`` tokens.
    """
    count, context = min(len(texts), examples), min(spec.context, WINDOW)
    encoded = [tokenizer.encode(texts[index * len(texts) // count]) for index in range(count)]
    if _writes(spec):
        start = [] if tokenizer.start is None else [tokenizer.start]
        rows = _windows([[*start, *ids] for ids in encoded], context)
    else:
        rows = (cut_single(ids, tokenizer, context) for ids in encoded if ids)
    found = [torch.as_tensor(np.asarray(row, np.int64))[None] for row in islice(rows, examples)]
    if not found:
        raise InputError("on", "holds no text of two tokens", "give text that the model can read")
    return found


def losses_of(model: LanguageModel, rows: Iterable[Tensor]) -> Iterator[Tensor]:
    """Give losses whose squared gradients have the Fisher information of the rows as their mean.

    Of text it is the mean nats a token of each row. Of a classifier it is -log p(y) of each class y that it may answer,
    weighed so that the mean over all is the one over p(y): no label is needed (Matena and Raffel, section 3).
    """
    head = _head(model.spec)
    for ids in rows:
        if not isinstance(head, ClassesSpec):
            yield token_nats(model.hidden(Batch(ids[:, :-1])), model.logits, ids[:, 1:]).mean()
            continue
        for label in range(head.count):
            nats = -model(Batch(ids)).float().log_softmax(-1)[0, label]
            yield nats * math.sqrt(head.count * math.exp(-float(nats.detach())))


def ask(model: LanguageModel, ids: Tensor) -> None:
    """Let a model read a row, and answer if it says what comes next or which class it is."""
    ask_head(model, model.hidden(Batch(read_of(model.spec, ids))), ids)


def ask_head(model: LanguageModel, hidden: Tensor, ids: Tensor) -> None:
    """Let the default head answer to the trunk's output of a row; one that asks of some tokens only is left alone."""
    if _writes(model.spec):
        token_nats(hidden, model.logits, ids[:, 1:])
    elif isinstance(_head(model.spec), ClassesSpec):
        model.answer(hidden, Batch(ids))


def read_of(spec: ModelSpec, ids: Tensor) -> Tensor:
    """Give what is read of a row: all but the last token where that one is only foretold."""
    return ids[:, :-1] if _writes(spec) else ids


def _head(spec: ModelSpec) -> HeadSpec:
    return next(iter(spec.heads.values()))


def _writes(spec: ModelSpec) -> bool:
    return spec.not_causal is None and isinstance(_head(spec), NextTokenSpec)


def _windows(texts: Sequence[list[int]], context: int) -> Iterator[list[int]]:
    """Give the first window of each text, then the second of each, and so on."""
    cut = [[ids[first : first + context + 1] for first in range(0, len(ids) - 1, context)] for ids in texts]
    for turn in range(max(map(len, cut), default=0)):
        yield from (windows[turn] for windows in cut if turn < len(windows))
