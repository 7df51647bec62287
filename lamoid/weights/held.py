"""Tensors that lie in memory, read like those of files."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from lamoid.weights.header import TensorInfo
from lamoid.weights.read import Tensors


class HeldTensors(Tensors):
    """Tensors in memory, by the names and in the order of ``infos``; what they say of shape and dtype is corrected."""

    def __init__(self, infos: Mapping[str, TensorInfo], held: Mapping[str, Tensor]) -> None:
        found = {
            name: replace(infos[name], dtype=tensor.dtype, shape=tuple(tensor.shape), start=0, stop=tensor.nbytes)
            for name, tensor in held.items()
        }
        super().__init__(found)
        self._held = dict(held)

    def tensor(self, name: str) -> Tensor:
        """Give the tensor itself."""
        return self._held[name]

    def read_into(self, name: str, first: int, out: Tensor) -> None:
        """Fill ``out`` (1-D, of the tensor's dtype) with the elements [first, first + len(out)) of a tensor."""
        out.copy_(self._held[name].view(-1)[first : first + out.numel()])
