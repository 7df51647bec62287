"""Sentences with a tag for each word: CoNLL files, or rows with a list of words and one of tags."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lamoid.data.files import LINE_SUFFIXES, PARQUET_SUFFIX, find_files, form_of, text_lines
from lamoid.data.rows import JSON_SUFFIX, read_records
from lamoid.errors import InputError


@dataclass(frozen=True)
class Tagged:
    """Words, the tag of each, and where they stand."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    name: str

    @property
    def text(self) -> str:
        """The words with a space between them."""
        return " ".join(self.words)


def read_tagged(paths: Sequence[str | Path], *, words: str = "words", tags: str = "tags") -> list[Tagged]:
    """Read sentences; ``words`` and ``tags`` name the fields of JSON and Parquet, all other files are CoNLL.

    In CoNLL a line is a word and, as its last column, its tag; a blank line ends a sentence. Raise ``InputError``
    naming file and line for a word without a tag, lists of unequal length, and a file without a sentence.
    """
    found: list[Tagged] = []
    for path, _ in find_files(paths):
        if form_of(path) in (*LINE_SUFFIXES, JSON_SUFFIX, PARQUET_SUFFIX):
            found += _of_records(path, words, tags)
        else:
            found += _of_conll(path)
    if not found:
        raise InputError(", ".join(map(str, paths))[:200], "holds no sentence", "name a file with some")
    return found


def _of_records(path: Path, words: str, tags: str) -> Iterator[Tagged]:
    for record in read_records([path], (words, tags)):
        said, given = record.words(words, " "), record.words(tags, " ")
        if len(said) != len(given):
            problem = f"has {len(said)} words and {len(given)} tags"
            raise InputError(record.name, problem, "give each word one tag")
        if not said or not all(word.strip() for word in said):
            raise InputError(record.name, "has no word, or one of nothing but white space", "leave it out")
        yield Tagged(tuple(said), tuple(given), record.name)


def _of_conll(path: Path) -> Iterator[Tagged]:
    held: list[tuple[str, str]] = []
    last = first = 0
    for number, line in text_lines(path):
        if number != last + 1 and held:  # blank lines are left out, and their numbers with them
            yield _sentence(held, path, first)
            held = []
        last = number
        columns = line.decode().split("\t" if b"\t" in line else None)
        columns = [column.strip() for column in columns]
        if columns[0].startswith("-DOCSTART-"):
            continue
        if len(columns) < 2 or not columns[0] or not columns[-1]:
            problem = f"is {line.decode()[:60]!r}, not a word and a tag"
            raise InputError(f"{path}: line {number}", problem, "write the word, a tab and its tag")
        first = first if held else number
        held.append((columns[0], columns[-1]))
    if held:
        yield _sentence(held, path, first)


def _sentence(held: Sequence[tuple[str, str]], path: Path, first: int) -> Tagged:
    words, tags = zip(*held, strict=True)
    return Tagged(words, tags, f"{path}: line {first}")
