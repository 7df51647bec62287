"""Where the documents of one forward pass begin and end, for mixers that walk along them: worked out once a pass."""

from typing import NamedTuple

import torch
from torch import Tensor

from lamoid.assembly.layout import Layout


class Packing(NamedTuple):
    """The real tokens in the order in which a recurrence reads them: all first tokens, then all second ones.

    ``order`` are their places in the flattened (B x T) pass, ``sizes`` how many documents reach each time (on the CPU),
    ``rows`` the rows that the documents stand in; at each time the documents stand from the longest to the shortest.
    """

    order: Tensor
    sizes: Tensor
    rows: Tensor


def is_plain(layout: Layout) -> bool:
    """Does every row hold one document from its first place on, with padding, if any, behind it?"""
    if layout.documents is None or layout.cache is not None:
        return True
    if "is_plain" not in layout.found:
        is_first = (layout.positions == layout.places) | (layout.documents == 0)
        layout.found["is_plain"] = bool(is_first.all())
    return layout.found["is_plain"]


def pack(layout: Layout) -> Packing | None:
    """Tell how to read documents apart, none of them longer than it is; ``None``: each row may be read as it stands.

    A row of one document may be: padding behind it moves nothing, unless the state behind the last token is kept.
    """
    if layout.documents is None or (layout.cache is None and is_plain(layout)):
        return None
    if "packing" not in layout.found:
        layout.found["packing"] = _pack(layout, layout.documents)
    return layout.found["packing"]


def _pack(layout: Layout, documents: Tensor) -> Packing | None:
    real = documents != 0
    if layout.cache is not None and bool(real.all()):
        return None
    tokens, device = documents.shape[1], documents.device
    positions = layout.positions if layout.cache is None else torch.arange(tokens, device=device)[None]
    positions = positions.expand_as(documents)
    begins = (real & (positions == 0)).flatten()
    order = real.flatten().nonzero()[:, 0]
    times, document = positions.flatten()[order], (begins.cumsum(0) - 1)[order]
    count = int(begins.sum())
    longest_first = torch.bincount(document, minlength=count).argsort(descending=True, stable=True)
    rank = torch.empty_like(longest_first)
    rank[longest_first] = torch.arange(count, device=device)
    rows = (begins.nonzero()[:, 0] // tokens)[longest_first]
    return Packing(order[(times * count + rank[document]).argsort()], torch.bincount(times).cpu(), rows)


def spread(layout: Layout, gap: int) -> tuple[Tensor, int] | None:
    """Give (B, T) places with ``gap`` free ones between documents, and the length of such a row.

    ``None``: documents and padding stand in one row each, so nothing is to be moved apart.
    """
    if layout.segments is None:
        return None
    key = ("spread", gap)
    if key not in layout.found:
        runs = (layout.positions == 0).cumsum(1) - 1
        layout.found[key] = layout.places + gap * runs, layout.places.shape[1] + gap * int(runs.max())
    return layout.found[key]
