"""The energy counter of an NVIDIA device, asked through the management library that comes with its driver (NVML)."""

import ctypes
from collections.abc import Callable
from typing import Any

LIBRARY = "libnvidia-ml.so.1"


class NvidiaCounter:
    """Counts millijoules since the driver was loaded: nvmlDeviceGetTotalEnergyConsumption, from Volta on."""

    def __init__(self, name: str, millijoules: Callable[[], int]) -> None:
        self.name = name
        self._millijoules = millijoules
        self._begun = millijoules()

    def joules(self) -> float:
        """Give the energy since the counter was opened."""
        return (self._millijoules() - self._begun) / 1e3


def open_nvidia_counter(uuid: str, load: Callable[[str], Any] = ctypes.CDLL) -> NvidiaCounter | None:
    """Open the counter of the device that torch knows by ``uuid``; ``None`` without driver, or on older devices."""
    try:
        library = load(LIBRARY)
        if library.nvmlInit_v2() != 0:
            return None
        handle = ctypes.c_void_p()
        full = uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
        if library.nvmlDeviceGetHandleByUUID(full.encode(), ctypes.byref(handle)) != 0:
            return None
        return NvidiaCounter("NVIDIA device", lambda: _read(library, handle))
    except (OSError, AttributeError):
        return None


def _read(library: Any, handle: ctypes.c_void_p) -> int:
    value = ctypes.c_ulonglong()
    status = library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(value))
    if status != 0:
        raise OSError(status, f"the device does not tell its energy (NVML {status})")
    return value.value
