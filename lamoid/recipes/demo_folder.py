"""The demo's folder: what the demo puts there, and how all of that, and nothing else, is taken away again."""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path
from typing import TypeAlias, cast

from lamoid.errors import InputError
from lamoid.recipes.demo_text import DOMAINS, MIXED, PARTS
from lamoid.weights.durable import MANIFEST, NotCommitted, read_manifest, sweep

Layout: TypeAlias = Mapping[str, "str | Layout"]


def find_earlier(out: Path, *, overwrite: bool) -> list[Path]:
    """Give the files and folders that an earlier demo made in ``out``, those inside a folder before it.

    Nothing may be at ``out`` but an empty folder, or with ``overwrite`` a demo's. Raise ``InputError`` naming what the
    demo did not make; ``NotCommitted`` where the folder cannot be read.
    """
    try:
        if out.is_symlink():
            raise InputError(
                out, "is a link, which the demo does not write through", "name the folder that it leads to"
            )
        if not out.exists() or (out.is_dir() and not any(out.iterdir())):
            return []
        if not overwrite:
            raise InputError(out, "exists already", "name another folder with --out, or replace it with --overwrite")
        if not out.is_dir() or not (out / "text" / MIXED).is_file():
            raise InputError(
                out, "is not the folder of a demo, so it is not replaced", "name another folder with --out"
            )
        return list(_walk(out, DEMO))
    except OSError as error:
        problem = f"{out}: the folder cannot be looked through ({error.strerror})"
        raise NotCommitted(f"{problem}. Check its rights, or name another folder with --out.") from error


def remove(paths: list[Path]) -> None:
    """Delete what ``find_earlier`` gave; a folder that something was put into meanwhile stays."""
    for path in paths:
        try:
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        except OSError as error:
            problem = f"{path}: cannot be deleted ({error.strerror}), so the earlier demo is not replaced"
            raise NotCommitted(f"{problem}. Check its rights, or name another folder with --out.") from error


def _walk(folder: Path, layout: Layout) -> Iterator[Path]:
    """Go through a folder; its text comes last, so that a demo half deleted is still known for one."""
    for name in layout:
        sweep(folder / name)  # what a killed demo left beside it
    for path in sorted(folder.iterdir(), key=lambda path: (path.name in ("text", MIXED), path.name)):
        part = next((part for pattern, part in layout.items() if fnmatchcase(path.name, pattern)), None)
        fits = part is not None and (path.is_file() if part == FILE else path.is_dir())
        if not fits or path.is_symlink():
            problem = "is not of the demo's making, and replacing the demo would delete it"
            raise InputError(path, problem, "move it elsewhere, or name another folder with --out")
        if part != FILE:
            yield from _walk(path, _listed(path) if part == LISTED else cast(Layout, part))
        yield path


def _listed(folder: Path) -> dict[str, str]:
    """Give the layout of a folder that was written whole: its manifest, and what stands in it."""
    return dict.fromkeys((MANIFEST, *map(escape, read_manifest(folder))), FILE)


FILE, LISTED = "a plain file", "a folder with a manifest"
RUN: Layout = {
    "recipe.toml": FILE,
    "metrics.jsonl": FILE,
    "tensorboard": {"events.out.tfevents.*": FILE},
    "checkpoints": {"step-*": LISTED},
    "model": LISTED,
    "curve.png": FILE,
    "result.json": FILE,
}
DEMO: Layout = {
    "text": dict.fromkeys((MIXED, *(f"{domain}-{part}.jsonl" for domain in DOMAINS for part in PARTS)), FILE),
    "tokenizer": LISTED,
    "shards": dict.fromkeys(("mixed", *DOMAINS), LISTED),
    "base": RUN,
    **dict.fromkeys(DOMAINS, RUN),
    ".fused.candidate": LISTED,
    "fused": LISTED,
    "demo.json": FILE,
    "demo.png": FILE,
}
