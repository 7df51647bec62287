"""How the measured loss of a fusion changes with its weights, for rules that are linear in them."""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from lamoid.errors import InputError
from lamoid.recipes.fusion_candidates import Candidates
from lamoid.recipes.fusion_plan import Plan
from lamoid.recipes.fusion_tasks import Task
from lamoid.recipes.measuring import Opened
from lamoid.weights.folder import load_model

PIECE = 1 << 20


def loss_slopes(plan: Plan, candidates: Candidates, weights: Sequence[float]) -> list[float]:
    """Give a slope a member: how fast the loss on the measuring half rises with its weight, up to what all share.

    The loss is in nats a token, the weights come to 1. With the gradient G of the loss by the fused parameters, the
    slope is the inner product of G and the member's parameters, times lambda for task arithmetic: what the base and
    normalising add is the same for all members. Each parameter's gradient is dropped as soon as it is multiplied; what
    a model keeps for its backward pass lies beside the bound on memory. Raise ``InputError`` for a task that a function
    measures, for its gradient is not known.
    """
    for task in candidates.trial.tasks:
        if not task.reads_text:
            problem = f"are to be found by 'descend', and {task.name} is measured by a function: it has no gradient"
            raise InputError("weights", problem, "ask for search")
    candidates.trial.reader.remark("Descending kept what the backward pass needs in memory, beside the bound.")
    members = [dict(load_model(folder, views=True).named_parameters()) for folder in plan.members]
    blend = plan.blend(weights)
    settings, parts = plan.settings(blend), plan.members[0].names.parts
    with candidates.opened(blend, "the slopes") as opened:
        slopes = [0.0] * len(members)
        gathered: list[list[float]] = []
        for name, parameter in opened.model.named_parameters():
            scale = getattr(settings(parts[name].theirs)[1], "lambda_", 1.0)
            own = [member[name].detach() for member in members]
            parameter.requires_grad_()
            parameter.register_post_accumulate_grad_hook(partial(_gather, gathered, own, scale))
        for task in candidates.trial.tasks:
            gathered.clear()
            tokens = _go_back(candidates, task, opened)
            for index in range(len(slopes)):
                slopes[index] += task.weight * math.fsum(found[index] for found in gathered) / tokens
    return slopes


def _go_back(candidates: Candidates, task: Task, opened: Opened) -> int:
    tokens = candidates.trial.reader.go_back(opened, task.texts)
    if not tokens:
        raise InputError(opened.name, f"scores no token of the measuring half of {task.name}", "give more text")
    return tokens


def _gather(gathered: list[list[float]], members: Sequence[Tensor], scale: float, parameter: Tensor) -> None:
    gradient = parameter.grad
    parameter.grad = None
    if gradient is not None:
        gathered.append([scale * _inner(gradient, member) for member in members])


def _inner(one: Tensor, other: Tensor) -> float:
    """Give the inner product of two tensors of one shape, added up in float64 over pieces."""
    rows = max(1, PIECE // max(1, one[:1].numel())) if one.dim() else 1
    pairs = zip(one.split(rows), other.split(rows), strict=True) if one.dim() else [(one, other)]
    return math.fsum(float(torch.sum(a.float() * b.to(a.device).float())) for a, b in pairs)
