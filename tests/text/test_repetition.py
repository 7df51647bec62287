"""The measures of repetition against their definitions, counted the slow way."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamoid.text.clean_rules import RepetitionRule
from lamoid.text.repetition import repeated_share, run_shares, why_repetitive

WORDS = st.lists(st.sampled_from(["a", "bb", "ccc", "d"]), min_size=1, max_size=40)


def slow_share(words: list[str], size: int) -> float:
    runs = [tuple(words[place : place + size]) for place in range(len(words) - size + 1)]
    counts = Counter(runs)
    total = len("".join(words))
    most = max(counts.values(), default=0)
    if most < 2:
        return 0.0

    def held(chosen: set[tuple[str, ...]]) -> int:
        covered = {place + k for place, run in enumerate(runs) if run in chosen for k in range(size)}
        return sum(len(words[place]) for place in covered)

    if size < 5:
        return max(held({run}) for run in counts if counts[run] == most) / total
    return held({run for run in counts if counts[run] > 1}) / total


@given(WORDS)
def test_shares_of_runs_are_those_of_the_definition(words: list[str]) -> None:
    found = dict(run_shares(words))
    for size in range(2, 11):
        assert found.get(size, 0.0) == pytest.approx(slow_share(words, size))


def test_a_run_that_overlaps_itself_holds_no_more_than_all() -> None:
    assert dict(run_shares(["ab"] * 30))[4] == 1.0
    assert dict(run_shares(["ab", "cd", "ab", "cd", "ab", "e"]))[3] == 10 / 11


@given(st.lists(st.sampled_from(["x", "yy", "zzz"]), max_size=12))
def test_shares_of_pieces_are_those_of_the_definition(pieces: list[str]) -> None:
    again = [piece for place, piece in enumerate(pieces) if piece in pieces[:place]]
    share, characters = repeated_share(pieces)
    assert share == pytest.approx(len(again) / max(1, len(pieces)))
    assert characters == pytest.approx(len("".join(again)) / max(1, len("".join(pieces))))


UNIQUE = [f"word{n}" for n in range(60)]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a\nb\na\na", "50% of its lines"),
        ("a\nb\nc\nd\ne\nf\n" + "long line\n" * 2, "characters are in repeated lines"),
        ("aa\nb\n\naa\nb\n\ncccccccccc\nd\n\ne", ""),
        ("one\n\ntwo\n\none\n\none", "of its lines"),
        (" ".join([*UNIQUE, *["spam egg"] * 20]), "the commonest run of 2 words"),
        (" ".join([*UNIQUE, *UNIQUE[:12]]), "repeated runs of 5 words"),
        (" ".join(UNIQUE), ""),
        ("so it goes " * 10, ""),
    ],
)
def test_each_limit_is_held(text: str, why: str) -> None:
    found = why_repetitive(text, text.split(), RepetitionRule())
    assert why in found
    assert bool(found) == bool(why)
