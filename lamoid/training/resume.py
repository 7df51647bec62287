"""Going on from the newest whole checkpoint, bit for bit, or saying why not."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from lamoid.contained import contained, read_whole
from lamoid.errors import InputError
from lamoid.strict_json import parse_json
from lamoid.training.checkpoint import STATE, Checkpoints, SavedState, restore
from lamoid.training.state import TrainingState
from lamoid.weights.durable import verify
from lamoid.weights.slices import read_sliced

MOST_STATE_BYTES = 10**8


def resume(
    state: TrainingState, checkpoints: Checkpoints, say: Callable[[str], None], *, is_return: bool = False
) -> Any:
    """Put the newest whole checkpoint into ``state`` and give the loader's position, or ``None`` without checkpoints.

    Sizes and hashes are verified; a damaged checkpoint is named through ``say``, set aside as ``<name>.damaged``, and
    the one before it is taken. A run that goes back (``is_return``) takes the newest regular one, if there is any: one
    that nobody stopped has no other. Raise ``InputError`` if all are damaged, if the run was another one, or if the
    system cannot read a checkpoint: that says nothing of its bytes, so it stays as it is.
    """
    found = _list(checkpoints)
    found = (checkpoints.regular(found) or found) if is_return else found
    for folder in reversed(found):
        try:
            verify(folder, hashes=True)
            saved = _read_saved(folder)
        except OSError as error:
            raise _unreadable(folder, error) from error
        except InputError as error:
            _pass_on_system_errors(folder, error)
            say(f"The checkpoint {_set_aside(folder, error)}")
            continue
        _check_identity(folder, checkpoints.renewed(saved.identity), checkpoints.identity)
        restore(state, read_sliced(folder), saved)
        checkpoints.prune()
        return saved.position
    if found:
        cure = "train from the start into another folder, or mend one from a copy"
        raise InputError(checkpoints.place, f"none of its {len(found)} checkpoints is whole", cure)
    return None


def differing_keys(old: Any, new: Any, path: str = "") -> list[str]:
    """Name, as dotted paths, where two nested values differ; where one side lacks a table, its path is named."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(set(old) | set(new))
        return [found for key in keys for found in differing_keys(old.get(key), new.get(key), f"{path}.{key}")]
    return [] if old == new else [path.removeprefix(".")]


def set_aside_damaged(folder: Path, say: Callable[[str], None]) -> None:
    """Verify a folder that was written durably, hashes and all; set it aside if it is damaged, and say so."""
    try:
        verify(folder, hashes=True)
    except OSError as error:
        raise _unreadable(folder, error) from error
    except InputError as error:
        _pass_on_system_errors(folder, error)
        say(f"The folder {_set_aside(folder, error)}")


def _read_saved(folder: Path) -> SavedState:
    data = read_whole(contained(folder, STATE), limit=MOST_STATE_BYTES)
    try:
        return msgspec.convert(parse_json(data, file=folder / STATE), SavedState)
    except msgspec.ValidationError as error:
        raise InputError(folder / STATE, str(error), "take an earlier checkpoint") from error


def _pass_on_system_errors(folder: Path, refusal: InputError) -> None:
    """Raise again if an error of the system is behind a refusal that says nothing of what stands there."""
    cause = refusal.__cause__ or refusal.__context__
    if isinstance(cause, OSError) and cause.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP):
        raise _unreadable(folder, cause) from refusal


def _unreadable(folder: Path, error: OSError) -> InputError:
    problem = f"it cannot be read ({error.strerror or error})"
    return InputError(folder, problem, "nothing was changed: mend that and resume again")


def _check_identity(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    keys = differing_keys(old, msgspec.to_builtins(new))
    if keys:
        problem = f"the run was made with other settings: {', '.join(keys)}"
        raise InputError(folder, problem, "set them back to go on, or train into another folder")


def _list(checkpoints: Checkpoints) -> list[Path]:
    try:
        return checkpoints.list()
    except OSError as error:
        problem = f"the checkpoints cannot be read ({error.strerror or error})"
        raise InputError(checkpoints.place, problem, "nothing was changed: mend that and resume again") from error


def _set_aside(folder: Path, damage: InputError) -> str:
    """Rename a damaged folder, so that nothing is deleted and its name is free again; give what is to be said of it."""
    aside = folder.with_name(f"{folder.name}.damaged")
    number = 1
    while os.path.lexists(aside):
        number += 1
        aside = folder.with_name(f"{folder.name}.damaged-{number}")
    try:
        folder.rename(aside)
    except OSError as error:
        problem = f"it is damaged and cannot be set aside ({error.strerror or error}): {damage}"
        raise InputError(folder, problem, "move it away and resume again") from error
    return f"{folder.name} is damaged and was set aside as {aside.name}: {damage}"
