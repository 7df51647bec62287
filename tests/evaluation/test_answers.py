"""Answers are compared as the evaluation script of SQuAD 1.1 does, letters one by one where there are no spaces."""

import pytest

from lamoid.evaluation.answers import exact_match, normalized, overlap


@pytest.mark.parametrize(
    ("given", "wanted", "exact", "f1"),
    [
        ("The Cat!", ["cat"], 1.0, 1.0),
        ("a black cat", ["cat"], 0.0, 2 / 3),
        ("the an a", ["cat"], 0.0, 0.0),
        ("dog", ["cat"], 0.0, 0.0),
        ("", [], 1.0, 1.0),
        ("cat", [], 0.0, 0.0),
        ("", ["cat"], 0.0, 0.0),
        ("cat cat", ["cat dog", "cat cat"], 1.0, 1.0),
        ("cat cat dog", ["cat dog dog"], 0.0, 2 / 3),
        ("光荣和", ["光荣"], 0.0, 4 / 5),
    ],
)
def test_match_and_overlap(given: str, wanted: list[str], exact: float, f1: float) -> None:
    assert exact_match(given, wanted) == exact
    assert overlap(given, wanted) == pytest.approx(f1)


def test_what_is_compared_has_no_articles_or_marks() -> None:
    assert normalized("  The  (an) theory, A ") == "theory"
