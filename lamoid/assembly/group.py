"""Several models, one a task, that may have modules in common: one description, one module, every tensor once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import tomli_w
import torch
from torch import nn

from lamoid.assembly.bounds import whole
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.sharing import ShareSpec, matched_modules, share
from lamoid.assembly.spec import ModelSpec, check_counts, count_parts
from lamoid.assembly.wiring import check_names
from lamoid.assembly.written import read_written, show
from lamoid.assembly.written_file import parse_spec_json, read_tree
from lamoid.errors import InputError

MOST_MODELS = 100


class GroupSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Models by name. ``sharing`` names modules with the model's name in front: ``*.embedding``, ``news.blocks.:2``.

    A tensor may fall under one rule only, be it one of the group or one of its own model.
    """

    models: dict[str, ModelSpec]
    sharing: tuple[ShareSpec, ...] = ()

    def __post_init__(self) -> None:
        whole("number of models", len(self.models), 1, MOST_MODELS)
        check_names("models", self.models)
        for name in self.models:
            if name in _TAKEN:
                raise InputError("models", f"has the name {name!r}, which is taken", "choose another name")
        counts = [count_parts(model) for model in self.models.values()]
        check_counts(sum(blocks for blocks, _ in counts), sum(parts for _, parts in counts), " in all models")

    def parameters(self) -> int:
        """Count the stored numbers, a shared one once."""
        return sum(parameter.numel() for parameter in empty_group(self).parameters())

    def rules(self) -> Iterator[tuple[str, ShareSpec]]:
        """Give all rules as paths of the group, those of its models first, each with where it is written."""
        for name, model in self.models.items():
            for number, rule in enumerate(model.sharing):
                paths = tuple(f"{name}.{path}" for path in rule.paths)
                yield f"models.{name}.sharing.{number}", ShareSpec(paths)
        for number, rule in enumerate(self.sharing):
            yield f"sharing.{number}", rule


class ModelGroup(nn.ModuleDict):
    """The models of a ``GroupSpec``, ``group["news"]``; its parameters are named ``news.blocks.0...``, each once.

    What is shared is named by the first model that has it. The spec of a member also says what the group's rules share
    within that member, so that each can be saved as a model of its own. Weights are unset until loaded or initialised.
    """

    spec: GroupSpec

    def __init__(self, spec: GroupSpec) -> None:
        super().__init__({name: LanguageModel(model) for name, model in spec.models.items()})
        rules = dict(spec.rules())
        share(self, list(rules.values()), list(rules))
        self.describe(spec)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.member(next(iter(self.spec.models))).device

    def member(self, name: str) -> LanguageModel:
        """Give the model of this name; ``InputError`` if there is none."""
        if name not in self.spec.models:
            raise InputError("model", f"is {name[:80]!r}", f"choose one of {', '.join(self.spec.models)}")
        model = self[name]
        if not isinstance(model, LanguageModel):
            raise TypeError(f"{name} is a {type(model).__name__}")
        return model

    def describe(self, spec: GroupSpec) -> None:
        """Note what the models have in common by now, in the group's spec and in each member's."""
        self.spec = spec
        inside: dict[str, list[ShareSpec]] = {name: list(model.sharing) for name, model in spec.models.items()}
        for number, rule in enumerate(spec.sharing):
            found: dict[str, list[str]] = {}
            for path in matched_modules(self, rule, f"sharing.{number}"):
                name, _, rest = path.partition(".")
                found.setdefault(name, []).append(rest)
            for name, paths in found.items():
                if len(paths) > 1:
                    inside[name].append(ShareSpec(tuple(paths)))
        for name, model in spec.models.items():
            self.member(name).spec = msgspec.structs.replace(model, sharing=tuple(inside[name]))


def empty_group(spec: GroupSpec) -> ModelGroup:
    """Build a group whose parameters have shapes but no numbers: nothing of their size is allocated."""
    with torch.device("meta"):
        return ModelGroup(spec)


def initialise_group(group: ModelGroup, seed: int) -> None:
    """Draw the weights of every model with the same seed, so that equal trunks begin equal, shared or not."""
    for name in group.spec.models:
        initialise(group.member(name), seed)


def encode_group(spec: GroupSpec) -> bytes:
    """Write a group's spec as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(spec), indent=1) + b"\n"


def encode_group_toml(spec: GroupSpec) -> bytes:
    """Write a group's spec as TOML, every block by itself."""
    return tomli_w.dumps(msgspec.to_builtins(spec)).encode()


def decode_group(data: bytes, *, file: str | Path) -> GroupSpec:
    """Read a group's spec from JSON; an ``InputError`` names ``file`` and the place in it, also what cannot share."""
    return group_from(parse_spec_json(data, file), file)


def read_group(path: str | Path) -> GroupSpec:
    """Read a group's spec from a ``.json`` or ``.toml`` file; models are written as in a file of their own."""
    path = Path(path)
    return group_from(read_tree(path), path)


def group_from(tree: Any, file: object) -> GroupSpec:
    """Read a group's spec from the tables of a file, and try its sharing on a group without numbers."""
    models = tree.get("models") if isinstance(tree, dict) else None
    if not isinstance(tree, dict) or not isinstance(models, dict):
        cure = "write a table [models.NAME] for each model"
        raise InputError(f"{file}: models", f"is {show(models)}, must be a table of models", cure)
    # Each by itself, for a model's errors name places as they stand in a model.
    whole(f"{file}: number of models", len(models), 1, MOST_MODELS)
    read = {name: read_written(model, ModelSpec, f"{file}: models.{name[:60]}") for name, model in models.items()}
    rest = read_written({name: part for name, part in tree.items() if name != "models"}, _Sharing, file)
    return checked_group(read, rest.sharing, file)


def checked_group(models: dict[str, ModelSpec], sharing: tuple[ShareSpec, ...], file: object) -> GroupSpec:
    """Make a group's spec, its sharing tried; an ``InputError`` names ``file`` in front of the place."""
    try:
        spec = GroupSpec(models, sharing)
        empty_group(spec)
    except InputError as error:
        raise InputError(f"{file}: {error.culprit}", error.problem, error.cure) from error
    return spec


class _Sharing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a group's file says besides its models."""

    sharing: tuple[ShareSpec, ...] = ()


_TAKEN = frozenset({"spec", "device", "member", "describe"})
"""What a group has already by these names, beside what every dict of modules has."""
