"""What can be said of a fusion before anything is read in bulk: do the members match, what will it take, which rule."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch

from lamoid.assembly.difference import differences
from lamoid.errors import InputError
from lamoid.fusion.match import weight_names
from lamoid.fusion.memory import parse_memory, room_needed
from lamoid.fusion.rules.rule import Rule
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.stream import total_bytes
from lamoid.recipes.fusion_plan import check_rule_name, make_plan
from lamoid.recipes.fusion_recipe import FusionRecipe
from lamoid.recipes.fusion_statistics import expected_products
from lamoid.recipes.fusion_steps import check_steps
from lamoid.weights.folder import ModelFolder, open_folder

MOST_DIFFERENCES = 20
SAMPLE = 256
"""Numbers of each tensor that are looked at to tell whether models come from one base."""
ONE_ORIGIN = 0.5
"""Cosine of two models' numbers above which they are taken to come from one base; strangers have about 0."""
ONE_TASK = 0.4
"""Cosine of two members' differences from the base above which they are taken to have learnt alike things."""
READ_RATE, WRITE_RATE = 1e9, 4e8
"""Bytes a second that a disk is taken to read, and to write and sync."""


class Difference(msgspec.Struct, frozen=True):
    """One place in which a model differs from the first member."""

    model: str
    field: str
    here: str
    first: str


class CheckedFusion(msgspec.Struct, frozen=True):
    """What a fusion would be, from headers and ``SAMPLE`` numbers a tensor; sizes in bytes.

    ``cosines`` holds the smallest cosine between two members' numbers, and with a base between their differences from
    it. ``unlisted`` counts the differences that are not listed. ``seconds`` is what the disk takes at ``READ_RATE`` and
    ``WRITE_RATE``; arithmetic comes beside it.
    """

    matches: bool
    differences: list[Difference]
    unlisted: int
    rule: str
    tensors: int
    parameters: int
    dtype: str
    bytes_read: int
    bytes_written: int
    memory: int
    disk_needed: int
    disk_free: int
    seconds: float
    origin: str
    cosines: dict[str, float]
    advice: list[str]

    def lines(self) -> list[str]:
        """Give what a person reads."""
        lines = [
            f"{each.model}: {each.field} is {each.here}, in the first it is {each.first}" for each in self.differences
        ]
        lines += [f"and {self.unlisted} more"] if self.unlisted else []
        lines.append("The members match." if self.matches else "The members do not match: nothing can be fused.")
        read, written, needed, free = (
            f"{each / 1e9:.2f} GB" for each in (self.bytes_read, self.bytes_written, self.disk_needed, self.disk_free)
        )
        lines.append(f"{self.tensors} tensors, {self.parameters:,} parameters, {self.dtype}")
        rates = f"{READ_RATE / 1e9:g} and {WRITE_RATE / 1e9:g} GB/s"
        lines.append(f"reads {read}, writes {written}: about {self.seconds:.0f} s for a disk of {rates}")
        lines.append(f"memory {self.memory / 2**20:.0f} MiB beyond the interpreter; disk {needed} of {free} free")
        return lines + self.advice


def check_fusion(recipe: FusionRecipe) -> CheckedFusion:
    """Look at the members' descriptions, headers and a few numbers, and say what a fusion of them would take.

    Members that do not match are no error here: all fields in which they differ are listed. Raise ``InputError`` for a
    folder that is no model, a wrong step, and for all that the fusion itself would refuse before it reads.
    """
    check_rule_name(recipe.rule)
    check_steps(recipe)
    if not recipe.members:
        raise InputError("members", "none is given", "name at least one model folder")
    steps = {step.name for step in recipe.steps}
    used = [*recipe.members, *(member for step in recipe.steps for member in step.members)]
    bases = [recipe.base, *(step.base for step in recipe.steps)]
    paths = dict.fromkeys(member.model for member in used if member.model not in steps)
    base_paths = dict.fromkeys(base for base in bases if base is not None and base not in steps)
    ignored = recipe.ignore_field
    folders = {path: open_folder(path, ignore_fields=ignored) for path in dict.fromkeys([*paths, *base_paths])}
    first, *others = folders.values()
    found = [each for other in others for each in _differences(first, other)]
    if not found and not recipe.steps:
        make_plan(recipe)
    members = [folders[path] for path in paths if path not in base_paths] or list(folders.values())
    base = folders.get(recipe.base or "")
    infos = [first.tensors[name] for name in weight_names(first)]
    cosines = {} if found else _cosines(members, base)
    size = total_bytes(first.tensors, weight_names(first))
    written = size if recipe.dtype is None else sum(info.elements for info in infos) * _itemsize(recipe.dtype)
    read = len(folders) * size
    runs = 1 + len(recipe.steps)
    return CheckedFusion(
        matches=not found,
        differences=found[:MOST_DIFFERENCES],
        unlisted=len(found[MOST_DIFFERENCES:]),
        rule=recipe.rule,
        tensors=len(infos),
        parameters=sum(info.elements for info in infos),
        dtype=", ".join(sorted({str(info.dtype).removeprefix("torch.") for info in infos})),
        bytes_read=read,
        bytes_written=written,
        memory=_memory(RULES[recipe.rule], first, len(recipe.members), recipe.memory, has_base=base is not None),
        disk_needed=written * runs + (written if recipe.tasks else 0),
        disk_free=shutil.disk_usage(_existing(Path(recipe.out))).free,
        seconds=read / READ_RATE + runs * written / WRITE_RATE,
        origin=_origin(cosines),
        cosines=cosines,
        advice=_advice(recipe, cosines, has_base=base is not None),
    )


def _differences(first: ModelFolder, other: ModelFolder) -> list[Difference]:
    """List where a model differs from the first: description, then tensors."""
    path = str(other.path)
    trees = msgspec.to_builtins(other.spec), msgspec.to_builtins(first.spec)
    found = [Difference(path, field, here, there) for field, here, there in differences(*trees)]
    names = set(weight_names(other)), set(weight_names(first))
    for name in sorted(names[0] | names[1]):
        if name not in names[0] or name not in names[1]:
            here, there = ("there", "missing") if name in names[0] else ("missing", "there")
            found.append(Difference(path, f"tensor {name}", here, there))
            continue
        ours, theirs = other.tensors[name], first.tensors[name]
        if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
            here, there = (f"{info.dtype} {list(info.shape)}" for info in (ours, theirs))
            found.append(Difference(path, f"tensor {name}", here, there))
    return found


def _memory(rule: Rule, first: ModelFolder, members: int, memory: str, *, has_base: bool) -> int:
    """Give the bytes that the fusion takes at most: the limit, or more where a rule needs whole tensors."""
    products = expected_products(first) if rule.statistic not in (None, "fisher") else None
    models = members + (has_base and rule.base != "none")
    infos = [first.tensors[name] for name in weight_names(first)]
    return max([parse_memory(memory), *(room_needed(rule, info, members, models, products) for info in infos)])


def _cosines(members: Sequence[ModelFolder], base: ModelFolder | None) -> dict[str, float]:
    samples = [_sample(member) for member in members]
    found: dict[str, float] = {}
    if len(samples) > 1:
        found["members"] = _least_cosine(samples)
    if base is not None:
        origin = _sample(base)
        found["members and base"] = min(_least_cosine([sample, origin]) for sample in samples)
        if len(samples) > 1:
            found["differences from the base"] = _least_cosine([sample - origin for sample in samples])
    return found


def _sample(folder: ModelFolder) -> torch.Tensor:
    """Take ``SAMPLE`` numbers from the middle of every tensor of two axes and more, as float64."""
    parts = []
    for name in weight_names(folder):
        info = folder.tensors[name]
        if len(info.shape) > 1 and info.dtype.is_floating_point:
            count = min(SAMPLE, info.elements)
            part = torch.empty(count, dtype=info.dtype)
            folder.tensors.read_into(name, (info.elements - count) // 2, part)
            parts.append(part.double())
    return torch.cat(parts) if parts else torch.zeros(1, dtype=torch.float64)


def _least_cosine(samples: Sequence[torch.Tensor]) -> float:
    rows = torch.stack(list(samples))
    rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-30)
    return round(float((rows @ rows.T).min()), 4)


def _origin(cosines: dict[str, float]) -> str:
    """Say whether the models come from one base: "one", "several" or "unknown"."""
    known = [cosine for pair, cosine in cosines.items() if pair != "differences from the base"]
    return "unknown" if not known else "one" if min(known) >= ONE_ORIGIN else "several"


def _advice(recipe: FusionRecipe, cosines: dict[str, float], *, has_base: bool) -> list[str]:
    """Say which rule suits, in sentences."""
    origin = _origin(cosines)
    if origin == "several":
        return [
            f"The models do not seem to come from one base (cosine {min(cosines.values()):.2f}): "
            "an average of their parameters is likely to be worse than each; train them from one base."
        ]
    if origin == "unknown":
        return []
    together = cosines.get("differences from the base")
    if not has_base:
        advice = (
            "The members come from one base: linear with measured weights suits; give --base for rules of differences."
        )
    elif together is not None and together >= ONE_TASK:
        advice = f"The members learnt alike things (cosine {together:.2f}): linear, greedy weights or model_stock suit."
    else:
        shown = "" if together is None else f" (cosine {together:.2f})"
        advice = (
            f"The members learnt different things{shown}: task_arithmetic, ties or dare_ties suit, lambda searched."
        )
    says = RULES[recipe.rule].says
    return [advice, f"{recipe.rule}: {says}"]


def _itemsize(dtype: str) -> int:
    return {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}.get(dtype, 4)


def _existing(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.is_dir())
