"""What a rule needs of each member besides its numbers: read where it is given, else measured for this fusion."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lamoid.errors import InputError
from lamoid.fusion.match import weight_names
from lamoid.recipes.fusion_plan import Plan, check_memory
from lamoid.recipes.fusion_statistics import EXAMPLES, expected_products, measure_statistics
from lamoid.recipes.merged_statistics import measure_merged, merging
from lamoid.recipes.progress import Progress
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import ModelFolder
from lamoid.weights.read import Tensors, open_tensors
from lamoid.weights.scratch import scratch_folder


@contextmanager
def with_statistics(plan: Plan, texts: Sequence[str], progress: Progress | None) -> Iterator[Plan]:
    """Give the plan with what its rule needs; what is measured on ``texts`` stands beside the output until the end.

    Raise ``InputError`` for statistics of another model, and where there are neither statistics nor texts.
    """
    kind = plan.rule.statistic
    if kind is None:
        yield plan
        return
    given = [member.statistics for member in plan.recipe.members]
    for index, path in enumerate(given):
        culprit = f"members[{index}].statistics"
        if path is None and not texts:
            cure = "give its folder (lamoid statistics makes it), or a text (--on) to measure it on"
            cure = "give a text (--on) to measure it on" if kind == "merged_gram" else cure
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
        for place, path, folder in zip(places, given, plan.members, strict=True):
            if path is None and kind != "merged_gram":
                with durable_folder(place) as draft:
                    measure_statistics(folder, texts, kind, EXAMPLES, draft, progress)
        found = [_opened(place, folder, kind) for place, folder in zip(places, plan.members, strict=True)]
        yield replace(plan, statistics=found)


def _measure_together(plan: Plan, texts: Sequence[str], places: Sequence[Path], progress: Progress | None) -> None:
    """Measure members whose earlier layers are merged with their own weights, or else equal ones."""
    blend = plan.blend(plan.given if plan.recipe.weights == "given" else [1.0 / len(plan.members)] * len(plan.members))
    parts = plan.members[0].names.parts
    merge = merging(plan.rule, plan.settings(blend), lambda name: parts[name].theirs, plan.memory)
    measure_merged(plan.members, [texts] * len(plan.members), merge, places, EXAMPLES, progress)


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
