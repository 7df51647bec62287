"""Documents, blocks and halves."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamoid.errors import InputError
from lamoid.evaluation.units import halve, hash_texts, split_units

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)


@given(st.lists(TEXT, min_size=1, max_size=29), st.integers(1, 60))
def test_few_documents_become_blocks_on_character_boundaries(texts: list[str], times: int) -> None:
    texts = [text * times for text in texts]
    blocks = split_units(texts)
    assert "".join(blocks) == "".join(texts)
    assert all(0 < len(block.encode()) <= 4096 for block in blocks)
    assert len(blocks) <= sum(len(text.encode()) // 4093 + 1 for text in texts)


def test_thirty_documents_stay_whole() -> None:
    texts = [f"{number}" * 5000 for number in range(30)]
    assert split_units(texts) == texts
    assert len(split_units(texts[:29])) > 29


@given(st.lists(TEXT, min_size=2, max_size=50, unique=True), st.randoms())
def test_halves_part_the_units_whatever_their_order(units: list[str], chance: random.Random) -> None:
    first, second = halve(units, name="x")
    assert sorted(first + second) == sorted(units)
    assert abs(len(first) - len(second)) <= 1
    shuffled = chance.sample(units, len(units))
    assert sorted(halve(shuffled, name="x")[0]) == sorted(first)


def test_equal_units_fall_into_one_half() -> None:
    first, second = halve(["a", "b", "a", "c", "b", "a"], name="x")
    assert not set(first) & set(second)


@pytest.mark.parametrize("units", [[], ["a"], ["a", "a"]])
def test_what_cannot_be_halved_is_refused(units: list[str]) -> None:
    with pytest.raises(InputError, match=r"x\.txt: [01] different .* cannot be halved"):
        halve(units, name="x.txt")


def test_hash_of_texts_sees_where_they_end() -> None:
    assert hash_texts(["ab", "c"]) != hash_texts(["a", "bc"])
    assert hash_texts(["a"]) == hash_texts(["a"])
