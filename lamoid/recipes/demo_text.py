"""The demo's text, which is on every machine: what Python's standard library says of itself.

Three domains that read differently: ``reference`` (the language reference that ``help()`` shows), ``docstrings`` (what
modules, classes and functions say of themselves) and ``code`` (the same modules without a comment or a docstring).
"""

import ast
import hashlib
import shutil
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
DOMAINS = ("reference", "docstrings", "code")
NO_TEXT = {"test", "tests", "site-packages", "dist-packages", "pydoc_data", "encodings", "idlelib", "lib2to3"}


class Text(msgspec.Struct, frozen=True):
    """One document: a topic of the reference, or a module's docstrings or code."""

    name: str
    text: str


def clear(out: Path, *, overwrite: bool) -> Path:
    """Makes room at ``out``: nothing may be there but, with ``overwrite``, an earlier demo, which is removed."""
    if out.exists() or out.is_symlink():
        if not overwrite:
            raise InputError(out, "exists already", "name another folder with --out, or replace it with --overwrite")
        if not (out / "text" / MIXED).is_file():
            raise InputError(out, "is not the folder of a demo, so it is not replaced", "name another folder")
        shutil.rmtree(out)
    return out


def gather(limit: int) -> dict[str, dict[Part, list[Text]]]:
    """The documents of each domain by part, at most ``limit`` characters a domain, the same on every call.

    Ordered by size, of each eight files one is held out to weigh and one to judge by, so that the parts are alike; a
    module's docstrings and its code go to the same part. They are taken in the order of their names' hashes.
    """
    if limit < 16 * SHORTEST:
        raise InputError("text", f"is {limit} characters, must be at least {16 * SHORTEST}", "ask for more")
    domains = {"reference": _reference(), "docstrings": _modules(_docstrings), "code": _modules(_code)}
    return {name: _parts(documents, limit) for name, documents in domains.items()}


def write(domains: dict[str, dict[Part, list[Text]]], folder: Path) -> None:
    """Writes a file of JSON lines for each domain and part, and one of all domains to weigh by."""
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise NotCommitted(error.errno, f"{folder}: the folder cannot be made ({error.strerror})") from error
    mixed = [document for parts in domains.values() for document in parts["weigh"]]
    _write(folder / MIXED, mixed)
    for domain, parts in domains.items():
        for part, documents in parts.items():
            _write(folder / f"{domain}-{part}.jsonl", documents)


def _write(path: Path, documents: list[Text]) -> None:
    durable_file(path, b"".join(msgspec.json.encode(document) + b"\n" for document in documents))


def _parts(documents: Iterator[tuple[Part, Text]], limit: int) -> dict[Part, list[Text]]:
    """Fills three quarters for training and an eighth each for weighing and judging; long documents are cut."""
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
    from pydoc_data.topics import topics

    for part, name in _dealt({name: len(text) for name, text in topics.items()}):
        yield part, Text(name, topics[name])


def _modules(read: Callable[[ast.Module], str]) -> Iterator[tuple[Part, Text]]:
    library = Path(sysconfig.get_path("stdlib"))
    files = {str(path.relative_to(library)): path for path in library.rglob("*.py")}
    sizes = {name: path.stat().st_size for name, path in files.items() if NO_TEXT.isdisjoint(path.parts)}
    for part, name in _dealt(sizes):
        yield part, Text(name, read(_tree(files[name])))


def _dealt(sizes: dict[str, int]) -> list[tuple[Part, str]]:
    """Every name with its part, in the order of the names' hashes."""
    held_out: dict[int, Part] = {3: "weigh", 7: "judge"}
    parts: dict[str, Part] = {}
    for rank, name in enumerate(sorted(sizes, key=lambda name: (sizes[name], name))):
        parts[name] = held_out.get(rank % 8, "train")
    return [(parts[name], name) for name in sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).digest())]


def _tree(path: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old escape in somebody's string is not the demo's affair
        return ast.parse(path.read_bytes())


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
