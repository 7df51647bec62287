"""Random numbers that a text key fixes: what is drawn for a row depends on nothing else."""

import hashlib

import numpy as np


def drawn_for(purpose: str, key: str) -> np.random.Generator:
    """Give a generator that starts at the hash of ``purpose`` and ``key``; two purposes of one row are independent."""
    digest = hashlib.sha256(f"{purpose}/{key}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))
