"""Recurrent mixers: LSTM (Hochreiter and Schmidhuber, 1997), GRU (Cho et al., 2014) and the plain RNN (Elman, 1990)."""

from collections.abc import Callable
from typing import Any, Literal, cast

import msgspec
import torch
from torch import Tensor, nn

from lamoid.assembly.bounds import MOST_LAYERS, MOST_WIDTH, whole
from lamoid.assembly.documents import Packing, pack
from lamoid.assembly.layout import Layout
from lamoid.assembly.linear import Dense, DenseSpec, LinearSpec
from lamoid.assembly.scope import Scope

State = tuple[Tensor, ...]


class RecurrentSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all recurrences say: ``layers`` of ``hidden`` units, one above the other, then a linear map to the stream.

    ``bias`` gives every layer two, as torch has them: of what comes in, and of the state.
    """

    hidden: int
    layers: int = 1
    bias: bool = True
    output: LinearSpec = DenseSpec()

    def __post_init__(self) -> None:
        whole(f"{self.kind}.hidden", self.hidden, 1, MOST_WIDTH)
        whole(f"{self.kind}.layers", self.layers, 1, MOST_LAYERS)

    @property
    def kind(self) -> str:
        """What it is called in a spec."""
        return str(self.__struct_config__.tag)

    @property
    def gates(self) -> int:
        """How many vectors of ``hidden`` numbers a layer works out for a token."""
        raise NotImplementedError

    @property
    def states(self) -> int:
        """How many vectors of ``hidden`` numbers a layer keeps."""
        return 1

    @property
    def kernel(self) -> Callable[..., Any]:
        """Torch's fused function."""
        raise NotImplementedError

    @property
    def is_causal(self) -> bool:
        """Can it read token by token?"""
        return True

    def build(self, scope: Scope) -> "Recurrence":
        return Recurrence(self, scope)

    def parameters(self, scope: Scope) -> int:
        rows = self.gates * self.hidden
        biases = 2 * rows * self.layers if self.bias else 0
        return rows * self._read(scope) + biases + self.output.parameters(self.hidden, scope.width)

    def flops(self, scope: Scope, context: int) -> int:
        """Count the operations for one token: its matrix products."""
        return 2 * self.gates * self.hidden * self._read(scope) + self.output.flops(self.hidden, scope.width)

    def cache_numbers(self, scope: Scope) -> int:
        """Count the numbers kept for one token: the state does not grow."""
        return 0

    def state_numbers(self, scope: Scope) -> int:
        """Count the numbers kept for one text, however long."""
        return self.states * self.layers * self.hidden

    def _read(self, scope: Scope) -> int:
        """How many numbers the gates of all layers read, what comes in and the state."""
        return scope.width + (2 * self.layers - 1) * self.hidden


class LSTMSpec(RecurrentSpec, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="lstm", kw_only=True):
    """A state that is written, forgotten and read through gates."""

    @property
    def gates(self) -> int:
        return 4

    @property
    def states(self) -> int:
        return 2

    @property
    def kernel(self) -> Callable[..., Any]:
        return torch.lstm


class GRUSpec(RecurrentSpec, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="gru", kw_only=True):
    """A state that is renewed and reset through gates; the reset gate acts on the product, as in cuDNN."""

    @property
    def gates(self) -> int:
        return 3

    @property
    def kernel(self) -> Callable[..., Any]:
        return torch.gru


class RNNSpec(RecurrentSpec, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="rnn", kw_only=True):
    """state = activation(input(x) + recurrent(state))."""

    activation: Literal["tanh", "relu"] = "tanh"

    @property
    def gates(self) -> int:
        return 1

    @property
    def kernel(self) -> Callable[..., Any]:
        return torch.rnn_tanh if self.activation == "tanh" else torch.rnn_relu


class Cell(nn.Module):
    """One layer's weights: ``input`` reads what comes in, ``recurrent`` the state; gates stand in torch's order."""

    def __init__(self, spec: RecurrentSpec, inputs: int) -> None:
        super().__init__()
        self.has_forget_gate = isinstance(spec, LSTMSpec)
        self.input = Dense(inputs, spec.gates * spec.hidden, bias=spec.bias)
        self.recurrent = Dense(spec.hidden, spec.gates * spec.hidden, bias=spec.bias)

    def weights(self) -> list[Tensor]:
        """Give the tensors in the order in which torch's kernels take them."""
        found = [self.input.weight, self.recurrent.weight, self.input.bias, self.recurrent.bias]
        return [tensor for tensor in found if tensor is not None]


class Recurrence(nn.Module):
    """(B, T, C) to (B, T, C); a document's state starts at zero, or where the cache has it."""

    def __init__(self, spec: RecurrentSpec, scope: Scope) -> None:
        super().__init__()
        self.spec = spec
        self.cells = nn.ModuleList(Cell(spec, spec.hidden if layer else scope.width) for layer in range(spec.layers))
        self.output = spec.output.build(spec.hidden, scope.width)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        kept = None if layout.cache is None else layout.cache.kept(self)
        state = None if kept is None else kept.tensors
        packing = pack(layout)
        if packing is not None:
            mixed, state = self._read_apart(x, state, packing, is_kept=kept is not None)
        else:
            mixed, state = self._read(x, self._zeros(x, len(x)) if state is None else state)
        if kept is not None:
            kept.tensors = state
        return self.output(mixed)

    def _read_apart(self, x: Tensor, state: State | None, packing: Packing, *, is_kept: bool) -> tuple[Tensor, State]:
        """Read documents side by side, each by its own length; padding gives 0."""
        mixed = x.new_zeros(x.shape[0] * x.shape[1], self.spec.hidden)
        if is_kept and state is None:
            state = self._zeros(x, len(x))
        starts = self._zeros(x, len(packing.rows)) if state is None else tuple(part[packing.rows] for part in state)
        ends = starts
        if len(packing.order):
            read, ends = self._read(x.flatten(0, 1)[packing.order], starts, packing.sizes)
            mixed = mixed.index_copy(0, packing.order, read)
        if state is not None:
            ends = tuple(old.index_copy(0, packing.rows, new) for old, new in zip(state, ends, strict=True))
        return mixed.view(*x.shape[:2], -1), ends

    def _read(self, x: Tensor, state: State, sizes: Tensor | None = None) -> tuple[Tensor, State]:
        """Run the fused kernel over (B, T, C), or over (N, C) packed with ``sizes``; states are (B, layers, H)."""
        spec = self.spec
        first, *others = (part.transpose(0, 1).contiguous() for part in state)
        begins = (first, *others) if others else first
        weights = [tensor for cell in self.cells if isinstance(cell, Cell) for tensor in cell.weights()]
        # Dropout 0; cuDNN keeps what a backward pass needs if it is told that it trains; no second direction.
        settings = (weights, spec.bias, spec.layers, 0.0, torch.is_grad_enabled(), False)
        kernel: Callable[..., Any] = spec.kernel
        if torch.compiler.is_compiling():
            # The compiler would write the kernel out token by token, and take minutes over a short text.
            kernel = cast(Callable[..., Any], torch.compiler.disable(kernel))
        if sizes is None:
            mixed, *ends = kernel(x, begins, *settings, True)
        else:
            mixed, *ends = kernel(x, sizes, begins, *settings)
        return mixed, tuple(part.transpose(0, 1) for part in ends)

    def _zeros(self, x: Tensor, rows: int) -> State:
        zeros = x.new_zeros(rows, self.spec.layers, self.spec.hidden)
        return (zeros,) * self.spec.states
