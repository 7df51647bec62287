"""Attention's own arithmetic: values mixed by softmax(queries x keys), by torch's kernel or in products of our own."""

import math
from functools import partial

import torch
from torch import Tensor, nn

from lamoid.assembly.layout import Sight
from lamoid.assembly.packed import attend_within

LEAST_BLOCK, MOST_BLOCKS = 128, 4
"""Queries of a block of the compiled products: more and smaller ones cost more in calls than they save (measured)."""


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    sight: Sight,
    *,
    factor: float | None = None,
    limit: float | None = None,
) -> Tensor:
    """Mix (B, G, S, D) values for (B, H, T, D) queries, H / G of them to a key head, by what they see.

    The mask may be boolean or a bias that is added, (B or 1, 1 or H, T, S). Scores are multiplied by ``factor``
    (1 / sqrt(D) if ``None``) and softly capped at ``limit``.
    """
    rows, heads, tokens, width = queries.shape
    groups, mask = keys.shape[1], sight.mask
    if sight.packed is not None:
        within = partial(_attend_within, causal=sight.causal, factor=factor)
        return attend_within(queries, keys, values, sight.packed, within, causal=sight.causal)
    if limit is not None:
        return _attend_capped(queries, keys, values, sight, factor or 1 / math.sqrt(width), limit)
    if torch.compiler.is_compiling() and queries.dtype == torch.bfloat16 and queries.device.type == "cpu":
        # torch's kernel for it is slower on a CPU than products over all queries of a key head at once, the steps
        # between them fused by the compiler; uncompiled, these steps cost what the products save.
        return _attend_grouped(queries, keys, values, sight, factor or 1 / math.sqrt(width))
    if tokens == 1 and (mask is None or mask.shape[1] == 1):
        # The queries of one key head stand where times would: nothing is repeated, and no kernel is made anew for
        # every length, as oneDNN does for plain products.
        grouped = queries.reshape(rows, groups, heads // groups, width)
        mixed = nn.functional.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask, scale=factor)
        return mixed.reshape(rows, heads, 1, width)
    return nn.functional.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=mask,
        is_causal=sight.causal and mask is None,
        scale=factor,
        enable_gqa=heads != groups,
    )


def _attend_within(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, *, causal: bool, factor: float | None
) -> Tensor:
    return attend(queries, keys, values, Sight(mask, causal), factor=factor)


def _attend_grouped(queries: Tensor, keys: Tensor, values: Tensor, sight: Sight, factor: float) -> Tensor:
    """Attend in batched products, the softmax between them in float32.

    Where only earlier places are seen, queries go block by block, each with the keys up to its end: with two blocks a
    quarter of the work is not done, with four three eighths.
    """
    tokens = queries.shape[2]
    block = max(LEAST_BLOCK, tokens // MOST_BLOCKS)
    if sight.mask is not None or not sight.causal or tokens != keys.shape[2] or tokens % block:
        return _attend_block(queries, keys, values, sight, factor)
    parts = [
        _attend_block(
            queries[:, :, at : at + block],
            keys[:, :, : at + block],
            values[:, :, : at + block],
            sight,
            factor,
            first=at,
        )
        for at in range(0, tokens, block)
    ]
    return torch.cat(parts, 2) if len(parts) > 1 else parts[0]


def _attend_block(
    queries: Tensor, keys: Tensor, values: Tensor, sight: Sight, factor: float, *, first: int = 0
) -> Tensor:
    """Attend in two products; the first query stands at place ``first``."""
    rows, heads, tokens, width = queries.shape
    groups, places = keys.shape[1], keys.shape[2]
    grouped = queries.reshape(rows * groups, -1, width)
    products = torch.bmm(grouped, keys.reshape(rows * groups, places, width).transpose(1, 2))
    scores = products.view(rows, groups, heads // groups, tokens, places).float() * factor
    mask = sight.mask
    if mask is None and sight.causal:
        # Compared where they are needed: as a tensor of its own the triangle would be stored and read.
        at = torch.arange(max(first + tokens, places), device=queries.device)
        scores = torch.where(at[first : first + tokens, None] >= at[None, :places], scores, -math.inf)
    elif mask is not None:
        seen = mask.view(mask.shape[0], 1, 1, tokens, places) if mask.shape[1] == 1 else mask.unflatten(1, (groups, -1))
        # Finite for a row that sees nothing: its softmax would be NaN.
        least = torch.finfo(torch.float32).min
        scores = torch.where(seen, scores, least) if mask.dtype == torch.bool else (scores + seen).clamp(min=least)
    shares = scores.softmax(-1).to(values.dtype).view(rows * groups, -1, places)
    return torch.bmm(shares, values.reshape(rows * groups, places, width)).view(rows, heads, tokens, width)


def _attend_capped(queries: Tensor, keys: Tensor, values: Tensor, sight: Sight, factor: float, limit: float) -> Tensor:
    """Attend in plain steps: the fused kernels know no cap."""
    rows, heads, tokens, width = queries.shape
    groups, places = keys.shape[1], keys.shape[2]
    grouped = queries.view(rows, groups, heads // groups, tokens, width)
    scores = torch.matmul(grouped, keys[:, :, None].transpose(-1, -2)) * factor
    scores = (limit * torch.tanh(scores / limit)).view(rows, heads, tokens, places)
    mask = sight.mask
    if mask is None and sight.causal:
        mask = scores.new_ones(tokens, places, dtype=torch.bool).tril()
    if mask is not None and mask.dtype == torch.bool:
        # Finite, and cleared afterwards: a softmax over nothing but minus infinity would be NaN.
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    elif mask is not None:
        scores = scores + mask
    shares = scores.float().softmax(-1)
    if mask is not None and mask.dtype == torch.bool:
        shares = shares.masked_fill(~mask, 0.0)
    shares = shares.to(values.dtype).view(rows, groups, heads // groups, tokens, places)
    return torch.matmul(shares, values[:, :, None]).view(rows, heads, tokens, width)
