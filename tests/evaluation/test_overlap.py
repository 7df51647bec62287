"""How much of one text stands in others, against texts made of known parts."""

import random

import numpy as np
import pytest

from lamoid.evaluation.overlap import hash_runs, shared_part
from lamoid.evaluation.units import split_units


def written(seed: int, size: int) -> str:
    return "".join(random.Random(seed).choices("abcdefghij 日本語\n", k=size))


def test_a_part_is_found_wherever_it_begins() -> None:
    part, rest = written(0, 20_000), written(1, 20_000)
    whole = hash_runs(split_units([written(2, 1234) + part]))
    assert shared_part(hash_runs(split_units([part])), whole) > 0.9
    assert shared_part(hash_runs(split_units([rest])), whole) == 0.0
    assert shared_part(hash_runs([part + rest]), whole) == pytest.approx(0.5, abs=0.05)


def test_runs_are_those_of_the_bytes() -> None:
    text = written(3, 3000)
    data = text.encode()
    different = len({data[begin : begin + 64] for begin in range(len(data) - 63)})
    assert len(hash_runs([text])) == pytest.approx(different / 16, rel=0.3)
    assert np.array_equal(hash_runs([text]), hash_runs([text, text]))


def test_short_texts_are_compared_whole() -> None:
    assert shared_part(hash_runs(["one", "two"]), hash_runs(["two", "three"])) == 0.5
    assert shared_part(hash_runs([]), hash_runs(["a"])) == 0.0
    assert len(hash_runs(["\0", "\0\0", "a\0", "a"])) == 4
