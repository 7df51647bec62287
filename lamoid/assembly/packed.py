"""Attention within packed documents: each beside others of about its length, so that no mask of T x T is made."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Drawer(NamedTuple):
    """Documents of a like length: their tokens' places in the flattened (B x T) pass, (N, L), and which are there.

    A document that is shorter than L has its first token again behind its last one, where ``is_there`` (N, L) is false.
    """

    places: Tensor
    is_there: Tensor


class Packed(NamedTuple):
    """All documents of a pass in drawers, the lengths in each within a factor of two.

    ``origins`` (B, T) says where each token stands when the drawers are laid one behind the other; padding stands
    behind all.
    """

    drawers: tuple[Drawer, ...]
    origins: Tensor


Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]


def pack_documents(runs: Tensor, positions: Tensor) -> Packed:
    """Sort the documents of (B, T) ``runs``, 0 for padding, with their tokens' ``positions``, into drawers.

    It waits for the device: the drawers' sizes are shapes.
    """
    tokens = runs.shape[1]
    is_begin = (runs != 0) & (positions == 0)
    begins = is_begin.flatten().nonzero()[:, 0]
    number = is_begin.flatten().cumsum(0) - 1
    lengths = torch.bincount(number[(runs != 0).flatten()], minlength=len(begins))
    origins = torch.full_like(runs, 0).flatten()
    drawers, laid = [], 0
    length, listed = 1, lengths.tolist()
    while length // 2 < tokens and listed:
        chosen = [index for index, each in enumerate(listed) if length // 2 < each <= length]
        if chosen:
            which = torch.tensor(chosen, device=runs.device)
            longest = max(listed[index] for index in chosen)
            offsets = torch.arange(longest, device=runs.device)
            is_there = offsets < lengths[which, None]
            places = begins[which, None] + torch.where(is_there, offsets, 0)
            here = laid + torch.arange(places.numel(), device=runs.device).view_as(places)
            origins[places[is_there]] = here[is_there]
            drawers.append(Drawer(places, is_there))
            laid += places.numel()
        length *= 2
    return Packed(tuple(drawers), torch.where(runs != 0, origins.view_as(runs), laid))


def attend_within(
    queries: Tensor, keys: Tensor, values: Tensor, packed: Packed, attend: Attend, *, causal: bool
) -> Tensor:
    """Let (B, H, T, D) queries see the (B, G, T, D) keys of their own documents; padding gets zeros.

    ``attend`` is called for each drawer, with a mask (N, 1, 1, L) of the keys that are there where the order does not
    already keep the others out of sight: behind a causal query they are, at the end of the document.
    """
    flat = [x.transpose(1, 2).flatten(0, 1) for x in (queries, keys, values)]
    parts = []
    for places, is_there in packed.drawers:
        mine, seen, told = (
            x.index_select(0, places.flatten()).unflatten(0, places.shape).transpose(1, 2) for x in flat
        )
        mask = None if causal else is_there[:, None, None]
        parts.append(attend(mine, seen, told, mask).transpose(1, 2).flatten(0, 1))
    parts.append(flat[0].new_zeros(1, *flat[0].shape[1:]))
    rows, heads, tokens, width = queries.shape
    mixed = torch.cat(parts).index_select(0, packed.origins.flatten())
    return mixed.view(rows, tokens, heads, width).transpose(1, 2)
