"""Parameters that several modules have in common, by rules over the paths of the modules."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
import torch
from torch import Tensor, nn

from lamoid.assembly.bounds import whole
from lamoid.errors import InputError

MOST_RULES, MOST_PATHS, MOST_MATCHES = 1000, 10_000, 100_000
_PIECE = re.compile(r"\*|[A-Za-z_][A-Za-z0-9_]*|\d{1,9}|-?\d{0,9}:-?\d{0,9}(:([1-9]\d{0,8})?)?")


class ShareSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All modules that ``paths`` name have the parameters of the first of them.

    A path is written as in the spec, ``blocks.3.feedforward``; a piece of it may be ``*`` for anything, or a slice of
    numbers as Python writes it: ``blocks.::2`` is every second block, ``blocks.1:`` all but the first.
    """

    paths: tuple[str, ...]

    def __post_init__(self) -> None:
        whole("share.number of paths", len(self.paths), 1, MOST_PATHS)
        for path in self.paths:
            if len(path) > 1000 or not all(_PIECE.fullmatch(piece) for piece in path.split(".")):
                cure = "write names, numbers, * or slices such as ::2, joined by dots"
                raise InputError("share.paths", f"{path[:80]!r} is no path", cure)


def share(root: nn.Module, rules: Sequence[ShareSpec], places: Sequence[str] = ()) -> None:
    """Let the modules of each rule have the parameters of the rule's first module.

    ``places`` says where each rule is written, ``sharing.N`` by default. Raise ``InputError`` for a path that matches
    nothing, a rule with one module only or without any parameter, modules that differ in their parameters, a module
    that shares with a part of itself, and a tensor that falls under two rules; the model then is as before.
    """
    for (first, *others), place in zip(check_rules(root, rules, places), _places(rules, places), strict=True):
        for path in others:
            for ours, theirs in matching_parameters(root, first, path, place):
                _set(root, theirs, root.get_parameter(ours))


@torch.no_grad()
def unshare(root: nn.Module, rule: ShareSpec, place: str = "sharing") -> dict[str, str]:
    """Give each module of a rule but the first a copy of its own of every parameter that it shares with the first.

    What is shared inside of a module stays shared there. Give the new parameters' names with those they are copies of.
    """
    first, *others = matched_modules(root, rule, place)
    copied: dict[str, str] = {}
    for path in others:
        copies: dict[int, nn.Parameter] = {}
        for ours, theirs in matching_parameters(root, first, path, place):
            lent = root.get_parameter(ours)
            if root.get_parameter(theirs) is not lent:
                continue
            if id(lent) not in copies:
                copies[id(lent)] = nn.Parameter(lent.detach().clone(), lent.requires_grad)
                copied[theirs] = ours
            _set(root, theirs, copies[id(lent)])
    return copied


def check_rules(root: nn.Module, rules: Sequence[ShareSpec], places: Sequence[str] = ()) -> list[list[str]]:
    """Give the modules of each rule, first the one that lends; raise what ``share`` raises, and change nothing."""
    whole("number of sharing rules", len(rules), 0, MOST_RULES)
    taken: dict[str, str] = {}
    found = []
    order = _order(root) if rules else {}
    for rule, place in zip(rules, _places(rules, places), strict=True):
        members = _matched(root, rule, place, order)
        for path in members:
            matching_parameters(root, members[0], path, place)
        _claim(root, members, place, taken)
        found.append(members)
    return found


def matched_modules(root: nn.Module, rule: ShareSpec, place: str = "sharing") -> list[str]:
    """Give the paths of a rule's modules in the order in which the model has them."""
    return _matched(root, rule, place, _order(root))


def _order(root: nn.Module) -> dict[str, int]:
    """Give every module's path with its number."""
    return {name: number for number, (name, _) in enumerate(root.named_modules())}


def _matched(root: nn.Module, rule: ShareSpec, place: str, order: Mapping[str, int]) -> list[str]:
    culprit, matched = f"{place}.paths", 0
    found: dict[str, None] = {}
    for pattern in rule.paths:
        # A path without a choice is looked up: a rule may write each of 10^4 modules out.
        matches = [pattern] if pattern in order else matching(root, pattern)
        matched += len(matches)
        if not matches:
            raise InputError(culprit, f"{pattern!r} matches no module", "look at `lamoid info`")
        if matched > MOST_MATCHES:
            raise InputError(culprit, f"match more than {MOST_MATCHES} modules", "name each module once")
        found.update(dict.fromkeys(matches))
    members = sorted(found, key=order.__getitem__)
    if len(members) < 2:
        problem = f"match {members[0]!r} alone, so there is nothing to share it with"
        raise InputError(culprit, problem, "name at least two modules")
    for path in members:
        pieces = path.split(".")
        around = next((whole for end in range(1, len(pieces)) if (whole := ".".join(pieces[:end])) in found), None)
        if around is not None:
            problem = f"let {around!r} share with its own part {path!r}, which would go round in a circle"
            raise InputError(culprit, problem, "name modules that do not contain each other")
    return members


def matching_parameters(root: nn.Module, first: str, path: str, place: str) -> list[tuple[str, str]]:
    """Pair the names of the parameters in two modules; ``InputError`` if they differ in names or shapes, or are none.

    A parameter that stands at several places in a module is named at each.
    """
    shapes, wanted = (
        {
            name: tuple(parameter.shape)
            for name, parameter in root.get_submodule(side).named_parameters(remove_duplicate=False)
        }
        for side in (first, path)
    )
    if shapes != wanted:
        name = next(name for name in [*shapes, *wanted] if shapes.get(name) != wanted.get(name))
        problem = f"{first}.{name} is {_show(shapes.get(name))}, {path}.{name} is {_show(wanted.get(name))}"
        raise InputError(place, problem, "share modules of the same spec")
    if not shapes:
        raise InputError(f"{place}.paths", f"match {first!r}, which has no parameter", "name modules that have some")
    return [(f"{first}.{name}", f"{path}.{name}") for name in shapes]


def matching(root: nn.Module, pattern: str) -> list[str]:
    """Give the paths of the modules that a path of a rule names."""
    return list(_match(root, pattern.split("."), ""))


def named_owners(root: nn.Module) -> dict[str, list[tuple[nn.Module, str]]]:
    """Give, for each parameter by its name, all modules that have it and what they call it."""
    names = {id(parameter): name for name, parameter in root.named_parameters()}
    owners: dict[str, list[tuple[nn.Module, str]]] = {name: [] for name in names.values()}
    for module in root.modules():
        for key, parameter in module.named_parameters(recurse=False):
            owners[names[id(parameter)]].append((module, key))
    return owners


@torch.no_grad()
def put_parameters(root: nn.Module, tensors: Mapping[str, Tensor | nn.Parameter]) -> None:
    """Make these tensors the parameters of that name, wherever shared; a ``Parameter`` stays the same object."""
    owners = named_owners(root)
    for name, tensor in tensors.items():
        parameter = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor)
        for module, key in owners[name]:
            setattr(module, key, parameter)


def _match(module: nn.Module, pieces: Sequence[str], path: str) -> Iterator[str]:
    if not pieces:
        yield path
        return
    for name in _chosen([name for name, _ in module.named_children()], pieces[0]):
        yield from _match(getattr(module, name), pieces[1:], f"{path}.{name}" if path else name)


def _chosen(names: list[str], piece: str) -> Iterable[str]:
    if piece == "*":
        return names
    if ":" in piece:
        numbered = [name for name in names if name.isdigit()]
        begin, end, *step = (int(part) if part else None for part in piece.split(":"))
        return numbered[slice(begin, end, (step[0] if step else None) or None)]
    return [piece] if piece in names else []


def _claim(root: nn.Module, members: list[str], place: str, taken: dict[str, str]) -> None:
    """Note whose rule every tensor is, and refuse a second one."""
    for path in members:
        for name, _ in root.get_submodule(path).named_parameters(remove_duplicate=False):
            whole_name = f"{path}.{name}"
            other = taken.setdefault(whole_name, place)
            if other != place:
                problem = f"{whole_name} falls under the rule {other} too"
                raise InputError(place, problem, "leave it to one of them, or join the rules")


def _set(root: nn.Module, name: str, parameter: nn.Parameter) -> None:
    owner, _, key = name.rpartition(".")
    setattr(root.get_submodule(owner), key, parameter)


def _places(rules: Sequence[ShareSpec], places: Sequence[str]) -> Sequence[str]:
    return places or [f"sharing.{number}" for number in range(len(rules))]


def _show(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else " x ".join(map(str, shape))
