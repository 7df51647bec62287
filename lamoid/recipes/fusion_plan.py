"""What a fusion is asked to do, checked before anything is read in bulk."""

import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lamoid.contained import is_there
from lamoid.errors import InputError
from lamoid.fusion.match import check_match, check_tokenizers, weight_names
from lamoid.fusion.memory import block_elements, parse_memory
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.stream import total_bytes
from lamoid.recipes.measuring import Paths, as_paths
from lamoid.text.tokenizer import Tokenizer
from lamoid.verbs.llama import TOKENIZER_FILES
from lamoid.weights.folder import ModelFolder, open_folder

SPARE_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Plan:
    """Members that match, and how they are fused; ``weights`` come to 1, None until they are measured.

    ``tokenizer`` is the one of all members, None if none of them has one.
    """

    members: list[ModelFolder]
    base: ModelFolder | None
    out: Path
    rule: str
    tau: float
    memory: int
    weights: list[float] | None
    is_measured: bool
    tokenizer: Tokenizer | None
    without_tokenizer: list[Path]

    @property
    def tensors(self) -> list[str]:
        """Name the tensors that are fused, as the files call them."""
        return weight_names(self.members[0])

    @property
    def models(self) -> list[ModelFolder]:
        """Give members and base."""
        return self.members if self.base is None else [*self.members, self.base]


def make_plan(
    members: Paths,
    base: str | Path | None,
    out: Path,
    rule: str,
    tau: float,
    memory: str,
    weights: str | None,
    ignore_fields: Sequence[str] = (),
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
    folders = [open_folder(path, ignore_fields=ignore_fields) for path in paths]
    check_match(folders)
    origin = None if base is None else open_folder(Path(base), ignore_fields=ignore_fields)
    models = folders if origin is None else [*folders, origin]
    tokenizers = {folder.path: Tokenizer.read(folder.path) for folder in models if _has_tokenizer(folder.path)}
    check_tokenizers(list(tokenizers), list(tokenizers.values()))
    plan = Plan(
        folders,
        origin,
        out,
        rule,
        tau,
        parse_memory(memory),
        numbers,
        numbers is None,
        next(iter(tokenizers.values()), None),
        [folder.path for folder in models if folder.path not in tokenizers],
    )
    largest = max(folders[0].tensors[name].dtype.itemsize for name in plan.tensors)
    block_elements(len(folders), largest, plan.memory)
    return plan


def check_output(plan: Plan, *, overwrite: bool) -> None:
    """Raise ``InputError`` for an output that exists, cannot be written, or has no room for the fused model."""
    if os.path.lexists(plan.out) and not overwrite:
        raise InputError(
            plan.out, "the output exists already", "choose another name, or overwrite it (--overwrite, overwrite=True)"
        )
    parent = next(path for path in plan.out.absolute().parents if path.is_dir())
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(plan.out, f"the folder {parent} cannot be written to", "choose a folder that you may write to")
    free, size = shutil.disk_usage(parent).free, total_bytes(plan.members[0].tensors, plan.tensors)
    if free < size + SPARE_BYTES:
        problem = f"the disk has {free / 2**20:.1f} MiB free, the fused model takes {size / 2**20:.1f} MiB"
        problem += f" and {SPARE_BYTES / 2**20:.0f} MiB must stay free beside it"
        raise InputError(plan.out, problem, "free some space, or choose another disk")


def _has_tokenizer(folder: Path) -> bool:
    return any(is_there(folder, name) for name in TOKENIZER_FILES)


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
