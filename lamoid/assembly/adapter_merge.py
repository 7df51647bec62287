"""A model gets adapters, or gives them up for changed matrices that answer alike."""

from collections.abc import Mapping

import torch
from torch import nn

from lamoid.assembly.adapted import adapted_parts
from lamoid.assembly.adapter import connect
from lamoid.assembly.heads import NextToken, TiedSpec
from lamoid.assembly.linear import DenseSpec
from lamoid.assembly.model import LanguageModel, empty_model
from lamoid.assembly.rewrite import AnyLinear, bare, rewrite
from lamoid.assembly.sharing import put_parameters
from lamoid.assembly.spec import ModelSpec


def refitted(model: LanguageModel, spec: ModelSpec) -> tuple[LanguageModel, list[str]]:
    """Give a model of ``spec`` that has the same parameter objects as ``model`` where the names are the same.

    The others are new, their names are given, and their numbers are not set. ``model`` is not to be used on its own
    afterwards: the two share their weights.
    """
    fresh, old = empty_model(spec), dict(model.named_parameters())
    names = [name for name, _ in fresh.named_parameters()]
    new = [name for name in names if name not in old]
    shapes = {name: parameter.shape for name, parameter in fresh.named_parameters()}
    empty = {name: torch.empty(shapes[name], dtype=model.dtype, device=model.device) for name in new}
    put_parameters(fresh, {name: old[name] if name in old else empty[name] for name in names})
    fresh.choice = connect(fresh, model.choice.active or None)
    return fresh.train(model.training), new


@torch.no_grad()
def merged(model: LanguageModel, weights: Mapping[str, float] | None = None) -> LanguageModel:
    """Give a model without adapters that answers as this one does with these, by default with the active ones.

    Each matrix is changed in float32 or wider and rounded once. A head that is tied and adapted gets a matrix of its
    own, for the embedding stays as it is. What is not changed is shared with ``model``.
    """
    model.choice.check(weights := model.choice.active if weights is None else weights)
    changed = {part.path: part.adapters.merged(part.weight, weights) for part in adapted_parts(model)}

    def rule(path: str, linear: AnyLinear) -> AnyLinear:
        if isinstance(linear, TiedSpec) and linear.adapters:
            return DenseSpec(bias=linear.bias)
        return bare(linear)

    untied = [part.path for part in adapted_parts(model) if isinstance(model.get_submodule(part.path), NextToken)]
    fresh = empty_model(rewrite(model.spec, rule))
    tensors = dict(model.named_parameters())
    for path in untied:
        changed[f"{path}.linear"] = changed.pop(path)
        if f"{path}.bias" in tensors:
            tensors[f"{path}.linear.bias"] = tensors[f"{path}.bias"]
    tensors |= {f"{path}.weight": nn.Parameter(weight) for path, weight in changed.items()}
    put_parameters(fresh, {name: tensors[name] for name, _ in fresh.named_parameters()})
    return fresh.train(model.training)
