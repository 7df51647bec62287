"""The four laws of every part and wiring, as checks of a model: the tests here take them as the fixture ``laws``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from lamoid.assembly.batch import Batch
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.spec import ModelSpec

VOCAB = 23


@dataclass(frozen=True)
class Text:
    """A document: its ids, how many of them are its prefix, and its source."""

    ids: Tensor
    prefix: int
    source: Tensor

    def part(self, begin: int, end: int) -> "Text":
        return Text(self.ids[begin:end], max(0, min(self.prefix, end) - begin), self.source)


class Laws:
    """The future moves nothing; cached equals uncached; a batch equals each alone; so does a pack."""

    vocab = VOCAB
    cuts = (
        ((7,), ((2,), *((1,),) * 5)),
        ((7,), ((3,), (1,), (3,))),
        ((9, 4, 6), ((4, 2, 2), (2, 2, 0), (2, 0, 3), (1, 0, 1))),
        ((6, 6), ((2, 2), (1, 1), (3, 3))),
    )
    """Lengths of texts, and how many tokens of each the readings take: one by one, unevenly, ragged, side by side."""

    def made(self, spec: ModelSpec) -> LanguageModel:
        """A model with weights so large that every part of it shows, biases and norms too."""
        model = LanguageModel(spec)
        initialise(model, seed=3, deviation=0.4)
        generator = torch.Generator().manual_seed(8)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.2 * torch.randn(len(parameter), generator=generator))
        return model.eval()

    def check(self, model: LanguageModel) -> None:
        """Hold a model to all laws that its kind promises."""
        with torch.no_grad():
            self.check_batch(model)
            self.check_pack(model)
            if model.spec.not_causal is None:
                self.check_future(model)
                self.check_cached(model)

    def check_future(self, model: LanguageModel) -> None:
        """Tokens from the sixth on change nothing before it, and something from it on."""
        (text,) = texts([9])
        other = Text(torch.cat((text.ids[:5], (text.ids[5:] + 1) % VOCAB)), text.prefix, text.source)
        first, second = alone(model, text), alone(model, other)
        close(second[:5], first[:5])
        assert (second[5:] - first[5:]).abs().max() > 1e-3 * first.abs().max()

    def check_cached(self, model: LanguageModel) -> None:
        """Read in pieces, each row by its own length, a text gives what it gives read at once."""
        for lengths, counts in self.cuts:
            rows = texts(lengths)
            cache = model.new_cache(lengths)
            pieces: list[list[Tensor]] = [[] for _ in rows]
            for number, spans in enumerate(readings(lengths, counts)):
                batch = batch_of([[text.part(*span)] for text, span in zip(rows, spans, strict=True)])
                is_whole = batch.segments is None or bool(batch.segments.all())
                source = None if number else batch.source
                reading = Batch(batch.ids, None if is_whole else batch.segments, source=source, streams=batch.streams)
                for row, logits in enumerate(model(reading, cache)):
                    pieces[row].append(logits[: spans[row][1] - spans[row][0]])
            for text, found in zip(rows, pieces, strict=True):
                close(torch.cat(found), alone(model, text))

    def check_batch(self, model: LanguageModel) -> None:
        """Two texts of unequal length side by side, the shorter padded, are what each is alone."""
        rows = texts([7, 4])
        logits = model(batch_of([[text] for text in rows]))
        assert torch.isfinite(logits).all()
        for row, text in enumerate(rows):
            close(logits[row, : len(text.ids)], alone(model, text))

    def check_pack(self, model: LanguageModel) -> None:
        """Documents one behind the other, in two rows of which one is padded, are what each is alone."""
        documents = texts([3, 5, 1, 4, 2])
        rows = [documents[:3], documents[3:]]
        logits = model(batch_of(rows))
        assert torch.isfinite(logits).all()
        for answers, row in zip(logits, rows, strict=True):
            begin = 0
            for text in row:
                close(answers[begin : begin + len(text.ids)], alone(model, text))
                begin += len(text.ids)

    def batch(self, lengths: Sequence[int]) -> Batch:
        """Texts of these lengths, a row each."""
        return batch_of([[text] for text in texts(lengths)])


@pytest.fixture(scope="session")
def laws() -> Laws:
    return Laws()


def texts(lengths: Sequence[int]) -> list[Text]:
    generator = torch.Generator().manual_seed(11)
    made = []
    for place, length in enumerate(lengths):
        ids, source = (torch.randint(0, VOCAB, (n,), generator=generator) for n in (length, 2 + 3 * (place % 3)))
        made.append(Text(ids, min(2, length), source))
    return made


def batch_of(rows: Sequence[Sequence[Text]]) -> Batch:
    """Texts packed into rows, the rows padded at their end; a single text is given without segments."""
    source = _packed([[text.source for text in row] for row in rows])
    marks = [[(torch.arange(len(text.ids)) < text.prefix).long() for text in row] for row in rows]
    ids, segments = _packed([[text.ids for text in row] for row in rows])
    streams = {"prefix": _packed(marks)[0], "other": (5 * ids + 1) % VOCAB}
    return Batch(ids, segments, source=Batch(*source), streams=streams)


def alone(model: LanguageModel, text: Text) -> Tensor:
    return model(batch_of([[text]]))[0]


def close(ours: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(ours, wanted, rtol=2e-4, atol=2e-5 * max(1.0, wanted.abs().max().item()))


def readings(lengths: Sequence[int], counts: Sequence[Sequence[int]]) -> Iterator[list[tuple[int, int]]]:
    """Where each row's next reading begins and ends, until all are read to their end; a row may get nothing."""
    begins = [0] * len(lengths)
    for reading in counts:
        ends = [begin + new for begin, new in zip(begins, reading, strict=True)]
        yield list(zip(begins, ends, strict=True))
        begins = ends
    assert begins == list(lengths)


def _packed(rows: list[list[Tensor]]) -> tuple[Tensor, Tensor | None]:
    joined = [torch.cat(row) for row in rows]
    if len(rows) == len(rows[0]) == 1:
        return joined[0][None], None
    numbers = [torch.cat([torch.full_like(part, n + 1) for n, part in enumerate(row)]) for row in rows]
    ids, segments = (torch.nn.utils.rnn.pad_sequence(part, batch_first=True) for part in (joined, numbers))
    return ids, segments
