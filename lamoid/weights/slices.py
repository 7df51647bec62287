"""Tensors that several writers cut among them: an index says which slice of which tensor lies in which file.

One process writes each tensor as one slice. Ranks of a run will write a file each, and one of them the index; whoever
reads puts the slices together, however many wrote them.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from lamoid.contained import contained, read_whole
from lamoid.errors import InputError
from lamoid.strict_json import parse_json
from lamoid.weights.durable import Draft
from lamoid.weights.header import NAMES, TensorInfo, read_header
from lamoid.weights.index import locate_tensors
from lamoid.weights.read import Tensors
from lamoid.weights.write import write_tensors

SLICES = "slices.json"
_MOST_BYTES = 10**8
_MOST_SLICES = 4096
_CURE = "take a whole copy, or an earlier checkpoint"


class Slice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The block of a tensor that begins at ``begin``, one number an axis; its shape is that of the tensor in ``file``.

    The file's hash stands in the folder's manifest.
    """

    file: str
    begin: tuple[int, ...]


class Sliced(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole tensor: its dtype, as safetensors names it, its shape, and the slices that make it up."""

    dtype: str
    shape: tuple[int, ...]
    slices: tuple[Slice, ...]


def write_sliced(draft: Draft, tensors: Mapping[str, Tensor]) -> None:
    """Write whole tensors, each as one slice, and their index."""
    write_tensors(draft, tensors)
    index = {
        name: Sliced(NAMES[info.dtype], info.shape, (Slice(info.file.name, (0,) * len(info.shape)),))
        for name, info in locate_tensors(draft.path).items()
    }
    draft.write(SLICES, msgspec.json.format(msgspec.json.encode(index), indent=1) + b"\n")


def read_sliced(folder: Path) -> dict[str, Tensor]:
    """Give the whole tensors of a folder: one slice is mapped from its file, several are put together.

    Raise ``InputError`` naming the file and tensor for an index that says what is not there, for slices that overlap,
    and for numbers that no slice has.
    """
    place = folder / SLICES
    tree = parse_json(read_whole(contained(folder, SLICES), limit=_MOST_BYTES), file=place)
    try:
        index = msgspec.convert(tree, dict[str, Sliced])
    except msgspec.ValidationError as error:
        raise InputError(place, str(error), _CURE) from error
    files = sorted({part.file for sliced in index.values() for part in sliced.slices})
    held = {file: read_header(contained(folder, file)) for file in files}
    tensors = {file: Tensors(infos) for file, infos in held.items()}
    return {name: _joined(f"{place}: {name!r}", name, sliced, held, tensors) for name, sliced in index.items()}


def _joined(
    culprit: str,
    name: str,
    sliced: Sliced,
    held: Mapping[str, Mapping[str, TensorInfo]],
    tensors: Mapping[str, Tensors],
) -> Tensor:
    shapes = [_shape(culprit, name, sliced, part, held[part.file]) for part in sliced.slices]
    _check_cover(culprit, sliced, shapes)
    if len(sliced.slices) == 1:
        return tensors[sliced.slices[0].file].tensor(name)
    dtype = held[sliced.slices[0].file][name].dtype
    whole = torch.empty(sliced.shape, dtype=dtype)
    for part, shape in zip(sliced.slices, shapes, strict=True):
        block = tuple(slice(begin, begin + size) for begin, size in zip(part.begin, shape, strict=True))
        whole[block] = tensors[part.file].tensor(name)
    return whole


def _shape(culprit: str, name: str, sliced: Sliced, part: Slice, infos: Mapping[str, TensorInfo]) -> tuple[int, ...]:
    """Give the shape of a slice, which lies within its tensor and has its dtype."""
    if name not in infos:
        raise InputError(culprit, f"is not in {part.file}", _CURE)
    info = infos[name]
    if NAMES[info.dtype] != sliced.dtype:
        raise InputError(culprit, f"is {NAMES[info.dtype]} in {part.file}, {sliced.dtype} in the index", _CURE)
    fits = len(part.begin) == len(info.shape) == len(sliced.shape) and all(
        begin >= 0 and begin + size <= whole
        for begin, size, whole in zip(part.begin, info.shape, sliced.shape, strict=True)
    )
    if not fits:
        problem = f"has a slice of the shape {info.shape} at {part.begin}, the whole is {sliced.shape}"
        raise InputError(culprit, problem, _CURE)
    return info.shape


def _check_cover(culprit: str, sliced: Sliced, shapes: Sequence[tuple[int, ...]]) -> None:
    """Refuse slices that overlap, and those that leave a hole: without overlap, that is fewer numbers."""
    if not 1 <= len(sliced.slices) <= _MOST_SLICES:
        raise InputError(culprit, f"has {len(sliced.slices)} slices, must have 1 to {_MOST_SLICES}", _CURE)
    blocks = [(part.begin, shape) for part, shape in zip(sliced.slices, shapes, strict=True)]
    for (begin, size), (other, length) in combinations(blocks, 2):
        pairs = zip(begin, size, other, length, strict=True)
        if all(max(one, two) < min(one + first, two + second) for one, first, two, second in pairs):
            raise InputError(culprit, f"has slices that overlap, at {begin} and {other}", _CURE)
    found, wanted = sum(math.prod(shape) for shape in shapes), math.prod(sliced.shape)
    if found != wanted:
        raise InputError(culprit, f"has {found} numbers in its slices, the whole has {wanted}", _CURE)
