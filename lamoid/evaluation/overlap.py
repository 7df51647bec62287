"""How much of one text stands in others, wherever their documents or blocks begin: by runs of 64 bytes."""

from collections.abc import Iterable

import numpy as np

RUN_BYTES = 64
"""About 13 words, which texts that have nothing to do with each other rarely have in common."""
SAMPLED = 16
"""One run in so many is compared, chosen by what it holds: the same runs are chosen in every text."""
FACTOR, INVERSE, MIXER = 0x9E3779B97F4A7C15, pow(0x9E3779B97F4A7C15, -1, 1 << 64), 0xD6E8FEB86659FD93


def hash_runs(texts: Iterable[str]) -> np.ndarray:
    """Give hashes (uint64, ascending, each once) of sampled runs of 64 bytes, and of each text that is shorter."""
    found = [_runs(np.frombuffer(text.encode(), np.uint8)) for text in texts]
    return np.unique(np.concatenate(found)) if found else np.zeros(0, np.uint64)


def shared_part(runs: np.ndarray, others: np.ndarray) -> float:
    """Give which part of a text's runs stands in another's, 0 to 1; 0 for no runs."""
    return float(np.isin(runs, others).mean()) if len(runs) else 0.0


def _runs(data: np.ndarray) -> np.ndarray:
    """Hash runs by a polynomial modulo 2^64: sums from the beginning on, whose differences are shifted back."""
    if len(data) < RUN_BYTES:
        return _mixed(_sums(data)[-1:] + np.uint64(len(data)))
    sums = _sums(data)
    found = _mixed((sums[RUN_BYTES:] - sums[:-RUN_BYTES]) * _powers(INVERSE, len(sums) - RUN_BYTES))
    return found[found < np.uint64((1 << 64) // SAMPLED)]


def _sums(data: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.uint64), np.cumsum((data + np.uint64(1)) * _powers(FACTOR, len(data)))])


def _powers(factor: int, count: int) -> np.ndarray:
    """Give 1, f, f^2, ... modulo 2^64."""
    found = np.full(count, factor, np.uint64)
    found[:1] = 1
    return np.cumprod(found)


def _mixed(hashes: np.ndarray) -> np.ndarray:
    hashes = (hashes ^ (hashes >> np.uint64(32))) * np.uint64(MIXER)
    return hashes ^ (hashes >> np.uint64(32))
