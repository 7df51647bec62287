"""What a family is: two functions between a Hugging Face configuration and a spec, and a table of tensor names."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch

from lamoid.assembly.bounds import MOST_CONTEXT
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.spec import ModelSpec
from lamoid.errors import InputError


@dataclass(frozen=True)
class Rename:
    """One tensor of the family's files: ``theirs`` is ``ours`` joined along rows, then transposed if so declared.

    In a family's table a row is a pattern: ``{}`` stands for the block's number, and the endings ``.weight`` and
    ``.bias`` are left out.
    """

    ours: tuple[str, ...]
    theirs: str
    transposed: bool = False


class Fields:
    """A configuration that is read field by field, strictly typed, and at the end asked what nobody read."""

    def __init__(self, config: Mapping[str, Any], file: str) -> None:
        self.config = config
        self.file = file
        self.seen: set[str] = set()

    def take(self, name: str, default: Any = None) -> Any:
        """Give a field as it is, or ``default`` where it is absent or null."""
        self.seen.add(name)
        value = self.config.get(name)
        return default if value is None else value

    def whole(self, name: str, default: int | None = None, *, high: int = MOST_CONTEXT) -> int:
        """Give a whole number from 1 to ``high``."""
        value = self.take(name, default)
        if type(value) is not int or not 1 <= value <= high:
            self.refuse(name, value, f"a whole number from 1 to {high}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """Give a finite number above 0."""
        value = self.take(name, default)
        if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
            self.refuse(name, value, "a finite number above 0")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """Give true or false."""
        value = self.take(name, default)
        if type(value) is not bool:
            self.refuse(name, value, "true or false")
        return value

    def choice(self, name: str, choices: Mapping[str, Any], default: str) -> Any:
        """Give what ``choices`` holds for the field's word."""
        value = self.take(name, default)
        if not isinstance(value, str) or value not in choices:
            self.refuse(name, value, "one of " + ", ".join(sorted(choices)))
        return choices[value]

    def part(self, name: str) -> "Fields":
        """Give a nested object, empty where it is absent."""
        value = self.take(name, {})
        if not isinstance(value, Mapping):
            self.refuse(name, value, "an object")
        return Fields(value, f"{self.file}: {name}")

    def only(self, name: str, value: Any) -> None:
        """Accept nothing but ``value`` (or its absence) for a field whose other values change the model."""
        if self.take(name, value) != value:
            self.refuse(name, self.config.get(name), f"{value!r}, all that is supported")

    def finish(self, inert: frozenset[str] = frozenset()) -> None:
        """Refuse fields that nobody has read and that are not known to leave the computation as it is."""
        unknown = sorted(set(self.config) - self.seen - inert)
        if unknown:
            names = ", ".join(unknown[:5])
            problem = f"has fields that this family does not know: {names}"
            raise InputError(self.file, problem, "remove them if they do not change what the model computes")

    def refuse(self, name: str, value: Any, expected: str) -> NoReturn:
        """Raise the ``InputError`` for a field."""
        shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
        raise InputError(f"{self.file}: {name}", f"is {shown}, expected {expected}", "mend the field")


@dataclass(frozen=True)
class Family:
    """A model family of Hugging Face.

    ``reader`` reads a configuration, ``config`` writes one for a spec (or gives ``None`` where the spec is of another
    build; ``family_of`` checks that it reads back equal), ``table`` names every tensor. ``prefix`` may be absent from a
    file's names; names that match ``ignored`` are buffers of old files which carry no weights.
    """

    model_type: str
    architecture: str
    reader: Callable[[Mapping[str, Any], str], ModelSpec]
    config: Callable[[ModelSpec], dict[str, Any] | None]
    table: tuple[Rename, ...]
    prefix: str
    ignored: tuple[str, ...] = field(default=())

    def spec(self, config: Mapping[str, Any], file: str = "config.json") -> ModelSpec:
        """Read a configuration; an ``InputError`` names ``file`` and the field."""
        try:
            return self.reader(config, file)
        except InputError as error:
            if error.culprit.startswith(file):
                raise
            raise InputError(f"{file}: {error.culprit}", error.problem, error.cure) from error

    def renames(self, spec: ModelSpec) -> tuple[Rename, ...]:
        """Write the table out for the parameters that a model of ``spec`` has."""
        with torch.device("meta"):
            known = {name: parameter.ndim for name, parameter in LanguageModel(spec).named_parameters()}
        listed = []
        for row in self.table:
            for index in range(len(spec.blocks)) if "{}" in row.theirs else (0,):
                for end in (".weight", ".bias"):
                    ours = tuple(name.format(index) + end for name in row.ours)
                    if ours[0] in known:
                        turned = row.transposed and known[ours[0]] == 2
                        listed.append(Rename(ours, row.theirs.format(index) + end, turned))
        return tuple(listed)


ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
FOREIGN_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "silu": "silu"}
INERT = frozenset(
    {
        "_attn_implementation_autoset",
        "_name_or_path",
        "architectures",
        "attention_dropout",
        "attn_pdrop",
        "bos_token_id",
        "chunk_size_feed_forward",
        "dtype",
        "embd_pdrop",
        "eos_token_id",
        "finetuning_task",
        "gradient_checkpointing",
        "id2label",
        "initializer_range",
        "label2id",
        "language",
        "model_type",
        "n_ctx",
        "num_labels",
        "output_attentions",
        "output_hidden_states",
        "output_past",
        "pad_token_id",
        "prefix",
        "pretraining_tp",
        "problem_type",
        "reorder_and_upcast_attn",
        "resid_pdrop",
        "return_dict",
        "sep_token_id",
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
        "task_specific_params",
        "tokenizer_class",
        "torch_dtype",
        "torchscript",
        "transformers_version",
        "unsloth_fixed",
        "unsloth_version",
        "use_cache",
    }
)
