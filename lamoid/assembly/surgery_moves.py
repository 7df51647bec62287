"""Moves: named surgery. Those that preserve change a model's answers by rounding only, at the moment of the move."""

import re
from collections.abc import Collection

import msgspec
import torch
from torch import Tensor, nn

from lamoid.assembly.attention import AttentionSpec, CrossAttentionSpec, FullNormSpec
from lamoid.assembly.block import BlockSpec, OutputSpec, PostSpec, SandwichSpec
from lamoid.assembly.bounds import whole
from lamoid.assembly.experts import ExpertsSpec
from lamoid.assembly.feedforward import GatedSpec, PlainSpec
from lamoid.assembly.initialise import LAST_OF_RESIDUAL
from lamoid.assembly.linear import with_bias
from lamoid.assembly.model import LanguageModel, empty_model
from lamoid.assembly.norm import LayerNorm, RMSNorm, UnitRMSNorm
from lamoid.assembly.paths import Spec, part_at, with_part
from lamoid.assembly.sharing import matching
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.surgery import Change, Parameters, transplant
from lamoid.assembly.surgery_sharing import followed_rules
from lamoid.errors import InputError

FAR_BELOW = 30.0


def insert(model: LanguageModel, path: str, block: BlockSpec | None = None, *, seed: int = 0) -> Change:
    """Put a new block at ``path`` (``blocks.2``), before the one that stands there or behind the last; preserving.

    Without ``block`` it is of the same spec as the one before it. What ends its branches starts at zero: the output
    projections or, where a norm follows them (orders "output" and "sandwich"), the gain of that norm, for a norm of
    nothing has a slope of 1 / sqrt(epsilon), and the first step would be a leap. In the order "post" the stream itself
    is normalised, so ``InputError``. Rules of sharing go on to hold for the modules that they held for.
    """
    row, index, listed = _list_at(model.spec, path)
    chosen = _insertable(path, listed[max(0, index - 1)] if block is None else block)
    spec = with_part(model.spec, row, (*listed[:index], chosen, *listed[index:]))

    def before(name: str) -> str | None:
        number, rest = _split(name, row)
        return name if number is None or number < index else None if number == index else f"{row}.{number - 1}{rest}"

    def after(name: str) -> str:
        number, rest = _split(name, row)
        return name if number is None or number < index else f"{row}.{number + 1}{rest}"

    spec = followed_rules(model, spec, after)
    fresh = empty_model(spec)

    def fill(new: Parameters, old: Parameters) -> None:
        for name, value in _silenced(path, fresh.get_submodule(path), chosen):
            new[f"{path}.{name}"].fill_(value)

    return transplant(model, fresh, before=before, fill=fill, seed=seed, is_preserving=True)


def widen(model: LanguageModel, path: str, hidden: int, *, seed: int = 0) -> Change:
    """Give the feed-forwards at ``path`` (``blocks.*.feedforward``) ``hidden`` units; preserving.

    The new units are drawn, and their output weights are zero. A mixture's experts are named one level deeper,
    ``blocks.3.feedforward.experts.*``.
    """
    spec, places = model.spec, _places(model, path, (PlainSpec, GatedSpec))
    for place in places:
        part = part_at(model.spec, place)
        if hidden <= part.hidden:
            raise InputError(f"{place}.hidden", f"is {part.hidden}, asked for {hidden}", "ask for more units")
        spec = with_part(spec, place, msgspec.structs.replace(part, hidden=hidden))

    def fill(new: Parameters, old: Parameters) -> None:
        for place in places:
            for name in _names_in(new, place):
                if re.fullmatch(r"down\.(weight|adapters\.\d+\.narrow)", name.removeprefix(f"{place}.")):
                    new[name].zero_()
                    new[name][:, : old[name].shape[1]] = old[name]
                elif new[name] is not old[name]:
                    new[name][: len(old[name])] = old[name]

    return transplant(model, empty_model(spec), inside=places, fill=fill, seed=seed, is_preserving=True)


def set_kv_heads(model: LanguageModel, path: str, kv_heads: int) -> Change:
    """Give the attentions at ``path`` so many key and value heads.

    More are copies of those that the same queries read, which preserves; fewer are averages of neighbours, as in
    Ainslie et al. (2023), which does not.
    """
    spec, places = model.spec, _places(model, path, (AttentionSpec, CrossAttentionSpec))
    for place in places:
        part = part_at(model.spec, place)
        whole(f"{place}.kv_heads", kv_heads, 1, part.heads)
        if max(kv_heads, part.kv_heads) % min(kv_heads, part.kv_heads):
            problem = f"is {part.kv_heads}, asked for {kv_heads}"
            raise InputError(f"{place}.kv_heads", problem, "ask for a multiple or a divisor")
        spec = with_part(spec, place, msgspec.structs.replace(part, kv_heads=kv_heads))

    def fill(new: Parameters, old: Parameters) -> None:
        for place in places:
            part = part_at(model.spec, place)
            owners = ["key", "value"] + ["key_norm"] * isinstance(part.query_key_norm, FullNormSpec)
            for name in [name for owner in owners for name in _names_in(new, f"{place}.{owner}")]:
                if new[name] is not old[name]:  # what reads the stream stays
                    new[name].copy_(_regrouped(old[name], part.kv_heads, kv_heads))

    is_preserving = all(kv_heads >= part_at(model.spec, place).kv_heads for place in places)
    return transplant(model, empty_model(spec), inside=places, fill=fill, is_preserving=is_preserving)


def to_experts(
    model: LanguageModel, path: str, experts: int, *, chosen: int = 2, balance: float = 0.01, seed: int = 0
) -> Change:
    """Make the feed-forwards at ``path`` mixtures of so many copies of themselves; preserving.

    The router is drawn; the weights of the ``chosen`` are normalised, so that equal experts answer as one did.
    """
    spec, places = model.spec, _places(model, path, (PlainSpec, GatedSpec))
    for place in places:
        copies = (part_at(model.spec, place),) * experts
        spec = with_part(spec, place, ExpertsSpec(experts=copies, chosen=chosen, balance=balance))

    def before(name: str) -> str | None:
        for place in places:
            number, rest = _split(name, f"{place}.experts")
            if number is not None:
                return place + rest
        return name

    return transplant(model, empty_model(spec), before=before, seed=seed, is_preserving=True)


def add_expert(
    model: LanguageModel,
    path: str,
    expert: PlainSpec | GatedSpec | None = None,
    *,
    below: float = FAR_BELOW,
    seed: int = 0,
) -> Change:
    """Add an expert to the mixtures at ``path``, its gate's bias ``below`` the others', so that nobody picks it.

    Preserving; ``set_gate`` raises the bias while the model trains. Without ``expert`` it is of the same spec as the
    last one; its weights are drawn.
    """
    spec, places = model.spec, _places(model, path, (ExpertsSpec,))
    for place in places:
        part = part_at(model.spec, place)
        more = (*part.experts, part.experts[-1] if expert is None else expert)
        router = with_bias(part.router)
        spec = with_part(spec, place, msgspec.structs.replace(part, experts=more, router=router))

    def fill(new: Parameters, old: Parameters) -> None:
        for place in places:
            weight, bias = f"{place}.router.weight", f"{place}.router.bias"
            new[weight][: len(old[weight])] = old[weight]
            if bias in old:
                new[bias][:-1] = old[bias]
            _set_last(new[bias], below)

    inside = [f"{place}.router" for place in places]
    return transplant(model, empty_model(spec), inside=inside, fill=fill, seed=seed, is_preserving=True)


@torch.no_grad()
def set_gate(bias: Tensor, expert: int, below: float, rising: Collection[int] = ()) -> None:
    """Set an expert's entry in the (experts,) bias of a router to ``below`` the average of the others.

    Those that are ``rising`` themselves do not count.
    """
    others = [number for number in range(len(bias)) if number != expert and number not in rising]
    bias[expert] = bias[others].mean() - below


def _set_last(bias: Tensor, below: float) -> None:
    set_gate(bias, len(bias) - 1, below)


def _insertable(path: str, block: Spec) -> BlockSpec:
    if not isinstance(block, BlockSpec):
        raise InputError(path, f"is to be a {type(block).__name__}", "insert a block")
    if isinstance(block.order, PostSpec):
        problem = "normalises the stream itself, so no new block leaves it as it is"
        raise InputError(f"{path}.order", problem, "insert a block of another order, or replace the list of blocks")
    return block


def _silenced(path: str, block: nn.Module, spec: BlockSpec) -> list[tuple[str, float]]:
    """Give the names of what ends a block's branches, with the value that makes the branches give nothing."""
    found: list[tuple[str, float]] = []
    inside = dict(block.named_modules())
    for branch in [branch for branch in ("mixer", "feedforward") if branch in inside]:
        norm = {OutputSpec: f"norm_{branch}", SandwichSpec: f"after_{branch}"}.get(type(spec.order), "")
        module = inside.get(norm) if norm else None
        if isinstance(module, RMSNorm | LayerNorm):
            found.append((f"{norm}.weight", -1.0 if isinstance(module, UnitRMSNorm) else 0.0))
            continue
        names = [name for name, _ in block.named_parameters() if name.startswith(f"{branch}.")]
        # What is drawn smaller because it ends a branch, with its bias; in a mixture every expert has one.
        ends = [name.removesuffix("weight") for name in names if name.endswith(LAST_OF_RESIDUAL)]
        if not ends:
            raise InputError(f"{path}.{branch}", "has no output projection to start at zero", "insert another kind")
        # An adapter's product is zero already; were both its matrices, it would never learn.
        found += [(name, 0.0) for name in names if name.startswith(tuple(ends)) and not name.endswith(".narrow")]
    return found


def _regrouped(tensor: Tensor, old: int, new: int) -> Tensor:
    """Turn (old x D, ...) rows, head by head, into (new x D, ...): repeat neighbours, or average them."""
    heads = tensor.view(old, -1, *tensor.shape[1:])
    if new >= old:
        return heads.repeat_interleave(new // old, dim=0).flatten(0, 1)
    return heads.view(new, old // new, *heads.shape[1:]).mean(1).flatten(0, 1)


def _places(model: LanguageModel, pattern: str, kinds: tuple[type, ...]) -> list[str]:
    """Give the paths that a pattern names, all of these kinds."""
    places = matching(model, pattern)
    if not places:
        part_at(model.spec, pattern)
        raise InputError(pattern, "matches no module", "look at `lamoid info`")
    for place in places:
        part = part_at(model.spec, place)
        if not isinstance(part, kinds):
            wanted = " or ".join(str(kind.__struct_config__.tag) for kind in kinds)
            kind = getattr(type(part).__struct_config__, "tag", None) if isinstance(part, msgspec.Struct) else None
            raise InputError(place, f"is {kind or 'a list'}, must be {wanted}", "name another path")
    return places


def _list_at(spec: ModelSpec, path: str) -> tuple[str, int, tuple[Spec, ...]]:
    """Give the path of the list in which ``path`` names a place, the place, and the list."""
    row, _, last = path.rpartition(".")
    listed = part_at(spec, row) if row.rpartition(".")[2] == "blocks" else None
    if not isinstance(listed, tuple) or last not in map(str, range(len(listed) + 1)):
        count = f"0 to {len(listed)}" if isinstance(listed, tuple) else "a number"
        raise InputError(path[:200] or "path", "names no place in a list of blocks", f"write blocks.N, N being {count}")
    return row, int(last), listed


def _split(name: str, row: str) -> tuple[int | None, str]:
    """Part a name into its number in a list of modules and the rest; ``None`` if it is not in there."""
    if not name.startswith(f"{row}."):
        return None, name
    number, dot, rest = name[len(row) + 1 :].partition(".")
    return (int(number), dot + rest) if number.isdecimal() else (None, name)


def _names_in(parameters: Parameters, place: str) -> list[str]:
    return [name for name in parameters if name.startswith(f"{place}.")]
