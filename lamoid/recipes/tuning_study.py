"""A search that can be cut off anywhere: each draw depends on the seed, its number and the trials before, no more."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import msgspec

from lamoid.contained import read_whole
from lamoid.errors import InputError
from lamoid.recipes.tuning_space import SearchedKey
from lamoid.strict_json import parse_json
from lamoid.weights.durable import durable_file

TRIALS = "trials.json"
_MOST_BYTES = 1 << 28


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run of the search: what was set, how it ended, and its losses on the way, ``[step, loss]``.

    ``values`` is empty for the recipe as it was given, if that lies outside what is searched.
    """

    number: int
    values: dict[str, float | str]
    overrides: list[str]
    state: Literal["done", "abandoned", "failed"]
    loss: float | None
    losses: list[tuple[int, float]]
    seconds: float
    note: str = ""


class StoredTrials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The trials so far and what they are trials of."""

    search: list[str]
    seed: int
    trials: list[Trial]


def read_trials(out: Path) -> StoredTrials | None:
    """Give what a search that was cut off stored; ``None`` if it stored nothing yet."""
    path = out / TRIALS
    if not path.exists():
        return None
    try:
        return msgspec.convert(parse_json(read_whole(path, limit=_MOST_BYTES), file=path), StoredTrials)
    except msgspec.ValidationError as error:
        raise InputError(path, str(error), "search into another folder") from error


def write_trials(out: Path, stored: StoredTrials) -> None:
    """Store the trials so far."""
    durable_file(out / TRIALS, msgspec.json.format(msgspec.json.encode(stored), indent=1) + b"\n")


def import_optuna() -> ModuleType:
    """Import the library that draws; ``InputError`` without it."""
    try:
        import optuna
    except ImportError as error:
        raise InputError("optuna", "is not installed", "pip install 'lamoid[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def draw(keys: Sequence[SearchedKey], trials: Sequence[Trial], seed: int) -> dict[str, float | str]:
    """Give the values of the next trial by tree-structured Parzen estimators (Bergstra et al., 2011)."""
    study = _study(keys, trials, seed)
    asked = study.ask(_distributions(keys)).params
    return {key.key: _rounded(key, asked[key.key]) for key in keys}


def is_behind(trials: Sequence[Trial], number: int, step: int, loss: float) -> bool:
    """Is this loss above the median of the finished trials' at that step, once five have gone by?"""
    others = [dict(trial.losses).get(step) for trial in trials if trial.state == "done" and trial.number != number]
    known = sorted(other for other in others if other is not None)
    return len(known) >= 5 and loss > known[len(known) // 2]


def _rounded(key: SearchedKey, value: Any) -> float | str:
    """Round a number to four digits: more than that says nothing, and a person reads it."""
    return value if key.choices or key.is_whole else min(max(float(f"{value:.4g}"), key.low), key.high)


def _study(keys: Sequence[SearchedKey], trials: Sequence[Trial], seed: int) -> Any:
    """Make a study that knows the trials; a sampler of its own for each draw makes going on exact."""
    optuna = import_optuna()
    sampler = optuna.samplers.TPESampler(seed=(seed * 1_000_003 + len(trials)) % 2**32, n_startup_trials=6)
    study = optuna.create_study(sampler=sampler, direction="minimize")
    states = optuna.trial.TrialState
    distributions = _distributions(keys)
    for trial in trials:
        if not trial.values:
            continue
        done = trial.loss is not None and trial.state == "done"
        # One that was abandoned counts by its last loss: without it the search would go there again.
        loss = trial.loss if done else trial.losses[-1][1] if trial.losses else None
        study.add_trial(
            optuna.trial.create_trial(
                state=states.COMPLETE if loss is not None else states.FAIL,
                value=loss,
                params=dict(trial.values),
                distributions=distributions,
            )
        )
    return study


def _distributions(keys: Sequence[SearchedKey]) -> dict[str, Any]:
    optuna = import_optuna()
    made: dict[str, Any] = {}
    for key in keys:
        if key.choices:
            made[key.key] = optuna.distributions.CategoricalDistribution(key.choices)
        elif key.is_whole:
            made[key.key] = optuna.distributions.IntDistribution(int(key.low), int(key.high), log=key.is_log)
        else:
            made[key.key] = optuna.distributions.FloatDistribution(key.low, key.high, log=key.is_log)
    return made
