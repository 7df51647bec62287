"""How much memory a fusion may take, and how large its blocks are then."""

import math
import re

from lamoid.errors import InputError

BLOCK = 1 << 20
LEAST_BLOCK = 1 << 15
RESERVE = 48 * 2**20
"""Bytes kept for headers, threads and the writer's own buffer."""
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def block_elements(members: int, itemsize: int, memory: int) -> int:
    """Give the largest block, a power of two of at most 2^20 elements, that two sets of buffers have room for."""
    a_block = 2 * (members + 1) * itemsize
    room = (memory - RESERVE) // a_block
    if room < LEAST_BLOCK:
        least = RESERVE + a_block * LEAST_BLOCK
        problem = f"is {memory} bytes, {members} members need at least {least}"
        raise InputError("memory", problem, f"ask for {math.ceil(least / 2**20)}MiB or more")
    return min(BLOCK, 1 << (room.bit_length() - 1))


def parse_memory(text: str | int) -> int:
    """Read a number of bytes: 536870912, "512MiB", "2GB", "1.5GiB"; an ``InputError`` for anything else."""
    match = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*(?:([kmgt]i?)?b?)\s*", str(text).lower())
    if isinstance(text, bool) or match is None:
        raise InputError("memory", f"is {str(text)[:80]!r}, which is no size", 'write a size such as "512MiB"')
    return int(float(match[1]) * UNITS[match[2] or ""])
