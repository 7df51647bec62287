"""How a run computes: in how many bits, compiled or not, and what is computed twice to save memory."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lamoid.assembly.block import Block
from lamoid.assembly.layout import Layout
from lamoid.assembly.likelihood import CompiledHead, compiled
from lamoid.assembly.model import LanguageModel
from lamoid.errors import InputError
from lamoid.training.precision import STORED, ComputeCopy, Dtype, with_parameters


class ComputeSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``compile`` hands each block to torch.compile; ``recompute`` "blocks" keeps only what enters a block.

    The rest is computed again in the backward pass (Chen et al., 2016): the same numbers, about a third more work.
    """

    compile: bool = False
    recompute: Literal["none", "blocks"] = "none"

    def check(self, device: str) -> None:
        """Raise ``InputError`` for a machine that cannot compile for this device."""
        if not self.compile:
            return
        # Here, for to import the compiler takes seconds.
        from torch._inductor.cpp_builder import get_cpp_compiler
        from torch._inductor.exc import InvalidCxxCompiler
        from torch.utils._triton import has_triton

        if device != "cpu" and not has_triton():
            raise InputError("compute.compile", "needs Triton, which is not there", "install it, or leave it out")
        if device == "cpu":
            try:
                get_cpp_compiler()
            except InvalidCxxCompiler as error:
                cure = "install one (CXX names it), or leave it out"
                raise InputError("compute.compile", "needs a C++ compiler, and none was found", cure) from error


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
        if spec.compile:
            _load_compiler()
        for module in self.model.modules():
            if spec.compile:
                _compile(module)
            if spec.recompute == "blocks" and isinstance(module, Block):
                vars(module)["forward"] = computed_twice(module.forward)

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


def _load_compiler() -> None:
    """Import it by itself: of what it imports in turn, torch's own, some is deprecated by torch."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        import torch._inductor.compile_fx  # noqa: F401


def _compile(module: nn.Module) -> None:
    """Compile a block by itself, and what a model does behind its blocks: alike blocks are compiled once."""
    if isinstance(module, Block):
        vars(module)["forward"] = compiled(module.forward)
    elif isinstance(module, LanguageModel):
        vars(module.norm)["forward"] = compiled(module.norm.forward)
        vars(module)["logits"] = CompiledHead(module.logits)


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
