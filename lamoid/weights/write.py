"""Writes safetensors as a stream: what is known first is the layout, then the numbers come in slices of any size."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

import torch
from torch import Tensor

from lamoid.weights.durable import Draft
from lamoid.weights.index import INDEX, SINGLE
from lamoid.weights.layout import SHARD_BYTES, Info, cut_shards, index_bytes

__all__ = ["SHARD_BYTES", "Info", "TensorWriter", "write_tensors"]


class TensorWriter:
    """Writes tensors into a draft in the order of ``infos``: one file, or shards of ``shard_bytes`` and an index.

    A single file is called ``single``. The bytes do not depend on how the numbers are cut into chunks. A tensor larger
    than ``shard_bytes`` gets a shard of its own.
    """

    def __init__(
        self, draft: Draft, infos: Sequence[Info], *, shard_bytes: int = SHARD_BYTES, single: str = SINGLE
    ) -> None:
        self._draft = draft
        self._shards = cut_shards(infos, shard_bytes=shard_bytes, single=single)
        self._next_shard = 0
        self._file: BinaryIO | None = None
        self._waiting: Iterator[Info] = iter(())
        self._left, self._dtype, self._name = 0, torch.float32, ""
        self._advance()

    def write(self, chunk: Tensor) -> None:
        """Append the next elements, row-major, of the tensor whose turn it is; a chunk is of one tensor's dtype."""
        flat = chunk.detach().to("cpu").contiguous().view(-1)
        if flat.numel() and (flat.dtype != self._dtype or self._file is None):
            raise ValueError(f"a chunk of {flat.dtype} where {self._dtype} of {self._name!r} is due")
        while flat.numel():
            if self._file is None or flat.dtype != self._dtype:
                raise ValueError(f"the chunk goes on behind {self._name!r}, where no {flat.dtype} is due")
            part, flat = flat[: self._left], flat[self._left :]
            self._file.write(part.view(torch.uint8).numpy().data)
            self._left -= part.numel()
            if not self._left:
                self._advance()

    def finish(self) -> None:
        """Write the index if there are several shards; every tensor must have been written."""
        if self._file is not None or self._left:
            raise ValueError(f"{self._left} elements of {self._name!r} were not written")
        if len(self._shards) > 1:
            self._draft.write(INDEX, index_bytes(self._shards))

    def _advance(self) -> None:
        """Go on to the next tensor that has elements, through as many shards as it takes."""
        while not self._left:
            info = next(self._waiting, None)
            if info is not None:
                self._name, self._dtype, self._left = info[0], info[1], math.prod(info[2])
                continue
            if self._file is not None:
                self._file.close()
                self._file = None
            if self._next_shard == len(self._shards):
                return
            shard = self._shards[self._next_shard]
            self._file = self._draft.open(shard.name)
            self._file.write(shard.header)
            self._waiting = iter(shard.infos)
            self._next_shard += 1


def write_tensors(draft: Draft, tensors: Mapping[str, Tensor], *, shard_bytes: int = SHARD_BYTES) -> None:
    """Write whole tensors, those of wide numbers first, so that each is aligned in the file and can be mapped."""
    order = sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize)
    infos = [(name, tensors[name].dtype, tuple(tensors[name].shape)) for name in order]
    writer = TensorWriter(draft, infos, shard_bytes=shard_bytes)
    for name in order:
        writer.write(tensors[name])
    writer.finish()
