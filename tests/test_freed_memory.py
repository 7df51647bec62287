"""What is freed and asked for again costs no new pages meanwhile, and goes back to the system in the end."""

import ctypes
import resource
from pathlib import Path

import pytest
import torch

from lamoid import freed_memory
from lamoid.freed_memory import give_freed_memory_back, keeping_freed_memory

BYTES = 100 << 20
PAGE = resource.getpagesize()


def new_pages() -> int:
    """Count the pages that one large block costs, which is freed at once."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(BYTES, dtype=torch.uint8).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="not glibc")
def test_what_is_freed_is_kept_inside_and_given_back_behind() -> None:
    assert min(new_pages() for _ in range(8)) > 0
    with keeping_freed_memory():
        assert min(new_pages() for _ in range(8)) == 0  # not at once, where a small block lies behind the freed one
        held = resident()
    assert held - resident() > BYTES // 2
    assert new_pages() > 0


def test_another_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda name: object())
    give_freed_memory_back()
    done = []
    with keeping_freed_memory():
        done.append(1)
    assert done


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_small_blocks_between_others_go_back() -> None:
    blocks = [torch.full((1 << 14,), 1.0) for _ in range(BYTES >> 16)]
    kept, blocks = blocks[::64], []
    held = resident()
    give_freed_memory_back()
    assert held - resident() > BYTES // 2
    assert all(block[0] == 1 for block in kept)
