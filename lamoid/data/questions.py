"""Questions about a text whose answers are pieces of it, in files of SQuAD's form."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lamoid.contained import read_whole
from lamoid.data.files import find_files
from lamoid.data.rows import LARGEST_JSON
from lamoid.errors import InputError
from lamoid.strict_json import parse_json

Offsets = Literal["refuse", "nearest"]


@dataclass(frozen=True)
class Question:
    """A question about ``text``; each answer is a text and the place of its first character, none if there is none."""

    text: str
    question: str
    answers: tuple[tuple[str, int], ...]
    name: str


def read_questions(paths: Sequence[str | Path], *, offsets: Offsets = "refuse") -> tuple[list[Question], list[str]]:
    """Read SQuAD's JSON, of version 1 or 2, and give the questions with what was mended, one remark a file.

    An answer that does not stand where its ``answer_start`` says is an ``InputError``, or with ``nearest`` looked for
    and put at the nearest place where it stands; one that stands nowhere is left out, with its question if it has no
    other.
    """
    found: list[Question] = []
    remarks: list[str] = []
    for path, _ in find_files(paths):
        reader = _Reader(path, offsets)
        found += reader.read()
        if reader.mended:
            remarks.append(f"{path}: {reader.mended} answers did not stand at their answer_start and were found nearby")
        if reader.missing:
            remarks.append(f"{path}: {reader.missing} answers stand nowhere in their texts and were left out")
    if not found:
        raise InputError(", ".join(map(str, paths))[:200], "holds no question", "name a file with some")
    return found, remarks


class _Reader:
    def __init__(self, path: Path, offsets: Offsets) -> None:
        self.path, self.offsets, self.mended, self.missing = path, offsets, 0, 0

    def read(self) -> Iterator[Question]:
        held = parse_json(read_whole(self.path, limit=LARGEST_JSON), file=self.path)
        for at, part in enumerate(self._list(held, "data", str(self.path))):
            here = f"{self.path}: data[{at}]"
            for place, paragraph in enumerate(self._list(part, "paragraphs", here)):
                there = f"{here}.paragraphs[{place}]"
                text = self._text(paragraph, "context", there)
                for number, entry in enumerate(self._list(paragraph, "qas", there)):
                    question = self._question(text, entry, f"{there}.qas[{number}]")
                    if question is not None:
                        yield question

    def _question(self, text: str, entry: Any, name: str) -> Question | None:
        question = self._text(entry, "question", name)
        if entry.get("is_impossible") is True:
            return Question(text, question, (), name)
        given = self._list(entry, "answers", name)
        if not given:
            raise InputError(f"{name}.answers", "are none", "give one, or say is_impossible = true")
        found = (self._answer(text, part, f"{name}.answers[{at}]") for at, part in enumerate(given))
        answers = tuple(dict.fromkeys(answer for answer in found if answer is not None))
        return Question(text, question, answers, name) if answers else None

    def _answer(self, text: str, part: Any, name: str) -> tuple[str, int] | None:
        said = self._text(part, "text", name)
        start = part.get("answer_start")
        if type(start) is not int:
            raise InputError(f"{name}.answer_start", f"is {str(start)[:40]!r}, no whole number", "give the place")
        if start >= 0 and text[start : start + len(said)] == said:
            return said, start
        if self.offsets == "nearest":
            places = [at for at in range(len(text)) if text.startswith(said, at)]
            self.mended, self.missing = self.mended + bool(places), self.missing + (not places)
            return (said, min(places, key=lambda at: (abs(at - start), at))) if places else None
        if not 0 <= start <= len(text) - len(said):
            problem = f"is {start}, the answer has {len(said)} characters and the text {len(text)}"
        else:
            problem = f"is {start}, where {text[start : start + len(said)][:40]!r} stands and not {said[:40]!r}"
        raise InputError(f"{name}.answer_start", problem, 'mend it, or say offsets = "nearest" in [objective]')

    def _list(self, value: Any, key: str, name: str) -> list[Any]:
        held = value.get(key) if isinstance(value, dict) else None
        if not isinstance(held, list):
            raise InputError(f"{name}.{key}", "is no list", "write the file in SQuAD's form")
        return held

    def _text(self, value: Any, key: str, name: str) -> str:
        held = value.get(key) if isinstance(value, dict) else None
        if not isinstance(held, str) or not held.strip():
            problem = "is empty" if isinstance(held, str) else "is no text"
            raise InputError(f"{name}.{key}", problem, "write a text")
        return held
