"""Where the tokens of one forward pass stand and which of them see which: worked out once, read by every layer."""

from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lamoid.assembly.batch import Batch
from lamoid.assembly.cache import Cache
from lamoid.assembly.packed import Packed, pack_documents
from lamoid.assembly.position import RotarySpec, rotation
from lamoid.assembly.sight import (
    BidirectionalSpec,
    CausalSpec,
    EverywhereSpec,
    PrefixSpec,
    ReachSpec,
    SeesSpec,
    WindowSpec,
)
from lamoid.errors import InputError


class Sight(NamedTuple):
    """A boolean (B or 1, 1, T, S) mask, true where a query sees a key.

    ``None`` means plain causal order when ``causal`` is true, and everything when it is false: within the documents of
    ``packed`` where that is given, or else within the row.
    """

    mask: Tensor | None
    causal: bool
    packed: Packed | None = None


class Balance(NamedTuple):
    """A term that a layer adds to the loss, ``weight`` x ``value``, over ``tokens``; not additive over batches."""

    value: Tensor
    tokens: Tensor
    weight: float


@dataclass
class Layout:
    """Positions within documents (B or 1, T), places within rows, and what the layers of this pass share.

    ``length`` is what a dynamic scaling goes by: an integer, or a tensor (B, T) or (B, 1) of each token's document's
    length. ``segments`` is (B, T) where a row may hold several documents or padding. ``memory`` and ``facing`` are what
    cross-attention reads, (B, S, C), and how that is laid out. ``balances`` collects what layers add to the loss.
    """

    batch: Batch
    positions: Tensor
    places: Tensor
    length: int | Tensor
    segments: Tensor | None = None
    cache: Cache | None = None
    memory: Tensor | None = None
    facing: "Layout | None" = None
    balances: list[Balance] = field(default_factory=list)
    found: dict[Any, Any] = field(default_factory=dict)

    @property
    def keys(self) -> int:
        """How many places a query may look at: those of this pass, behind the cached ones."""
        return self.places.shape[1] + (0 if self.cache is None else max(self.cache.lengths))

    @property
    def documents(self) -> Tensor | None:
        """The (B, T) numbers of the documents, 0 for padding, whether cached or not; ``None``: one whole row each."""
        return self.batch.segments

    def towards(self, memory: Tensor | None, facing: "Layout | None") -> "Layout":
        """Give the same layout with something for cross-attention to read."""
        return replace(self, memory=memory, facing=facing)

    def rotation(self, spec: RotarySpec, head_width: int, dtype: torch.dtype, mark: str) -> tuple[Tensor, Tensor]:
        """Give cosines and sines (B or 1, 1, T, D / 2), computed once for all layers of the same spec.

        ``mark`` is the same for equal specs and widths: the compiler cannot look a spec up, but a word.
        """
        key = (mark, dtype)
        if key not in self.found:
            self.found[key] = rotation(spec, head_width, self.positions, self.length, dtype)
        return self.found[key]

    def sight(self, sees: SeesSpec, reach: ReachSpec) -> Sight:
        """Give who sees whom, computed once for all layers that see alike."""
        key = ("sight", type(sees), reach.tokens if isinstance(reach, WindowSpec) else 0)
        if key not in self.found:
            self.found[key] = self._sight(sees, reach)
        return self.found[key]

    def sight_apart(self, sees: SeesSpec, reach: ReachSpec) -> Sight:
        """Give who sees whom, document by document where that is possible: then without a mask of T x T.

        The compiler would compile anew for every batch, so it is given the mask.
        """
        is_near = isinstance(reach, EverywhereSpec) or reach.tokens >= self.keys
        is_known = self.segments is not None and self.cache is None and is_near and not isinstance(sees, PrefixSpec)
        if not is_known or self.segments is None or torch.compiler.is_compiling():
            return self.sight(sees, reach)
        if "packed" not in self.found:
            self.found["packed"] = pack_documents(self.segments, self.positions)
        return Sight(None, isinstance(sees, CausalSpec), self.found["packed"])

    def distances(self) -> Tensor:
        """Give key place - query place, (B or 1, T, S): as positions, wherever a query may see a key."""
        if "distances" not in self.found:
            keys = torch.arange(self.keys, device=self.places.device)
            self.found["distances"] = keys - self.places[:, :, None]
        return self.found["distances"]

    def _sight(self, sees: SeesSpec, reach: ReachSpec) -> Sight:
        is_near = isinstance(reach, EverywhereSpec) or reach.tokens >= self.keys
        is_one = self.segments is None and is_near
        if is_one and isinstance(sees, BidirectionalSpec):
            return Sight(None, causal=False)
        tokens = self.places.shape[1]
        is_uniform = self.cache is None or self.cache.is_uniform
        if is_one and isinstance(sees, CausalSpec) and is_uniform and (tokens == 1 or tokens == self.keys):
            return Sight(None, causal=tokens > 1)
        distances = self.distances()
        mask = torch.ones_like(distances, dtype=torch.bool)
        if not isinstance(sees, BidirectionalSpec):
            mask = distances <= 0
        if isinstance(sees, PrefixSpec):
            mask = mask | self._prefix()
        if isinstance(reach, WindowSpec):
            mask = mask & (distances.abs() < reach.tokens)
        if self.segments is not None:
            mask = mask & (self.segments[:, :, None] == self.segments[:, None, :])
        return Sight(mask[:, None], causal=False)

    def _prefix(self) -> Tensor:
        """Mark the keys that belong to a prefix, (B, 1, S); those already cached are seen as the past anyway."""
        if self.cache is not None and max(self.cache.lengths):
            return self._late_prefix()
        marks = self.batch.stream("prefix") != 0
        if self.segments is None and self.batch.segments is not None:
            marks = marks & (self.batch.segments != 0)
        return marks[:, None]

    def _late_prefix(self) -> Tensor:
        """Mark nothing: what is cached has not seen the new tokens, so a prefix must be read at once."""
        marks = self.batch.streams.get("prefix")
        if marks is not None and bool(marks.any()):
            cure = "give the whole prefix with the first tokens"
            raise InputError("batch.streams.prefix", "marks tokens behind those that are already cached", cure)
        return torch.zeros(1, 1, self.keys, dtype=torch.bool, device=self.places.device)

    def facing_sight(self, sees: SeesSpec) -> Sight:
        """Give what is seen of the memory; documents of equal number see each other if it was laid out apart."""
        if self.facing is None:
            return self.sight(sees, EverywhereSpec())
        if self.facing.documents is None and self.segments is None:
            return Sight(None, causal=False)
        if "faced" not in self.facing.found:
            self.facing.found["faced"] = self._faced(self.facing.batch)
        return self.facing.found["faced"]

    def _faced(self, source: Batch) -> Sight:
        theirs = torch.ones_like(source.ids) if source.segments is None else source.segments
        ours = self.documents
        if self.segments is None or ours is None:
            return Sight((theirs != 0)[:, None, None], causal=False)
        # Padding sees everything, for a row of a softmax over nothing would be NaN.
        mask = (ours[:, :, None] == theirs[:, None, :]) | (ours == 0)[:, :, None]
        return Sight(mask[:, None], causal=False)


def plan_layout(batch: Batch, cache: Cache | None) -> Layout:
    """Work out the layout of ``batch``, behind what ``cache`` holds.

    With a cache each row is one document and padding stands at its end, where no real token can see it; without one,
    ``segments`` parts a row into documents that do not see each other. Raise ``InputError`` for rows that a cache
    cannot take.
    """
    tokens, device = batch.ids.shape[1], batch.ids.device
    if cache is not None:
        _check_rows(batch)
        longest = max(cache.lengths)
        is_uniform = cache.is_uniform
        places = (
            torch.arange(longest, longest + tokens, device=device)[None]
            if is_uniform
            else cache.positions(tokens, device)
        )
        return Layout(batch, places, places, cache.reach(device), cache=cache)
    places = torch.arange(tokens, device=device)[None]
    if batch.segments is None:
        return Layout(batch, places, places, tokens)
    segments = batch.segments
    opens = torch.ones_like(segments, dtype=torch.bool)
    opens[:, 1:] = segments[:, 1:] != segments[:, :-1]
    starts = torch.where(opens, places, 0).cummax(1).values
    # By their runs: a number that comes again further on is another document, for positions and for all mixers.
    runs = torch.where(segments != 0, opens.cumsum(1), 0)
    counts = torch.zeros(len(runs), tokens + 1, dtype=runs.dtype, device=device)
    lengths = counts.scatter_add_(1, runs, torch.ones_like(runs)).gather(1, runs)
    return Layout(batch, places - starts, places, lengths, segments=runs)


def _check_rows(batch: Batch) -> None:
    """Refuse rows of several documents, or with padding before a token: behind cached ones they would be misread."""
    if batch.segments is None or batch.ids.shape[1] == 1 or torch.compiler.is_compiling():
        return
    before, after = batch.segments[:, :-1], batch.segments[:, 1:]
    if bool(((after != 0) & (after != before)).any()):
        problem = "hold several documents a row, or padding before a token, which a cache cannot take"
        raise InputError("batch.segments", problem, "give each text a row of its own, padded at its end")
