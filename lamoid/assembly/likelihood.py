"""The only place that turns logits into a token loss: nats a token, in pieces, so that never all logits exist."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

IGNORED = -100

MOST_COMPILED = 64

Function = TypeVar("Function", bound=Callable[..., Tensor])


def compiled(function: Function) -> Function:
    """Hand a function to torch.compile, which compiles it anew for another kind of input, a part or a shape.

    It may do so ``MOST_COMPILED`` times. Torch's own limit is 8, beyond which it goes on uncompiled: a run with moves
    or with blocks of several kinds would meet it.
    """
    # Torch 2.13 takes the limit, and does not declare it.
    return torch.compile(function, recompile_limit=MOST_COMPILED)  # pyright: ignore[reportCallIssue]


class CompiledHead:
    """A head with which ``token_nats`` computes by torch.compile: logits and loss in one piece, nothing between."""

    def __init__(self, head: Callable[[Tensor], Tensor]) -> None:
        self.head = head
        self.nats: Callable[[Tensor, Tensor], Tensor] = compiled(partial(_nats, head))

    def __call__(self, hidden: Tensor) -> Tensor:
        return self.head(hidden)


def token_nats(
    hidden: Tensor, head: Callable[[Tensor], Tensor], targets: Tensor, *, chunk_elements: int = 1 << 24
) -> Tensor:
    """Give -log p(target) in nats for each token, in float32.

    ``hidden`` is (..., C), ``targets`` (...) of token ids; where a target is ``IGNORED`` the result is 0 and no
    gradient flows. ``head`` maps (N, C) to (N, vocab) logits. At most about ``chunk_elements`` logits exist at once: in
    training, each piece is computed again in the backward pass.
    """
    flat, wanted = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    if not len(wanted):
        return torch.zeros(targets.shape, device=hidden.device)
    nats_of = head.nats if isinstance(head, CompiledHead) else partial(_nats, head)
    vocab = head(flat[:0]).shape[-1]
    rows = max(1, chunk_elements // vocab)
    if not torch.is_grad_enabled():
        # Filled in place: small results kept between pieces would pin the heap that the pieces' logits came from.
        nats = torch.empty(len(wanted), device=flat.device)
        for begin in range(0, len(wanted), rows):
            piece = slice(begin, begin + rows)
            nats[piece] = nats_of(flat[piece], wanted[piece])
        return nats.view(targets.shape)
    pieces = []
    for begin in range(0, len(wanted), rows):
        part, goal = flat[begin : begin + rows], wanted[begin : begin + rows]
        if len(wanted) > rows:
            piece = checkpoint(nats_of, part, goal, use_reentrant=False, preserve_rng_state=False)
        else:
            piece = nats_of(part, goal)
        pieces.append(piece)
    return torch.cat(pieces).view(targets.shape)


def _nats(head: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(head(hidden).float(), targets, ignore_index=IGNORED, reduction="none")
