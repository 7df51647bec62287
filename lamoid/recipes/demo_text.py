"""The demo's text, which is on every machine: what Python's standard library says of itself.

Three domains that read differently: ``reference`` (the language reference that ``help()`` shows), ``docstrings`` (what
modules, classes and functions say of themselves) and ``code`` (the same modules without a comment or a docstring).
"""

import ast
import hashlib
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from lamoid.errors import InputError
from lamoid.weights.durable import NotCommitted, durable_file

MIXED = "mixed-weigh.jsonl"
SHORTEST = 400  # characters: less is no document
Part = Literal["train", "weigh", "judge"]
PARTS: tuple[Part, ...] = ("train", "weigh", "judge")
DOMAINS = ("reference", "docstrings", "code")
NO_TEXT = {"test", "tests", "site-packages", "dist-packages", "pydoc_data", "encodings", "idlelib", "lib2to3"}


class Text(msgspec.Struct, frozen=True):
    """One document: a topic of the reference, or a module's docstrings or code."""

    name: str
    text: str


def gather(limit: int) -> dict[str, dict[Part, list[Text]]]:
    """Give the documents of each domain by part, at most ``limit`` characters a domain, the same on every call.

    Ordered by size, of each eight files one is held out to weigh and one to judge by, so that the parts are alike; a
    module's docstrings and its code go to the same part. They are taken in the order of their names' hashes. Raise
    ``InputError`` where the library is not there as source.
    """
    if limit < 16 * SHORTEST:
        raise InputError("text", f"is {limit} characters, must be at least {16 * SHORTEST}", "ask for more")
    domains = {"reference": _reference(), "docstrings": _modules(_docstrings), "code": _modules(_code)}
    gathered = {name: _parts(documents, limit) for name, documents in domains.items()}
    for name, parts in gathered.items():
        if not all(parts.values()):
            problem = f"this Python's standard library has too little of it ({sysconfig.get_path('stdlib')})"
            raise InputError(f"the demo's text, {name}", problem, "use a Python that comes with its source files")
    return gathered


def write(domains: dict[str, dict[Part, list[Text]]], folder: Path) -> None:
    """Write a file of JSON lines for each domain and part, and one of all domains to weigh by."""
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise NotCommitted(
            f"{folder}: the folder cannot be made ({error.strerror}). Name another with --out."
        ) from error
    mixed = [document for parts in domains.values() for document in parts["weigh"]]
    _write(folder / MIXED, mixed)
    for domain, parts in domains.items():
        for part, documents in parts.items():
            _write(folder / f"{domain}-{part}.jsonl", documents)


def _write(path: Path, documents: list[Text]) -> None:
    durable_file(path, b"".join(msgspec.json.encode(document) + b"\n" for document in documents))


def _parts(documents: Iterator[tuple[Part, Text]], limit: int) -> dict[Part, list[Text]]:
    """Fill three quarters for training and an eighth each for weighing and judging; long documents are cut."""
    left: dict[Part, int] = {"train": limit * 3 // 4, "weigh": limit // 8, "judge": limit // 8}
    parts: dict[Part, list[Text]] = {part: [] for part in left}
    for part, document in documents:
        text = document.text[: min(limit // 16, left[part])]
        if len(text) >= SHORTEST:
            left[part] -= len(text)
            parts[part].append(Text(document.name, text))
        if max(left.values()) < SHORTEST:
            break
    return parts


def _reference() -> Iterator[tuple[Part, Text]]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some systems part it from the interpreter; gather says what is missing
        return
    for part, name in _dealt({name: len(text) for name, text in topics.items()}):
        yield part, Text(name, topics[name])


def _modules(read: Callable[[ast.Module], str]) -> Iterator[tuple[Part, Text]]:
    """Read the library's modules; wherever the library itself lies, only names below it are left out."""
    library = Path(sysconfig.get_path("stdlib"))
    names = [path.relative_to(library) for path in library.rglob("*.py")]
    sizes = {str(name): _size(library / name) for name in names if NO_TEXT.isdisjoint(name.parts)}
    for part, name in _dealt({name: size for name, size in sizes.items() if size is not None and name.isprintable()}):
        text = _read(library / name, read)
        if text is not None:
            yield part, Text(name, text)


def _size(path: Path) -> int | None:
    """Give the size of a plain file; None for anything else, which is not opened."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def _read(path: Path, read: Callable[[ast.Module], str]) -> str | None:
    """Give the text of a module; None for a file that cannot be opened, is not Python, or not Unicode."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an old escape in somebody's string is not the demo's affair
            text = read(ast.parse(path.read_bytes()))
        text.encode()
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):  # the last: nested too deep for the parser
        return None
    return text


def _dealt(sizes: dict[str, int]) -> list[tuple[Part, str]]:
    """Give every name with its part, in the order of the names' hashes."""
    held_out: dict[int, Part] = {3: "weigh", 7: "judge"}
    parts: dict[str, Part] = {}
    for rank, name in enumerate(sorted(sizes, key=lambda name: (sizes[name], name))):
        parts[name] = held_out.get(rank % 8, "train")
    return [(parts[name], name) for name in sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).digest())]


def _documented(tree: ast.Module) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _docstrings(tree: ast.Module) -> str:
    found = [ast.get_docstring(node) or "" for node in _documented(tree)]
    return "\n\n".join(text for text in found if len(text) >= 40)


def _code(tree: ast.Module) -> str:
    for node in _documented(tree):
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
