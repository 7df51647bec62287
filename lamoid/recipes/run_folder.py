"""The folder of a training run: claimed by one process at a time, and never mixed from two recipes."""

import fcntl
import os
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from lamoid.errors import InputError
from lamoid.recipes.read_recipe import recipe_tree
from lamoid.training.resume import differing_keys
from lamoid.weights.durable import NotCommitted, durable_file, sweep

RECIPE = "recipe.toml"
DATA = "data"
FREE = ("checkpoint", "log")
"""The tables that may change when a run goes on: they say what is kept of it, not what happens in it."""


@dataclass(frozen=True)
class Claim:
    """A folder that this process alone writes to; ``is_new`` if there was nothing in it, ``is_made`` if no folder."""

    out: Path
    is_new: bool
    is_made: bool

    @contextmanager
    def given_up_on_refusal(self) -> Iterator[None]:
        """While the run is put together: if its input is refused, take away again what this claim made."""
        try:
            yield
        except InputError:
            if self.is_new:
                (self.out / RECIPE).unlink(missing_ok=True)
                shutil.rmtree(self.out / DATA, ignore_errors=True)
            if self.is_made:
                with suppress(OSError):  # something of somebody else's may stand in it by now
                    self.out.rmdir()
            raise


@contextmanager
def claim_folder(out: Path, recipe: msgspec.Struct, *, resume: bool) -> Iterator[Claim]:
    """Claim ``out`` for this run and write the recipe into it; it must be new or empty unless ``resume``.

    Raise ``InputError`` if another process trains here, or if the run was made by a recipe that differs.
    """
    descriptor, is_made = _open_locked(out)
    try:
        sweep(out / RECIPE)
        present = _names(out)  # only now: before the lock, another one may have been at work here
        if present and not resume:
            cure = "go on with --resume, or train into another folder"
            raise InputError(out, f"is an output folder that holds something already ({present[0]})", cure)
        if present and RECIPE not in present:
            raise InputError(out, f"holds no {RECIPE}, so it is no training run", "train into another folder")
        if present:
            _compare(out / RECIPE, recipe)
        durable_file(out / RECIPE, tomli_w.dumps(recipe_tree(recipe)).encode())
        yield Claim(out, not present, is_made)
    finally:
        os.close(descriptor)


def fixed_part(recipe: msgspec.Struct) -> dict[str, Any]:
    """Give the keys that must stay as they are for a run to go on bit for bit."""
    return _fixed(recipe_tree(recipe))


def _fixed(tree: dict[str, Any]) -> dict[str, Any]:
    """Leave out the free tables, and an empty list of moves: runs of before there were moves have none."""
    return {key: value for key, value in tree.items() if key not in FREE and (key != "moves" or value)}


def _names(out: Path) -> list[str]:
    try:
        return sorted(path.name for path in out.iterdir())
    except OSError as error:
        raise InputError(out, f"cannot be read ({error.strerror})", "name a folder of your own") from error


def _open_locked(out: Path) -> tuple[int, bool]:
    """Make the folder where it is missing and lock it; the lock ends with the process, however that ends.

    Give the lock and whether the folder was made here.
    """
    while True:
        is_made = _make(out)
        try:
            descriptor = os.open(out, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            if out.is_symlink():
                raise InputError(out, "is a link that leads nowhere", "mend the link, or name a folder") from error
            continue  # another one gave it up in between
        except NotADirectoryError as error:
            raise InputError(out, "is a file", "name a folder") from error
        except OSError as error:
            raise InputError(out, f"cannot be read ({error.strerror})", "name a folder of your own") from error
        if _lock(descriptor, out):
            return descriptor, is_made
        os.close(descriptor)


def _make(out: Path) -> bool:
    try:
        out.mkdir(parents=True)
    except FileExistsError:
        return False
    except OSError as error:
        cure = "Name a folder on a disk that you may write to"
        raise NotCommitted(f"{out}: the run's folder cannot be made ({error.strerror}). {cure}.") from error
    return True


def _lock(descriptor: int, out: Path) -> bool:
    """Lock the folder; false if it no longer is the one of that name."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise InputError(out, "is in use by another training", "wait for it, or train into another folder") from error
    try:
        return os.path.samestat(os.fstat(descriptor), out.stat())
    except FileNotFoundError:
        return False


def _compare(path: Path, recipe: msgspec.Struct) -> None:
    """Refuse a recipe that differs from the run's in more than the free tables, naming the keys."""
    try:
        tree = tomllib.loads(path.read_bytes().decode())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(path, f"cannot be read: {error}", "train from the start into another folder") from error
    keys = differing_keys(_fixed(tree), fixed_part(recipe))
    if keys:
        problem = f"the run was made with other settings: {', '.join(keys)}"
        raise InputError(path, problem, "set them back to go on, or train into another folder")
