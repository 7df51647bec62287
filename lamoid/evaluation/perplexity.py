"""The loss of a model on texts: each token scored once, from the start token, in windows without overlap."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
import torch
from torch import Tensor

from lamoid.assembly.batch import Batch
from lamoid.assembly.likelihood import IGNORED, token_nats
from lamoid.assembly.model import LanguageModel, check_writes
from lamoid.assembly.spec import ModelSpec
from lamoid.errors import InputError
from lamoid.evaluation.units import BLOCK_BYTES
from lamoid.text.tokenizer import Tokenizer

TOKENS_AT_ONCE = 2048
GROUP_CHARACTERS = 1 << 20
LOGITS_AT_ONCE = 1 << 22


class Loss(msgspec.Struct, frozen=True):
    """The summed nats of a text's scored tokens, how many they are, and the text's UTF-8 bytes."""

    nats: float
    tokens: int
    bytes: int


@dataclass(frozen=True)
class Window:
    """``inputs`` and what follows each of them; ``place`` is (document, number of its first scored token)."""

    inputs: np.ndarray
    targets: np.ndarray
    place: tuple[int, int]


def document_losses(
    model: LanguageModel,
    tokenizer: Tokenizer,
    documents: Sequence[str],
    *,
    context: int | None = None,
    batch: int | None = None,
    advance: Callable[[int], None] | None = None,
    in_blocks: bool = False,
) -> list[Loss]:
    """Score every token of every document once; give one ``Loss`` a document.

    A document is read behind the start token in windows of ``context`` tokens (the model's own if not given) that do
    not overlap: [start, t1 .. tc-1] scores t1 .. tc, then [tc .. t2c-1] scores the next. Without a start token the
    first token of a document is not scored. ``batch`` windows are read at once, about 2048 tokens if not given; in
    float32 the result depends on that by less than 1e-5. ``advance`` is told the tokens scored.

    ``in_blocks``: each document's tokens are shared out evenly to blocks of about 4096 bytes, and each block has a
    ``Loss``, for intervals where there are few documents. The sums over all blocks are those over all documents.
    """
    check_readable(model.spec)
    found = _token_losses(model, tokenizer, documents, context, batch, advance)
    losses = []
    for nats, document in zip(found, documents, strict=True):
        size = len(document.encode())
        count = max(1, -(-size // BLOCK_BYTES)) if in_blocks else 1
        edges = [(len(nats) * k // count, size * k // count) for k in range(count + 1)]
        for (first, low), (last, high) in pairwise(edges):
            losses.append(Loss(float(nats[first:last].sum(dtype=np.float64)), last - first, high - low))
    return losses


def check_readable(spec: ModelSpec) -> None:
    """Refuse a model that does not say of a text alone what comes next."""
    check_writes(spec)
    if spec.reads_source:
        problem = "reads a source beside the text, so a text alone has no perplexity"
        raise InputError("model", problem, "measure a decoder, or this one by what it writes for each source")


def backward_documents(
    model: LanguageModel,
    tokenizer: Tokenizer,
    documents: Sequence[str],
    *,
    context: int | None = None,
    batch: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> int:
    """Add the gradient of the documents' summed nats to the parameters' own; give the number of tokens scored.

    What is read at once is as in ``document_losses``, and each such part goes backward before the next is read.
    """
    check_readable(model.spec)
    tokens = 0
    for _, windows in _read(model, tokenizer, documents, context):
        for part in _batches(windows, batch):
            _score(model, part).sum().backward()
            count = sum(len(window.inputs) for window in part)
            tokens += count
            if advance is not None:
                advance(count)
    return tokens


@torch.inference_mode()
def _token_losses(
    model: LanguageModel,
    tokenizer: Tokenizer,
    documents: Sequence[str],
    context: int | None,
    batch: int | None,
    advance: Callable[[int], None] | None,
) -> list[np.ndarray]:
    """Give the nats of each document's scored tokens in their order, float32."""
    losses: list[np.ndarray] = []
    for lengths, windows in _read(model, tokenizer, documents, context):
        nats = [np.zeros(max(0, length - 1), np.float32) for length in lengths]
        for part in _batches(windows, batch):
            for window, row in zip(part, _score(model, part).cpu().numpy(), strict=True):
                document, first = window.place
                nats[document][first : first + len(window.inputs)] = row[: len(window.inputs)]
            if advance is not None:
                advance(sum(len(window.inputs) for window in part))
        losses.extend(nats)
    return losses


def _read(
    model: LanguageModel, tokenizer: Tokenizer, documents: Sequence[str], context: int | None
) -> Iterator[tuple[list[int], list[Window]]]:
    """Give the lengths of some documents, the start token's among them, and their windows, the longest first."""
    for group in _groups(documents):
        encoded = [_sequence(ids, tokenizer.start, model.spec.vocab) for ids in tokenizer.encode_many(group)]
        size = context or model.spec.context
        windows = [window for index, sequence in enumerate(encoded) for window in _windows(sequence, index, size)]
        yield [len(sequence) for sequence in encoded], sorted(windows, key=lambda window: -len(window.inputs))


def _groups(documents: Sequence[str]) -> Iterator[list[str]]:
    """Part the documents so that only a few are held as tokens at a time."""
    group: list[str] = []
    size = 0
    for document in documents:
        group.append(document)
        size += len(document)
        if size >= GROUP_CHARACTERS:
            yield group
            group, size = [], 0
    if group:
        yield group


def _sequence(ids: list[int], start: int | None, vocab: int) -> np.ndarray:
    sequence = np.array(ids if start is None else [start, *ids], np.int64)
    if len(sequence) and sequence.max() >= vocab:
        problem = f"gives the token {sequence.max()}, the model knows {vocab}"
        raise InputError("tokenizer", problem, "use the tokenizer that the model was trained with")
    return sequence


def _windows(sequence: np.ndarray, document: int, context: int) -> Iterator[Window]:
    for first in range(0, len(sequence) - 1, context):
        last = min(first + context, len(sequence) - 1)
        yield Window(sequence[first:last], sequence[first + 1 : last + 1], (document, first))


def _batches(windows: Sequence[Window], batch: int | None) -> Iterator[Sequence[Window]]:
    begin = 0
    while begin < len(windows):
        rows = batch or max(1, TOKENS_AT_ONCE // len(windows[begin].inputs))
        yield windows[begin : begin + rows]
        begin += rows


def _score(model: LanguageModel, windows: Sequence[Window]) -> Tensor:
    """Give the nats of the windows' tokens, (windows, longest window); what stands behind a window is 0."""
    shape = (len(windows), max(len(window.inputs) for window in windows))
    ids, targets, segments = np.zeros(shape, np.int64), np.full(shape, IGNORED, np.int64), np.zeros(shape, np.int64)
    for row, window in enumerate(windows):
        length = len(window.inputs)
        ids[row, :length], targets[row, :length], segments[row, :length] = window.inputs, window.targets, 1
    marks = None if segments.all() else torch.from_numpy(segments)
    batch = Batch(torch.from_numpy(ids), marks).to(model.device)
    return token_nats(
        model.hidden(batch), model.logits, torch.from_numpy(targets).to(model.device), chunk_elements=LOGITS_AT_ONCE
    )
