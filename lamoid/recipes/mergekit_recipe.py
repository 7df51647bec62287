"""Reads mergekit's YAML recipes (0.1.5) as they are; what is not supported is an error that names the key."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from reprlib import Repr
from typing import Any

import msgspec

from lamoid.errors import InputError
from lamoid.fusion.rules.table import RULES
from lamoid.recipes.bounded_yaml import read_yaml
from lamoid.recipes.fusion_recipe import Filtered, FusionRecipe, MemberTable, Number, Setting, StepTable
from lamoid.recipes.fusion_settings import is_by_member
from lamoid.weights.folder import open_folder

KEYS = {
    "merge_method",
    "models",
    "slices",
    "modules",
    "base_model",
    "dtype",
    "out_dtype",
    "parameters",
    "tokenizer_source",
    "tokenizer",
    "chat_template",
    "name",
}
WITHOUT_EFFECT = {"int8_mask"}
"""Options that change how mergekit computes, not what."""
UNWEIGHTED_THERE = {"karcher"}
"""Methods that have weights here and none in mergekit."""
STACKING = (
    "one stretch of all layers, the same in each model, is supported; layers are not put together in another order"
)

SHOWN = Repr()
SHOWN.maxlevel = 2


def read_mergekit(data: bytes, path: Path, out: str) -> FusionRecipe:
    """Give the fusion that a mergekit recipe describes; several documents (mergekit-multi) become steps.

    A rule that has a variant ``@mergekit`` is read as that one: its defaults are mergekit's. Gradients give the tensors
    behind the blocks the first value, as there. Computing is done in float32 or wider whatever ``dtype`` says, which is
    what the result is stored in unless ``out_dtype`` is given. A method without differences gets a ``base_model`` that
    ``models`` does not list as one more member, and parameters that a method has not are passed over with a note: so
    does mergekit. Raise ``InputError`` naming the key.
    """
    documents = [_Document(tree, path) for tree in _parse(data, path)]
    *steps, last = documents
    for step in steps:
        if not isinstance(step.name, str) or not step.name:
            problem = "is missing, or no word, in a document that is not the last"
            raise InputError(f"{path}: name", problem, "name each step")
    names = {str(step.name) for step in steps}
    rule, base, members, options = last.read(names)
    tables = [step.as_step(names) for step in steps]
    return FusionRecipe(
        out=out,
        members=members,
        rule=rule,
        base=base,
        weights="given",
        options=options,
        gradient_after="first",
        dtype=last.dtype(),
        steps=tables,
        notes=[note for document in documents for note in document.notes],
    )


class _Document:
    """One YAML document, read key by key."""

    def __init__(self, tree: Any, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self.tree = self._mapping(tree, "the document")
        for key in self.tree:
            if key not in KEYS:
                raise self._refused(str(key)[:80], "is no key of a merge", f"the keys are {', '.join(sorted(KEYS))}")
        self.name = self.tree.get("name")
        self._check_tokenizer()

    def dtype(self) -> str | None:
        """Give the dtype that the result is stored in."""
        dtype = self.tree.get("out_dtype") or self.tree.get("dtype")
        if dtype is not None and dtype not in ("float32", "float16", "bfloat16"):
            raise self._refused("dtype", f"is {_shown(dtype)}", "write float32, float16 or bfloat16")
        return dtype

    def as_step(self, names: set[str]) -> StepTable:
        """Give the document as a step of a later one."""
        rule, base, members, options = self.read(names)
        if self.dtype() is not None:
            what = f"{self.path.name}: the dtype of {self.name} is passed over"
            self.notes.append(f"{what}: what is used further on is kept in its members' own.")
        return StepTable(str(self.name), members, rule=rule, base=base, options=options)

    def read(self, names: set[str]) -> tuple[str, str | None, list[MemberTable], dict[str, Setting]]:
        """Give rule, base, members and the options of all."""
        method = self.tree.get("merge_method")
        if not isinstance(method, str) or method not in RULES:
            known = sorted({key.partition("@")[0] for key in RULES})
            raise self._refused("merge_method", f"is {_shown(method)}", f"choose one of {', '.join(known)}")
        name = f"{method}@mergekit" if f"{method}@mergekit" in RULES else method
        rule = RULES[name]
        weighted = {"weight"} if rule.weighted and method not in UNWEIGHTED_THERE else set[str]()
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(rule.options)}
        of_each = {"scale"} if name == "passthrough" else {key for key, kind in fields.items() if is_by_member(kind)}
        base = self.tree.get("base_model")
        base = None if base is None else self._model(base, "base_model", names)
        parameters = dict(self._mapping(self.tree.get("parameters") or {}, "parameters"))
        entries = self._inputs(parameters)
        options = self._options(parameters, "parameters", {*fields, *weighted})
        weight = options.pop("weight", None)
        if base is not None and rule.base == "none":
            is_refused = rule.most == 1 or (bool(weighted) and weight is None)
            entries += self._added_base(base, entries, names, is_refused=is_refused)
        members = []
        for place, entry in entries:
            model = self._model(entry.get("model"), f"{place}.model", names)
            self._check_range(entry, place, model, names)
            own = dict(self._mapping(entry.get("parameters") or {}, f"{place}.parameters"))
            if model == base and rule.base != "none":
                continue
            own = self._options(own, f"{place}.parameters", of_each | weighted)
            weights = [value for value in (own.pop("weight", None), weight) if value is not None]
            if "scale" in own:
                scale = _joined([own.pop("scale"), *([options["scale"]] if "scale" in options else [])])
                options |= {} if scale is None else {"scale": scale}
            members.append(MemberTable(model, _joined(weights), own))
        return name, base if rule.base != "none" else None, members, options

    def _added_base(
        self, base: str, entries: Sequence[tuple[str, Mapping[str, Any]]], names: set[str], *, is_refused: bool
    ) -> list[tuple[str, Mapping[str, Any]]]:
        """Give the base's entry where mergekit adds it: among models that do not list it, not among slices."""
        places = [place for place, _ in entries]
        listed = [self._model(entry.get("model"), f"{place}.model", names) for place, entry in entries]
        if base in listed or not places[0].startswith("models"):
            return []
        if is_refused:
            cure = "list it in models, with a weight where the method takes one, or leave base_model out"
            raise self._refused("base_model", "is one model more, as it is not in models, and has no place there", cure)
        self.notes.append(f"{self.path.name}: base_model is not in models and fused as one more, as by mergekit.")
        return [("base_model", {"model": self.tree["base_model"]})]

    def _inputs(self, parameters: dict[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
        """Give place and entry of each model, however it is listed; add what is said of all to ``parameters``."""
        given = [key for key in ("models", "slices", "modules") if self.tree.get(key)]
        if len(given) != 1:
            raise self._refused(
                "models",
                f"stands beside {given}" if given else "is missing",
                "give exactly one of models, slices, modules",
            )
        holder, place = self.tree, given[0]
        if place == "modules":
            modules = self._mapping(self.tree["modules"], "modules")
            if len(modules) != 1:
                raise self._refused("modules", f"has {len(modules)} entries", "merge one module a recipe")
            label, module = next(iter(modules.items()))
            holder = self._mapping(module, f"modules.{label}")
            parameters.update(self._mapping(holder.get("parameters") or {}, f"modules.{label}.parameters"))
            place = "slices" if holder.get("slices") else "models"
        entries = self._list(holder.get(place), place)
        if place == "slices":
            if len(entries) != 1:
                raise self._refused("slices", f"has {len(entries)} slices", STACKING)
            one = self._mapping(entries[0], "slices[0]")
            if one.get("residual_weight") is not None or one.get("base_model") is not None:
                raise self._refused("slices[0]", "has a residual_weight or a base_model of its own", STACKING)
            parameters.update(self._mapping(one.get("parameters") or {}, "slices[0].parameters"))
            entries = self._list(one.get("sources"), "slices[0].sources")
            place = "slices[0].sources"
            ranges = {_shown(self._mapping(entry, place).get("layer_range")) for entry in entries}
            if len(ranges) != 1:
                raise self._refused(place, f"has the layer ranges {', '.join(sorted(ranges))}", STACKING)
        found = [(f"{place}[{i}]", self._mapping(entry, f"{place}[{i}]")) for i, entry in enumerate(entries)]
        for where, entry in found:
            unknown = set(entry) - {"model", "parameters", "layer_range"}
            if unknown:
                raise self._refused(
                    f"{where}.{min(map(str, unknown))[:80]}", "is no key of a model", "the keys are model, parameters"
                )
        return found

    def _check_range(self, entry: Mapping[str, Any], where: str, model: str, names: set[str]) -> None:
        """Refuse a range of layers that is not all of the model's."""
        layers = entry.get("layer_range")
        if layers is None or model in names:
            return
        depth = len(open_folder(model).spec.blocks)
        if layers != [0, depth]:
            raise self._refused(
                f"{where}.layer_range", f"is {_shown(layers)}, the model has the layers [0, {depth}]", STACKING
            )

    def _model(self, reference: Any, place: str, names: set[str]) -> str:
        """Give a model's folder, or the name of a step."""
        if isinstance(reference, Mapping):
            inner = reference.get("model", reference)
            if reference.get("lora"):
                raise self._refused(place, "names an adapter", "merge it first: lamoid adapter merge")
            reference = inner.get("path") if isinstance(inner, Mapping) else inner
        if not isinstance(reference, str) or not reference:
            raise self._refused(place, f"is {_shown(reference)}", "name a model folder")
        if reference in names:
            return reference
        if "+" in reference and not Path(reference).exists():
            raise self._refused(
                place, f"is {_shown(reference)}, a model with an adapter", "merge it first: lamoid adapter merge"
            )
        beside = self.path.parent / reference
        return str(beside if beside.exists() else Path(reference))

    def _options(self, parameters: Mapping[str, Any], place: str, known: set[str]) -> dict[str, Setting]:
        """Read the options that a rule has in this place, and note the others."""
        others = ", ".join(sorted(str(name)[:80] for name in parameters if name not in known | WITHOUT_EFFECT))
        if others:
            what = f"{self.path.name}: {place} has no {others[:200]} with {self.tree['merge_method']}"
            self.notes.append(f"{what}: passed over, as by mergekit.")
        return {
            str(name): self._setting(value, f"{place}.{name}")
            for name, value in parameters.items()
            if name in known and value is not None
        }

    def _setting(self, value: Any, place: str) -> Setting:
        """Read a number, a gradient, or a list of filters."""
        if isinstance(value, Mapping):
            value = [value]
        if not isinstance(value, list):
            return self._number(value, place)
        return [
            self._filtered(each, place) if isinstance(each, Mapping) else self._number(each, place) for each in value
        ]

    def _filtered(self, entry: Mapping[str, Any], place: str) -> Filtered:
        part = entry.get("filter") or "*"
        if set(entry) - {"value", "filter"} or "value" not in entry or not isinstance(part, str):
            raise self._refused(place, f"is {_shown(entry)}", "write filter and value")
        value = entry["value"]
        values = (
            [self._number(each, place) for each in value] if isinstance(value, list) else self._number(value, place)
        )
        return Filtered(values, part)

    def _number(self, value: Any, place: str) -> Number:
        """Give a plain value; YAML reads 1e-3 as a word."""
        if isinstance(value, str):
            try:
                return float(value)
            except ValueError:
                return value
        if isinstance(value, bool | int | float):
            return value
        raise self._refused(place, f"is {_shown(value)}", "write a number")

    def _check_tokenizer(self) -> None:
        tokenizer = self.tree.get("tokenizer")
        if isinstance(tokenizer, Mapping) and set(tokenizer) - {"source"}:
            key = f"tokenizer.{min(map(str, set(tokenizer) - {'source'}))[:80]}"
            raise self._refused(key, "is not supported", "all members must have one tokenizer, which the result gets")
        if self.tree.get("chat_template") not in (None, "auto"):
            raise self._refused(
                "chat_template", "is not supported", "put the template into the result's tokenizer files"
            )

    def _mapping(self, value: Any, place: str) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise self._refused(place, f"is {_shown(value)}", "write keys with values")
        return value

    def _list(self, value: Any, place: str) -> list[Any]:
        if not isinstance(value, list) or not value:
            raise self._refused(place, f"is {_shown(value)}", "write a list with at least one entry")
        return value

    def _refused(self, key: str, problem: str, cure: str) -> InputError:
        return InputError(f"{self.path}: {key}", problem, cure)


def _parse(data: bytes, path: Path) -> list[Any]:
    documents = read_yaml(data, path)
    if not documents:
        raise InputError(path, "holds nothing", "write merge_method and models")
    return documents


def _shown(value: Any) -> str:
    """Show a value in few words, however much it holds."""
    return SHOWN.repr(value)[:80]


def _joined(settings: Sequence[Setting]) -> Setting | None:
    """Put a member's own weight before that of all: where no filter of the first fits, the second counts."""
    if not settings:
        return None
    first, *others = settings
    if not others or not isinstance(first, list) or not any(isinstance(each, Filtered) for each in first):
        return first
    rest = others[0]
    if isinstance(rest, list) and any(isinstance(each, Filtered) for each in rest):
        return [*first, *rest]
    plain = [each for each in rest if not isinstance(each, Filtered)] if isinstance(rest, list) else rest
    return [*first, Filtered(plain)]
