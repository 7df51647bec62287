"""Which parameters are trained alike: what follows from their paths, and what a recipe says of some of them."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
from torch import Tensor, nn

from lamoid.assembly.bounds import at_least_zero, positive, whole
from lamoid.errors import InputError

Group = Literal["block_matrices", "tables", "vectors"]
Named = Sequence[tuple[str, nn.Parameter]]
MOST_GROUPS, MOST_PATHS = 100, 10_000
_PIECE = re.compile(r"\*|[A-Za-z_][A-Za-z0-9_]*|\d{1,9}|-?\d{0,9}:-?\d{0,9}(:([1-9]\d{0,8})?)?")


class GroupSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the parameters that ``paths`` name are trained; of several groups the first that names one has it.

    A path is that of a module or of a parameter, ``blocks.0.mixer`` or ``embedding.tokens.weight``, with ``*`` for any
    name and slices of numbers, ``blocks.:2``. ``learning_rate`` is the group's own peak; ``factor`` multiplies the one
    that its parameters would have. ``weight_decay`` holds for all of them, vectors too.
    """

    paths: tuple[str, ...]
    learning_rate: float | None = None
    factor: float = 1.0
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        whole("groups.number of paths", len(self.paths), 1, MOST_PATHS)
        for path in self.paths:
            if len(path) > 1000 or not all(_PIECE.fullmatch(piece) for piece in path.split(".")):
                cure = "write names, numbers, * or slices such as ::2, joined by dots"
                raise InputError("groups.paths", f"{path[:80]!r} is no path", cure)
        positive("groups.factor", self.factor)
        if self.learning_rate is not None:
            positive("groups.learning_rate", self.learning_rate)
            if self.factor != 1.0:
                raise InputError("groups.factor", "is set beside learning_rate", "choose one of the two")
        if self.weight_decay is not None:
            at_least_zero("groups.weight_decay", self.weight_decay)


def trained_parameters(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Give the parameters that are not frozen, each by the first name that the model has for it."""
    return [(path, parameter) for path, parameter in model.named_parameters() if parameter.requires_grad]


def group_of(path: str, parameter: Tensor) -> Group:
    """Say which rule a parameter falls under: the matrices of the blocks, the other matrices, or the vectors.

    The tables of a stack among the blocks, and of positions, are tables; a group's models stand before ``blocks``.
    Experts whose matrices are stacked to (experts, rows, columns) are matrices.
    """
    if parameter.ndim < 2:
        return "vectors"
    pieces = path.split(".")
    is_inside = "blocks" in pieces and not {"heads", "embedding", "position"} & set(pieces)
    is_stack = parameter.ndim == 3 and "experts" in pieces
    return "block_matrices" if is_inside and (parameter.ndim == 2 or is_stack) else "tables"


def check_groups(groups: Sequence[GroupSpec], names: Iterable[str]) -> None:
    """Raise ``InputError`` naming a path that no parameter of ``names`` stands at, or that others took before."""
    tree, taken = _tree(names), set()
    for number, group in enumerate(groups):
        mine = 0
        for path in group.paths:
            found = _matched(tree, path)
            if not found:
                cure = (
                    "look at `lamoid info`; what is frozen or tied to something before it is not trained by this name"
                )
                raise InputError(f"optimizer.groups[{number}].paths", f"{path!r} matches no trained parameter", cure)
            mine += len(found - taken)
            taken |= found
        if not mine:
            problem = "name only what the groups before have already"
            raise InputError(f"optimizer.groups[{number}].paths", problem, "put the narrower group first")


def torch_groups(named: Named, groups: Sequence[GroupSpec], rate: float, decay: float) -> list[dict[str, Any]]:
    """Give torch's parameter groups, those without a group of their own first.

    Each has its learning rate at the schedule's peak as ``peak`` too; the decay acts on matrices only, unless a group
    says otherwise.
    """
    members: dict[int, list[tuple[str, nn.Parameter]]] = {number: [] for number in range(-1, len(groups))}
    numbers = _numbers([path for path, _ in named], groups)
    for path, parameter in named:
        members[numbers.get(path, -1)].append((path, parameter))
    found = []
    for number, listed in members.items():
        group = groups[number] if number >= 0 else None
        peak = rate if group is None else group.learning_rate or rate * group.factor
        said = None if group is None else group.weight_decay
        matrices = [pair for pair in listed if group_of(*pair) != "vectors"]
        vectors = [pair for pair in listed if group_of(*pair) == "vectors"]
        for part, own in ((matrices, decay if said is None else said), (vectors, said or 0.0)):
            if part:
                found.append({"params": part, "lr": peak, "peak": peak, "weight_decay": own})
    return found


def _numbers(names: Sequence[str], groups: Sequence[GroupSpec]) -> dict[str, int]:
    """Give the number of the first group that each name falls under."""
    tree = _tree(names) if groups else {}
    found: dict[str, int] = {}
    for number, group in enumerate(groups):
        for path in group.paths:
            for name in _matched(tree, path):
                found.setdefault(name, number)
    return found


def _tree(names: Iterable[str]) -> dict[str, Any]:
    """Nest dotted names by their pieces."""
    tree: dict[str, Any] = {}
    for name in names:
        place = tree
        for piece in name.split("."):
            place = place.setdefault(piece, {})
    return tree


def _matched(tree: Mapping[str, Any], path: str) -> set[str]:
    """Give the names that stand at a path or below it."""
    return set(_walk(tree, path.split("."), ""))


def _walk(tree: Mapping[str, Any], pieces: Sequence[str], path: str) -> Iterator[str]:
    if not tree and not pieces:
        yield path
        return
    for name in _chosen(list(tree), pieces[0]) if pieces else tree:
        yield from _walk(tree[name], pieces[1:], f"{path}.{name}" if path else name)


def _chosen(names: list[str], piece: str) -> Iterable[str]:
    if piece == "*":
        return names
    if ":" in piece:
        numbered = sorted((name for name in names if name.isdigit()), key=int)
        begin, end, *step = (int(part) if part else None for part in piece.split(":"))
        return numbered[slice(begin, end, (step[0] if step else None) or None)]
    return [piece] if piece in names else []
