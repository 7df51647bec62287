"""Which modules of a model share parameters: found by the identity of the parameters, whatever rule made it so."""

from torch import nn

from lamoid.assembly.heads import NextTokenSpec, TiedSpec
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.paths import join

TABLE = "embedding.tokens"


def shared_groups(model: LanguageModel) -> list[list[str]]:
    """Give the paths of modules that have all their parameters in common, the largest such modules, group by group.

    A tied head belongs to the table that it reads.
    """
    found: dict[tuple[int, ...], list[str]] = {}
    _gather(model, "", found)
    tied = [f"heads.{name}" for name, head in model.spec.heads.items() if _is_tied(head)]
    groups = [_outermost(paths) for paths in found.values()]
    groups = [paths for paths in groups if len(paths) > 1]
    if tied:
        owner = next((paths for paths in groups if not {TABLE, "embedding"}.isdisjoint(paths)), None)
        if owner is None:
            whole = len(list(model.embedding.parameters())) == 1
            groups.append(["embedding" if whole else TABLE, *tied])
        else:
            owner.extend(tied)
    return _largest(groups)


def marks_of(groups: list[list[str]]) -> dict[str, str]:
    """Give each path the mark of its group: A, B, ... Z, A2, B2, ..."""
    return {path: _letter(number) for number, paths in enumerate(groups) for path in paths}


def _letter(number: int) -> str:
    return chr(ord("A") + number % 26) + (str(number // 26 + 1) if number >= 26 else "")


def _is_tied(head: object) -> bool:
    return isinstance(head, NextTokenSpec) and isinstance(head.linear, TiedSpec)


def _gather(module: nn.Module, path: str, found: dict[tuple[int, ...], list[str]]) -> tuple[int, ...]:
    """Sort all modules by the identities of their parameters, in order; lists and modules without any are left out."""
    signature = tuple(id(parameter) for parameter in module.parameters(recurse=False))
    for name, child in module.named_children():
        signature += _gather(child, join(path, name), found)
    if signature and path and not isinstance(module, nn.ModuleList | nn.ModuleDict):
        found.setdefault(signature, []).append(path)
    return signature


def _outermost(paths: list[str]) -> list[str]:
    """Leave out what lies in another of the paths."""
    outside: list[str] = []
    for path in sorted(paths):
        if not outside or not path.startswith(outside[-1] + "."):
            outside.append(path)
    return [path for path in paths if path in set(outside)]


def _largest(groups: list[list[str]]) -> list[list[str]]:
    """Leave out groups that say nothing new: all their modules lie in shared ones."""
    members = {path for paths in groups for path in paths}
    return [paths for paths in groups if not all(_ancestors(path) & members for path in paths)]


def _ancestors(path: str) -> set[str]:
    pieces = path.split(".")
    return {".".join(pieces[:end]) for end in range(1, len(pieces))}
