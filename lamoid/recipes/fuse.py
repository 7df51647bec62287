"""Fuses models into one: measured losses become weights, a rule makes one model of several, the result is judged."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from lamoid.errors import InputError
from lamoid.fusion.verdict import NOT_JUDGED
from lamoid.recipes import fusion_words as words
from lamoid.recipes.fusion_candidates import Candidates, candidate_folder
from lamoid.recipes.fusion_card import RECIPE
from lamoid.recipes.fusion_check import check_fusion
from lamoid.recipes.fusion_member_statistics import read_own_texts, with_statistics
from lamoid.recipes.fusion_pictures import STEPS, measure_between
from lamoid.recipes.fusion_places import check_places
from lamoid.recipes.fusion_plan import Plan, check_disk, make_plan
from lamoid.recipes.fusion_ranks import find_ranks
from lamoid.recipes.fusion_recipe import FusionRecipe
from lamoid.recipes.fusion_result import Fusion
from lamoid.recipes.fusion_saving import Saving
from lamoid.recipes.fusion_steps import run_steps
from lamoid.recipes.fusion_tasks import HandedTask, Metric, mark_seen
from lamoid.recipes.fusion_trial import read_trial
from lamoid.recipes.fusion_weights import choose
from lamoid.recipes.measuring import Measuring
from lamoid.recipes.progress import Progress
from lamoid.recipes.reported_command import report_command
from lamoid.weights.durable import sweep


def fuse(
    members: words.Members,
    *,
    on: words.On = None,
    task: words.Task = (),
    out: words.Out = None,
    base: words.Base = None,
    judge: words.Judge = None,
    rule: words.RuleName = None,
    weights: words.Weights = None,
    tau: words.Tau = None,
    set: words.Options = (),
    never_worse: words.NeverWorse = False,
    budget: words.Budget = None,
    between: words.Between = False,
    memory: words.Memory = None,
    workers: words.Workers = None,
    verify: words.Verify = False,
    separator: words.Separator = None,
    field: words.TextField = None,
    context: words.Context = None,
    device: words.Device = None,
    dtype: words.Dtype = None,
    measure_dtype: words.MeasureDtype = None,
    seed: words.Seed = None,
    shard_size: words.ShardSize = None,
    ignore_field: words.IgnoreField = (),
    overwrite: words.Overwrite = False,
    statistics: words.Statistics = (),
    member_on: words.MemberOn = (),
    check: words.Check = False,
    metrics: Mapping[str, Metric] | None = None,
    progress: Progress | None = None,
) -> Fusion:
    """Fuse the members by a rule, with weights from their measured losses, judge the result and save it to ``out``.

    On one half of the documents of ``on``, and of each task, each member's loss L_i is measured, in nats a token, and
    w_i is exp(-L_i / tau) / sum_j exp(-L_j / tau). Base, members, uniform average and fused model are judged on the
    other half, or on ``judge``, and by ``metrics``. Raises ``InputError`` for what cannot be used, such as members that
    do not match, before their weights are read; ``NotCommitted`` if writing fails. In either case nothing is left.
    """
    given = locals()
    recipe = words.read_words(given)
    if check:
        if out is not None:
            check_places(recipe, overwrite=overwrite)
        return Fusion(recipe.out, recipe.rule, [], NOT_JUDGED, [], checked=check_fusion(recipe))
    functions = [each for each in task if isinstance(each, HandedTask)]
    command = report_command(fuse, {**given, "task": [each for each in task if isinstance(each, str)]})
    return run_fusion(recipe, Beside(functions, metrics or {}, command, overwrite, progress))


@dataclass(frozen=True)
class Beside:
    """What comes to a recipe from its caller: tasks and metrics that are functions, how it is called, the run's name
    where other ranks do their share."""

    tasks: Sequence[HandedTask] = ()
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    command: str = f"lamoid fuse {RECIPE}"
    overwrite: bool = False
    progress: Progress | None = None
    run: str = ""


def run_fusion(recipe: FusionRecipe, beside: Beside | None = None) -> Fusion:
    """Fuse as the recipe says, steps first, and save the result; errors as in ``fuse``."""
    beside = Beside() if beside is None else beside
    ranks = find_ranks(os.environ, recipe)
    if ranks is not None:
        recipe = msgspec.structs.replace(recipe, workers=ranks.count)
        if ranks.rank:
            ranks.join(recipe)
            note = f"Rank {ranks.rank} of {ranks.count} did its share; rank 0 says what came of it."
            return Fusion(recipe.out, recipe.rule, [], NOT_JUDGED, [note])
        beside = replace(beside, run=ranks.run)
    check_places(recipe, overwrite=beside.overwrite)
    inner = replace(beside, overwrite=False)
    with run_steps(recipe, lambda step: _fuse(step, inner, step)) as whole:
        return _fuse(whole, beside, recipe)


def _fuse(recipe: FusionRecipe, beside: Beside, written: FusionRecipe) -> Fusion:
    """Fuse what has no steps left; ``written`` is the recipe that is saved."""
    plan = make_plan(recipe)
    check_disk(plan)
    sweep(candidate_folder(plan))
    _check_text(plan, beside)
    reader = Measuring(
        context=recipe.context,
        device=recipe.device,
        dtype=recipe.measure_dtype,
        progress=beside.progress,
        ignore_fields=recipe.ignore_field,
    )
    own = read_own_texts(recipe, recipe)
    trial = read_trial(plan, beside.tasks, beside.metrics, reader)
    if trial is not None:
        earlier = [text for step in written.steps for text in read_own_texts(recipe, step)]
        trial = replace(trial, tasks=mark_seen(trial.tasks, [text for text in [*own, *earlier] if text is not None]))
    texts = [] if trial is None else [text for task in trial.tasks for text in task.texts]
    candidates = None
    if trial is not None:
        trial.run(plan)
    with with_statistics(plan, own, texts, beside.progress) as ready:
        if trial is not None:
            candidates = Candidates(ready, trial, beside.progress)
        choice = choose(ready, candidates)
        if candidates is not None and recipe.between:
            measure_between(ready, candidates)
        saving = Saving(ready, candidates, written, beside.command, beside.overwrite, beside.progress, beside.run)
        return saving.save_best(choice) if recipe.never_worse else saving.save(choice)


def _check_text(plan: Plan, beside: Beside) -> None:
    """Refuse what only measuring could give where nothing is measured, and a text where a model cannot read it."""
    recipe, has_losses = plan.recipe, bool(plan.recipe.tasks or beside.tasks)
    searches = recipe.weights not in ("given", "uniform") and plan.rule.weighted
    asked = {
        "weights": searches,
        "between": recipe.between,
        "never_worse": recipe.never_worse and not beside.metrics,
        "base": plan.base is not None and plan.rule.base == "none" and not beside.metrics,
    }
    for name, is_asked in asked.items():
        if is_asked and not has_losses:
            problem = f"is not given, which {name} needs"
            if name == "weights" and recipe.weights == "loss":
                problem = "is not given, nor are weights"
            raise InputError("on", problem, "name a text to measure the members on")
    if recipe.between and (len(plan.members) not in STEPS or not plan.rule.weighted):
        raise InputError("between", f"is asked for {len(plan.members)} members", "leave it out: two or three it can be")
    if recipe.tasks and plan.without_tokenizer:
        cure = "put its tokenizer.json into the folder, or give --weights and no --on"
        raise InputError(plan.without_tokenizer[0], "holds no tokenizer, which measuring needs", cure)
