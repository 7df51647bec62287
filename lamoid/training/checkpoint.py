"""Checkpoints: the whole state of a run in one durable folder of safetensors and JSON."""

import re
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor

from lamoid.assembly.group import GroupSpec, ModelGroup
from lamoid.assembly.model import empty_model
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.surgery import transplant
from lamoid.assembly.tying import become
from lamoid.errors import InputError
from lamoid.training.move_report import MoveReport
from lamoid.training.state import TrainingState
from lamoid.weights.durable import durable_folder, sweep
from lamoid.weights.write import write_tensors

STATE = "state.json"
_LEAVINGS = re.compile(r"\.(step-\d{8})\.(tmp|old)-.+")


class SavedState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The JSON half of a checkpoint.

    ``position`` is the loader's; ``identity`` is what the run must still be to go on from here, as nested JSON.
    ``spec`` is the model's at that moment, or ``group`` that of several, which moves may have changed; ``moves`` says
    which did.
    ``tokens`` and ``seconds`` are those of all steps so far; ``seconds`` is the one value that a clock measured.
    """

    step: int
    steps: int
    validations: tuple[tuple[int, float], ...]
    position: Any
    identity: dict[str, Any]
    tokens: int = 0
    seconds: float = 0.0
    spec: ModelSpec | None = None
    group: GroupSpec | None = None
    moves: tuple[MoveReport, ...] = ()
    format: int = 1


@dataclass(frozen=True)
class Checkpoints:
    """The folder ``place`` of checkpoints, of which the last ``keep`` stay.

    ``position`` gives the loader's place at the moment; ``identity`` is saved and compared on resuming.
    """

    place: Path
    keep: int
    identity: dict[str, Any]
    position: Callable[[], Any]

    def write(self, state: TrainingState) -> None:
        """Write a checkpoint of this moment, then remove those that are more than ``keep`` back."""
        saved = SavedState(
            step=state.step,
            steps=state.steps,
            validations=tuple(state.validations),
            position=self.position(),
            identity=self.identity,
            tokens=state.tokens,
            seconds=state.seconds,
            spec=None if isinstance(state.model, ModelGroup) else state.model.spec,
            group=state.model.spec if isinstance(state.model, ModelGroup) else None,
            moves=tuple(state.moves),
        )
        with durable_folder(self.place / f"step-{state.step:08}", overwrite=True) as draft:
            write_tensors(draft, _tensors(state))
            draft.write(STATE, msgspec.json.format(msgspec.json.encode(saved), indent=1))
        for old in self.list()[: -self.keep]:
            _remove(old)

    def list(self) -> list[Path]:
        """Give the checkpoints' folders, oldest first, after clearing away what killed writers left among them."""
        if not self.place.is_dir():
            return []
        found = [_LEAVINGS.fullmatch(path.name) for path in self.place.iterdir()]
        for name in sorted({leaving[1] for leaving in found if leaving}):
            sweep(self.place / name)
        return sorted(path for path in self.place.glob("step-" + "[0-9]" * 8) if path.is_dir())


def restore(state: TrainingState, tensors: dict[str, Tensor], saved: SavedState) -> None:
    """Put a checkpoint's numbers into ``state``: parameters, optimiser, losses and random generators.

    If moves had made another model of it, the model in ``state`` is made that one first.
    """
    if saved.group is not None and isinstance(state.model, ModelGroup):
        for change in become(state.model, saved.group):
            state.optimizer.apply(change, state.model)
    elif saved.moves and saved.spec is not None:
        change = transplant(state.model, empty_model(saved.spec), before=lambda name: None)
        state.optimizer.apply(change, state.model)
    parameters = dict(state.model.named_parameters())
    values = _part(tensors, "model/")
    wanted = {name: parameter.shape for name, parameter in parameters.items()}
    if {name: value.shape for name, value in values.items()} != wanted or not {"losses", "random/cpu"} <= set(tensors):
        raise InputError("checkpoint", "does not hold this model's state", "resume with the recipe of the run")
    with torch.no_grad():
        for name, value in values.items():
            parameters[name].copy_(value)
    state.optimizer.load(_part(tensors, "optimizer/"))
    state.losses = tensors["losses"].tolist()
    state.validations = list(saved.validations)
    state.moves = list(saved.moves)
    state.step = saved.step
    state.tokens, state.seconds = saved.tokens, saved.seconds
    torch.set_rng_state(tensors["random/cpu"].clone())
    if "random/cuda" in tensors and state.model.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random/cuda"].clone(), state.model.device)


def _tensors(state: TrainingState) -> dict[str, Tensor]:
    named = {f"model/{name}": parameter for name, parameter in state.model.named_parameters()}
    named |= {f"optimizer/{name}": value for name, value in state.optimizer.tensors().items()}
    named["losses"] = torch.tensor(state.losses, dtype=torch.float64)
    named["random/cpu"] = torch.get_rng_state()
    if state.model.device.type == "cuda":
        named["random/cuda"] = torch.cuda.get_rng_state(state.model.device)
    return named


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _remove(folder: Path) -> None:
    """Take a checkpoint's name away before its files: a kill leaves no half of one, only what ``sweep`` clears."""
    doomed = folder.with_name(f".{folder.name}.tmp-{secrets.token_hex(6)}")
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
