"""Parameters that several modules have in common, by rules over the paths of the modules."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec
import torch
from torch import Tensor, nn

from lamoid.assembly.bounds import whole
from lamoid.errors import InputError

_PIECE = re.compile(r"\*|[A-Za-z_][A-Za-z0-9_]*|\d{1,9}|-?\d{0,9}:-?\d{0,9}(:\d{0,9})?")


class ShareSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All modules that ``paths`` name have the parameters of the first of them.

    A path is written as in the spec, ``blocks.3.feedforward``; a piece of it may be ``*`` for anything, or a slice of
    numbers as Python writes it: ``blocks.::2`` is every second block, ``blocks.1:`` all but the first.
    """

    paths: tuple[str, ...]

    def __post_init__(self) -> None:
        whole("share.number of paths", len(self.paths), 1, 10_000)
        for path in self.paths:
            if len(path) > 1000 or not all(_PIECE.fullmatch(piece) for piece in path.split(".")):
                cure = "write names, numbers, * or slices such as ::2, joined by dots"
                raise InputError("share.paths", f"{path[:80]!r} is no path", cure)


def share(root: nn.Module, rules: Sequence[ShareSpec]) -> None:
    """Let the modules of each rule have the parameters of the rule's first module.

    Raise ``InputError`` for a path that matches nothing, a rule with one module only, modules that differ in their
    parameters, a module that shares with a part of itself, and a tensor that falls under two rules.
    """
    taken: dict[str, int] = {}
    for number, rule in enumerate(rules):
        members = matched_modules(root, rule, number)
        first, *others = members
        _claim(root, members, number, taken)
        for path in others:
            _lend(root, first, path, number)


def matched_modules(root: nn.Module, rule: ShareSpec, number: int = 0) -> list[str]:
    """Give the paths of a rule's modules in the order in which the model has them."""
    found: dict[str, None] = {}
    for pattern in rule.paths:
        matches = list(_match(root, pattern.split("."), ""))
        if not matches:
            raise InputError(f"sharing.{number}.paths", f"{pattern!r} matches no module", "look at `lamoid info`")
        found.update(dict.fromkeys(matches))
    order = {name: place for place, (name, _) in enumerate(root.named_modules())}
    members = sorted(found, key=order.__getitem__)
    if len(members) < 2:
        problem = f"match {members[0]!r} alone, so there is nothing to share it with"
        raise InputError(f"sharing.{number}.paths", problem, "name at least two modules")
    for path in members:
        inside = next((other for other in members if other.startswith(path + ".")), None)
        if inside is not None:
            problem = f"let {path!r} share with its own part {inside!r}, which would go round in a circle"
            raise InputError(f"sharing.{number}.paths", problem, "name modules that do not contain each other")
    return members


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
    """Make these tensors the parameters of that name wherever they are shared; a ``Parameter`` stays the same object."""
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


def _claim(root: nn.Module, members: list[str], number: int, taken: dict[str, int]) -> None:
    """Note whose rule every tensor is, and refuse a second one."""
    for path in members:
        for name, _ in root.get_submodule(path).named_parameters(remove_duplicate=False):
            whole_name = f"{path}.{name}"
            other = taken.setdefault(whole_name, number)
            if other != number:
                problem = f"falls under the rules {other} and {number}"
                raise InputError(f"sharing: {whole_name}", problem, "leave it to one of them, or join the rules")


def _lend(root: nn.Module, first: str, path: str, number: int) -> None:
    """Give the module at ``path`` the parameters of the one at ``first``."""
    lender, borrower = root.get_submodule(first), root.get_submodule(path)
    ours = dict(lender.named_parameters(remove_duplicate=False))
    theirs = dict(borrower.named_parameters(remove_duplicate=False))
    shapes, wanted = ({name: tuple(p.shape) for name, p in side.items()} for side in (ours, theirs))
    if shapes != wanted:
        name = next(name for name in [*shapes, *wanted] if shapes.get(name) != wanted.get(name))
        problem = f"{first}.{name} is {_show(shapes.get(name))}, {path}.{name} is {_show(wanted.get(name))}"
        raise InputError(f"sharing.{number}", problem, "share modules of the same spec")
    for name, parameter in ours.items():
        owner, _, key = name.rpartition(".")
        setattr(borrower.get_submodule(owner), key, parameter)


def _show(shape: tuple[int, ...] | None) -> str:
    return "not there" if shape is None else " x ".join(map(str, shape))
