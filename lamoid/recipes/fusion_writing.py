"""Writes a fused model, or holds it in memory: the same numbers."""

import hashlib
import json
from collections.abc import Callable, Sequence

import msgspec

from lamoid.errors import InputError
from lamoid.fusion.memory import parse_memory
from lamoid.fusion.order import content_keys
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.stream import How, Source, fuse_in_memory, stream_fusion
from lamoid.recipes.fusion_plan import Blend, Plan, check_memory
from lamoid.recipes.progress import Progress
from lamoid.verbs.placement import find_dtype
from lamoid.weights.durable import Draft
from lamoid.weights.folder import write_description
from lamoid.weights.held import HeldTensors
from lamoid.weights.read import Tensors


def write_fusion(
    plan: Plan, blend: Blend, draft: Draft, progress: Progress | None, label: str, *, run: str = ""
) -> None:
    """Write a whole model folder: the first member's description, the members' tokenizer, and the fused weights.

    ``run`` names the run whose other ranks are waiting to do their share; without it the workers are started here.
    """
    first = plan.members[0]
    ends = first.ends[0] if len(first.ends) == 1 else list(first.ends) or None
    generation = {"bos_token_id": first.start, "eos_token_id": ends, **first.generation}
    dtype = find_dtype(plan.recipe.dtype) or first.tensors[plan.tensors[0]].dtype
    files = {} if plan.tokenizer is None else plan.tokenizer.files()
    if progress is not None:
        progress.start(label, plan.stored_bytes(), "bytes")
    how = _how(plan, plan.memory, None if progress is None else progress.advance)
    how["shard_bytes"] = parse_memory(plan.recipe.shard_size)
    how["workers"], how["verify"] = plan.recipe.workers, plan.recipe.verify
    if run:
        how["run"] = run
    stream_fusion(*_models(plan, blend), RULES[blend.rule], plan.settings(blend), draft, **how)
    # Behind the weights: where a draft goes on from a killed one, what lies there before them is cleared.
    write_description(draft, first.spec, dtype=dtype, generation=generation, tokenizer_files=files, family=first.family)
    if progress is not None:
        progress.finish()


def memory_beside(plan: Plan) -> int | None:
    """Give the bytes that are left to the arithmetic beside a whole fused model; None where that does not fit."""
    left = plan.memory - plan.stored_bytes()
    try:
        check_memory(plan, left)
    except InputError:
        return None
    return left


def hold_fusion(plan: Plan, blend: Blend, memory: int) -> Tensors:
    """Fuse into memory; ``memory`` bounds the arithmetic."""
    how = _how(plan, memory, None)
    held = fuse_in_memory(*_models(plan, blend), RULES[blend.rule], plan.settings(blend), **how)
    return HeldTensors({name: plan.members[0].tensors[name] for name in held}, held)


def hash_blend(plan: Plan, blend: Blend) -> str:
    """Name a fused model by what makes it: members and base, rule, weights, options, dtype, seed. It reads samples."""
    recipe = plan.recipe
    parts = {
        "members": plan.keys,
        "base": plan.base_key,
        "rule": blend.rule,
        "weights": blend.weights,
        "own": [[member.weight, member.options] for member in recipe.members],
        "options": recipe.options if blend.rule == recipe.rule else {},
        "statistics": content_keys(plan.statistics),
        "rest": [recipe.dtype, recipe.seed, recipe.gradient_after],
    }
    return hashlib.sha256(json.dumps(msgspec.to_builtins(parts), sort_keys=True).encode()).hexdigest()


def _models(plan: Plan, blend: Blend) -> tuple[list[Source], Source | None]:
    statistics = plan.statistics if RULES[blend.rule].statistic is not None else ()
    known: Sequence[Tensors | None] = statistics or [None] * len(plan.members)
    members = [
        Source(str(folder.path), folder.tensors, key, found)
        for folder, key, found in zip(plan.members, plan.keys, known, strict=True)
    ]
    if plan.base is None or RULES[blend.rule].base == "none":
        return members, None
    return members, Source(str(plan.base.path), plan.base.tensors, plan.base_key)


def _how(plan: Plan, memory: int, advance: Callable[[int], None] | None) -> How:
    recipe = plan.recipe
    return How(
        names=plan.tensors,
        dtype=find_dtype(recipe.dtype),
        memory=memory,
        device=recipe.device,
        seed=recipe.seed,
        advance=advance,
    )
