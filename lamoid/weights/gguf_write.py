"""Writes a GGUF file (version 3) as a stream: the layout is known first, then the numbers come in chunks of any size.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import torch
from torch import Tensor

from lamoid.errors import InputError
from lamoid.weights.gguf_blocks import pack_blocks
from lamoid.weights.gguf_header import AXES_LIMIT, NAME_LIMIT
from lamoid.weights.gguf_kinds import ALIGNMENT, LIST, MAGIC, Q8_0, SCALARS, TEXT, VERSION, TensorKind, Value


@dataclass(frozen=True, slots=True)
class GgufInfo:
    """A tensor to be written; ``shape`` is torch's, the last axis running fastest."""

    name: str
    kind: TensorKind
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


class GgufWriter:
    """Writes the header at once and then tensors in the order of ``infos``, each padded to 32 bytes.

    The bytes do not depend on how the numbers are cut into chunks.
    """

    def __init__(self, file: BinaryIO, metadata: Mapping[str, Value], infos: Sequence[GgufInfo]) -> None:
        _check(infos)
        self._file = file
        self._waiting: Iterator[GgufInfo] = iter(infos)
        header = encode_header(metadata, infos)
        file.write(header + bytes(-len(header) % ALIGNMENT))
        self._info: GgufInfo | None = None
        self._left = 0
        self._advance()

    def write(self, chunk: Tensor) -> None:
        """Append the next numbers, row-major, of the tensor whose turn it is, whole blocks of its kind.

        Raise InputError naming the tensor for a number that is not finite, or too large for its kind.
        """
        info, flat = self._info, chunk.detach().to("cpu").reshape(-1)
        if info is None or not 0 < flat.numel() <= self._left or flat.numel() % info.kind.block:
            name = "the end" if info is None else repr(info.name)
            raise ValueError(f"{flat.numel()} numbers where {self._left} of {name} are left")
        self._file.write(_packed(flat, info).numpy().data)
        self._left -= flat.numel()
        if not self._left:
            self._advance()

    def finish(self) -> None:
        """Check that every tensor was written."""
        if self._info is not None:
            raise ValueError(f"{self._left} numbers of {self._info.name!r} were not written")

    def _advance(self) -> None:
        if self._info is not None:
            self._file.write(bytes(-self._info.kind.bytes_of(self._info.elements) % ALIGNMENT))
        self._info = next(self._waiting, None)
        self._left = 0 if self._info is None else self._info.elements


def encode_header(metadata: Mapping[str, Value], infos: Sequence[GgufInfo]) -> bytes:
    """Give what stands before the tensors' bytes, not padded yet."""
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(infos), len(metadata))]
    for key, value in metadata.items():
        parts += [_text(key), _value(value)]
    here = 0
    for info in infos:
        parts += [_text(info.name), struct.pack(f"<I{len(info.shape)}Q", len(info.shape), *reversed(info.shape))]
        parts.append(struct.pack("<IQ", info.kind.number, here))
        here += info.kind.bytes_of(info.elements)
        here += -here % ALIGNMENT
    return b"".join(parts)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    number = TEXT if value.kind == "text" else SCALARS[value.kind][0]
    if not isinstance(value.data, list):
        return struct.pack("<I", number) + _item(value.kind, value.data)
    items = b"".join(_item(value.kind, item) for item in value.data)
    return struct.pack("<IIQ", LIST, number, len(value.data)) + items


def _item(kind: str, item: bool | int | float | str) -> bytes:
    return _text(item) if isinstance(item, str) else SCALARS[kind][1].pack(item)


def _check(infos: Sequence[GgufInfo]) -> None:
    if len({info.name for info in infos}) != len(infos):
        raise ValueError("a tensor is named twice")
    for info in infos:
        fits = 1 <= len(info.shape) <= AXES_LIMIT and len(info.name.encode()) < NAME_LIMIT and all(info.shape)
        if not fits or info.shape[-1] % info.kind.block or (info.kind.dtype is None and info.kind is not Q8_0):
            raise ValueError(f"{info.name!r} of {info.shape} cannot be written as {info.kind.name}")


def _packed(flat: Tensor, info: GgufInfo) -> Tensor:
    """Give the bytes of some of a tensor's numbers."""
    if not bool(torch.isfinite(flat).all()):
        raise InputError(f"tensor {info.name!r}", "it holds a NaN or an infinite number", "Mend the model")
    if info.kind is Q8_0:
        packed = pack_blocks(flat.float())
        fits = bool(torch.isfinite(packed[:, :2].contiguous().view(torch.float16)).all())
        data = packed
    else:
        numbers = flat.to(info.kind.dtype)
        fits = bool(torch.isfinite(numbers).all())
        data = numbers.contiguous().view(torch.uint8)
    if not fits:
        largest = float(flat.abs().max())
        problem = f"it holds a number of magnitude {largest:.4g}, too large for {info.kind.name}"
        raise InputError(f"tensor {info.name!r}", problem, "Write bf16 or f32")
    return data.view(-1)
