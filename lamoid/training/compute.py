"""How a run computes: in how many bits, compiled or not, and what is computed twice to save memory."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lamoid.assembly.block import Block
from lamoid.assembly.layout import Layout
from lamoid.training.precision import STORED, ComputeCopy, Dtype, with_parameters


class ComputeSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``compile`` hands each block to torch.compile; ``recompute`` "blocks" keeps only what enters a block.

    The rest is computed again in the backward pass (Chen et al., 2016): the same numbers, about a third more work.
    """

    compile: bool = False
    recompute: Literal["none", "blocks"] = "none"


class Reader:
    """What objectives are given in place of a model that is trained: ``model``, which computes as the run is to.

    It is the model itself where nothing is asked for. Otherwise it has modules of its own, for ``compile`` and
    ``recompute`` change them, and in float32 the very parameters of the original.
    """

    def __init__(self, original: nn.Module, dtype: Dtype, spec: ComputeSpec) -> None:
        self._original = original
        self._parameters = list(original.parameters())
        self._copy = None if dtype == "float32" else ComputeCopy(original, STORED[dtype])
        self.model: Any = original
        if self._copy is not None:
            self.model = self._copy.model
        elif spec != ComputeSpec():
            self.model = with_parameters(original, self._parameters)
        for block in [module for module in self.model.modules() if isinstance(module, Block)]:
            if spec.compile:
                block.forward = torch.compile(block.forward)
            if spec.recompute == "blocks":
                block.forward = computed_twice(block.forward)

    def is_of(self, model: nn.Module) -> bool:
        """Does it read this model, with the parameters that it has now?"""
        if model is not self._original:
            return False
        now = list(model.parameters())
        return len(now) == len(self._parameters) and all(
            one is other and one.requires_grad == was
            for one, other, was in zip(now, self._parameters, self._requires(), strict=True)
        )

    def refresh(self) -> None:
        """Take over the numbers of the model that is trained."""
        if self._copy is not None:
            self._copy.refresh()

    def collect(self, factor: float) -> None:
        """Hand the gradients, times ``factor``, on to the model that is trained."""
        if self._copy is not None:
            self._copy.collect(factor)

    def _requires(self) -> list[bool]:
        return [parameter.requires_grad for parameter in self.model.parameters()]


def computed_twice(forward: Callable[[Tensor, Layout], Tensor]) -> Callable[[Tensor, Layout], Tensor]:
    """Wrap a block's forward pass: what it computes inside is not kept, but computed again when it is needed."""

    def run(x: Tensor, layout: Layout) -> Tensor:
        if not torch.is_grad_enabled():
            return forward(x, layout)
        # The second time must find what the first one found: a layer that finds its sight worked out keeps less.
        seen, passes = dict(layout.found), []

        def again(x: Tensor) -> Tensor:
            passes.append(replace(layout, found=dict(seen), balances=[]))
            return forward(x, passes[-1])

        answer = checkpoint(again, x, use_reentrant=False)
        layout.found.update(passes[0].found)
        layout.balances.extend(passes[0].balances)
        del passes[:]
        return answer

    return run
