"""Gives tensors out of safetensors files: mapped without a copy, or slice by slice into memory that the caller owns."""

import mmap
import os
import sys
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from lamoid.contained import open_plain
from lamoid.errors import InputError
from lamoid.weights.header import TensorInfo
from lamoid.weights.index import locate_tensors

# MAP_NORESERVE: pages that might be written are not counted before they are, else a file larger than the memory is
# refused. The module names it only from Python 3.13 on.
_NO_RESERVE = 0x4000 if sys.platform == "linux" else 0


class Tensors(Mapping[str, TensorInfo]):
    """The tensors of a model folder by name, in the order of files and bytes. Files are opened when first needed."""

    def __init__(self, infos: Mapping[str, TensorInfo]) -> None:
        self._infos = infos
        self._files: dict[Path, _OpenFile] = {}

    def __getitem__(self, name: str) -> TensorInfo:
        return self._infos[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def __len__(self) -> int:
        return len(self._infos)

    def tensor(self, name: str) -> Tensor:
        """Give a tensor mapped from the file. Writing to it changes memory only; what is not touched is not read.

        A tensor whose bytes are not aligned to its numbers is copied. While it is in use the file may be renamed or
        deleted, but not shortened. Raise InputError for a BOOL tensor with bytes other than 0 and 1.
        """
        info = self._infos[name]
        if not info.elements:
            return torch.empty(info.shape, dtype=info.dtype)
        file = self._open(info)
        if info.start % info.dtype.itemsize:
            flat = torch.empty(info.elements, dtype=info.dtype)
            file.read(flat, info.start)
        else:
            flat = torch.frombuffer(file.mapping(), dtype=info.dtype, count=info.elements, offset=info.start)
        if info.dtype == torch.bool and int(flat.view(torch.uint8).max()) > 1:
            raise InputError(f"{info.file}: tensor {name!r}", "a BOOL byte is neither 0 nor 1", "Fetch the file anew")
        return flat.view(info.shape)

    def read_into(self, name: str, first: int, out: Tensor) -> None:
        """Fill ``out`` (1-D, of the stored dtype, on the CPU) with the elements [first, first + len(out)) of a tensor.

        Read into the memory of ``out`` itself; nothing is mapped and nothing else allocated.
        """
        info = self._infos[name]
        if out.dtype != info.dtype or out.ndim != 1 or not out.is_contiguous():
            raise ValueError(f"out must be 1-D, contiguous and {info.dtype}, it is {out.dtype} with {out.ndim} axes")
        if first < 0 or first + out.numel() > info.elements:
            raise ValueError(f"{name} has {info.elements} elements, asked for {first} to {first + out.numel()}")
        if out.numel():
            self._open(info).read(out, info.start + first * info.dtype.itemsize)

    def _open(self, info: TensorInfo) -> "_OpenFile":
        if info.file not in self._files:
            self._files[info.file] = _OpenFile(info.file, max(x.stop for x in self.values() if x.file == info.file))
        return self._files[info.file]


def open_tensors(folder: Path | str) -> Tensors:
    """Open the weights of a folder: ``model.safetensors``, or shards with an index. Raise InputError."""
    return Tensors(locate_tensors(Path(folder)))


class _OpenFile:
    """One descriptor and at most one mapping of a file; both are closed when the last tensor of it is gone."""

    def __init__(self, path: Path, expected: int) -> None:
        self.path = path
        self._descriptor, size = open_plain(path)
        self._mapping: mmap.mmap | None = None
        self._expected = expected
        weakref.finalize(self, os.close, self._descriptor)
        if size != expected:
            raise self._shortened()

    def mapping(self) -> mmap.mmap:
        """Map the whole file, privately, the first time; give the same mapping from then on."""
        if self._mapping is None:
            try:
                self._mapping = mmap.mmap(
                    self._descriptor,
                    self._expected,
                    flags=mmap.MAP_PRIVATE | _NO_RESERVE,
                    prot=mmap.PROT_READ | mmap.PROT_WRITE,
                )
            except (OSError, ValueError) as error:
                raise InputError(self.path, f"it cannot be mapped ({error})", "Copy it to a local disk") from None
        return self._mapping

    def read(self, out: Tensor, offset: int) -> None:
        """Fill ``out`` with the bytes from ``offset`` on."""
        view = out.view(torch.uint8).numpy().data
        done = 0
        while done < view.nbytes:
            try:
                count = os.preadv(self._descriptor, [view[done:]], offset + done)
            except OSError as error:
                raise InputError(self.path, f"reading failed ({error.strerror})", "Check the disk") from None
            if count == 0:
                raise self._shortened()
            done += count

    def _shortened(self) -> InputError:
        return InputError(self.path, "its size changed while it was in use", "Let no other program write it")
