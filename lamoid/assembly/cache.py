"""What is kept of tokens already read, so that a step reads only the new ones.

Rows are ragged: row b's next token stands at position ``lengths[b]``. Keys and values lie in one zeroed tensor a layer,
made at its first use and doubled when it is full; zeroed, because a masked position still meets the softmax's 0, and
0 x NaN is NaN.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

FIRST_SIZE = 256


class Memory(Protocol):
    """What a layer that keeps keys and values asks for."""

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, H, T, D) keys and values of the new tokens; give all of them, (B, H, S, D)."""
        ...


class KeyValues:
    """One layer's keys and values in the cache that owns it."""

    def __init__(self, owner: "Cache") -> None:
        self.owner = owner
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new tokens behind each row's old ones; give views of everything up to the longest row."""
        new = keys.shape[2]
        stop = max(self.owner.lengths) + new
        self.keys, self.values = self._grown(self.keys, keys, stop), self._grown(self.values, values, stop)
        if self.owner.is_uniform:
            self.keys[:, :, stop - new : stop] = keys
            self.values[:, :, stop - new : stop] = values
        else:
            row = torch.arange(len(keys), device=keys.device)[:, None]
            place = self.owner.positions(new, keys.device)
            self.keys[row, :, place] = keys.transpose(1, 2)
            self.values[row, :, place] = values.transpose(1, 2)
        return self.keys[:, :, :stop], self.values[:, :, :stop]

    def _grown(self, stored: Tensor | None, new: Tensor, stop: int) -> Tensor:
        """Give storage for ``stop`` tokens: doubled when full, so that a capacity asks for no memory before its use."""
        size = 0 if stored is None else stored.shape[2]
        if stored is not None and size >= stop:
            return stored
        rows, heads, _, width = new.shape
        grown = new.new_zeros(rows, heads, min(self.owner.capacity, max(stop, 2 * size, FIRST_SIZE)), width)
        if stored is not None:
            grown[:, :, :size] = stored
        return grown

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order."""
        if self.keys is not None and self.values is not None:
            self.keys, self.values = self.keys[rows], self.values[rows]


class Kept:
    """What one layer wants back as it left it: a recurrent state, the last inputs, the keys of a source.

    ``tensors`` are of the layer's own making, rows first; ``None`` before its first token.
    """

    def __init__(self) -> None:
        self.tensors: tuple[Tensor, ...] | None = None

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order."""
        if self.tensors is not None:
            self.tensors = tuple(tensor[rows] for tensor in self.tensors)


class Cache:
    """The state of texts under way, row b's of at most ``capacities[b]`` tokens.

    A row's capacity is its own, though the storage is the longest one's: a scaling that goes by it must give a text the
    same angles whatever texts stand beside it.
    """

    def __init__(self, capacities: Sequence[int]) -> None:
        self.capacities = list(capacities)
        self.capacity = max(self.capacities)
        self.lengths: list[int] = [0] * len(self.capacities)
        self.layers: dict[nn.Module, KeyValues | Kept] = {}

    def key_values(self, layer: nn.Module) -> KeyValues:
        """Give the keys and values of a layer, none at first."""
        found = self.layers.setdefault(layer, KeyValues(self))
        if not isinstance(found, KeyValues):
            raise TypeError(f"{type(layer).__name__} keeps something else than keys and values")
        return found

    def kept(self, layer: nn.Module) -> Kept:
        """Give what a layer left here, nothing at first."""
        found = self.layers.setdefault(layer, Kept())
        if not isinstance(found, Kept):
            raise TypeError(f"{type(layer).__name__} keeps keys and values")
        return found

    @property
    def is_uniform(self) -> bool:
        """Do all rows hold equally many tokens?"""
        return min(self.lengths) == max(self.lengths)

    def can_take(self, new: int) -> bool:
        """Is there room for ``new`` more tokens (padding is none of a row's, but takes the longest one's room)?"""
        return max(self.lengths) + new <= self.capacity

    def reach(self, device: torch.device) -> int | Tensor:
        """Give the rows' capacities: one number where they are equal, else (B, 1)."""
        if min(self.capacities) == max(self.capacities):
            return self.capacities[0]
        return torch.tensor(self.capacities, device=device)[:, None]

    def positions(self, new: int, device: torch.device) -> Tensor:
        """Give the (B, T) positions of the next ``new`` tokens."""
        return torch.tensor(self.lengths, device=device)[:, None] + torch.arange(new, device=device)

    def advance(self, counts: Sequence[int]) -> None:
        """Record that row b took ``counts[b]`` tokens; what was written beyond is overwritten later."""
        self.lengths = [length + count for length, count in zip(self.lengths, counts, strict=True)]

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order: finished ones are dropped, beams are copied."""
        kept = rows.tolist()
        self.lengths = [self.lengths[row] for row in kept]
        self.capacities = [self.capacities[row] for row in kept]
        for layer in self.layers.values():
            layer.select(rows)
