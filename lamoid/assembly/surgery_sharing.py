"""Sharing changed in a live model: parameters tied and untied, and rules that follow modules to their new paths."""

from collections.abc import Callable, Sequence

import msgspec

from lamoid.assembly.heads import NextTokenSpec, TiedSpec
from lamoid.assembly.linear import AdaptedSpec, DenseSpec
from lamoid.assembly.model import LanguageModel, empty_model
from lamoid.assembly.paths import part_at, with_part
from lamoid.assembly.sharing import ShareSpec, matched_modules, matching
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.surgery import Change, transplant
from lamoid.errors import InputError


def tie(model: LanguageModel, paths: Sequence[str]) -> Change:
    """Let modules share the parameters of the first of them, from now on; the others' are removed."""
    rule = ShareSpec(tuple(paths))
    spec = msgspec.structs.replace(model.spec, sharing=(*model.spec.sharing, rule))
    return transplant(model, empty_model(spec))


def untie(model: LanguageModel, path: str) -> Change:
    """Split what is shared into parameters of its own, copies of what they were; preserving.

    ``path`` is a rule (``sharing.0``), a module that is to leave its rule (``blocks.3.feedforward``), or a head whose
    output matrix is the token table (``heads.next_token``).
    """
    if path.startswith("heads."):
        return _untie_head(model, path)
    rules = list(model.spec.sharing)
    if path.startswith("sharing."):
        part_at(model.spec, path)
        del rules[int(path.split(".")[1])]
    else:
        number, members = _rule_of(model, path)
        left = tuple(member for member in members if member != path)
        rules[number : number + 1] = [ShareSpec(left)] if len(left) > 1 else []
    fresh = empty_model(msgspec.structs.replace(model.spec, sharing=tuple(rules)))
    return transplant(model, fresh, is_preserving=True)


def followed_rules(model: LanguageModel, spec: ModelSpec, after: Callable[[str], str]) -> ModelSpec:
    """Let the rules of ``spec`` name what they named in ``model``; ``after`` says what a module is called now."""
    if not spec.sharing:
        return spec
    bare = empty_model(msgspec.structs.replace(spec, sharing=()))
    rules = []
    for number, rule in enumerate(spec.sharing):
        members = [after(path) for path in matched_modules(model, rule, f"sharing.{number}")]
        now = {path for pattern in rule.paths for path in matching(bare, pattern)}
        rules.append(rule if now == set(members) else ShareSpec(tuple(members)))
    return msgspec.structs.replace(spec, sharing=tuple(rules))


def _untie_head(model: LanguageModel, path: str) -> Change:
    """Give a head a matrix of its own, a copy of the token table."""
    head = part_at(model.spec, path)
    if not isinstance(head, NextTokenSpec) or not isinstance(head.linear, TiedSpec):
        raise InputError(path, "is not tied to the token table", "name a head that is")
    base, adapters = DenseSpec(bias=head.linear.bias), head.linear.adapters
    own = msgspec.structs.replace(head, linear=AdaptedSpec(adapters, base) if adapters else base)
    names = {f"{path}.linear.weight": "embedding.tokens.weight", f"{path}.linear.bias": f"{path}.bias"}

    def before(name: str) -> str:
        return names.get(name, name.replace(f"{path}.linear.adapters", f"{path}.adapters"))

    return transplant(model, empty_model(with_part(model.spec, path, own)), before=before, is_preserving=True)


def _rule_of(model: LanguageModel, path: str) -> tuple[int, list[str]]:
    """Give the number of the rule under which a module falls, and the rule's modules."""
    shared = []
    for number, rule in enumerate(model.spec.sharing):
        members = matched_modules(model, rule, f"sharing.{number}")
        if path in members:
            return number, members
        shared += members
    told = ", ".join(shared[:12]) or "none"
    raise InputError(path[:200], "is no module of a sharing rule", f"name one of those that are: {told}")
