"""Words of a command that are no text, and paths that the locale cannot write: named before a recipe meets them."""

import os
import sys
from collections.abc import Sequence

from lamoid.errors import InputError

CURE = "set LC_ALL=C.UTF-8 or PYTHONUTF8=1"


def check_words(words: Sequence[str]) -> None:
    """Raise ``InputError`` for a word whose bytes Python could not read as text and held as half surrogate pairs.

    What is saved names its sources and its place in UTF-8, which such a word cannot be written in.
    """
    for number, word in enumerate(words):
        if not _is_text(word):
            before = words[number - 1] if number else ""
            option, equals, _ = word.partition("=")
            named = before if before.startswith("--") else option if equals and option.startswith("--") else ""
            shown = os.fsencode(word).decode("utf-8", "backslashreplace")
            problem = f"is {shown[:200]}, whose bytes are no text in {sys.getfilesystemencoding()}"
            raise InputError(named or f"argument {number + 1}", problem, _cure())


def of_the_locale(error: Exception) -> InputError | None:
    """Give the refusal of a path that cannot be written in the locale's encoding; ``None`` for any other error."""
    if not isinstance(error, UnicodeEncodeError) or sys.getfilesystemencoding() == "utf-8":
        return None
    shown = error.object.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    problem = f"has the encoding {sys.getfilesystemencoding()}, which cannot write {shown[:200]}"
    return InputError("the locale", problem, CURE)


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _cure() -> str:
    return "write it in UTF-8" if sys.getfilesystemencoding() == "utf-8" else CURE
