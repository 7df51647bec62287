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
        self.model = with_parameters(model, self._copies)
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the masters into the copy."""
        _copy(list(self._copies), list(self._masters))

    @torch.no_grad()
    def collect(self, factor: float = 1.0) -> None:
        """Add the copy's gradients times ``factor`` to those of the masters, and drop them."""
        narrow, wide, sums, parts = [], [], [], []
        for mine, master in zip(self._copies, self._masters, strict=True):
            if mine.grad is None:
                continue
            part = torch.empty_like(master)
            narrow.append(mine.grad)
            wide.append(part)
            mine.grad = None
            if master.grad is None:
                master.grad = part
            else:
                sums.append(master.grad)
                parts.append(part)
        if wide:
            _copy(wide, narrow)
        if factor != 1.0:
            torch._foreach_mul_(wide, factor)  # pyright: ignore[reportPrivateImportUsage]
        if sums:
            torch._foreach_add_(sums, parts)  # pyright: ignore[reportPrivateImportUsage]


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


def _copy(into: list[Tensor], tensors: list[Tensor]) -> None:
    """Copy all in one call, cast to what they are copied into."""
    torch._foreach_copy_(into, tensors)  # pyright: ignore[reportPrivateImportUsage]
