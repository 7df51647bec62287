"""Signatures of texts: equal in a share of their places that estimates how alike the texts' runs of words are.

A. Broder, On the resemblance and containment of documents, 1997. The share of equal least hashes is, in the mean,
Jaccard's similarity of the two sets of runs (shingles), with a standard deviation of sqrt(s (1 - s) / hashes).
"""

import hashlib
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lamoid.text.clean_words import is_unspaced

_BLOCK = 2**12  # runs hashed at once, so that memory does not grow with the text
_EMPTY = 0xFFFFFFFF


def signature(words: Sequence[str], hashes: int, run_words: int, run_characters: int) -> NDArray[np.uint32]:
    """Give the ``hashes`` least hashes of a text's runs; ``words`` are its words in small letters.

    A run has ``run_words`` words, or ``run_characters`` characters in a script without spaces, or all there are. Of a
    text without words every place is 2^32 - 1.
    """
    size = run_characters if is_unspaced(list(words)) else run_words
    runs = np.unique(_runs(_numbers(words), size))
    factors, offsets = _functions(hashes)
    least = np.full(hashes, _EMPTY, dtype=np.uint64)
    for start in range(0, len(runs), _BLOCK):
        block = runs[start : start + _BLOCK]
        with np.errstate(over="ignore"):
            hashed = (factors[:, None] * block + offsets[:, None]) >> np.uint64(32)
        np.minimum(least, hashed.min(axis=1), out=least)
    return least.astype(np.uint32)


def _numbers(words: Sequence[str]) -> NDArray[np.uint64]:
    """Give each word its own 64 bits, the same on every machine."""
    known = {word: hashlib.blake2b(word.encode(errors="replace"), digest_size=8).digest() for word in set(words)}
    return np.frombuffer(b"".join(known[word] for word in words), dtype="<u8").astype(np.uint64)


def _runs(numbers: NDArray[np.uint64], size: int) -> NDArray[np.uint64]:
    if not len(numbers):
        return numbers
    size = min(size, len(numbers))
    count = len(numbers) - size + 1
    runs = np.zeros(count, dtype=np.uint64)
    for place in range(size):
        runs = _mixed(runs ^ numbers[place : place + count])
    return runs


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Turn each number into another in which every bit depends on all (the finaliser of SplitMix64)."""
    with np.errstate(over="ignore"):
        values = values + np.uint64(0x9E3779B97F4A7C15)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@cache
def _functions(hashes: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Give the odd factors and the offsets of as many hash functions, always the same."""
    drawn = _mixed(np.arange(2 * hashes, dtype=np.uint64))
    return drawn[:hashes] | np.uint64(1), drawn[hashes:]
