"""Reads adapter folders in peft's layout and gives them to a model; every tensor is accounted for."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from lamoid.assembly.adapter import AdapterSpec, DoraSpec, LoraSpec, check_name
from lamoid.assembly.adapter_merge import refitted
from lamoid.assembly.heads import NextTokenSpec, TiedSpec
from lamoid.assembly.model import LanguageModel
from lamoid.assembly.rewrite import adapt
from lamoid.assembly.sharing import put_parameters
from lamoid.assembly.surgery_sharing import untie
from lamoid.contained import contained, is_there
from lamoid.errors import InputError
from lamoid.weights.adapter_config import CONFIG, AdapterConfig, is_named, read_config
from lamoid.weights.adapter_names import FileModule, Layout, bare_naming, file_layout, module_path
from lamoid.weights.durable import MANIFEST, verify
from lamoid.weights.header import read_header
from lamoid.weights.names import TABLE, Naming, Part, joined_shape
from lamoid.weights.read import Tensors

TENSORS, PICKLED = "adapter_model.safetensors", "adapter_model.bin"
OWN = "adapter"
PREFIX = "base_model.model."
NARROW, WIDEN, MAGNITUDE = "lora_A", "lora_B", "lora_magnitude_vector"
_LOW_RANK = re.compile(rf"(.+)\.(?:({NARROW}|{WIDEN})\.weight|({MAGNITUDE})(?:\.weight)?)")
_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class AdapterFolder:
    """An adapter folder of which the JSON and the header were read; ``name`` is what a model will call it.

    ``low_rank`` has the names of the tensors by module and kind, ``whole`` those that take the place of the base's own,
    by the name that the base's files have for them.
    """

    path: Path
    name: str
    config: AdapterConfig
    tensors: Tensors
    low_rank: dict[str, dict[str, str]] = field(default_factory=dict)
    whole: dict[str, str] = field(default_factory=dict)

    def refuse(self, tensor: str, problem: str, cure: str) -> InputError:
        """Give the error that names a tensor of this folder."""
        return InputError(f"{self.path / TENSORS}: tensor {tensor[:200]!r}", problem, cure)


def open_adapter(folder: Path | str, name: str | None = None) -> AdapterFolder:
    """Open an adapter folder, called as the folder is unless a ``name`` is given. Raise ``InputError``.

    A run's folder ``adapter`` is called as the run is, and found when the run's folder is given.

    Pickled adapters are refused unread. The base model that the folder names is not looked for.
    """
    path = Path(folder)
    if not path.is_dir():
        what = "it is a file, not a folder" if path.exists() else "there is no such folder"
        raise InputError(path, what, f"Give a folder that holds {CONFIG} and {TENSORS}")
    if not is_there(path, CONFIG) and is_there(path / OWN, CONFIG):
        path = path / OWN
    home = path.resolve()
    own = home.parent.name if home.name == OWN else home.name
    called = re.sub(r"[^A-Za-z0-9_-]", "_", own)[:64] if name is None else name
    check_name("name of the adapter", called)
    config = read_config(path)
    if not is_there(path, TENSORS):
        if is_there(path, PICKLED):
            problem = f"its weights ({PICKLED}) are pickled, which can run code, and are never opened"
            raise InputError(path, problem, "Convert them to safetensors first, where you trust them")
        raise InputError(path / TENSORS, "the file does not exist", "Fetch the folder anew")
    if is_there(path, MANIFEST):
        verify(path, hashes=False)
    opened = AdapterFolder(path, called, config, Tensors(read_header(contained(path, TENSORS))))
    _sort(opened)
    _check_config(opened)
    return opened


def put_adapters(model: LanguageModel, naming: Naming, adapters: Sequence[AdapterFolder]) -> LanguageModel:
    """Give a model with these adapters beside its own weights, the first of them active. Raise ``InputError``.

    ``naming`` is how the files of the base call its parameters. What an adapter holds as a whole (modules_to_save,
    biases) takes the place of the base's, which is possible for one adapter only. ``model`` is not to be used on its
    own afterwards.
    """
    whole = next((each for each in adapters if each.whole), None)
    if whole is not None and len(adapters) + len(model.choice.names) > 1:
        problem = f"holds whole tensors of the base ({next(iter(whole.whole))}), which can be there once only"
        raise InputError(whole.path, problem, "load this adapter alone, or merge it into a model of its own")
    for each in adapters:
        model = _put(model, naming, each)
    return model


def _put(model: LanguageModel, naming: Naming, folder: AdapterFolder) -> LanguageModel:
    names = [*folder.low_rank, *folder.whole]
    layout = file_layout(model.spec, bare_naming(naming, names))
    specs: dict[str, AdapterSpec] = {}
    values: dict[str, dict[str, Tensor]] = {}
    for name, tensors in folder.low_rank.items():
        module = layout.modules.get(name)
        if module is None:
            cure = f"the base is {folder.config.base or 'not named'}: give the model that it was made for"
            raise folder.refuse(next(iter(tensors.values())), "adapts what is no linear map of this model", cure)
        _check_shapes(folder, module, tensors)
        for member, numbers in _cut(folder, module, tensors).items():
            specs[member] = _spec(folder, name)
            values[member] = numbers
    _check_all_there(folder, layout)
    if folder.whole:
        _put_whole(model, layout, folder)
    fresh, _ = refitted(model, adapt(model.spec, specs))
    filled: dict[str, Tensor] = {}
    for path, numbers in values.items():
        place = module_path(fresh.spec, path)
        adapters = fresh.get_submodule(f"{place}.adapters")
        last = len(list(adapters.children())) - 1
        filled |= {
            f"{place}.adapters.{last}.{key}": value.to(model.device, model.dtype) for key, value in numbers.items()
        }
    put_parameters(fresh, filled)
    return fresh


def _spec(folder: AdapterFolder, module: str) -> AdapterSpec:
    config = folder.config
    kind = DoraSpec if config.has_magnitude else LoraSpec
    return kind(folder.name, config.rank_of(module), config.alpha_of(module), config.scale, config.dropout)


def _cut(folder: AdapterFolder, module: FileModule, names: dict[str, str]) -> dict[str, dict[str, Tensor]]:
    """Give each map of a module its own tensors: the same ``narrow``, and its rows of the others."""
    narrow, first, found = folder.tensors.tensor(names[NARROW]), 0, {}
    for member in module.members:
        part = Part("", False, first, member.outputs, len(module.members) == 1, module.row.heads)
        numbers = {"narrow": narrow.clone(), "widen": part.cut(folder.tensors.tensor(names[WIDEN])).clone()}
        if MAGNITUDE in names:
            numbers["magnitude"] = part.cut(folder.tensors.tensor(names[MAGNITUDE])).clone()
        found[member.path] = numbers
        first += member.outputs
    return found


def _sort(folder: AdapterFolder) -> None:
    """Say of each tensor what it is."""
    for name, info in folder.tensors.items():
        if not name.startswith(PREFIX):
            raise folder.refuse(name, f"does not begin with {PREFIX}", "take an adapter that peft wrote")
        if info.dtype not in _FLOATS:
            problem = f"{str(info.dtype).removeprefix('torch.')} numbers are no plain weights"
            raise folder.refuse(name, problem, "take a version in float32, float16 or bfloat16")
        stem = name.removeprefix(PREFIX)
        found = _LOW_RANK.fullmatch(stem)
        if found is not None:
            folder.low_rank.setdefault(found[1], {})[found[2] or found[3]] = name
        elif "lora_" in stem:
            raise folder.refuse(name, "is of a variant that lamoid lacks", "adapt linear maps, not embeddings")
        else:
            folder.whole[stem.replace(".base_layer.", ".")] = name
    if not folder.low_rank:
        raise InputError(folder.path / TENSORS, "holds no adapter", "take a whole copy of the folder")
    due = {NARROW, WIDEN, *([MAGNITUDE] if folder.config.has_magnitude else [])}
    for module, tensors in folder.low_rank.items():
        wrong = sorted(due ^ tensors.keys())
        if wrong:
            problem = (
                f"has {'no' if wrong[0] in due else 'a'} {wrong[0]}, and use_dora is {folder.config.has_magnitude}"
            )
            raise folder.refuse(f"{PREFIX}{module}", problem.replace("True", "true").replace("False", "false"), _FETCH)


def _check_config(folder: AdapterFolder) -> None:
    """Compare the lists of the configuration with the tensors that are there."""
    config, file = folder.config, folder.path / CONFIG
    modules = list(folder.low_rank)
    listed = () if isinstance(config.targets, str) else config.targets
    for module in modules:
        if listed and not any(is_named(module, target) for target in listed):
            raise folder.refuse(f"{PREFIX}{module}", "is of a module that target_modules does not list", _FETCH)
    saved = [name.rpartition(".")[0] for name in folder.whole]
    for module in config.saved:
        # peft lists both names of a classifier, of which a model has one.
        if module in _CLASSIFIERS and any(name.endswith(_CLASSIFIERS) for name in saved):
            continue
        if not any(name == module or name.endswith(module) or f".{module}." in f".{name}." for name in saved):
            problem = f"{module[:80]!r} is listed, and no such module is in {TENSORS}"
            raise InputError(f"{file}: modules_to_save", problem, _FETCH)
    for name, tensor in folder.whole.items():
        is_listed = any(name.rpartition(".")[0].endswith(m) or f".{m}." in f".{name}" for m in config.saved)
        is_bias = name.endswith(".bias") and config.bias != "none"
        # peft adds the matrix of an adapted output, or the embedding's, unchanged.
        is_base = ".base_layer." in tensor or name.endswith(".weight")
        if not (is_listed or is_bias or is_base):
            raise folder.refuse(tensor, "is neither an adapter's nor listed in modules_to_save", _FETCH)


def _check_all_there(folder: AdapterFolder, layout: Layout) -> None:
    """Refuse a file that lacks modules of the model which its configuration says are adapted."""
    config = folder.config
    if config.leaves_out or isinstance(config.targets, str):
        return
    due = [name for name in layout.modules if any(is_named(name, target) for target in config.targets)]
    saved = [f".{module}." for module in config.saved]
    lacking = [name for name in due if name not in folder.low_rank and not any(part in f".{name}." for part in saved)]
    if lacking:
        problem = f"lacks the module {lacking[0]}, which target_modules lists ({len(lacking)} in all)"
        raise InputError(folder.path / TENSORS, problem, "fetch the folder anew, or give the model it was made for")


def _check_shapes(folder: AdapterFolder, module: FileModule, names: dict[str, str]) -> None:
    rank, inputs = folder.config.rank_of(module.name), module.members[0].inputs
    due = {NARROW: (rank, inputs), WIDEN: (module.outputs, rank), MAGNITUDE: (module.outputs,)}
    for key, name in names.items():
        shape = folder.tensors[name].shape
        if tuple(shape) != due[key]:
            problem = f"has the shape {tuple(shape)}, rank {rank} on this model asks for {due[key]}"
            raise folder.refuse(name, problem, "give the model that the adapter was made for, or mend rank_pattern")


def _put_whole(model: LanguageModel, layout: Layout, folder: AdapterFolder) -> None:
    """Put the tensors that are held as a whole in the place of the model's own; a head that is tied gets its own."""
    table = next((row.theirs for row in layout.rows if TABLE in row.ours), "")
    own = dict(model.named_parameters())
    filled: dict[str, Tensor] = {}
    # The table last: a tied head that is held as a whole too has its own matrix by then.
    for name, source in sorted(folder.whole.items(), key=lambda pair: pair[0] == table):
        value = folder.tensors.tensor(source)
        tied = _tied_head(model, layout, name, table)
        if tied is not None:
            if torch.equal(value.to(model.device, model.dtype), own[TABLE].detach()):
                continue
            untie(model, tied)
            if name != table:
                filled[f"{tied}.linear.weight"] = value
                continue
        row = layout.row(name)
        if row is None:
            raise folder.refuse(source, "is no tensor of this model", "give the model that the adapter was made for")
        if tuple(value.shape) != joined_shape(row, layout.shapes):
            problem = f"has the shape {tuple(value.shape)}, the model's is {joined_shape(row, layout.shapes)}"
            raise folder.refuse(source, problem, "give the model that the adapter was made for")
        first = 0
        for ours in row.ours:
            rows = layout.shapes[ours][0]
            filled[ours] = Part("", row.transposed, first, rows, len(row.ours) == 1, row.heads).cut(value)
            first += rows
    names = {name for name, _ in model.named_parameters()}
    placed = {name if name in names else name.replace(".bias", ".linear.bias"): value for name, value in filled.items()}
    copies = {name: value.to(model.device, model.dtype, copy=True).contiguous() for name, value in placed.items()}
    put_parameters(model, {name: nn.Parameter(value) for name, value in copies.items()})


def _tied_head(model: LanguageModel, layout: Layout, name: str, table: str) -> str | None:
    """Give the path of the tied head whose matrix, or whose table, a tensor of the files is."""
    heads = {f"heads.{key}": head for key, head in model.spec.heads.items()}
    for path, head in heads.items():
        if not isinstance(head, NextTokenSpec) or not isinstance(head.linear, TiedSpec):
            continue
        module = layout.modules.get(name.removesuffix(".weight"))
        if name == table or (module is not None and module.members[0].path == f"{path}.linear"):
            return path
    return None


_CLASSIFIERS = ("classifier", "score")
_FETCH = "take configuration and weights of one adapter"
