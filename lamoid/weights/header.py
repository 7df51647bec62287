"""Reads the header of a safetensors file, and believes nothing in it that it has not checked.

Source: the format's description at https://huggingface.co/docs/safetensors. Stricter than the library, which takes
duplicate names, names that are paths, any rank and dimensions without bound.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from lamoid.contained import open_plain
from lamoid.errors import InputError
from lamoid.strict_json import CURE, parse_json

HEADER_LIMIT = 100 * 10**6
TENSOR_LIMIT = 100_000
RANK_LIMIT = 8
DIMENSION_LIMIT = 2**40
NAME_LIMIT = 512


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Says what a tensor is and where its bytes lie: ``[start, stop)`` of ``file``, row-major, little-endian."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int
    file: Path

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Give every tensor of a safetensors file in the order of its bytes.

    The tensors fill the file from the header's end to its own, without hole or overlap. Raise InputError naming the
    file (and tensor), the value and the limit; take under 2 s whatever the file holds.
    """
    descriptor, size = open_plain(path)
    try:
        length = _header_length(path, os.pread(descriptor, 8, 0), size)
        header = os.pread(descriptor, length, 8)
    except OSError as error:
        raise InputError(path, f"reading failed ({error.strerror})", "Check the disk") from None
    finally:
        os.close(descriptor)
    if len(header) != length:
        raise InputError(path, "it became shorter while it was read", "Let no other program write it")
    infos = sorted(_infos(path, _parse(path, header), 8 + length), key=lambda info: (info.start, info.stop))
    _check_layout(path, infos, 8 + length, size)
    return {info.name: info for info in infos}


def _header_length(path: Path, first: bytes, size: int) -> int:
    if len(first) < 8:
        raise InputError(path, f"{size} bytes, a safetensors file has at least 8", "The file is cut off: fetch it anew")
    length = int.from_bytes(first, "little")
    if length > HEADER_LIMIT:
        problem = f"its header would have {length} bytes, the limit is {HEADER_LIMIT}"
        raise InputError(path, problem, "It is no safetensors file, or damaged: fetch it anew")
    if length > size - 8:
        problem = f"its header would have {length} bytes, the file has {size - 8} after the first 8"
        raise InputError(path, problem, "The file is cut off: fetch it anew")
    return length


def _parse(path: Path, header: bytes) -> dict[str, Any]:
    if not header.startswith(b"{"):
        raise InputError(path, f"its header starts with {header[:4]!r} instead of '{{'", "It is no safetensors file")
    # An entry has 6 brackets, 5 strings and, with the one behind it, at most 4 + RANK_LIMIT commas.
    parsed = parse_json(header, file=path, depth=3, items=TENSOR_LIMIT * (15 + RANK_LIMIT))
    if len(parsed) > TENSOR_LIMIT + 1:
        raise InputError(path, f"{len(parsed)} tensors, the limit is {TENSOR_LIMIT}", "Split it into shards")
    return parsed


def _infos(path: Path, header: dict[str, Any], base: int) -> Iterator[TensorInfo]:
    for name, entry in header.items():
        if name == "__metadata__":
            if not isinstance(entry, dict) or not all(isinstance(value, str) for value in entry.values()):
                raise InputError(f"{path}: __metadata__", "it is not an object of texts", CURE)
        else:
            yield _info(path, name, entry, base)


def _info(path: Path, name: str, entry: Any, base: int) -> TensorInfo:
    _check_name(path, name)
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        _refuse(path, name, "its entry is not an object of exactly dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    dtype = DTYPES.get(kind) if isinstance(kind, str) else None
    if dtype is None:
        _refuse(path, name, f"its dtype {str(kind)[:40]!r} is none of {', '.join(DTYPES)}")
    if not isinstance(shape, list) or len(shape) > RANK_LIMIT:
        _refuse(path, name, f"its shape is not a list of at most {RANK_LIMIT} numbers")
    if not all(type(n) is int and 0 <= n <= DIMENSION_LIMIT for n in shape):
        _refuse(path, name, f"its shape {str(shape)[:80]} is not of whole numbers from 0 to {DIMENSION_LIMIT}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(type(n) is int for n in offsets):
        _refuse(path, name, "its data_offsets are not two whole numbers")
    start, stop = offsets
    need = math.prod(shape) * dtype.itemsize
    if start < 0 or stop - start != need:
        _refuse(path, name, f"its data_offsets {start} to {stop} do not hold the {need} bytes of its shape")
    return TensorInfo(name, dtype, tuple(shape), base + start, base + stop, path)


def _check_name(path: Path, name: str) -> None:
    if not name or len(name) > NAME_LIMIT:
        _refuse(path, name, f"its name has {len(name)} characters, the limits are 1 and {NAME_LIMIT}")
    if not name.isprintable():
        _refuse(path, name, "its name holds control or direction marks")
    if name.startswith(("/", "\\")) or ".." in name:
        _refuse(path, name, "its name looks like a path")


def _check_layout(path: Path, infos: list[TensorInfo], begin: int, size: int) -> None:
    here = begin
    for info in infos:
        if info.start != here:
            what = "overlaps the tensor before it" if info.start < here else "leaves a hole before it"
            _refuse(path, info.name, f"it starts at byte {info.start} instead of {here} and so {what}")
        here = info.stop
    if here != size:
        problem = f"its tensors end at byte {here}, the file at {size}"
        raise InputError(path, problem, "The file is cut off or has grown: fetch it anew")


def _refuse(path: Path, name: str, problem: str) -> NoReturn:
    raise InputError(f"{path}: tensor {name[:80]!r}", problem, "The file is damaged or hostile: fetch it anew")


DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
