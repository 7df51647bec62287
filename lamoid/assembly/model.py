"""The one language model of all families: an embedding, blocks, a norm and heads, as its spec lists them."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from lamoid.assembly.batch import Batch, as_batch
from lamoid.assembly.cache import Cache
from lamoid.assembly.layout import plan_layout
from lamoid.assembly.position import LearnedPositionSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.errors import InputError


class Predictor(Protocol):
    """Whatever can say what comes next."""

    def new_cache(self, capacities: Sequence[int]) -> Cache:
        """Make room for texts of at most so many tokens each."""
        ...

    def step(self, reading: Batch | Tensor, cache: Cache) -> Tensor:
        """Read new (B, T) tokens behind the cached ones; give (B, vocab) logits for what follows each row."""
        ...


class LanguageModel(nn.Module):
    """Reads a ``Batch`` and answers through named heads; its weights are unset until loaded or initialised."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = spec.embedding.build(spec.vocab, spec.width, spec.context)
        self.blocks = nn.ModuleList(block.build(spec.width) for block in spec.blocks)
        self.norm = spec.norm.build(spec.width)
        self.heads = nn.ModuleDict({name: head.build(spec.width, spec.vocab) for name, head in spec.heads.items()})

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are stored in."""
        return self.embedding.tokens.weight.dtype

    def forward(self, reading: Batch | Tensor, cache: Cache | None = None) -> Tensor:
        """Give the default head's (B, T, vocab) logits."""
        return self.logits(self.hidden(reading, cache))

    def hidden(self, reading: Batch | Tensor, cache: Cache | None = None) -> Tensor:
        """Give the trunk's output (B, T, C), the last norm applied; with a cache, of the new tokens behind it."""
        batch = as_batch(reading)
        self._check_length(batch, cache)
        layout = plan_layout(batch, cache)
        x = self.embedding(batch, layout)
        for index, block in enumerate(self.blocks):
            x = block(x, layout, None if cache is None else cache.layers[index])
        if cache is not None:
            cache.advance(_count_tokens(batch))
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Apply the default head: (..., C) to (..., vocab)."""
        return next(iter(self.heads.values()))(hidden, self.embedding.tokens.weight)

    def new_cache(self, capacities: Sequence[int]) -> Cache:
        """Make room for texts of at most so many tokens each."""
        return Cache(len(self.blocks), capacities)

    def step(self, reading: Batch | Tensor, cache: Cache) -> Tensor:
        """Read new (B, T) tokens behind the cached ones; give the (B, vocab) logits of each row's last real token.

        Rows of unequal length are padded at their end, the padding marked by segment 0.
        """
        batch = as_batch(reading)
        hidden = self.hidden(batch, cache)
        if batch.segments is None:
            return self.logits(hidden[:, -1])
        last = torch.tensor(_count_tokens(batch), device=hidden.device) - 1
        return self.logits(hidden[torch.arange(len(last), device=hidden.device), last])

    def _check_length(self, batch: Batch, cache: Cache | None) -> None:
        """Refuse what no position stands for; rotary positions have no table, so only the cache bounds them."""
        new = batch.ids.shape[1]
        length = new if cache is None else max(cache.lengths) + new
        if cache is not None and not cache.can_take(new):
            raise InputError("cache", f"holds {cache.capacity} tokens, asked for {length}", "make a longer cache")
        if isinstance(self.spec.embedding.positions, LearnedPositionSpec) and length > self.spec.context:
            problem = f"has {length} tokens, the model's context is {self.spec.context}"
            raise InputError("text", problem, "shorten it, or read it in windows")


def _count_tokens(batch: Batch) -> list[int]:
    """Count each row's tokens that are not padding."""
    if batch.segments is None:
        return [batch.ids.shape[1]] * batch.ids.shape[0]
    return (batch.segments != 0).sum(1).tolist()
