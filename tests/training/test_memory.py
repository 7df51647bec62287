"""Memory figures against what the system itself says, and where it says little."""

import mmap
import resource
from pathlib import Path

import pytest
import torch

from lamoid.training.memory import memory_figures

CPU = torch.device("cpu")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell what is resident now")
def test_what_is_resident_now_grows_with_what_is_held_and_the_peak_stays() -> None:
    size = 64 << 20
    before = memory_figures(CPU)
    held = mmap.mmap(-1, size)  # pages of its own: an allocator may have some that were resident before
    held.write(bytes(1) * size)
    during = memory_figures(CPU)
    assert during["memory"] - before["memory"] > 0.8 * size
    assert during["memory_peak"] >= during["memory"]
    assert during["memory_peak"] <= 1.1 * 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + size
    held.close()
    after = memory_figures(CPU)
    assert after["memory"] < during["memory"] - 0.8 * size
    assert after["memory_peak"] > before["memory"] + 0.8 * size, "it does not fall with what is held"


@pytest.mark.parametrize("text", [None, "", "VmRSS: many kB\nVmHWM:\n", "Name: python\n"])
def test_a_system_that_does_not_tell_leaves_the_peak(tmp_path: Path, text: str | None) -> None:
    status = tmp_path / "status"
    if text is not None:
        status.write_text(text)
    figures = memory_figures(CPU, status)
    assert set(figures) == {"memory_peak"}
    assert figures["memory_peak"] > 10 << 20
