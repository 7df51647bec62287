"""Stop strings are found wherever the pieces are cut, and nothing of them is ever shown."""

import random

import pytest

from lamoid.inference.stopping import StopFinder


def run(stops: list[str], pieces: list[str]) -> tuple[list[str], bool]:
    finder = StopFinder(stops)
    shown = [finder.push(piece) for piece in pieces]
    return [*shown, finder.finish()], finder.has_stopped


@pytest.mark.parametrize(
    ("stops", "pieces", "shown", "found"),
    [
        (["END"], ["one E", "N", "D two"], ["one ", "", "", ""], True),
        (["END"], ["one E", "N", "O"], ["one ", "", "ENO", ""], False),
        (["END"], ["one EN"], ["one ", "EN"], False),
        (["aab"], ["aa", "a", "b"], ["", "a", "", ""], True),
        (["x"], ["axb", "c"], ["a", "", ""], True),
        ([], ["a", "b"], ["a", "b", ""], False),
        (["\0"], ["a\0b"], ["a", ""], True),
        (["ß"], ["stra", "ße"], ["stra", "", ""], True),
    ],
)
def test_what_is_shown_and_what_is_held_back(
    stops: list[str], pieces: list[str], shown: list[str], found: bool
) -> None:
    assert run(stops, pieces) == (shown, found)


def reference(stops: list[str], text: str) -> str:
    """The text before the stop string that is complete first, the longest of those, by looking at every end."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))]
    return text


def test_the_text_does_not_depend_on_how_it_is_cut() -> None:
    chance = random.Random(1)
    for _ in range(2000):
        stops = ["".join(chance.choices("ab", k=chance.randint(1, 4))) for _ in range(chance.randint(1, 3))]
        pieces = ["".join(chance.choices("abc", k=chance.randint(0, 4))) for _ in range(6)]
        wanted = reference(stops, "".join(pieces))
        shown, found = run(stops, pieces)
        assert "".join(shown) == wanted, (stops, pieces)
        assert found == (wanted != "".join(pieces)), (stops, pieces)
        for count in range(len(shown)):
            assert wanted.startswith("".join(shown[:count]))
