"""Modules of a live group of models begin or cease to have their parameters in common."""

from collections.abc import Iterator

import msgspec
from torch import nn

from lamoid.assembly.group import GroupSpec, ModelGroup
from lamoid.assembly.sharing import ShareSpec, share, unshare
from lamoid.assembly.surgery import Change
from lamoid.errors import InputError


def tie(group: ModelGroup, rule: ShareSpec) -> Change:
    """Let a rule hold from now on: the first module's parameters stay, those of the others are removed.

    Raise ``InputError``, everything being as before, for what a spec's ``sharing`` would be refused for.
    """
    before = _names(group)
    rules = dict(group.spec.rules())
    share(group, [*rules.values(), rule], [*rules, "tie"])
    group.describe(msgspec.structs.replace(group.spec, sharing=(*group.spec.sharing, rule)))
    return _change(group, before, {}, is_preserving=False)


def untie(group: ModelGroup, rule: ShareSpec) -> Change:
    """Let a rule of the group cease: the first module keeps the parameters, the others begin with copies.

    Raise ``InputError`` if there is no such rule.
    """
    sharing = group.spec.sharing
    if rule not in sharing:
        known = "; ".join(" ".join(other.paths) for other in sharing)[:300]
        cure = f"untie a rule that holds: {known}" if known else "leave it out"
        raise InputError("untie.paths", f"{' '.join(rule.paths)[:100]!r} is no rule that holds now", cure)
    before = _names(group)
    copied = unshare(group, rule, "untie")
    left = tuple(other for other in sharing if other != rule)
    group.describe(msgspec.structs.replace(group.spec, sharing=left))
    return _change(group, before, copied, is_preserving=True)


def become(group: ModelGroup, spec: GroupSpec) -> Iterator[Change]:
    """Tie and untie until the models of a group share what ``spec`` says; ``InputError`` if the models are others."""
    if spec.models != group.spec.models:
        raise InputError("group.models", "are not those of this group", "resume with the recipe of the run")
    for rule in group.spec.sharing:
        if rule not in spec.sharing:
            yield untie(group, rule)
    for rule in spec.sharing:
        if rule not in group.spec.sharing:
            yield tie(group, rule)
    group.describe(spec)


def _names(root: nn.Module) -> dict[nn.Parameter, str]:
    return {parameter: name for name, parameter in root.named_parameters()}


def _change(
    group: ModelGroup, before: dict[nn.Parameter, str], copied: dict[str, str], *, is_preserving: bool
) -> Change:
    """Compare the parameters of before with those of now."""
    after = _names(group)
    kept = {name: after[parameter] for parameter, name in before.items() if parameter in after}
    added = tuple(name for parameter, name in after.items() if parameter not in before)
    removed = tuple(name for parameter, name in before.items() if parameter not in after)
    return Change(group.spec, kept, added, removed, copied, is_preserving)
