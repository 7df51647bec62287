"""What the machine can do: the rate of one matrix product in the run's dtype, as the yardstick for a run."""

import time

import torch

from lamoid.training.precision import STORED, Dtype


def measure_peak(device: torch.device, dtype: Dtype, *, seconds: float = 0.2) -> float:
    """Give the best rate, in operations a second, of square products tried for about ``seconds``."""
    size = 4096 if device.type == "cuda" else 1024
    left = torch.ones(size, size, dtype=STORED[dtype], device=device)
    best, tries = float("inf"), 0
    until = time.perf_counter() + seconds
    while tries < 3 or time.perf_counter() < until:
        begun = time.perf_counter()
        (left @ left)[0, 0].item()
        best, tries = min(best, time.perf_counter() - begun), tries + 1
    return 2.0 * size**3 / best
