"""How much memory a fusion may take, and how large its slices and how many its threads are then."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lamoid.errors import InputError
from lamoid.fusion.rules.rule import PIECE, Rule
from lamoid.weights.header import TensorInfo

BLOCK = 1 << 18
LEAST_BLOCK = PIECE
RESERVE = 40 * 2**20
"""Bytes kept for headers, threads, the writer's own buffers, and what the C library holds back of what was freed."""
KEPT = 8 * 2**20
"""Bytes up to which a tensor is kept between passes: more is as soon read from the system's cache as from memory."""
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


@dataclass(frozen=True)
class Room:
    """What fits a limit: threads, elements of a slice, slices that wait to be written, bytes of a tensor to be kept,
    and bytes for the values among which the k-th largest is looked for.
    """

    threads: int
    slice_elements: int
    waiting: int
    kept_bytes: int
    gathered_bytes: int


def divide_memory(models: int, itemsize: int, memory: int, threads: int | None = None) -> Room:
    """Divide ``memory`` bytes among so many threads, the processor's cores if not given, fewer if there is no room.

    Raise ``InputError`` naming the least that ``models`` models of numbers of ``itemsize`` bytes need.
    """
    room, wide = memory - RESERVE, 8 if itemsize >= 4 else 4
    for count in range(threads or len(os.sched_getaffinity(0)), 0, -1):
        waiting = 2 * count + 4
        fixed = count * _pieces(models) * PIECE * wide
        an_element = (count * models + waiting) * itemsize
        size = (room - fixed) // an_element
        if size >= LEAST_BLOCK:
            elements = min(BLOCK, 1 << (size.bit_length() - 1))
            left = room - fixed - an_element * elements
            kept = min(KEPT, left // 3)
            return Room(count, elements, waiting, kept, left - kept)
    least = RESERVE + _pieces(models) * PIECE * wide + (models + 6) * itemsize * LEAST_BLOCK
    problem = f"is {memory} bytes, {models} members need at least {least}"
    raise InputError("memory", problem, f"ask for {math.ceil(least / 2**20)}MiB or more")


def _pieces(models: int) -> int:
    """Count the pieces that a thread holds: of each model, its difference and two measures of it, and the result's."""
    return 3 * models + 4


def block_elements(members: int, itemsize: int, memory: int) -> int:
    """Give the elements of a slice; raise ``InputError`` for a limit that is too small."""
    return divide_memory(members, itemsize, memory).slice_elements


def whole_room(rule: Rule, info: TensorInfo, members: int, statistics: Mapping[str, TensorInfo] | None) -> int | None:
    """Give the bytes that a rule by whole tensors needs for one of them besides the slices; None: it goes by elements.

    ``statistics`` are a member's. A rule that needs products of inputs is asked for (outputs, inputs), and a tensor
    without them goes by elements.
    """
    if rule.room is None:
        return 0
    shape = info.shape
    if rule.statistic in ("gram", "merged_gram"):
        if statistics is None or info.name not in statistics:
            return None
        shape = shape[::-1] if len(statistics[info.name].shape) == 3 else shape
    return rule.room(shape, members) or None


def room_needed(
    rule: Rule, info: TensorInfo, members: int, models: int, statistics: Mapping[str, TensorInfo] | None = None
) -> int:
    """Give the bytes that a fusion needs for a tensor of which it takes rows or the whole; 0 if it goes by elements."""
    if rule.unit == "element" or not info.dtype.is_floating_point or not info.elements:
        return 0
    if rule.unit == "row":
        extra, at_once = 0, info.shape[-1] if info.shape else 1
    else:
        extra, at_once = whole_room(rule, info, members, statistics), info.elements
        if extra is None:
            return 0
    wide = 8 if info.dtype.itemsize >= 4 else 4
    return RESERVE + extra + at_once * (models * (info.dtype.itemsize + wide) + 2 * wide)


def check_room(
    rule: Rule,
    infos: Sequence[TensorInfo],
    members: int,
    models: int,
    memory: int,
    statistics: Mapping[str, TensorInfo] | None = None,
) -> None:
    """Raise ``InputError`` if a rule by rows or whole tensors needs more memory for one of them than there is."""
    for info in infos:
        need = room_needed(rule, info, members, models, statistics)
        if need > memory:
            problem = f"is {memory} bytes, the rule needs {need} for the tensor {info.name}, which it takes whole"
            raise InputError("memory", problem, f"ask for {math.ceil(need / 2**20)}MiB or more, or for another rule")


def parse_memory(text: str | int) -> int:
    """Read a number of bytes: 536870912, "512MiB", "2GB", "1.5GiB"; an ``InputError`` for anything else."""
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*(?:([kmgt]i?)?b?)\s*", str(text).lower())
    if isinstance(text, bool) or match is None:
        raise InputError("memory", f"is {str(text)[:80]!r}, which is no size", 'write a size such as "512MiB"')
    return int(float(match[1]) * UNITS[match[2] or ""])
