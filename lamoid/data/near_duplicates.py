"""Finds, among the documents that were kept, one that is nearly the same: least hashes, looked up in bands.

Documents whose signatures agree in one band of some places are compared in all places (Indyk and Motwani 1998;
Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3). For each document kept, the signature
(4 bytes a hash) and one entry of 12 bytes a band stay in memory, in arrays that double: with 128 hashes and 16 bands
about 1 to 2 kB.
"""

from array import array

import numpy as np
from numpy.typing import NDArray

_SURE = 0.9  # of a pair just as alike as asked for, the chance to be looked at
_MOST = 64  # documents of one band that are compared
_FIRST = 2**10
_MASK = 2**64 - 1


def choose_bands(hashes: int, share: float) -> tuple[int, int]:
    """Give the number of bands and the places in each: as many places as leave a pair at ``share`` sure to be found."""
    rows = hashes
    while rows > 1 and 1 - (1 - share**rows) ** (hashes // rows) < _SURE:
        rows //= 2
    return hashes // rows, rows


class KeptSignatures:
    """The signatures of the documents kept so far."""

    def __init__(self, hashes: int, share: float) -> None:
        self._bands, self._rows = choose_bands(hashes, share)
        self._share = share
        self._signatures = np.empty((_FIRST, hashes), dtype=np.uint32)
        self._count = 0
        self._table = _Table()

    def find_or_add(self, marks: bytes) -> int | None:
        """Give the number of a kept document that is as alike as asked for; else keep this one and give None."""
        found = np.frombuffer(marks, dtype="<u4")
        keys = self._keys(found)
        tried: set[int] = set()
        for key in keys:
            for number in self._table.find(key):
                if number not in tried:
                    tried.add(number)
                    if float((self._signatures[number] == found).mean()) >= self._share:
                        return number
        self._add(found, keys)
        return None

    def size(self) -> int:
        """Give the bytes held."""
        return self._signatures.nbytes + self._table.size()

    def _add(self, found: NDArray[np.uint32], keys: list[int]) -> None:
        if self._count == len(self._signatures):
            self._signatures = np.concatenate([self._signatures, np.empty_like(self._signatures)])
        self._signatures[self._count] = found
        for key in keys:
            self._table.add(key, self._count)
        self._count += 1

    def _keys(self, found: NDArray[np.uint32]) -> list[int]:
        """Give one number a band; that of another band, or of other places in it, is another but for chance."""
        keys = np.arange(1, self._bands + 1, dtype=np.uint64)
        with np.errstate(over="ignore"):
            for column in found.reshape(self._bands, self._rows).T.astype(np.uint64):
                keys = (keys ^ column) * np.uint64(0x9E3779B97F4A7C15)
                keys ^= keys >> np.uint64(29)
        return (keys | np.uint64(1)).tolist()


class _Table:
    """Numbers of documents by keys above 0, several to a key: open addressing in two plain arrays."""

    def __init__(self) -> None:
        self._keys = array("Q", bytes(8 * _FIRST))
        self._numbers = array("I", bytes(4 * _FIRST))
        self._held = 0

    def size(self) -> int:
        return len(self._keys) * (self._keys.itemsize + self._numbers.itemsize)

    def find(self, key: int) -> list[int]:
        """Give the first few documents of a key."""
        found: list[int] = []
        keys, mask = self._keys, len(self._keys) - 1
        place = self._place(key)
        while keys[place] and len(found) < _MOST:
            if keys[place] == key:
                found.append(self._numbers[place])
            place = (place + 1) & mask
        return found

    def add(self, key: int, number: int) -> None:
        """Add a document; of a key that has more than enough none is added."""
        if 2 * self._held >= len(self._keys):
            self._grow()
        keys, mask = self._keys, len(self._keys) - 1
        place, same = self._place(key), 0
        while keys[place]:
            same += keys[place] == key
            if same == _MOST:
                return
            place = (place + 1) & mask
        keys[place], self._numbers[place] = key, number
        self._held += 1

    def _place(self, key: int) -> int:
        return (key * 0xBF58476D1CE4E5B9 & _MASK) >> 32 & (len(self._keys) - 1)

    def _grow(self) -> None:
        keys, numbers = np.frombuffer(self._keys, np.uint64), np.frombuffer(self._numbers, np.uint32)
        held = np.flatnonzero(keys)
        order = held[np.argsort(numbers[held], kind="stable")]
        size = 2 * len(self._keys)
        self._keys, self._numbers, self._held = array("Q", bytes(8 * size)), array("I", bytes(4 * size)), 0
        for start in range(0, len(order), _FIRST):
            some = order[start : start + _FIRST]
            for key, number in zip(keys[some].tolist(), numbers[some].tolist(), strict=True):
                self.add(key, number)
