"""Gives the tensors of a GGUF file: as they are stored, or unpacked from blocks of q8_0."""

import os

import torch
from torch import Tensor

from lamoid.contained import open_plain
from lamoid.errors import InputError
from lamoid.weights.gguf_blocks import unpack_blocks
from lamoid.weights.gguf_header import GgufFile
from lamoid.weights.gguf_kinds import Q8_0


def read_tensor(file: GgufFile, name: str) -> Tensor:
    """Read a whole tensor in its stored dtype, one of q8_0 as float32.

    Raise InputError for a kind that is not read, and for a file that became shorter since its header was read.
    """
    info = file.tensors[name]
    dtype = info.kind.dtype
    if dtype is None and info.kind is not Q8_0:
        problem = f"its numbers are packed as {info.kind.name}, which is not read"
        raise InputError(f"{file.path}: tensor {name!r}", problem, "Take a file in f32, f16, bf16 or q8_0")
    data = torch.empty(info.stop - info.start, dtype=torch.uint8)
    descriptor, _ = open_plain(file.path)
    try:
        _fill(file, descriptor, data, info.start)
    finally:
        os.close(descriptor)
    return (unpack_blocks(data) if dtype is None else data.view(dtype)).view(info.shape)


def _fill(file: GgufFile, descriptor: int, data: Tensor, offset: int) -> None:
    view, done = data.numpy().data, 0
    while done < view.nbytes:
        try:
            count = os.preadv(descriptor, [view[done:]], offset + done)
        except OSError as error:
            raise InputError(file.path, f"reading failed ({error.strerror})", "Check the disk") from None
        if not count:
            raise InputError(file.path, "it became shorter since it was opened", "Let no other program write it")
        done += count
