"""Writes many texts at once with one predictor and its cache of keys and values."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from lamoid.assembly.batch import Batch
from lamoid.assembly.cache import Cache
from lamoid.assembly.model import Predictor
from lamoid.errors import InputError
from lamoid.inference.request import Completion, Piece, Reason, Request
from lamoid.inference.sampler import Sampler, choose
from lamoid.inference.stopping import StopFinder


class TextStream(Protocol):
    """Takes token ids one by one and gives text of whole characters."""

    def push(self, token: int, /) -> str: ...

    def finish(self) -> str: ...


@dataclass(frozen=True)
class Engine:
    """A predictor and what it takes to write with it.

    The predictor reads at most ``context`` tokens, so a text ends there; ``ends`` are the tokens that end it before;
    ``open_text`` starts the decoder of a text that follows the ids given. At most ``rows`` texts are written at once.
    ``begin`` is ``None`` where a text goes on from its prompt. An encoder-decoder reads the prompt as its source, and
    every text begins with the token ``begin``.
    """

    predictor: Predictor
    context: int
    ends: frozenset[int]
    open_text: Callable[[Sequence[int]], TextStream]
    device: torch.device
    rows: int = 16
    begin: int | None = None

    def stream(self, requests: Sequence[Request]) -> Iterator[Piece]:
        """Give the pieces of all texts as they are written; every request has one piece with a reason, its last.

        Raises ``InputError``, before anything is read, for a prompt that is empty or longer than the context.
        """
        texts = [_Text(row, request, self) for row, request in enumerate(requests)]
        return (
            piece
            for first in range(0, len(texts), self.rows)
            for piece in self._write(texts[first : first + self.rows])
        )

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Write all texts to their end."""
        return collect(self.stream(requests), len(requests))

    def _write(self, texts: list["_Text"]) -> Iterator[Piece]:
        """Read the prompts side by side, then a token of each text at a time; finished ones leave the cache."""
        cache = self.predictor.new_cache([text.most_read for text in texts])
        source = None if self.begin is None else _pad([text.request.ids for text in texts], self.device)
        tokens = self._next([text.opening for text in texts], texts, cache, source)
        while True:
            yield from [text.take(token) for text, token in zip(texts, tokens, strict=True)]
            alive = [index for index, text in enumerate(texts) if text.reason is None]
            if not alive:
                return
            if len(alive) < len(texts):
                cache.select(torch.tensor(alive, device=self.device))
                texts = [texts[index] for index in alive]
            tokens = self._next([text.written[-1:] for text in texts], texts, cache)

    @torch.inference_mode()
    def _next(
        self, new: Sequence[Sequence[int]], texts: Sequence["_Text"], cache: Cache, source: Batch | None = None
    ) -> list[int]:
        """Read the ``new`` tokens of each text and choose the next one; the cache keeps a source."""
        logits = self.predictor.step(replace(_pad(new, self.device), source=source), cache)
        return choose(logits, [text.sampler for text in texts])


class _Text:
    """One text under way."""

    def __init__(self, row: int, request: Request, engine: Engine) -> None:
        length = len(request.ids)
        if not length:
            raise InputError("prompt", "has no tokens", "begin with the start token, or with some text")
        if length > engine.context:
            problem = f"has {length} tokens, the model's context is {engine.context}"
            raise InputError("prompt", problem, f"shorten it by at least {length - engine.context} tokens")
        self.row, self.request = row, request
        self.opening = request.ids if engine.begin is None else (engine.begin,)
        self.sampler = Sampler(request, self.opening)
        self.written: list[int] = []
        self.reason: Reason | None = None
        # The last token written is not read any more, so one may stand beyond the context.
        self.room = min(request.settings.max_tokens, engine.context - len(self.opening) + 1)
        self.most_read = len(self.opening) + self.room - 1
        self._ends = engine.ends
        self._decoder = engine.open_text(request.ids if engine.begin is None else ())
        self._finder = StopFinder(request.settings.stop)

    def take(self, token: int) -> Piece:
        """Add a token; it is the last if it ends the text, completes a stop string or fills the room."""
        self.written.append(token)
        if token in self._ends:
            self.reason, text = "end", ""
        else:
            text = self._finder.push(self._decoder.push(token))
            if len(self.written) == self.room:
                self.reason = "length"
        if self.reason is not None:
            text += self._finder.push(self._decoder.finish()) + self._finder.finish()
        if self._finder.has_stopped:
            self.reason = "stop"
        return Piece(self.row, token, text, self.reason)


def collect(pieces: Iterable[Piece], rows: int) -> list[Completion]:
    """Join the pieces of ``rows`` texts."""
    texts, ids, reasons = [""] * rows, [[] for _ in range(rows)], {}
    for piece in pieces:
        texts[piece.row] += piece.text
        ids[piece.row].append(piece.token)
        reasons[piece.row] = piece.reason
    return [Completion(texts[row], tuple(ids[row]), reasons[row]) for row in range(rows)]


def _pad(new: Sequence[Sequence[int]], device: torch.device) -> Batch:
    """Make a (B, T) batch; rows of unequal length are padded at the end, where nothing that counts can see it."""
    longest = max(len(ids) for ids in new)
    padded = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids in new], device=device)
    if all(len(ids) == longest for ids in new):
        return Batch(padded)
    segments = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in new], device=device)
    return Batch(padded, segments)
