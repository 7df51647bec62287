"""An order over any number of things that costs no memory: a keyed permutation (Feistel network, cycle walking)."""

import hashlib

import numpy as np
from numpy.typing import NDArray

ROUNDS = 6
_MASK = 2**64 - 1


class Permutation:
    """Maps 0 .. size-1 one to one onto itself, in an order that ``key`` fixes.

    A balanced Feistel network permutes the numbers of an even number of bits (Luby and Rackoff 1988); a result that is
    not below ``size`` is put in again until it is (Black and Rogaway 2002), less than four times on average.
    """

    def __init__(self, size: int, key: str) -> None:
        self.size = size
        self._half = max(1, ((size - 1).bit_length() + 1) // 2)
        digest = hashlib.shake_128(key.encode()).digest(8 * ROUNDS)
        self._keys = [int.from_bytes(digest[8 * k : 8 * k + 8], "little") for k in range(ROUNDS)]

    def __getitem__(self, index: int) -> int:
        """Give what stands at place ``index``."""
        if not 0 <= index < self.size:
            raise IndexError(index)
        while True:
            index = self._mix(index)
            if index < self.size:
                return index

    def stretch(self, begin: int, end: int) -> list[int]:
        """Give what stands at the places from ``begin`` to before ``end``."""
        if not 0 <= begin <= end <= self.size:
            raise IndexError(f"{begin} to {end} of {self.size}")
        numbers = np.arange(begin, end, dtype=np.uint64)
        outside = np.arange(end - begin)
        while len(outside):
            numbers[outside] = self._mix_all(numbers[outside])
            outside = outside[numbers[outside] >= self.size]
        return numbers.tolist()

    def _mix_all(self, numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
        half, low = np.uint64(self._half), np.uint64((1 << self._half) - 1)
        left, right = numbers >> half, numbers & low
        for key in self._keys:
            left, right = right, left ^ (_scramble_all(right ^ np.uint64(key)) & low)
        return left << half | right

    def _mix(self, number: int) -> int:
        half = self._half
        low = (1 << half) - 1
        left, right = number >> half, number & low
        for key in self._keys:
            left, right = right, left ^ (_scramble(right ^ key) & low)
        return left << half | right


def _scramble(number: int) -> int:
    """Apply the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    number = (number + 0x9E3779B97F4A7C15) & _MASK
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    number = (number ^ number >> 27) * 0x94D049BB133111EB & _MASK
    return number ^ number >> 31


def _scramble_all(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Do the same to many, modulo 2^64 as their arithmetic is."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ numbers >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ numbers >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return numbers ^ numbers >> np.uint64(31)
