"""Writes safetensors as a stream: what is known first is the layout, then the numbers come in slices of any size."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

import torch
from torch import Tensor

from lamoid.weights.durable import Draft
from lamoid.weights.header import NAMES, RANK_LIMIT
from lamoid.weights.index import INDEX, SINGLE

SHARD_BYTES = 5 * 10**9
Info = tuple[str, torch.dtype, tuple[int, ...]]


class TensorWriter:
    """Writes tensors into a draft in the order of ``infos``: one file, or shards of ``shard_bytes`` and an index.

    A single file is called ``single``. The bytes do not depend on how the numbers are cut into chunks. A tensor larger
    than ``shard_bytes`` gets a shard of its own.
    """

    def __init__(
        self, draft: Draft, infos: Sequence[Info], *, shard_bytes: int = SHARD_BYTES, single: str = SINGLE
    ) -> None:
        _check(infos)
        self._single = single
        self._draft = draft
        self._shards = _cut(infos, shard_bytes)
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
            places = {name: self._shard_name(i) for i, shard in enumerate(self._shards) for name, _, _ in shard}
            total = sum(_bytes(info) for shard in self._shards for info in shard)
            index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
            data = json.dumps(index, indent=2, ensure_ascii=False).encode() + b"\n"
            self._draft.write(INDEX, data)

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
            self._file = self._draft.open(self._shard_name(self._next_shard))
            self._file.write(_header(shard))
            self._waiting = iter(shard)
            self._next_shard += 1

    def _shard_name(self, index: int) -> str:
        if len(self._shards) == 1:
            return self._single
        return f"model-{index + 1:05}-of-{len(self._shards):05}.safetensors"


def write_tensors(draft: Draft, tensors: Mapping[str, Tensor], *, shard_bytes: int = SHARD_BYTES) -> None:
    """Write whole tensors, those of wide numbers first, so that each is aligned in the file and can be mapped."""
    order = sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize)
    infos = [(name, tensors[name].dtype, tuple(tensors[name].shape)) for name in order]
    writer = TensorWriter(draft, infos, shard_bytes=shard_bytes)
    for name in order:
        writer.write(tensors[name])
    writer.finish()


def _check(infos: Sequence[Info]) -> None:
    if len({name for name, _, _ in infos}) != len(infos):
        raise ValueError("a tensor is named twice")
    for name, dtype, shape in infos:
        if dtype not in NAMES or len(shape) > RANK_LIMIT:
            raise ValueError(f"{name!r} of {dtype} and {len(shape)} axes cannot be written as safetensors")


def _cut(infos: Sequence[Info], shard_bytes: int) -> list[list[Info]]:
    shards: list[list[Info]] = [[]]
    filled = 0
    for info in infos:
        if shards[-1] and filled + _bytes(info) > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(info)
        filled += _bytes(info)
    return shards


def _bytes(info: Info) -> int:
    return math.prod(info[2]) * info[1].itemsize


def _header(shard: Sequence[Info]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    here = 0
    for info in shard:
        name, dtype, shape = info
        stop = here + _bytes(info)
        entries[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [here, stop]}
        here = stop
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
