"""Writes a model's adapter as a folder that peft reads."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from lamoid.assembly.adapted import adapted_parts
from lamoid.assembly.adapter import AdapterSpec, DoraSpec, LowRank, wide
from lamoid.assembly.heads import TiedSpec
from lamoid.assembly.linear import DenseSpec
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.paths import part_at
from lamoid.assembly.rewrite import linear_maps
from lamoid.errors import InputError
from lamoid.weights.adapter import MAGNITUDE, NARROW, PREFIX, TENSORS, WIDEN
from lamoid.weights.adapter_config import CONFIG, AdapterConfig, Scale
from lamoid.weights.adapter_names import WEIGHT, FileModule, Layout, Member, file_layout, module_path
from lamoid.weights.durable import Draft
from lamoid.weights.names import TABLE, Naming, join
from lamoid.weights.write import TensorWriter

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class _Own:
    """An adapter on one map: what its spec says, its numbers, and the matrix that it adapts."""

    spec: AdapterSpec
    low: LowRank
    weight: Tensor


def save_adapter(
    model: LanguageModel,
    draft: Draft,
    name: str,
    naming: Naming,
    *,
    base: str | None = None,
    whole: Collection[str] = (),
) -> None:
    """Write adapter_config.json and adapter_model.safetensors; ``base`` is what the base model is called in it.

    Where the files join several maps in one module, their adapters are joined too: ranks add up, block by block,
    unless the maps read the same ``narrow``. ``whole`` names modules of the model that are held as a whole. Raise
    ``InputError`` for a name that the model has no adapter of, and adapters of several kinds under one name.
    """
    layout = file_layout(model.spec, naming)
    own = _own(model, name)
    joined = {
        module.name: _joined(model, module, own)
        for module in layout.modules.values()
        if any(member.path in own for member in module.members)
    }
    kinds: set[tuple[type, Scale, float]] = {(type(x.spec), x.spec.scale, x.spec.dropout) for x in own.values()}
    if len(kinds) != 1:
        problem = f"is on {len(own)} maps in {len(kinds)} kinds"
        raise InputError(f"adapter {name[:80]}", problem, _ALIKE)
    kind, scale, dropout = kinds.pop()
    tensors, saved = _whole(model, layout, whole)
    for module, (numbers, _) in joined.items():
        tensors |= {f"{PREFIX}{module}.{key}": value for key, value in numbers.items()}
    ranks = {module: len(numbers[f"{NARROW}{WEIGHT}"]) for module, (numbers, _) in joined.items()}
    alphas = {module: alpha for module, (_, alpha) in joined.items()}
    rank, alpha = _commonest(list(ranks.values())), _commonest(list(alphas.values()))
    config = AdapterConfig(
        rank=rank,
        alpha=alpha,
        scale=scale,
        has_magnitude=kind is DoraSpec,
        dropout=dropout,
        ranks=tuple((f"^{module}", other) for module, other in ranks.items() if other != rank),
        alphas=tuple((f"^{module}", other) for module, other in alphas.items() if other != alpha),
        targets=_targets(list(joined), layout),
        saved=tuple(saved),
        base=base,
    )
    draft.write(CONFIG, config.encode())
    order = sorted(tensors, key=lambda key: (-tensors[key].dtype.itemsize, key))
    infos = [(key, tensors[key].dtype, tuple(tensors[key].shape)) for key in order]
    writer = TensorWriter(draft, infos, shard_bytes=1 << 62, single=TENSORS)
    for key in order:
        writer.write(tensors[key])
    writer.finish()


def _own(model: LanguageModel, name: str) -> dict[str, _Own]:
    """Find the adapter of a name on each map, by the path of the map's spec."""
    parts = {part.path: part for part in adapted_parts(model)}
    found: dict[str, _Own] = {}
    for path, linear in linear_maps(model.spec):
        part = parts.get(module_path(model.spec, path))
        if part is None or isinstance(linear, DenseSpec):
            continue
        for spec, low in zip(linear.adapters, part.adapters.parts, strict=True):
            if spec.name == name:
                found[path] = _Own(spec, low, part.weight)
    return found


def _joined(model: LanguageModel, module: FileModule, own: Mapping[str, _Own]) -> tuple[dict[str, Tensor], float]:
    """Give the tensors of a module's adapter, and its alpha."""
    there = [own[member.path] for member in module.members if member.path in own]
    first = there[0]
    narrows: list[Tensor] = []
    for each in there:
        if not any(torch.equal(each.low.narrow, other) for other in narrows):
            narrows.append(each.low.narrow.detach())
    rank = sum(len(narrow) for narrow in narrows)
    widens: dict[str, Tensor] = {}
    magnitudes: dict[str, Tensor] = {}
    for member, key in zip(module.members, module.row.ours, strict=True):
        each = own.get(member.path)
        widens[key] = _widen(member, each, narrows, rank, first)
        if first.low.magnitude is not None:
            magnitudes[key] = _magnitude(model, each, key)
    row = replace(module.row, transposed=False)
    numbers = {f"{NARROW}{WEIGHT}": torch.cat(narrows), f"{WIDEN}{WEIGHT}": join(row, widens)}
    if magnitudes:
        numbers[MAGNITUDE] = join(row, magnitudes)
    return {key: value.contiguous() for key, value in numbers.items()}, _alpha(first.low.factor, first.spec, rank)


def _widen(member: Member, each: _Own | None, narrows: Sequence[Tensor], rank: int, first: _Own) -> Tensor:
    """Give a map's rows of the joined ``widen``: zeros but for the columns of its own ``narrow``."""
    widen = first.low.widen.detach().new_zeros(member.outputs, rank)
    if each is None:
        return widen
    begin = 0
    for narrow in narrows:
        if torch.equal(narrow, each.low.narrow):
            scaled = each.low.widen.detach()
            if each.low.factor != first.low.factor:
                scaled = (scaled.to(wide(scaled)) * (each.low.factor / first.low.factor)).to(scaled.dtype)
            widen[:, begin : begin + len(narrow)] = scaled
            break
        begin += len(narrow)
    return widen


def _magnitude(model: LanguageModel, each: _Own | None, key: str) -> Tensor:
    """Give the lengths of a map's rows; those that the rows have where the map is not adapted."""
    if each is None:
        weight = model.get_parameter(key).detach()
        return torch.linalg.vector_norm(weight.to(wide(weight)), dim=1).to(weight.dtype)
    if each.low.magnitude is None:
        raise InputError(f"adapter {each.low.name}", f"is a LoRA and a DoRA in one module of the files ({key})", _ALIKE)
    return each.low.magnitude.detach()


def _whole(model: LanguageModel, layout: Layout, paths: Collection[str]) -> tuple[dict[str, Tensor], dict[str, None]]:
    """Give the tensors of modules that are held as a whole, and what the files call these modules."""
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    tensors: dict[str, Tensor] = {}
    names: dict[str, None] = {}
    for row in layout.rows:
        if any(name == path or name.startswith(f"{path}.") for path in paths for name in row.ours):
            tensors[f"{PREFIX}{row.theirs}"] = join(row, parameters).contiguous()
            names[row.theirs.rpartition(".")[0]] = None
            if TABLE in row.ours:
                _add_tied(model, layout, parameters[TABLE], tensors, names)
    return tensors, names


def _add_tied(
    model: LanguageModel, layout: Layout, table: Tensor, tensors: dict[str, Tensor], names: dict[str, None]
) -> None:
    """Add the matrix of each output that is tied to a table held as a whole: peft leaves such an output the base's."""
    for module in layout.modules.values():
        linear = part_at(model.spec, module.members[0].path)
        if isinstance(linear, TiedSpec):
            inside = ".base_layer" if linear.adapters else ""
            tensors[f"{PREFIX}{module.name}{inside}{WEIGHT}"] = table.clone()
            names |= {} if linear.adapters else {module.name: None}


def _alpha(factor: float, spec: AdapterSpec, rank: int) -> float:
    """Give the alpha with which so many ranks have the factor."""
    if rank == spec.rank:
        return spec.alpha
    return factor * (rank**0.5 if spec.scale == "root" else rank)


def _targets(modules: Collection[str], layout: Layout) -> tuple[str, ...]:
    """Name the modules by the ends of their names where all of these are meant, else in full."""
    ends = {module.rpartition(".")[2] for module in modules}
    meant = {name for name in layout.modules if name.rpartition(".")[2] in ends}
    return tuple(sorted(ends if meant == set(modules) else modules))


def _commonest(values: Sequence[Number]) -> Number:
    return max(values, key=lambda value: (values.count(value), value))


_ALIKE = "name an adapter of the model that is of one kind everywhere"
