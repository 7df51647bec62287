"""What a fusion is asked to do, checked before anything is read in bulk."""

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lamoid.errors import InputError
from lamoid.fusion.match import check_match, weight_names
from lamoid.fusion.memory import block_elements, parse_memory
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.stream import total_bytes
from lamoid.recipes.measuring import Paths, as_paths
from lamoid.weights.folder import ModelFolder, open_folder

SPARE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Plan:
    """Members that match, and how they are fused; ``weights`` come to 1, None until they are measured."""

    members: list[ModelFolder]
    base: ModelFolder | None
    out: Path
    rule: str
    tau: float
    memory: int
    weights: list[float] | None
    is_measured: bool

    @property
    def tensors(self) -> list[str]:
        """The names, in the files, of the tensors that are fused."""
        return weight_names(self.members[0])

    @property
    def models(self) -> list[ModelFolder]:
        """Members and base."""
        return self.members if self.base is None else [*self.members, self.base]


def make_plan(
    members: Paths, base: str | Path | None, out: Path, rule: str, tau: float, memory: str, weights: str | None
) -> Plan:
    """Check what was asked for and open the members; raise ``InputError`` naming the first thing that does not fit."""
    if rule not in RULES:
        raise InputError("rule", f"is {rule!r}", f"choose one of {', '.join(RULES)}")
    if not (math.isfinite(tau) and tau > 0.0):
        raise InputError("tau", f"is {tau}, must be finite and greater than 0", "1 is usual; less sharpens the weights")
    paths = [Path(member) for member in as_paths(members)]
    if not paths:
        raise InputError("members", "none is given", "name at least one model folder")
    numbers = None if weights is None else _parse_weights(weights, len(paths))
    _check_apart(out, paths if base is None else [*paths, Path(base)])
    folders = [open_folder(path) for path in paths]
    check_match(folders)
    plan = Plan(
        folders,
        None if base is None else open_folder(Path(base)),
        out,
        rule,
        tau,
        parse_memory(memory),
        numbers,
        numbers is None,
    )
    largest = max(folders[0].tensors[name].dtype.itemsize for name in plan.tensors)
    block_elements(len(folders), largest, plan.memory)
    return plan


def check_output(plan: Plan, *, overwrite: bool) -> None:
    """Raise ``InputError`` for an output that exists and for a disk without room for the fused model."""
    if os.path.lexists(plan.out) and not overwrite:
        raise InputError(plan.out, "the output exists already", "choose another name, or ask to overwrite it")
    parent = next(path for path in plan.out.absolute().parents if path.is_dir())
    free, needed = shutil.disk_usage(parent).free, total_bytes(plan.members[0].tensors, plan.tensors) + SPARE_BYTES
    if free < needed:
        problem = f"the disk has {free / 2**20:.0f} MiB free, the fused model takes {needed / 2**20:.0f} MiB"
        raise InputError(plan.out, problem, "free some space, or choose another disk")


def _parse_weights(text: str, count: int) -> list[float]:
    """Read "0.2,0.3,0.5" and normalise it."""
    cure = f"give {count} numbers of at least 0 with commas between, such as {','.join(['1'] * count)}"
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError("weights", f"{text[:80]!r} is no list of numbers", cure) from None
    total = math.fsum(numbers)
    if len(numbers) != count or min(numbers) < 0.0 or not math.isfinite(total) or total <= 0.0:
        raise InputError("weights", f"are {text[:80]!r} for {count} members", cure)
    return [number / total for number in numbers]


def _check_apart(out: Path, models: Sequence[Path]) -> None:
    """Refuse an output that is a model which is read, lies in one or holds one."""
    target = Path(os.path.realpath(out))
    for path in models:
        model = Path(os.path.realpath(path))
        if target == model or model in target.parents or target in model.parents:
            relation = "is" if target == model else "lies in" if model in target.parents else "holds"
            raise InputError(out, f"the output {relation} {path}, which is read", "choose a folder of its own")
