"""The steps of a fusion whose results are used further on and not kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from lamoid.errors import InputError
from lamoid.fusion.rules.table import RULES
from lamoid.recipes.fusion_recipe import FusionRecipe, MemberTable, StepTable
from lamoid.weights.scratch import clear_scratch, scratch_folder


@contextmanager
def run_steps(recipe: FusionRecipe, run: Callable[[FusionRecipe], object]) -> Iterator[FusionRecipe]:
    """Run each step by ``run`` and give the recipe of the rest, its steps' names replaced by their folders.

    The folders stand hidden beside the output and are deleted at the end, after a kill by the next fusion there, be it
    one without steps.
    """
    check_steps(recipe)
    clear_scratch(Path(recipe.out), ("steps", "statistics"))
    if not recipe.steps:
        yield recipe
        return
    with scratch_folder(Path(recipe.out), "steps") as folder:
        done: dict[str, str] = {}
        for step in recipe.steps:
            target = str(folder / step.name)
            run(_as_recipe(recipe, step, done, target))
            done[step.name] = target
        members, base = _resolve(recipe.members, recipe.base, done)
        yield msgspec.structs.replace(recipe, members=members, base=base, steps=[])


def check_steps(recipe: FusionRecipe) -> None:
    """Raise ``InputError`` for a step that is named twice or used before it is made, is no file's name, or that nothing
    uses after it."""
    names = [step.name for step in recipe.steps]
    for index, step in enumerate(recipe.steps):
        key = f"steps[{index}].name"
        if not step.name or Path(step.name).name != step.name or step.name.startswith(".") or "\0" in step.name:
            raise InputError(key, f"is {step.name!r}", "write a plain name such as middle")
        if step.name in names[:index]:
            raise InputError(key, f"{step.name!r} stands twice", "give each step a name of its own")
        early = sorted(_used(step) & set(names[index:]))
        if early:
            culprit, cure = f"steps[{index}]", f"write the step {early[0]!r} before {step.name!r}, and not in a circle"
            raise InputError(culprit, f"uses {early[0]!r}, which is not made yet", cure)
        if not any(step.name in _used(each) for each in [*recipe.steps[index + 1 :], recipe]):
            raise InputError(key, f"{step.name!r} is used by nothing behind it", "name it as a member, or leave it out")


def _used(entry: FusionRecipe | StepTable) -> set[str]:
    return {entry.base or "", *(member.model for member in entry.members)}


def _as_recipe(recipe: FusionRecipe, step: StepTable, done: dict[str, str], target: str) -> FusionRecipe:
    """Give a step as a fusion of its own, stored as its members are.

    It is neither measured nor judged unless its weights or its rule's statistics ask for text.
    """
    rule = RULES.get(step.rule)
    without = any(each.statistics is None and each.on is None for each in step.members)
    needs_text = rule is not None and rule.statistic is not None and without
    is_measured = needs_text or step.weights not in ("given", "uniform")
    members, base = _resolve(step.members, step.base, done)
    return msgspec.structs.replace(
        recipe,
        out=target,
        members=members,
        base=base,
        rule=step.rule,
        weights=step.weights,
        options=step.options,
        tasks=recipe.tasks if is_measured else [],
        steps=[],
        never_worse=False,
        between=False,
        dtype=None,
    )


def _resolve(
    members: list[MemberTable], base: str | None, done: dict[str, str]
) -> tuple[list[MemberTable], str | None]:
    resolved = [msgspec.structs.replace(member, model=done.get(member.model, member.model)) for member in members]
    return resolved, base if base is None else done.get(base, base)
