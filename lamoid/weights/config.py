"""Reads and writes the JSON of a model folder: config.json, spec.json, generation_config.json. Nothing in it is run."""

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from lamoid.assembly.difference import first_difference, show
from lamoid.assembly.families.family import Architecture, Family
from lamoid.assembly.families.table import FAMILIES, Kinship
from lamoid.assembly.spec import ModelSpec, decode_spec, encode_spec
from lamoid.contained import is_there, read_inside
from lamoid.errors import InputError
from lamoid.strict_json import parse_json

_COPY = "Take a whole copy of the folder"
OWN = "lamoid"
_CODE_FIELDS = ("auto_map", "trust_remote_code", "_target_", "_attn_implementation_internal")
JSON_LIMIT = 16 * 2**20
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")


@dataclass(frozen=True)
class Description:
    """What the JSON files of a folder say.

    ``family`` and ``architecture`` are None for a model that keeps lamoid's own names.
    """

    config: dict[str, Any]
    family: Family | None
    architecture: Architecture | None
    spec: ModelSpec
    generation: dict[str, Any]
    start: int | None
    ends: tuple[int, ...]
    remarks: tuple[str, ...]


def read_description(folder: Path, ignore_fields: Sequence[str] = ()) -> Description:
    """Read and check the JSON files; where both are there, config.json and spec.json must say the same.

    Unknown fields of config.json are refused but for ``ignore_fields``. Raise InputError naming file and field.
    """
    if isinstance(ignore_fields, str):
        raise InputError("ignore_fields", f"is the text {ignore_fields[:80]!r}", "give a list of names")
    config = _read_object(folder, "config.json")
    _refuse_code(folder, config)
    own = _read_own(folder)
    family = _find_family(folder, config)
    architecture = None if family is None else family.architecture(config, str(folder / "config.json"))
    spec = own if family is None else _read_family(folder, family, config, ignore_fields)
    if spec is None:
        raise InputError(
            folder / "spec.json", "it is not there, and config.json says that it describes the model", _COPY
        )
    found = None if own is None else first_difference(msgspec.to_builtins(spec), msgspec.to_builtins(own))
    if found is not None:
        field, here, there = found
        problem = f"config.json and spec.json differ: {field} is {here} by the first and {there} by the second"
        raise InputError(folder, problem, "Remove the file that is not meant")
    generation = _read_object(folder, "generation_config.json") if is_there(folder, "generation_config.json") else {}
    remarks = _ignored(folder, config, ignore_fields)
    tokens = {name: _read_ids(folder, name, config, generation, spec.vocab, remarks) for name in TOKENS}
    for name, ids in tokens.items():
        if ids and name not in generation:
            generation[name] = list(ids) if len(ids) > 1 else next(iter(ids))
    start, ends = next(iter(tokens["bos_token_id"]), None), tokens["eos_token_id"]
    return Description(config, family, architecture, spec, generation, start, ends, tuple(remarks))


def describe(
    spec: ModelSpec, kin: Kinship | None, *, dtype: str, generation: dict[str, Any] | None
) -> dict[str, bytes]:
    """Give config.json, spec.json and generation_config.json of a model.

    ``kin`` says what the model is to transformers; without it, its model_type is "lamoid" and spec.json alone describes
    it. Token ids are written even if null: transformers would else assume its own.
    """
    generation = dict(generation or {})
    for name in TOKENS[:2]:
        generation.setdefault(name, None)
    ids = {name: generation.get(name) for name in TOKENS if name in generation or name != "decoder_start_token_id"}
    words = {"model_type": OWN} if kin is None else kin.config
    config = {**words, **{name: value for name, value in ids.items() if name not in words}}
    config |= {"dtype": dtype, "torch_dtype": dtype}
    return {
        "config.json": _encode(config),
        "spec.json": encode_spec(spec),
        "generation_config.json": _encode(generation),
    }


def _read_object(folder: Path, name: str) -> dict[str, Any]:
    value = parse_json(read_inside(folder, name, limit=JSON_LIMIT), file=folder / name)
    if not isinstance(value, dict):
        raise InputError(folder / name, "it is not a JSON object", _COPY)
    return value


def _refuse_code(folder: Path, config: dict[str, Any]) -> None:
    for field in _CODE_FIELDS:
        if config.get(field):
            problem = "it names code to run, and lamoid never runs code from a model folder"
            raise InputError(f"{folder / 'config.json'}: {field}", problem, f"Remove {field} if the model needs none")
    if config.get("quantization_config") is not None:
        problem = "the weights are quantised by another tool, which lamoid does not read"
        raise InputError(f"{folder / 'config.json'}: quantization_config", problem, "Take the unquantised model")


def _read_own(folder: Path) -> ModelSpec | None:
    if not is_there(folder, "spec.json"):
        return None
    data = read_inside(folder, "spec.json", limit=JSON_LIMIT)
    return decode_spec(data, file=folder / "spec.json")


def _find_family(folder: Path, config: dict[str, Any]) -> Family | None:
    name = config.get("model_type")
    if name == OWN:
        return None
    if isinstance(name, str) and name in FAMILIES:
        return FAMILIES[name]
    known = sorted([*FAMILIES, OWN])
    near = difflib.get_close_matches(str(name)[:80], known, n=1)
    problem = f"{str(name)[:80]!r} is not a known family" if "model_type" in config else "it is missing"
    cure = f"Known are {', '.join(known)}" + (f"; the nearest is {near[0]}" if near else "")
    raise InputError(f"{folder / 'config.json'}: model_type", problem, cure)


def _read_family(folder: Path, family: Family, config: dict[str, Any], ignore_fields: Sequence[str]) -> ModelSpec:
    told = {name: value for name, value in config.items() if name not in (*_CODE_FIELDS, "quantization_config")}
    return family.spec(told, str(folder / "config.json"), ignore_fields)


def _ignored(folder: Path, config: dict[str, Any], ignore_fields: Sequence[str]) -> list[str]:
    """Record the fields that are there and were ignored because it was asked."""
    remarks = []
    for name in dict.fromkeys(ignore_fields):
        outer, _, inner = name.partition(".")
        place = config.get(outer)
        place = config if outer == name else place if isinstance(place, dict) else {}
        if (inner or outer) in place:
            remarks.append(f"{folder / 'config.json'}: {name} is {show(place[inner or outer])}: ignored, as asked")
    return remarks


def _read_ids(
    folder: Path, field: str, config: dict[str, Any], generation: dict[str, Any], vocab: int, remarks: list[str]
) -> tuple[int, ...]:
    """Read one id or a list; one beyond the vocabulary, as transformers' defaults often are, is as good as none."""
    place = f"{folder / ('generation_config.json' if field in generation else 'config.json')}: {field}"
    value = generation[field] if field in generation else config.get(field)
    if value is None:
        return ()
    ids = tuple(value) if isinstance(value, list) else (value,)
    if not ids or not all(type(n) is int for n in ids):
        problem = f"{str(value)[:80]} is neither a token id nor a list of them"
        raise InputError(place, problem, "Correct it, or set it to null")
    known = tuple(n for n in ids if 0 <= n < vocab)
    if known != ids:
        remarks.append(f"{place}: {str(value)[:80]} is not within the vocabulary of {vocab}: left out")
        if field in generation:
            generation[field] = (list(known) if isinstance(value, list) else known[0]) if known else None
    return known


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
