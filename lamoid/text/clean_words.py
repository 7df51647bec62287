"""The words of a text in any script: counted, cut apart, in small letters, without the commonest ones."""

import re
import tempfile
from collections.abc import Collection
from functools import cache
from typing import Any

from lamoid.errors import InputError

# Scripts written without spaces: Han, kana, Thai, Lao, Myanmar, Khmer and their like.
UNSPACED = "\\u0e00-\\u0eff\\u1000-\\u109f\\u1780-\\u17ff\\u3005-\\u3007\\u3040-\\u30ff\\u31f0-\\u31ff\\u3400-\\u4dbf"
UNSPACED += "\\u4e00-\\u9fff\\uf900-\\ufaff\\uff66-\\uff9f\\U00020000-\\U000323af"
HAN = "\\u3005-\\u3007\\u3400-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff\\U00020000-\\U000323af"
RUNS = 256
"""Runs of letters and of marks in a word, and parts of a word between hyphens: where there are more, it is cut."""
# Marks that belong to the letter before them, which \w leaves out; whole blocks where marks stand among letters.
_MARKS = "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
_MARKS += "\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u0730-\u074a\u07a6-\u07b0\u0900-\u0963\u0966-\u0dff\u0f18-\u0f39"
_MARKS += "\u0f71-\u0fbc\u135d-\u135f\u1ab0-\u1aff\u1dc0-\u1dff\u200c\u200d\u20d0-\u20ff\ufe20-\ufe2f"
# Runs, and nothing possessive: Python 3.11.0 to 3.11.4 ends a possessive group with branches a character early.
# Each run is remembered while a word is matched: so many make one word at most, and a text of marks takes no gigabyte.
_LETTERS = rf"(?:[^\W{UNSPACED}]+|[{_MARKS}]+){{1,{RUNS}}}"
_SPACED = f"{_LETTERS}(?:(?:['’‑-]|(?<=[0-9])[.,](?=[0-9])){_LETTERS}){{0,{RUNS}}}"
_WORD = re.compile(f"[{UNSPACED}]|{_SPACED}")
_TOKEN = re.compile(rf"[{UNSPACED}]+|{_SPACED}|[^\w\s]")
_HAN = re.compile(f"[{HAN}]")
_IS_WORD = re.compile(r"\w")
_LINE = 2**16  # characters given to the dictionary at once


def words_of(text: str) -> list[str]:
    """Give the words; in a script without spaces each character is one. Punctuation is left out."""
    return _WORD.findall(text)


def is_unspaced(words: list[str]) -> bool:
    """Are most of the words single characters of a script without spaces?"""
    return 2 * sum(len(word) == 1 and _UNSPACED.match(word) is not None for word in words) > len(words)


def require_jieba() -> None:
    """Raise ``InputError`` if what cuts Chinese into words is not installed."""
    try:
        _jieba()
    except ImportError as error:
        cure = "install it: pip install 'lamoid[data]', or leave the rule off"
        raise InputError("segment", "needs jieba for Chinese words, which is not installed", cure) from error


def segment(text: str, punctuation: bool) -> str:
    """Put one space between two words and keep the lines; Chinese is cut by jieba's dictionary, exact mode.

    Of other scripts without spaces each run between two marks stays one word.
    """
    return "\n".join(" ".join(_line_words(line, punctuation)) for line in text.split("\n"))


def remove_words(text: str, unwanted: Collection[str]) -> str:
    """Remove the words of ``unwanted`` (small letters), whatever the case of theirs, from words with spaces between."""
    lines = (line.split(" ") for line in text.split("\n"))
    kept = "\n".join(" ".join(word for word in line if word.lower() not in unwanted) for line in lines)
    return "" if kept.isspace() else kept


def _line_words(line: str, punctuation: bool) -> list[str]:
    words: list[str] = []
    for token in _TOKEN.findall(line):
        if _HAN.search(token):
            for start in range(0, len(token), _LINE):
                words.extend(_jieba().cut(token[start : start + _LINE], HMM=True))
        elif punctuation or _IS_WORD.match(token):
            words.append(token)
    return words


@cache
def _jieba() -> Any:
    """Load the dictionary; its cache goes into a folder of our own, for the library would trust anybody's in /tmp."""
    import logging

    import jieba

    jieba.setLogLevel(logging.WARNING)
    tokenizer = jieba.Tokenizer()
    with tempfile.TemporaryDirectory(prefix="lamoid-") as folder:
        tokenizer.tmp_dir = folder  # pyright: ignore[reportAttributeAccessIssue]
        tokenizer.initialize()
    return tokenizer


_UNSPACED = re.compile(f"[{UNSPACED}]")
