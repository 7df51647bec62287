"""Lower precision: parameters stay in float32, and what is computed with is a copy of them in 16 bits."""

import copy
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

Dtype = Literal["float32", "bfloat16", "float16"]

STORED: dict[Dtype, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""What the products of a run are computed in."""

_ALIGNED = 64
"""Numbers between which a parameter may begin in the buffer: 128 bytes, a cache line or two of any machine."""


class ComputeCopy:
    """A copy of ``model`` whose parameters are views of one flat buffer in 16 bits; all else is as in the original.

    Shared parameters are shared in the copy too, and frozen ones frozen. The masters, in float32, remain the model's:
    ``refresh`` rounds them into the copy, ``collect`` adds the copy's gradients to theirs in float32 (the scheme of
    Micikevicius et al., 2018).

    A gradient of the copy is put into float32 as soon as it is made, on the CPU where that of the step before was: who
    wants to keep one beyond its step makes a copy of it.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        self._masters = list(model.parameters())
        rooms = [-(-parameter.numel() // _ALIGNED) * _ALIGNED for parameter in self._masters]
        device = self._masters[0].device
        self.buffer = torch.zeros(sum(rooms), dtype=dtype, device=device)
        self._copies: list[nn.Parameter] = []
        for part, master in zip(self.buffer.split(rooms), self._masters, strict=True):
            view = part[: master.numel()].view(master.shape)
            self._copies.append(nn.Parameter(view, requires_grad=master.requires_grad))
        self._widenings = [_Widening(master) for master in self._masters]
        for mine, widening in zip(self._copies, self._widenings, strict=True):
            if mine.requires_grad:
                mine.grad_dtype = None
                mine.register_post_accumulate_grad_hook(widening)
        self.model = with_parameters(model, self._copies)
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the masters into the copy."""
        # All in one call, cast to what they are copied into.
        torch._foreach_copy_(list(self._copies), list(self._masters))  # pyright: ignore[reportPrivateImportUsage]

    @torch.no_grad()
    def collect(self, factor: float = 1.0) -> None:
        """Add the copy's gradients times ``factor`` to those of the masters, and drop them."""
        found, sums, parts = [], [], []
        for mine, master, widening in zip(self._copies, self._masters, self._widenings, strict=True):
            widening(mine)
            if mine.grad is None:
                continue
            found.append(mine.grad)
            if master.grad is None:
                master.grad = mine.grad
            else:
                sums.append(master.grad)
                parts.append(mine.grad)
            mine.grad = None
        if factor != 1.0:
            torch._foreach_mul_(found, factor)  # pyright: ignore[reportPrivateImportUsage]
        if sums:
            torch._foreach_add_(sums, parts)  # pyright: ignore[reportPrivateImportUsage]


class _Widening:
    """Puts a gradient of the copy of ``master`` into float32.

    Done when it is made, it is still at hand, and its memory serves the next one. Fresh memory costs a CPU more than
    what is written there, so that of the step before is used again. The copy is not known here: it knows this.
    """

    def __init__(self, master: nn.Parameter) -> None:
        self._master = master
        self._room: Tensor | None = None

    @torch.no_grad()
    def __call__(self, mine: Tensor) -> None:
        gradient, master = mine.grad, self._master
        if gradient is None or gradient.dtype == master.dtype:
            return
        room = self._room
        # Where parts of a step are added up, the room is taken by what the master has of them.
        if room is None or master.grad is not None:
            room = torch.empty_like(master)
        if master.grad is None and master.device.type == "cpu":
            self._room = room
        mine.grad = room.copy_(gradient)


def with_parameters(model: nn.Module, parameters: Iterable[nn.Parameter]) -> Any:
    """Copy the modules of ``model``, which gets these parameters, in the order in which it names its own.

    Specs, and the choice that a model and its adapted parts have in common, are the very objects of the original.
    """
    memo: dict[int, Any] = {id(own): given for own, given in zip(model.parameters(), parameters, strict=True)}
    for module in model.modules():
        for name in ("spec", "choice"):
            if name in vars(module):
                memo[id(vars(module)[name])] = vars(module)[name]
    return copy.deepcopy(model, memo)
