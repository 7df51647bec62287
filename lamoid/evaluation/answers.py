"""How well answers agree with those wanted: exact match and overlap of words, as SQuAD counts them."""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = set(string.punctuation)


def normalized(answer: str) -> str:
    """Give an answer as SQuAD compares it: small letters, no punctuation, no articles, single spaces."""
    bare = "".join(letter for letter in answer.lower() if letter not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(given: str, wanted: Sequence[str]) -> float:
    """Give 1 if the answer is one of those wanted; nothing is wanted where there is no answer."""
    return float(any(normalized(given) == normalized(one) for one in wanted or [""]))


def overlap(given: str, wanted: Sequence[str]) -> float:
    """Give the best F1 of words with any answer wanted; a letter of a script without spaces is a word."""
    return max(_f1(_words(given), _words(one)) for one in wanted or [""])


def _f1(given: list[str], wanted: list[str]) -> float:
    if not given or not wanted:
        return float(given == wanted)
    common = sum((Counter(given) & Counter(wanted)).values())
    return 2 * common / (len(given) + len(wanted))


def _words(answer: str) -> list[str]:
    spaced = "".join(f" {letter} " if _stands_alone(letter) else letter for letter in normalized(answer))
    return spaced.split()


def _stands_alone(letter: str) -> bool:
    return letter > "\u2e7f" and unicodedata.category(letter) == "Lo"
