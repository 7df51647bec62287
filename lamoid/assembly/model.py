"""The one language model of all families: an embedding, blocks, a norm and heads, as its spec lists them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from lamoid.assembly.adapter import connect
from lamoid.assembly.batch import Batch, as_batch
from lamoid.assembly.cache import Cache
from lamoid.assembly.heads import NextTokenSpec
from lamoid.assembly.layout import Balance, plan_layout
from lamoid.assembly.position import LearnedPositionSpec
from lamoid.assembly.sharing import share
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.wiring import in_series
from lamoid.errors import InputError


class Predictor(Protocol):
    """Whatever can say what comes next."""

    def new_cache(self, capacities: Sequence[int]) -> Cache:
        """Make room for texts of at most so many tokens each."""
        ...

    def step(self, reading: Batch | Tensor, cache: Cache) -> Tensor:
        """Read new (B, T) tokens behind the cached ones; give (B, vocab) logits for what follows each row."""
        ...


@dataclass(frozen=True)
class Reading:
    """What a trunk gives: (B, T, C) vectors, and the terms that its layers add to a training loss."""

    hidden: Tensor
    balances: tuple[Balance, ...] = ()


class LanguageModel(nn.Module):
    """Reads a ``Batch`` and answers through named heads; its weights are unset until loaded or initialised."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        trunk = spec.trunk
        self.embedding = spec.embedding.build(spec.scope)
        self.blocks = nn.ModuleList(block.build(at) for block, at in in_series(spec.blocks, spec.scope))
        self.norm = spec.norm.build(trunk.width)
        self.heads = nn.ModuleDict({name: head.build(trunk) for name, head in spec.heads.items()})
        share(self, spec.sharing)
        self.choice = connect(self)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are stored in."""
        return self.embedding.tokens.weight.dtype

    def forward(self, reading: Batch | Tensor, cache: Cache | None = None, *, head: str | None = None) -> Tensor:
        """Give the logits of a head, the default one if none is named: (B, T, vocab), or of the head's own shape."""
        batch = as_batch(reading)
        return self.answer(self.hidden(batch, cache), batch, head)

    def hidden(self, reading: Batch | Tensor, cache: Cache | None = None) -> Tensor:
        """Give the trunk's output (B, T, C), the last norm applied; with a cache, of the new tokens behind it."""
        return self.read(reading, cache).hidden

    def read(self, reading: Batch | Tensor, cache: Cache | None = None) -> Reading:
        """Give the trunk's output with the terms that its layers add to a training loss."""
        batch = as_batch(reading)
        self._check_length(batch, cache)
        self.choice.turn_to(batch)
        layout = plan_layout(batch, cache)
        x = self.embedding(batch.ids, layout)
        for block in self.blocks:
            x = block(x, layout)
        if cache is not None:
            cache.advance(batch.counts())
        return Reading(self.norm(x), tuple(layout.balances))

    def answer(self, hidden: Tensor, reading: Batch | Tensor, head: str | None = None) -> Tensor:
        """Apply a head to the trunk's output of a batch, the default one if none is named."""
        if head is None:
            head = next(iter(self.spec.heads))
        if head not in self.spec.heads:
            raise InputError("head", f"is {head[:80]!r}", f"choose one of {', '.join(self.spec.heads)}")
        batch = as_batch(reading)
        self.choice.turn_to(batch)
        return self.heads[head](hidden, self.embedding.tokens.weight, batch)

    def logits(self, hidden: Tensor) -> Tensor:
        """Apply the default head, one over the vocabulary: (..., C) to (..., vocab)."""
        return next(iter(self.heads.values()))(hidden, self.embedding.tokens.weight)

    def new_cache(self, capacities: Sequence[int]) -> Cache:
        """Make room for texts of at most so many tokens each; ``InputError`` for a model that writes none."""
        check_writes(self.spec)
        return Cache(capacities)

    def step(self, reading: Batch | Tensor, cache: Cache) -> Tensor:
        """Read new (B, T) tokens behind the cached ones; give the (B, vocab) logits of each row's last real token.

        Rows of unequal length are padded at their end, the padding marked by segment 0. A source is given with the
        first tokens, and kept.
        """
        batch = as_batch(reading)
        hidden = self.hidden(batch, cache)
        if batch.segments is None:
            return self.logits(hidden[:, -1:])[:, 0]
        last = torch.tensor(batch.counts(), device=hidden.device) - 1
        ends = hidden[torch.arange(len(last), device=hidden.device), last]
        return self.logits(ends[:, None])[:, 0]

    def _check_length(self, batch: Batch, cache: Cache | None) -> None:
        """Refuse what no position stands for; rotary positions have no table, so only the cache bounds them."""
        new = batch.ids.shape[1]
        length = new if cache is None else max(cache.lengths) + new
        if cache is not None and not cache.can_take(new):
            raise InputError("cache", f"holds {cache.capacity} tokens, asked for {length}", "make a longer cache")
        if isinstance(self.spec.embedding.positions, LearnedPositionSpec) and length > self.spec.context:
            problem = f"has {length} tokens, the model's context is {self.spec.context}"
            raise InputError("text", problem, "shorten it, or read it in windows")


def check_writes(spec: ModelSpec) -> None:
    """Raise ``InputError`` unless a model of ``spec`` can write a text token by token."""
    if spec.not_causal is not None:
        problem = "sees later tokens, so the model cannot write token by token"
        raise InputError(spec.not_causal, problem, "ask a causal model, or ask this one what its heads answer")
    name, head = next(iter(spec.heads.items()))
    if not isinstance(head, NextTokenSpec):
        problem = "is the default head and does not say which token comes next"
        raise InputError(
            f"heads.{name}", problem, "ask a model with a head over the vocabulary, or ask this one its own"
        )


def empty_model(spec: ModelSpec) -> LanguageModel:
    """Build a model whose parameters have shapes but no numbers: nothing of their size is allocated."""
    with torch.device("meta"):
        return LanguageModel(spec)
