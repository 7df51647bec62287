"""What a model's heads answer to texts: texts to a padded batch, and a head's answers without the padding."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lamoid.assembly.batch import Batch
from lamoid.assembly.embedding import TypesSpec
from lamoid.assembly.model import LanguageModel
from lamoid.errors import InputError
from lamoid.text.tokenizer import Tokenizer

ROWS = 16
Text = str | tuple[str, str]


def answers(
    model: LanguageModel, tokenizer: Tokenizer, texts: Sequence[Text], *, head: str | None, begin: int | None
) -> Iterator[Tensor]:
    """Give a head's answer to each text or pair of texts: (outputs,), or (T, outputs) where every token is answered.

    With ``begin`` the model is an encoder-decoder: it reads a text as its source and once more behind that token, the
    last one left out, as transformers does for T5's classes.
    """
    for first in range(0, len(texts), ROWS):
        batch, lengths = _read(model, tokenizer, texts[first : first + ROWS], begin)
        with torch.inference_mode():
            found = model(batch, head=head)
        yield from (row[:length] if found.ndim == 3 else row for row, length in zip(found, lengths, strict=True))


def _read(
    model: LanguageModel, tokenizer: Tokenizer, texts: Sequence[Text], begin: int | None
) -> tuple[Batch, list[int]]:
    """Make the batch of several texts, padded at their end, and give their lengths."""
    read = [_encode(tokenizer, text) for text in texts]
    lengths = [len(ids) for ids, _ in read]
    _check(model, read)
    ids, types = (_padded([row[part] for row in read]) for part in (0, 1))
    is_even = min(lengths) == max(lengths)
    segments = None if is_even else (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    batch = Batch(ids, segments, types)
    if begin is not None:
        opening = torch.full((len(texts), 1), begin)
        batch = Batch(torch.cat((opening, ids[:, :-1]), dim=1), segments, source=batch)
    return batch.to(model.device), lengths


def _encode(tokenizer: Tokenizer, text: Text) -> tuple[list[int], list[int]]:
    """Give ids and types of a text, or of two in the order of the tokenizer's template."""
    if isinstance(text, str):
        ids = tokenizer.prompt(text)
        return ids, [0] * len(ids)
    is_pair = isinstance(text, tuple) and len(text) == 2 and all(isinstance(part, str) for part in text)
    if not is_pair:
        raise InputError("text", f"is {str(text)[:80]!r}", "give a text, a pair of texts, or a list of these")
    return tokenizer.pair(*text)


def _check(model: LanguageModel, read: Sequence[tuple[list[int], list[int]]]) -> None:
    """Refuse ids and types that the model has no row for."""
    spec = model.spec
    highest = max((number for ids, _ in read for number in ids), default=0)
    if highest >= spec.vocab:
        problem = f"gives the token {highest}, the model knows {spec.vocab}"
        raise InputError("tokenizer", problem, "use the tokenizer that the model was trained with")
    kinds = spec.embedding.types.count if isinstance(spec.embedding.types, TypesSpec) else None
    highest = max((kind for _, types in read for kind in types), default=0)
    if kinds is not None and highest >= kinds:
        problem = f"gives the token type {highest}, the model knows {kinds}"
        raise InputError("tokenizer", problem, "use the tokenizer that the model was trained with, or join the texts")


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
