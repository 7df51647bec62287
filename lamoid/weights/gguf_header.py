"""Reads the header of a GGUF file, and believes nothing in it that it has not checked.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, which lie alike. Every count is
compared with what is left of the file, and with a limit, before anything is allocated by it. Stricter than llama.cpp:
lists in lists, keys that are not ASCII and bytes behind the last tensor are refused.
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from lamoid.contained import open_plain
from lamoid.errors import InputError
from lamoid.weights.gguf_kinds import ALIGNMENT, ALIGNMENT_KEY, KINDS, LIST, MAGIC, SCALARS, TEXT, TensorKind, Value

KEYS_LIMIT = 1 << 16
KEY_LIMIT = (1 << 16) - 1
TEXT_LIMIT = 16 * 2**20
ITEMS_LIMIT = 1 << 22
HEADER_LIMIT = 256 * 2**20
TENSORS_LIMIT = 100_000
NAME_LIMIT = 64
AXES_LIMIT = 4
DIMENSION_LIMIT = 2**40
ALIGNMENT_LIMIT = 1 << 16
CURE = "The file is damaged or hostile: fetch it anew"
_WINDOW = 1 << 20
_BY_NUMBER = {number: (name, form) for name, (number, form) in SCALARS.items()}
_KIND_BY_NUMBER = {kind.number: kind for kind in KINDS.values()}


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """Says what a tensor is and where its bytes lie: ``[start, stop)`` of the file.

    ``shape`` is torch's, the last axis running fastest; the file has it the other way round.
    """

    name: str
    kind: TensorKind
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def elements(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file whose header was read and checked; its tensors are still on the disk."""

    path: Path
    version: int
    metadata: dict[str, Value]
    tensors: dict[str, GgufTensor]


def read_gguf(path: Path | str) -> GgufFile:
    """Read and check a file's header. Raise InputError naming the file and the field, the value and the limit."""
    path = Path(path)
    descriptor, size = open_plain(path)
    try:
        return _read(path, _Cursor(path, descriptor, size))
    finally:
        os.close(descriptor)


class _Cursor:
    """Gives a file's bytes one after the other, at most ``HEADER_LIMIT`` of them."""

    def __init__(self, path: Path, descriptor: int, size: int) -> None:
        self.path, self.size, self.here = path, size, 0
        self._descriptor = descriptor
        self._held, self._begin = b"", 0

    @property
    def left(self) -> int:
        """The bytes that are left of the file, or of the limit if that is nearer."""
        return min(self.size, HEADER_LIMIT) - self.here

    def take(self, count: int, where: str) -> bytes:
        """Give the next ``count`` bytes of the field ``where``."""
        if count > self.left:
            self.refuse_end(where, count)
        at = self.here - self._begin
        if at + count > len(self._held):
            self._held, self._begin, at = self._read(max(count, min(_WINDOW, self.left)), where), self.here, 0
        self.here += count
        return self._held[at : at + count]

    def number(self, kind: str, where: str) -> int:
        """Give the next whole number."""
        form = SCALARS[kind][1]
        return form.unpack(self.take(form.size, where))[0]

    def text(self, limit: int, where: str) -> str:
        """Give the next text of at most ``limit`` bytes."""
        length = self.number("u64", where)
        if length > limit:
            refuse(self.path, where, f"its text would have {length} bytes, the limit is {limit}")
        data = self.take(length, where)
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            refuse(self.path, where, f"its text is not UTF-8 at byte {error.start}")

    def refuse_end(self, where: str, count: int) -> NoReturn:
        """Say that a field goes on behind the file's end, or behind the limit."""
        if self.here + count > self.size:
            problem = f"{count} bytes are due at byte {self.here}, and the file ends at {self.size}"
            raise InputError(f"{self.path}: {where}", problem, "The file is cut off: fetch it anew")
        refuse(self.path, where, f"the header goes on behind byte {HEADER_LIMIT}, the limit")

    def _read(self, count: int, where: str) -> bytes:
        parts, at = [], self.here
        while at < self.here + count:
            try:
                part = os.pread(self._descriptor, self.here + count - at, at)
            except OSError as error:
                raise InputError(self.path, f"reading failed ({error.strerror})", "Check the disk") from None
            if not part:
                raise InputError(
                    f"{self.path}: {where}", "the file became shorter meanwhile", "Let nothing else write it"
                )
            parts.append(part)
            at += len(part)
        return b"".join(parts)


def refuse(path: Path, where: str, problem: str) -> NoReturn:
    """Refuse a field of a file."""
    raise InputError(f"{path}: {where}", problem, CURE)


def _read(path: Path, cursor: _Cursor) -> GgufFile:
    version = _version(path, cursor)
    tensors, keys = cursor.number("u64", "the number of tensors"), cursor.number("u64", "the number of metadata keys")
    if tensors > TENSORS_LIMIT:
        refuse(path, "the number of tensors", f"{tensors}, the limit is {TENSORS_LIMIT}")
    if keys > KEYS_LIMIT:
        refuse(path, "the number of metadata keys", f"{keys}, the limit is {KEYS_LIMIT}")
    metadata: dict[str, Value] = {}
    items = 0
    for index in range(keys):
        key = _key(path, cursor, index)
        if key in metadata:
            refuse(path, f"metadata {key[:80]!r}", "the key stands there twice")
        value = _value(cursor, f"metadata {key[:80]!r}")
        metadata[key] = value
        items += len(value.data) if isinstance(value.data, list) else 0
        if items > ITEMS_LIMIT:
            refuse(path, f"metadata {key[:80]!r}", f"with it the lists have {items} items, the limit is {ITEMS_LIMIT}")
    alignment = _alignment(path, metadata)
    listed = [_tensor(path, cursor, index) for index in range(tensors)]
    begin = cursor.here + -cursor.here % alignment
    return GgufFile(path, version, metadata, _lay_out(path, listed, begin, alignment, cursor.size))


def _version(path: Path, cursor: _Cursor) -> int:
    magic = cursor.take(4, "the first 4 bytes")
    if magic != MAGIC:
        raise InputError(path, f"it begins with {magic!r} instead of {MAGIC!r}", "Give a GGUF file")
    version = cursor.number("u32", "the version")
    if version & 0xFFFF == 0 and version:
        problem = f"{version:#010x} is a version written by a big-endian machine, which is not read"
        raise InputError(f"{path}: the version", problem, "Take the little-endian file")
    if version not in (2, 3):
        raise InputError(f"{path}: the version", f"{version}, and 2 and 3 are read", "Convert the model anew")
    return version


def _key(path: Path, cursor: _Cursor, index: int) -> str:
    where = f"metadata key {index}"
    key = cursor.text(KEY_LIMIT, where)
    if not key or not key.isascii() or not key.isprintable():
        refuse(path, where, f"{key[:80]!r} is empty or not of printable ASCII characters")
    return key


def _value(cursor: _Cursor, where: str) -> Value:
    number = cursor.number("u32", where)
    if number == LIST:
        return _list(cursor, where)
    if number == TEXT:
        return Value("text", cursor.text(TEXT_LIMIT, where))
    name, form = _scalar(cursor.path, number, where)
    data = form.unpack(cursor.take(form.size, where))[0]
    return Value(name, _truth(cursor.path, data, where) if name == "bool" else data)


def _scalar(path: Path, number: int, where: str):
    if number not in _BY_NUMBER:
        refuse(path, where, f"its type {number} is not known (0 to 12)")
    return _BY_NUMBER[number]


def _truth(path: Path, byte: int, where: str) -> bool:
    if byte > 1:
        refuse(path, where, f"a truth value is {byte}, neither 0 nor 1")
    return byte == 1


def _list(cursor: _Cursor, where: str) -> Value:
    number, count = cursor.number("u32", where), cursor.number("u64", where)
    if number == LIST:
        refuse(cursor.path, where, "it is a list of lists, which is not read")
    smallest = 8 if number == TEXT else _scalar(cursor.path, number, where)[1].size
    if count > ITEMS_LIMIT:
        refuse(cursor.path, where, f"its list would have {count} items, the limit is {ITEMS_LIMIT}")
    if count * smallest > cursor.left:
        cursor.refuse_end(where, count * smallest)
    if number == TEXT:
        return Value("text", [cursor.text(TEXT_LIMIT, where) for _ in range(count)])
    name, form = _scalar(cursor.path, number, where)
    found = [item for (item,) in form.iter_unpack(cursor.take(count * form.size, where))]
    return Value(name, [_truth(cursor.path, item, where) for item in found] if name == "bool" else found)


def _alignment(path: Path, metadata: dict[str, Value]) -> int:
    value = metadata.get(ALIGNMENT_KEY, Value("u32", ALIGNMENT))
    found = value.data
    if value.kind != "u32" or type(found) is not int or not 8 <= found <= ALIGNMENT_LIMIT or found & (found - 1):
        problem = f"{str(found)[:40]} ({value.kind}) is not a power of two from 8 to {ALIGNMENT_LIMIT} (u32)"
        refuse(path, f"metadata {ALIGNMENT_KEY!r}", problem)
    return found


def _tensor(path: Path, cursor: _Cursor, index: int) -> tuple[str, TensorKind, tuple[int, ...], int]:
    name = cursor.text(NAME_LIMIT, f"the name of tensor {index}")
    where = f"tensor {name!r}"
    if not name or not name.isprintable() or name.startswith(("/", "\\")) or ".." in name:
        refuse(path, where, "its name is empty, looks like a path or holds control marks")
    axes = cursor.number("u32", where)
    if not 1 <= axes <= AXES_LIMIT:
        refuse(path, where, f"it has {axes} axes, the limits are 1 and {AXES_LIMIT}")
    shape = tuple(cursor.number("u64", where) for _ in range(axes))
    if not all(1 <= length <= DIMENSION_LIMIT for length in shape):
        refuse(path, where, f"its shape {shape} is not of lengths from 1 to {DIMENSION_LIMIT}")
    number = cursor.number("u32", where)
    kind = _KIND_BY_NUMBER.get(number)
    if kind is None:
        refuse(path, where, f"its type {number} is not known")
    if shape[0] % kind.block:
        refuse(path, where, f"its rows have {shape[0]} numbers, and {kind.name} has blocks of {kind.block}")
    return name, kind, shape[::-1], cursor.number("u64", where)


def _lay_out(
    path: Path, listed: list[tuple[str, TensorKind, tuple[int, ...], int]], begin: int, alignment: int, size: int
) -> dict[str, GgufTensor]:
    """Check that the tensors follow each other, each padded to the alignment, up to the file's end."""
    tensors: dict[str, GgufTensor] = {}
    due = stop = 0
    for name, kind, shape, offset in listed:
        where = f"tensor {name!r}"
        if name in tensors:
            refuse(path, where, "the name stands there twice")
        if offset % alignment:
            refuse(path, where, f"its offset {offset} is no multiple of the alignment {alignment}")
        if offset != due:
            what = "overlaps the tensor before it" if offset < due else "leaves a hole before it"
            refuse(path, where, f"its offset is {offset} instead of {due}, and so it {what}")
        stop = offset + kind.bytes_of(math.prod(shape))
        if begin + stop > size:
            problem = f"its bytes end at {begin + stop}, the file at {size}"
            raise InputError(f"{path}: {where}", problem, "The file is cut off: fetch it anew")
        tensors[name] = GgufTensor(name, kind, shape, begin + offset, begin + stop)
        due = stop + -stop % alignment
    if size > begin + due:
        problem = f"it has {size} bytes, and its tensors end at byte {begin + stop}"
        raise InputError(path, problem, "The file has grown: fetch it anew")
    return tensors
