"""The schema allows what the reader reads and refuses what it refuses, by a validator that knows only JSON Schema."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from lamoid.assembly.spec import encode_spec, read_spec
from lamoid.assembly.spec_schema import spec_schema
from lamoid.errors import InputError

SCHEMA = spec_schema()
MODELS = sorted((Path(__file__).parents[2] / "examples" / "models").glob("*.toml"))
KNOWN = {
    "$schema",
    "$ref",
    "$defs",
    "title",
    "description",
    "default",
    "type",
    "properties",
    "required",
    "additionalProperties",
    "anyOf",
    "enum",
    "items",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "prefixItems",
}
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool}


def is_valid(value: Any, schema: Any) -> bool:
    """Follow the 2020-12 draft for the keywords that the schema uses."""
    if isinstance(schema, bool):
        return schema
    assert set(schema) <= KNOWN, set(schema) - KNOWN
    if "$ref" in schema and not is_valid(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]):
        return False
    if "anyOf" in schema and not any(is_valid(value, choice) for choice in schema["anyOf"]):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if "type" in schema and not is_type(value, schema["type"]):
        return False
    if isinstance(value, dict) and not is_valid_object(value, schema):
        return False
    if isinstance(value, list) and not all(is_valid(entry, schema.get("items", True)) for entry in value):
        return False
    if isinstance(value, int | float) and not isinstance(value, bool):
        return schema.get("minimum", value) <= value <= schema.get("maximum", value)
    return True


def is_type(value: Any, kind: str) -> bool:
    if kind in ("integer", "number"):
        return isinstance(value, int if kind == "integer" else int | float) and not isinstance(value, bool)
    return isinstance(value, TYPES[kind])


def is_valid_object(value: dict[str, Any], schema: dict[str, Any]) -> bool:
    fields = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    has_all = all(name in value for name in schema.get("required", ()))
    return has_all and all(is_valid(part, fields.get(name, others)) for name, part in value.items())


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_examples_are_valid_as_written_and_as_encoded(path: Path) -> None:
    assert is_valid(tomllib.loads(path.read_text()), SCHEMA)
    assert is_valid(json.loads(encode_spec(read_spec(path))), SCHEMA)


def test_every_reference_leads_somewhere_and_every_keyword_is_json_schema() -> None:
    waiting: list[Any] = [SCHEMA]
    found = 0
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, dict):
            if isinstance(part.get("$ref"), str):
                found += 1
                assert part["$ref"].removeprefix("#/$defs/") in SCHEMA["$defs"]
            waiting.extend(value for name, value in part.items() if name not in ("default", "enum"))
    assert found > 100


BASE = {"width": 8, "vocab": 9, "context": 4, "heads": {"a": "next_token"}}
BLOCK = {"feedforward": {"kind": "plain", "hidden": 8}}
# what stands beside BASE, and whether both let it pass
WRITTEN: list[tuple[dict[str, Any], bool]] = [
    ({"blocks": [BLOCK]}, True),
    ({"blocks": [{"repeat": 3, **BLOCK}]}, True),
    ({"blocks": [{"repeat": 3, "blocks": [BLOCK, {"repeat": 2, **BLOCK}]}]}, True),
    ({"blocks": [{"kind": "parallel", "branches": {"a": [], "b": [BLOCK]}, "merge": "gate"}]}, True),
    ({"blocks": [BLOCK], "norm": "layer_norm", "embedding": {"positions": "learned"}}, True),
    ({"blocks": [BLOCK], "norm": {"kind": "layer_norm", "bias": False}}, True),
    ({"blocks": [BLOCK], "embedding": {"table": {"kind": "factored", "width": 4, "linear": {"bias": False}}}}, True),
    ({"blocks": [{"feedforward": {"kind": "experts", "experts": [{"repeat": 4, **BLOCK["feedforward"]}]}}]}, True),
    ({"blocks": [BLOCK], "$schema": "./a.json"}, True),
    ({"blocks": [{"repeat": 0, **BLOCK}]}, False),
    ({"blocks": [{"repeat": 10**9, **BLOCK}]}, False),
    ({"blocks": [{"feedforward": {"repeat": 2, **BLOCK["feedforward"]}}]}, False),
    ({"blocks": [{"feedforward": {"hidden": 8}}]}, False),
    ({"blocks": [{"feedforward": "plain"}]}, False),
    ({"blocks": [{"norm_mixer": "rms_norm"}]}, False),
    ({"blocks": [{"kind": "blok", **BLOCK}]}, False),
    ({"blocks": [{"kind": "cross", "memory": []}]}, False),
    ({"blocks": BLOCK}, False),
    ({"blocks": [BLOCK], "norm": "layernorm"}, False),
    ({"blocks": [BLOCK], "norm": {"epsilon": 1e-5}}, False),
    ({"blocks": [BLOCK], "layers": 3}, False),
    ({"blocks": [BLOCK], "vocab": "9"}, False),
    ({"blocks": [BLOCK], "vocab": True}, False),
    ({"blocks": [BLOCK], "embedding": {"kind": "token"}}, False),
    ({"blocks": [BLOCK], "sharing": [{"path": []}]}, False),
    ({}, False),
]


@pytest.mark.parametrize("number", range(len(WRITTEN)))
def test_schema_and_reader_agree(number: int, tmp_path: Path) -> None:
    beside, is_good = WRITTEN[number]
    tree = {**BASE, **beside}
    assert is_valid(tree, SCHEMA) is is_good
    (tmp_path / "a.json").write_text(json.dumps(tree))
    try:
        read_spec(tmp_path / "a.json")
    except InputError:
        assert not is_good
    else:
        assert is_good
