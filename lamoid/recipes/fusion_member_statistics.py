"""What a rule needs of each member besides its numbers: read where it is given, else measured for this fusion."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lamoid.errors import InputError
from lamoid.fusion.match import weight_names
from lamoid.recipes.fusion_plan import Plan
from lamoid.recipes.fusion_statistics import EXAMPLES, measure_statistics
from lamoid.recipes.progress import Progress
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import ModelFolder
from lamoid.weights.read import Tensors, open_tensors


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
        if path is None and not texts:
            cure = "give its folder (lamoid statistics makes it), or a text (--on) to measure it on"
            raise InputError(f"members[{index}].statistics", f"is not given, which {plan.recipe.rule} needs", cure)
    parent = plan.out.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{plan.out.name}.statistics-", dir=parent) as beside:
        found: list[Tensors] = []
        for index, (path, folder) in enumerate(zip(given, plan.members, strict=True)):
            place = Path(beside) / str(index) if path is None else Path(path)
            if path is None:
                with durable_folder(place) as draft:
                    measure_statistics(folder, texts, kind, EXAMPLES, draft, progress)
            found.append(_opened(place, folder, kind))
        yield replace(plan, statistics=found)


def _opened(place: Path, folder: ModelFolder, kind: str) -> Tensors:
    """Open statistics and see that they are of such a model."""
    statistics = open_tensors(place)
    names = set(weight_names(folder))
    for name, info in statistics.items():
        shape = folder.tensors[name].shape if name in names else None
        fits = shape is not None and (info.shape == shape if kind == "fisher" else info.shape[-1:] != ())
        if not fits:
            problem = f"has the shape {list(info.shape)}, which is no {kind} of the tensor in {folder.path}"
            raise InputError(f"{place}: tensor {name}", problem, f"measure it anew: lamoid statistics --kind {kind}")
    return statistics
