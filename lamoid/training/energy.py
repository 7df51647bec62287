"""How much energy the machine took, in joules, where it has counters that can be read.

Processors tell through Linux's powercap tree (Intel's RAPL, which AMD has too), NVIDIA's devices through their
management library. Counters are the whole device's: what else runs there is in them.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import torch

from lamoid.training.nvidia_energy import open_nvidia_counter

POWERCAP = Path("/sys/class/powercap")
_APART = 1.0  # seconds: a counter of 2^18 J wraps after minutes


class Counter(Protocol):
    """Something that counts energy."""

    @property
    def name(self) -> str: ...

    def joules(self) -> float:
        """Give what was taken since the counter was opened; raise ``OSError`` where it no longer tells."""
        ...


class RaplCounter:
    """One domain of the powercap tree: microjoules that begin again at 0 after ``max_energy_range_uj``."""

    def __init__(self, domain: Path) -> None:
        """Open the counter; raise ``OSError`` or ``ValueError`` where it cannot be read."""
        self._file = domain / "energy_uj"
        self._range = int((domain / "max_energy_range_uj").read_text())
        self.name = (domain / "name").read_text().strip()
        self._before = int(self._file.read_text())
        self._total = 0

    def joules(self) -> float:
        """Give the energy since the opening; it must be asked at least once in each turn of the counter."""
        now = int(self._file.read_text())
        # From the largest value the next count leads to 0, so a turn has one more than the range.
        self._total += now - self._before if now >= self._before else now - self._before + self._range + 1
        self._before = now
        return self._total / 1e6


class Energy:
    """Adds up counters; ``before`` joules were taken by those parts of the run that this one goes on with."""

    def __init__(self, counters: Sequence[Counter], before: float = 0.0) -> None:
        self.counters = counters
        self.before = before
        self._is_lost = False
        self._sampled = time.monotonic()
        self._joules = 0.0

    @property
    def names(self) -> str:
        """Say what is counted."""
        return ", ".join(counter.name for counter in self.counters)

    def sample(self, now: float | None = None) -> None:
        """Look at the counters if the last look was a second ago, so that no turn of one is missed."""
        now = time.monotonic() if now is None else now
        if now - self._sampled >= _APART:
            self._sampled = now
            self.joules()

    def joules(self) -> float | None:
        """Give the energy since the run began; ``None`` from the moment on that a counter no longer tells."""
        if self._is_lost:
            return None
        try:
            self._joules = sum(counter.joules() for counter in self.counters)
        except (OSError, ValueError):
            self._is_lost = True
            return None
        return self.before + self._joules


def find_energy(device: torch.device, powercap: Path = POWERCAP) -> Energy | None:
    """Open every counter of this machine that bears on a run on ``device``; ``None`` where nothing tells.

    For a CUDA device the device itself must tell: the processor alone would be a small part of it.
    """
    counters: list[Counter] = list(_rapl_counters(powercap))
    if device.type == "cuda":
        counter = open_nvidia_counter(str(torch.cuda.get_device_properties(device).uuid))
        if counter is None:
            return None
        counters.append(counter)
    return Energy(counters) if counters else None


def _rapl_counters(powercap: Path) -> list[RaplCounter]:
    """Open the packages and the memory beside them; cores and graphics are parts of a package, ``psys`` is all of it.

    If one package cannot be read, none is: a share of the machine would look like all.
    """
    counters: list[RaplCounter] = []
    with suppress(OSError):
        for domain in sorted(powercap.glob("intel-rapl:*")):
            name = _name(domain)
            if name.startswith("package"):
                try:
                    counters.append(RaplCounter(domain))
                except (OSError, ValueError):
                    return []
            elif name == "dram":
                with suppress(OSError, ValueError):
                    counters.append(RaplCounter(domain))
    return counters


def _name(domain: Path) -> str:
    try:
        return (domain / "name").read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
