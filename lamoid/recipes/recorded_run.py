"""A run's folder, read without disturbing the run: what it is, how far it came, whether it still goes on."""

import re
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from lamoid.contained import is_there, read_whole
from lamoid.errors import InputError
from lamoid.recipes.recorded_metrics import VALIDATION, Metrics, read_metrics
from lamoid.recipes.run_folder import RECIPE
from lamoid.recipes.training_result import RESULT
from lamoid.recipes.tuning_study import TRIALS, read_trials
from lamoid.recipes.watching import METRICS
from lamoid.strict_json import parse_json

State = Literal["running", "finished", "stopped", "died", "adapted", "searched", "given up", "failed"]
SEVERAL: dict[str, State] = {"adapt.json": "adapted", "tuning.json": "searched"}
"""What is written at the end of what makes several runs, an adaptation or a search, and the state that it shows."""

_BEGUN = (TRIALS, "text")
"""What such a folder has while it is not at its end: trials, or the text of two domains."""
LOCKS = Path("/proc/locks")
_MOST_BYTES = 1 << 20


class RunSummary(msgspec.Struct, frozen=True):
    """A run in figures; ``None`` is what it did not say.

    ``state``: a process holds the folder; or the result is there; or it left at its newest checkpoint; or its last
    steps are in none. An adaptation and a search, whose runs lie in the folder, are ``adapted`` or ``searched`` at
    their end and ``stopped`` before; a run of a search may be ``given up`` or have ``failed``. ``silent`` is the
    seconds since it last wrote figures, ``started`` the time of the first step (seconds since 1970). Losses are those
    of the recipe's objective, ``loss`` that of the latest steps.
    """

    name: str
    folder: str
    state: State
    family: str | None
    parameters: int | None
    step: int
    steps: int | None
    loss: float | None
    validation_loss: float | None
    best_validation_loss: float | None
    tokens: int | None
    tokens_per_second: float | None
    seconds: float | None
    energy_joules: float | None
    cost: float | None
    started: float | None
    silent: float | None
    problems: list[str]


@dataclass(frozen=True)
class RecordedRun:
    """A run's figures, its recipe as nested plain values, and its lines."""

    summary: RunSummary
    recipe: dict[str, Any]
    metrics: Metrics


def is_run(folder: Path) -> bool:
    """Is this a training run's folder? A recipe, or the figures of a run, stand in it."""
    return any(is_there(folder, name) for name in (RECIPE, METRICS))


def read_run(folder: Path) -> RecordedRun:
    """Read what is there; whatever cannot be read is named in the summary's problems, and is no error."""
    problems: list[str] = []
    recipe = _read(folder, RECIPE, problems)
    result = _read(folder, RESULT, problems) if is_there(folder, RESULT) else {}
    metrics = read_metrics(folder / METRICS)
    return RecordedRun(_summary(folder, recipe, result, metrics, problems + metrics.problems), recipe, metrics)


def is_held(folder: Path, locks: Path = LOCKS) -> bool:
    """Does a process of this machine hold the run's lock? Nothing is locked to find out."""
    try:
        inode = folder.stat().st_ino
        text = locks.read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return any(re.search(rf"FLOCK .* WRITE .*:{inode} ", line) for line in text.splitlines())


def _summary(
    folder: Path, recipe: dict[str, Any], result: dict[str, Any], metrics: Metrics, problems: list[str]
) -> RunSummary:
    latest = metrics.latest
    validations = [point.loss for point in metrics.curves[VALIDATION]]
    tokens = _whole(result.get("tokens")) or _whole(latest.get("tokens"))
    return RunSummary(
        name=folder.resolve().name,
        folder=str(folder),
        state=_state(folder, result, metrics.step),
        family=_family(recipe),
        parameters=_whole(result.get("parameters")) or _whole(latest.get("parameters")),
        step=metrics.step,
        steps=_whole(_inner(recipe, "training").get("steps")) or _whole(recipe.get("steps")),
        loss=latest.get("loss"),
        validation_loss=latest.get(VALIDATION),
        best_validation_loss=min(validations, default=None),
        tokens=tokens,
        tokens_per_second=latest.get("tokens_per_second"),
        seconds=latest.get("seconds"),
        energy_joules=latest.get("energy_joules"),
        cost=latest.get("cost"),
        started=metrics.started,
        silent=_silent(folder / METRICS),
        problems=problems,
    )


def _state(folder: Path, result: dict[str, Any], step: int) -> State:
    if is_held(folder):
        return "running"
    if "model" in result or "tasks" in result:
        return "finished"
    for name, ended in SEVERAL.items():
        if is_there(folder, name):
            return ended
    if makes_several(folder):
        return "stopped"
    is_saved = step > 0 and max(_saved_steps(folder), default=0) >= step
    return _end_of_trial(folder) or ("stopped" if is_saved else "died")


def makes_several(folder: Path) -> bool:
    """Is this the folder of an adaptation or a search, in which the runs lie that it makes?"""
    return is_there(folder, RECIPE) and any(is_there(folder, name) for name in (*SEVERAL, *_BEGUN))


def _end_of_trial(folder: Path) -> State | None:
    """Say how a search ended its run in this folder before the run's own end; ``None`` for any other folder."""
    folder = folder.resolve()
    if not (folder.name.isdecimal() and is_there(folder.parent.parent, TRIALS)):
        return None
    try:
        trials = read_trials(folder.parent.parent)
    except InputError:
        return None
    ends: dict[str, State] = {"abandoned": "given up", "failed": "failed"}
    states = [] if trials is None else [trial.state for trial in trials.trials if trial.number == int(folder.name)]
    return ends.get(states[0]) if states else None


def _saved_steps(folder: Path) -> Iterator[int]:
    """Give the steps of the checkpoints."""
    try:
        for path in (folder / "checkpoints").iterdir():
            if found := re.fullmatch(r"step-(\d{8})", path.name):
                yield int(found[1])
    except OSError:
        return


def _family(recipe: dict[str, Any]) -> str | None:
    """Say what is trained: the family's name, or the name of the file or folder that it comes from."""
    model = _inner(recipe, "model") or _inner(recipe, "trunk")
    for key in ("family", "spec", "from"):
        if isinstance(model.get(key), str):
            return Path(model[key]).name[:80]
    return None


def _silent(path: Path) -> float | None:
    try:
        return max(0.0, time.time() - path.stat().st_mtime)
    except OSError:
        return None


def _read(folder: Path, name: str, problems: list[str]) -> dict[str, Any]:
    """Read a small file of a run as a table; name it if that fails."""
    path = folder / name
    try:
        data = read_whole(path, limit=_MOST_BYTES)
        found: Any = tomllib.loads(data.decode()) if path.suffix == ".toml" else parse_json(data, file=path)
    except InputError as error:
        problems.append(str(error))
        return {}
    except (ValueError, RecursionError) as error:
        problems.append(f"{path}: cannot be read: {str(error)[:200]}")
        return {}
    if not isinstance(found, dict):
        problems.append(f"{path}: holds no table")
        return {}
    return found


def _inner(tree: dict[str, Any], key: str) -> dict[str, Any]:
    inner = tree.get(key)
    return inner if isinstance(inner, dict) else {}


def _whole(value: Any) -> int | None:
    return int(value) if type(value) in (int, float) and 0 <= value < 2**63 else None
