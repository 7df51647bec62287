"""Near duplicates against the truth: Jaccard's similarity of the sets of runs, computed in full."""

import hashlib
import random

import numpy as np
import pytest

from lamoid.data.near_duplicates import KeptSignatures, choose_bands
from lamoid.text.minhash import signature

HASHES = 128


def shingles(words: list[str], size: int = 5) -> set[tuple[str, ...]]:
    return {tuple(words[place : place + size]) for place in range(max(1, len(words) - size + 1))}


def jaccard(one: list[str], other: list[str]) -> float:
    return len(shingles(one) & shingles(other)) / len(shingles(one) | shingles(other))


def pair(draw: random.Random, changes: int) -> tuple[list[str], list[str]]:
    """A text of random words, and the same with some of them changed."""
    words = [f"w{draw.randrange(5000)}" for _ in range(300)]
    other = list(words)
    for place in draw.sample(range(300), changes):
        other[place] = f"x{draw.randrange(5000)}"
    return words, other


@pytest.mark.parametrize("changes", [0, 3, 6, 15, 40])
def test_equal_places_of_signatures_estimate_jaccards_similarity(changes: int) -> None:
    """The mean over 40 pairs of 512 places has a standard deviation below 0.004; its hashes are fixed, not drawn."""
    draw = random.Random(changes)
    errors = []
    for _ in range(40):
        one, other = pair(draw, changes)
        equal = float((signature(one, 512, 5, 5) == signature(other, 512, 5, 5)).mean())
        errors.append(equal - jaccard(one, other))
    assert abs(np.mean(errors)) < 0.016
    assert np.sqrt(np.mean(np.square(errors))) < 0.04


def test_recall_and_precision_against_the_true_similarity() -> None:
    draw = random.Random(5)
    found = {"alike": [0, 0], "unlike": [0, 0]}
    for _ in range(500):
        one, other = pair(draw, draw.randrange(0, 60))
        kept = KeptSignatures(HASHES, 0.8)
        assert kept.find_or_add(signature(one, HASHES, 5, 5).tobytes()) is None
        is_found = kept.find_or_add(signature(other, HASHES, 5, 5).tobytes()) is not None
        true = jaccard(one, other)
        if true >= 0.9 or true <= 0.65:
            side = found["alike" if true >= 0.9 else "unlike"]
            side[0] += is_found
            side[1] += 1
    assert found["alike"][1] > 20
    assert found["unlike"][1] > 200
    assert found["alike"][0] >= 0.97 * found["alike"][1]
    assert found["unlike"][0] <= 0.01 * found["unlike"][1]


def test_among_many_the_right_one_is_found() -> None:
    """1000 documents: the tables grow several times, and each near copy finds its own original."""
    draw = random.Random(7)
    originals, copies = zip(*(pair(draw, 1) for _ in range(1000)), strict=True)
    kept = KeptSignatures(HASHES, 0.8)
    for words in originals:
        assert kept.find_or_add(signature(words, HASHES, 5, 5).tobytes()) is None
    numbers = [kept.find_or_add(signature(words, HASHES, 5, 5).tobytes()) for words in copies]
    assert numbers == list(range(1000))
    assert kept.size() / 1000 < 2500


def test_many_that_share_a_band_stay_apart() -> None:
    """Signatures that agree in all bands but the last few: compared in all places, none is taken for another."""
    kept = KeptSignatures(HASHES, 0.8)
    base = np.arange(HASHES, dtype="<u4")
    for number in range(500):
        marks = base.copy()
        marks[64:] = np.random.default_rng(number).integers(0, 2**32, 64, dtype=np.uint32)
        assert kept.find_or_add(marks.tobytes()) is None


def test_bands_leave_a_pair_at_the_limit_sure_to_be_looked_at() -> None:
    for share in (0.3, 0.5, 0.8, 0.95):
        bands, rows = choose_bands(HASHES, share)
        assert bands * rows == HASHES
        assert rows == 1 or 1 - (1 - share**rows) ** bands >= 0.9
    assert choose_bands(HASHES, 0.8) == (16, 8)


def test_characters_are_the_words_of_chinese_and_short_texts_are_one_run() -> None:
    poem = list("床前明月光疑是地上霜舉頭望明月低頭思故鄉")
    same = signature(poem, HASHES, 5, 3)
    assert (same == signature(poem, HASHES, 2, 3)).all()
    assert (same != signature(poem, HASHES, 5, 2)).any()
    assert (signature(["a", "b"], HASHES, 5, 5) == signature(["a", "b"], HASHES, 2, 5)).all()
    assert (signature(["a", "b"], HASHES, 5, 5) != signature(["b", "a"], HASHES, 5, 5)).any()
    assert (signature([], HASHES, 5, 5) == 2**32 - 1).all()


def test_a_signature_is_that_of_whole_numbers_counted_slowly() -> None:
    """The arithmetic of 64 bits written out with Python's own numbers: no machine and no batch changes a bit."""
    words = ("the quick brown fox jumps over the lazy dog " * 700).split() + [str(number) for number in range(5000)]
    numbers = [int.from_bytes(hashlib.blake2b(w.encode(), digest_size=8).digest(), "little") for w in words]
    runs = set()
    for place in range(len(words) - 4):
        run = 0
        for number in numbers[place : place + 5]:
            run = mixed(run ^ number)
        runs.add(run)
    drawn = [mixed(number) for number in range(32)]
    functions = [(factor | 1, offset) for factor, offset in zip(drawn[:16], drawn[16:], strict=True)]
    expected = [min((factor * run + offset) % 2**64 >> 32 for run in runs) for factor, offset in functions]
    assert signature(words, 16, 5, 5).tolist() == expected


def mixed(value: int) -> int:
    """SplitMix64 (Steele, Lea and Flood 2014), the finaliser with its increment."""
    value = (value + 0x9E3779B97F4A7C15) % 2**64
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
    return value ^ (value >> 31)
