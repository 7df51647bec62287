"""How much memory the process has, now and at most: the machine's own, and that of the device it trains on."""

import resource
import sys
from pathlib import Path

import torch

_PROCESS = Path("/proc/self/status")


def memory_figures(device: torch.device, status: Path = _PROCESS) -> dict[str, float]:
    """Give bytes: ``memory`` resident now, ``memory_peak`` since the process began, and the same of a CUDA device.

    Where the system does not tell what is resident now (it tells on Linux), ``memory`` is absent.
    """
    found = _resident(status)
    if device.type == "cuda":
        found["device_memory"] = float(torch.cuda.memory_allocated(device))
        found["device_memory_peak"] = float(torch.cuda.max_memory_allocated(device))
    return found


def _resident(status: Path) -> dict[str, float]:
    try:
        parted = [line.partition(":") for line in status.read_text(encoding="utf-8").splitlines()]
        lines = {name: text for name, _, text in parted}
        kibibytes = {"memory": lines["VmRSS"], "memory_peak": lines["VmHWM"]}
        return {name: 1024.0 * int(text.split()[0]) for name, text in kibibytes.items()}
    except (OSError, KeyError, ValueError, IndexError):
        unit = 1 if sys.platform == "darwin" else 1024
        return {"memory_peak": float(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)}
