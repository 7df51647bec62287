"""Runs a fusion rule over whole models through a bounded buffer: reading, arithmetic and writing overlap."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from lamoid.errors import InputError
from lamoid.fusion.finite import is_finite
from lamoid.fusion.memory import block_elements
from lamoid.fusion.order import content_order
from lamoid.fusion.rules.table import Rule
from lamoid.weights.durable import Draft
from lamoid.weights.header import TensorInfo
from lamoid.weights.read import Tensors
from lamoid.weights.write import TensorWriter


@dataclass(frozen=True)
class Source:
    """One member of a fusion: its name for messages, its tensors and its weight."""

    name: str
    tensors: Tensors
    weight: float


def stream_fusion(
    sources: Sequence[Source],
    rule: Rule,
    draft: Draft,
    *,
    names: Sequence[str] | None = None,
    memory: int = 512 * 2**20,
    advance: Callable[[int], None] | None = None,
) -> None:
    """Write ``rule`` of the members into ``draft`` as safetensors, in blocks of at most 2^20 elements.

    All members hold the tensors ``names`` (all of the first one's if not given) with equal shapes and dtypes. Buffers
    take at most ``memory`` bytes; blocks shrink to fit, which changes no bit, since a rule works element by element.
    The members are summed in an order that their content gives. ``advance`` is told the bytes written. Raises
    ``InputError`` for a limit that is too small, a NaN or an infinity in a member, and whole numbers that differ.
    """
    ordered = [sources[index] for index in content_order([source.tensors for source in sources])]
    infos = _writing_order(ordered[0].tensors, names)
    largest = max((info.dtype.itemsize for info in infos), default=1)
    size = block_elements(len(ordered), largest, memory)
    writer = TensorWriter(draft, [(info.name, info.dtype, info.shape) for info in infos])
    buffers = _Buffers(len(ordered), size * largest)
    blocks = [(info, first) for info in infos for first in range(0, info.elements, size)]
    reading: Future[list[Tensor]] | None = None
    writing: Future[None] | None = None
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as scribe:
        for index, (info, first) in enumerate(blocks):
            members = (reading or reader.submit(_read, ordered, info, first, size, buffers.inputs[0])).result()
            if index + 1 < len(blocks):
                reading = reader.submit(_read, ordered, *blocks[index + 1], size, buffers.inputs[(index + 1) % 2])
            out = _cut(buffers.outputs[index % 2], info, len(members[0]))
            _fuse_block(ordered, rule, info, members, out)
            if writing is not None:
                writing.result()
            writing = scribe.submit(writer.write, out)
            if advance is not None:
                advance(out.nbytes)
        if writing is not None:
            writing.result()
    writer.finish()


def total_bytes(tensors: Tensors, names: Sequence[str] | None = None) -> int:
    """Count the bytes of the tensors ``names``, all of them if not given."""
    return sum(tensors[name].stop - tensors[name].start for name in names or tensors)


class _Buffers:
    """Two sets of input buffers and two output buffers, as bytes, made once."""

    def __init__(self, members: int, block: int) -> None:
        self.inputs = [[torch.empty(block, dtype=torch.uint8) for _ in range(members)] for _ in range(2)]
        self.outputs = [torch.empty(block, dtype=torch.uint8) for _ in range(2)]


def _writing_order(tensors: Tensors, names: Sequence[str] | None) -> list[TensorInfo]:
    """Wide numbers first, so that each tensor is aligned in the file; else as they lie in the file that is read."""
    wanted = set(names or tensors)
    return sorted((tensors[name] for name in tensors if name in wanted), key=lambda info: -info.dtype.itemsize)


def _cut(buffer: Tensor, info: TensorInfo, count: int) -> Tensor:
    return buffer[: count * info.dtype.itemsize].view(info.dtype)


def _read(sources: Sequence[Source], info: TensorInfo, first: int, size: int, buffers: list[Tensor]) -> list[Tensor]:
    count = min(size, info.elements - first)
    blocks = [_cut(buffer, info, count) for buffer in buffers]
    for source, block in zip(sources, blocks, strict=True):
        source.tensors.read_into(info.name, first, block)
    return blocks


def _fuse_block(sources: Sequence[Source], rule: Rule, info: TensorInfo, members: list[Tensor], out: Tensor) -> None:
    if not info.dtype.is_floating_point:
        for source, member in zip(sources[1:], members[1:], strict=True):
            if not torch.equal(member, members[0]):
                problem = f"holds whole numbers that differ from those in {sources[0].name}"
                raise InputError(f"{source.name}: tensor {info.name}", problem, "whole numbers have no average")
        out.copy_(members[0])
        return
    rule(members, [source.weight for source in sources], out)
    if not is_finite(out):
        raise _not_finite(sources, info, members)


def _not_finite(sources: Sequence[Source], info: TensorInfo, members: list[Tensor]) -> InputError:
    for source, member in zip(sources, members, strict=True):
        if not is_finite(member):
            cure = "train or fetch this member anew, or leave it out"
            return InputError(f"{source.name}: tensor {info.name}", "holds NaN or infinity", cure)
    return InputError(
        f"tensor {info.name}", f"its average is too large for {info.dtype}", "use members of a wider dtype"
    )
