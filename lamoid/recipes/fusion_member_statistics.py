"""What a rule needs of each member besides its numbers: read where it is given, else measured for this fusion."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec

from lamoid.errors import InputError
from lamoid.evaluation.units import halve, split_units
from lamoid.fusion.match import weight_names
from lamoid.fusion.rules.table import RULES
from lamoid.recipes.fusion_plan import Plan, check_memory
from lamoid.recipes.fusion_recipe import FusionRecipe, StepTable
from lamoid.recipes.fusion_statistics import EXAMPLES, expected_products, measure_statistics
from lamoid.recipes.measuring import name_paths, read_texts
from lamoid.recipes.merged_statistics import measure_merged, merging
from lamoid.recipes.progress import Progress
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import ModelFolder
from lamoid.weights.read import Tensors, open_tensors
from lamoid.weights.scratch import scratch_folder


def read_own_texts(recipe: FusionRecipe, entry: FusionRecipe | StepTable) -> list[list[str] | None]:
    """Give the measuring half of each member's own text, None for a member without one; ``entry`` has the members.

    Halves are as those of a task: a text that is judged on too is parted in the same way. Raise ``InputError`` where
    nothing is measured of a member.
    """
    rule = RULES.get(entry.rule)
    found: list[list[str] | None] = []
    for index, member in enumerate(entry.members):
        if member.on is None:
            found.append(None)
            continue
        needed = [name for name, each in RULES.items() if each.statistic is not None]
        if rule is None or rule.statistic is None:
            problem = f"is given, and {entry.rule} measures nothing of members"
            raise InputError(f"members[{index}].on", problem, f"leave it out, or choose one of {', '.join(needed)}")
        if member.statistics is not None:
            raise InputError(f"members[{index}].on", "is given beside statistics", "leave one of them out")
        texts = read_texts(member.on, separator=recipe.separator, field=recipe.field)
        found.append(halve(split_units(texts), name=name_paths(member.on))[0])
    return found


@contextmanager
def with_statistics(
    plan: Plan, own: Sequence[Sequence[str] | None], shared: Sequence[str], progress: Progress | None
) -> Iterator[Plan]:
    """Give the plan with what its rule needs; what is measured stands beside the output until the end.

    A member is measured on its ``own`` text, or else on what is ``shared``. Raise ``InputError`` for statistics of
    another model, and where there are neither statistics nor texts.
    """
    kind = plan.rule.statistic
    if kind is None:
        yield plan
        return
    given = [member.statistics for member in plan.recipe.members]
    texts = [shared if each is None else each for each in own]
    for index, path in enumerate(given):
        culprit = f"members[{index}].statistics"
        if path is None and not texts[index]:
            cure = "give its folder (lamoid statistics makes it), or a text (--member-on, --on) to measure it on"
            cure = "give a text (--member-on, --on) to measure it on" if kind == "merged_gram" else cure
            raise InputError(culprit, f"is not given, which {plan.recipe.rule} needs", cure)
        if path is not None and kind == "merged_gram":
            raise InputError(culprit, f"is given, and hangs on all members with {plan.recipe.rule}", "leave it out")
    memory = plan.memory // plan.recipe.workers
    if kind != "fisher":
        check_memory(replace(plan, statistics=[expected_products(folder) for folder in plan.members]), memory)
    with scratch_folder(plan.out, "statistics") as beside:
        places = [beside / str(index) if path is None else Path(path) for index, path in enumerate(given)]
        if kind == "merged_gram":
            _measure_together(plan, texts, places, progress)
        for place, path, folder, read in zip(places, given, plan.members, texts, strict=True):
            if path is None and kind != "merged_gram":
                with durable_folder(place) as draft:
                    measure_statistics(folder, read, kind, EXAMPLES, draft, progress)
        found = [_opened(place, folder, kind) for place, folder in zip(places, plan.members, strict=True)]
        recipe = msgspec.structs.replace(plan.recipe, notes=[*plan.recipe.notes, *_notes(plan, own)])
        yield replace(plan, recipe=recipe, statistics=found)


def _notes(plan: Plan, own: Sequence[Sequence[str] | None]) -> list[str]:
    """Name the members that were measured on the texts of all."""
    members = zip(plan.members, plan.recipe.members, own, strict=True)
    without = [folder.path for folder, member, text in members if text is None and member.statistics is None]
    if len(plan.members) == 1 or not without:
        return []
    who = "every member" if len(without) == len(plan.members) else name_paths(without)
    what = f"What {plan.recipe.rule} needs was measured on all texts for {who}"
    return [f"{what}: where members were made for texts of their own, name them (--member-on)."]


def _measure_together(
    plan: Plan, texts: Sequence[Sequence[str]], places: Sequence[Path], progress: Progress | None
) -> None:
    """Measure members whose earlier layers are merged with their own weights, or else equal ones."""
    blend = plan.blend(plan.given if plan.recipe.weights == "given" else [1.0 / len(plan.members)] * len(plan.members))
    parts = plan.members[0].names.parts
    merge = merging(plan.rule, plan.settings(blend), lambda name: parts[name].theirs, plan.memory)
    measure_merged(plan.members, texts, merge, places, EXAMPLES, progress)


def _opened(place: Path, folder: ModelFolder, kind: str) -> Tensors:
    """Open statistics and see that they are of such a model."""
    statistics = open_tensors(place)
    names = set(weight_names(folder))
    for name, info in statistics.items():
        shape = folder.tensors[name].shape if name in names else None
        if shape is None or info.shape not in _fitting(shape, kind):
            problem = f"has the shape {list(info.shape)}, which is no {kind} of the tensor in {folder.path}"
            raise InputError(f"{place}: tensor {name}", problem, f"measure it anew: lamoid statistics --kind {kind}")
    return statistics


def _fitting(shape: tuple[int, ...], kind: str) -> list[tuple[int, ...]]:
    """Give the shapes that the statistic of a tensor may have."""
    if kind == "fisher":
        return [shape]
    return [(shape[1], shape[1]), (1, shape[0], shape[0])] if len(shape) == 2 else []
