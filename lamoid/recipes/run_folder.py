"""The folder of a training run: claimed by one process at a time, and never mixed from two recipes."""

import fcntl
import os
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
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
    """A folder that this process alone writes to; ``is_new`` if there was nothing in it, ``is_made`` if no folder.

    ``before`` is the recipe as it stood there.
    """

    out: Path
    is_new: bool
    is_made: bool
    before: dict[str, Any] = field(default_factory=dict)

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

    Raise ``InputError`` if another process trains here, if there is no run to ``resume``, or if it was made by a recipe
    that differs.
    """
    if resume and not os.path.lexists(out):
        raise InputError(out, "does not exist, so there is no run to go on with", _BEGIN)
    descriptor, is_made = _open_locked(out)
    try:
        sweep(out / RECIPE)
        present = _names(out)  # only now: before the lock, another one may have been at work here
        if present and not resume:
            cure = "go on with --resume, or train into another folder"
            raise InputError(out, f"is an output folder that holds something already ({present[0]})", cure)
        if resume and not present:
            raise InputError(out, "is empty, so there is no run to go on with", _BEGIN)
        if present and RECIPE not in present:
            raise InputError(out, f"holds no {RECIPE}, so it is no training run", "train into another folder")
        before = _compare(out / RECIPE, recipe) if present else {}
        durable_file(out / RECIPE, tomli_w.dumps(recipe_tree(recipe)).encode())
        yield Claim(out, not present, is_made, before)
    finally:
        os.close(descriptor)


def fixed_part(recipe: msgspec.Struct) -> dict[str, Any]:
    """Give the keys that must stay as they are for a run to go on bit for bit."""
    return _fixed(recipe_tree(recipe))


def renewed(identity: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Give what a checkpoint is known by as if the recipe in it, of this ``kind``, had been written today."""
    recipe = identity.get("recipe")
    return {**identity, "recipe": _fixed(_renewed(recipe, kind))} if isinstance(recipe, dict) else identity


def _renewed(tree: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Write a recipe of an earlier version anew: a key that there is since then has its default.

    The rest is as it stands there, also where the default is another one today. What cannot be read any more is given
    unchanged: where it differs will be said by key.
    """
    data = tree.get("data")
    if isinstance(data, dict) and "kind" not in data:  # of before there was a choice
        tree = {**tree, "data": {"kind": "text", **data}}
    try:
        return recipe_tree(msgspec.convert(tree, kind))
    except msgspec.ValidationError:
        return tree


def _fixed(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if key not in FREE}


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


def _compare(path: Path, recipe: msgspec.Struct) -> dict[str, Any]:
    """Give the run's recipe; refuse one that differs from it in more than the free tables, naming the keys."""
    try:
        tree = tomllib.loads(path.read_bytes().decode())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(path, f"cannot be read: {error}", "train from the start into another folder") from error
    keys = differing_keys(_fixed(_renewed(tree, type(recipe))), fixed_part(recipe))
    if keys:
        problem = f"the run was made with other settings: {', '.join(keys)}"
        cure = "set them back to go on, or train into another folder"
        if "training.steps" in keys:  # the schedule of every step follows from them
            cure += f'; to train for longer, begin a run there with model.from = "{path.parent / "model"}"'
        raise InputError(path, problem, cure)
    return tree


def check_died_early(claim: Claim, *, every: int, steps: int, last: int) -> None:
    """Raise ``InputError`` unless a run without checkpoints can have died before its first one was whole.

    ``every`` is the recipe's, ``last`` the last step that was logged. One who lost the checkpoints is told so, and not
    given a fresh start under the old name.
    """
    traces = [name for name in _names(claim.out) if name in ("model", "result.json")]
    place = claim.out / "checkpoints"
    traces += [path.name for path in sorted(place.iterdir()) if ".damaged" in path.name] if place.is_dir() else []
    due = claim.before.get("checkpoint", {}).get("every", every) or steps
    if last > 2 * due:  # the second one is begun only after the first has been written
        traces.append(f"step {last} in its log")
    if traces:
        problem = f"has no checkpoint, but {traces[0]}: those that it had are gone"
        raise InputError(claim.out, problem, "put them back from a copy, or train from the start into another folder")


_BEGIN = "leave out --resume to begin one, or name the folder of the run"
