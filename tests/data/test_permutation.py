"""A permutation is one, and depends on its key."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamoid.data.permutation import Permutation


@settings(max_examples=60)
@given(st.integers(1, 3000), st.integers(0, 5))
def test_every_number_comes_once(size: int, key: int) -> None:
    order = Permutation(size, f"order/{key}")
    assert sorted(order[i] for i in range(size)) == list(range(size))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(0, 5), st.data())
def test_a_stretch_is_what_stands_at_its_places(size: int, key: int, data: st.DataObject) -> None:
    order = Permutation(size, f"order/{key}")
    begin = data.draw(st.integers(0, size))
    end = data.draw(st.integers(begin, size))
    assert order.stretch(begin, end) == [order[place] for place in range(begin, end)]
    with pytest.raises(IndexError):
        order.stretch(begin, size + 1)


def test_another_key_gives_another_order() -> None:
    first, second = ([Permutation(1000, key)[i] for i in range(1000)] for key in ("0/0", "0/1"))
    assert first != second
    assert sum(a == b for a, b in zip(first, second, strict=True)) < 20
    assert first != sorted(first)


def test_places_are_spread_evenly() -> None:
    """The mean of the first tenth lies within five standard errors of the middle."""
    size = 100_003
    order = Permutation(size, "even")
    sample = [order[i] for i in range(size // 10)]
    error = size / 12**0.5 / len(sample) ** 0.5
    assert abs(sum(sample) / len(sample) - size / 2) < 5 * error


def test_a_place_outside_is_an_index_error() -> None:
    for index in (-1, 5):
        with pytest.raises(IndexError):
            Permutation(5, "k")[index]
    large = Permutation(10**15, "large")
    assert 0 <= large[10**14] < 10**15
    assert large.stretch(10**14, 10**14 + 3) == [large[10**14 + k] for k in range(3)]
