"""The JSON schema of specs as they are written by hand, for editors: abbreviations are in it."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import msgspec

from lamoid.assembly.bounds import MOST_LAYERS
from lamoid.assembly.spec import ModelSpec
from lamoid.assembly.wiring import NodeSpec

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REPEAT = {
    "type": "integer",
    "minimum": 1,
    "maximum": MOST_LAYERS,
    "description": "How often it stands here, one after the other.",
}
_HOME = "#/$defs/"
Schema = dict[str, Any]


def spec_schema() -> Schema:
    """Give a schema that allows what ``read_spec`` reads; limits of numbers, and what fits what, are checked there."""
    schema = msgspec.json.schema(ModelSpec)
    plain: dict[str, Schema] = schema["$defs"]
    nodes = [kind.__name__ for kind in get_args(NodeSpec)]
    written: dict[str, Schema] = {name: _struct(part, plain, nodes) for name, part in plain.items()}
    model = written["ModelSpec"]
    model["properties"]["$schema"] = {"type": "string"}
    model["required"] = ["width", "vocab", "context", "blocks", "heads"]
    block = written["BlockSpec"]
    block["anyOf"] = [{"required": [name]} for name in ("kind", "mixer", "feedforward")]
    written["Node"] = {"anyOf": [*(_named(name) for name in nodes), {"$ref": f"{_HOME}Blocks"}]}
    written["Blocks"] = {"type": "array", "items": {"anyOf": [*(_entry(name, written) for name in nodes), _GROUP]}}
    for name in ("PlainSpec", "GatedSpec", "ShareSpec", "LoraSpec", "DoraSpec"):
        _entry(name, written)
    return {"$schema": DIALECT, "title": "A model of Lamoid", "$ref": schema["$ref"], "$defs": written}


def _struct(part: Schema, plain: Mapping[str, Schema], nodes: Sequence[str]) -> Schema:
    """Allow abbreviations in a struct's fields, and leave its kind out: where it is one of several says so there."""
    fields = {name: _abbreviated(value, plain, nodes) for name, value in part["properties"].items()}
    required = [name for name in part.get("required", ()) if name != "kind"]
    said = " ".join(part.get("description", "").replace("``", "").split())
    return {**part, "description": said, "properties": fields, "required": required}


def _abbreviated(value: Schema, plain: Mapping[str, Schema], nodes: Sequence[str]) -> Schema:
    """Allow a kind's name for a table of nothing but it, a list for a series, and entries that repeat."""
    rest = {name: part for name, part in value.items() if name not in ("$ref", "anyOf", "discriminator")}
    if "items" in value:
        names = _names(value["items"])
        if set(nodes) <= set(names):
            return {"$ref": f"{_HOME}Blocks"}
        entries = [{"$ref": f"{_HOME}{name}Entry", **_kind(names)} for name in names]
        return {**value, "items": {"anyOf": entries}} if names else value
    if "additionalProperties" in value:
        return {**value, "additionalProperties": _abbreviated(value["additionalProperties"], plain, nodes)}
    names = _names(value)
    if not names:
        return value
    if set(nodes) <= set(names):
        return {"$ref": f"{_HOME}Node"}
    bare = [_tag(plain[name]) for name in names if plain[name].get("required", []) in ([], ["kind"])]
    tables = [{"$ref": f"{_HOME}{name}", **_kind(names)} for name in names]
    return {**rest, "anyOf": [*tables, *([{"enum": bare}] if bare else [])]}


def _names(value: Schema) -> list[str]:
    """Give the names of the structs that a place may hold."""
    found = value.get("anyOf", [value])
    return [choice["$ref"].removeprefix(_HOME) for choice in found if "$ref" in choice]


def _kind(names: Sequence[str]) -> Schema:
    return {"required": ["kind"]} if len(names) > 1 and set(names) != {"DenseSpec", "AdaptedSpec"} else {}


def _tag(part: Schema) -> str:
    return part["properties"]["kind"]["enum"][0]


def _named(name: str, of: str = "") -> Schema:
    """A block is known by its parts, other nodes by their kind."""
    return {"$ref": f"{_HOME}{name}{of}", **({} if name == "BlockSpec" else {"required": ["kind"]})}


def _entry(name: str, written: dict[str, Schema]) -> Schema:
    """Add the form of a struct that stands in a list, where it may repeat."""
    part = written[name]
    written[f"{name}Entry"] = {**part, "properties": {"repeat": _REPEAT, **part["properties"]}}
    return _named(name, "Entry")


_GROUP: Schema = {
    "type": "object",
    "description": "Blocks that stand here together, as often as repeat says.",
    "properties": {"repeat": _REPEAT, "blocks": {"$ref": f"{_HOME}Blocks"}},
    "required": ["blocks"],
    "additionalProperties": False,
}
