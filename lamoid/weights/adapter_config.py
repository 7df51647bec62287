"""Reads and writes adapter_config.json as peft has it. Nothing in it is followed, run or used as a pattern."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lamoid.assembly.bounds import MOST_WIDTH
from lamoid.contained import read_inside
from lamoid.errors import InputError
from lamoid.strict_json import parse_json

CONFIG = "adapter_config.json"
LIMIT = 16 * 2**20
MOST_NAMES, MOST_LETTERS = 100_000, 1000
Scale = Literal["rank", "root"]
_LITERAL = re.compile(r"\^?[A-Za-z0-9_.\-]{1,1000}")


@dataclass(frozen=True)
class AdapterConfig:
    """What an adapter_config.json says of a low-rank adapter.

    ``ranks`` and ``alphas`` are those of single modules, by the end of the module's name; ``saved`` are modules that
    the adapter holds as a whole. Of ``targets`` all modules are adapted unless the file ``leaves_out`` some. ``base``
    is what the file calls the base model: a word, which is never looked up.
    """

    rank: int
    alpha: float
    scale: Scale = "rank"
    has_magnitude: bool = False
    dropout: float = 0.0
    ranks: tuple[tuple[str, int], ...] = ()
    alphas: tuple[tuple[str, float], ...] = ()
    targets: tuple[str, ...] | str = ()
    leaves_out: bool = False
    saved: tuple[str, ...] = ()
    bias: str = "none"
    base: str | None = None

    def rank_of(self, module: str) -> int:
        """Give the rank of a module's adapter."""
        return next((rank for key, rank in self.ranks if is_named(module, key)), self.rank)

    def alpha_of(self, module: str) -> float:
        """Give a module's alpha."""
        return next((alpha for key, alpha in self.alphas if is_named(module, key)), self.alpha)

    def encode(self) -> bytes:
        """Write it as peft reads it."""
        fields = {
            "alpha_pattern": dict(self.alphas),
            "base_model_name_or_path": self.base,
            "bias": self.bias,
            "fan_in_fan_out": False,
            "inference_mode": True,
            "init_lora_weights": True,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "modules_to_save": list(self.saved) or None,
            "peft_type": "LORA",
            "r": self.rank,
            "rank_pattern": dict(self.ranks),
            "target_modules": self.targets if isinstance(self.targets, str) else list(self.targets),
            "task_type": None,
            "use_dora": self.has_magnitude,
            "use_rslora": self.scale == "root",
        }
        return json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def is_named(module: str, key: str) -> bool:
    """Is the key a module's name, or its end from a dot on? ``^`` before it asks for the whole name."""
    return module == key.removeprefix("^") or (not key.startswith("^") and module.endswith(f".{key}"))


def read_config(folder: Path) -> AdapterConfig:
    """Read a folder's adapter_config.json; ``InputError`` names the file and the field.

    Fields that cannot change what the adapter answers are passed over; unknown ones, and those of variants that Lamoid
    does not have, are refused.
    """
    file = folder / CONFIG
    tree = parse_json(read_inside(folder, CONFIG, limit=LIMIT), file=file)
    if not isinstance(tree, dict):
        raise InputError(file, "it is not a JSON object", "Take a whole copy of the folder")
    fields = _Fields(tree, file)
    fields.check_known()
    return AdapterConfig(
        rank=fields.whole("r", 8),
        alpha=fields.number("lora_alpha", 8),
        scale="root" if fields.flag("use_rslora") else "rank",
        has_magnitude=fields.flag("use_dora"),
        dropout=fields.share("lora_dropout"),
        ranks=tuple(
            (key, fields.whole_at(f"rank_pattern.{key}", value)) for key, value in fields.table("rank_pattern")
        ),
        alphas=tuple((key, fields.finite(f"alpha_pattern.{key}", v)) for key, v in fields.table("alpha_pattern")),
        targets=fields.targets(),
        leaves_out=any(tree.get(name) is not None for name in ("exclude_modules", "layers_to_transform")),
        saved=fields.names("modules_to_save"),
        bias=fields.one_of("bias", ("none", "all", "lora_only")),
        base=fields.word("base_model_name_or_path"),
    )


@dataclass(frozen=True)
class _Fields:
    """The fields of a file; every error names the one that is wrong."""

    tree: dict[str, Any]
    file: Path

    def refuse(self, field: str, value: Any, must: str, cure: str) -> InputError:
        return InputError(f"{self.file}: {field[:100]}", f"is {str(value)[:80]!r}, {must}", cure)

    def check_known(self) -> None:
        kind = self.tree.get("peft_type")
        if kind != "LORA":
            raise self.refuse("peft_type", kind, "and only LORA is known", "use a LoRA, rsLoRA or DoRA adapter")
        for name, value in self.tree.items():
            if name in READ or name in INERT:
                continue
            if name not in UNUSED:
                cure = "If it changes nothing, remove it; if it does, the adapter is of a kind that lamoid lacks"
                raise self.refuse(name, value, "and the field is unknown", cure)
            if not any(type(value) is type(unused) and value == unused for unused in UNUSED[name]):
                raise self.refuse(
                    name, value, "a variant that lamoid lacks", "merge the adapter with the tool that made it"
                )

    def whole(self, field: str, default: int) -> int:
        return self.whole_at(field, self.tree.get(field, default))

    def whole_at(self, field: str, value: Any) -> int:
        if type(value) is not int or not 1 <= value <= MOST_WIDTH:
            raise self.refuse(field, value, f"must be a whole number from 1 to {MOST_WIDTH}", "correct it")
        return value

    def number(self, field: str, default: float) -> float:
        return self.finite(field, self.tree.get(field, default))

    def finite(self, field: str, value: Any) -> float:
        if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > 1e6:
            raise self.refuse(field, value, "must be a finite number within 1e6", "correct it")
        return float(value)

    def share(self, field: str) -> float:
        value = self.number(field, 0.0)
        if not 0.0 <= value < 1.0:
            raise self.refuse(field, value, "must be at least 0 and below 1", "correct it")
        return value

    def flag(self, field: str) -> bool:
        value = self.tree.get(field, False)
        if type(value) is not bool:
            raise self.refuse(field, value, "must be true or false", "correct it")
        return value

    def one_of(self, field: str, words: tuple[str, ...]) -> str:
        value = self.tree.get(field, words[0])
        if value not in words:
            raise self.refuse(field, value, f"must be one of {', '.join(words)}", "correct it")
        return value

    def word(self, field: str) -> str | None:
        value = self.tree.get(field)
        if value is not None and not isinstance(value, str):
            raise self.refuse(field, value, "must be a text or null", "correct it")
        return None if value is None else value[:MOST_LETTERS]

    def names(self, field: str) -> tuple[str, ...]:
        value = self.tree.get(field)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > MOST_NAMES or not all(map(_is_name, value)):
            raise self.refuse(field, value, f"must be a list of names of 1 to {MOST_LETTERS} letters", "correct it")
        return tuple(value)

    def targets(self) -> tuple[str, ...] | str:
        """Give the list, or the text; what a text would match is read from the tensors, and it is not run."""
        value = self.tree.get("target_modules")
        if value is None:
            return ()
        if isinstance(value, str) and _is_name(value):
            return value
        found = self.names("target_modules") if isinstance(value, list) else ()
        if not found:
            raise self.refuse("target_modules", value, "must name modules", "list the names of the adapted modules")
        return found

    def table(self, field: str) -> list[tuple[str, Any]]:
        value = self.tree.get(field)
        if value is None:
            return []
        if not isinstance(value, dict) or len(value) > MOST_NAMES:
            raise self.refuse(field, value, "must be an object of names", "correct it")
        for key in value:
            if not _LITERAL.fullmatch(key):
                problem = "is a pattern, and patterns from files are not run"
                raise self.refuse(f"{field}.{key}", key, problem, "write the modules' names out")
        return list(value.items())


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 1 <= len(value) <= MOST_LETTERS


READ = frozenset(
    {
        "alpha_pattern",
        "base_model_name_or_path",
        "bias",
        "lora_alpha",
        "lora_dropout",
        "modules_to_save",
        "peft_type",
        "r",
        "rank_pattern",
        "target_modules",
        "use_dora",
        "use_rslora",
    }
)
INERT = frozenset(
    {
        "auto_mapping",
        "eva_config",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "task_type",
    }
)
"""How the adapter was made, or which modules it was put on, which the tensors say."""
UNUSED: dict[str, tuple[Any, ...]] = {
    "alora_invocation_tokens": (None,),
    "arrow_config": (None,),
    "corda_config": (None,),
    "ensure_weight_tying": (False, None),
    "init_lora_weights": (True, False, "gaussian", "orthogonal", "eva"),
    "kasa_config": (None,),
    "layer_replication": (None,),
    "loftq_config": ({}, None),
    "lora_bias": (False,),
    "lora_ga_config": (None,),
    "megatron_config": (None,),
    "monteclora_config": (None,),
    "target_parameters": (None, []),
    "trainable_token_indices": (None,),
    "use_bdlora": (None, False),
    "use_qalora": (False,),
    "velora_config": (None,),
}
"""Fields of variants that Lamoid lacks, with the values at which they are not in use."""
