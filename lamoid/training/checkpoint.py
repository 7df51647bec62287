"""Checkpoints: the whole state of a run in one durable folder of safetensors and JSON."""

import math
import os
import re
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from lamoid.assembly.group import GroupSpec, ModelGroup
from lamoid.assembly.model import empty_model
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.surgery import transplant
from lamoid.assembly.tying import become
from lamoid.errors import InputError
from lamoid.training.incident import Incident
from lamoid.training.move_report import MoveReport
from lamoid.training.state import TrainingState
from lamoid.weights.durable import NotCommitted, durable_folder, sweep
from lamoid.weights.slices import write_sliced

STATE, BASE = "state.json", "base"
_NAME = re.compile(r"step-\d{8,}")
_LEAVINGS = re.compile(r"\.(step-\d{8,})\.(tmp|old)-.+")


class SavedState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON half of a checkpoint.

    In ``validations`` a loss that is no number is null; ``undone`` is the state's. ``position`` is the loader's;
    ``identity`` is what the run must still be to go on from here, as nested JSON.
    ``parts`` names those of the state whose tensors are held; ``incidents`` are the steps that were not made.
    ``spec`` is the model's at that moment, or ``group`` that of several, which moves may have changed; ``moves`` says
    which did.
    ``tokens`` and ``seconds`` are those of all steps so far; ``seconds`` is the one value that a clock measured.
    """

    step: int
    steps: int
    validations: tuple[tuple[int, float | None], ...]
    position: Any
    identity: dict[str, Any]
    tokens: int = 0
    seconds: float = 0.0
    spec: ModelSpec | None = None
    group: GroupSpec | None = None
    moves: tuple[MoveReport, ...] = ()
    incidents: tuple[Incident, ...] = ()
    undone: tuple[int, float] | None = None
    parts: tuple[str, ...] = ()
    format: int = 1


@dataclass(frozen=True)
class Checkpoints:
    """The folder ``place`` of checkpoints, of which the last ``keep`` stay.

    ``position`` gives the loader's place at the moment; ``identity`` is saved and compared on resuming. Where it names
    the ``base`` that the run began with, what is frozen is not held. ``renewed`` makes of an identity that an earlier
    version saved what this one would have.

    Those of every ``every``-th step, of 0 that of the start alone, are regular: every run of the recipe has them,
    however often it was stopped. The newest of these stays too.
    """

    place: Path
    keep: int
    identity: dict[str, Any]
    position: Callable[[], Any]
    renewed: Callable[[dict[str, Any]], dict[str, Any]] = dict
    every: int = 1

    def write(self, state: TrainingState) -> None:
        """Write a checkpoint of this moment, then remove those that are more than ``keep`` back."""
        self.commit(self.take(state))

    def take(self, state: TrainingState) -> "Snapshot":
        """Give what a checkpoint of this moment holds; its tensors are the state's own, and change with it."""
        saved = SavedState(
            step=state.step,
            steps=state.steps,
            validations=tuple((step, loss if math.isfinite(loss) else None) for step, loss in state.validations),
            position=self.position(),
            identity=self.identity,
            tokens=state.tokens,
            seconds=state.seconds,
            spec=None if isinstance(state.model, ModelGroup) else state.model.spec,
            group=state.model.spec if isinstance(state.model, ModelGroup) else None,
            moves=tuple(state.moves),
            incidents=tuple(state.incidents),
            undone=state.undone,
            parts=tuple(sorted(state.parts)),
        )
        tensors = _tensors(state, with_frozen=BASE not in self.identity)
        return Snapshot(state.step, msgspec.json.format(msgspec.json.encode(saved), indent=1), tensors)

    def commit(self, snapshot: "Snapshot") -> None:
        """Write a checkpoint, then remove those that are more than ``keep`` back."""
        with durable_folder(self.place / f"step-{snapshot.step:08}", overwrite=True) as draft:
            write_sliced(draft, snapshot.tensors)
            draft.write(STATE, snapshot.saved)
        self.prune()

    def prune(self) -> None:
        """Remove the checkpoints that are more than ``keep`` back; a killed run may have left one more."""
        try:
            found = self.list()
            stays = [*self.regular(found)[-1:], *found[-self.keep :]]
            for old in found:
                if old not in stays:
                    _remove(old)
        except OSError as error:
            problem = f"{self.place}: an old checkpoint cannot be removed ({error.strerror or error})"
            raise NotCommitted(error.errno, f"{problem}. Check the disk; the newest one is whole.") from error

    def list(self) -> list[Path]:
        """Give the checkpoints' folders, oldest first, after clearing away what killed writers left among them.

        What has the name of one but is no folder is given too: it is for the reader to say so.
        """
        if not os.path.lexists(self.place):
            return []
        found = [_LEAVINGS.fullmatch(path.name) for path in self.place.iterdir()]
        for name in sorted({leaving[1] for leaving in found if leaving}):
            sweep(self.place / name)
        found = [path for path in self.place.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))

    def regular(self, found: Sequence[Path]) -> Sequence[Path]:
        """Give those of the checkpoints that were due, not asked for."""
        steps = {path: int(path.name.removeprefix("step-")) for path in found}
        return [path for path, step in steps.items() if step == 0 or (self.every and step % self.every == 0)]


@dataclass(frozen=True)
class Snapshot:
    """What a checkpoint of one moment holds: its step, its JSON half, and its tensors."""

    step: int
    saved: bytes
    tensors: dict[str, Tensor]


def restore(state: TrainingState, tensors: dict[str, Tensor], saved: SavedState) -> None:
    """Put a checkpoint's numbers into ``state``: parameters, optimiser, losses and random generators.

    If moves had made another model of it, the model in ``state`` is made that one first.
    """
    if saved.group is not None and isinstance(state.model, ModelGroup):
        for change in become(state.model, saved.group):
            state.apply(change)
    elif (saved.moves or state.moves) and saved.spec is not None and saved.spec != state.model.spec:
        change = transplant(state.model, empty_model(saved.spec), before=lambda name: None)
        state.apply(change)
    values = _part(tensors, "model/")
    held, trained = dict(state.model.named_parameters()), _trained(state.model)
    parameters = trained if values.keys() == trained.keys() else held
    wanted = {name: parameter.shape for name, parameter in parameters.items()}
    if {name: value.shape for name, value in values.items()} != wanted or not {"losses", "random/cpu"} <= set(tensors):
        raise InputError("checkpoint", "does not hold this model's state", "resume with the recipe of the run")
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)
    state.optimizer.load(_part(tensors, "optimizer/"))
    _restore_parts(state, tensors, saved.parts)
    state.losses = tensors["losses"].tolist()
    state.validations = [(step, math.nan if loss is None else loss) for step, loss in saved.validations]
    state.undone = saved.undone
    state.moves = list(saved.moves)
    state.incidents = list(saved.incidents)
    state.step = saved.step
    state.tokens, state.seconds = saved.tokens, saved.seconds
    torch.set_rng_state(tensors["random/cpu"].clone())
    if "random/cuda" in tensors and state.model.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random/cuda"].clone(), state.model.device)


def _tensors(state: TrainingState, *, with_frozen: bool) -> dict[str, Tensor]:
    parameters = dict(state.model.named_parameters()) if with_frozen else _trained(state.model)
    named: dict[str, Tensor] = {f"model/{name}": value for name, value in parameters.items()}
    named |= {f"optimizer/{name}": value for name, value in state.optimizer.tensors().items()}
    for part, held in state.parts.items():
        named |= {f"parts/{part}/{name}": value for name, value in held.tensors().items()}
    named["losses"] = torch.tensor(state.losses, dtype=torch.float64)
    named["random/cpu"] = torch.get_rng_state()
    if state.model.device.type == "cuda":
        named["random/cuda"] = torch.cuda.get_rng_state(state.model.device)
    return named


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """Give the parameters that are not frozen."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _restore_parts(state: TrainingState, tensors: dict[str, Tensor], saved: tuple[str, ...]) -> None:
    """Hand each part its own tensors; the checkpoint and the run must have the same parts."""
    missing, foreign = sorted(state.parts.keys() - set(saved)), sorted(set(saved) - state.parts.keys())
    if missing or foreign:
        problem = f"does not hold {missing[0]!r}" if missing else f"holds {foreign[0]!r}, which this run has not"
        raise InputError("checkpoint", problem, "resume with the recipe of the run")
    for name, part in state.parts.items():
        part.load({entry: value.clone() for entry, value in _part(tensors, f"parts/{name}/").items()})


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _remove(folder: Path) -> None:
    """Take a checkpoint's name away before its files: a kill leaves no half of one, only what ``sweep`` clears."""
    doomed = folder.with_name(f".{folder.name}.tmp-{secrets.token_hex(6)}")
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
