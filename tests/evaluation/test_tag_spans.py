"""Pieces of tagged sentences as conlleval counts them."""

import numpy as np
import pytest
import torch

from lamoid.evaluation.tag_spans import pieces, tag_score


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O O", []),
        ("B-A I-A O", [("A", 0, 2)]),
        ("B-A B-A", [("A", 0, 1), ("A", 1, 2)]),
        ("I-A I-A", [("A", 0, 2)]),
        ("B-A I-B", [("A", 0, 1), ("B", 1, 2)]),
        ("O I-A B-A I-A", [("A", 1, 2), ("A", 2, 4)]),
        ("S-A S-A", [("A", 0, 1), ("A", 1, 2)]),
        ("B-A I-A E-A E-A", [("A", 0, 3), ("A", 3, 4)]),
        ("B-A-B I-A-B", [("A-B", 0, 2)]),
        ("0 X", []),
    ],
)
def test_pieces_are_those_that_the_tags_name(tags: str, found: list) -> None:
    assert pieces(tags.split()) == found


def test_conllevals_own_example() -> None:
    """As the CoNLL-2000 page describes it: a piece counts if its name and both its ends are right."""
    wanted = [["B-NP", "I-NP", "B-VP", "O"], ["B-NP", "B-PP", "B-NP", "I-NP"]]
    given = [["B-NP", "I-NP", "O", "O"], ["B-NP", "B-PP", "B-NP", "B-NP"]]
    score = tag_score(wanted, given)
    assert score.precision == pytest.approx(3 / 5)
    assert score.recall == pytest.approx(3 / 5)
    assert score.f1 == pytest.approx(3 / 5)


def test_a_copy_scores_one_and_nothing_scores_nothing() -> None:
    rng = np.random.default_rng(int(torch.randint(1 << 30, ())))
    tags = [[str(tag) for tag in rng.choice(["O", "B-A", "I-A", "B-B", "I-B"], 20)] + ["B-A"] for _ in range(20)]
    assert tag_score(tags, tags) == (1.0, 1.0, 1.0)
    assert tag_score(tags, [["O"] * len(row) for row in tags]) == (0.0, 0.0, 0.0)


def test_many_random_sentences_agree_with_the_written_out_rule() -> None:
    """A second road: a piece is a stretch that no B, S, O, or other name interrupts."""
    rng = np.random.default_rng(int(torch.randint(1 << 30, ())))
    for _ in range(200):
        tags = [str(tag) for tag in rng.choice(["O", "B-A", "I-A", "B-B", "I-B"], 12)]
        begins = [
            place
            for place, tag in enumerate(tags)
            if tag[0] == "B" or (tag[0] == "I" and (not place or tags[place - 1][1:] != tag[1:]))
        ]
        wanted = []
        for begin in begins:
            end = begin + 1
            while end < len(tags) and tags[end] == "I" + tags[begin][1:]:
                end += 1
            wanted.append((tags[begin][2:], begin, end))
        assert pieces(tags) == wanted
