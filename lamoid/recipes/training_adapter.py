"""Fine-tuning a part: adapters beside a model's linear maps, and parameters that stay as they are."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from lamoid.assembly.adapter import AdapterSpec, DoraSpec, LoraSpec, LowRank, check_name
from lamoid.assembly.adapter_merge import merged, refitted
from lamoid.assembly.families.family import Family
from lamoid.assembly.families.table import family_of
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel, empty_model
from lamoid.assembly.rewrite import adapt, targets, without_adapters
from lamoid.assembly.sharing import ShareSpec, matching
from lamoid.assembly.spec import ModelSpec
from lamoid.errors import InputError
from lamoid.weights.adapter_write import save_adapter
from lamoid.weights.durable import durable_folder
from lamoid.weights.names import Naming


class PathsTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``paths`` of modules or parameters, as ``lamoid info`` names them; ``*`` is any name, ``blocks.:4`` a slice."""

    paths: tuple[str, ...]

    def __post_init__(self) -> None:
        try:
            ShareSpec(self.paths)
        except InputError as error:
            raise InputError("paths", error.problem, error.cure) from error


class AdapterTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An adapter beside each of the linear maps that ``targets`` name, trained in place of the model.

    ``also`` are modules that are trained as a whole beside it. With ``merge`` the run saves the merged model too.
    """

    kind: Literal["lora", "rslora", "dora"] = "lora"
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ("query", "value")
    also: tuple[str, ...] = ()
    name: str = "adapter"
    merge: bool = True

    def __post_init__(self) -> None:
        check_name("name", self.name)
        if self.also:
            PathsTable(self.also)
        try:
            self.spec()
        except InputError as error:
            raise InputError(error.culprit.removeprefix("adapter."), error.problem, error.cure) from error

    def spec(self) -> AdapterSpec:
        """Give the adapter of one map."""
        if self.kind == "dora":
            return DoraSpec(self.name, self.rank, self.alpha, dropout=self.dropout)
        scale = "root" if self.kind == "rslora" else "rank"
        return LoraSpec(self.name, self.rank, self.alpha, scale, self.dropout)

    def adapted(self, spec: ModelSpec) -> ModelSpec:
        """Give a model's spec with the adapters."""
        try:
            return adapt(spec, dict.fromkeys(targets(spec, self.targets), self.spec()))
        except InputError as error:
            raise InputError(f"adapter.{error.culprit}", error.problem, error.cure) from error


def check_tuning(
    spec: ModelSpec, adapter: AdapterTable | None, freeze: PathsTable | None, train_only: PathsTable | None
) -> ModelSpec:
    """Try what a recipe says of frozen parts on a model without numbers; give the spec that will be trained."""
    model = empty_model(spec if adapter is None else adapter.adapted(spec))
    if adapter is not None:
        _check_rank(model, adapter)
    set_trained(model, adapter, freeze, train_only)
    return model.spec


def _check_rank(model: LanguageModel, adapter: AdapterTable) -> None:
    """Refuse a rank above a side of the smallest map: the product of the small matrices can have no more."""
    sides = [
        (min(part.narrow.shape[1], part.widen.shape[0]), path.partition(".adapters")[0])
        for path, part in model.named_modules()
        if isinstance(part, LowRank) and part.name == adapter.name
    ]
    least, path = min(sides, default=(adapter.rank, ""))
    if adapter.rank > least:
        problem = f"is {adapter.rank}, above {least}, the smaller side of {path}"
        raise InputError("adapter.rank", problem, f"lower it to {least} or less, or choose other adapter.targets")


def tuned(model: LanguageModel, adapter: AdapterTable | None, *, seed: int) -> LanguageModel:
    """Give the model with the recipe's adapter, fresh ones drawn by ``seed``; it answers as before."""
    if adapter is None:
        return model
    fresh, new = refitted(model, adapter.adapted(model.spec))
    initialise(fresh, seed, only=new)
    fresh.choice.use({adapter.name: 1.0})
    return fresh


def set_trained(
    model: LanguageModel,
    adapter: AdapterTable | None,
    freeze: PathsTable | None,
    train_only: PathsTable | None,
    new: Sequence[str] = (),
) -> None:
    """Let only those parameters have gradients that the recipe trains; ``new`` names modules that are trained anyway.

    Raise ``InputError`` for a path that names nothing, and where nothing is left to train.
    """
    names = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    trained = names
    if adapter is not None:
        own = {name for name in names if ".adapters." in name}
        trained = own | _named(model, names, [*adapter.also, *new], "adapter.also")
    elif train_only is not None:
        trained = _named(model, names, [*train_only.paths, *new], "train_only.paths")
    elif freeze is not None:
        trained = names - _named(model, names, freeze.paths, "freeze.paths")
    # What is shared goes by all its names: it is frozen if one of them is, and trained if one alone is to be.
    by_all = {id(parameter): parameter for _, parameter in model.named_parameters()}
    kept = {id(parameter) for name, parameter in _all(model) if name in trained}
    still = {id(parameter) for name, parameter in _all(model) if name not in trained} if freeze is not None else set()
    for key, parameter in by_all.items():
        parameter.requires_grad_(key in kept - still)
    if not kept - still:
        raise InputError("freeze.paths", "leave nothing to train", "freeze less")


def save_tuned(
    model: LanguageModel,
    folder: Path,
    adapter: AdapterTable,
    *,
    family: Family | None,
    base: str,
    new: Sequence[str] = (),
) -> None:
    """Write the model's adapter as a folder that peft reads; ``base`` is what it calls the base model."""
    kin = family_of(without_adapters(model.spec), family)
    naming = Naming() if kin is None else Naming(kin.family, kin.architecture)
    parts = [path for pattern in (*adapter.also, *new) for path in matching(model, pattern)]
    with durable_folder(folder, overwrite=True) as draft:
        save_adapter(model, draft, adapter.name, naming, base=base, whole=parts)


def whole(model: LanguageModel) -> LanguageModel:
    """Give the model to save: with what its adapters change in its own matrices."""
    return merged(model) if model.choice.names else model


def new_heads(spec: ModelSpec, base: Mapping[str, Any]) -> list[str]:
    """Give the paths of the heads that the base has not, or otherwise."""
    return [f"heads.{name}" for name, head in spec.heads.items() if base.get(name) != head]


def _all(model: LanguageModel) -> list[tuple[str, Any]]:
    return list(model.named_parameters(remove_duplicate=False))


def _named(model: LanguageModel, names: set[str], patterns: Sequence[str], culprit: str) -> set[str]:
    """Give the parameters that patterns name, by themselves or by a module around them."""
    found: set[str] = set()
    for pattern in patterns:
        above, _, last = pattern.rpartition(".")
        places = set(matching(model, pattern))
        places |= {f"{owner}.{last}" if owner else last for owner in (matching(model, above) if above else [""])}
        inside = {name for name in names if not places.isdisjoint(_prefixes(name))}
        if not inside:
            raise InputError(culprit, f"{pattern[:80]!r} names no parameter of this model", "look at `lamoid info`")
        found |= inside
    return found


def _prefixes(name: str) -> list[str]:
    pieces = name.split(".")
    return [".".join(pieces[:end]) for end in range(1, len(pieces) + 1)]
