"""Where the tokens of one forward pass stand and which of them see which: worked out once, read by every layer."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from lamoid.assembly.batch import Batch
from lamoid.assembly.cache import Cache
from lamoid.assembly.position import RotarySpec, rotation


@dataclass
class Layout:
    """Positions (B or 1, T), who sees whom, and the length by which a dynamic scaling goes.

    ``visible`` is a boolean (B or 1, 1, T, S) mask, true where a query sees a key; ``None`` means plain causal order
    when ``causal`` is true, and everything when it is false. ``length`` is an integer, or a tensor (B, T) or
    (B, 1) of each token's document's length.
    """

    positions: Tensor
    length: int | Tensor
    causal: bool
    visible: Tensor | None = None
    rotations: dict[tuple[RotarySpec, int, torch.dtype], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def rotation(self, spec: RotarySpec, head_width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Give cosines and sines (B or 1, 1, T, D / 2), computed once for all layers of the same spec."""
        key = (spec, head_width, dtype)
        if key not in self.rotations:
            self.rotations[key] = rotation(spec, head_width, self.positions, self.length, dtype)
        return self.rotations[key]


def plan_layout(batch: Batch, cache: Cache | None) -> Layout:
    """Work out the layout of ``batch``, behind what ``cache`` holds.

    With a cache each row is one document and padding stands at its end, where no real token can see it; without one,
    ``segments`` parts a row into documents that do not see each other.
    """
    tokens, device = batch.ids.shape[1], batch.ids.device
    if cache is not None:
        return _behind(cache, tokens, device)
    places = torch.arange(tokens, device=device)[None]
    if batch.segments is None:
        return Layout(places, tokens, causal=True)
    segments = batch.segments
    opens = torch.ones_like(segments, dtype=torch.bool)
    opens[:, 1:] = segments[:, 1:] != segments[:, :-1]
    starts = torch.where(opens, places, 0).cummax(1).values
    same = segments[:, :, None] == segments[:, None, :]
    visible = same & (places[:, :, None] >= places[:, None, :])
    return Layout(places - starts, same.sum(-1), causal=False, visible=visible[:, None])


def _behind(cache: Cache, tokens: int, device: torch.device) -> Layout:
    """Lay ``tokens`` new ones behind the cached ones; dynamic scalings go by each row's capacity."""
    longest = max(cache.lengths)
    if cache.is_uniform:
        places = torch.arange(longest, longest + tokens, device=device)[None]
        if longest == 0 or tokens == 1:
            return Layout(places, cache.reach(device), causal=tokens > 1)
    else:
        places = cache.positions(tokens, device)
    keys = torch.arange(longest + tokens, device=device)
    visible = keys <= places[:, :, None]
    return Layout(places, cache.reach(device), causal=False, visible=visible[:, None])
