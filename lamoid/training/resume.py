"""Going on from the newest whole checkpoint, bit for bit, or saying why not."""

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
from lamoid.weights.read import open_tensors

MOST_STATE_BYTES = 10**8


def resume(state: TrainingState, checkpoints: Checkpoints, say: Callable[[str], None]) -> Any:
    """Put the newest whole checkpoint into ``state`` and give the loader's position, or ``None`` without checkpoints.

    Sizes and hashes are verified; a damaged checkpoint is named through ``say``, set aside as ``<name>.damaged``, and
    the one before it is taken. Raise ``InputError`` if all are damaged, if the run was another one, or if the system
    cannot read a checkpoint: that says nothing of its bytes, so it stays as it is.
    """
    found = checkpoints.list()
    for folder in reversed(found):
        try:
            verify(folder, hashes=True)
            saved = _read_saved(folder)
        except OSError as error:
            raise _unreadable(folder, error) from error
        except InputError as error:
            _pass_on_system_errors(folder, error)
            aside = _set_aside(folder)
            say(f"The checkpoint {folder.name} is damaged and was set aside as {aside.name}: {error}")
            continue
        _check_identity(folder, saved.identity, checkpoints.identity)
        tensors = open_tensors(folder)
        restore(state, {name: tensors.tensor(name) for name in tensors}, saved)
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


def _read_saved(folder: Path) -> SavedState:
    data = read_whole(contained(folder, STATE), limit=MOST_STATE_BYTES)
    try:
        return msgspec.convert(parse_json(data, file=folder / STATE), SavedState)
    except msgspec.ValidationError as error:
        raise InputError(folder / STATE, str(error), "take an earlier checkpoint") from error


def _pass_on_system_errors(folder: Path, refusal: InputError) -> None:
    """Raise again if the system's error, other than that of a missing file, is behind a refusal."""
    cause = refusal.__cause__ or refusal.__context__
    if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):
        raise _unreadable(folder, cause) from refusal


def _unreadable(folder: Path, error: OSError) -> InputError:
    problem = f"the checkpoint cannot be read ({error.strerror or error})"
    return InputError(folder, problem, "nothing was changed: mend that and resume again")


def _check_identity(folder: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    keys = differing_keys(old, msgspec.to_builtins(new))
    if keys:
        problem = f"the run was made with other settings: {', '.join(keys)}"
        raise InputError(folder, problem, "set them back to go on, or train into another folder")


def _set_aside(folder: Path) -> Path:
    """Rename a damaged checkpoint: nothing is deleted, and its name is free again."""
    aside = folder.with_name(f"{folder.name}.damaged")
    number = 1
    while aside.exists():
        number += 1
        aside = folder.with_name(f"{folder.name}.damaged-{number}")
    folder.rename(aside)
    return aside
